"""Held-out likelihood of tilt images under models of what was done to them before they came here.

An image is ``m (c f V + n)``: volume V, contrast transfer c, exposure filter f, white noise n within a Fourier shell;
and m is what the extracting program multiplied it by: c if premultiplied, f if dose weighted, both or nothing. As m
multiplies the noise too, nearly every Fourier coefficient tells of it, however weak the molecule. The map that predicts
an image, and the noise of each shell, come from the other half of the particles.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex64, Float32, Float64, Int64
from torch import Tensor

from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging import ctf, dose, fourier, grid, gridding, resolution
from tomodrgn.particles.dataset import sample_batches
from tomodrgn.particles.gridding import GriddingSums
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import IMAGE_FIELDS, FourierBatch, Preprocessor, estimate_scale

__all__ = ["MODELS", "GroupMaps", "ImageModel", "Likelihood", "held_out_likelihood", "quick_maps"]

MAX_BOX = 48
PADDING = 2
MASK_RADIUS = 0.8
BATCH_PARTICLES = 16
# Noise power where m is zero: interpolation, rounding, what the crop of the images let in.
FLOOR = 0.01
NOISE_ITERATIONS = 6


@dataclass(frozen=True, order=True)
class ImageModel:
    """By what images were multiplied when they were extracted."""

    ctf_premultiplied: bool
    dose_weighted: bool

    def multiplier(self, transfer: Tensor, fade: Tensor) -> Tensor:
        """The factor m, of contrast transfer and exposure filter."""
        ones = torch.ones_like(transfer)
        return (transfer if self.ctf_premultiplied else ones) * (fade if self.dose_weighted else ones)


MODELS = tuple(itertools.starmap(ImageModel, itertools.product((False, True), repeat=2)))


@dataclass(frozen=True, kw_only=True)
class GroupMaps:
    """Backprojections of groups of particles on a small grid, under one model; letters: g groups, e coarse box.

    Parameters
    ----------
    sums
        Numerators and denominators of each group.
    box_px
        Side of the maps: that of the images, or less (48 at most), over the same field of view.
    """

    sums: Float32[Tensor, "g v 3"]
    box_px: int

    def halves(self, *, without: int | None = None) -> Float32[np.ndarray, "2 e e e"]:
        """Maps of the even and of the odd groups; one group may be left out."""
        kept = self.sums.clone() if without is not None else self.sums
        if without is not None:
            kept[without] = 0
        grids = GriddingSums(self.box_px, PADDING, kept.device)
        grids.sums = torch.cat([kept[0::2].sum(dim=0), kept[1::2].sum(dim=0)])
        return np.stack([grids.volume((half,)) for half in (1, 2)])

    def fsc(self, mask_radius: float = 0.7) -> Float64[np.ndarray, " s"]:
        """FSC of the two halves within a soft sphere."""
        mask = grid.soft_spherical_mask(self.box_px, mask_radius).numpy()
        even, odd = self.halves()
        return resolution.fourier_shell_correlation(even, odd, mask)

    def filtered_halves(self) -> Float32[Tensor, "2 e e e"]:
        """The halves within a soft sphere, each shell times its FSC: the best linear guess of the other half."""
        mask = grid.soft_spherical_mask(self.box_px, MASK_RADIUS)
        return shell_weighted(torch.from_numpy(self.halves()) * mask, self.fsc(MASK_RADIUS))


def shell_weighted(maps: Float32[Tensor, "v e e e"], weights: Float64[np.ndarray, " s"]) -> Float32[Tensor, "v e e e"]:
    """Maps whose Fourier shells are multiplied by weights between 0 and 1."""
    box = maps.shape[-1]
    shell = (fourier.half_frequencies_xyz(box).norm(dim=-1) * box).round().long().clamp(max=len(weights) - 1)
    weight = torch.from_numpy(np.clip(weights, 0, 1)).float()[shell]
    return fourier.irfft3_centred(fourier.rfft3_centred(maps) * weight, box)


def quick_maps(
    particles: ParticleSet, groups: Int64[np.ndarray, " k"], models: tuple[ImageModel, ...] = MODELS
) -> dict[ImageModel, GroupMaps]:
    """Backproject groups of particles under each model, without inversion of contrast.

    Parameters
    ----------
    particles
        Their flags do not matter.
    groups
        Group of each particle, from 0.
    """
    box, n_groups = coarse_box(particles), int(groups.max()) + 1
    voxels = GriddingSums(box, PADDING, torch.device("cpu")).voxels
    sums = {model: torch.zeros(n_groups * voxels, 3) for model in models}
    group_of = torch.from_numpy(groups)
    for batch in _batches(particles, padding=PADDING):
        size = box * PADDING
        xyz = grid.slice_coordinates(batch.frequencies, batch.rotations).reshape(-1, 3) * size
        own = group_of[batch.particles][batch.owner]
        first = (own * voxels)[:, None].expand(batch.values.shape).reshape(-1)
        density = (batch.ctf * batch.exposure).square() * batch.kept
        for model, target in sums.items():
            # Least squares with noise m n: numerator (c f / m) F, denominator (c f)^2.
            numerator = batch.values * batch.kept
            numerator = numerator if model.ctf_premultiplied else numerator * batch.ctf
            numerator = numerator if model.dose_weighted else numerator * batch.exposure
            terms = torch.cat([torch.view_as_real(numerator), density[..., None]], dim=-1).reshape(-1, 3)
            gridding.spread(target, xyz, terms, box_px=size, first=first)
    return {model: GroupMaps(sums=s.view(n_groups, voxels, 3), box_px=box) for model, s in sums.items()}


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Log-likelihood of the images of each particle, with the variances that gave it; i images, p coefficients."""

    per_particle: Float64[np.ndarray, " k"]
    variance: Float32[Tensor, "i p"]
    kept: Float32[Tensor, "i p"]

    def expected_lead(self, other: Likelihood) -> float:
        """By how much this model's log-likelihood should be above the other's, were this one true.

        The Kullback-Leibler divergence of complex Gaussians, ``log(b / a) + a / b - 1`` for variances a and b.
        """
        ratio = self.variance / other.variance
        return float(((ratio - 1 - ratio.log()) * self.kept).sum(dtype=torch.float64))


