"""Positions from STAR files of RELION, WarpTools, NextPYP, Warp and M, pytom-match-pick and cryoSRPNT."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float64

from tomodrgn.imaging.pose import euler_to_rotation
from tomodrgn.particles.optimisation_set import ANGLES, SUBTOMOGRAM_ANGLES, particle_angles_deg
from tomodrgn.particles.particle_set import SourceStar
from tomodrgn.particles.position_set import Positions, tomogram_root
from tomodrgn.particles.source_table import SourceTable, with_optics
from tomodrgn.particles.tomogram_table import TomogramTable

__all__ = ["positions_from_star", "running_names", "star_kind"]

logger = logging.getLogger(__name__)

COORDINATES = tuple(f"rlnCoordinate{axis}" for axis in "XYZ")
CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
PIXEL_SIZES = ("rlnImagePixelSize", "rlnPixelSize", "rlnDetectorPixelSize")
M_COORDINATES = tuple(f"wrpCoordinate{axis}1" for axis in "XYZ")
M_ANGLES = ("wrpAngleRot1", "wrpAngleTilt1", "wrpAnglePsi1")
WARP_VOLUME = re.compile(r"(?:.*[/\\])?([^/\\]+_\d{7})_\d+(?:\.\d+)?A\.mrcs?")


def star_kind(source: SourceStar, tomograms: TomogramTable | None) -> str:
    """What wrote a STAR file of positions.

    Raises
    ------
    ValueError
        If the file has no positions in tomograms; the message lists the columns found and those wanted.
    """
    columns = set(source.rows)
    if columns.issuperset(M_COORDINATES):
        return "m"
    if columns.issuperset({"rlnTomoName", *CENTRED}):
        return "relion5"
    if columns.issuperset(COORDINATES):
        unbinned = any("rlnTomoTiltSeriesPixelSize" in block for block in source.particles.values())
        known = unbinned or tomograms is not None or "rlnMicrographName" not in columns
        if "rlnTomoName" in columns and known:
            return _tomogram_kind(source, tomograms)
        if columns.issuperset({"rlnGroupName", "rlnImageName"}) and source.rows["rlnImageName"].str.contains("@").all():
            return "cryosrpnt"
        if "rlnMicrographName" in columns:
            return "volume_series"
    raise ValueError(
        f"Got {source.particles_path} with the columns {', '.join(map(str, list(source.rows)[:40])) or 'none'}, "
        "expected the tomogram and the position of each particle: _rlnTomoName or _rlnMicrographName with "
        "_rlnCoordinateX, Y and Z, or _rlnTomoName with _rlnCenteredCoordinateXAngst, YAngst and ZAngst. A file of "
        "tilt images has none: give the file that the particles were extracted from."
    )


def _tomogram_kind(source: SourceStar, tomograms: TomogramTable | None) -> str:
    """Whose pixels rlnCoordinateX, Y and Z are: extracted ones (WarpTools, NextPYP) or those of the tilt series."""
    flags = [block["rlnTomoSubTomosAre2DStacks"] for block in source.particles.values()
             if "rlnTomoSubTomosAre2DStacks" in block]  # fmt: skip
    stacks = any((flag.str.strip() == "1").any() for flag in flags) or "rlnTomoVisibleFrames" in source.rows
    if not stacks:
        return "relion4"
    known = pd.DataFrame() if tomograms is None else tomograms.global_columns
    if "rlnTomoTiltSeriesStarFile" in known:
        return "relion5"
    series = known.get("rlnTomoTiltSeriesName", pd.Series(dtype=str))
    if source.rows["rlnTomoName"].str.endswith(".tomostar").all() or series.str.startswith("dummy").any():
        return "warptools"
    unflagged = not any("rlnCtfDataAreCtfPremultiplied" in block for block in source.particles.values())
    return "nextpyp" if unflagged or series.str.startswith("Movies/").any() else "relion5"


def positions_from_star(
    source: SourceStar, kind: str, *, tomograms: TomogramTable | None, pixel_size_angst: float | None
) -> Positions:
    """Positions of a STAR file of a known kind; see `read_positions`.

    Raises
    ------
    ValueError
        If columns, the pixel size or the tomograms file are missing, or cells are no numbers.
    """
    rows = with_optics(source)
    if kind == "cryosrpnt":
        rows = rows.take(np.flatnonzero(~rows.frame["rlnGroupName"].duplicated()))
    if pixel_size_angst is not None and (kind == "m" or rows.has(*CENTRED)):
        raise ValueError(
            f"Got a pixel size for {rows.path}, whose positions are in angstrom, expected none. Leave it out "
            "(pixel_size_angst, --pixel-size-angst)."
        )
    read: dict[str, Callable[..., Positions]] = {
        "m": _species, "volume_series": _volume_series, "cryosrpnt": _volume_series,
    }  # fmt: skip
    return read.get(kind, _tomogram_particles)(rows, kind, tomograms=tomograms, pixel_size_angst=pixel_size_angst)


def _species(rows: SourceTable, kind: str, **_: object) -> Positions:
    """M: angstrom from the corner, at the first of its time samples; particle n of each source counts from 0."""
    rows.require("wrpSourceName", *M_ANGLES)
    roots = pd.Series([tomogram_root(str(name)) for name in rows.text("wrpSourceName")], dtype=object)
    number = roots.groupby(roots).cumcount()
    return _positions(
        rows, kind,
        particle_id=np.array([f"{root}_{n:07d}" for root, n in zip(roots, number, strict=True)], dtype=object),
        tomogram=rows.text("wrpSourceName"),
        position_angst=_columns(rows, M_COORDINATES),
        rotations=euler_to_rotation(*(rows.numbers(column) for column in M_ANGLES)),
    )  # fmt: skip


def _volume_series(
    rows: SourceTable, kind: str, *, tomograms: TomogramTable | None, pixel_size_angst: float | None
) -> Positions:
    """Warp 1, RELION 3, cryoSRPNT, pytom-match-pick: pixels from the centre of the first voxel, less the origin."""
    tomogram = rows.text("rlnMicrographName") if rows.has("rlnMicrographName") else np.full(len(rows), "", dtype=object)
    at = None if tomograms is None else tomograms.find(tomogram, rows.path)
    position = _columns(rows, COORDINATES)
    sized = pixel_size_angst is not None or any(rows.has(column) for column in PIXEL_SIZES)
    if not sized and position.min() >= 0 and position.max() <= 1:
        position = _whole_tomogram(rows, position, None if tomograms is None else tomograms.last_voxel_angst[at])
    else:
        pixel = _volume_pixel_angst(rows, pixel_size_angst)[:, None]
        position = position * pixel
        if kind != "cryosrpnt":  # whose origins belong to images
            position -= _origin_angst(rows, pixel)
    if tomograms is not None and at is not None:
        tomograms.check_inside(position, at, rows.path)
    return _positions(
        rows, kind,
        particle_id=_volume_names(rows, tomogram),
        tomogram=tomogram,
        position_angst=position,
        rotations=_particle_rotations(rows, kind),
    )  # fmt: skip


def _whole_tomogram(
    rows: SourceTable, fraction: np.ndarray, last_voxel_angst: np.ndarray | None
) -> Float64[np.ndarray, "k 3"]:
    """Coordinates from 0 to 1, as Warp's template matching writes them: 1 is the centre of the last voxel."""
    if last_voxel_angst is None:
        raise ValueError(
            f"Got coordinates from 0 to 1 in {rows.place}: fractions of the tomogram, as Warp's template matching "
            "writes them, and no tomograms file, which has the sizes. Give it (tomograms, --tomograms)."
        )
    return fraction * last_voxel_angst


