"""SourceTable: a block of STAR text whose cells become checked numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from tomodrgn.particles.particle_set import SourceStar

__all__ = [
    "SourceTable",
    "half_sets",
    "one_value",
    "random_subsets",
    "text_to_numbers",
    "warn_of_low_defocus",
    "with_optics",
]

logger = logging.getLogger(__name__)

LOW_DEFOCUS_ANGST = 1000.0
PARTICLE_NAMES = ("tomodrgnParticleId", "rlnTomoParticleName", "rlnGroupName", "rlnGroupNumber")
# Lowest and highest values that make sense, both included; beyond them a column holds something else or another unit.
PIXEL_SIZE, VOLTAGE, CS, CONTRAST, EXPOSURE = (1e-3, 1e4), (1.0, 5e3), (0.0, 100.0), (0.0, 1.0), (0.0, 1e5)
LENGTH_ANGST, LENGTH_PX = (-1e7, 1e7), (-1e6, 1e6)
LIMITS: Mapping[str, tuple[float, float]] = MappingProxyType(
    dict.fromkeys(
        ("rlnImagePixelSize", "rlnTomoTiltSeriesPixelSize", "rlnDetectorPixelSize", "cisTEMPixelSize"), PIXEL_SIZE
    )
    | {"rlnMagnification": (1.0, 1e9)}
    | dict.fromkeys(("rlnVoltage", "cisTEMMicroscopeVoltagekV", "cisTEMVoltage"), VOLTAGE)
    | dict.fromkeys(("rlnSphericalAberration", "cisTEMMicroscopeCsMM", "cisTEMCs"), CS)
    | dict.fromkeys(("rlnAmplitudeContrast", "cisTEMAmplitudeContrast"), CONTRAST)
    | dict.fromkeys(("rlnMicrographPreExposure", "tomodrgnPreExposure", "cisTEMTotalExposure"), EXPOSURE)
    | {"rlnCtfScalefactor": (0.0, 1e3), "tomodrgnImageScale": (0.0, 1e3)}
    | dict.fromkeys(("rlnDefocusU", "rlnDefocusV", "cisTEMDefocus1", "cisTEMDefocus2"), LENGTH_ANGST)
    | {f"rlnOrigin{axis}Angst": LENGTH_ANGST for axis in "XYZ"}
    | {f"rlnOrigin{axis}": LENGTH_PX for axis in "XYZ"}
)


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

    def _row(self, row: int) -> str:
        name = next((self.frame[column].iloc[row] for column in PARTICLE_NAMES if column in self.frame), None)
        return f"row {row + 1}" + ("" if name is None else f" (particle {name!r})")

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
            If the column is absent and there is no default, a cell is no finite number, or it is beyond `LIMITS`.
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
                f"Got {self.frame[column].iloc[bad[0]]!r} as _{column} of {self._row(int(bad[0]))} in {self.place} "
                f"({len(bad)} such cells), expected a finite number. Correct or remove the row."
            )
        low, high = LIMITS.get(column, (-np.inf, np.inf))
        bad = np.flatnonzero((values < low) | (values > high))
        if len(bad):
            raise ValueError(
                f"Got {values[bad[0]]:g} as _{column} of {self._row(int(bad[0]))} in {self.place} "
                f"({len(bad)} such cells), expected {low:g} to {high:g}. Correct the column or its unit."
            )
        return values


def text_to_numbers(column: pd.Series) -> Float64[np.ndarray, " rows"]:
    """Cells as numbers, nan where a cell is none.

    Arrow reads columns of plain numbers seven times faster than pandas alone.
    """
    try:
        return column.astype("float64[pyarrow]").to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError, NotImplementedError):  # a cell that is no plain number
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
    if groups.index.has_duplicates:
        name = groups.index[groups.index.duplicated()][0]
        raise ValueError(f"Got optics group {name!r} twice in {place}, expected it once. Rename or remove one.")
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


def warn_of_low_defocus(defocus_angst: Float64[np.ndarray, " n"], place: str) -> None:
    """Remark images whose lower defocus is next to nothing."""
    low = defocus_angst < LOW_DEFOCUS_ANGST
    if low.any():
        cause = "is the unit angstrom?" if low.all() else "probably failed fits."
        logger.warning(
            "Got %s of %s images of %s with a defocus below %g angstrom: %s",
            int(low.sum()), len(low), place, LOW_DEFOCUS_ANGST, cause,
        )  # fmt: skip
