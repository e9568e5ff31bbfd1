"""SourceTable: a block of STAR text whose cells become checked numbers."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from tomodrgn.particles.particle_set import SourceStar

__all__ = ["SourceTable", "half_sets", "one_value", "random_subsets", "text_to_numbers", "with_optics"]

logger = logging.getLogger(__name__)


class SourceTable:
    """A block of a STAR file, with the place it came from for messages.

    Parameters
    ----------
    frame
        Text cells.
    path, block
        The file, and the name of the block without ``data_``.
    """

    def __init__(self, frame: pd.DataFrame, path: Path, block: str) -> None:
        self.frame, self.path, self.block = frame.reset_index(drop=True), path, block

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def place(self) -> str:
        """The block and its file, for messages."""
        return f"block `data_{self.block}` of {self.path}"

    def has(self, *columns: str) -> bool:
        """Whether all these columns are there."""
        return all(column in self.frame for column in columns)

    def require(self, *columns: str) -> None:
        """Refuse a table that lacks one of these columns.

        Raises
        ------
        ValueError
            Naming the missing columns and the columns found.
        """
        missing = [f"_{column}" for column in columns if column not in self.frame]
        if missing:
            raise ValueError(
                f"Got {self.place} without {', '.join(missing)}, found {', '.join(self.frame.columns) or 'no column'}. "
                "Export the file again with these columns, or choose another dialect."
            )

    def take(self, rows: np.ndarray) -> SourceTable:
        """The given rows (integer or boolean index)."""
        return SourceTable(self.frame.iloc[rows], self.path, self.block)

    def text(self, column: str) -> np.ndarray:
        """Cells of a column as they are written, (rows,) objects of text."""
        self.require(column)
        return self.frame[column].to_numpy(dtype=object)

    def codes(self, column: str) -> tuple[Int64[np.ndarray, " rows"], np.ndarray]:
        """For each row the number of its text, and the distinct texts in the order of their first row."""
        self.require(column)
        codes, texts = pd.factorize(self.frame[column])
        return codes.astype(np.int64), np.asarray(texts, dtype=object)

    def numbers(
        self, column: str, default: float | None = None, *, allow_nan: bool = False
    ) -> Float64[np.ndarray, " rows"]:
        """A column as finite numbers (or nan, if allowed); `default` in every row where the column is absent.

        Raises
        ------
        ValueError
            If the column is absent and there is no default, or a cell is no finite number.
        """
        if default is not None and column not in self.frame:
            return np.full(len(self), float(default))
        self.require(column)
        values = text_to_numbers(self.frame[column])
        unfit = ~np.isfinite(values)
        if allow_nan:
            unfit &= (self.frame[column].str.lower() != "nan").to_numpy()
        bad = np.flatnonzero(unfit)
        if len(bad):
            raise ValueError(
                f"Got {self.frame[column].iloc[bad[0]]!r} as _{column} of row {bad[0] + 1} in {self.place} "
                f"({len(bad)} such cells), expected a finite number. Correct or remove the row."
            )
        return values


def text_to_numbers(column: pd.Series) -> Float64[np.ndarray, " rows"]:
    """Cells as numbers, nan where a cell is none.

    Arrow reads columns of plain numbers seven times faster than pandas alone, where it is installed.
    """
    try:
        return column.astype("float64[pyarrow]").to_numpy(dtype=np.float64, na_value=np.nan)
    except (ImportError, ValueError, TypeError, NotImplementedError):  # no Arrow, or a cell that is no plain number
        return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def one_value(values: np.ndarray, what: str, place: str) -> float:
    """The value that all rows share.

    Raises
    ------
    ValueError
        If the rows differ; the message lists the values and how many rows have each.
    """
    found, counts = np.unique(values, return_counts=True)
    if len(found) != 1:
        groups = ", ".join(f"{value:g} ({count} rows)" for value, count in zip(found[:6], counts[:6], strict=True))
        raise ValueError(
            f"Got several values of {what} in {place}: {groups}, expected one. "
            "Extract all particles with one box and one pixel size, or read the groups as sets of their own."
        )
    return float(found[0])


def with_optics(source: SourceStar) -> SourceTable:
    """The rows, with the columns of their optics group where the file has such groups.

    Raises
    ------
    ValueError
        If a row names an optics group that the file does not have.
    """
    frame, place = source.rows, source.particles_path
    if "optics" not in source.particles or "rlnOpticsGroup" not in frame:
        return SourceTable(frame, place, source.particles_block)
    optics = source.particles["optics"]
    SourceTable(optics, place, "optics").require("rlnOpticsGroup")
    groups = optics.set_index("rlnOpticsGroup")
    at = groups.index.get_indexer(pd.Index(frame["rlnOpticsGroup"]))
    if (at < 0).any():
        name = frame["rlnOpticsGroup"].iloc[int(np.argmax(at < 0))]
        raise ValueError(
            f"Got rows of optics group {name!r} in {place}, expected one of {list(groups.index[:6])}. "
            "Add the group to the block `data_optics`."
        )
    added = {str(name): groups[name].iloc[at].to_numpy() for name in groups if name not in frame}
    joined = frame.assign(**added) if added else frame
    return SourceTable(joined, place, source.particles_block)


def random_subsets(rows: SourceTable) -> Int64[np.ndarray, " rows"]:
    """RlnRandomSubset of each row where it is 1 or 2, else 0."""
    if not rows.has("rlnRandomSubset"):
        return np.zeros(len(rows), dtype=np.int64)
    values = text_to_numbers(rows.frame["rlnRandomSubset"])
    return np.where(np.isin(values, (1, 2)), values, 0).astype(np.int64)


def half_sets(
    values: Int64[np.ndarray, " n"], offsets: Int64[np.ndarray, " edges"], path: Path
) -> Int64[np.ndarray, " k"]:
    """Half set of each particle from those of its images, 0 where these differ."""
    lowest, highest = np.minimum.reduceat(values, offsets[:-1]), np.maximum.reduceat(values, offsets[:-1])
    mixed = lowest != highest
    if mixed.any():
        logger.warning(
            "Got half sets (rlnRandomSubset) that differ between the images of a particle (%s particles of %s). "
            "They are no half sets of particles and are ignored for them.", mixed.sum(), path,
        )  # fmt: skip
    return np.where(mixed, 0, lowest)
