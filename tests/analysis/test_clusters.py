"""Planted groups are found, counted and numbered by size, and the same seed gives the same answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.analysis.planted import SEEDS, as_latents, planted_groups
from tomodrgn.analysis import clusters
from tomodrgn.analysis.clusters import (
    cluster_stability,
    density_clusters,
    graph_clusters,
    mixture_bic,
    mixture_clusters,
)
from tomodrgn.analysis.latent_space import adjusted_rand_index, cluster_centres

KINDS = {
    "mixture": lambda latents, seed: mixture_clusters(latents, 4, seed=seed)["cluster"],
    "density": lambda latents, seed: density_clusters(latents)["cluster"],
    "graph": lambda latents, seed: graph_clusters(latents, resolution=0.2, seed=seed),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_planted_groups_are_found_and_numbered_by_size(kind, seed):
    latents, truth = planted_groups(seed)
    found = KINDS[kind](latents, seed)
    assert (found.name, found.index.tolist()) == ("cluster", latents.particle_id.tolist())
    kept = found[found >= 0]
    assert len(kept) > 0.9 * len(latents)
    truth = pd.Series(truth, index=found.index)
    assert adjusted_rand_index(kept, truth[kept.index]) > 0.98
    assert (kept == truth[kept.index]).mean() > 0.98  # planted by falling size, and so numbered
    pd.testing.assert_series_equal(found, KINDS[kind](latents, seed))


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_coordinates_do_as_well_as_latents(kind):
    latents, _ = planted_groups(0, (60, 40, 30, 20))
    table = latents.frame()[["z1", "z2", "z3", "z4"]]
    pd.testing.assert_series_equal(KINDS[kind](latents, 0), KINDS[kind](table, 0))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sizes", [(300,), (200, 150), (200, 150, 100, 80, 60)])
def test_bic_is_smallest_at_the_planted_number(sizes, seed):
    latents, _ = planted_groups(seed, sizes)
    table = mixture_bic(latents, range(1, 8), seed=seed)
    assert table.index[table["best"]].tolist() == [len(sizes)]
    assert table["bic"].idxmin() == len(sizes)
    assert table["log_likelihood"].iloc[-1] > table["log_likelihood"].iloc[0]
    pd.testing.assert_frame_equal(table, mixture_bic(latents, range(1, 8), seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_stability_is_highest_at_the_planted_number(seed):
    latents, _ = planted_groups(seed, apart=9.0)
    table = cluster_stability(latents, range(2, 8), n_repeats=5, seed=seed)
    assert table.loc[4, "stability"] > 0.98
    assert (table.loc[[5, 6, 7], "stability"] < 0.95).all()
    pd.testing.assert_frame_equal(table, cluster_stability(latents, range(2, 8), n_repeats=5, seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_one_round_group_is_not_split(seed):
    latents, _ = planted_groups(seed, (400,))
    assert (cluster_stability(latents, range(2, 6), n_repeats=5, seed=seed)["stability"] < 0.85).all()
    crowd, _ = planted_groups(seed, (2000,))
    assert density_clusters(crowd)["cluster"].max() <= 0


def test_probability_falls_between_two_groups():
    rng = np.random.default_rng(0)
    mu = np.concatenate([rng.normal(-4, 1, (100, 1)), rng.normal(4, 1, (80, 1)), [[0.0]]])
    table = mixture_clusters(as_latents(mu), 2)
    assert table["probability"].iloc[-1] < 0.95 < 0.999 < table["probability"].iloc[:180].median()


def test_noise_is_minus_one_and_has_no_centre():
    latents, _ = planted_groups(0, (80, 60))
    far = as_latents(np.concatenate([latents.mu, [[90.0] * 4, [-90.0] * 4]]))
    found = density_clusters(far)
    assert found["cluster"].iloc[-2:].tolist() == [-1, -1]
    assert found["probability"].iloc[-2:].tolist() == [0, 0]
    assert cluster_centres(far, found["cluster"])["cluster"].tolist() == [0, 1]


@pytest.mark.parametrize("dimensions", [1, 3])
def test_particles_in_one_place_and_in_one_dimension(dimensions):
    same = as_latents(np.repeat([[0.0], [5.0]], [30, 20], axis=0) * np.ones(dimensions))
    assert mixture_clusters(same, 2)["cluster"].tolist() == [0] * 30 + [1] * 20
    assert graph_clusters(same, n_neighbors=5).groupby([0] * 30 + [1] * 20).nunique().min() >= 1
    assert density_clusters(same)["cluster"].tolist() == [0] * 30 + [1] * 20


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (lambda latents: mixture_clusters(latents, 0), "Got 0 Gaussians for 9 particles, expected 1 to 9"),
        (lambda latents: mixture_clusters(latents, 10), "Got 10 Gaussians"),
        (lambda latents: mixture_bic(latents, []), "Got no number of clusters"),
        (lambda latents: cluster_stability(latents, [5]), "Got 5 clusters for parts of 4 of 9"),
        (lambda latents: density_clusters(latents, min_cluster_size=10), "min_cluster_size 10"),
        (lambda latents: graph_clusters(latents, n_neighbors=0), "Got 0 neighbours"),
        (lambda latents: graph_clusters(latents, resolution=0.0), "resolution 0.0"),
    ],
)
def test_impossible_clusters_are_refused(refused, words):
    with pytest.raises(ValueError, match=words):
        refused(as_latents(np.random.default_rng(0).normal(size=(9, 2))))


@pytest.mark.parametrize(
    ("refused", "options", "words"),
    [
        (
            mixture_clusters,
            {"n_clusters": 2, "covariance": "foo"},
            "Got covariance 'foo', expected one of 'full', 'tied'",
        ),
        (mixture_bic, {"covariance": "foo"}, "Got covariance 'foo'"),
        (mixture_clusters, {"n_clusters": 2.5}, "Got 2.5 Gaussians for 9 particles.* whole number"),
        (cluster_stability, {"n_clusters": [2.5]}, "Got 2.5 clusters for parts of 4"),
    ],
)
def test_unknown_words_and_broken_numbers_are_refused(refused, options, words, monkeypatch):
    latents = as_latents(np.random.default_rng(0).normal(size=(9, 2)))
    inner = clusters._fit_mixture  # types are checked in tests only
    monkeypatch.setattr(clusters, "_fit_mixture", getattr(inner, "__wrapped__", inner))
    with pytest.raises(ValueError, match=words):
        getattr(refused, "__wrapped__", refused)(latents, **options)


def test_numbers_that_are_not_finite_are_refused_by_name():
    mu = np.zeros((5, 2))
    mu[3, 1] = np.nan
    for refused in (graph_clusters, density_clusters, mixture_bic, cluster_stability):
        with pytest.raises(ValueError, match=r"particle 'p3' that is no finite number \(1 such"):
            refused(as_latents(mu))
