"""Raw batch -> Fourier batch, on the device: Fourier crop, window, transform, scale, shift, CTF, weights.

The same path serves training, embedding and backprojection. Images of a set that was read at a smaller box are
Fourier-cropped first (see `fourier.fourier_crop`), so that all else is as for images downsampled on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float32, Int64
from torch import Tensor

from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging import ctf, dose, fourier, grid
from tomodrgn.particles.dataset import RawBatch, TiltDataset
from tomodrgn.particles.particle_set import ParticleSet

__all__ = ["DecodePoints", "FourierBatch", "Preprocessor", "estimate_scale"]


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


@dataclass(frozen=True, kw_only=True)
class FourierBatch:
    """Tilt images of b particles as weighted Fourier coefficients; i images, p kept frequencies an image."""

    particles: Int64[Tensor, " b"]
    """Positions of the particles in their ParticleSet."""
    owner: Int64[Tensor, " i"]
    """For each image the position of its particle in the batch."""
    values: Complex64[Tensor, "i p"]
    """Observed coefficients, centred and scaled so that their standard deviation is about 1."""
    ctf: Float32[Tensor, "i p"]
    """Contrast transfer function; 1 everywhere for images without one."""
    weighting: Float32[Tensor, "i p"]
    """Exposure filter times tilt (or upstream's scale) factor."""
    image_weights: Float32[Tensor, " i"]
    """That tilt (or scale) factor alone."""
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
        names = ("owner", "values", "ctf", "weighting", "image_weights", "kept", "rotations")
        return replace(self, **{name: getattr(self, name)[images] for name in names})

    @cached_property
    def transfer(self) -> Float32[Tensor, "i p"]:
        """Factor between the volume's slice and the observed coefficients, without noise.

        The CTF; its square for premultiplied images; times exposure filter and scale for dose-weighted ones.
        """
        transfer = self.ctf.square() if self.ctf_premultiplied else self.ctf
        return transfer * self.weighting if self.dose_weighted else transfer

    @property
    def loss_weights(self) -> Float32[Tensor, "i p"]:
        """Weight of each squared error: exposure filter times cosine of the tilt, 0 where not kept."""
        return self.weighting * self.kept

    @cached_property
    def encoder_input(self) -> Float32[Tensor, "i p 2"]:
        """Real and imaginary parts with the sign of the CTF taken out (premultiplied images have it out already)."""
        values = self.values * self.kept
        return torch.view_as_real(values if self.ctf_premultiplied else values * torch.sign(self.ctf))

    def gridding_terms(self) -> tuple[Complex64[Tensor, "i p"], Float32[Tensor, "i p"]]:
        """Numerator and denominator of the weighted least-squares value of the volume at each frequency."""
        if self.dose_weighted:
            factor = self.ctf * self.weighting
            numerator = self.values if self.ctf_premultiplied else self.values * self.ctf
            return numerator * self.kept, factor.square() * self.kept
        weights = self.loss_weights
        numerator = self.values if self.ctf_premultiplied else self.values * self.ctf
        return numerator * weights, self.ctf.square() * weights

    def likelihood_terms(self) -> tuple[Complex64[Tensor, "i p"], Float32[Tensor, "i p"]]:
        """Sufficient statistics of the volume under Gaussian noise: numerator and denominator.

        The image before any multiplication is u = f V + n with the transfer f = CTF x exposure filter and noise n of
        variance s / w, where w is the tilt factor. All that it says of V is ``w f u`` (numerator) and ``w f^2``
        (denominator, the precision of V in units of 1 / s); the noise of the numerator has the variance
        ``s w f^2``. An image that was multiplied by m gives u = image / m, and m cancels: a premultiplied image has
        the same statistics as if it were not. Images that were dose weighted were multiplied by exposure filter and
        scale; the scale is taken for a part of f, as their writers do. Without exposure weighting f is the CTF.
        """
        values = (self.values if self.ctf_premultiplied else self.values * self.ctf) * self.kept
        power = self.ctf.square() * self.kept
        if self.dose_weighted:
            return values, power * self.weighting.square()
        exposure = self.weighting / self.image_weights[:, None].clamp(min=1e-6)
        return values * self.weighting, power * self.weighting * exposure

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
    """

    def __init__(
        self,
        particles: ParticleSet,
        config: PreprocessConfig,
        *,
        scale: float,
        padding: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.particles, self.config, self.scale, self.padding = particles, config, scale, padding
        self.device = torch.device(device)
        self.grid = grid.HalfGrid.of_image(particles.box_px * padding, max_radius=config.max_radius).to(device)
        self._window = _window(particles.box_px, config).to(device)
        self._per_angst = self.grid.frequencies / particles.pixel_size_angst
        self._rotations = torch.tensor(particles.rotations, device=device)
        self._shifts = torch.tensor(particles.shifts_px, device=device)
        self._dose = torch.tensor(particles.dose_e_per_angst2, device=device)
        self._tilt = torch.tensor(particles.tilt_deg, device=device)
        self._image_scale = torch.tensor(particles.image_scale, device=device)
        self._ctf = None if particles.ctf is None else torch.tensor(particles.ctf.table(), device=device)

    def __call__(self, raw: RawBatch) -> FourierBatch:
        """Fourier coefficients, CTF and weights of the images of a raw batch."""
        rows = raw.image_rows.to(self.device, non_blocking=True)
        weighting, image_weights, kept = self._weights(rows)
        return FourierBatch(
            particles=raw.particles.to(self.device, non_blocking=True),
            owner=raw.owner.to(self.device, non_blocking=True),
            values=self._transform(raw.images.to(self.device, non_blocking=True), rows),
            ctf=self._transfer(rows),
            weighting=weighting,
            image_weights=image_weights,
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

    def _weights(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        radius = self._per_angst.norm(dim=-1)
        voltage = self._ctf[rows, 4] if self._ctf is not None else torch.full_like(self._dose[rows], 300.0)
        weighting = torch.ones(len(rows), len(radius), device=self.device)
        kept = torch.ones_like(weighting)
        if self.particles.dose_weighted or self.config.exposure_weighting:
            weighting = dose.exposure_weights(radius, self._dose[rows], voltage)
        if self.config.exposure_weighting:
            kept = dose.exposure_mask(radius, self._dose[rows], voltage).float()
        image_weights = torch.ones(len(rows), device=self.device)
        if self.particles.dose_weighted:
            image_weights = self._image_scale[rows]
        elif self.config.tilt_weighting:
            image_weights = dose.tilt_weights(self._tilt[rows])
        return weighting * image_weights[:, None], image_weights, kept


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
        If the images drawn are all constant or hold values that are not finite.
    """
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(particles.n_images)[:n_images])
    kept = grid.HalfGrid.of_image(particles.box_px, max_radius=config.max_radius)
    images = torch.from_numpy(TiltDataset(particles).read_images(rows))
    windowed = _windowed(fourier.fourier_crop(images, particles.box_px), _window(particles.box_px, config))
    values = fourier.rfft2_centred(windowed).flatten(1)[:, kept.index]
    scale = float(values.abs().square().mean().sqrt())
    if not np.isfinite(scale) or scale == 0.0:
        found = "values that are not finite" if not np.isfinite(scale) else "constant images"
        raise ValueError(
            f"Got {found} among {len(rows)} images of {particles.source.path}, expected real micrograph contrast. "
            "Check the extraction, or leave the affected particles out."
        )
    return scale