def held_out_likelihood(
    particles: ParticleSet, groups: Int64[np.ndarray, " k"], maps: dict[ImageModel, GroupMaps]
) -> dict[ImageModel, Likelihood]:
    """Likelihood of all images under each model; even groups are predicted from odd ones, and odd from even.

    Parameters
    ----------
    particles, groups
        Those given to `quick_maps`.
    maps
        What it returned.
    """
    joined = _joined(particles, list(_batches(particles, padding=1)))
    half = torch.from_numpy(groups)[joined.owner] % 2
    found = {}
    for model, group_maps in maps.items():
        noise = _noise_shape(particles, model)
        prediction = _predict(joined, group_maps.filtered_halves(), half)
        prediction *= joined.ctf * joined.exposure * model.multiplier(joined.ctf, joined.exposure)
        weight = joined.kept / noise
        overlap = ((joined.values * prediction.conj()).real * weight).sum()
        power_of_prediction = (prediction.abs().square() * weight).sum().clamp(min=1e-12)
        power = (joined.values - prediction * (overlap / power_of_prediction)).abs().square()
        variance = _variance(power, noise, joined, half)
        image = -((variance.log() + power / variance) * joined.kept).sum(dim=1, dtype=torch.float64)
        per_particle = torch.zeros(len(particles), dtype=torch.float64).index_add_(0, joined.owner, image)
        found[model] = Likelihood(per_particle=per_particle.numpy(), variance=variance, kept=joined.kept)
    return found


def coarse_box(particles: ParticleSet) -> int:
    """Side of the maps and images used here: high frequencies of large boxes are left out to save time."""
    return min(particles.box_px, MAX_BOX)


def _batches(particles: ParticleSet, *, padding: int) -> Iterator[FourierBatch]:
    """Fourier coefficients with the contrast of the files, on the coarse grid."""
    box = coarse_box(particles)
    config = PreprocessConfig(tilt_weighting=False, max_radius=0.5 * box / particles.box_px)
    plain = replace(particles, invert=False, dose_weighted=False)
    preprocess = Preprocessor(plain, config, scale=estimate_scale(plain, config, n_images=200), padding=padding)
    for batch in preprocess.batches(sample_batches(plain, BATCH_PARTICLES)):
        yield replace(batch, frequencies=batch.frequencies * (particles.box_px / box))


