"""ImageRows: what a file with one row an image says of each image, in the units of a ParticleSet."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from tomodrgn.particles.particle_set import CtfParameters
from tomodrgn.particles.read_options import ReadOptions
from tomodrgn.particles.source_table import (
    SourceTable,
    one_value,
    random_subsets,
    text_to_numbers,
    warn_of_low_defocus,
)

__all__ = ["ImageRows", "relion_rows"]

logger = logging.getLogger(__name__)

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
MOST_IMAGES = 2**31 - 1  # of a stack
DROPPED_SCALE = 1e-3
DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")


@dataclass(frozen=True, kw_only=True)
class ImageRows:
    """The n images of a file in the order of its rows.

    Parameters
    ----------
    particle_id, tomogram
        Name of the particle of each image, and of its tomogram (empty text where unknown).
    angles_deg
        RELION's rot, tilt and psi; the tilt of the image is folded in.
    shifts_px
        RELION origins xy in pixels of the image.
    ctf
        None for images without a CTF.
    dose_e_per_angst2, tilt_deg, scale
        Exposure, tilt angle (NaN where unknown), and the factor of images that upstream software weighted.
    half_set
        1 or 2, 0 where unknown.
    stack, slice_index
        Name of the stack of each image as the file has it, and the image's place in it, from 0.
    pixel_size_angst
        Of all images.
    ctf_premultiplied, dose_weighted, invert
        As the file and its dialect have it.
    kept
        Rows of the file that are images to be used, True or False for every row; the other arrays have these only.
    """

    particle_id: np.ndarray
    tomogram: np.ndarray
    angles_deg: Float64[np.ndarray, "n 3"]
    shifts_px: Float64[np.ndarray, "n 2"]
    ctf: CtfParameters | None
    dose_e_per_angst2: Float64[np.ndarray, " n"]
    tilt_deg: Float64[np.ndarray, " n"]
    scale: Float64[np.ndarray, " n"]
    half_set: Int64[np.ndarray, " n"]
    stack: np.ndarray
    slice_index: Int64[np.ndarray, " n"]
    pixel_size_angst: float
    ctf_premultiplied: bool
    dose_weighted: bool
    invert: bool
    kept: Bool[np.ndarray, " rows"]


def relion_rows(rows: SourceTable, dialect: str, options: ReadOptions) -> ImageRows:
    """Rows with RELION's labels, of Warp v1 and M, RELION 3 refinements of these, cryoSRPNT, NextPYP or tomodrgn.

    The exposure is rlnCtfBfactor / -4 and the unsigned tilt arccos(rlnCtfScalefactor), where the dialect has no columns
    of its own.

    Raises
    ------
    ValueError
        If a column is missing, a cell is no number, or pixel sizes differ.
    """
    rows.require("rlnImageName", *ANGLES)
    particle_id, tomogram = _names(rows, dialect)
    pixel_size = _pixel_size_angst(rows, options)
    stack, slice_index = _slices(rows)
    scale_column = "tomodrgnImageScale" if dialect == "tomodrgn" else "rlnCtfScalefactor"
    scale = rows.numbers(scale_column) if rows.has(scale_column) else None
    premultiplied = bool(rows.numbers("rlnCtfDataAreCtfPremultiplied", default=0.0).max(initial=0.0))
    if dialect == "tomodrgn":
        dose, tilt = rows.numbers("tomodrgnPreExposure"), rows.numbers("tomodrgnTiltAngle", allow_nan=True)
        invert = bool(rows.numbers("tomodrgnInvert").any())
    else:
        dose, tilt = _doses(rows), _tilts_deg(scale, len(rows), rows.place)
        if dialect == "warp":
            _warn_of_refined_doses(rows, dose, particle_id)
            _warn_of_dropped_tilts(scale, rows.place)
        invert = dialect == "warp" and not premultiplied
    return ImageRows(
        particle_id=particle_id,
        tomogram=tomogram,
        angles_deg=np.stack([rows.numbers(angle) for angle in ANGLES], axis=1),
        shifts_px=_shifts_px(rows, pixel_size),
        ctf=_ctf(rows),
        dose_e_per_angst2=dose,
        tilt_deg=tilt,
        scale=np.ones(len(rows)) if scale is None else scale,
        # NextPYP draws the subset of each image by itself.
        half_set=random_subsets(rows) if dialect != "nextpyp" else np.zeros(len(rows), dtype=np.int64),
        stack=stack,
        slice_index=slice_index,
        pixel_size_angst=pixel_size,
        ctf_premultiplied=premultiplied,
        dose_weighted=bool(rows.numbers("tomodrgnDoseWeighted", default=0.0).any()),
        invert=invert,
        kept=np.ones(len(rows), dtype=bool),
    )


def _names(rows: SourceTable, dialect: str) -> tuple[np.ndarray, np.ndarray]:
    """Particle and tomogram of each row."""
    if dialect == "nextpyp":
        rows.require("rlnMicrographName", "rlnGroupNumber")
        series = rows.frame["rlnMicrographName"]
        tomogram = series.str.replace(r"^.*/|\.[^./]*$", "", regex=True)
        _refuse_equal_names(series, tomogram, rows.place)
        _say_what_is_ignored(rows, tomogram)
        ids = tomogram + "/" + rows.frame["rlnGroupNumber"]
    elif dialect == "tomodrgn":
        tomogram, ids = rows.frame.get("rlnTomoName", _empty(rows)), rows.frame["tomodrgnParticleId"]
    else:
        rows.require("rlnGroupName")
        ids = rows.frame["rlnGroupName"]
        # Warp names particles `<tomogram>_<7 digits>`; cryoSRPNT has no tomograms.
        named = ids.str.contains(r"_\d{7}$") if dialect == "warp" else pd.Series(data=False, index=ids.index)
        tomogram = ids.str.slice(stop=-8).where(named, "")
    if rows.has("tomodrgnParticleId"):
        ids = rows.frame["tomodrgnParticleId"]
    return ids.to_numpy(dtype=object), tomogram.to_numpy(dtype=object)


def _empty(rows: SourceTable) -> pd.Series:
    return pd.Series("", index=rows.frame.index)


def _refuse_equal_names(series: pd.Series, tomogram: pd.Series, place: str) -> None:
    pairs = pd.DataFrame({"series": series, "tomogram": tomogram}).drop_duplicates()
    twice = pairs[pairs["tomogram"].duplicated(keep=False)]
    if len(twice):
        raise ValueError(
            f"Got tilt series {twice['series'].tolist()[:2]} of one name in {place}, expected one name for each, as it "
            "is part of the names of their particles. Rename the tilt series, or give each a file of its own."
        )


def _say_what_is_ignored(rows: SourceTable, tomogram: pd.Series) -> None:
    """NextPYP draws half sets image by image, and numbers particles anew in each tilt series."""
    if rows.has("rlnRandomSubset"):
        logger.info("rlnRandomSubset of %s is drawn image by image: it is ignored.", rows.place)
    if rows.has("rlnGroupName") and tomogram.groupby(rows.frame["rlnGroupName"]).nunique().gt(1).any():
        logger.warning(
            "Got values of rlnGroupName in %s that stand for particles of several tilt series: particles are named by "
            "rlnMicrographName and rlnGroupNumber.", rows.place,
        )  # fmt: skip


def _pixel_size_angst(rows: SourceTable, options: ReadOptions) -> float:
    if options.pixel_size_angst is not None:
        return options.pixel_size_angst
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


def _slices(rows: SourceTable) -> tuple[np.ndarray, Int64[np.ndarray, " n"]]:
    """Stack and 0-based slice of each row, from names ``000001@path`` that count from 1."""
    names = rows.frame["rlnImageName"]
    numbers = text_to_numbers(names.str.replace("@.*$", "", regex=True))
    bad = np.flatnonzero(
        ~names.str.contains("@", regex=False).to_numpy(bool)
        | ~((numbers >= 1) & (numbers <= MOST_IMAGES))
        | (numbers % 1 != 0)
    )
    if len(bad):
        raise ValueError(
            f"Got rlnImageName {rows.frame['rlnImageName'].iloc[bad[0]]!r} in {rows.place} ({len(bad)} such rows), "
            "expected `number@path` with numbers from 1. Give the file of an image series."
        )
    return names.str.replace("^[^@]*@", "", regex=True).to_numpy(dtype=object), numbers.astype(np.int64) - 1


def _shifts_px(rows: SourceTable, pixel_size_angst: float) -> Float64[np.ndarray, "n 2"]:
    if rows.has("rlnOriginXAngst", "rlnOriginYAngst"):
        return np.stack([rows.numbers(f"rlnOrigin{axis}Angst") / pixel_size_angst for axis in "XY"], axis=1)
    return np.stack([rows.numbers(f"rlnOrigin{axis}", default=0.0) for axis in "XY"], axis=1)


def _ctf(rows: SourceTable) -> CtfParameters | None:
    if not rows.has("rlnDefocusU"):
        logger.info("Got no rlnDefocusU in %s: the images are taken as free of a CTF.", rows.place)
        return None
    defocus_u, defocus_v, angle = (rows.numbers(column) for column in DEFOCUS)
    warn_of_low_defocus(np.minimum(defocus_u, defocus_v), rows.place)
    voltage, cs, contrast = (rows.numbers(column) for column in OPTICS)
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
    doses = rows.numbers("rlnCtfBfactor") / -4.0
    above = np.flatnonzero(doses < 0)
    if len(above):
        logger.warning(
            "Got rlnCtfBfactor above 0 in %s rows (the first is row %s) of %s, expected -4 x exposure. The exposure of "
            "these images is taken as 0; that of the others is doubtful, too, if the B-factors were refined.",
            len(above), above[0] + 1, rows.place,
        )  # fmt: skip
    if len(doses) and not doses.any():
        logger.warning(
            "Got rlnCtfBfactor 0 in every row of %s, which is no exposure (Warp writes -4 x exposure): all images "
            "weigh as much at high frequencies. Export them with exposures, or turn exposure weights off "
            "(exposure_weighting=False, --no-exposure-weighting).", rows.place,
        )  # fmt: skip
    return doses.clip(min=0.0)


def _warn_of_refined_doses(rows: SourceTable, dose: Float64[np.ndarray, " n"], particle_id: np.ndarray) -> None:
    """Warp writes the images of a particle by rising exposure, so others stem from B-factors that M refined."""
    same = particle_id[1:] == particle_id[:-1]
    falls = np.flatnonzero(same & (np.diff(dose) < 0))
    if len(falls):
        logger.warning(
            "Got exposures (rlnCtfBfactor / -4) that fall from one image of a particle to the next, first of %s (%s "
            "particles of %s), expected them to rise. If the B-factors were refined (M), they are no exposures: turn "
            "exposure weights off (exposure_weighting=False, --no-exposure-weighting).",
            particle_id[falls[0]], len(pd.unique(particle_id[falls])), rows.place,
        )  # fmt: skip


def _warn_of_dropped_tilts(scale: np.ndarray | None, place: str) -> None:
    """Warp writes a weight of 0.0001 times the cosine for tilts that its user switched off."""
    dropped = 0 if scale is None else int((scale <= DROPPED_SCALE).sum())
    if dropped:
        logger.warning(
            "Got %s images with rlnCtfScalefactor up to %g in %s, Warp's mark of tilts switched off. They are read as "
            "tilted by 90 degrees and weigh next to nothing. To leave them out, write a list of all images (`tomodrgn "
            "info FILE --images IMAGES.csv`), take them off it (tilt_deg of 89.9 or more), and keep the rest "
            "(`tomodrgn filter FILE OUT --images IMAGES.csv`).",
            dropped, DROPPED_SCALE, place,
        )  # fmt: skip


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
