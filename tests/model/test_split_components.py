"""Components in which halves agree: signal of known directions and share is found, noise is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.model.small_models import BOX, SMALL
from tomodrgn.model.split_components import SplitComponents, find_split_components
from tomodrgn.model.vae import TiltSeriesVae

S = 12


def halves(k: int, signal: list[float], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Scores of the given standard deviations along the first axes, and noise of variance 1 in either half.

    The third axis has strong noise and no signal.
    """
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(k, len(signal))) * signal
    truth = np.zeros((k, S))
    truth[:, : len(signal)] = scores
    noise = rng.normal(size=(2, k, S))
    noise[:, :, 2] *= 6
    first, second = torch.tensor(truth + noise + 5)
    return first, second, scores


def coordinates(found: SplitComponents, first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    return (((first + second) / 2 - found.centre) @ found.weight.T).numpy()


@pytest.mark.parametrize("seed", range(3))
def test_signal_is_found_in_order_of_its_share_though_noise_is_stronger(seed):
    """Variances 9 and 1 against noise of variance 1 / 2 in the mean of both halves: shares 18 / 19 and 2 / 3."""
    first, second, scores = halves(3000, [3.0, 1.0], seed)
    found = find_split_components(first, second, 2)
    for i in (0, 1):
        assert abs(np.corrcoef(coordinates(found, first, second)[:, i], scores[:, i])[0, 1]) > [0.96, 0.78][i]
    assert found.reliability.tolist() == pytest.approx([18 / 19, 2 / 3], abs=0.04)
    assert float(found.weight[:, 2].abs().max()) < 0.1 * float(found.weight.abs().max())


def test_variance_of_the_coordinates_is_their_reliability():
    first, second, _ = halves(400, [3.0, 1.0])
    found = find_split_components(first, second, 4)
    np.testing.assert_allclose(coordinates(found, first, second).var(axis=0, ddof=1), found.reliability, rtol=1e-6)
    np.testing.assert_allclose(coordinates(found, first, second).mean(axis=0), 0, atol=1e-9)


def test_noise_alone_has_little_reliability():
    first, second, _ = halves(1000, [0.0])
    assert float(find_split_components(first, second, 3).reliability.max()) < 0.2


@pytest.mark.parametrize(("k", "found"), [(1, 0), (2, 0), (3, 1), (8, 5), (9, 5), (200, 12)])
def test_no_more_components_than_particles_and_quantities_can_tell(k, found):
    first, second, _ = halves(k, [3.0, 1.0])
    components = find_split_components(first, second, 20)
    assert components.weight.shape == (20, S)
    assert components.weight.isfinite().all()
    assert components.weight.any(dim=1).tolist() == [True] * found + [False] * (20 - found)
    assert (components.reliability > 0).tolist() == [True] * found + [False] * (20 - found)
    assert np.abs(coordinates(components, first, second)).max() < 20


def test_model_starts_from_the_components():
    """Latent means are the coordinates, of variance r; posteriors have variance 1 - r, or 1 where nothing is found."""
    network = TiltSeriesVae(SMALL, BOX)
    s = len(network.frame)
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(300, 1)) * rng.normal(size=s) * 3
    first, second = torch.tensor(truth + rng.normal(size=(2, 300, s)), dtype=torch.float32)
    network.start_encoder(first, second, 2.0)
    found = find_split_components(first.double(), second.double(), 3)
    mean = network.linear_encoder((first + second) / 2).detach()
    np.testing.assert_allclose(mean, coordinates(found, first.double(), second.double()), atol=1e-4)
    hidden = torch.zeros(1, network.particle_encoder.first.in_features)
    log_variance = network.particle_encoder(hidden).detach()[0, 3:]
    np.testing.assert_allclose(log_variance.exp(), 1 - found.reliability, rtol=1e-4)
    assert torch.equal(network.particle_encoder(hidden)[0, :3], torch.zeros(3))
    network.start_encoder(first[:1], second[:1], 2.0)
    assert (network.linear_encoder(first) == 0).all()
    assert (network.particle_encoder(hidden) == 0).all()
