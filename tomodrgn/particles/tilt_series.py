"""The tilt images of tomograms: tables with one row a tilt, and the place of particles in their tomogram."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from tomodrgn.imaging.pose import axis_rotation
from tomodrgn.particles.particle_set import SourceStar
from tomodrgn.particles.source_table import SourceTable

__all__ = [
    "PROJECTION",
    "TILT_SERIES_FILE",
    "TiltTables",
    "find_tilt_tables",
    "local_defocus_axis",
    "read_tilt_tables",
    "signed_tilt_deg",
    "tilt_series_blocks",
]

logger = logging.getLogger(__name__)

SKEWED = 0.05  # how far numbers with few digits are from a rotation, at most
PROJECTION = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ")
TILT_ANGLES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
TILT_SERIES_FILE = "rlnTomoTiltSeriesStarFile"
CORNER = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
CENTRED = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")


@dataclass(frozen=True, kw_only=True)
class TiltTables:
    """Tilt images of one or several tomograms, one after another; NaN in rows that no particle sees.

    Parameters
    ----------
    start
        Rows of tomogram i are ``start[i]:start[i + 1]``.
    rotations
        Tomogram to tilt image, xyz columns.
    tilt_deg
        Signed tilt angle.
    defocus
        Columns defocus U and V at the tomogram centre in angstrom, astigmatism angle and phase shift in degrees.
    scale
        rlnCtfScalefactor.
    dose
        Exposure before the image, e/angstrom^2.
    """

    start: Int64[np.ndarray, " edges"]
    rotations: Float64[np.ndarray, "m 3 3"]
    tilt_deg: Float64[np.ndarray, " m"]
    defocus: Float64[np.ndarray, "m 4"]
    scale: Float64[np.ndarray, " m"]
    dose: Float64[np.ndarray, " m"]


def tilt_series_blocks(tomograms: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The blocks that list the tilt images of a tomogram, by the name of the tomogram."""
    return {name: block for name, block in tomograms.items() if PROJECTION[0] in block or TILT_ANGLES[1] in block}


def find_tilt_tables(source: SourceStar, names: np.ndarray) -> list[SourceTable]:
    """The tilt table of each named tomogram.

    Raises
    ------
    ValueError
        If a tomogram has no table.
    """
    blocks = {
        name: SourceTable(block, source.path, name) for name, block in tilt_series_blocks(source.tomograms).items()
    }
    blocks |= {name: _own_table(name, *file) for name, file in source.tilt_series.items()}
    missing = [name for name in names if name not in blocks]
    if missing:
        raise ValueError(
            f"Got {len(missing)} tomograms in {source.particles_path} without a tilt table, first {missing[:3]}; the "
            f"tomograms file named in {source.path} has {list(blocks)[:3]}. Use the tomograms file of the same export."
        )
    return [blocks[name] for name in names]


def read_tilt_tables(found: list[SourceTable], seen: list[np.ndarray]) -> TiltTables:
    """Numbers of tilt tables, of those rows that a particle sees: others may hold anything, such as failed fits.

    Parameters
    ----------
    found
        The tables, see `find_tilt_tables`.
    seen
        For each table, True for each of its rows that a particle sees.

    Raises
    ------
    ValueError
        If a table lacks columns, or a cell is no number.
    """
    tables = [_tilt_table(table, rows) for table, rows in zip(found, seen, strict=True)]
    return TiltTables(
        start=np.concatenate([[0], np.cumsum([len(table.dose) for table in tables])]),
        **{
            field: np.concatenate([getattr(table, field) for table in tables])
            for field in ("rotations", "tilt_deg", "defocus", "scale", "dose")
        },
    )


def _own_table(tomogram: str, path: Path, blocks: dict[str, pd.DataFrame]) -> SourceTable:
    """The tilt table in a file of one tomogram: the block of its name, else the only one with rows."""
    full = [name for name, block in blocks.items() if len(block)]
    name = tomogram if tomogram in full else next(iter(full), "")
    if not full or (tomogram not in full and len(full) > 1):
        raise ValueError(f"Got {path} with the blocks {list(blocks)}, expected `data_{tomogram}`. Use the right file.")
    return SourceTable(blocks[name], path, name)


