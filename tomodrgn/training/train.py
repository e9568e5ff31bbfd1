"""The epoch loop, flat and in time order; checkpoint, resume, stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric

from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.imaging import grid
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.gridding import grid_particles
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor, estimate_scale
from tomodrgn.training.checkpoint import restore_checkpoint, write_checkpoint
from tomodrgn.training.embed import build_model, default_device, encode_all, particles_at_box
from tomodrgn.training.held_out import held_out_loss, held_out_tilts
from tomodrgn.training.run import Run, check_new_run
from tomodrgn.training.schedules import full_learning_rate, rates_at
from tomodrgn.training.start import start_model
from tomodrgn.training.step import StepLoss, chunk_size, training_step

__all__ = ["TrainProgress", "train"]


@dataclass(frozen=True, kw_only=True)
class TrainProgress:
    """How far a training has come; given to the progress callback after every batch and after every epoch."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    history: pd.DataFrame


def train(
    particles: ParticleSet,
    run: Path | str,
    *,
    model: VaeConfig | None = None,
    preprocess: PreprocessConfig | None = None,
    training: TrainConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[TrainProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Run:
    """Train a tilt-series autoencoder and keep every epoch in a run folder.

    Parameters
    ----------
    particles
        The data set; a resumed run crops its images to the box it was started with.
    run
        Folder of the run (see `tomodrgn.training.run`).
    model, preprocess, training
        Options; a resumed run keeps those it was started with, but for `epochs`, which may be raised.
    resume
        Go on after the last finished epoch of an existing run.
    overwrite
        Replace an existing run.
    progress
        Called after every batch, and once more when an epoch has been written, then with that epoch in its history.
    should_stop
        Asked after every batch; True ends the training there. Finished epochs are kept, the present one is not.

    Returns
    -------
    The run. If it was stopped early its `status` says so, and it can be resumed.

    Raises
    ------
    FileExistsError
        If the folder exists and neither `resume` nor `overwrite` is given.
    FloatingPointError
        If a loss is not finite; the message names the particles of that batch and the last good epoch.
    """
    training = training or TrainConfig()
    if resume:
        opened = _resumed(Run.open(run), particles, training)
        particles = particles_at_box(opened, particles)
    else:
        opened = _created(
            run,
            particles,
            model=model or VaeConfig(),
            preprocess=preprocess or PreprocessConfig(),
            training=training,
            overwrite=overwrite,
        )
    try:
        return _train(opened, particles, progress=progress, should_stop=should_stop)
    except KeyboardInterrupt:
        opened.write_status("stopped", epoch=_last_epoch(opened))
        raise
    except BaseException as error:
        opened.write_status("failed", epoch=_last_epoch(opened), error=f"{type(error).__name__}: {error}")
        raise


def _train(
    run: Run,
    particles: ParticleSet,
    *,
    progress: Callable[[TrainProgress], None] | None,
    should_stop: Callable[[], bool] | None,
) -> Run:
    config = run.train_config
    fabric = Fabric(accelerator=config.accelerator, devices=config.devices, precision=_precision(config))
    network = build_model(run)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=full_learning_rate(config), eps=1e-8, weight_decay=config.weight_decay
    )
    first_epoch = restore_checkpoint(run, network, optimizer) + 1
    model, optimizer = fabric.setup(network, optimizer)
    for method in ("encode", "decode"):
        model.mark_forward_method(method)
    trained, held = _trained_tilts(particles, config)
    preprocessor, whole = (
        Preprocessor(p, run.preprocess_config, scale=run.settings["scale"], device=fabric.device)
        for p in (trained, particles)
    )
    dataset = TiltDataset(trained)
    if first_epoch == 1:
        start_model(run, network, preprocessor)
    history = run.history.query("epoch < @first_epoch")

    for epoch in range(first_epoch, config.epochs + 1):
        began = time.perf_counter()
        choices = sample_batches(
            trained,
            config.batch_size,
            tilts_per_particle=config.tilts_per_particle,
            tilt_sampling=config.tilt_sampling,
            generator=np.random.default_rng([config.seed, epoch]),
        )
        noise = torch.Generator(device=fabric.device).manual_seed(_noise_seed(config.seed, epoch))
        losses: list[StepLoss] = []
        model.train()
        for raw in dataset.batches(choices):
            rates = rates_at((epoch - 1 + len(losses) / len(choices)) / config.epochs, config, network.config.z_dim)
            optimizer.param_groups[0]["lr"] = rates["learning_rate"]
            optimizer.zero_grad(set_to_none=True)
            losses.append(training_step(fabric, model, preprocessor(raw), config, beta=rates["beta"], noise=noise))
            optimizer.step()
            state = TrainProgress(
                epoch=epoch, epochs=config.epochs, batch=len(losses), batches=len(choices), history=history
            )
            _tell(run, state, progress)
            if should_stop is not None and should_stop():
                run.write_status("stopped", epoch=epoch - 1)
                return run
        split_losses = {"train": _mean_losses(losses, [trained.particle_id[chosen] for chosen, _ in choices], epoch)}
        model.eval()
        if held.any():
            chunk = chunk_size(config, fabric.device)
            split_losses["test"] = held_out_loss(model, whole, held, beta=rates["beta"], points_per_chunk=chunk)
        latents = encode_all(network, whole, tilts_per_particle=config.tilts_per_particle)
        shared = {**rates, "seconds": time.perf_counter() - began}
        rows = [{"epoch": epoch, "split": split, **means, **shared} for split, means in split_losses.items()]
        history = pd.concat([history, pd.DataFrame(rows)])
        write_checkpoint(run, epoch, model=network, optimizer=optimizer, latents=latents, history=history)
        if progress is not None:
            progress(replace(state, history=history))
    run.write_status("finished", epoch=config.epochs, epochs=config.epochs)
    return run


def _trained_tilts(particles: ParticleSet, config: TrainConfig) -> tuple[ParticleSet, np.ndarray]:
    """The particles without their held-out tilts, and which of all images these are."""
    held = held_out_tilts(particles, config.held_out_fraction, config.seed)
    return (particles.subset_images(~held) if held.any() else particles), held


def _noise_seed(seed: int, epoch: int) -> int:
    """One number of two, the same on every machine and for every version of Python."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _precision(config: TrainConfig) -> Literal["32-true", "bf16-mixed"]:
    if config.precision != "auto":
        return config.precision
    cuda = torch.cuda.is_available() and config.accelerator != "cpu"
    return "bf16-mixed" if cuda else "32-true"


def _created(
    folder: Path | str,
    particles: ParticleSet,
    *,
    model: VaeConfig,
    preprocess: PreprocessConfig,
    training: TrainConfig,
    overwrite: bool,
) -> Run:
    check_new_run(folder, overwrite=overwrite)
    trained, _ = _trained_tilts(particles, training)
    counts = np.unique(trained.tilt_counts)
    if training.tilts_per_particle is not None:
        counts = np.unique(np.minimum(counts, training.tilts_per_particle))
    if model.pooling == "concatenate" and model.z_dim and len(counts) != 1:
        raise ValueError(
            f"Got particles with {counts.min()} to {counts.max()} tilts, expected one count for pooling 'concatenate'. "
            f"Set tilts_per_particle to {counts.min()} or less, or use another pooling."
        )
    scale = estimate_scale(trained, preprocess, seed=training.seed)
    consensus = None
    if model.consensus:
        device = default_device("cpu" if training.accelerator == "cpu" else None)
        padded = Preprocessor(trained, preprocess, scale=scale, padding=2, device=device)
        mask = grid.soft_spherical_mask(particles.box_px, model.particle_radius).numpy()
        consensus = grid_particles(padded, np.ones(len(trained), dtype=np.int64)).volume() * mask
    return Run.create(
        folder,
        particles,
        model=model,
        preprocess=preprocess,
        training=training,
        scale=scale,
        consensus=consensus,
        n_tilts=int(counts.max()),
        overwrite=overwrite,
    )


def _resumed(run: Run, particles: ParticleSet, training: TrainConfig) -> Run:
    if not np.array_equal(run.particles.particle_id, particles.particle_id):
        raise ValueError(
            f"Got {len(particles)} particles of {particles.source.path}, expected the {len(run.particles)} of run "
            f"{run.folder}. Resume with the particles the run was started with, or start another run."
        )
    epochs = run.train_config.epochs
    if "epochs" in training.model_fields_set:
        epochs = max(epochs, training.epochs)
    return run.with_training(run.train_config.model_copy(update={"epochs": epochs}))


def _mean_losses(losses: list[StepLoss], batches: list[np.ndarray], epoch: int) -> dict[str, float]:
    """Mean losses of an epoch over batches (given by their particle ids), weighted by their particles."""
    table = torch.stack([torch.stack([loss.reconstruction, loss.kl, loss.total]) for loss in losses]).cpu().double()
    finite = table.isfinite().all(dim=1)
    if not finite.all():
        names = batches[int((~finite).nonzero()[0])]
        raise FloatingPointError(
            f"Got a loss that is not finite in epoch {epoch}, first in the batch of particles {', '.join(names)}. "
            "Look at their images, or lower the learning rate; the last finished epoch is intact (--resume)."
        )
    sizes = torch.tensor([len(names) for names in batches], dtype=torch.float64)
    mean = (table * sizes[:, None]).sum(dim=0) / sizes.sum()
    return dict(zip(("reconstruction", "kl", "total"), mean.tolist(), strict=True))


def _tell(run: Run, state: TrainProgress, progress: Callable[[TrainProgress], None] | None) -> None:
    if state.batch == 1 or state.batch % max(1, state.batches // 10) == 0:
        run.write_status(
            "running", epoch=state.epoch - 1, epochs=state.epochs, batch=state.batch, batches=state.batches
        )
    if progress is not None:
        progress(state)


def _last_epoch(run: Run) -> int:
    return max(run.epochs, default=0)
