"""Positions from the particle lists of STOPGAP, TOM/AV3, Dynamo and PyTom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from tomodrgn.imaging.pose import axis_rotation
from tomodrgn.io.motive_lists import read_dynamo_table, read_em_list, read_pytom_list
from tomodrgn.io.star import read_star
from tomodrgn.particles.position_set import Positions
from tomodrgn.particles.position_tables import running_names
from tomodrgn.particles.source_table import SourceTable, one_value

__all__ = ["ListPixels", "positions_from_list", "positions_from_stopgap"]

MOTIVE_LIST, WEDGE_LIST = "stopgap_motivelist", "stopgap_wedgelist"
DYNAMO_NAMES = ("tag", "aligned", "averaged", "dx", "dy", "dz", "tdrot", "tilt", "narot", "cc", "cc2", "cpu", "ftype",
                "ymintilt", "ymaxtilt", "xmintilt", "xmaxtilt", "fs1", "fs2", "tomo", "reg", "class", "annotation",
                "x", "y", "z")  # fmt: skip
DYNAMO_PIXEL = 35
EM_NAMES = ("score", "geom1", "geom2", "subtomo_num", "tomo_num", "object", "geom3", "orig_x", "orig_y", "orig_z",
            "x_shift", "y_shift", "z_shift", "geom4", "geom5", "geom6", "phi", "psi", "the", "class")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ListPixels:
    """What the user says of the pixels of a list: their size, or a STOPGAP wedge list and the binning."""

    pixel_size_angst: float | None = None
    wedge_list: Path | None = None
    binning: float | None = None

    def size_angst(self, path: Path) -> float:
        """Size of the binned pixels in which the positions of `path` are written.

        Raises
        ------
        ValueError
            If neither the size nor wedge list and binning are given, or both are.
        """
        if self.wedge_list is None:
            if self.binning is not None:
                raise ValueError(
                    f"Got a binning for {path} without a wedge list, which has the unbinned pixel size. Give the size "
                    "of the binned pixels instead (pixel_size_angst, --pixel-size-angst), or the wedge list."
                )
            if self.pixel_size_angst is None:
                raise ValueError(
                    f"Got {path}, whose positions are in pixels of the binned tomogram, and no pixel size. Give it "
                    "(pixel_size_angst, --pixel-size-angst): the unbinned pixel size times the binning of the "
                    "tomograms that particles were picked in."
                )
            return self.pixel_size_angst
        if self.pixel_size_angst is not None or self.binning is None:
            raise ValueError(
                f"Got the wedge list {self.wedge_list}, which has the unbinned pixel size, expected with it the "
                "binning of the tomograms that particles were picked in (binning, --binning), and no other pixel size."
            )
        return self.binning * _wedge_pixel_angst(self.wedge_list)


def _wedge_pixel_angst(path: Path) -> float:
    blocks = read_star(path)
    if WEDGE_LIST not in blocks:
        raise ValueError(f"Got {path} without the block `data_{WEDGE_LIST}`. Give the wedge list of STOPGAP.")
    table = SourceTable(blocks[WEDGE_LIST], path, WEDGE_LIST)
    return one_value(table.numbers("pixelsize"), "the pixel size (angstrom)", table.place)


def positions_from_stopgap(blocks: dict[str, pd.DataFrame], path: Path, pixels: ListPixels) -> Positions:
    """A STOPGAP motive list; of rows with the same motl_idx that with the best score.

    Raises
    ------
    ValueError
        If columns or the pixel size are missing, or cells are no numbers.
    """
    rows = SourceTable(blocks[MOTIVE_LIST], path, MOTIVE_LIST)
    key = "motl_idx" if rows.has("motl_idx") else "subtomo_num"
    rows.require(key, "tomo_num")
    ids = _whole(rows.numbers(key))
    if rows.has("score"):
        order = np.lexsort((np.arange(len(rows)), -rows.numbers("score")))
        best = order[~pd.Series(ids[order]).duplicated().to_numpy()]
        rows, ids = rows.take(np.sort(best)), ids[np.sort(best)]
    return _motive_list(rows, ids, "stopgap", pixels)


def _motive_list(rows: SourceTable, ids: np.ndarray, kind: str, pixels: ListPixels) -> Positions:
    """Position = orig + shift, MATLAB counts from 1; A = Rz(psi) Rx(the) Rz(phi)."""
    corner_px = np.stack([rows.numbers(f"orig_{a}") + rows.numbers(f"{a}_shift", default=0.0) for a in "xyz"], axis=1)
    return Positions(
        particle_id=ids,
        tomogram=_whole(rows.numbers("tomo_num")),
        position_angst=(corner_px - 1.0) * pixels.size_angst(rows.path),
        rotations=_zxz(rows.numbers("phi"), rows.numbers("the"), rows.numbers("psi")),
        kind=kind,
        path=rows.path,
        source=rows.frame,
    )


def positions_from_list(path: Path, form: str, pixels: ListPixels) -> Positions:
    """Positions of a Dynamo table, a PyTom list or a TOM/AV3 motive list (`form` as `list_format` names it).

    Raises
    ------
    ValueError
        If the file is damaged or the pixel size is missing.
    """
    if form == "dynamo":
        return _dynamo(path, pixels)
    if form == "pytom":
        return _pytom(path, pixels)
    rows = SourceTable(pd.DataFrame(read_em_list(path), columns=list(EM_NAMES)).astype(str), path, "motive list")
    return _motive_list(rows, _unique_numbers(rows.numbers("subtomo_num"), rows.numbers("tomo_num")), "av3", pixels)


def _dynamo(path: Path, pixels: ListPixels) -> Positions:
    """Position = (x, y, z) + (dx, dy, dz); A = Rz(-tdrot) Rx(-tilt) Rz(-narot); column 36 may be the pixel size."""
    table = read_dynamo_table(path)
    frame = pd.DataFrame(table[:, : len(DYNAMO_NAMES)], columns=list(DYNAMO_NAMES))
    own = table[:, DYNAMO_PIXEL] if table.shape[1] > DYNAMO_PIXEL else np.zeros(len(table))
    if pixels == ListPixels() and (own > 0).all():
        pixels = ListPixels(pixel_size_angst=one_value(own, "the pixel size in column 36", str(path)))
    corner_px = table[:, 23:26] + table[:, 3:6]
    return Positions(
        particle_id=_unique_numbers(table[:, 0], table[:, 19]),
        tomogram=_whole(table[:, 19]),
        position_angst=corner_px * pixels.size_angst(path),
        rotations=_zxz(-table[:, 8], -table[:, 7], -table[:, 6]),
        kind="dynamo",
        path=path,
        source=frame.astype(str),
    )


def _pytom(path: Path, pixels: ListPixels) -> Positions:
    """Position = PickPosition + Shift; A = Rz(Z2) Rx(X) Rz(Z1)."""
    rows = SourceTable(read_pytom_list(path), path, "ParticleList")
    _require_zxz(rows)
    corner_px = np.stack([rows.numbers(f"PickPosition{a}") + rows.numbers(f"Shift{a}", default=0.0) for a in "XYZ"], 1)
    tomogram = rows.text("PickPositionOrigin") if rows.has("PickPositionOrigin") else np.full(len(rows), "", object)
    return Positions(
        particle_id=running_names(tomogram),
        tomogram=tomogram,
        position_angst=corner_px * pixels.size_angst(path),
        rotations=_zxz(rows.numbers("RotationZ1"), rows.numbers("RotationX"), rows.numbers("RotationZ2")),
        kind="pytom",
        path=path,
        source=rows.frame,
    )


def _require_zxz(rows: SourceTable) -> None:
    other = sorted(set(rows.text("RotationParadigm")) - {"ZXZ", ""}) if rows.has("RotationParadigm") else []
    if other:
        raise ValueError(f"Got rotations of paradigm {other[0]!r} in {rows.path}, expected ZXZ. Convert the list.")


def _zxz(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> Float64[np.ndarray, "k 3 3"]:
    """Rz(third) Rx(second) Rz(first), degrees."""
    return axis_rotation("z", third) @ axis_rotation("x", second) @ axis_rotation("z", first)


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers as text: ``24.000000`` is 24."""
    return np.array([f"{number:.0f}" for number in numbers], dtype=object)


def _unique_numbers(number: np.ndarray, tomogram: np.ndarray) -> np.ndarray:
    """The number of each particle, behind that of its tomogram where numbers repeat."""
    ids = _whole(number)
    if len(set(ids)) == len(ids):
        return ids
    return np.array([f"{t}/{n}" for t, n in zip(_whole(tomogram), ids, strict=True)], dtype=object)
