"""Raw batch -> Fourier batch, on the device: Fourier crop, window, transform, scale, shift, CTF, weights.

The same path serves training, embedding and backprojection. Images of a set that was read at a smaller box are
Fourier-cropped first (see `fourier.fourier_crop`), so that all else is as for images downsampled on disk.

One model serves all images: ``m (c e V + n)``. V is the slice of the volume, c the CTF, e the exposure filter by which
the signal fades (Grant & Grigorieff 2015, 10.7554/eLife.06980), n white noise of variance ``1 / w`` with w the cosine
of the tilt or upstream's scale, and m what the extracting program multiplied the image by: c if premultiplied, ``e w``
if dose weighted, both, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float32, Int64
from torch import Tensor

from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging import ctf, dose, fourier, grid
from tomodrgn.particles.dataset import Choice, RawBatch, TiltDataset
from tomodrgn.particles.image_cache import CachedBatch, ImageCache
from tomodrgn.particles.particle_set import ParticleSet

__all__ = ["IMAGE_FIELDS", "DecodePoints", "FourierBatch", "Preprocessor", "estimate_scale"]


@dataclass(frozen=True, kw_only=True)
class DecodePoints:
    """All kept frequencies of a batch in one flat list, each in the canonical half of Fourier space."""

    coordinates: Float32[Tensor, "m 3"]
    """Volume frequencies xyz in cycles per pixel."""
    owner: Int64[Tensor, " m"]
    """Position in the batch of the particle that each point belongs to."""
    target: Float32[Tensor, "m 2"]
    """Observed real and imaginary part."""
    transfer: Float32[Tensor, " m"]
    """Factor by which the decoded value is multiplied before comparison."""
    weights: Float32[Tensor, " m"]
    """Weight of each squared error, above 0."""

    def __len__(self) -> int:
        return len(self.owner)

    def split(self, size: int) -> list[DecodePoints]:
        """The same points in pieces of at most `size`."""
        names = ("coordinates", "owner", "target", "transfer", "weights")
        pieces = zip(*(getattr(self, name).split(size) for name in names), strict=True)
        return [DecodePoints(**dict(zip(names, piece, strict=True))) for piece in pieces]


IMAGE_FIELDS = ("image_rows", "owner", "slot", "values", "ctf", "exposure", "image_weights", "kept", "rotations")


@dataclass(frozen=True, kw_only=True)
class FourierBatch:
    """Tilt images of b particles as weighted Fourier coefficients; i images, p kept frequencies an image."""

    particles: Int64[Tensor, " b"]
    """Positions of the particles in their ParticleSet."""
    image_rows: Int64[Tensor, " i"]
    """Rows of the images in the ParticleSet."""
    owner: Int64[Tensor, " i"]
    """For each image the position of its particle in the batch."""
    slot: Int64[Tensor, " i"]
    """For each image its number in the series of its particle, from 0."""
    values: Complex64[Tensor, "i p"]
    """Observed coefficients, centred and scaled so that their standard deviation is about 1."""
    ctf: Float32[Tensor, "i p"]
    """Contrast transfer function; 1 everywhere for images without one."""
    exposure: Float32[Tensor, "i p"]
    """Exposure filter; 1 everywhere where exposure is not modelled."""
    image_weights: Float32[Tensor, " i"]
    """Cosine of the tilt, or upstream's scale: the inverse variance of the noise before any multiplication."""
    kept: Float32[Tensor, "i p"]
    """1 where the exposure is below the optimal one, else 0."""
    rotations: Float32[Tensor, "i 3 3"]
    frequencies: Float32[Tensor, "p 2"]
    """Frequency lattice of the images in cycles per pixel."""
    ctf_premultiplied: bool
    dose_weighted: bool

    @property
    def n_particles(self) -> int:
        """Number of particles in the batch, b."""
        return len(self.particles)

    def take_images(self, images: Bool[Tensor, " i"]) -> FourierBatch:
        """The same particles with only the images marked True."""
        return replace(self, **{name: getattr(self, name)[images] for name in IMAGE_FIELDS})

    def take_particles(self, share: slice) -> FourierBatch:
        """Some of the particles, which follow each other in the batch, with all of their images."""
        first, last, _ = share.indices(self.n_particles)
        part = self.take_images((self.owner >= first) & (self.owner < last))
        return replace(part, particles=self.particles[share], owner=part.owner - first)

    @cached_property
    def transfer(self) -> Float32[Tensor, "i p"]:
        """Factor between the volume's slice and the observed coefficients, without noise: ``m c e``."""
        transfer = self.ctf.square() if self.ctf_premultiplied else self.ctf
        transfer = transfer * self.exposure
        return transfer * self.exposure * self.image_weights[:, None] if self.dose_weighted else transfer

    @cached_property
    def loss_weights(self) -> Float32[Tensor, "i p"]:
        """Weight of each squared error, 0 where not kept: w, or 1 for dose-weighted images, which carry it already."""
        weights = (self.image_weights > 0).float() if self.dose_weighted else self.image_weights
        return weights[:, None] * self.kept

    @cached_property
    def encoder_input(self) -> Float32[Tensor, "i p 2"]:
        """Real and imaginary parts with the sign of the CTF taken out (premultiplied images have it out already)."""
        values = self.values * self.kept
        return torch.view_as_real(values if self.ctf_premultiplied else values * torch.sign(self.ctf))

    def gridding_terms(self) -> tuple[Complex64[Tensor, "i p"], Float32[Tensor, "i p"]]:
        """Numerator ``w c e (image / m)`` and denominator ``w (c e)^2``: all that the images tell of the volume.

        Their quotient is the weighted least-squares value of the volume at each frequency. Under noise of variance
        s / w the denominator over s is the precision of that value. As m cancels, the terms are the same whatever the
        images were multiplied by.
        """
        numerator = self.values if self.ctf_premultiplied else self.values * self.ctf
        weighted_exposure = self.exposure * self.image_weights[:, None]
        if not self.dose_weighted:
            numerator = numerator * weighted_exposure
        return numerator * self.kept, self.ctf.square() * self.exposure * weighted_exposure * self.kept

    def points(self) -> DecodePoints:
        """Every kept frequency of every image as one list of decoder coordinates and targets."""
        coordinates = grid.slice_coordinates(self.frequencies, self.rotations)  # (i, p, 3)
        keep = self.loss_weights > 0
        owner = self.owner[:, None].expand(keep.shape)[keep]
        xyz, values = coordinates[keep], torch.view_as_real(self.values)[keep]  # (m, 3), (m, 2)
        xyz, sign = grid.fold_into_half(xyz)
        return DecodePoints(
            coordinates=xyz,
            owner=owner,
            target=torch.stack([values[:, 0], values[:, 1] * sign], dim=-1),
            transfer=self.transfer[keep],
            weights=self.loss_weights[keep],
        )