def _tilt_table(whole: SourceTable, seen: Bool[np.ndarray, " tilts"]) -> TiltTables:
    # In place of a row that is not seen stands one that is, so that messages count rows as the file does.
    table = whole.take(np.where(seen, np.arange(len(whole)), np.argmax(seen)))
    if table.has(*PROJECTION):
        rotations = np.stack([_vectors(table, column) for column in PROJECTION], axis=1)
        _refuse_skewed(rotations, table)
    else:
        table.require(*TILT_ANGLES[1:])
        x, y, z = (table.numbers(column, default=0.0) for column in TILT_ANGLES)
        rotations = axis_rotation("z", z) @ axis_rotation("y", y) @ axis_rotation("x", x)
    if not table.has("rlnMicrographPreExposure"):
        logger.warning("Got no rlnMicrographPreExposure in %s: exposures are unknown and taken as 0.", table.place)
    defocus = [table.numbers(column) for column in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")]
    known = {
        "rotations": rotations,
        "tilt_deg": signed_tilt_deg(rotations),
        "defocus": np.stack([*defocus, table.numbers("rlnPhaseShift", default=0.0)], axis=1),
        "scale": table.numbers("rlnCtfScalefactor", default=1.0),
        "dose": table.numbers("rlnMicrographPreExposure", default=0.0),
    }
    spread = {name: np.where(seen.reshape(-1, *[1] * (v.ndim - 1)), v, np.nan) for name, v in known.items()}
    return TiltTables(start=np.array([0, len(whole)]), **spread)


def _refuse_skewed(rotations: Float64[np.ndarray, "m 3 3"], table: SourceTable) -> None:
    """Refuse projections that are no rotations, such as zeros of a row that was never filled in."""
    unlike = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) > SKEWED
    if unlike.any():
        raise ValueError(
            f"Got {', '.join(f'_{column}' for column in PROJECTION)} of row {int(np.argmax(unlike)) + 1} in "
            f"{table.place} ({int(unlike.sum())} such rows), expected three rows of a rotation. Export the file again."
        )


def _vectors(table: SourceTable, column: str) -> Float64[np.ndarray, "m 3"]:
    """The first three numbers of cells such as ``[a,b,c,0]``."""
    cells = table.frame[column].str.strip("[]").str.split(",", expand=True).reindex(columns=range(3))
    numbers = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    known = np.isfinite(numbers).all(axis=1)
    if not known.all():
        bad = int(np.argmin(known))
        raise ValueError(
            f"Got {table.frame[column].iloc[bad]!r} as _{column} of row {bad + 1} in {table.place}, expected a vector "
            "such as [1,0,0,0]. Correct it."
        )
    return numbers


def signed_tilt_deg(rotations: Float64[np.ndarray, "m 3 3"]) -> Float64[np.ndarray, " m"]:
    """Tilt angle of each image of a tilt series, from its rotations tomogram -> image.

    The third row of a rotation is the beam in the tomogram, (-sin, 0, cos) for a tilt about y and (0, sin, cos)
    for a tilt about x; the sign is that of the axis about which the series as a whole is tilted.

    Examples
    --------
    >>> signed_tilt_deg(axis_rotation("y", np.array([-30.0, 0.0, 30.0]))).round(6).tolist()
    [-30.0, 0.0, 30.0]
    """
    x, y, z = rotations[:, 2].T
    across = -x if np.abs(x).sum() >= np.abs(y).sum() else y
    return np.rad2deg(np.arccos(np.clip(z, -1.0, 1.0))) * np.where(across < 0, -1.0, 1.0)


