"""One frame of all that is known of the particles of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from tomodrgn.training.run import Run

__all__ = ["analysis_columns", "particle_table"]


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
    for name, columns in analysis_columns(run.folder / "analysis").items():
        columns = columns.rename(columns={c: f"{name}_{c}" for c in columns if c in table})
        table = table.join(columns.loc[:, [c for c in columns if c not in table]])
    return table


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
