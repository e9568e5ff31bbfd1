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
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor
from tomodrgn.training.checkpoint import restore_checkpoint, write_checkpoint
from tomodrgn.training.devices import default_device
from tomodrgn.training.embed import build_model, encode_all, particles_at_box
from tomodrgn.training.held_out import held_out_loss, trained_tilts
from tomodrgn.training.lock import hold_run
from tomodrgn.training.new_run import create_run
from tomodrgn.training.resume import check_same_particles, resumed_options
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
        The data set; a resumed run takes the same, and crops its images to the box it was started with.
    run
        Folder of the run (see `tomodrgn.training.run`).
    model, preprocess, training
        Options; a resumed run keeps those it was started with, but for `epochs`, which may be raised, and where it
        is computed (`accelerator`, `devices`, `points_per_chunk`).
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
    BlockingIOError
        If another process trains in that folder.
    ValueError
        If a run is resumed with other images or other options than it was started with (each is named), or CUDA is
        asked for where there is none.
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
    default_device(training.accelerator)
    with hold_run(run):
        if resume:
            opened = Run.open(run).with_training(training)
            particles = particles_at_box(opened, particles)
        else:
            opened = create_run(
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
    adam = _optimizer(network, config)
    model, optimizer = fabric.setup(network, adam)
    # After the network has moved to its device, to which the optimiser's state must go.
    first_epoch = restore_checkpoint(run, network, adam) + 1
    for method in ("encode", "decode"):
        model.mark_forward_method(method)
    trained, held = trained_tilts(particles, config)
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
            if state.batch % max(1, state.batches // 10) == 0 or state.batch == state.batches:
                _check_finite(run, losses, [trained.particle_id[chosen] for chosen, _ in choices], epoch)
            _tell(run, state, progress)
            if should_stop is not None and should_stop():
                run.write_status("stopped", epoch=epoch - 1)
                return run
        split_losses = {"train": _mean_losses(losses, [len(chosen) for chosen, _ in choices])}
        model.eval()
        if held.any():
            split_losses["test"] = held_out_loss(
                model, whole, held, beta=rates["beta"], points_per_chunk=chunk_size(config, fabric.device)
            )
        latents = encode_all(network, whole)
        shared = {**rates, "seconds": time.perf_counter() - began}
        history = _with_epoch(history, epoch, split_losses, shared)
        write_checkpoint(run, epoch, model=network, optimizer=optimizer, latents=latents, history=history)
        if progress is not None:
            progress(replace(state, history=history))
    run.write_status("finished", epoch=config.epochs, epochs=config.epochs)
    return run


def _optimizer(network: TiltSeriesVae, config: TrainConfig) -> torch.optim.Optimizer:
    rate = full_learning_rate(config)
    return torch.optim.AdamW(network.parameters(), lr=rate, eps=1e-8, weight_decay=config.weight_decay)


def _noise_seed(seed: int, epoch: int) -> int:
    """One number of two, the same on every machine and for every version of Python."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _precision(config: TrainConfig) -> Literal["32-true", "bf16-mixed"]:
    if config.precision != "auto":
        return config.precision
    cuda = torch.cuda.is_available() and config.accelerator != "cpu"
    return "bf16-mixed" if cuda else "32-true"


def _check_finite(run: Run, losses: list[StepLoss], names: list[np.ndarray], epoch: int) -> None:
    """Stop at the first batch whose loss is not finite; batches are given by their particle ids."""
    finite = torch.stack([loss.total for loss in losses]).isfinite()
    if finite.all():
        return
    last = _last_epoch(run)
    good = f"The last good checkpoint is {run.epoch_folder(last)}" if last else "No epoch was finished"
    raise FloatingPointError(
        f"Got a loss that is not finite in epoch {epoch}, first in the batch of particles "
        f"{', '.join(names[int((~finite).nonzero()[0])])}. Look at their images and leave out what is damaged, or "
        f"start another run with a lower learning rate (--learning-rate). {good}."
    )


def _mean_losses(losses: list[StepLoss], sizes: list[int]) -> dict[str, float]:
    """Mean losses of an epoch over batches, weighted by their numbers of particles."""
    table = torch.stack([torch.stack([loss.reconstruction, loss.kl, loss.total]) for loss in losses]).cpu().double()
    weights = torch.tensor(sizes, dtype=torch.float64)
    mean = (table * weights[:, None]).sum(dim=0) / weights.sum()
    return dict(zip(("reconstruction", "kl", "total"), mean.tolist(), strict=True))


def _with_epoch(
    history: pd.DataFrame, epoch: int, split_losses: dict[str, dict[str, float]], shared: dict[str, float]
) -> pd.DataFrame:
    rows = [{"epoch": epoch, "split": split, **losses, **shared} for split, losses in split_losses.items()]
    return pd.concat([history, pd.DataFrame(rows)])


def _tell(run: Run, state: TrainProgress, progress: Callable[[TrainProgress], None] | None) -> None:
    if state.batch == 1 or state.batch % max(1, state.batches // 10) == 0:
        run.write_status(
            "running", epoch=state.epoch - 1, epochs=state.epochs, batch=state.batch, batches=state.batches
        )
    if progress is not None:
        progress(state)


def _last_epoch(run: Run) -> int:
    return max(run.epochs, default=0)
