"""Loss terms against hand-made numbers and the definition."""

from __future__ import annotations

import pytest
import torch

from tomodrgn.model.loss import kl_divergence, weighted_squared_error
from tomodrgn.particles.preprocess import DecodePoints


def test_reconstruction_by_hand():
    """Errors (2 * 1 - 1, 2 * 0 - 3) and (-1 * 2 - 0, -1 * 1 - 0): 0.5 * (1 + 9) + 3 * (4 + 1) = 20."""
    points = DecodePoints(
        coordinates=torch.zeros(2, 3),
        owner=torch.zeros(2, dtype=torch.long),
        target=torch.tensor([[1.0, 3.0], [0.0, 0.0]]),
        transfer=torch.tensor([2.0, -1.0]),
        weights=torch.tensor([0.5, 3.0]),
    )
    assert float(weighted_squared_error(torch.tensor([[1.0, 0.0], [2.0, 1.0]]), points)) == 20.0
    assert float(weighted_squared_error(torch.tensor([[0.5, 1.5], [0.0, 0.0]]), points)) == 0.0


def test_divergence_is_that_of_normal_distributions():
    mean, log_variance = torch.tensor([[0.0, 0.0], [0.7, -1.2]]), torch.tensor([[0.0, 0.0], [-0.5, 0.9]])
    prior = torch.distributions.Normal(0.0, 1.0)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(posterior, prior).sum(dim=1)
    found = kl_divergence(mean, log_variance)
    torch.testing.assert_close(found, expected)
    assert found[0] == 0
    assert found[1] == pytest.approx(0.5 * (0.49 + 1.44 + 0.60653 + 2.45960 - 2 + 0.5 - 0.9), abs=1e-4)
