"""Planted outliers by |z| and by posterior width are found, and few others."""

from __future__ import annotations

import numpy as np
import pytest

from tests.analysis.planted import SEEDS, as_latents
from tomodrgn.analysis.outliers import score_outliers
from tomodrgn.particles.latents import Latents


@pytest.mark.parametrize("seed", SEEDS)
def test_far_and_uncertain_particles_are_outliers(seed):
    rng = np.random.default_rng(seed)
    mu, std = rng.normal(size=(500, 8)), np.exp(rng.normal(-1, 0.1, size=(500, 8)))
    mu[:10] *= 9 / np.linalg.norm(mu[:10], axis=1, keepdims=True)
    std[10:20] *= 3
    table = score_outliers(as_latents(mu, std=std), threshold=3.5)
    assert table["outlier"].iloc[:20].all()
    assert table["outlier"].iloc[20:].mean() < 0.01
    assert (table["z_norm_score"].iloc[:10] > 3.5).all()
    assert (table["width_score"].iloc[10:20] > 3.5).all()
    assert (table["width_score"].iloc[:10] < 3.5).all()


def test_norm_width_and_scores_by_hand():
    """Norms 5, 1, 2, 3, 4: median 3, deviations 2 2 1 0 1, of median 1; widths sqrt(0.5 * 2) = 1."""
    mu = np.array([[3, 4], [0, 1], [2, 0], [3, 0], [0, -4]])
    table = score_outliers(as_latents(mu, std=np.array([0.5, 2.0])))
    assert table["z_norm"].tolist() == pytest.approx([5, 1, 2, 3, 4])
    assert table["z_norm_score"].tolist() == pytest.approx(np.array([2, -2, -1, 0, 1]) / 1.4826)
    assert table["width"].tolist() == pytest.approx([1.0] * 5)
    assert table["width_score"].tolist() == [0.0] * 5
    assert not table["outlier"].any()


def test_width_of_a_full_covariance_is_that_of_its_volume():
    mu = np.zeros((3, 2), np.float32)
    covariance = np.array([np.eye(2), [[2, 1.9], [1.9, 2]], 9 * np.eye(2)], dtype=np.float32)
    latents = Latents(particle_id=np.array(list("abc")), mu=mu, logvar=np.zeros_like(mu), covariance=covariance)
    assert score_outliers(latents)["width"].tolist() == pytest.approx([1.0, 0.39**0.25, 3.0], rel=1e-5)


def test_one_that_differs_from_a_crowd_of_equals_is_an_outlier():
    mu = np.ones((20, 2))
    mu[4] = 3.0
    assert score_outliers(as_latents(mu)).query("outlier").index.tolist() == ["p4"]


def test_homogeneous_latents_are_refused():
    with pytest.raises(ValueError, match="0 dimensions"):
        score_outliers(as_latents(np.zeros((4, 0))))