def local_defocus_axis(
    rows: SourceTable,
    source: SourceStar,
    dialect: str,
    *,
    origin_angst: Float64[np.ndarray, "k 3"],
    pixel_size_angst: float,
) -> Float64[np.ndarray, "k 3"]:
    """Vector of each particle, in angstrom, whose dot product with the beam is the particle's local defocus.

    That is the particle's position from the centre of its tomogram times a sign: of rlnTomoHand in tables of RELION and
    NextPYP (times rlnTomoDefocusSlope), the opposite one in tables of WarpTools.

    Parameters
    ----------
    rows
        Particle rows, with rlnTomoName.
    dialect
        Tells the meaning of coordinates: pixels of the extracted images from the corner (WarpTools, NextPYP), angstrom
        from the centre or unbinned pixels from the corner (RELION 5).
    origin_angst
        Origin of each particle along the axes of the tomogram, taken off its position.
    pixel_size_angst
        Of the extracted images.

    Raises
    ------
    ValueError
        If a tomogram is not listed, or particles lie outside their tomogram.
    """
    nowhere = np.zeros((len(rows), 3))
    hand_given = source.options.defocus_hand
    if hand_given == 0:
        return nowhere
    table = _global_table(source)
    if table is None or not table.has(*SIZES, "rlnTomoTiltSeriesPixelSize"):
        logger.warning("Got no sizes of the tomograms of %s: local defocus is left out.", source.path)
        return nowhere
    table, tomogram = _rows_of_tomograms(table, rows)
    unbinned = table.numbers("rlnTomoTiltSeriesPixelSize")[tomogram]
    size = np.stack([table.numbers(column) for column in SIZES], axis=1)[tomogram] * unbinned[:, None]
    if dialect == "relion5" and rows.has(*CENTRED):
        centred = np.stack([rows.numbers(column) for column in CENTRED], axis=1) - origin_angst
    elif rows.has(*CORNER):
        step = unbinned[:, None] if dialect == "relion5" else pixel_size_angst
        centred = np.stack([rows.numbers(column) for column in CORNER], axis=1) * step - origin_angst - size / 2
    else:
        logger.warning("Got no coordinates of particles in %s: local defocus is left out.", rows.place)
        return nowhere
    _check_positions(rows, centred + size / 2, size, dialect)
    warp = dialect == "warptools"
    hand = np.sign(table.numbers("rlnTomoHand", default=-1.0 if warp else 1.0))[tomogram]
    if warp and hand_given == "auto" and (hand == -1).all() and not np.allclose(unbinned, pixel_size_angst, rtol=1e-3):
        logger.warning(
            "Got rlnTomoHand -1 in %s, which WarpTools before July 2026 wrote for every tomogram: it says nothing of "
            "the hand of defocus. Try --defocus-hand 1 (defocus_hand=1) if maps come out worse than expected.",
            source.path,
        )  # fmt: skip
    if hand_given != "auto":
        hand = np.full(len(rows), float(hand_given))
    slope = -1.0 if warp else table.numbers("rlnTomoDefocusSlope", default=1.0)[tomogram]
    return (hand * slope)[:, None] * centred


def _rows_of_tomograms(table: SourceTable, rows: SourceTable) -> tuple[SourceTable, Int64[np.ndarray, " k"]]:
    """The rows of a table of tomograms that particles name, and for each particle the number of its row."""
    tomogram, names = rows.codes("rlnTomoName")
    listed = pd.Index(table.text("rlnTomoName"))
    if listed.has_duplicates:
        name = listed[listed.duplicated()][0]
        raise ValueError(f"Got tomogram {name!r} twice in {table.place}, expected it once. Remove one.")
    at = listed.get_indexer(names)
    if (at < 0).any():
        missing = names[at < 0]
        raise ValueError(
            f"Got {len(missing)} tomograms that {table.place} does not list, first {list(missing[:3])}. "
            "Use the tomograms file of the same export."
        )
    return table.take(at), tomogram


def _global_table(source: SourceStar) -> SourceTable | None:
    tilt_tables = tilt_series_blocks(source.tomograms)
    for name, block in source.tomograms.items():
        if "rlnTomoName" in block and name not in tilt_tables:
            return SourceTable(block, source.path, name)
    return None


def _check_positions(rows: SourceTable, position: np.ndarray, size: np.ndarray, dialect: str) -> None:
    """Refuse positions outside the tomogram by more than a tenth of its longest side."""
    margin = 0.1 * size.max(axis=1, keepdims=True)
    outside = ((position < -margin) | (position > size + margin)).any(axis=1)
    if outside.any():
        low, high = (edge.round(1).tolist() for edge in (position.min(axis=0), position.max(axis=0)))
        unit = "unbinned pixels" if dialect == "relion5" else "pixels of rlnImagePixelSize"
        raise ValueError(
            f"Got {int(outside.sum())} of {len(rows)} particles outside their tomogram in {rows.place}: positions from "
            f"{low} to {high} angstrom, expected 0 to {size.max(axis=0).round(1).tolist()}. Coordinates rlnCoordinateX "
            f"to Z must be in {unit} from the corner; correct them, or read without local defocus (defocus_hand=0, "
            "--defocus-hand 0)."
        )
