"""Tilts that are never trained on, and how well the model predicts them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from lightning_fabric import Fabric

from tomodrgn.config import TrainConfig
from tomodrgn.model.loss import kl_divergence, weighted_squared_error
from tomodrgn.particles.dataset import sample_batches
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor
from tomodrgn.training.devices import own_share, sum_over_processes

__all__ = ["held_out_loss", "held_out_tilts", "trained_tilts"]

BATCH_PARTICLES = 16


def held_out_tilts(particles: ParticleSet, fraction: float, seed: int) -> Bool[np.ndarray, " n"]:
    """For each image whether it is held out: this share of each particle's tilts, rounded down, at random.

    Of a fraction above 0 it is at least one tilt of each particle that has two or more, and a particle keeps at least
    one. The choice depends on the seed and on the tilt counts alone.
    """
    generator = np.random.default_rng([seed, 0x7E57])
    held = np.zeros(particles.n_images, dtype=bool)
    for first, count in zip(particles.offsets[:-1], particles.tilt_counts, strict=True):
        fewest = int(fraction > 0 and count > 1)
        held[first + generator.permutation(count)[: max(fewest, int(fraction * count))]] = True
    return held


def trained_tilts(particles: ParticleSet, config: TrainConfig) -> tuple[ParticleSet, Bool[np.ndarray, " n"]]:
    """The particles without their held-out tilts, and which of all images these are."""
    held = held_out_tilts(particles, config.held_out_fraction, config.seed)
    return (particles.subset_images(~held) if held.any() else particles), held


@torch.no_grad()
def held_out_loss(
    model: Any,
    preprocessor: Preprocessor,
    held: Bool[np.ndarray, " n"],
    fabric: Fabric,
    *,
    beta: float,
    points_per_chunk: int,
) -> dict[str, float]:
    """Mean losses of the held-out tilts, under the latent means that the other tilts give.

    Parameters
    ----------
    model
        A TiltSeriesVae, or Fabric's wrapper of one.
    preprocessor
        Of all images.
    held
        Of `held_out_tilts`.
    fabric
        Its processes share the particles.
    """
    particles = preprocessor.particles
    chosen = torch.from_numpy(held).to(preprocessor.device)
    error, norm, divergence, n_points = sums = torch.zeros(4, device=preprocessor.device).unbind()
    choices = sample_batches(particles, BATCH_PARTICLES)
    for batch in preprocessor.batches(choices[own_share(fabric, len(choices))]):
        own = chosen[batch.image_rows]
        mean, log_variance = model.encode(batch.take_images(~own))
        points = batch.take_images(own).points()
        for chunk in points.split(points_per_chunk):
            error += weighted_squared_error(model.decode(chunk.coordinates, chunk.owner, mean.float()).float(), chunk)
        norm += points.weights.sum()
        n_points += len(points)
        divergence += kl_divergence(mean.float(), log_variance.float()).sum()
    error, norm, divergence, n_points = sum_over_processes(fabric, torch.stack(sums)).double().unbind()
    reconstruction, kl = float(error / norm), float(divergence / n_points)
    return {"reconstruction": reconstruction, "kl": kl, "total": reconstruction + beta * kl}
