"""One row a particle, and a table of tilts for each tomogram: optimisation sets of WarpTools, RELION 5 and NextPYP."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from tomodrgn.imaging.pose import euler_to_rotation
from tomodrgn.particles.particle_set import CtfParameters, ParticleSet, SourceStar
from tomodrgn.particles.source_table import (
    SourceTable,
    one_value,
    random_subsets,
    warn_of_low_defocus,
    with_optics,
)
from tomodrgn.particles.stack_files import SearchPlaces, StackFiles, find_stacks
from tomodrgn.particles.tilt_series import find_tilt_tables, local_defocus_axis, read_tilt_tables

__all__ = ["ANGLES", "SUBTOMOGRAM_ANGLES", "parse_mask", "particle_angles_deg", "read_optimisation_set"]

logger = logging.getLogger(__name__)

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SUBTOMOGRAM_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
DEGREES_TWICE = 57.29578
PREMULTIPLIED = (
    "Got images of %s that were multiplied by their CTF (and dose weighted) when they were extracted, so that their "
    "noise is not white. Training works best on images as they were recorded: %s"
)
EXTRACT = {
    "warptools": "WarpTools ts_export_particles --2d --dont_premultiply",
    "relion5": "relion_tomo_subtomo --stack2d --no_ctf",
    "nextpyp_relion5": "export them without CTF correction",
}


def read_optimisation_set(
    source: SourceStar, dialect: str, *, places: SearchPlaces, check_stacks: bool = True
) -> ParticleSet:
    """Particles of an optimisation set with 2-D stacks.

    The pose of image t of particle i is ``R = T_t A_sub A_i``, with the 3 x 3 part T of rlnTomoProjX, Y and Z (or
    Rz(ZRot) Ry(YTilt) Rx(XTilt)); the origin o becomes the shift ``(T_t A_sub o)_xy / pixel size``. With the position
    c of the particle and the centre C of its tomogram, ``-hand (T_t (c - C))_z`` is added to the defocus of WarpTools
    sets (Warp's model for rlnTomoHand -1), ``+hand (T_t (c - C))_z`` to that of others (RELION's model). Images of a
    particle stand in the order of the tilt table. Images that were not CTF-premultiplied are light on dark and are
    inverted.

    Parameters
    ----------
    source
        The files, and what the user says of them (`source.options`).
    dialect
        ``"warptools"``, ``"relion5"`` or ``"nextpyp_relion5"``.
    places
        Where image stacks are looked for.
    check_stacks
        Whether to open the header of each stack. If not, the box is that of rlnImageSize (or 0) and stacks are
        taken to hold the visible images only.

    Raises
    ------
    ValueError
        If columns are missing, cells are no numbers, a mask does not fit its tilt table or its stack, a tomogram is
        unknown, pixel sizes or boxes differ, or particles lie outside their tomogram.
    FileNotFoundError
        If a stack is missing.
    """
    rows = with_optics(source)
    rows.require("rlnImageName", "rlnTomoName", *ANGLES, "rlnImagePixelSize")
    tomogram_of_row, names = rows.codes("rlnTomoName")
    tables = find_tilt_tables(source, names)
    mask_of_row, visible = _masks(rows, tomogram_of_row, np.array([len(table) for table in tables]))
    tilts = read_tilt_tables(tables, _seen(tables, tomogram_of_row, mask_of_row, visible))
    shown = np.array([mask.sum() for mask in visible])[mask_of_row]
    if not shown.all():
        logger.warning("Left out %s particles of %s without a visible tilt.", (shown == 0).sum(), rows.path)
        if not shown.any():
            raise ValueError(f"Got no particle with a visible tilt in {rows.place}. Check rlnTomoVisibleFrames.")
    kept = np.flatnonzero(shown)
    rows, tomogram_of_row, mask_of_row, counts = rows.take(kept), tomogram_of_row[kept], mask_of_row[kept], shown[kept]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    particle = np.repeat(np.arange(len(rows)), counts)
    slot = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    tilt = _visible_tilts(visible, mask_of_row, particle, slot)
    table = tilts.start[tomogram_of_row[particle]] + tilt

    options = source.options
    pixel_size = options.pixel_size_angst or one_value(
        rows.numbers("rlnImagePixelSize"), "the pixel size (angstrom)", rows.place
    )
    stack_of_row, stack_names = rows.codes("rlnImageName")
    stacks = find_stacks(
        [str(n) for n in stack_names], places, pixel_size_angst=pixel_size, check=check_stacks
    )  # fmt: skip
    full = _full_length(rows, stacks, stack_of_row, [visible[i] for i in mask_of_row]) if check_stacks else None
    subtomogram = _subtomogram_rotations(rows)
    origin_angst = np.stack([rows.numbers(f"rlnOrigin{a}Angst", default=0.0) for a in "XYZ"], axis=1)
    origin_angst = np.einsum("kij,kj->ki", subtomogram, origin_angst)
    rotations = tilts.rotations[table]
    premultiplied = _premultiplied(rows, options.ctf_premultiplied, dialect)
    dose_weighted = premultiplied if options.dose_weighted is None else options.dose_weighted
    defocus_axis = local_defocus_axis(rows, source, dialect, origin_angst=origin_angst, pixel_size_angst=pixel_size)
    local_defocus = np.einsum("nj,nj->n", rotations[:, 2], defocus_axis[particle])
    return ParticleSet(
        dialect=dialect,
        particle_id=_particle_ids(rows),
        tomogram=names[tomogram_of_row],
        half_set=random_subsets(rows),
        offsets=offsets,
        rotations=rotations @ (subtomogram @ euler_to_rotation(*particle_angles_deg(rows)))[particle],
        shifts_px=np.einsum("nij,nj->ni", rotations[:, :2], origin_angst[particle]) / pixel_size,
        ctf=_ctf(rows, particle, tilts.defocus[table], local_defocus),
        dose_e_per_angst2=tilts.dose[table],
        tilt_deg=tilts.tilt_deg[table],
        image_scale=tilts.scale[table] if dose_weighted else np.ones(len(table)),
        stack_paths=stacks.paths,
        stack_index=stack_of_row[particle],
        slice_index=slot if full is None else np.where(full[particle], tilt, slot),
        box_px=_box_px(rows, stacks),
        pixel_size_angst=pixel_size,
        ctf_premultiplied=premultiplied,
        dose_weighted=dose_weighted,
        invert=not premultiplied if options.invert is None else options.invert,
        source=source,
        source_row=kept[particle],
        source_slot=slot,
    )


def parse_mask(text: str, owner: str = "") -> Bool[np.ndarray, " tilts"]:
    """The visible tilts of a cell such as ``[1,0,1]``; 2, by which tomoDRGN marked test images, is visible too.

    `owner` says in an error whose cell it is.

    Raises
    ------
    ValueError
        If the text is no list of 0, 1 and 2.
    """
    try:
        values = np.array([float(cell) for cell in text.strip("[]() ").split(",")])
    except ValueError:
        values = np.array([np.nan])
    if not np.isin(values, (0, 1, 2)).all():
        raise ValueError(
            f"Got rlnTomoVisibleFrames {text[:60]!r}{owner}, expected a list of 0 and 1 such as [1,0,1]. Correct it."
        )
    return values > 0


def _masks(rows: SourceTable, tomogram: np.ndarray, n_tilts: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """For each row the number of its mask, and the distinct masks of visible tilts."""
    if not rows.has("rlnTomoVisibleFrames"):
        return tomogram, [np.ones(n, dtype=bool) for n in n_tilts]
    codes, texts = rows.codes("rlnTomoVisibleFrames")
    if any("2" in str(text) for text in texts):
        logger.warning(
            "Got 2 in rlnTomoVisibleFrames of %s, by which older versions of tomoDRGN marked test images: these are "
            "read as visible.", rows.place,
        )  # fmt: skip
    ids, first = _particle_ids(rows), np.unique(codes, return_index=True)[1]
    masks = [
        parse_mask(str(text), f" of particle {ids[row]!r} in {rows.place}")
        for text, row in zip(texts, first, strict=True)
    ]
    length = np.array([len(mask) for mask in masks])[codes]
    bad = np.flatnonzero(length != n_tilts[tomogram])
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"Got rlnTomoVisibleFrames of {length[row]} tilts for particle {ids[row]!r} in "
            f"{rows.place} ({len(bad)} such particles), expected {n_tilts[tomogram[row]]} as in the tilt "
            f"table of its tomogram {rows.text('rlnTomoName')[row]!r}. Use the tomograms file of the same export."
        )
    return codes, masks


def _seen(
    tables: list[SourceTable], tomogram: np.ndarray, mask: np.ndarray, visible: list[np.ndarray]
) -> list[np.ndarray]:
    """For each tomogram the tilts that one of its particles sees."""
    seen = [np.zeros(len(table), dtype=bool) for table in tables]
    for series, shown in np.unique(np.stack([tomogram, mask]), axis=1).T:
        seen[series] |= visible[shown]
    return seen


def _visible_tilts(visible: list[np.ndarray], mask: np.ndarray, particle: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Row in the tilt table of each image: the tilt at position `slot` among those that the particle's mask shows."""
    shown = [np.flatnonzero(tilts) for tilts in visible]
    start = np.concatenate([[0], np.cumsum([len(tilts) for tilts in shown])])
    return np.concatenate(shown)[start[mask[particle]] + slot]


