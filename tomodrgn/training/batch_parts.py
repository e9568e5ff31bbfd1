"""A batch that does not fit into memory, taken in parts whose gradients add up to those of the whole."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from tomodrgn.config import TrainConfig
from tomodrgn.particles.preprocess import FourierBatch
from tomodrgn.training.step import StepLoss, StepNoise, split_tilts, splits_tilts

__all__ = ["BatchParts"]

logger = logging.getLogger(__name__)
WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


class BatchParts:
    """Takes training steps; where memory does not suffice, with halves of the batch, from then on.

    Parameters
    ----------
    fabric
        The device. Of several processes none can halve its share alone: there the error is raised as it is.

    Attributes
    ----------
    parts
        Number of parts that each batch is taken in.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric, self.parts = fabric, 1

    def __call__(
        self,
        step: Callable[..., StepLoss],
        model: Any,
        batch: FourierBatch,
        config: TrainConfig,
        *,
        beta: float,
        noise: StepNoise,
    ) -> StepLoss:
        """Losses and gradients of a batch, as of `step`, which is `training_step`.

        Raises
        ------
        MemoryError
            If a single particle does not fit.
        """
        while True:
            try:
                return self._step(step, model, batch, config, beta=beta, noise=noise)
            except (MemoryError, RuntimeError) as error:
                if not _is_of_memory(error) or self._fabric.world_size > 1:
                    raise
                told = str(error).splitlines()[0] if str(error) else type(error).__name__
            # Outside of the handler, which keeps the tensors of the failed step alive.
            self._halve(model, batch.n_particles, told)

    def _halve(self, model: Any, n_particles: int, told: str) -> None:
        if self.parts >= n_particles:
            raise MemoryError(
                f"Got no memory for a batch of one particle ({told}), expected room for it. Choose a smaller "
                "points_per_chunk (--points-per-chunk), box (--box) or network."
            )
        model.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.parts = min(2 * self.parts, n_particles)
        logger.warning(
            "Got no memory for a whole batch (%s): batches are taken in %s parts from now on, to the same result. "
            "A smaller batch_size (--batch-size) or points_per_chunk is faster.", told, self.parts,
        )  # fmt: skip

    def _step(
        self,
        step: Callable[..., StepLoss],
        model: Any,
        batch: FourierBatch,
        config: TrainConfig,
        *,
        beta: float,
        noise: StepNoise,
    ) -> StepLoss:
        if self.parts == 1 or batch.n_particles < 2:
            return step(self._fabric, model, batch, config, beta=beta, noise=noise)
        edges = torch.linspace(0, batch.n_particles, min(self.parts, batch.n_particles) + 1).round().int().tolist()
        shares = [slice(first, last) for first, last in pairwise(edges)]
        parts = [(batch.take_particles(share), _noise_of(batch, noise, share)) for share in shares]
        norms = torch.stack([_norms(part, config, model, own) for part, own in parts]).sum(dim=0)
        losses = [step(self._fabric, model, part, config, beta=beta, noise=own, norms=norms) for part, own in parts]
        return StepLoss(
            **{
                name: torch.stack([getattr(loss, name) for loss in losses]).sum()
                for name in ("reconstruction", "kl", "total")
            }
        )


def _is_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in words for part in WORDS)


def _noise_of(batch: FourierBatch, noise: StepNoise, share: slice) -> StepNoise:
    inside = (batch.owner >= share.start) & (batch.owner < share.stop)
    return StepNoise(tilts=noise.tilts[inside], latents=noise.latents[share])


def _norms(batch: FourierBatch, config: TrainConfig, model: Any, noise: StepNoise) -> Tensor:
    """Sum of the weights and number of the points that a batch is judged by."""
    decoded = split_tilts(batch, noise.tilts)[1] if splits_tilts(config, model.config) else batch
    weights = decoded.loss_weights
    return torch.stack([weights.sum(), (weights > 0).sum().float()])
