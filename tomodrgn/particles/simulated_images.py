"""Imager: the tilt images of a simulated acquisition, with CTF, exposure filter and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16, Float32, Float64, Int64
from torch import Tensor

from tomodrgn.imaging import fourier, grid
from tomodrgn.imaging.ctf import contrast_transfer
from tomodrgn.imaging.dose import exposure_weights
from tomodrgn.particles.acquisition import Acquisition
from tomodrgn.particles.phantom import Phantom, project_blobs
from tomodrgn.particles.simulated_formats import FORMATS, SimulatedFormat

__all__ = ["Conformations", "Imager", "SimulationOptions"]

PADDING = 2
BATCH_BYTES = 1 << 22  # larger batches are slower: they leave the cache
# Images from which the strength of the signal is measured.
GAIN_IMAGES = 512


@dataclass(frozen=True, kw_only=True)
class SimulationOptions:
    """The parameters of `simulate_particles`, checked."""

    n_particles: int
    n_tilts: int
    box_px: int
    pixel_size_angst: float
    n_states: int
    mass_difference: float
    continuous: bool
    snr: float
    max_tilt_deg: float
    n_tomograms: int
    missing_tilts: int
    dose_per_tilt_e_per_angst2: float
    defocus_range_angst: tuple[float, float]
    dialect: str
    premultiplied: bool | None
    shift_std_px: float
    noise: bool
    ctf: bool
    radiation_damage: bool
    extra_columns: bool
    seed: int
    tomograms: bool = False

    def __post_init__(self) -> None:
        ranges = {
            "1 or more": [(name, getattr(self, name) >= 1) for name in ("n_particles", "n_tomograms")],
            "2 or more": [("n_tilts", self.n_tilts >= 2)],
            "0 or more": [
                (name, getattr(self, name) >= 0)
                for name in ("missing_tilts", "dose_per_tilt_e_per_angst2", "shift_std_px", "seed")
            ],
            "above 0": [(name, getattr(self, name) > 0) for name in ("pixel_size_angst", "snr")],
            "from 0 to 85": [("max_tilt_deg", 0 <= self.max_tilt_deg <= 85)],
            "low and high, above 0": [
                ("defocus_range_angst", 0 < self.defocus_range_angst[0] <= self.defocus_range_angst[1])
            ],
            f"one of {', '.join(FORMATS)}": [("dialect", self.dialect in FORMATS)],
            f"None or False for {self.dialect}, whose files cannot say it": [
                ("premultiplied", not self.premultiplied or self.layout.multiplied is not None)
            ],
        }
        for expected, checks in ranges.items():
            for name, good in checks:
                if not good:
                    raise ValueError(f"Got {name} {getattr(self, name)!r}, expected {expected}. Choose another value.")

    @property
    def multiplied(self) -> bool:
        """Whether images are multiplied by their CTF."""
        return bool(self.layout.multiplied) if self.premultiplied is None else self.premultiplied

    @property
    def layout(self) -> SimulatedFormat:
        """Files and signs of the dialect."""
        return FORMATS[self.dialect]


@dataclass(frozen=True, kw_only=True)
class Conformations:
    """State and position of the moving domain of each particle."""

    label: Int64[np.ndarray, " k"]
    parameter: Float64[np.ndarray, " k"]


class Imager:
    """Forms the images of an acquisition; rows are image numbers in its order, P = 2 d is the padded box."""

    def __init__(
        self, options: SimulationOptions, phantom: Phantom, acquisition: Acquisition, conformations: Conformations
    ) -> None:
        self.options, self.phantom, self.acquisition, self.conformations = options, phantom, acquisition, conformations
        self.padded_px = PADDING * options.box_px
        self.particle, self.tilt = acquisition.image_particle, acquisition.image_tilt
        self._rows_xy = acquisition.rotations[:, :2]
        self._shifts_px = acquisition.shifts_px
        self._ctf = torch.from_numpy(acquisition.ctf_table)
        self._dose = torch.from_numpy(acquisition.dose_e_per_angst2[self.tilt].astype(np.float32))
        self._scale = torch.from_numpy(np.cos(np.deg2rad(acquisition.tilt_deg[self.tilt])).astype(np.float32))
        self._per_angst = fourier.half_frequencies_xy(self.padded_px) / options.pixel_size_angst  # (P, P/2+1, 2)
        self._gain = 1.0
        self.gain = self._gain = self._find_gain()

    def images(self, rows: np.ndarray, rng: np.random.Generator) -> Float16[np.ndarray, "i d d"]:
        """The images as they stand in the files."""
        size = max(1, BATCH_BYTES // (8 * self.padded_px * max(len(self.phantom.sigmas_angst), self.padded_px)))
        made = [self._batch(rows[i : i + size], rng) for i in range(0, len(rows), size)]
        return np.concatenate(made)

    def volume(self, state: int, parameter: float) -> Float32[np.ndarray, "d d d"]:
        """A state on the scale of the images."""
        options = self.options
        map_of = self.phantom.volume
        return self.gain * map_of(state, parameter, box_px=options.box_px, pixel_size_angst=options.pixel_size_angst)

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> Float16[np.ndarray, "i d d"]:
        images = self.recorded(rows)
        if self.options.noise:
            images = images + torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
        if self.options.multiplied:
            images = self._filtered(images, self._multiplier(rows))
        elif self.options.layout.light:
            images = -images
        return fourier.pad_centred(images, self.options.box_px).numpy().astype(np.float16)

    def recorded(self, rows: np.ndarray) -> Float32[Tensor, "i P P"]:
        """Padded images without noise as the camera sees them: CTF x exposure filter x projection."""
        particle = self.particle[rows]
        positions = self.phantom.positions_angst(self.conformations.parameter[particle])
        xy_px = np.einsum("nij,ngj->ngi", self._rows_xy[rows], positions) / self.options.pixel_size_angst
        masses = self.phantom.masses[self.conformations.label[particle]] * self._gain
        projections = project_blobs(
            torch.from_numpy(xy_px - self._shifts_px[rows, None]).float(),
            torch.from_numpy(self.phantom.sigmas_angst / self.options.pixel_size_angst).float(),
            torch.from_numpy(masses).float(),
            self.padded_px,
        )
        transfer = self._contrast(rows)
        if self.options.radiation_damage:
            transfer = transfer * self._exposure_filter(rows)
        return self._filtered(projections, transfer)

    def _contrast(self, rows: np.ndarray) -> Tensor:
        return contrast_transfer(self._per_angst.flatten(0, 1), self._ctf[rows]).unflatten(1, self._per_angst.shape[:2])

    def _exposure_filter(self, rows: np.ndarray) -> Tensor:
        radius = self._per_angst.norm(dim=-1)
        return exposure_weights(radius.flatten(), self._dose[rows], self._ctf[rows, 4]).unflatten(1, radius.shape)

    def _multiplier(self, rows: np.ndarray) -> Tensor:
        """By what a premultiplied image was multiplied: by more than the CTF in WarpTools and RELION."""
        contrast = self._contrast(rows)
        if not self.options.layout.weighted:
            return contrast
        return contrast * self._exposure_filter(rows) * self._scale[rows, None, None]

    def _filtered(self, images: Tensor, transfer: Tensor) -> Tensor:
        return fourier.irfft2_centred(fourier.rfft2_centred(images) * transfer, self.padded_px)

    def _find_gain(self) -> float:
        """Factor of the density that gives the wanted signal-to-noise ratio over noise of variance 1."""
        n = len(self.particle)
        rows = np.unique(np.linspace(0, n - 1, min(n, GAIN_IMAGES)).astype(np.int64))
        inside = grid.radii(self.options.box_px, 2) <= self.phantom.radius_angst / self.options.pixel_size_angst
        recorded = torch.cat([self._cropped(part) for part in np.array_split(rows, -(-len(rows) // 32))])
        return float((self.options.snr / recorded[:, inside].var(dim=1).mean()).sqrt())

    def _cropped(self, rows: np.ndarray) -> Tensor:
        return fourier.pad_centred(self.recorded(rows), self.options.box_px)
