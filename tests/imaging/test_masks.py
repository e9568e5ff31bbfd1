"""Soft masks that follow a density."""

from __future__ import annotations

import torch

from tomodrgn.imaging import grid
from tomodrgn.imaging.masks import density_mask

BOX = 32


def test_mask_is_one_on_the_density_and_zero_far_from_it():
    distance = grid.radii(BOX, 3)
    volume = torch.exp(-distance.square() / 18)
    mask = density_mask(volume)
    assert (mask[distance < 5] == 1).all()
    assert (mask[distance > 13] == 0).all()
    assert 0 <= mask.min() <= mask.max() <= 1
    assert ((mask > 0.01) & (mask < 0.99)).any()


def test_mask_without_density_is_the_sphere():
    sphere = grid.soft_spherical_mask(BOX, 0.7)
    assert torch.equal(density_mask(torch.zeros(BOX, BOX, BOX)), sphere)
    assert torch.equal(density_mask(-sphere), sphere)