def _full_length(
    rows: SourceTable, stacks: StackFiles, stack_of_row: np.ndarray, masks: list[np.ndarray]
) -> Bool[np.ndarray, " k"]:
    """Whether the stack of each particle holds all tilts of its mask (True) or only the visible ones (False)."""
    if stacks.n_slices is None:
        return np.zeros(len(rows), dtype=bool)
    n_slices = stacks.n_slices[stack_of_row]
    length = np.array([len(mask) for mask in masks])
    shown = np.array([int(mask.sum()) for mask in masks])
    full, compact = n_slices == length, n_slices == shown
    bad = np.flatnonzero(~(full | compact))
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"Got {n_slices[row]} images in {stacks.paths[stack_of_row[row]]} for particle "
            f"{_particle_ids(rows)[row]!r} ({len(bad)} such particles), expected {length[row]} (all tilts "
            f"of rlnTomoVisibleFrames) or {shown[row]} (the visible ones). Use the STAR file that was "
            "written with these stacks."
        )
    return full


def _particle_ids(rows: SourceTable) -> np.ndarray:
    """tomodrgnParticleId, else rlnTomoParticleName, else <tomogram>/<rlnTomoParticleId>."""
    for column in ("tomodrgnParticleId", "rlnTomoParticleName"):
        if rows.has(column):
            ids = rows.text(column)
            break
    else:
        rows.require("rlnTomoParticleId")
        ids = (rows.frame["rlnTomoName"] + "/" + rows.frame["rlnTomoParticleId"]).to_numpy(object)
    twice = pd.Series(ids).duplicated()
    if twice.any():
        raise ValueError(
            f"Got particle {ids[int(np.argmax(twice))]!r} twice in {rows.place} ({int(twice.sum())} such rows), "
            "expected unique names. Rename or remove the repeated rows."
        )
    return ids


