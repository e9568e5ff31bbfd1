"""The tilt images of tomograms: the tables of a tomograms file, one row a tilt, and the size of each tomogram."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from tomodrgn.imaging.pose import axis_rotation
from tomodrgn.particles.particle_set import SourceStar
from tomodrgn.particles.source_table import SourceTable

__all__ = [
    "PROJECTION",
    "TiltTables",
    "local_defocus_axis",
    "read_tilt_tables",
    "signed_tilt_deg",
    "tilt_series_blocks",
]

logger = logging.getLogger(__name__)

PROJECTION = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ")
TILT_ANGLES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")


@dataclass(frozen=True, kw_only=True)
class TiltTables:
    """Tilt images of one or several tomograms, one after another.

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


def read_tilt_tables(source: SourceStar, names: np.ndarray) -> TiltTables:
    """The tilt tables of the named tomograms.

    Raises
    ------
    ValueError
        If a tomogram has no table, a table lacks columns, or a cell is no number.
    """
    blocks = tilt_series_blocks(source.tomograms)
    missing = [name for name in names if name not in blocks]
    if missing:
        raise ValueError(
            f"Got {len(missing)} tomograms in {source.particles_path} without a tilt table, first {missing[:3]}; the "
            f"tomograms file named in {source.path} has {list(blocks)[:3]}. Use the tomograms file of the same export."
        )
    tables = [_tilt_table(SourceTable(blocks[name], source.path, name)) for name in names]
    return TiltTables(
        start=np.concatenate([[0], np.cumsum([len(table.dose) for table in tables])]),
        **{
            field: np.concatenate([getattr(table, field) for table in tables])
            for field in ("rotations", "tilt_deg", "defocus", "scale", "dose")
        },
    )


def _tilt_table(table: SourceTable) -> TiltTables:
    if table.has(*PROJECTION):
        rotations = np.stack([_vectors(table, column) for column in PROJECTION], axis=1)
    else:
        table.require(*TILT_ANGLES)
        x, y, z = (table.numbers(column) for column in TILT_ANGLES)
        rotations = axis_rotation("z", z) @ axis_rotation("y", y) @ axis_rotation("x", x)
    if not table.has("rlnMicrographPreExposure"):
        logger.warning("Got no rlnMicrographPreExposure in %s: exposures are unknown and taken as 0.", table.place)
    defocus = [table.numbers(column) for column in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")]
    return TiltTables(
        start=np.array([0, len(table)]),
        rotations=rotations,
        tilt_deg=signed_tilt_deg(rotations),
        defocus=np.stack([*defocus, table.numbers("rlnPhaseShift", default=0.0)], axis=1),
        scale=table.numbers("rlnCtfScalefactor", default=1.0),
        dose=table.numbers("rlnMicrographPreExposure", default=0.0),
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
    rows: SourceTable, source: SourceStar, position_angst: Float64[np.ndarray, "k 3"]
) -> Float64[np.ndarray, "k 3"]:
    """``-hand (c - C)`` of each particle in angstrom; its dot product with the beam is the particle's local defocus.

    Parameters
    ----------
    rows
        Particle rows, with rlnTomoName.
    position_angst
        Position c of each particle, from the corner of its tomogram. C is the centre of the tomogram.

    Raises
    ------
    ValueError
        If a tomogram is not listed, or particles lie outside their tomogram.
    """
    if source.defocus_hand == 0:
        return np.zeros((len(rows), 3))
    table = _global_table(source)
    if table is None or not table.has(*SIZES, "rlnTomoTiltSeriesPixelSize"):
        logger.warning("Got no sizes of the tomograms of %s: local defocus is left out.", source.path)
        return np.zeros((len(rows), 3))
    tomogram, names = rows.codes("rlnTomoName")
    at = pd.Index(table.text("rlnTomoName")).get_indexer(names)
    if (at < 0).any():
        missing = names[at < 0]
        raise ValueError(
            f"Got {len(missing)} tomograms that {table.place} does not list, first {list(missing[:3])}. "
            "Use the tomograms file of the same export."
        )
    table = table.take(at)
    size = np.stack([table.numbers(column) for column in SIZES], axis=1)
    size = (size * table.numbers("rlnTomoTiltSeriesPixelSize")[:, None])[tomogram]
    _check_positions(rows, position_angst, size)
    if source.defocus_hand == "auto":
        hand = np.sign(table.numbers("rlnTomoHand", default=-1.0))[tomogram]
    else:
        hand = np.full(len(rows), float(source.defocus_hand))
    return -hand[:, None] * (position_angst - size / 2)


def _global_table(source: SourceStar) -> SourceTable | None:
    tilt_tables = tilt_series_blocks(source.tomograms)
    for name, block in source.tomograms.items():
        if "rlnTomoName" in block and name not in tilt_tables:
            return SourceTable(block, source.path, name)
    return None


def _check_positions(rows: SourceTable, position: np.ndarray, size: np.ndarray) -> None:
    """Refuse positions outside the tomogram by more than a tenth of its longest side."""
    margin = 0.1 * size.max(axis=1, keepdims=True)
    outside = ((position < -margin) | (position > size + margin)).any(axis=1)
    if outside.any():
        low, high = (edge.round(1).tolist() for edge in (position.min(axis=0), position.max(axis=0)))
        raise ValueError(
            f"Got {int(outside.sum())} of {len(rows)} particles outside their tomogram in {rows.place}: positions from "
            f"{low} to {high} angstrom, expected 0 to {size.max(axis=0).round(1).tolist()}. Coordinates must be in "
            "pixels of rlnImagePixelSize (not bin-1 pixels or angstrom); correct them, or read without local defocus "
            "(defocus_hand=0)."
        )
