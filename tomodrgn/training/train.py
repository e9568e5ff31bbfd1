"""The epoch loop, flat and in time order; checkpoint, resume, stop."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor

from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.io.atomic import replacing
from tomodrgn.model.loss import kl_divergence, weighted_squared_error
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import FourierBatch, Preprocessor, estimate_scale
from tomodrgn.training.embed import build_model, encode_all
from tomodrgn.training.run import Run

__all__ = ["StepLoss", "TrainProgress", "train", "training_step"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainProgress:
    """How far a training has come; given to the progress callback after every batch."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    history: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """Losses of one batch, detached, on the device."""

    reconstruction: Tensor
    kl: Tensor
    total: Tensor


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
        The data set.
    run
        Folder of the run (see `tomodrgn.training.run`).
    model, preprocess, training
        Options; a resumed run keeps those it was started with, but for `epochs`, which may be raised.
    resume
        Go on after the last finished epoch of an existing run.
    overwrite
        Replace an existing run.
    progress
        Called after every batch.
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
    else:
        opened = _created(
            run, particles, model or VaeConfig(), preprocess or PreprocessConfig(), training, overwrite=overwrite
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
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate(config), eps=1e-4)
    first_epoch = _restore(run, network, optimizer) + 1
    model, optimizer = fabric.setup(network, optimizer)
    for method in ("encode", "decode"):
        model.mark_forward_method(method)
    preprocessor = Preprocessor(particles, run.preprocess_config, scale=run.settings["scale"], device=fabric.device)
    dataset = TiltDataset(particles)
    history = run.history.query("epoch < @first_epoch")

    for epoch in range(first_epoch, config.epochs + 1):
        began = time.perf_counter()
        choices = sample_batches(
            particles,
            config.batch_size,
            tilts_per_particle=config.tilts_per_particle,
            generator=np.random.default_rng([config.seed, epoch]),
        )
        noise = torch.Generator(device=fabric.device).manual_seed(hash((config.seed, epoch)) & 0x7FFFFFFF)
        losses: list[StepLoss] = []
        model.train()
        for raw in dataset.batches(choices):
            optimizer.zero_grad(set_to_none=True)
            loss = training_step(fabric, model, preprocessor(raw), config, noise=noise)
            optimizer.step()
            losses.append(loss)
            _tell(run, epoch, len(losses), len(choices), history, progress)
            if should_stop is not None and should_stop():
                run.write_status("stopped", epoch=epoch - 1)
                return run
        row = _summary(losses, choices, particles, epoch, run)
        model.eval()
        latents = encode_all(network, preprocessor, tilts_per_particle=config.tilts_per_particle)
        history = pd.concat([history, pd.DataFrame([{**row, "seconds": time.perf_counter() - began}])])
        _checkpoint(run, epoch, network, optimizer, latents, history)
    run.write_status("finished", epoch=config.epochs, epochs=config.epochs)
    return run


def training_step(
    fabric: Fabric, model: TiltSeriesVae, batch: FourierBatch, config: TrainConfig, *, noise: torch.Generator
) -> StepLoss:
    """Losses and gradients of one batch.

    By default the latent comes from a random half of a particle's tilts and is judged by the other half.
    Points are decoded and differentiated in chunks, so that memory does not grow with the batch and activations stay
    in the processor's cache; the gradient of the latent is gathered over the chunks and then sent through the encoder
    once.
    """
    encoded, decoded = split_tilts(batch, noise) if splits_tilts(config, model.config) else (batch, batch)
    points = decoded.points()
    mean, log_variance = model.encode(encoded)
    mean, log_variance = mean.float(), log_variance.float()
    z = mean + torch.randn(mean.shape, generator=noise, device=mean.device) * torch.exp(0.5 * log_variance)
    z_leaf = z.detach().requires_grad_()
    norm = points.weights.sum()
    reconstruction = torch.zeros((), device=z.device)
    for chunk in points.split(chunk_size(config, z.device)):
        error = weighted_squared_error(model.decode(chunk.coordinates, chunk.owner, z_leaf).float(), chunk) / norm
        fabric.backward(error)
        reconstruction += error.detach()
    # The reconstruction is a mean over kept frequencies, so the divergence is spread over as many.
    divergence = kl_divergence(mean, log_variance).sum() / len(points)
    if z_leaf.grad is not None and z.requires_grad:
        fabric.backward((z * z_leaf.grad).sum() + beta(config, z.shape[1]) * divergence)
    divergence = divergence.detach()
    return StepLoss(
        reconstruction=reconstruction, kl=divergence, total=reconstruction + beta(config, z.shape[1]) * divergence
    )


def splits_tilts(config: TrainConfig, model: VaeConfig) -> bool:
    """Whether the tilts that are encoded and those that are reconstructed are different ones."""
    return config.split_tilts and model.z_dim > 0 and model.pooling != "concatenate"


def split_tilts(batch: FourierBatch, generator: torch.Generator) -> tuple[FourierBatch, FourierBatch]:
    """Two random halves of each particle's tilts; a single tilt is in both."""
    n = len(batch.owner)
    order = torch.argsort(batch.owner + 0.999 * torch.rand(n, generator=generator, device=batch.owner.device))
    # Images of a particle lie together, so every other one of the shuffled list is half of each particle's.
    count = torch.bincount(batch.owner, minlength=batch.n_particles)
    start = torch.cumsum(count, 0) - count
    rank = torch.empty_like(order)
    rank[order] = torch.arange(n, device=order.device)
    first = (rank - start[batch.owner]) % 2 == 0
    return batch.take_images(first), batch.take_images(~first | (count[batch.owner] == 1))