def particle_angles_deg(rows: SourceTable) -> list[Float64[np.ndarray, " k"]]:
    """Rot, tilt and psi of every particle; of old WarpTools versions without their second factor 180 / pi."""
    angles = [rows.numbers(column) for column in ANGLES]
    if max(np.abs(angle).max(initial=0.0) for angle in angles) > 720:
        logger.warning(
            "Got particle angles beyond 720 degrees in %s: WarpTools up to 2.0.0dev25 multiplied them by 57.29578 "
            "twice. All angles are divided by that number.", rows.path,
        )  # fmt: skip
        angles = [angle / DEGREES_TWICE for angle in angles]
    return angles


def _subtomogram_rotations(rows: SourceTable) -> Float64[np.ndarray, "k 3 3"]:
    if not rows.has(*SUBTOMOGRAM_ANGLES):
        return np.broadcast_to(np.eye(3), (len(rows), 3, 3))
    return euler_to_rotation(*(rows.numbers(column) for column in SUBTOMOGRAM_ANGLES))


def _premultiplied(rows: SourceTable, told: bool | None, dialect: str) -> bool:  # noqa: FBT001
    """Whether images were multiplied by their CTF: as the user told, else as the file says."""
    column = "rlnCtfDataAreCtfPremultiplied"
    if told is None and not rows.has(column):
        logger.info("Got no %s in %s: images are taken as not multiplied by their CTF.", column, rows.place)
    flag = one_value(rows.numbers(column, default=0.0), column, rows.place) if told is None else told
    if flag:
        logger.warning(PREMULTIPLIED, rows.path, EXTRACT[dialect])
    return bool(flag)


def _box_px(rows: SourceTable, stacks: StackFiles) -> int:
    if not rows.has("rlnImageSize"):
        return stacks.box_px
    box = int(one_value(rows.numbers("rlnImageSize"), "the box (px)", rows.place))
    if stacks.box_px and stacks.box_px != box:
        raise ValueError(
            f"Got images of {stacks.box_px} px in {stacks.paths[0]}, expected {box} px as rlnImageSize in {rows.path} "
            "says. Use the STAR file that was written with these stacks."
        )
    return box


def _ctf(rows: SourceTable, particle: np.ndarray, defocus: np.ndarray, local_defocus: np.ndarray) -> CtfParameters:
    warn_of_low_defocus(defocus[:, :2].min(axis=1), rows.place)
    per_particle = [rows.numbers(c) for c in ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")]
    voltage, cs, contrast = (values[particle] for values in per_particle)
    return CtfParameters(
        defocus_u_angst=defocus[:, 0] + local_defocus,
        defocus_v_angst=defocus[:, 1] + local_defocus,
        defocus_angle_deg=defocus[:, 2],
        phase_shift_deg=defocus[:, 3],
        voltage_kv=voltage,
        cs_mm=cs,
        amplitude_contrast=contrast,
    )
