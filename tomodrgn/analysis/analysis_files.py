"""The files that the analysis of a run writes: which they are, and that none of an earlier one stays."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pandas as pd

from tomodrgn.io.atomic import replacing
from tomodrgn.training.particle_table import ANALYSIS_FILE
from tomodrgn.training.run import Run

__all__ = ["LOCAL_RESOLUTION", "MAPBACK", "list_placed", "refuse_analyzed", "remove_earlier"]

TABLES = (
    "embedding", "clusters", "outliers", "occupancy", "occupancy_shares", "cluster_numbers", "cluster_methods",
    "cluster_centres", "path",
    "map_space", "associations", "tomograms", "epochs", "epoch_fsc", "tilt_halves", "half_map_fsc", "pair_distances",
    "recurrent_pairs", "class_neighbours",
)  # fmt: skip
MAPS = ("clusters", "path", "pc1", "pc2", "map_components")
MAPBACK, PLACED_FILES = "mapback", "mapback_files.csv"
LOCAL_RESOLUTION = "local_resolution.mrc"


def refuse_analyzed(run: Run, *, overwrite: bool) -> None:
    """Refuse a run that has been analyzed, or has other files where those of an analysis would be.

    Raises
    ------
    FileExistsError
        If it has, and `overwrite` is False; or if a file is where a folder is needed.
    """
    placed = run.folder / "analysis" / MAPBACK
    if placed.exists() and not placed.is_dir():
        raise FileExistsError(f"Got a file {placed}, expected a folder or nothing. Move it elsewhere.")
    there = [path for path in _own_paths(run) if path.exists()]
    there += sorted(placed.iterdir()) if placed.is_dir() else []
    if there and not overwrite:
        raise FileExistsError(
            f"Got run {run.folder}, which has an analysis already ({there[0].relative_to(run.folder)} is there). Pass "
            "overwrite=True (--overwrite) to replace it."
        )


def _own_paths(run: Run) -> list[Path]:
    """All that an analysis may write."""
    tables = [run.folder / "analysis" / name for name in (ANALYSIS_FILE, *(f"{name}.csv" for name in TABLES))]
    volumes = [run.folder / "volumes" / name / "volumes.csv" for name in MAPS]
    checked = [run.folder / "analysis" / "validation" / name for name in ("verdict.txt", LOCAL_RESOLUTION)]
    return [*tables, *checked, *volumes, run.folder / "analysis" / PLACED_FILES]


def remove_earlier(run: Run) -> None:
    """Take away the files of an earlier analysis, so that none of them passes for one of this."""
    for table in (run.folder / "volumes" / name / "volumes.csv" for name in MAPS):
        files = pd.read_csv(table, dtype=str)["file"] if table.is_file() else ()
        for name in files:
            if name == Path(name).name:
                (table.parent / name).unlink(missing_ok=True)
    for part in ("selected", "others", "decoded"):
        shutil.rmtree(run.folder / "analysis" / "validation" / part, ignore_errors=True)
    _remove_placed(run)
    for path in (*_own_paths(run), run.folder / "analysis" / "validation" / "fsc.csv"):
        path.unlink(missing_ok=True)


def list_placed(run: Run, files: Iterable[Path]) -> None:
    """Keep a list of the files that were written into ``analysis/mapback``."""
    folder = run.folder / "analysis"
    names = [path.relative_to(folder / MAPBACK).as_posix() for path in files]
    with replacing(folder / PLACED_FILES, overwrite=True) as temporary:
        pd.DataFrame({"file": names}).to_csv(temporary, index=False)


def _remove_placed(run: Run) -> None:
    """Take away the maps that an earlier analysis placed, by its list, and no other file; none outside the run."""
    listed, folder = run.folder / "analysis" / PLACED_FILES, run.folder / "analysis" / MAPBACK
    names: Iterable[str] = ()
    with suppress(ValueError, KeyError, OSError):  # no list, or none that can be read: nothing is known to be ours
        names = pd.read_csv(listed, dtype=str)["file"].dropna().tolist()
    inside = run.folder.resolve()
    for path in (folder / name for name in names):
        if path.parent.resolve().is_relative_to(inside) and path.is_file():
            path.unlink()
    for left in (*(folder / name for name in ("maps", "classes", "tomograms")), folder):
        with suppress(OSError):  # something of the user's is in it, or it is a link
            left.rmdir()
