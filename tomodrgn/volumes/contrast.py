"""Sign of the density: whether the molecule is light or dark in half maps of independent particles."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Float64

from tomodrgn.imaging import grid
from tomodrgn.volumes.likelihood import GroupMaps, shell_weighted

__all__ = ["density_signs"]

# Radii, as fractions of the half box, of the sphere that is looked at and of its centre.
SPHERE, CORE = 0.9, 0.3


def density_signs(maps: GroupMaps) -> tuple[Float64[np.ndarray, "2"], Float64[np.ndarray, "2"]]:
    """Two numbers that are positive for a light molecule, and their standard errors (jackknife over the groups).

    A molecule is a few light voxels on a flat ground: the skewness of the density common to both halves is positive.
    And it is lighter near its centre than around it: the difference of the means, in standard deviations of the common
    density. Maps are first weighted by the FSC of their halves.
    """
    weights = maps.fsc()

    def signs(without: int | None = None) -> Float64[np.ndarray, "2"]:
        return _signs(shell_weighted(torch.from_numpy(maps.halves(without=without)), weights).numpy())

    n = len(maps.sums)
    left_out = np.stack([signs(group) for group in range(n)])
    errors = np.sqrt((n - 1) / n * np.square(left_out - left_out.mean(axis=0)).sum(axis=0))
    return signs(), errors


def _signs(halves: Float32[np.ndarray, "2 e e e"]) -> Float64[np.ndarray, "2"]:
    """Skewness ``<a b (a + b)> / (2 <a b>^(3/2))`` and centre of two half maps a and b.

    Moments are of products of both halves, so that noise, which is independent, adds nothing.
    """
    box = halves.shape[-1]
    radius = grid.radii(box, 3).numpy() / (box / 2)
    inside = radius < SPHERE
    core = radius[inside] < CORE
    a, b = (half[inside] - half[inside].mean() for half in halves.astype(np.float64))
    variance = max(float((a * b).mean()), 1e-30)
    skewness = float((a * b * (a + b)).mean()) / (2 * variance**1.5)
    centre = float((a + b)[core].mean() - (a + b)[~core].mean()) / (2 * variance**0.5)
    return np.array([skewness, centre])