def _joined(particles: ParticleSet, batches: list[FourierBatch]) -> FourierBatch:
    """All particles in one batch."""
    images: dict[str, Any] = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in IMAGE_FIELDS}
    images["owner"] = torch.from_numpy(particles.image_particle)
    return replace(batches[0], particles=torch.arange(len(particles)), **images)


def _predict(images: FourierBatch, halves: Tensor, half: Int64[Tensor, " i"]) -> Complex64[Tensor, "i p"]:
    """Slices of the map of the other half."""
    prepared = gridding.prepare_sampling(halves)
    predicted = []
    for rows in torch.arange(len(half)).split(256):
        xyz = grid.slice_coordinates(images.frequencies, images.rotations[rows])
        folded, sign = grid.fold_into_half(xyz.reshape(-1, 3))
        both = gridding.sample_half_volume(prepared, folded).unflatten(0, xyz.shape[:2])  # (i, p, 2, 2)
        other = both[torch.arange(len(rows)), :, 1 - half[rows]]
        predicted.append(torch.complex(other[..., 0], other[..., 1] * sign.view(xyz.shape[:2])))
    return torch.cat(predicted)


def _noise_shape(particles: ParticleSet, model: ImageModel) -> Float32[Tensor, "i p"]:
    """Expected noise power ``m^2`` as seen through the window of the images, which smooths it; on the coarse grid."""
    box, config = coarse_box(particles), PreprocessConfig()
    size = box * PADDING
    window = fourier.pad_centred(grid.image_window(box, config.window_inner, config.window_outer), size)
    smooth = fourier.irfft2_centred(fourier.rfft2_centred(window).abs().square().to(torch.complex64), size)
    smooth = smooth / smooth.max()
    frequencies = fourier.half_frequencies_xy(size)
    per_angst = frequencies.reshape(-1, 2) * (box / particles.box_px / particles.pixel_size_angst)
    kept = grid.HalfGrid.of_image(box).index
    exposure = torch.from_numpy(np.array(particles.dose_e_per_angst2))
    table = None if particles.ctf is None else torch.from_numpy(particles.ctf.table())
    shapes = []
    for rows in torch.arange(particles.n_images).split(128):
        voltage = torch.full((len(rows),), 300.0) if table is None else table[rows, 4]
        fade = dose.exposure_weights(per_angst.norm(dim=-1), exposure[rows], voltage)
        transfer = torch.ones_like(fade) if table is None else ctf.contrast_transfer(per_angst, table[rows])
        square = model.multiplier(transfer, fade).square().unflatten(1, frequencies.shape[:2])
        real = fourier.irfft2_centred(square.to(torch.complex64), size) * smooth
        smoothed = fourier.rfft2_centred(real).real[:, ::PADDING, ::PADDING]
        shapes.append(smoothed.flatten(1)[:, kept].clamp(min=0) + FLOOR)
    return torch.cat(shapes)


def _variance(
    power: Float32[Tensor, "i p"], noise: Float32[Tensor, "i p"], images: FourierBatch, half: Int64[Tensor, " i"]
) -> Float32[Tensor, "i p"]:
    """Noise shape times the spectrum of the other half's residuals times a gain of each image."""
    box = round(1 / float(images.frequencies.norm(dim=-1).min()))
    shell = (images.frequencies.norm(dim=-1) * box).round().long()
    relative = power / noise * images.kept
    count = images.kept.sum(dim=1).clamp(min=1)
    variance = torch.empty_like(power)
    for own in (0, 1):
        theirs = half != own
        seen = torch.zeros(int(shell.max()) + 1).index_add_(0, shell, images.kept[theirs].sum(dim=0)).clamp(min=1)
        spectrum = torch.ones_like(seen)
        for _ in range(NOISE_ITERATIONS):
            gain = (relative[theirs] / spectrum[shell]).sum(dim=1, keepdim=True) / count[theirs, None]
            sums = (relative[theirs] / gain.clamp(min=1e-12)).sum(dim=0)
            spectrum = (torch.zeros_like(seen).index_add_(0, shell, sums) / seen).clamp(min=1e-12)
        gain = (relative[~theirs] / spectrum[shell]).sum(dim=1, keepdim=True) / count[~theirs, None]
        variance[~theirs] = noise[~theirs] * spectrum[shell] * gain.clamp(min=1e-12)
    return variance
