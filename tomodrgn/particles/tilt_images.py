"""Tilt images to be looked at: raw, centred, with the sign of the CTF taken out; of any particles and tilts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging import fourier, resolution
from tomodrgn.particles.dataset import RawBatch, TiltDataset
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import FourierBatch, Preprocessor

__all__ = ["TiltImages", "fourier_batch", "rows_by_tilt", "tilt_images", "tilt_pictures"]


@dataclass(frozen=True, kw_only=True)
class TiltImages:
    """Pictures of the same tilt images, pixel by pixel above each other; i images of side d.

    Parameters
    ----------
    particle_id
        Of each image.
    image_rows
        Rows of the images in their ParticleSet.
    tilt_deg
        Tilt angles; NaN where unknown.
    pixel_size_angst
        Size of a pixel.
    raw
        As on disk, Fourier-cropped where the set is: contrast and place of the particle are those of the file.
    observed
        As a model sees them: mean 0, windowed, the particle in the middle, contrast inverted where the set says so; in
        units of the raw images.
    flipped
        `observed` with the sign of the CTF taken out (premultiplied images have it out already): density is bright.
    predicted
        What a model says of `observed`; None where there is no model.
    """

    particle_id: np.ndarray
    image_rows: Int64[np.ndarray, " i"]
    tilt_deg: Float32[np.ndarray, " i"]
    pixel_size_angst: float
    raw: Float32[np.ndarray, "i d d"]
    observed: Float32[np.ndarray, "i d d"]
    flipped: Float32[np.ndarray, "i d d"]
    predicted: Float32[np.ndarray, "i d d"] | None = None

    def __len__(self) -> int:
        return len(self.image_rows)

    @property
    def residual(self) -> Float32[np.ndarray, "i d d"]:
        """What is left of `observed` without the prediction.

        Raises
        ------
        ValueError
            If there is no prediction.
        """
        if self.predicted is None:
            raise ValueError("Got images without a prediction, expected one. Make them of a run: predict_images.")
        return self.observed - self.predicted

    def take(self, images: Bool[np.ndarray, " i"] | Int64[np.ndarray, " j"]) -> TiltImages:
        """Some of the images."""
        names = ["particle_id", "image_rows", "tilt_deg", "raw", "observed", "flipped"]
        names += ["predicted"] if self.predicted is not None else []
        return replace(self, **{name: getattr(self, name)[images] for name in names})

    def lowpassed(self, resolution_angst: float) -> TiltImages:
        """All pictures without detail finer than this.

        Raises
        ------
        ValueError
            If the resolution is not above 0.
        """
        if not resolution_angst > 0:
            raise ValueError(
                f"Got a low-pass filter at {resolution_angst:g} angstrom, expected more than 0. Change it."
            )
        names = ["raw", "observed", "flipped", *(["predicted"] if self.predicted is not None else [])]
        filtered: dict[str, Any] = {
            name: resolution.lowpass_images(
                torch.from_numpy(getattr(self, name)), resolution_angst, self.pixel_size_angst
            ).numpy()
            for name in names
        }
        return replace(self, **filtered)


def rows_by_tilt(particles: ParticleSet, particle: int, n_tilts: int | None = None) -> Int64[np.ndarray, " i"]:
    """Image rows of a particle by rising tilt angle (those without one last), all or so many spread evenly.

    Parameters
    ----------
    particle
        Position of the particle in the set.
    """
    rows = particles.images_of([particle])
    rows = rows[np.argsort(particles.tilt_deg[rows], kind="stable")]
    if n_tilts is None or n_tilts >= len(rows):
        return rows
    return rows[np.unique(np.linspace(0, len(rows) - 1, n_tilts).astype(int))]


def tilt_images(
    particles: ParticleSet, image_rows: Int64[np.ndarray, " i"], config: PreprocessConfig | None = None
) -> TiltImages:
    """Pictures of some images, in the order given.

    Parameters
    ----------
    config
        Window and highest frequency; that of a training by default.

    Raises
    ------
    FileNotFoundError, ValueError
        If a stack is gone or damaged.
    """
    preprocessor = Preprocessor(particles, config or PreprocessConfig(), scale=1.0)
    return tilt_pictures(preprocessor, fourier_batch(preprocessor, image_rows))


def fourier_batch(preprocessor: Preprocessor, image_rows: Int64[np.ndarray, " i"]) -> FourierBatch:
    """Some images of a preprocessor's set as one batch, in the order given."""
    particles = preprocessor.particles
    owners, owner = np.unique(particles.image_particle[image_rows], return_inverse=True)
    raw = RawBatch(
        particles=torch.from_numpy(owners.astype(np.int64)),
        image_rows=torch.from_numpy(np.array(image_rows, dtype=np.int64)),
        owner=torch.from_numpy(owner.astype(np.int64)),
        images=torch.from_numpy(TiltDataset(particles).read_images(image_rows)),
    )
    return preprocessor(raw)


def tilt_pictures(
    preprocessor: Preprocessor, batch: FourierBatch, predicted: Float32[np.ndarray, "i d d"] | None = None
) -> TiltImages:
    """Pictures of a batch.

    Parameters
    ----------
    predicted
        What a model says of them, in units of the raw images.
    """
    particles, rows = preprocessor.particles, batch.image_rows.cpu().numpy()
    raw = torch.from_numpy(TiltDataset(particles).read_images(rows))
    signs = torch.ones_like(batch.ctf) if batch.ctf_premultiplied else torch.sign(batch.ctf)
    return TiltImages(
        particle_id=particles.particle_id[particles.image_particle[rows]],
        image_rows=rows,
        tilt_deg=particles.tilt_deg[rows],
        pixel_size_angst=particles.pixel_size_angst,
        raw=fourier.fourier_crop(raw, particles.box_px).numpy(),
        observed=(preprocessor.grid.images(batch.values) * preprocessor.scale).cpu().numpy(),
        flipped=(preprocessor.grid.images(batch.values * signs) * preprocessor.scale).cpu().numpy(),
        predicted=predicted,
    )
