"""Regions of a box: soft weights from 0 to 1, as a sphere, by what the maps hold, or from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32

from tomodrgn.imaging import fourier, masks
from tomodrgn.io.mrc import read_volume

__all__ = ["automatic_region", "read_region", "sphere_region"]


def sphere_region(
    box_px: int,
    voxel_size_angst: float,
    centre_xyz_angst: tuple[float, float, float] | Float[np.ndarray, "3"] = (0.0, 0.0, 0.0),
    *,
    radius_angst: float,
    edge_angst: float | None = None,
) -> Float32[np.ndarray, "d d d"]:
    """A soft sphere: 1/2 at its radius, with a cosine edge about it.

    Parameters
    ----------
    box_px, voxel_size_angst
        Of the maps.
    centre_xyz_angst
        From the centre of the box (index d // 2), xyz.
    radius_angst
        More than 0.
    edge_angst
        Width of the edge; two voxels if not given.

    Raises
    ------
    ValueError
        If the radius or the voxel size is not positive, or the sphere holds no voxel of the box.
    """
    if radius_angst <= 0 or voxel_size_angst <= 0:
        raise ValueError(
            f"Got a sphere of radius {radius_angst} A in voxels of {voxel_size_angst} A, expected more than 0."
        )
    edge = 2 * voxel_size_angst if edge_angst is None else max(edge_angst, 1e-6)
    axis = (np.arange(box_px) - box_px // 2) * voxel_size_angst
    x, y, z = (axis - centre for centre in centre_xyz_angst)
    distance = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    ramp = np.clip((distance - radius_angst) / edge + 0.5, 0, 1)
    region = (0.5 + 0.5 * np.cos(np.pi * ramp)).astype(np.float32)
    if not region.any():
        raise ValueError(
            f"Got a sphere at {tuple(float(c) for c in centre_xyz_angst)} A with no voxel in a box of {box_px} "
            f"voxels of {voxel_size_angst} A, expected one inside. Count from the centre of the box, in the order xyz."
        )
    return region


def automatic_region(maps: Float[np.ndarray, "v d d d"]) -> Float32[np.ndarray, "d d d"]:
    """A soft mask about the density of the mean map and about the places where the maps differ (bright on dark)."""
    mean = torch.from_numpy(maps.mean(axis=0, dtype=np.float64)).float()
    spread = torch.from_numpy(maps.std(axis=0, dtype=np.float64)).float()
    differs = (spread - spread.median()).clamp(min=0)
    return torch.maximum(masks.density_mask(mean), masks.density_mask(differs)).numpy()


def read_region(path: Path | str, box_px: int, voxel_size_angst: float) -> Float32[np.ndarray, "d d d"]:
    """Read a mask for maps of a box; one of the same field in smaller voxels is Fourier-cropped to it.

    Values are clipped to 0 to 1.

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_volume`; ValueError also if the mask has another field than the maps or is empty.
    """
    mask, own_voxel = read_volume(path)
    own_box = len(mask)
    own_voxel = own_voxel or voxel_size_angst * box_px / own_box
    if own_box < box_px or abs(own_box * own_voxel / (box_px * voxel_size_angst) - 1) > 0.01:
        raise ValueError(
            f"Got mask {path} of {own_box} voxels of {own_voxel:g} A, expected the field of the maps, {box_px} "
            f"voxels of {voxel_size_angst:g} A, in voxels of that size or smaller. Resample the mask to the maps."
        )
    region = fourier.fourier_crop3(torch.from_numpy(mask), box_px).clamp(0, 1).numpy()
    if region.max() < 0.5:
        raise ValueError(f"Got mask {path}, whose greatest value is {mask.max():g}, expected 1 where something is.")
    return region