def _volume_pixel_angst(rows: SourceTable, given: float | None) -> Float64[np.ndarray, " k"]:
    if given is not None:
        return np.full(len(rows), given)
    if rows.has("rlnImagePixelSize"):
        pixel = rows.numbers("rlnImagePixelSize")
    elif rows.has("rlnPixelSize"):
        pixel = rows.numbers("rlnPixelSize")
    elif rows.has("rlnDetectorPixelSize"):
        pixel = rows.numbers("rlnDetectorPixelSize") * 1e4 / rows.numbers("rlnMagnification", default=1e4)
    else:
        raise ValueError(
            f"Got {rows.place} with coordinates in pixels and no _rlnPixelSize, _rlnDetectorPixelSize or "
            "_rlnImagePixelSize, expected the size of a pixel. Give it (pixel_size_angst, --pixel-size-angst)."
        )
    if not (pixel > 0).all():
        raise ValueError(f"Got a pixel size of {pixel.min():g} angstrom in {rows.place}, expected more. Correct it.")
    return pixel


def _volume_names(rows: SourceTable, tomogram: np.ndarray) -> np.ndarray:
    """The given ids; rlnGroupName; the Warp number in rlnImageName; the image; a running number in the tomogram."""
    if rows.has("tomodrgnParticleId"):
        return rows.text("tomodrgnParticleId")
    if rows.has("rlnGroupName") and rows.frame["rlnGroupName"].is_unique:
        return rows.text("rlnGroupName")
    if not rows.has("rlnImageName") or not rows.frame["rlnImageName"].is_unique:
        return running_names(tomogram)
    images = rows.text("rlnImageName")
    numbered = [WARP_VOLUME.fullmatch(str(image)) for image in images]
    names = np.array([found[1] if found else "" for found in numbered], dtype=object)
    return names if "" not in names and pd.Series(names).is_unique else images