def learning_rate(config: TrainConfig) -> float:
    """Given learning rate, or 6e-4 times the square root of the batch size."""
    return config.learning_rate if config.learning_rate is not None else 6e-4 * math.sqrt(config.batch_size)


def beta(config: TrainConfig, z_dim: int) -> float:
    """Given weight of the KL divergence, or 1 / z_dim."""
    return config.beta if config.beta is not None else 1.0 / max(z_dim, 1)


def chunk_size(config: TrainConfig, device: torch.device) -> int:
    """Number of points decoded at once."""
    return config.points_per_chunk or (2048 if device.type == "cpu" else 524_288)


def _precision(config: TrainConfig) -> str:
    if config.precision != "auto":
        return config.precision
    cuda = torch.cuda.is_available() and config.accelerator != "cpu"
    return "bf16-mixed" if cuda else "32-true"


def _created(
    folder: Path | str,
    particles: ParticleSet,
    model: VaeConfig,
    preprocess: PreprocessConfig,
    training: TrainConfig,
    *,
    overwrite: bool,
) -> Run:
    counts = np.unique(particles.tilt_counts)
    if training.tilts_per_particle is not None:
        counts = np.unique(np.minimum(counts, training.tilts_per_particle))
    if model.pooling == "concatenate" and model.z_dim and len(counts) != 1:
        raise ValueError(
            f"Got particles with {counts.min()} to {counts.max()} tilts, expected one count for pooling 'concatenate'. "
            f"Set tilts_per_particle to {counts.min()} or less, or use pooling 'mean' or 'max'."
        )
    scale = estimate_scale(particles, preprocess, seed=training.seed)
    return Run.create(
        folder,
        particles,
        model=model,
        preprocess=preprocess,
        training=training,
        scale=scale,
        n_tilts=int(counts.max()),
        overwrite=overwrite,
    )


def _resumed(run: Run, particles: ParticleSet, training: TrainConfig) -> Run:
    if not np.array_equal(run.particles.particle_id, particles.particle_id):
        raise ValueError(
            f"Got {len(particles)} particles of {particles.source.path}, expected the {len(run.particles)} of run "
            f"{run.folder}. Resume with the particles the run was started with, or start another run."
        )
    kept = run.train_config.model_copy(update={"epochs": max(training.epochs, run.train_config.epochs)})
    return run.with_training(kept)


def _restore(run: Run, model: TiltSeriesVae, optimizer: torch.optim.Optimizer) -> int:
    """Load the newest complete epoch; its number, or 0."""
    for path in sorted((run.folder / "training_state").glob("*.pt"), reverse=True):
        epoch = int(path.stem)
        if epoch in run.epochs:
            model.load_state_dict(load_file(run.epoch_folder(epoch) / "weights.safetensors"))
            optimizer.load_state_dict(torch.load(path, weights_only=True))
            return epoch
    return 0


def _checkpoint(
    run: Run, epoch: int, model: TiltSeriesVae, optimizer: torch.optim.Optimizer, latents: Latents, history: pd.DataFrame
) -> None:
    """Write an epoch whole, then the optimiser, then the history; older optimiser states go last."""
    temporary = run.folder / "epochs" / f".{epoch:04d}"
    final = run.folder / "epochs" / f"{epoch:04d}"
    for path in (temporary, final):
        shutil.rmtree(path, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({k: v.contiguous().cpu() for k, v in model.state_dict().items()}, temporary / "weights.safetensors")
    latents.save(temporary / "latents.npz")
    temporary.rename(final)
    state = run.folder / "training_state" / f"{epoch:04d}.pt"
    with replacing(state) as path:
        torch.save(optimizer.state_dict(), path)
    run.write_history(history)
    for old in state.parent.glob("*.pt"):
        if old != state:
            old.unlink()


def _summary(
    losses: list[StepLoss], choices: list, particles: ParticleSet, epoch: int, run: Run
) -> dict[str, object]:
    """Mean losses of an epoch as a row of the history, over batches weighted by their particles."""
    table = torch.stack([torch.stack([loss.reconstruction, loss.kl, loss.total]) for loss in losses]).cpu().double()
    finite = table.isfinite().all(dim=1)
    if not finite.all():
        bad = int((~finite).nonzero()[0])
        names = particles.particle_id[choices[bad][0]]
        raise FloatingPointError(
            f"Got a loss that is not finite in epoch {epoch}, first in the batch of particles {', '.join(names)}. "
            "Look at their images, or lower the learning rate; the last finished epoch is intact (--resume)."
        )
    sizes = torch.tensor([len(choice[0]) for choice in choices], dtype=torch.float64)
    mean = (table * sizes[:, None]).sum(dim=0) / sizes.sum()
    values = dict(zip(("reconstruction", "kl", "total"), mean.tolist(), strict=True))
    config = run.train_config
    rates = {"beta": beta(config, run.model_config.z_dim), "learning_rate": learning_rate(config)}
    return {"epoch": epoch, "split": "train", **values, **rates}


def _tell(
    run: Run,
    epoch: int,
    batch: int,
    batches: int,
    history: pd.DataFrame,
    progress: Callable[[TrainProgress], None] | None,
) -> None:
    epochs = run.train_config.epochs
    if batch == 1 or batch % max(1, batches // 10) == 0:
        run.write_status("running", epoch=epoch - 1, epochs=epochs, batch=batch, batches=batches)
    if progress is not None:
        progress(TrainProgress(epoch=epoch, epochs=epochs, batch=batch, batches=batches, history=history))


def _last_epoch(run: Run) -> int:
    return max(run.epochs, default=0)
