"""The epoch loop, flat and in time order; checkpoint, resume, stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric

from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import sample_batches
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor
from tomodrgn.training.batch_parts import BatchParts
from tomodrgn.training.cached_images import cache_images
from tomodrgn.training.checkpoint import EpochPart, restore_checkpoint, restore_part, write_checkpoint, write_part
from tomodrgn.training.devices import (
    is_first_process,
    launch,
    on_first_process,
    own_share,
    share_weights,
    sum_gradients,
    sum_over_processes,
)
from tomodrgn.training.disk_errors import failures_told
from tomodrgn.training.embed import build_model, encode_all, give_components, particles_at_box
from tomodrgn.training.held_out import held_out_loss, trained_tilts
from tomodrgn.training.lock import hold_run
from tomodrgn.training.losses import EpochLosses, with_epoch
from tomodrgn.training.new_run import create_run
from tomodrgn.training.resume import check_same_particles, resumed_options
from tomodrgn.training.run import Run, check_new_run
from tomodrgn.training.schedules import full_learning_rate, rates_at
from tomodrgn.training.start import start_model
from tomodrgn.training.step import chunk_size, draw_noise, training_step

__all__ = ["TrainProgress", "train"]

STOP_INTERVAL = 8  # batches between two agreements of many processes whether to stop


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
        The data set; a resumed run takes the same, and crops its images to the box it was started with.
    run
        Folder of the run (see `tomodrgn.training.run`).
    model, preprocess, training
        Options; a resumed run keeps those it was started with, but for `epochs`, which may be raised, and where it
        is computed (`accelerator`, `devices`, `points_per_chunk`).
    resume
        Go on with an existing run where it was stopped; after its last finished epoch if it was killed.
    overwrite
        Replace an existing run.
    progress
        Called after every batch, and once more when an epoch has been written, then with that epoch in its history.
    should_stop
        Asked after every batch, and as images are first read; True ends the training there. All that was done is kept.

    Returns
    -------
    The run. If it was stopped early its `status` says so, and it can be resumed.

    Raises
    ------
    FileExistsError
        If the folder exists and neither `resume` nor `overwrite` is given.
    BlockingIOError
        If another process trains in that folder.
    ValueError
        If a run is resumed with other images or other options than it was started with (each is named), or CUDA is
        asked for where there is none.
    OSError
        If the disk is full; finished epochs are whole.
    FloatingPointError
        If a loss is not finite; the message names the particles of that batch and the last good checkpoint.
    """
    if resume:
        existing = Run.open(run)
        training = resumed_options(existing, model, preprocess, training)
        check_same_particles(existing, particles)
    else:
        training = training or TrainConfig()
        check_new_run(run, overwrite=overwrite)
    fabric = launch(training)

    def prepare() -> None:
        if resume:
            Run.open(run).with_training(training)
            return
        create_run(
            run,
            particles,
            model=model or VaeConfig(),
            preprocess=preprocess or PreprocessConfig(),
            training=training,
            overwrite=overwrite,
        )

    with ExitStack() as stack:
        on_first_process(fabric, lambda: stack.enter_context(hold_run(run)))
        on_first_process(fabric, prepare)
        opened = Run.open(run)
        stack.enter_context(failures_told(opened, writes=fabric.is_global_zero))
        cropped = particles_at_box(opened, particles)
        session, first_epoch = _begin(opened, cropped, fabric, progress=progress, should_stop=should_stop)
        return _train(session, first_epoch)


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What the epochs of one call of `train` share."""

    run: Run
    fabric: Fabric
    config: TrainConfig
    network: TiltSeriesVae
    model: Any  # the network, wrapped by Fabric
    optimizer: Any
    whole: Preprocessor  # of all images
    trained: Preprocessor  # of those that are not held out
    held: np.ndarray
    part: EpochPart | None  # what is done of the first epoch
    parts: BatchParts
    progress: Callable[[TrainProgress], None] | None
    should_stop: Callable[[], bool] | None


def _begin(
    run: Run,
    particles: ParticleSet,
    fabric: Fabric,
    *,
    progress: Callable[[TrainProgress], None] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[_Session, int]:
    """Model and data as they are before the first epoch that is left, and that epoch."""
    config = run.train_config
    network = build_model(run)
    adam = _optimizer(network, config)
    model, optimizer = fabric.setup(network, adam)
    # After the network has moved to its device, to which the optimiser's state must go.
    first_epoch = restore_checkpoint(run, network, adam) + 1
    done = restore_part(run, first_epoch, model=network, optimizer=adam)
    for method in ("encode", "decode"):
        model.mark_forward_method(method)
    trained, held = trained_tilts(particles, config)
    options = {"scale": run.settings["scale"], "device": fabric.device}
    whole = Preprocessor(particles, run.preprocess_config, **options)
    cache = cache_images(whole, run.folder, config, fabric, should_stop=should_stop)
    whole = part = whole.with_cache(cache)
    if held.any():
        part = Preprocessor(trained, run.preprocess_config, **options)
        part = part.with_cache(None if cache is None else cache.take_images(np.flatnonzero(~held)))
    if first_epoch == 1 and done is None:
        on_first_process(fabric, lambda: start_model(run, network, part))
        if not fabric.is_global_zero:
            give_components(run, network)
        share_weights(fabric, network)
    session = _Session(
        run=run,
        fabric=fabric,
        config=config,
        network=network,
        model=model,
        optimizer=optimizer,
        whole=whole,
        trained=part,
        held=held,
        part=done,
        parts=BatchParts(fabric),
        progress=progress,
        should_stop=should_stop,
    )
    return session, first_epoch


def _train(session: _Session, first_epoch: int) -> Run:
    """The epochs that are left."""
    run, fabric, config = session.run, session.fabric, session.config
    history = run.history.query("epoch < @first_epoch")
    for epoch in range(first_epoch, config.epochs + 1):
        part = session.part if epoch == first_epoch else None
        began = time.perf_counter() - (0.0 if part is None else part.seconds)
        session.model.train()
        losses, rates = _train_epoch(session, epoch, history, part)
        if losses.stopped:
            _keep_part(session, EpochPart(epoch=epoch, losses=losses.table(), seconds=time.perf_counter() - began))
            return run
        split_losses = {"train": losses.mean()}
        session.model.eval()
        if session.held.any():
            split_losses["test"] = held_out_loss(
                session.model,
                session.whole,
                session.held,
                fabric,
                beta=rates["beta"],
                points_per_chunk=chunk_size(config, fabric.device),
            )
        latents = encode_all(session.network, session.whole, fabric=fabric)
        history = with_epoch(history, epoch, split_losses, {**rates, "seconds": time.perf_counter() - began})
        written = {"latents": latents, "history": history}
        checkpoint = partial(write_checkpoint, run, epoch, model=session.network, optimizer=session.optimizer)
        on_first_process(fabric, partial(checkpoint, **written))
        _tell(session, epoch, len(losses), history)
    _write_status(run, "finished", epoch=config.epochs, epochs=config.epochs)
    return run


def _train_epoch(
    session: _Session, epoch: int, history: pd.DataFrame, part: EpochPart | None
) -> tuple[EpochLosses, dict[str, float]]:
    """One pass over the particles, or what is left of it: its losses, and the rates at its end."""
    fabric, config, z_dim = session.fabric, session.config, session.network.config.z_dim
    particles = session.trained.particles
    choices = sample_batches(
        particles,
        config.batch_size,
        tilts_per_particle=config.tilts_per_particle,
        tilt_sampling=config.tilt_sampling,
        generator=np.random.default_rng([config.seed, epoch]),
    )
    shares = [own_share(fabric, len(chosen)) for chosen, _ in choices]
    own = [(chosen[share], rows[share]) for (chosen, rows), share in zip(choices, shares, strict=True)]
    generator = torch.Generator(device=fabric.device).manual_seed(_noise_seed(config.seed, epoch))
    ids = [particles.particle_id[chosen] for chosen, _ in choices]
    losses = EpochLosses(fabric, ids, before=None if part is None else part.losses)
    noises = (
        draw_noise([len(r) for r in rows], z_dim, generator, share=share)
        for (_, rows), share in zip(choices, shares, strict=True)
    )
    first = len(losses)
    for _ in range(first):
        next(noises)  # of batches that were done before
    rates = rates_at((epoch - 1 + max(first - 1, 0) / len(choices)) / config.epochs, config, z_dim)
    for noise, batch in zip(noises, session.trained.batches(own[first:]), strict=True):
        rates = rates_at((epoch - 1 + len(losses) / len(choices)) / config.epochs, config, z_dim)
        session.optimizer.param_groups[0]["lr"] = rates["learning_rate"]
        session.optimizer.zero_grad(set_to_none=True)
        with fabric.no_backward_sync(session.model):
            losses.add(session.parts(training_step, session.model, batch, config, beta=rates["beta"], noise=noise))
        sum_gradients(fabric, session.network)
        session.optimizer.step()
        if len(losses) % max(1, len(choices) // 10) == 0 or len(losses) == len(choices):
            losses.check_finite(session.run, epoch)
        _tell(session, epoch, len(losses), history, batches=len(choices))
        if _must_stop(session, len(losses)):
            losses.check_finite(session.run, epoch)
            losses.stopped = True
            break
    return losses, rates


def _keep_part(session: _Session, part: EpochPart) -> None:
    """Write what is done of an epoch, and that the training was stopped."""
    run, n = session.run, len(part.losses)
    on_first_process(session.fabric, partial(write_part, run, part, model=session.network, optimizer=session.optimizer))
    _write_status(run, "stopped", epoch=part.epoch - 1, epochs=session.config.epochs, batch=n)


def _optimizer(network: TiltSeriesVae, config: TrainConfig) -> torch.optim.Optimizer:
    rate = full_learning_rate(config)
    return torch.optim.AdamW(network.parameters(), lr=rate, eps=1e-8, weight_decay=config.weight_decay)


def _noise_seed(seed: int, epoch: int) -> int:
    """One number of two, the same on every machine and for every version of Python."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _tell(session: _Session, epoch: int, batch: int, history: pd.DataFrame, *, batches: int | None = None) -> None:
    """Tell watchers of a batch, or of a finished epoch (without `batches`)."""
    if not session.fabric.is_global_zero:
        return
    if batches is not None and (batch == 1 or batch % max(1, batches // 10) == 0):
        session.run.write_status("running", epoch=epoch - 1, epochs=session.config.epochs, batch=batch, batches=batches)
    if session.progress is not None:
        session.progress(
            TrainProgress(
                epoch=epoch, epochs=session.config.epochs, batch=batch, batches=batches or batch, history=history
            )
        )


def _must_stop(session: _Session, batch: int) -> bool:
    """Whether any process is asked to stop; many of them agree on it now and then only."""
    if session.should_stop is None or (session.fabric.world_size > 1 and batch % STOP_INTERVAL):
        return False
    return bool(sum_over_processes(session.fabric, torch.tensor(float(session.should_stop()))))


def _write_status(run: Run, state: str, **details: object) -> None:
    if is_first_process():
        run.write_status(state, **details)
