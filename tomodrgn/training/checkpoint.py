"""Checkpoints of a run: written so that a crash at any moment leaves the last one whole."""

from __future__ import annotations

import shutil

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from tomodrgn.io.atomic import replacing
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.latents import Latents
from tomodrgn.training.run import Run

__all__ = ["restore_checkpoint", "write_checkpoint"]


def restore_checkpoint(run: Run, model: TiltSeriesVae, optimizer: torch.optim.Optimizer) -> int:
    """Load weights and optimiser of the newest complete epoch; its number, or 0 if there is none."""
    for path in sorted((run.folder / "training_state").glob("*.pt"), reverse=True):
        epoch = int(path.stem)
        if epoch in run.epochs:
            model.load_state_dict(load_file(run.epoch_folder(epoch) / "weights.safetensors"))
            optimizer.load_state_dict(torch.load(path, weights_only=True))
            return epoch
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
    """Write an epoch whole, then the optimiser, then the history; older optimiser states go last."""
    temporary = run.folder / "epochs" / f".{epoch:04d}"
    final = run.folder / "epochs" / f"{epoch:04d}"
    for path in (temporary, final):
        shutil.rmtree(path, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({k: v.contiguous().cpu() for k, v in model.state_dict().items()}, temporary / "weights.safetensors")
    latents.save(temporary / "latents.npz")
    temporary.rename(final)
    state = run.folder / "training_state" / f"{epoch:04d}.pt"
    with replacing(state) as path:
        torch.save(optimizer.state_dict(), path)
    run.write_history(history)
    for old in state.parent.glob("*.pt"):
        if old != state:
            old.unlink()
