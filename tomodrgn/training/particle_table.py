"""One frame of all that is known of the particles of a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from tomodrgn.training.run import Run

__all__ = ["ANALYSIS_FILE", "analysis_columns", "particle_table"]

logger = logging.getLogger(__name__)
ANALYSIS_FILE = "analysis.json"  # says which epoch was analyzed
OF_AN_EPOCH = ("embedding", "clusters", "outliers", "occupancy")  # tables of an analysis that hold for its epoch only


def particle_table(run: Run, epoch: int | None = None) -> pd.DataFrame:
    """STAR columns, latents of an epoch and columns of the analysis; see `Run.table`."""
    particles = run.particles_without_images
    try:
        latents = run.latents(epoch).aligned_to(particles.particle_id).frame()
    except KeyError as error:
        path = run.epoch_folder(epoch) / "latents.npz"
        raise KeyError(f"Got {path} of other particles than those of {run.folder}. {error.args[0]}") from error
    table = particles.frame()
    table = table.drop(columns=[c for c in latents if c in table]).join(latents)
    for name, columns in _columns_of_epoch(run, epoch).items():
        columns = columns.rename(columns={c: f"{name}_{c}" for c in columns if c in table})
        table = table.join(columns.loc[:, [c for c in columns if c not in table]])
    return table


def _columns_of_epoch(run: Run, epoch: int | None) -> dict[str, pd.DataFrame]:
    """Tables of the analysis without those of another epoch: beside these latents they would be taken for theirs."""
    folder, number = run.folder / "analysis", int(run.epoch_folder(epoch).name)
    tables, analyzed = analysis_columns(folder), _analyzed_epoch(folder)
    other = [name for name in OF_AN_EPOCH if name in tables] if analyzed not in (None, number) else []
    if other:
        # Who names an epoch knows that it is not the last; who does not may wonder where the columns are.
        logger.log(
            logging.WARNING if epoch is None else logging.INFO,
            "The analysis of %s is of epoch %s: its %s are left out of the table of epoch %d. Ask for epoch %s, or "
            "analyze again.", run.folder, analyzed, ", ".join(other), number, analyzed,
        )  # fmt: skip
    return {name: table for name, table in tables.items() if name not in other}


def _analyzed_epoch(folder: Path) -> int | None:
    """Epoch that the analysis in a folder is of; None if there is none, or it was not made by `analyze_run`."""
    path = folder / ANALYSIS_FILE
    if not path.is_file():
        return None
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["epoch"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"Got {path}, expected the settings of an analysis, with its epoch ({error}). Analyze again: tomodrgn "
            f"analyze {folder.parent} --overwrite"
        ) from error


def analysis_columns(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of a folder that have one row a particle, by the name of their file, indexed by particle_id.

    Only CSV files whose first column is particle_id count; one with a particle twice is a table of something else.

    Raises
    ------
    ValueError
        If such a file is damaged.
    """
    found = {}
    for path in sorted(folder.glob("*.csv")):
        try:
            if next(iter(pd.read_csv(path, nrows=0)), None) != "particle_id":
                continue
            table = pd.read_csv(path, dtype={"particle_id": str}, keep_default_na=False, na_values=[""])
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise ValueError(f"Got {path}, expected a table in CSV ({error}). Remove it, or analyze again.") from error
        table = table.set_index("particle_id")
        if table.index.is_unique:
            found[path.stem] = table
    return found
