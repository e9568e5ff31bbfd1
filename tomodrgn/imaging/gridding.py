"""Trilinear interpolation between points of Fourier space and a half grid, in both directions.

A half grid of side D holds the frequencies x >= 0 of a volume, as (D, D, columns, ...) with axes zyx and DC at index 0.
The real-space volume is multiplied by the transform of the trilinear kernel (spreading) or must be divided by it before
(sampling); padding the volume makes both accurate (Penczek, Renka & Schomberg 2004).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tomodrgn.imaging import fourier

__all__ = ["join_prepared", "kernel_transform", "prepare_sampling", "sample_half_volume", "spread"]

BLOCKS = 16


def spread(
    sums: Float[Tensor, "g 3"],
    coordinates: Float[Tensor, "m 3"],
    terms: Float[Tensor, "m 3"],
    *,
    box_px: int,
    first: Int64[Tensor, " m"],
) -> None:
    """Add points to a flattened half grid of D x D x (D / 2 + 2) voxels, each to its eight nearest, in place.

    Parameters
    ----------
    sums
        Real part, imaginary part and weight of every voxel; may hold several grids one after another.
    coordinates
        Frequencies xyz in voxels; those with x < 0 are added at the opposite frequency, conjugated.
    terms
        Real part, imaginary part and weight of every point.
    box_px
        Side D of the grid.
    first
        Index of the first voxel of the grid that each point belongs to.
    """
    columns = box_px // 2 + 2
    sign = torch.where(coordinates[:, :1] < 0, -1.0, 1.0)
    xyz = coordinates * sign
    terms = torch.cat([terms[:, :1], terms[:, 1:2] * sign, terms[:, 2:]], dim=-1)
    corner = xyz.floor()
    fraction, corner = xyz - corner, corner.long()
    weights = torch.stack([1 - fraction, fraction])  # (2, m, 3)
    x = torch.stack([corner[:, 0], corner[:, 0] + 1])
    y, z = (torch.stack([corner[:, a] % box_px, (corner[:, a] + 1) % box_px]) for a in (1, 2))
    for dz in range(2):
        for dy in range(2):
            row = first + (z[dz] * box_px + y[dy]) * columns
            weight = weights[dz, :, 2] * weights[dy, :, 1]
            for dx in range(2):
                sums.index_add_(0, row + x[dx], terms * (weight * weights[dx, :, 0])[:, None])


def kernel_transform(box_px: int, *, device: torch.device | str = "cpu") -> Float[Tensor, "d d d"]:
    """Real-space profile of trilinear interpolation on a grid of side d: ``sinc^2(x / d)`` on each axis."""
    x = (torch.arange(box_px, device=device) - box_px // 2) / box_px
    profile = torch.sinc(x).square()
    return profile[:, None, None] * profile[None, :, None] * profile[None, None, :]


def prepare_sampling(volumes: Float[Tensor, "v d d d"], *, padding: int = 2) -> Float[Tensor, "v 2 e e h"]:
    """The transforms of volumes, laid out for `sample_half_volume`: real and imaginary part, DC of zy in the middle.

    Values are those of a slice in an orthonormal 2-D transform of the volume's projection. All volumes' values at one
    voxel lie together in memory, as they are read together.
    """
    box = volumes.shape[-1]
    size = box * padding
    padded = fourier.pad_centred(volumes, size, ndim=3) / kernel_transform(size, device=volumes.device)
    half = fourier.rfft3_centred(padded) * (size**1.5 / box)
    centred = torch.roll(half, (size // 2, size // 2), dims=(1, 2))
    return torch.view_as_real(centred).permute(1, 2, 3, 0, 4).contiguous().permute(3, 4, 0, 1, 2)


def join_prepared(*prepared: Float[Tensor, "_ 2 e e h"]) -> Float[Tensor, "v 2 e e h"]:
    """Several results of `prepare_sampling` as one."""
    return torch.cat([part.permute(2, 3, 4, 0, 1) for part in prepared], dim=3).permute(3, 4, 0, 1, 2)


def sample_half_volume(
    prepared: Float[Tensor, "v 2 e e h"], coordinates: Float[Tensor, "m 3"]
) -> Float[Tensor, "m v 2"]:
    """Real and imaginary part of volumes' transforms at frequencies of the half x >= 0.

    Parameters
    ----------
    prepared
        Of `prepare_sampling`.
    coordinates
        Frequencies xyz in cycles per pixel of the unpadded volume, below Nyquist.
    """
    size, columns = prepared.shape[-2], prepared.shape[-1]
    index = coordinates * size + torch.tensor([0, size // 2, size // 2], device=coordinates.device)
    last = torch.tensor([columns - 1, size - 1, size - 1], device=coordinates.device)
    corners = 2 * index / last - 1  # -1 and 1 are the centres of the outer voxels
    corners = torch.nn.functional.pad(corners, (0, 0, 0, -len(corners) % BLOCKS))
    corners = corners.view(BLOCKS, -1, 1, 1, 3)  # processors share blocks of points
    channels = prepared.flatten(0, 1).expand(BLOCKS, -1, -1, -1, -1)
    sampled = torch.nn.functional.grid_sample(channels, corners, align_corners=True)[..., 0, 0]  # (blocks, 2v, m)
    return sampled.transpose(1, 2).reshape(-1, len(prepared), 2)[: len(coordinates)]
