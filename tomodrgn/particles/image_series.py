"""One row an image: Warp v1 and M (also refined by RELION 3), and cryoSRPNT, become a ParticleSet."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from jaxtyping import Float64

from tomodrgn.imaging.pose import euler_to_rotation
from tomodrgn.particles.particle_set import CtfParameters, ParticleSet, SourceStar
from tomodrgn.particles.source_table import DataFlags, SourceTable, half_sets, one_value, with_optics
from tomodrgn.particles.stack_files import SearchPlaces, StackFiles, find_stacks

__all__ = ["read_image_series"]

logger = logging.getLogger(__name__)

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
CTF_COLUMNS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnVoltage", "rlnSphericalAberration",
               "rlnAmplitudeContrast")  # fmt: skip


def read_image_series(
    source: SourceStar, dialect: str, *, places: SearchPlaces, flags: DataFlags, check_stacks: bool = True
) -> ParticleSet:
    """Particles of a file with one row an image.

    Parameters
    ----------
    source
        The file; `source.rows` are the images.
    dialect
        ``"warp"`` or ``"cryosrpnt"``. The pose of each row is complete (the tilt is folded in). The exposure is
        rlnCtfBfactor / -4 and the unsigned tilt arccos(rlnCtfScalefactor). Warp images are light on dark and are
        inverted, cryoSRPNT images are not.
    places
        Where image stacks are looked for.
    check_stacks
        Whether to open the header of each stack; if not, `box_px` is 0.

    Raises
    ------
    ValueError
        If a column is missing, a cell is no number, pixel sizes differ, or a slice is not in its stack.
    FileNotFoundError
        If a stack is missing.
    """
    rows = with_optics(source)
    rows.require("rlnImageName", "rlnGroupName", *ANGLES)
    id_column = "tomodrgnParticleId" if rows.has("tomodrgnParticleId") else "rlnGroupName"
    codes, ids = rows.codes(id_column)
    order = np.argsort(codes, kind="stable")
    rows = rows.take(order)
    counts = np.bincount(codes, minlength=len(ids))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    pixel_size = _pixel_size_angst(rows)
    stack_index, slice_index, stacks = _slices(rows, places, pixel_size_angst=pixel_size, check=check_stacks)
    scale = rows.numbers("rlnCtfScalefactor") if rows.has("rlnCtfScalefactor") else None
    premultiplied = flags.ctf_premultiplied
    if premultiplied is None:
        premultiplied = bool(rows.numbers("rlnCtfDataAreCtfPremultiplied", default=0.0).max(initial=0.0))
    dose_weighted = bool(flags.dose_weighted)
    invert = flags.invert if flags.invert is not None else (dialect == "warp" and not premultiplied)
    return ParticleSet(
        dialect=dialect,
        particle_id=ids,
        tomogram=_tomograms(rows.text("rlnGroupName")[offsets[:-1]], dialect),
        half_set=half_sets(rows, offsets),
        offsets=offsets,
        rotations=euler_to_rotation(*(rows.numbers(angle) for angle in ANGLES)),
        shifts_px=_shifts_px(rows, pixel_size),
        ctf=_ctf(rows),
        dose_e_per_angst2=_doses(rows),
        tilt_deg=_tilts_deg(scale, len(rows), rows.place),
        image_scale=scale if dose_weighted and scale is not None else np.ones(len(rows)),
        stack_paths=stacks.paths,
        stack_index=stack_index,
        slice_index=slice_index,
        box_px=stacks.box_px,
        pixel_size_angst=pixel_size,
        ctf_premultiplied=premultiplied,
        dose_weighted=dose_weighted,
        invert=invert,
        source=source,
        source_row=order,
        source_slot=np.zeros(len(rows), dtype=np.int64),
    )


def _pixel_size_angst(rows: SourceTable) -> float:
    if rows.has("rlnImagePixelSize"):
        sizes = rows.numbers("rlnImagePixelSize")
    else:
        sizes = rows.numbers("rlnDetectorPixelSize") * 1e4 / rows.numbers("rlnMagnification", default=1e4)
    size = one_value(sizes, "the pixel size (angstrom)", rows.place)
    if size <= 0:
        raise ValueError(
            f"Got the pixel size {size:g} angstrom in {rows.place}, expected a positive number. Correct it."
        )
    return size


def _slices(
    rows: SourceTable, places: SearchPlaces, *, pixel_size_angst: float, check: bool
) -> tuple[np.ndarray, np.ndarray, StackFiles]:
    """Stack and 0-based slice of each row, from names ``000001@path`` that count from 1."""
    parts = rows.frame["rlnImageName"].str.partition("@")
    numbers = pd.to_numeric(parts[0], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = np.flatnonzero((parts[1] != "@").to_numpy() | ~(numbers >= 1) | (numbers % 1 != 0))
    if len(bad):
        raise ValueError(
            f"Got rlnImageName {rows.frame['rlnImageName'].iloc[bad[0]]!r} in {rows.place} ({len(bad)} such rows), "
            "expected `number@path` with numbers from 1. Give the file of an image series."
        )
    stack_index, names = pd.factorize(parts[2])
    stacks = find_stacks([str(n) for n in names], places, pixel_size_angst=pixel_size_angst, check=check)
    slices = numbers.astype(np.int64) - 1
    if stacks.n_slices is not None:
        outside = np.flatnonzero(slices >= stacks.n_slices[stack_index])
        if len(outside):
            stack = int(stack_index[outside[0]])
            raise ValueError(
                f"Got image {slices[outside[0]] + 1} of {stacks.paths[stack]}, which holds {stacks.n_slices[stack]} "
                f"({len(outside)} such rows in {rows.place}). Use the stack that belongs to this file."
            )
    return stack_index.astype(np.int64), slices, stacks


def _tomograms(group_names: np.ndarray, dialect: str) -> np.ndarray:
    """Warp names particles `<tomogram>_<7 digits>`; cryoSRPNT has no tomograms."""
    if dialect != "warp":
        return np.full(len(group_names), "", dtype=object)
    names = pd.Series(group_names, dtype=str)
    return names.str.replace(r"_\d{7}$", "", regex=True).where(names.str.contains(r"_\d{7}$"), "").to_numpy(object)


def _shifts_px(rows: SourceTable, pixel_size_angst: float) -> Float64[np.ndarray, "n 2"]:
    if rows.has("rlnOriginXAngst", "rlnOriginYAngst"):
        return np.stack([rows.numbers(f"rlnOrigin{axis}Angst") / pixel_size_angst for axis in "XY"], axis=1)
    return np.stack([rows.numbers(f"rlnOrigin{axis}", default=0.0) for axis in "XY"], axis=1)


def _ctf(rows: SourceTable) -> CtfParameters | None:
    if not rows.has("rlnDefocusU"):
        logger.info("Got no rlnDefocusU in %s: the images are taken as free of a CTF.", rows.place)
        return None
    defocus_u, defocus_v, angle, voltage, cs, contrast = (rows.numbers(column) for column in CTF_COLUMNS)
    return CtfParameters(
        defocus_u_angst=defocus_u,
        defocus_v_angst=defocus_v,
        defocus_angle_deg=angle,
        phase_shift_deg=rows.numbers("rlnPhaseShift", default=0.0),
        voltage_kv=voltage,
        cs_mm=cs,
        amplitude_contrast=contrast,
    )


def _doses(rows: SourceTable) -> Float64[np.ndarray, " n"]:
    """Exposure from rlnCtfBfactor = -4 x exposure (Warp's convention)."""
    if not rows.has("rlnCtfBfactor"):
        logger.warning("Got no rlnCtfBfactor in %s: exposures are unknown and taken as 0.", rows.place)
        return np.zeros(len(rows))
    doses = rows.numbers("rlnCtfBfactor") / -4.0 + 0.0
    if (doses < 0).any():
        logger.warning(
            "Got rlnCtfBfactor above 0 in %s (%s rows): exposures cannot be recovered and are taken as 0. "
            "Write -4 x exposure into that column for dose weighting.", rows.place, (doses < 0).sum(),
        )  # fmt: skip
        return np.zeros(len(rows))
    return doses


def _tilts_deg(scale: np.ndarray | None, n_images: int, place: str) -> Float64[np.ndarray, " n"]:
    if scale is None:
        logger.warning("Got no rlnCtfScalefactor in %s: tilt angles are unknown.", place)
        return np.full(n_images, np.nan)
    above = int((scale > 1.0005).sum())
    if above:
        logger.warning(
            "Got %s values of rlnCtfScalefactor above 1 in %s: taken as untilted. The weights were refined and are no "
            "cosine of the tilt angle.", above, place,
        )  # fmt: skip
    return np.rad2deg(np.arccos(np.clip(scale, 0.0, 1.0)))
