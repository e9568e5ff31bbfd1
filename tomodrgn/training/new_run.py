"""A new run: its folder, and what is measured from the particles before the first epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.imaging import grid
from tomodrgn.particles.gridding import grid_particles
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor, estimate_scale
from tomodrgn.training.devices import default_device
from tomodrgn.training.held_out import trained_tilts
from tomodrgn.training.run import Run
from tomodrgn.training.start import read_start

__all__ = ["create_run"]


def create_run(
    folder: Path | str,
    particles: ParticleSet,
    *,
    model: VaeConfig,
    preprocess: PreprocessConfig,
    training: TrainConfig,
    overwrite: bool,
) -> Run:
    """Make the folder of a new run, with the image scale and the consensus of its particles.

    Parameters
    ----------
    folder
        Folder of the run.
    particles
        The data set; held-out tilts take no part in scale and consensus.
    model, preprocess, training
        Options of the run.
    overwrite
        Replace an existing run.

    Raises
    ------
    FileExistsError
        If the folder holds a run (and `overwrite` is False), or files that are not a run.
    FileNotFoundError, ValueError
        If the images are all constant, or a pixel is not finite; or the linear run to start from is not there, or does
        not fit (`read_start`).
    """
    trained, _ = trained_tilts(particles, training)
    start = None
    if training.start_from is not None:
        start = read_start(training.start_from, particles, model)
        # The same line must start the same run from any folder.
        training = training.model_copy(update={"start_from": str(Path(training.start_from).resolve())})
    scale = start.scale if start is not None else estimate_scale(trained, preprocess, seed=training.seed)
    consensus = start.consensus if start is not None else None
    if model.consensus and consensus is None:
        device = default_device(training.accelerator)
        padded = Preprocessor(trained, preprocess, scale=scale, padding=2, device=device)
        mask = grid.soft_spherical_mask(particles.box_px, model.particle_radius).numpy()
        consensus = grid_particles(padded, np.ones(len(trained), dtype=np.int64)).volume() * mask
    run = Run.create(
        folder,
        particles,
        model=model,
        preprocess=preprocess,
        training=training,
        scale=scale,
        consensus=consensus,
        n_tilts=int(particles.tilt_counts.max()),
        overwrite=overwrite,
    )
    if start is not None:
        start.write(run)
    return run
