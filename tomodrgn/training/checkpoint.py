"""Checkpoints of a run: written so that a crash at any moment leaves the last one whole.

One is written after every epoch, and one within an epoch (`EpochPart`) when a training is asked to stop there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float32
from safetensors.torch import save_file

from tomodrgn.io.atomic import replacing
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.latents import Latents
from tomodrgn.training.run import Run
from tomodrgn.training.tensors import load_weights, read_tensors

__all__ = ["EpochPart", "restore_checkpoint", "restore_part", "write_checkpoint", "write_epoch", "write_part"]

PART = "part.safetensors"


@dataclass(frozen=True, kw_only=True)
class EpochPart:
    """What was done of an epoch when its training was stopped.

    Parameters
    ----------
    epoch
        Number of that epoch.
    losses
        Of each of the n batches done, as of `EpochLosses.table`.
    seconds
        How long they took.
    """

    epoch: int
    losses: Float32[torch.Tensor, "n 3"]
    seconds: float


def restore_checkpoint(run: Run, model: TiltSeriesVae, optimizer: torch.optim.Optimizer) -> int:
    """Load weights and optimiser of the newest complete epoch; its number, or 0 if there is none.

    Raises
    ------
    ValueError
        If there are epochs whose optimiser state is gone, so that the training cannot go on as it was.
    """
    states = (run.folder / "training_state").glob("*.safetensors")
    for path in sorted((p for p in states if p.stem.isdecimal()), key=lambda p: int(p.stem), reverse=True):
        epoch = int(path.stem)
        if epoch in run.epochs:
            load_weights(model, run.epoch_folder(epoch) / "weights.safetensors")
            _restore_optimizer(optimizer, read_tensors(path))
            return epoch
    # A training killed before its first checkpoint was complete may have left the first epoch.
    if set(run.epochs) - {1}:
        raise ValueError(
            f"Got run {run.folder} with epochs up to {run.epochs[-1]} and no optimiser state of any in "
            f"{run.folder / 'training_state'}. Restore that folder, or start another run."
        )
    return 0


def write_checkpoint(
    run: Run,
    epoch: int,
    *,
    model: TiltSeriesVae,
    optimizer: torch.optim.Optimizer,
    latents: Latents,
    history: pd.DataFrame,
) -> None:
    """Write an epoch whole, then the history, then the optimiser, which makes it the one to resume from.

    Killed in between, the run resumes from the epoch before and writes epoch and history again.
    """
    write_epoch(run, epoch, weights=model.state_dict(), latents=latents)
    run.write_history(history)
    state = run.folder / "training_state" / f"{epoch:04d}.safetensors"
    with replacing(state) as path:
        save_file(_optimizer_tensors(optimizer), path)
    for old in state.parent.glob("*.safetensors"):
        if old != state:
            old.unlink()


def write_epoch(run: Run, epoch: int, *, weights: Mapping[str, torch.Tensor], latents: Latents) -> None:
    """Write the folder of an epoch, at once or not at all."""
    folder = run.folder / "epochs"
    temporary, replaced, final = folder / f".{epoch:04d}", folder / f".{epoch:04d}-replaced", folder / f"{epoch:04d}"
    for path in (temporary, replaced):
        shutil.rmtree(path, ignore_errors=True)
    temporary.mkdir(parents=True)
    with replacing(temporary / "weights.safetensors") as path:
        save_file({k: v.contiguous().cpu() for k, v in weights.items()}, path)
    latents.save(temporary / "latents.npz")
    if final.exists():
        final.rename(replaced)
    temporary.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)


def write_part(run: Run, part: EpochPart, *, model: TiltSeriesVae, optimizer: torch.optim.Optimizer) -> None:
    """Write weights and optimiser in the midst of an epoch; the next finished epoch takes their place."""
    content = {f"weights.{name}": value.contiguous().cpu() for name, value in model.state_dict().items()}
    content |= {f"optimiser.{name}": value for name, value in _optimizer_tensors(optimizer).items()}
    content |= {"losses": part.losses.cpu(), "seconds": torch.tensor(part.seconds, dtype=torch.float64)}
    with replacing(run.folder / "training_state" / PART) as path:
        save_file(content | {"epoch": torch.tensor(part.epoch)}, path)


def restore_part(run: Run, epoch: int, *, model: TiltSeriesVae, optimizer: torch.optim.Optimizer) -> EpochPart | None:
    """Load weights and optimiser as they were when the training was stopped within an epoch; None if it was not."""
    path = run.folder / "training_state" / PART
    if not path.is_file():
        return None
    content = read_tensors(path)
    if int(content["epoch"]) != epoch:
        return None
    model.load_state_dict(_below("weights", content))
    _restore_optimizer(optimizer, _below("optimiser", content))
    return EpochPart(epoch=epoch, losses=content["losses"], seconds=float(content["seconds"]))


def _below(name: str, content: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those tensors whose names begin with a name, by what follows it."""
    return {key.removeprefix(f"{name}."): value for key, value in content.items() if key.startswith(f"{name}.")}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's own numbers of each parameter, as ``<number of the parameter>.<name>``; its rates are options."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value.contiguous().cpu() for i, own in state.items() for name, value in own.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