class Preprocessor:
    """Turns raw tilt images of one ParticleSet into Fourier batches on a device.

    Parameters
    ----------
    particles
        The data set; its per-image parameters are copied to the device (about 80 bytes an image).
    config
        Window, weights and highest frequency.
    scale
        Standard deviation of the raw Fourier coefficients, by which they are divided; see `estimate_scale`.
    padding
        Images are zero-padded by this factor before the transform (1 for training, 2 for backprojection).
    cache
        Coefficients that a preprocessor of the same set and options has made, read in place of the stacks.
    """

    def __init__(
        self,
        particles: ParticleSet,
        config: PreprocessConfig,
        *,
        scale: float,
        padding: int = 1,
        device: torch.device | str = "cpu",
        cache: ImageCache | None = None,
    ) -> None:
        self.particles, self.config, self.scale, self.padding, self.cache = particles, config, scale, padding, cache
        self.device = torch.device(device)
        self.grid = grid.HalfGrid.of_image(particles.box_px * padding, max_radius=config.max_radius).to(device)
        self._window = _window(particles.box_px, config).to(device)
        self._per_angst = self.grid.frequencies / particles.pixel_size_angst
        self._first = torch.tensor(particles.offsets[:-1], device=device)
        self._rotations = torch.tensor(particles.rotations, device=device)
        self._shifts = torch.tensor(particles.shifts_px, device=device)
        self._dose = torch.tensor(particles.dose_e_per_angst2, device=device)
        self._tilt = torch.tensor(particles.tilt_deg, device=device)
        self._image_scale = torch.tensor(particles.image_scale, device=device)
        self._ctf = None if particles.ctf is None else torch.tensor(particles.ctf.table(), device=device)

    def with_cache(self, cache: ImageCache | None) -> Preprocessor:
        """The same, reading coefficients from a cache (None: from the stacks)."""
        other = copy(self)
        other.cache = cache
        return other

    def batches(self, choices: Iterable[Choice]) -> Iterator[FourierBatch]:
        """Batches of the given particles and images, from the cache or the stacks, read a few ahead of their use."""
        source = self.cache or TiltDataset(self.particles)
        for raw in source.batches(choices, pin=self.device.type == "cuda"):
            yield self(raw)

    def __call__(self, raw: RawBatch | CachedBatch) -> FourierBatch:
        """Fourier coefficients, CTF and weights of the images of a batch."""
        rows, owner, chosen = (x.to(self.device, non_blocking=True) for x in (raw.image_rows, raw.owner, raw.particles))
        exposure, kept = self._exposure(rows)
        return FourierBatch(
            particles=chosen,
            image_rows=rows,
            owner=owner,
            slot=rows - self._first[chosen[owner]],
            values=self.coefficients(raw),
            ctf=self._transfer(rows),
            exposure=exposure,
            image_weights=self._image_weights(rows),
            kept=kept,
            rotations=self._rotations[rows],
            frequencies=self.grid.frequencies,
            ctf_premultiplied=self.particles.ctf_premultiplied,
            dose_weighted=self.particles.dose_weighted,
        )

    @property
    def window_power(self) -> float:
        """Mean square of the window: what it leaves of the power of white noise."""
        return float(self._window.square().mean())

    def coefficients(self, raw: RawBatch | CachedBatch) -> Complex64[Tensor, "i p"]:
        """Observed coefficients of the images of a batch, centred and scaled."""
        if isinstance(raw, CachedBatch):
            return torch.view_as_complex(raw.coefficients.to(self.device, non_blocking=True).float())
        images, rows = (x.to(self.device, non_blocking=True) for x in (raw.images, raw.image_rows))
        return self._transform(images, rows)

    def _transform(self, images: Tensor, rows: Tensor) -> Tensor:
        windowed = _windowed(fourier.fourier_crop(images, self.particles.box_px), self._window)
        if self.padding > 1:
            windowed = fourier.pad_centred(windowed, self.grid.box_px)
        values = fourier.rfft2_centred(windowed).flatten(1)[:, self.grid.index]  # (i, p)
        # Padding lowers orthonormal coefficients by its factor in 2-D: undo, so that units do not depend on it.
        sign = -1.0 if self.particles.invert else 1.0
        phase = -2 * torch.pi * (self._shifts[rows] @ self.grid.frequencies.T)
        return values * torch.polar(torch.full_like(phase, sign * self.padding / self.scale), phase)

    def _transfer(self, rows: Tensor) -> Tensor:
        if self._ctf is None:
            return torch.ones(len(rows), len(self.grid), device=self.device)
        return ctf.contrast_transfer(self._per_angst, self._ctf[rows])

    def _exposure(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        radius = self._per_angst.norm(dim=-1)
        voltage = self._ctf[rows, 4] if self._ctf is not None else torch.full_like(self._dose[rows], 300.0)
        exposure = torch.ones(len(rows), len(radius), device=self.device)
        kept = torch.ones_like(exposure)
        if self.particles.dose_weighted or self.config.exposure_weighting:
            exposure = dose.exposure_weights(radius, self._dose[rows], voltage)
        if self.config.exposure_weighting:
            kept = dose.exposure_mask(radius, self._dose[rows], voltage).float()
        return exposure, kept

    def _image_weights(self, rows: Tensor) -> Tensor:
        if self.particles.dose_weighted:
            return self._image_scale[rows]
        if self.config.tilt_weighting:
            return dose.tilt_weights(self._tilt[rows])
        return torch.ones(len(rows), device=self.device)


def _window(box_px: int, config: PreprocessConfig) -> Tensor:
    if not config.window:
        return torch.ones(box_px, box_px)
    return grid.image_window(box_px, config.window_inner, config.window_outer)


def _windowed(images: Tensor, window: Tensor) -> Tensor:
    mean = images.mean(dim=(-2, -1), keepdim=True)
    return (images - mean) * window


def estimate_scale(particles: ParticleSet, config: PreprocessConfig, *, n_images: int = 1000, seed: int = 0) -> float:
    """Standard deviation of the raw Fourier coefficients of up to `n_images` images drawn at random.

    Raises
    ------
    ValueError
        If the images drawn are all constant or too large for single precision, or a pixel is not finite.
    """
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(particles.n_images)[:n_images])
    kept = grid.HalfGrid.of_image(particles.box_px, max_radius=config.max_radius)
    images = torch.from_numpy(TiltDataset(particles).read_images(rows))
    windowed = _windowed(fourier.fourier_crop(images, particles.box_px), _window(particles.box_px, config))
    values = fourier.rfft2_centred(windowed).flatten(1)[:, kept.index]
    scale = float(values.abs().square().mean().sqrt())
    if not np.isfinite(scale) or scale == 0.0:
        found = "numbers too large for single precision" if not np.isfinite(scale) else "constant images"
        raise ValueError(
            f"Got {found} among {len(rows)} images of {particles.source.path}, expected real micrograph contrast. "
            "Check the extraction, or leave the affected particles out."
        )
    return scale
