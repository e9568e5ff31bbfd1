"""How far a training is, in words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tomodrgn.training.lock import LockHolder
from tomodrgn.training.pace import Pace, duration_text

__all__ = ["host_text", "pace_text", "state_text"]

SILENCE_SECONDS = 300.0


def state_text(state: str, epochs: tuple[int, int], status: Mapping[str, Any], *, linear: bool = False) -> str:
    """State and epochs, or the stage of a linear fit.

    Examples
    --------
    >>> state_text("running", (3, 12), {"batch": 4, "batches": 8})
    'running: 3 of 12 epochs, batch 4 of 8'
    >>> state_text("running", (0, 1), {"batch": 1, "batches": 3}, linear=True)
    'fitting: 1 of 3 stages done'
    """
    if state in ("none", "starting", "gone"):
        return {"none": "not started", "starting": "starting: reading particles", "gone": "the folder is gone"}[state]
    batch, batches = status.get("batch", 0), status.get("batches", 0)
    if linear:
        return f"fitting: {batch} of {batches} stages done" if state == "running" else f"linear fit {state}"
    text = f"{state}: {epochs[0]} of {epochs[1]} epochs"
    return f"{text}, batch {batch} of {batches}" if state == "running" and batches else text


def pace_text(state: str, pace: Pace, history: pd.DataFrame) -> str:
    """Time left, particles a second, seconds an epoch and learning rate, as far as they are known.

    Examples
    --------
    >>> history = pd.DataFrame({"learning_rate": [0.0017]})
    >>> pace_text("running", Pace(epoch_seconds=8.0, particles_per_second=12.5, seconds_left=96.0), history)
    'about 1 min 36 s left · 12.5 particles/s · 8.0 s an epoch · learning rate 0.0017'
    """
    parts = []
    if state == "running" and pace.seconds_left is not None:
        parts.append(f"about {duration_text(pace.seconds_left)} left")
    if pace.particles_per_second is not None:
        parts.append(f"{pace.particles_per_second:,.3g} particles/s")
    if pace.epoch_seconds is not None:
        long = pace.epoch_seconds >= 60
        parts.append(f"{duration_text(pace.epoch_seconds) if long else f'{pace.epoch_seconds:.1f} s'} an epoch")
    if len(history):
        parts.append(f"learning rate {history['learning_rate'].iloc[-1]:.3g}")
    return " · ".join(parts)


def host_text(holder: LockHolder | None, status: Mapping[str, Any], pace: Pace, now: float | None = None) -> str:
    """Of a training on another machine where it is and how old its last word is; a long silence is remarked on.

    Parameters
    ----------
    holder
        Who holds the folder.
    status
        As of `Run.status`.
    pace
        Its epochs may be long: it speaks ten times in each.
    now
        Seconds since 1970; None is now.
    """
    if holder is None or holder.is_here:
        return ""
    text = f"on host {holder.host}, process {holder.pid}"
    if "time" not in status:
        return text
    age = max((time.time() if now is None else now) - status["time"], 0.0)
    text += f", last word {duration_text(age)} ago"
    if age > max(SILENCE_SECONDS, pace.epoch_seconds or 0.0):
        text += "; if it was killed there, delete training.lock in the run folder"
    return text
