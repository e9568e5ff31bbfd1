"""The files that the analysis of a run writes: which they are, and that none of an earlier one stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from tomodrgn.training.particle_table import ANALYSIS_FILE
from tomodrgn.training.run import Run

__all__ = ["LOCAL_RESOLUTION", "MAPBACK", "refuse_analyzed", "remove_earlier"]

TABLES = (
    "embedding", "clusters", "outliers", "occupancy", "occupancy_shares", "cluster_numbers", "cluster_methods",
    "cluster_centres", "path",
    "map_space", "associations", "tomograms", "epochs", "epoch_fsc", "tilt_halves", "half_map_fsc", "pair_distances",
    "recurrent_pairs", "class_neighbours",
)  # fmt: skip
MAPS = ("clusters", "path", "pc1", "pc2", "map_components")
MAPBACK = "mapback"
LOCAL_RESOLUTION = "local_resolution.mrc"


def refuse_analyzed(run: Run, *, overwrite: bool) -> None:
    """Refuse a run that has been analyzed, or has other files where those of an analysis would be.

    Raises
    ------
    FileExistsError
        If it has, and `overwrite` is False.
    """
    there = [path for path in _own_paths(run) if path.exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"Got run {run.folder}, which has an analysis already ({there[0].relative_to(run.folder)} is there). Pass "
            "overwrite=True (--overwrite) to replace it."
        )


def _own_paths(run: Run) -> list[Path]:
    """All that an analysis may write."""
    tables = [run.folder / "analysis" / name for name in (ANALYSIS_FILE, *(f"{name}.csv" for name in TABLES))]
    volumes = [run.folder / "volumes" / name / "volumes.csv" for name in MAPS]
    placed = run.folder / "analysis" / MAPBACK / "placements.csv"
    checked = [run.folder / "analysis" / "validation" / name for name in ("verdict.txt", LOCAL_RESOLUTION)]
    return [*tables, *checked, *volumes, placed]


def remove_earlier(run: Run) -> None:
    """Take away the files of an earlier analysis, so that none of them passes for one of this."""
    for table in (run.folder / "volumes" / name / "volumes.csv" for name in MAPS):
        files = pd.read_csv(table, dtype=str)["file"] if table.is_file() else ()
        for name in files:
            if name == Path(name).name:
                (table.parent / name).unlink(missing_ok=True)
    for part in ("selected", "others", "decoded"):
        shutil.rmtree(run.folder / "analysis" / "validation" / part, ignore_errors=True)
    placed = run.folder / "analysis" / MAPBACK
    if (placed / "placements.csv").is_file():
        shutil.rmtree(placed)
    for path in (*_own_paths(run), run.folder / "analysis" / "validation" / "fsc.csv"):
        path.unlink(missing_ok=True)
