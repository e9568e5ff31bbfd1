"""How far maps agree: FSC of half maps corrected for their mask, local resolution, correlation of maps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32
from scipy import ndimage
from torch import Tensor

from tomodrgn.analysis.landscape import check_names
from tomodrgn.imaging import fourier
from tomodrgn.imaging.resolution import fourier_shell_correlation, resolution_at, shell_resolution_angst

__all__ = ["correlate_maps", "half_map_fsc", "local_resolution", "randomise_phases"]

RANDOMISED_BELOW = 0.8
AFTER_START = 2  # shells in which true and randomised phases meet
NARROWEST_BAND = 1.5  # shells, half width
BAND_STD = 0.36  # of a raised cosine, over its half width


def randomise_phases(
    volume: Float[np.ndarray, "d d d"], from_shell: int, *, seed: int = 0
) -> Float32[np.ndarray, "d d d"]:
    """The map with random phases from a Fourier shell on; amplitudes, and all coarser shells, stay.

    Parameters
    ----------
    from_shell
        First shell with random phases, from 1.
    seed
        The same seed gives the same phases.

    Raises
    ------
    ValueError
        If the mean (shell 0) is to be changed.
    """
    if from_shell < 1:
        raise ValueError(f"Got shell {from_shell}, expected at least 1: shell 0 is the mean, which has no phase.")
    box = volume.shape[0]
    noise = torch.from_numpy(np.random.default_rng(seed).normal(size=volume.shape))
    phases = torch.sgn(fourier.rfft3_centred(noise))  # those of a real map, so that the result is one
    half = fourier.rfft3_centred(torch.from_numpy(np.array(volume, dtype=np.float64)))
    half = torch.where(_radius(box).round() >= from_shell, half.abs() * phases, half)
    return fourier.irfft3_centred(half, box).float().numpy()


def half_map_fsc(
    half_a: Float32[np.ndarray, "d d d"],
    half_b: Float32[np.ndarray, "d d d"],
    voxel_size_angst: float,
    *,
    mask: Float[np.ndarray, "d d d"],
    seed: int = 0,
) -> pd.DataFrame:
    """FSC of two half maps in a soft mask, without what the mask alone contributes.

    From two shells after the first where the unmasked FSC falls below 0.8, the FSC of maps with random phases from that
    first shell on, FSC_n, is taken from the masked one: ``(FSC_t - FSC_n) / (1 - FSC_n)`` (Chen et al. 2013, eq. 4). In
    coarser shells it is the masked one.

    Parameters
    ----------
    half_a, half_b
        Half maps, axes zyx.
    mask
        Soft mask, 0 to 1.
    seed
        Of the random phases.

    Returns
    -------
    One row a shell: `resolution_angst`, `unmasked`, `masked`, `randomised` and `corrected`. `attrs` has
    `resolution_angst` (where `corrected` first falls below 0.143) and `randomised_from` (the shell).

    Raises
    ------
    ValueError
        If shapes do not fit, or the mask is empty.
    """
    if not np.any(mask > 0):
        raise ValueError("Got a mask without a voxel above 0, expected weights from 0 to 1. Choose another mask.")
    unmasked = fourier_shell_correlation(half_a, half_b)
    masked = fourier_shell_correlation(half_a, half_b, mask)
    below = np.flatnonzero(unmasked[1:] < RANDOMISED_BELOW) + 1
    start = int(below[0]) if len(below) else len(unmasked) - 1
    a, b = (randomise_phases(half, start, seed=2 * seed + i) for i, half in enumerate((half_a, half_b)))
    randomised = fourier_shell_correlation(a, b, mask)
    noise = np.clip(randomised, None, 1 - 1e-6)
    corrected = np.where(np.arange(len(masked)) < start + AFTER_START, masked, (masked - noise) / (1 - noise))
    table = pd.DataFrame(
        {
            "resolution_angst": shell_resolution_angst(half_a.shape[0], voxel_size_angst),
            "unmasked": unmasked,
            "masked": masked,
            "randomised": randomised,
            "corrected": corrected,
        },
        index=pd.RangeIndex(len(masked), name="shell"),
    )
    table.attrs |= {"resolution_angst": resolution_at(corrected, voxel_size_angst), "randomised_from": start}
    return table


def local_resolution(
    half_a: Float32[np.ndarray, "d d d"],
    half_b: Float32[np.ndarray, "d d d"],
    voxel_size_angst: float,
    *,
    mask: Float[np.ndarray, "d d d"] | None = None,
    window_px: float = 6.0,
    threshold: float = 0.5,
) -> Float32[np.ndarray, "d d d"]:
    """Resolution in angstrom at every voxel: where the correlation of the half maps about it falls below a threshold.

    Both maps are filtered to one shell after another; about each voxel, with Gaussian weights, the filtered maps are
    correlated: ``sum w a b / sqrt(sum w a^2 sum w b^2)``, a local FSC (as of Cardone, Heymann & Steven 2013, with bands
    of a filter in place of transforms of blocks). A narrow band blurs over a wide place: bands have the width whose
    blur is that of the window, so that a small window tells places apart, and a large one resolutions. The resolution
    lies where the correlation first falls below the threshold, linear between shells; Nyquist where it never does.

    Parameters
    ----------
    mask
        Voxels at 0 get NaN; all voxels get a value if not given.
    window_px
        Standard deviation of the weights; half the wavelength of a shell where that is more.
    threshold
        0.5 is usual for local FSC: few waves are seen in a window, and 0.143 would be reached by chance.

    Raises
    ------
    ValueError
        If the maps are not cubes of one even side, the mask has another shape, or the window is not positive.
    """
    box = half_a.shape[0]
    if half_a.shape != (box,) * 3 or half_b.shape != half_a.shape or box % 2 or window_px <= 0:
        raise ValueError(
            f"Got maps of shapes {half_a.shape} and {half_b.shape} and a window of {window_px} px, expected two cubes "
            "of one even side and more than 0. Crop or resample the maps, or choose another window."
        )
    if mask is not None and mask.shape != half_a.shape:
        raise ValueError(f"Got a mask of shape {mask.shape}, expected that of the maps, {half_a.shape}. Resample it.")
    halves = [fourier.rfft3_centred(torch.from_numpy(np.array(m, dtype=np.float32))) for m in (half_a, half_b)]
    radius, width = _radius(box), max(NARROWEST_BAND, box / (2 * np.pi * BAND_STD * window_px))
    found = np.full(half_a.shape, np.nan)
    before = np.ones(half_a.shape)
    for shell in range(1, box // 2 + 1):
        band = 0.5 + 0.5 * torch.cos(torch.pi * ((radius - shell).abs() / width).clamp(max=1))
        a, b = (fourier.irfft3_centred(half * band, box).numpy() for half in halves)
        here = _local_correlation(a, b, max(window_px, box / shell / 2))
        crosses = np.isnan(found) & (here < threshold)
        step = (before - threshold) / np.maximum(before - here, 1e-9)
        found[crosses] = (shell - 1 + np.clip(step, 0, 1))[crosses]
        before = here
    found = np.where(np.isnan(found), box / 2, np.maximum(found, 1))
    resolution = box * voxel_size_angst / found
    return (resolution if mask is None else np.where(mask > 0, resolution, np.nan)).astype(np.float32)


def correlate_maps(
    maps: Float32[np.ndarray, "v d d d"], names: Iterable[str], *, region: Float[np.ndarray, "d d d"] | None = None
) -> pd.DataFrame:
    """Correlation coefficient of every map with every other, in real space.

    Parameters
    ----------
    names
        Of the maps.
    region
        Weights of the voxels in means, variances and covariances; equal if not given.

    Returns
    -------
    Rows and columns are the names. A map without contrast has 0 with all others.

    Raises
    ------
    ValueError
        If names do not fit or repeat, or the region has another box or no voxel.
    """
    index = pd.Index([str(name) for name in names], name="name")
    check_names(index, len(maps))
    weights = np.ones(maps.shape[1:]) if region is None else np.asarray(region, dtype=np.float64)
    if weights.shape != maps.shape[1:] or not (weights > 0).any():
        raise ValueError(
            f"Got a region of shape {weights.shape} with {int((weights > 0).sum())} voxels, expected that of the maps, "
            f"{maps.shape[1:]}, and some voxels."
        )
    inside = weights > 0
    share = weights[inside] / weights[inside].sum()
    values = maps[:, inside].astype(np.float64)
    values = (values - (values @ share)[:, None]) * np.sqrt(share)
    norm = np.linalg.norm(values, axis=1)
    values /= np.where(norm > 0, norm, 1.0)[:, None]
    matrix = np.clip(values @ values.T, -1, 1)
    np.fill_diagonal(matrix, 1.0)
    return pd.DataFrame(matrix, index=index, columns=index.rename(None))


def _radius(box: int) -> Tensor:
    """Fourier radius of every element of a half transform, in shells."""
    return fourier.half_frequencies_xyz(box).norm(dim=-1) * box


def _local_correlation(a: np.ndarray, b: np.ndarray, sigma_px: float) -> np.ndarray:
    cross, power_a, power_b = (
        ndimage.gaussian_filter(product, sigma_px, mode="wrap") for product in (a * b, a * a, b * b)
    )
    power = np.sqrt(np.maximum(power_a, 0) * np.maximum(power_b, 0))
    return np.where(power > 1e-20, cross / np.maximum(power, 1e-20), 0.0)