def running_names(tomogram: np.ndarray) -> np.ndarray:
    """``<tilt series>/<number from 1>``, as RELION and WarpTools name particles in the order of their rows."""
    roots = pd.Series([tomogram_root(str(name)) for name in tomogram], dtype=object)
    number = roots.groupby(roots).cumcount() + 1
    return np.array([f"{root}/{n}" for root, n in zip(roots, number, strict=True)], dtype=object)


def _tomogram_particles(
    rows: SourceTable, kind: str, *, tomograms: TomogramTable | None, pixel_size_angst: float | None
) -> Positions:
    """WarpTools, NextPYP, RELION 4 and 5: particles of named tomograms, with an origin in the subtomogram's frame."""
    tomogram = rows.text("rlnTomoName")
    at = None if tomograms is None else tomograms.find(tomogram, rows.path)
    if rows.has(*CENTRED):
        if tomograms is None or at is None:
            raise ValueError(
                f"Got {rows.path} with positions from the centre of each tomogram and no tomograms file, which has "
                "their sizes. Give the optimisation set, or the tomograms file as well (tomograms, --tomograms)."
            )
        corner = _columns(rows, CENTRED) + tomograms.size_angst[at] / 2
    else:
        known = None if tomograms is None or at is None else tomograms.pixel_size_angst[at]
        corner = _columns(rows, COORDINATES) * _tomogram_pixel_angst(rows, kind, known, pixel_size_angst)[:, None]
    subtomogram = np.broadcast_to(np.eye(3), (len(rows), 3, 3))
    if rows.has(*SUBTOMOGRAM_ANGLES):
        subtomogram = euler_to_rotation(*(rows.numbers(column) for column in SUBTOMOGRAM_ANGLES))
    position = corner - np.einsum("kij,kj->ki", subtomogram, _origin_angst(rows, None))
    if tomograms is not None and at is not None:
        tomograms.check_inside(position, at, rows.path)
    return _positions(
        rows, kind,
        particle_id=_tomogram_particle_names(rows),
        tomogram=tomogram,
        position_angst=position,
        rotations=subtomogram @ _particle_rotations(rows, kind),
    )  # fmt: skip


def _tomogram_pixel_angst(
    rows: SourceTable, kind: str, of_tomograms: np.ndarray | None, given: float | None
) -> Float64[np.ndarray, " k"]:
    """Extracted pixels of WarpTools and NextPYP, unbinned ones of RELION."""
    column = "rlnImagePixelSize" if kind in ("warptools", "nextpyp") else "rlnTomoTiltSeriesPixelSize"
    if given is not None:
        return np.full(len(rows), given)
    if column.startswith("rlnTomo") and of_tomograms is not None:
        return of_tomograms
    if not rows.has(column):
        raise ValueError(
            f"Got {rows.place} with coordinates in pixels and no _{column}, expected the size of a pixel. Give it "
            "(pixel_size_angst, --pixel-size-angst), or the tomograms file (tomograms, --tomograms)."
        )
    return rows.numbers(column)


def _tomogram_particle_names(rows: SourceTable) -> np.ndarray:
    for column in ("tomodrgnParticleId", "rlnTomoParticleName"):
        if rows.has(column):
            return rows.text(column)
    return running_names(rows.text("rlnTomoName"))


def _columns(rows: SourceTable, names: tuple[str, ...]) -> Float64[np.ndarray, "k 3"]:
    return np.stack([rows.numbers(name) for name in names], axis=1)


def _origin_angst(rows: SourceTable, pixel: np.ndarray | None) -> Float64[np.ndarray, "k 3"]:
    if pixel is not None and not rows.has("rlnOriginXAngst"):
        return np.stack([rows.numbers(f"rlnOrigin{axis}", default=0.0) for axis in "XYZ"], axis=1) * pixel
    return np.stack([rows.numbers(f"rlnOrigin{axis}Angst", default=0.0) for axis in "XYZ"], axis=1)


def _particle_rotations(rows: SourceTable, kind: str) -> Float64[np.ndarray, "k 3 3"]:
    if not any(rows.has(angle) for angle in ANGLES):
        if not rows.has(*SUBTOMOGRAM_ANGLES):
            logger.warning("Got no rlnAngleRot, Tilt and Psi in %s: particles are taken as not rotated.", rows.place)
        return np.tile(np.eye(3), (len(rows), 1, 1))
    if kind == "warptools":
        return euler_to_rotation(*particle_angles_deg(rows))
    return euler_to_rotation(*(rows.numbers(angle) for angle in ANGLES))


def _positions(rows: SourceTable, kind: str, **arrays: np.ndarray) -> Positions:
    return Positions(kind=kind, path=rows.path, source=rows.frame, **arrays)
