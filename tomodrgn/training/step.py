"""One batch: losses and gradients, in pieces that fit the processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float32
from lightning_fabric import Fabric
from torch import Tensor

from tomodrgn.config import TrainConfig, VaeConfig
from tomodrgn.model.loss import kl_divergence, weighted_squared_error
from tomodrgn.particles.preprocess import FourierBatch
from tomodrgn.training.devices import sum_over_processes

__all__ = ["StepLoss", "StepNoise", "chunk_size", "draw_noise", "split_tilts", "splits_tilts", "training_step"]


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """Losses of one batch, detached, on the device."""

    reconstruction: Tensor
    kl: Tensor
    total: Tensor


@dataclass(frozen=True, kw_only=True)
class StepNoise:
    """What is random in a step: drawn for the whole batch, whatever share of it a process has."""

    tilts: Float32[Tensor, " i"]
    """Uniform, one number an image: which half it is in."""
    latents: Float32[Tensor, "b z"]
    """Standard normal."""


def draw_noise(
    tilt_counts: list[int], z_dim: int, generator: torch.Generator, *, share: slice = slice(None)
) -> StepNoise:
    """Noise of a batch, or of some of its particles, on the generator's device.

    Parameters
    ----------
    tilt_counts
        Number of images of each particle of the batch.
    share
        Particles whose noise is wanted; that of the others is drawn as well, so that it does not depend on the share.
    """
    options: dict[str, Any] = {"generator": generator, "device": generator.device}
    tilts = torch.rand(sum(tilt_counts), **options).split(tilt_counts)[share]
    latents = torch.randn(len(tilt_counts), z_dim, **options)[share]
    return StepNoise(tilts=torch.cat([latents.new_empty(0), *tilts]), latents=latents)


def training_step(
    fabric: Fabric,
    model: Any,
    batch: FourierBatch,
    config: TrainConfig,
    *,
    beta: float,
    noise: StepNoise,
    norms: Tensor | None = None,
) -> StepLoss:
    """Losses and gradients of one batch, or of the share of it that this process has.

    A share's losses and gradients are to be summed over all processes: they are divided by what the whole batch holds.

    By default the latent comes from a random half of a particle's tilts and is judged by the other half.
    Points are decoded and differentiated in chunks, so that memory does not grow with the batch and activations stay
    in the processor's cache; the gradient of the latent is gathered over the chunks and then sent through the encoder
    once. `model` is a TiltSeriesVae, or Fabric's wrapper of one.

    With a `kl_target` C the KL term is ``beta |KL - C|`` of each particle (Burgess et al. 2018, arXiv 1804.03599,
    equation 8).

    Parameters
    ----------
    norms
        Sum of the weights and number of the points of the whole batch, where `batch` is a part of it; None: its own.
    """
    if not batch.n_particles:
        sum_over_processes(fabric, torch.zeros(2, device=fabric.device))
        return StepLoss(**{name: torch.zeros((), device=fabric.device) for name in ("reconstruction", "kl", "total")})
    encoded, decoded = split_tilts(batch, noise.tilts) if splits_tilts(config, model.config) else (batch, batch)
    points = decoded.points()
    mean, log_variance = model.encode(encoded)
    mean, log_variance = mean.float(), log_variance.float()
    z = mean + noise.latents * torch.exp(0.5 * log_variance)
    z_leaf = z.detach().requires_grad_()
    if norms is None:
        weight, n_points = points.weights.sum(), torch.tensor(float(len(points)), device=z.device)
        norms = sum_over_processes(fabric, torch.stack([weight, n_points]))
    norm, n_points = norms.unbind()
    reconstruction = torch.zeros((), device=z.device)
    for chunk in points.split(chunk_size(config, z.device)):
        error = weighted_squared_error(model.decode(chunk.coordinates, chunk.owner, z_leaf).float(), chunk) / norm
        fabric.backward(error)
        reconstruction += error.detach()
    # The reconstruction is a mean over kept frequencies, so the divergence is spread over as many.
    divergences = kl_divergence(mean, log_variance)
    penalty = divergences if config.kl_target is None else (divergences - config.kl_target).abs()
    penalty = beta * penalty.sum() / n_points
    if z_leaf.grad is not None and z.requires_grad:
        fabric.backward((z * z_leaf.grad).sum() + penalty)
    divergence = divergences.detach().sum() / n_points
    return StepLoss(reconstruction=reconstruction, kl=divergence, total=reconstruction + penalty.detach())


def splits_tilts(config: TrainConfig, model: VaeConfig) -> bool:
    """Whether the tilts that are encoded and those that are reconstructed are different ones."""
    return config.split_tilts and model.z_dim > 0


def split_tilts(batch: FourierBatch, draws: Float32[Tensor, " i"]) -> tuple[FourierBatch, FourierBatch]:
    """Two random halves of each particle's tilts; a single tilt is in both.

    Parameters
    ----------
    draws
        Uniform random numbers from 0 to 1, one an image.
    """
    n = len(batch.owner)
    order = torch.argsort(batch.owner + 0.999 * draws)
    # Images of a particle lie together, so every other one of the shuffled list is half of each particle's.
    count = torch.bincount(batch.owner, minlength=batch.n_particles)
    start = torch.cumsum(count, 0) - count
    rank = torch.empty_like(order)
    rank[order] = torch.arange(n, device=order.device)
    first = (rank - start[batch.owner]) % 2 == 0
    return batch.take_images(first), batch.take_images(~first | (count[batch.owner] == 1))


def chunk_size(config: TrainConfig, device: torch.device) -> int:
    """Number of points decoded at once."""
    return config.points_per_chunk or (2048 if device.type == "cpu" else 524_288)
