"""Rows of cisTEM, and of emClarity through cisTEM: labels, units and signs of their own."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from tomodrgn.particles.image_rows import ImageRows
from tomodrgn.particles.particle_set import CtfParameters, SourceStar
from tomodrgn.particles.source_table import SourceTable, one_value
from tomodrgn.particles.stack_files import MissingStacksError

__all__ = ["cistem_rows", "guess_stack"]

logger = logging.getLogger(__name__)

NEEDED = ("cisTEMPositionInStack", "cisTEMAnglePsi", "cisTEMAngleTheta", "cisTEMAnglePhi", "cisTEMParticleGroup",
          "cisTEMPixelSize")  # fmt: skip
# cisTEM's labels, and those of emClarity.
VOLTAGE = ("cisTEMMicroscopeVoltagekV", "cisTEMVoltage")
CS = ("cisTEMMicroscopeCsMM", "cisTEMCs")
STAGES = ("_initial", "_refined")


def cistem_rows(table: SourceTable, source: SourceStar, dialect: str, *, check_stacks: bool = True) -> ImageRows:
    """Rows with cisTEM's labels.

    Psi, theta and phi are RELION's psi, tilt and rot. Shifts are in angstrom and of the opposite sign. The exposure is
    that at the end of the image (cisTEMTotalExposure). Rows with cisTEMImageActivity -1, cisTEMOccupancy 0 or, from
    emClarity, cisTEMBeamTiltGroup 0 are left out.

    Raises
    ------
    ValueError
        If a column is missing, a cell is no number, pixel sizes differ, no row is left, or the unit of phase shifts is
        unknown.
    MissingStacksError
        If no stack is named, found or given, and stacks are to be checked.
    """
    table.require(*NEEDED)
    kept = _kept(table, dialect)
    table = table.take(kept)
    pixel_size = source.options.pixel_size_angst or one_value(
        table.numbers("cisTEMPixelSize"), "the pixel size (angstrom)", table.place
    )
    shifts = np.stack([table.numbers(f"cisTEM{axis}Shift", default=0.0) for axis in "XY"], axis=1)
    numbers = table.numbers("cisTEMPositionInStack")
    if numbers.min() < 1:
        raise ValueError(f"Got cisTEMPositionInStack {numbers.min():g} in {table.place}, expected numbers from 1.")
    ids = table.text("tomodrgnParticleId" if table.has("tomodrgnParticleId") else "cisTEMParticleGroup")
    return ImageRows(
        particle_id=ids,
        tomogram=_tomograms(table, ids),
        angles_deg=np.stack([table.numbers(f"cisTEMAngle{angle}") for angle in ("Phi", "Theta", "Psi")], axis=1),
        shifts_px=-shifts / pixel_size,
        ctf=_ctf(table, source),
        dose_e_per_angst2=_doses(table),
        tilt_deg=_tilts_deg(table),
        scale=np.ones(len(table)),
        half_set=_half_sets(table, dialect),
        stack=_stack_names(table, source, check=check_stacks),
        slice_index=numbers.astype(np.int64) - 1,
        pixel_size_angst=pixel_size,
        ctf_premultiplied=False,
        dose_weighted=False,
        invert=False,
        kept=kept,
    )


def _kept(table: SourceTable, dialect: str) -> Bool[np.ndarray, " rows"]:
    """Rows that are images to be used."""
    kept = table.numbers("cisTEMImageActivity", default=1.0) >= 0
    kept &= table.numbers("cisTEMOccupancy", default=100.0) > 0
    if dialect == "emclarity":
        kept &= table.numbers("cisTEMBeamTiltGroup", default=1.0) > 0
    if not kept.any():
        raise ValueError(
            f"Got {len(table)} rows in {table.place}, all of which are switched off (cisTEMImageActivity, "
            "cisTEMOccupancy or emClarity's cisTEMBeamTiltGroup), expected images. Give the file before they were."
        )
    if not kept.all():
        logger.warning("Left out %s of %s images that are switched off in %s.", (~kept).sum(), len(kept), table.place)
    return kept


def _tomograms(table: SourceTable, particle_id: np.ndarray) -> np.ndarray:
    """File of the image that a particle comes from; the number of a tilt behind its name is left out."""
    for column in ("cisTEMOriginalImageFilename", "cisTEMReference3DFilename"):
        if table.has(column) and (table.frame[column] != "").any():
            names = table.frame[column].str.replace(r"^.*/|\.[^./]*$", "", regex=True)
            differ = names.groupby(particle_id).transform("nunique").gt(1).any()
            return (names.str.replace(r"_\d+$", "", regex=True) if differ else names).to_numpy(object)
    return np.full(len(table), "", dtype=object)


def _ctf(table: SourceTable, source: SourceStar) -> CtfParameters:
    return CtfParameters(
        defocus_u_angst=table.numbers("cisTEMDefocus1"),
        defocus_v_angst=table.numbers("cisTEMDefocus2"),
        defocus_angle_deg=table.numbers("cisTEMDefocusAngle"),
        phase_shift_deg=_phase_shifts_deg(table, source),
        voltage_kv=_either(table, VOLTAGE),
        cs_mm=_either(table, CS),
        amplitude_contrast=table.numbers("cisTEMAmplitudeContrast"),
    )


def _either(table: SourceTable, columns: tuple[str, ...]) -> Float64[np.ndarray, " n"]:
    return table.numbers(next((column for column in columns if table.has(column)), columns[0]))


def _phase_shifts_deg(table: SourceTable, source: SourceStar) -> Float64[np.ndarray, " n"]:
    """CisTEM writes radians and reads degrees, so small numbers may be either."""
    shifts = table.numbers("cisTEMPhaseShift", default=0.0)
    unit = source.options.phase_unit
    largest = np.abs(shifts).max(initial=0.0)
    if unit is None and 0 < largest <= np.pi:
        raise ValueError(
            f"Got cisTEMPhaseShift up to {largest:g} in {table.place}, which may be radians or degrees. "
            "Say which: phase_unit (--phase-unit) rad or deg."
        )
    if unit is None and largest:
        logger.warning(
            "Got cisTEMPhaseShift up to %g in %s: taken as degrees, since no phase shift has that many radians. Say "
            "otherwise with phase_unit (--phase-unit).", largest, table.place,
        )  # fmt: skip
    return np.rad2deg(shifts) if unit == "rad" else shifts


def _doses(table: SourceTable) -> Float64[np.ndarray, " n"]:
    if not table.has("cisTEMTotalExposure"):
        logger.warning("Got no cisTEMTotalExposure in %s: exposures are unknown and taken as 0.", table.place)
    return table.numbers("cisTEMTotalExposure", default=0.0)


def _tilts_deg(table: SourceTable) -> Float64[np.ndarray, " n"]:
    if table.has("cisTEMTiltAngle"):
        return table.numbers("cisTEMTiltAngle")
    logger.warning(
        "Got no tilt angles in %s: images are not weighted by tilt. Name a column of angles in degrees as "
        "tilt_column (--tilt-column) if there is one.", table.place,
    )  # fmt: skip
    return np.full(len(table), np.nan)


def _half_sets(table: SourceTable, dialect: str) -> Int64[np.ndarray, " n"]:
    """CisTEM's assigned subset; emClarity writes half sets as beam-tilt groups."""
    column = "cisTEMBeamTiltGroup" if dialect == "emclarity" else "cisTEMAssignedSubset"
    values = table.numbers(column, default=0.0)
    return np.where(np.isin(values, (1, 2)), values, 0).astype(np.int64)


def _stack_names(table: SourceTable, source: SourceStar, *, check: bool) -> np.ndarray:
    column, stack = "cisTEMStackFilename", source.options.stack
    if stack is None and table.has(column) and (table.frame[column] != "").all():
        return table.text(column)
    if stack is None and check:
        raise MissingStacksError(
            f"Got {source.path}, which does not name its image stack, and no stack of that name beside it. "
            "Give the stack (--stack FILE).",
            names=[f"{source.path.stem}.mrc"],
            n_stacks=1,
            option="--stack FILE",
        )
    return np.full(len(table), str(stack or f"{source.path.stem}.mrc"), dtype=object)


def guess_stack(path: Path) -> Path | None:
    """Path of the stack of that name beside a file; emClarity's stages of refinement share one stack."""
    path = path.absolute()
    stem = path.stem
    for stage in STAGES:
        stem = stem.removesuffix(stage)
    names = (f"{name}{suffix}" for name in dict.fromkeys((path.stem, stem)) for suffix in (".mrc", ".mrcs"))
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
