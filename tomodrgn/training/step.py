"""One batch: losses and gradients, in pieces that fit the processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from tomodrgn.config import TrainConfig, VaeConfig
from tomodrgn.model.loss import kl_divergence, weighted_squared_error
from tomodrgn.particles.preprocess import FourierBatch

__all__ = ["StepLoss", "chunk_size", "split_tilts", "splits_tilts", "training_step"]


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """Losses of one batch, detached, on the device."""

    reconstruction: Tensor
    kl: Tensor
    total: Tensor


def training_step(
    fabric: Fabric, model: Any, batch: FourierBatch, config: TrainConfig, *, beta: float, noise: torch.Generator
) -> StepLoss:
    """Losses and gradients of one batch.

    By default the latent comes from a random half of a particle's tilts and is judged by the other half.
    Points are decoded and differentiated in chunks, so that memory does not grow with the batch and activations stay
    in the processor's cache; the gradient of the latent is gathered over the chunks and then sent through the encoder
    once. `model` is a TiltSeriesVae, or Fabric's wrapper of one.

    With a `kl_target` C the KL term is ``beta |KL - C|`` of each particle (Burgess et al. 2018, arXiv 1804.03599,
    equation 8).
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
    divergences = kl_divergence(mean, log_variance)
    penalty = divergences if config.kl_target is None else (divergences - config.kl_target).abs()
    penalty = beta * penalty.sum() / len(points)
    if z_leaf.grad is not None and z.requires_grad:
        fabric.backward((z * z_leaf.grad).sum() + penalty)
    divergence = divergences.detach().sum() / len(points)
    return StepLoss(reconstruction=reconstruction, kl=divergence, total=reconstruction + penalty.detach())


def splits_tilts(config: TrainConfig, model: VaeConfig) -> bool:
    """Whether the tilts that are encoded and those that are reconstructed are different ones."""
    return config.split_tilts and model.z_dim > 0


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


def chunk_size(config: TrainConfig, device: torch.device) -> int:
    """Number of points decoded at once."""
    return config.points_per_chunk or (2048 if device.type == "cpu" else 524_288)
