"""Tilt pooling: by hand, for any number of tilts, in any order."""

from __future__ import annotations

import pytest
import torch

from tomodrgn.model.layers import draw_weights
from tomodrgn.model.pooling import TiltPooling

FEATURES = torch.tensor([[1.0, -5.0], [3.0, -1.0], [2.0, 2.0], [0.0, 4.0], [1.0, 0.0], [5.0, -4.0]])
OWNER = torch.tensor([0, 0, 1, 2, 2, 2])
SLOT = torch.tensor([0, 1, 0, 0, 1, 2])


def test_mean_maximum_and_median_over_variable_numbers_of_tilts():
    assert TiltPooling("mean", 2, 1)(FEATURES, OWNER, SLOT, 3).tolist() == [[2.0, -3.0], [2.0, 2.0], [2.0, 0.0]]
    assert TiltPooling("max", 2, 1)(FEATURES, OWNER, SLOT, 3).tolist() == [[3.0, -1.0], [2.0, 2.0], [5.0, 4.0]]
    assert TiltPooling("median", 2, 1)(FEATURES, OWNER, SLOT, 3).tolist() == [[2.0, -3.0], [2.0, 2.0], [1.0, 0.0]]


def test_concatenation_gives_each_tilt_its_place():
    """Places without a tilt are zero and the others raised to the same sum; tilts beyond the last do not count."""
    pooling = TiltPooling("concatenate", 2, 3)
    assert pooling(FEATURES, OWNER, SLOT, 3).tolist() == [
        [1.5, -7.5, 4.5, -1.5, 0, 0],
        [6, 6, 0, 0, 0, 0],
        [0, 4, 1, 0, 5, -4],
    ]
    assert pooling.out_dim == 6
    assert TiltPooling("concatenate", 2, 2)(FEATURES, OWNER, SLOT, 3)[2].tolist() == [0, 4, 1, 0]
    assert pooling(FEATURES[:1], OWNER[:1], torch.tensor([3]), 1).tolist() == [[0] * 6]


def pooling(kind: str, dim: int = 2) -> TiltPooling:
    found = TiltPooling(kind, dim, 3)
    draw_weights(found, torch.Generator().manual_seed(0))
    return found


@pytest.mark.parametrize("kind", ["mean", "max", "median", "attention", "concatenate"])
def test_pooling_does_not_depend_on_the_order_of_images(kind):
    order = torch.tensor([5, 2, 0, 4, 1, 3])
    pool = pooling(kind)
    torch.testing.assert_close(pool(FEATURES[order], OWNER[order], SLOT[order], 3), pool(FEATURES, OWNER, SLOT, 3))


@pytest.mark.parametrize("kind", ["mean", "max", "median", "attention", "concatenate"])
def test_particles_do_not_see_each_other(kind):
    """Alone or beside particles with more tilts: the same features, and gradients for all of its own tilts."""
    pool = pooling(kind)
    alone = FEATURES[:2].clone().requires_grad_()
    found = pool(alone, OWNER[:2], SLOT[:2], 1)
    torch.testing.assert_close(found, pool(FEATURES, OWNER, SLOT, 3)[:1])
    found.sum().backward()
    assert alone.grad is not None
    assert alone.grad.isfinite().all()
    assert (alone.grad.abs().sum(dim=0) > 0).all() or kind == "attention"


def test_attention_weighs_tilts_by_what_they_show():
    """Unlike a mean, it is not the same for two tilts and for each of them twice, scaled; but it is for each twice."""
    pool = pooling("attention", 8)
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    once, twice = (pool(rows.repeat(n, 1), *torch.zeros(2, 3 * n, dtype=torch.int64), 1) for n in (1, 2))
    torch.testing.assert_close(once, twice)
    mean = pool(rows.mean(dim=0, keepdim=True), *torch.zeros(2, 1, dtype=torch.int64), 1)
    assert float((once - mean).detach().abs().max()) > 0.01
