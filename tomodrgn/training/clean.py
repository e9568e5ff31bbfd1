"""Epochs of a run that nobody needs any more, removed; the last one, and what a resumed training takes, always stay."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tomodrgn.training.lock import hold_run
from tomodrgn.training.run import Run

__all__ = ["Cleaning", "clean_run"]

UNFINISHED = re.compile(r"\.\d{4,}(-replaced)?")  # what a training that was killed left of an epoch


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is removed of a run, or would be.

    Parameters
    ----------
    kept
        Numbers of the epochs that stay.
    removed
        Numbers of those that go.
    folders
        The folders that go: of these epochs, and what killed trainings left.
    n_bytes
        Their size.
    """

    kept: tuple[int, ...]
    removed: tuple[int, ...]
    folders: tuple[Path, ...]
    n_bytes: int


def clean_run(
    run: Run | Path | str,
    *,
    keep: Iterable[int] | None = None,
    every: int | None = None,
    last: int | None = None,
    dry_run: bool = False,
) -> Cleaning:
    """Remove epochs of a run but those chosen; the newest, and that of the training state, are kept whatever is chosen.

    Latents, weights and maps of other places (analysis, volumes, selections), and the history of losses, stay.

    Parameters
    ----------
    run
        A run, or its folder.
    keep, every, last
        Which epochs stay, by exactly one of these: their numbers; those whose number is a multiple; the newest so many.
    dry_run
        Remove nothing, and tell what would go.

    Raises
    ------
    BlockingIOError
        If a process trains in the folder.
    ValueError
        If none or several of the choices are given, a number is below 1, an epoch to be kept is not there, or the
        folder of an epoch is a link.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if dry_run:
        return _planned(run, keep, every, last)
    with hold_run(run.folder):
        plan = _planned(run, keep, every, last)
        for folder in plan.folders:
            # Renamed first, so that no reader finds an epoch half removed.
            gone = folder if folder.name.startswith(".") else folder.with_name(f".{folder.name}-replaced")
            if gone != folder:
                folder.rename(gone)
            shutil.rmtree(gone)
    return plan


def _planned(run: Run, keep: Iterable[int] | None, every: int | None, last: int | None) -> Cleaning:
    epochs = run.epochs
    stay = _chosen(run, keep, every, last) | set(epochs[-1:]) | _resumed_from(run)
    removed = tuple(epoch for epoch in epochs if epoch not in stay)
    place = run.folder / "epochs"
    left = [path for path in sorted(place.iterdir()) if UNFINISHED.fullmatch(path.name)] if place.is_dir() else []
    folders = [run.epoch_folder(epoch) for epoch in removed]
    folders += [path for path in left if path not in [f.with_name(f".{f.name}-replaced") for f in folders]]
    links = [path for path in (place, *folders) if path.is_symlink()]
    if links:
        raise ValueError(
            f"Got {links[0]}, which is a link to {links[0].readlink()}, expected a folder of the run itself. Remove "
            "the link, or what it leads to, yourself."
        )
    sizes = (path.lstat().st_size for folder in folders for path in folder.rglob("*") if not path.is_dir())
    kept = tuple(epoch for epoch in epochs if epoch in stay)
    return Cleaning(kept=kept, removed=removed, folders=tuple(folders), n_bytes=sum(sizes))


def _chosen(run: Run, keep: Iterable[int] | None, every: int | None, last: int | None) -> set[int]:
    """The epochs that were asked to stay."""
    if sum(choice is not None for choice in (keep, every, last)) != 1:
        raise ValueError("Got none or several of --keep, --every and --last, expected one of them. Choose one.")
    epochs = run.epochs
    if keep is not None:
        wanted = set(keep)
        missing = sorted(wanted - set(epochs))
        if missing:
            raise ValueError(
                f"Got epochs {missing} to be kept of run {run.folder}, expected some of those there: "
                f"{', '.join(map(str, epochs)) or 'none'}. Choose others."
            )
        return wanted
    number = every if every is not None else last
    if number is None or number < 1:
        raise ValueError(f"Got --{'every' if every is not None else 'last'} {number}, expected 1 or more.")
    return set(epochs[-number:]) if every is None else {epoch for epoch in epochs if epoch % number == 0}


def _resumed_from(run: Run) -> set[int]:
    """Epochs that a training state belongs to."""
    states = (run.folder / "training_state").glob("*.safetensors")
    return {int(path.stem) for path in states if path.stem.isdecimal()}
