"""Copies of the notebooks beside a user's data: brought up to date, but never over what the user changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tomodrgn.io.atomic import replacing

__all__ = ["QUICKSTART", "RECORD", "NotebookCopies", "copy_notebooks", "shipped_notebooks"]

PACKAGE = Path(__file__).resolve().parents[1]
QUICKSTART = "00_quickstart.ipynb"
# What was copied, by name its SHA-256: a copy that still has it was not changed, and may give way to a newer one.
RECORD = ".tomodrgn-notebooks.json"


@dataclass(frozen=True, kw_only=True)
class NotebookCopies:
    """What became of each notebook.

    Parameters
    ----------
    copied
        Names of files that are new in the folder, or newer than they were.
    kept
        Names of files that the user changed, and that were left as they are.
    """

    copied: tuple[str, ...]
    kept: tuple[str, ...]


def shipped_notebooks() -> Path:
    """Folder of the notebooks: inside an installed package, or beside it in a checkout.

    Raises
    ------
    FileNotFoundError
        If this installation has none.
    """
    for folder in (PACKAGE / "notebooks", PACKAGE.parent / "notebooks"):
        if (folder / QUICKSTART).is_file():
            return folder
    raise FileNotFoundError(
        f"Got tomodrgn in {PACKAGE}, installed without its notebooks, expected {QUICKSTART}. Install it again."
    )


def copy_notebooks(folder: Path | str) -> NotebookCopies:
    """Copy the notebooks, and the pages that they link to, into a folder, which is made if needed.

    A file that is there already is replaced only if it is as an earlier call left it.

    Parameters
    ----------
    folder
        Where the user works.

    Raises
    ------
    FileExistsError
        If `folder` is a file.
    """
    source, folder = shipped_notebooks(), Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"Got {folder}, which is a file, expected a folder for the notebooks. Name a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    known, copied, kept = _read_record(folder), [], []
    if source.samefile(folder):  # the checkout's own
        return NotebookCopies(copied=(), kept=())
    for path in sorted([*source.glob("*.ipynb"), *source.glob("*.md")]):
        target, wanted = folder / path.name, _digest(path)
        there = _digest(target) if target.is_file() else None
        if there not in (None, wanted, known.get(path.name)):
            kept.append(path.name)
            continue
        known[path.name] = wanted
        if there != wanted:
            with replacing(target) as temporary:
                shutil.copyfile(path, temporary)
            copied.append(path.name)
    with replacing(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(known, indent=2) + "\n")
    return NotebookCopies(copied=tuple(copied), kept=tuple(kept))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_record(folder: Path) -> dict[str, str]:
    """What was copied before; a record that cannot be read counts as none, so that nothing is replaced."""
    try:
        found = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}
