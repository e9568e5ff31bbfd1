"""Fourier shell correlation, low-pass filters and mirror images of maps."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from tomodrgn.imaging import fourier

__all__ = [
    "apply_bfactor",
    "fourier_shell_correlation",
    "fsc_weighted",
    "lowpass_filter",
    "lowpass_images",
    "mirror",
    "resolution_at",
    "shell_resolution_angst",
]


def fourier_shell_correlation(
    volume_a: Float[np.ndarray, "d d d"],
    volume_b: Float[np.ndarray, "d d d"],
    mask: Float[np.ndarray, "d d d"] | None = None,
) -> Float64[np.ndarray, " s"]:
    """Correlation of two maps in each Fourier shell, index = shell, from 0 to Nyquist (s = d // 2 + 1).

    ``Re sum(A conj B) / sqrt(sum |A|^2 sum |B|^2)`` over the shell of radius r, r = frequency times box rounded
    (Harauz & van Heel 1986). Shells in which a map is zero give 0.

    Parameters
    ----------
    volume_a, volume_b
        Real maps of one shape, axes zyx, even cubic box.
    mask
        Real-space weights by which both maps are multiplied first.

    Raises
    ------
    ValueError
        If the maps (or the mask) are not cubes of one even side.
    """
    box = volume_a.shape[-1]
    if not volume_a.shape == volume_b.shape == (box, box, box) or box % 2:
        raise ValueError(
            f"Got maps of shapes {volume_a.shape} and {volume_b.shape}, expected two cubes of one even side. "
            "Crop or resample one of them to the box of the other."
        )
    if mask is not None and mask.shape != volume_a.shape:
        raise ValueError(f"Got a mask of shape {mask.shape}, expected that of the maps, {volume_a.shape}.")
    maps = torch.stack([torch.from_numpy(np.array(v, dtype=np.float64)) for v in (volume_a, volume_b)])
    if mask is not None:
        maps = maps * torch.from_numpy(np.array(mask, dtype=np.float64))
    a, b = fourier.rfft3_centred(maps)
    frequencies = fourier.half_frequencies_xyz(box)
    shell = (frequencies.norm(dim=-1) * box).round().long()
    # Columns kx = 0 and kx = Nyquist hold both members of a pair, the others one: count those twice.
    twice = torch.full(shell.shape, 2.0, dtype=torch.float64)
    twice[..., 0] = twice[..., -1] = 1.0

    def shell_sum(values: Tensor) -> Tensor:
        return torch.bincount(shell.flatten(), (values * twice).flatten(), minlength=box)[: box // 2 + 1]

    cross = shell_sum((a * b.conj()).real)
    power = torch.sqrt(shell_sum(a.abs().square()) * shell_sum(b.abs().square()))
    return torch.where(power > 0, cross / power.clamp(min=1e-300), torch.zeros_like(cross)).numpy()


def shell_resolution_angst(box_px: int, voxel_size_angst: float) -> Float64[np.ndarray, " s"]:
    """Resolution in angstrom of every Fourier shell; infinite for shell 0."""
    with np.errstate(divide="ignore"):
        return box_px * voxel_size_angst / np.arange(box_px // 2 + 1, dtype=np.float64)


def resolution_at(fsc: Float[np.ndarray, " s"], voxel_size_angst: float, threshold: float = 0.143) -> float:
    """Resolution in angstrom where an FSC curve first falls below a threshold, linear between shells.

    The thresholds in use are 0.143 between half maps and 0.5 against a reference (Rosenthal & Henderson 2003). If
    the curve never falls below, the Nyquist resolution is returned.

    Examples
    --------
    >>> resolution_at(np.array([1.0, 1.0, 0.6, 0.2, 0.1]), 10.0, 0.4)
    32.0
    """
    box = 2 * (len(fsc) - 1)
    below = np.flatnonzero(fsc[1:] < threshold) + 1
    if len(below) == 0:
        return 2.0 * voxel_size_angst
    i = int(below[0])
    step = (fsc[i - 1] - threshold) / (fsc[i - 1] - fsc[i]) if i > 1 else 1.0
    return float(box * voxel_size_angst / (i - 1 + step))


def lowpass_filter(
    volumes: Float[Tensor, "*v d d d"], resolution_angst: float, voxel_size_angst: float
) -> Float[Tensor, "*v d d d"]:
    """Maps without detail finer than `resolution_angst`: cosine edge two Fourier shells wide about that radius."""
    box = volumes.shape[-1]
    radius = fourier.half_frequencies_xyz(box, device=volumes.device).norm(dim=-1) * box
    cutoff = box * voxel_size_angst / resolution_angst
    edge = ((radius - cutoff + 1) / 2).clamp(0, 1)
    return fourier.irfft3_centred(fourier.rfft3_centred(volumes) * (0.5 + 0.5 * torch.cos(torch.pi * edge)), box)


def lowpass_images(
    images: Float[Tensor, "*i d d"], resolution_angst: float, pixel_size_angst: float
) -> Float[Tensor, "*i d d"]:
    """Images without detail finer than `resolution_angst`; the edge is that of `lowpass_filter`."""
    box = images.shape[-1]
    radius = fourier.half_frequencies_xy(box, device=images.device).norm(dim=-1) * box
    edge = ((radius - box * pixel_size_angst / resolution_angst + 1) / 2).clamp(0, 1)
    return fourier.irfft2_centred(fourier.rfft2_centred(images) * (0.5 + 0.5 * torch.cos(torch.pi * edge)), box)


def apply_bfactor(
    volumes: Float[Tensor, "*v d d d"], bfactor_angst2: float, voxel_size_angst: float
) -> Float[Tensor, "*v d d d"]:
    """Maps with amplitudes times ``exp(-B s^2 / 4)``, s in 1/angstrom: B below 0 sharpens, above 0 blurs.

    (Rosenthal & Henderson 2003, eq. 12.)
    """
    box = volumes.shape[-1]
    s = fourier.half_frequencies_xyz(box, device=volumes.device).norm(dim=-1) / voxel_size_angst
    return fourier.irfft3_centred(fourier.rfft3_centred(volumes) * torch.exp(-bfactor_angst2 / 4 * s.square()), box)


def mirror(volumes: Float32[np.ndarray, "*v d d d"]) -> Float32[np.ndarray, "*v d d d"]:
    """Maps of the other hand: z mirrored about the centre index d // 2 (even box).

    Examples
    --------
    >>> line = np.zeros((4, 4, 4), np.float32); line[3, 2, 2] = 1
    >>> [int(i) for i in np.unravel_index(mirror(line).argmax(), line.shape)]
    [1, 2, 2]
    """
    return np.roll(volumes[..., ::-1, :, :], 1, axis=-3)


def fsc_weighted(volume: Float32[np.ndarray, "d d d"], fsc: Float[np.ndarray, " s"]) -> Float32[np.ndarray, "d d d"]:
    """The map weighted by ``sqrt(2 FSC / (1 + FSC))`` to the first FSC < 0.143 (Rosenthal & Henderson 2003)."""
    below = np.flatnonzero(fsc[1:] < 0.143)
    last = below[0] + 1 if len(below) else len(fsc)
    kept = np.where(np.arange(len(fsc)) < last, np.clip(fsc, 0, 1), 0)
    weight = torch.from_numpy(np.sqrt(2 * kept / (1 + kept))).float()
    box = volume.shape[0]
    shell = (fourier.half_frequencies_xyz(box).norm(dim=-1) * box).round().long().clamp(max=len(fsc) - 1)
    return fourier.irfft3_centred(fourier.rfft3_centred(torch.from_numpy(volume)) * weight[shell], box).numpy()
