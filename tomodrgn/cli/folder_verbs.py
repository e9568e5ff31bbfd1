"""Verbs of run folders: clean and import-run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tomodrgn.cli.inputs import Input, InputOptions

__all__ = ["clean", "import_run"]


def clean(
    run: Path,
    /,
    *,
    keep: str | None = None,
    every: int | None = None,
    last: int | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Remove epochs of a run but those chosen; the newest, and what --resume needs, always stay.

    The history of losses, analysis, volumes and selections are left alone.

    Parameters
    ----------
    run
        Run folder.
    keep
        Numbers of the epochs that stay, with commas: 5,10.
    every
        Epochs whose number is a multiple of this stay.
    last
        The newest so many stay.
    dry_run
        Say what would go, and remove nothing.
    """
    from tomodrgn.training.clean import clean_run

    done = clean_run(run, keep=None if keep is None else _numbers(keep), every=every, last=last, dry_run=dry_run)
    gone = ", ".join(map(str, done.removed)) or "none"
    kept = ", ".join(map(str, done.kept)) or "none"
    said = "would remove" if dry_run else "removed"
    print(
        f"{said} epochs {gone} of {run}, {done.n_bytes / 1e6:.1f} MB in {len(done.folders)} folders; epochs {kept} stay"
    )


def _numbers(text: str) -> list[int]:
    """Numbers of epochs, with commas between them."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise ValueError(f"Got --keep {text!r}, expected numbers of epochs such as 5,10. Correct it.")
    return [int(part) for part in parts]


def import_run(
    folder: Path,
    particles: Path,
    run: Path,
    /,
    *,
    data: Input = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Make a run from one of tomoDRGN 1.0 or cryoDRGN, to explore its latents and, where possible, make its maps.

    Its pickles are read as plain data and never run.

    Parameters
    ----------
    folder
        Run folder of that program: config.pkl, z.N.pkl, weights.N.pkl.
    particles
        STAR file of the particles that were used, in the same order.
    run
        Run folder to be made.
    overwrite
        Replace a run that is there already.
    """
    from tomodrgn.training.published_run import import_run as make_run

    made = make_run(folder, (data or InputOptions()).read(particles, check_stacks=False), run, overwrite=overwrite)
    epochs, maps = made.epochs, bool(made.settings["model"]["decoder_dim"])
    print(f"imported {len(made.latents())} latents of {made.z_dim} dimensions, epochs {epochs[0]} to {epochs[-1]}, "
          f"{'with' if maps else 'without'} a decoder, to {run}")  # fmt: skip
