"""How fast a training goes, and how long it still takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

__all__ = ["Pace", "duration_text", "training_pace"]

RECENT_EPOCHS = 5


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Speed of a training; None where nothing is known yet.

    Parameters
    ----------
    epoch_seconds
        Of one epoch: training, held-out tilts, latents of all particles.
    particles_per_second
        Number of particles a second.
    seconds_left
        To the end of the last epoch.
    """

    epoch_seconds: float | None = None
    particles_per_second: float | None = None
    seconds_left: float | None = None


def training_pace(
    history: pd.DataFrame, status: Mapping[str, Any], earlier: Mapping[str, Any], n_particles: int
) -> Pace:
    """The pace by the last epochs; in the first epoch by its batches.

    Parameters
    ----------
    history
        As of `Run.history`.
    status
        As of `Run.status`.
    earlier
        What `status` was when this epoch was first seen; empty if it was not.
    n_particles
        Number of particles of an epoch.

    Examples
    --------
    >>> history = pd.DataFrame({"epoch": [1, 2], "split": "train", "seconds": [12.0, 8.0]})
    >>> status = {"epoch": 2, "epochs": 5, "batch": 5, "batches": 10}
    >>> training_pace(history, status, {}, n_particles=100)
    Pace(epoch_seconds=10.0, particles_per_second=10.0, seconds_left=25.0)
    """
    seconds = None
    if len(history):
        seconds = float(history.drop_duplicates("epoch")["seconds"].tail(RECENT_EPOCHS).mean())
    elif earlier and status.get("epoch") == earlier.get("epoch"):
        batches = status.get("batch", 0) - earlier.get("batch", 0)
        if batches > 0:
            seconds = (status["time"] - earlier["time"]) / batches * status["batches"]
    if seconds is None or "epochs" not in status:
        return Pace(epoch_seconds=seconds)
    part = status.get("batch", 0) / max(status.get("batches", 1), 1)
    return Pace(
        epoch_seconds=seconds,
        particles_per_second=n_particles / seconds if seconds > 0 else None,
        seconds_left=max(status["epochs"] - status.get("epoch", 0) - part, 0.0) * seconds,
    )


def duration_text(seconds: float) -> str:
    """A time in the two units that matter.

    Examples
    --------
    >>> [duration_text(s) for s in (0.4, 59.4, 59.6, 3599.0, 3600.0, 7290.0, 2e5)]
    ['0 s', '59 s', '1 min 0 s', '59 min 59 s', '1 h 0 min', '2 h 1 min', '2 d 7 h']
    """
    whole = round(seconds)
    for size, name, below, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below} {small}"
    return f"{whole} s"
