"""Losses of an epoch: gathered on the device, checked, and summed up for the history."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
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
    """

    def __init__(self, fabric: Fabric, particles: list[np.ndarray]) -> None:
        self.fabric, self.particles = fabric, particles
        self._losses: list[StepLoss] = []

    def __len__(self) -> int:
        return len(self._losses)

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
        finite = self._table()[:, NAMES.index("total")].isfinite()
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
        table = self._table().cpu().double()
        weights = torch.tensor([len(ids) for ids in self.particles], dtype=torch.float64)
        mean = (table * weights[:, None]).sum(dim=0) / weights.sum()
        return dict(zip(NAMES, mean.tolist(), strict=True))

    def _table(self) -> Tensor:
        """Losses of the whole batches, (batches, names)."""
        rows = [torch.stack([getattr(loss, name) for name in NAMES]) for loss in self._losses]
        return sum_over_processes(self.fabric, torch.stack(rows))


def with_epoch(
    history: pd.DataFrame, epoch: int, split_losses: dict[str, dict[str, float]], shared: dict[str, float]
) -> pd.DataFrame:
    """A history with the rows of one more epoch: one for each split of the tilts."""
    rows = [{"epoch": epoch, "split": split, **losses, **shared} for split, losses in split_losses.items()]
    return pd.concat([history, pd.DataFrame(rows)])
