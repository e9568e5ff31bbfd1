"""One batch: losses and gradients, in pieces that fit the processor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from tomodrgn.config import TrainConfig, VaeConfig
from tomodrgn.model.loss import kl_divergence, weighted_squared_error
from tomodrgn.particles.preprocess import FourierBatch

__all__ = ["StepLoss", "beta", "chunk_size", "learning_rate", "split_tilts", "splits_tilts", "training_step"]


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """Losses of one batch, detached, on the device."""

    reconstruction: Tensor
    kl: Tensor
    total: Tensor


def training_step(
    fabric: Fabric, model: Any, batch: FourierBatch, config: TrainConfig, *, noise: torch.Generator
) -> StepLoss:
    """Losses and gradients of one batch.

    By default the latent comes from a random half of a particle's tilts and is judged by the other half.
    Points are decoded and differentiated in chunks, so that memory does not grow with the batch and activations stay
    in the processor's cache; the gradient of the latent is gathered over the chunks and then sent through the encoder
    once. `model` is a TiltSeriesVae, or Fabric's wrapper of one.
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
    """Given weight of the KL divergence, or 0.1 / z_dim."""
    return config.beta if config.beta is not None else 0.1 / max(z_dim, 1)


def chunk_size(config: TrainConfig, device: torch.device) -> int:
    """Number of points decoded at once."""
    return config.points_per_chunk or (2048 if device.type == "cpu" else 524_288)
