"""Losses of an epoch: gathered on the device, checked, and summed up for the history."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32
from lightning_fabric import Fabric
from torch import Tensor

from tomodrgn.training.devices import sum_over_processes
from tomodrgn.training.run import Run
from tomodrgn.training.step import StepLoss

__all__ = ["EpochLosses", "with_epoch"]

NAMES = ("reconstruction", "kl", "total")


class EpochLosses:
    """Losses of the batches of one epoch so far, in order.

    Parameters
    ----------
    fabric
        Of this process; losses are of its share of each batch.
    particles
        For each batch of the epoch the ids of its particles, of all processes.
    before
        Losses of the first batches, of all processes, if they were computed by a training that was stopped.

    Attributes
    ----------
    stopped
        Whether the epoch was ended before its last batch.
    """

    def __init__(
        self, fabric: Fabric, particles: list[np.ndarray], before: Float32[Tensor, "n 3"] | None = None
    ) -> None:
        self.fabric, self.particles = fabric, particles
        self._before = torch.zeros(0, len(NAMES)) if before is None else before
        self._losses: list[StepLoss] = []
        self.stopped = False

    def __len__(self) -> int:
        return len(self._before) + len(self._losses)

    def add(self, loss: StepLoss) -> None:
        """The losses of the next batch."""
        self._losses.append(loss)

    def check_finite(self, run: Run, epoch: int) -> None:
        """Stop at the first batch whose loss is not finite.

        Raises
        ------
        FloatingPointError
            It names the particles of that batch and the last good checkpoint.
        """
        finite = self.table()[:, NAMES.index("total")].isfinite()
        if finite.all():
            return
        last = max(run.epochs, default=0)
        good = f"The last good checkpoint is {run.epoch_folder(last)}" if last else "No epoch was finished"
        raise FloatingPointError(
            f"Got a loss that is not finite in epoch {epoch}, first in the batch of particles "
            f"{', '.join(self.particles[int((~finite).nonzero()[0])])}. Look at their images and leave out what is "
            f"damaged, or start another run with a lower learning rate (--learning-rate). {good}."
        )

    def mean(self) -> dict[str, float]:
        """Mean losses over batches, weighted by their numbers of particles."""
        table = self.table().cpu().double()
        weights = torch.tensor([len(ids) for ids in self.particles], dtype=torch.float64)
        mean = (table * weights[:, None]).sum(dim=0) / weights.sum()
        return dict(zip(NAMES, mean.tolist(), strict=True))

    def table(self) -> Float32[Tensor, "n 3"]:
        """Losses of the whole batches: reconstruction, kl, total; all processes must ask for it together."""
        before = self._before.to(self.fabric.device)
        if not self._losses:
            return before
        rows = [torch.stack([getattr(loss, name) for name in NAMES]) for loss in self._losses]
        return torch.cat([before, sum_over_processes(self.fabric, torch.stack(rows))])


def with_epoch(
    history: pd.DataFrame, epoch: int, split_losses: dict[str, dict[str, float]], shared: dict[str, float]
) -> pd.DataFrame:
    """A history with the rows of one more epoch: one for each split of the tilts."""
    rows = [{"epoch": epoch, "split": split, **losses, **shared} for split, losses in split_losses.items()]
    return pd.concat([history, pd.DataFrame(rows)])
