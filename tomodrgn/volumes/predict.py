"""What a model says of the tilt images: central slices of each particle's volume, with CTF and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex64, Float32, Int64
from torch import Tensor

from tomodrgn.imaging import grid, gridding
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import FourierBatch, Preprocessor
from tomodrgn.particles.tilt_images import TiltImages, fourier_batch, rows_by_tilt, tilt_pictures
from tomodrgn.training.devices import default_device
from tomodrgn.training.embed import load_model, particles_at_box
from tomodrgn.training.linear_run import load_subspace
from tomodrgn.training.run import Run

__all__ = ["ImagePredictor", "predict_images"]

POINTS_AT_ONCE = 65_536  # frequencies decoded at once


class ImagePredictor:
    """Predicts tilt images with the weights of one epoch, which are read once.

    Parameters
    ----------
    run
        A run, or its folder.
    epoch
        Epoch of weights and latents; None is the last.
    particles
        Particles that the run has latents of, with images of its field of view; None takes those of the run, whose
        images are looked for where they were at training.
    device
        Where an autoencoder decodes; None takes CUDA where it is there. Linear runs decode on the CPU.

    Attributes
    ----------
    particles
        The set, at the box of the run.

    Raises
    ------
    FileNotFoundError
        If the images are gone.
    KeyError
        If a particle has no latent.
    ValueError
        If the epoch is not on disk, or the images have another field of view.
    """

    def __init__(
        self,
        run: Run | Path | str,
        epoch: int | None = None,
        *,
        particles: ParticleSet | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        run = run if isinstance(run, Run) else Run.open(run)
        self.particles = run.particles if particles is None else particles_at_box(run, particles)
        self._latents = run.latents(epoch).aligned_to(self.particles.particle_id).mu
        chosen = device if isinstance(device, torch.device) else default_device(device)
        self._slices: Callable[[FourierBatch, Float32[Tensor, "b z"]], Complex64[Tensor, "i p"]]
        if run.kind == "linear":
            run.epoch_folder(epoch)  # an error if it is not there
            chosen, subspace = torch.device("cpu"), load_subspace(run)
            self._slices = lambda batch, z: _slices_of_maps(batch, subspace.decode(z))
        else:
            model = load_model(run, epoch).to(chosen)
            self._slices = lambda batch, z: _slices_decoded(batch, z, model.decode)
        self._preprocessor = Preprocessor(
            self.particles, run.preprocess_config, scale=run.settings["scale"], device=chosen
        )

    @torch.no_grad()
    def __call__(self, image_rows: Int64[np.ndarray, " i"]) -> TiltImages:
        """The given images of `particles`, in that order, beside their predictions.

        Raises
        ------
        FileNotFoundError, ValueError
            If a stack is gone or damaged.
        """
        batch = fourier_batch(self._preprocessor, image_rows)
        z = torch.tensor(self._latents[batch.particles.cpu().numpy()], device=batch.values.device)
        values = self._slices(batch, z) * batch.transfer
        images = self._preprocessor.grid.images(values) * self._preprocessor.scale
        return tilt_pictures(self._preprocessor, batch, images.cpu().numpy())


def predict_images(
    run: Run | Path | str,
    particle_ids: Iterable[str],
    *,
    epoch: int | None = None,
    particles: ParticleSet | None = None,
    n_tilts: int | None = None,
    device: torch.device | str | None = None,
) -> TiltImages:
    """Tilt images of particles beside what a run says of them: slices of each one's volume at its poses.

    The slice of the volume at the particle's latent (Fourier slice theorem) is multiplied by the transfer of the image,
    that is by the CTF and by the exposure filter and weights as they were read; frequencies beyond those of the
    training are zero.

    Parameters
    ----------
    run, epoch, particles, device
        See `ImagePredictor`.
    n_tilts
        So many tilts of each particle, spread evenly; None is all.

    Returns
    -------
    Images of particle after particle, by rising tilt angle.

    Raises
    ------
    FileNotFoundError
        If the images are gone.
    KeyError
        If a particle is unknown.
    ValueError
        If the epoch is not on disk, or the images have another field of view.
    """
    predictor = ImagePredictor(run, epoch, particles=particles, device=device)
    chosen = predictor.particles.positions_of(particle_ids)
    rows = [rows_by_tilt(predictor.particles, int(i), n_tilts) for i in chosen]
    return predictor(np.concatenate([np.empty(0, np.int64), *rows]))


def _slices_decoded(
    batch: FourierBatch, z: Tensor, decode: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Complex64[Tensor, "i p"]:
    """Values of the decoder at the frequencies of each image: nothing is interpolated."""
    coordinates, sign = grid.fold_into_half(grid.slice_coordinates(batch.frequencies, batch.rotations))
    flat, owner = coordinates.reshape(-1, 3), batch.owner.repeat_interleave(coordinates.shape[1])
    pieces = zip(flat.split(POINTS_AT_ONCE), owner.split(POINTS_AT_ONCE), strict=True)
    values = torch.cat([flat.new_zeros(0, 2), *(decode(xyz, own, z).float() for xyz, own in pieces)])
    return torch.complex(values[:, 0], values[:, 1] * sign.flatten()).view(sign.shape)


def _slices_of_maps(batch: FourierBatch, maps: Float32[Tensor, "b d d d"]) -> Complex64[Tensor, "i p"]:
    """Slices of each particle's map."""
    coordinates, sign = grid.fold_into_half(grid.slice_coordinates(batch.frequencies, batch.rotations))
    slices = batch.values.new_zeros(sign.shape)
    for i, volume in enumerate(maps):
        own = batch.owner == i
        sampled = gridding.sample_half_volume(gridding.prepare_sampling(volume[None]), coordinates[own].reshape(-1, 3))
        values = torch.complex(sampled[:, 0, 0], sampled[:, 0, 1] * sign[own].flatten())
        slices[own] = values.view(sign[own].shape)
    return slices
