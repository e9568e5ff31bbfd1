"""Soft masks that follow a density."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32
from scipy import ndimage
from torch import Tensor

from tomodrgn.imaging import grid, resolution

__all__ = ["density_mask"]

SHELL, THRESHOLD = 6.5, 0.1  # of the low-pass; of its greatest density
DILATION, EDGE = 1 / 32, 2.5 / 32  # of the box


def density_mask(volume: Float32[Tensor, "d d d"], radius: float = 0.7) -> Float32[Tensor, "d d d"]:
    """A soft mask about the density of a map, within a soft sphere: 1 on the density and a little beyond it.

    The map is low-passed to its first Fourier shells and cut at a tenth of its greatest density. A map without positive
    density gives the sphere.

    Parameters
    ----------
    volume
        Map, bright on dark, axes zyx.
    radius
        Of the sphere, as a fraction of the half box.
    """
    box = volume.shape[0]
    sphere = grid.soft_spherical_mask(box, radius, device=volume.device)
    smooth = resolution.lowpass_filter(volume * sphere, box / SHELL, 1.0)
    inside = (smooth > THRESHOLD * smooth.max()).cpu().numpy() & (sphere > 0).cpu().numpy()
    if float(smooth.max()) <= 0 or not inside.any():
        return sphere
    distance = ndimage.distance_transform_edt(~inside) - DILATION * box
    soft = np.clip(1 - distance / (EDGE * box), 0, 1)
    return torch.from_numpy(soft.astype(np.float32)).to(volume.device) * sphere
