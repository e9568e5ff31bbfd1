"""One row an image: Warp v1 and M (also refined by RELION 3), cryoSRPNT, NextPYP, cisTEM and emClarity."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from tomodrgn.imaging.pose import euler_to_rotation
from tomodrgn.particles.cistem import cistem_rows
from tomodrgn.particles.image_rows import ImageRows, relion_rows
from tomodrgn.particles.particle_set import ParticleSet, SourceStar
from tomodrgn.particles.source_table import SourceTable, half_sets, with_optics
from tomodrgn.particles.stack_files import SearchPlaces, StackFiles, find_stacks

__all__ = ["read_image_series"]

logger = logging.getLogger(__name__)

CISTEM_DIALECTS = ("cistem", "emclarity")


def read_image_series(
    source: SourceStar, dialect: str, *, places: SearchPlaces, check_stacks: bool = True
) -> ParticleSet:
    """Particles of a file with one row an image. The pose of each row is complete: the tilt is folded in.

    Images of a particle stand in the order of the file; those of cisTEM and emClarity by exposure.

    Parameters
    ----------
    source
        The file; `source.rows` are the images, and `source.options` what the user says of them.
    dialect
        ``"warp"``, ``"cryosrpnt"``, ``"nextpyp"``, ``"cistem"``, ``"emclarity"`` or ``"tomodrgn"``. Warp images are
        light on dark and are inverted, those of the others are not (of tomodrgn as the file says).
    places
        Where image stacks are looked for.
    check_stacks
        Whether to open the header of each stack; if not, `box_px` is that of rlnImageSize, or 0.

    Raises
    ------
    ValueError
        If a column is missing, a cell is no number, pixel sizes differ, or a slice is not in its stack.
    FileNotFoundError
        If a stack is missing.
    """
    table, options = with_optics(source), source.options
    by_exposure = dialect in CISTEM_DIALECTS
    rows = (
        cistem_rows(table, source, dialect, check_stacks=check_stacks)
        if by_exposure
        else relion_rows(table, dialect, options)
    )
    codes, ids = pd.factorize(rows.particle_id)
    _refuse_repeated_images(rows, table)
    order = np.lexsort((rows.dose_e_per_angst2, codes)) if by_exposure else np.argsort(codes, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(ids)))])
    stack_index, stacks = _stacks(rows, table, places, check=check_stacks)
    scale = rows.scale[order]
    tilt = rows.tilt_deg if options.tilt_column is None else table.numbers(options.tilt_column)[rows.kept]
    premultiplied = rows.ctf_premultiplied if options.ctf_premultiplied is None else options.ctf_premultiplied
    dose_weighted = rows.dose_weighted if options.dose_weighted is None else options.dose_weighted
    return ParticleSet(
        dialect=dialect,
        particle_id=ids,
        tomogram=rows.tomogram[order][offsets[:-1]],
        half_set=half_sets(rows.half_set[order], offsets, table.path),
        offsets=offsets,
        rotations=euler_to_rotation(*rows.angles_deg[order].T),
        shifts_px=rows.shifts_px[order],
        ctf=None if rows.ctf is None else rows.ctf.take(order),
        dose_e_per_angst2=rows.dose_e_per_angst2[order],
        tilt_deg=tilt[order],
        image_scale=scale if dose_weighted else np.ones(len(scale)),
        stack_paths=stacks.paths,
        stack_index=stack_index[order],
        slice_index=rows.slice_index[order],
        box_px=stacks.box_px or int(table.numbers("rlnImageSize", default=0.0)[0]),
        pixel_size_angst=rows.pixel_size_angst,
        ctf_premultiplied=premultiplied,
        dose_weighted=dose_weighted,
        invert=_invert(rows, premultiplied=premultiplied) if options.invert is None else options.invert,
        source=source,
        source_row=np.flatnonzero(rows.kept)[order],
        source_slot=np.zeros(len(order), dtype=np.int64),
    )


def _refuse_repeated_images(rows: ImageRows, table: SourceTable) -> None:
    """Each image counts once for its particle; particles that differ may share images (symmetry expansion)."""
    images = pd.DataFrame({"particle": rows.particle_id, "stack": rows.stack, "slice": rows.slice_index})
    again = np.flatnonzero(images.duplicated())
    if len(again):
        particle, stack, position = images.iloc[again[0]]
        raise ValueError(
            f"Got image {position + 1} of {stack} twice for particle {particle!r} in {table.place}, the second time in "
            f"row {np.flatnonzero(rows.kept)[again[0]] + 1} ({len(again)} such rows), expected each image once. Remove "
            "the rows that repeat others."
        )


def _invert(rows: ImageRows, *, premultiplied: bool) -> bool:
    """The sign of premultiplied images does not depend on that of the CTF."""
    return rows.invert and premultiplied == rows.ctf_premultiplied


def _stacks(rows: ImageRows, table: SourceTable, places: SearchPlaces, *, check: bool) -> tuple[np.ndarray, StackFiles]:
    """Number of the stack of each image, and the stacks."""
    stack_index, names = pd.factorize(rows.stack)
    stacks = find_stacks([str(n) for n in names], places, pixel_size_angst=rows.pixel_size_angst, check=check)
    if stacks.n_slices is not None:
        outside = np.flatnonzero(rows.slice_index >= stacks.n_slices[stack_index])
        if len(outside):
            first = outside[0]
            stack = int(stack_index[first])
            raise ValueError(
                f"Got image {rows.slice_index[first] + 1} of {stacks.paths[stack]}, which holds "
                f"{stacks.n_slices[stack]} ({len(outside)} such rows in {table.place}). Use the stack that belongs to "
                "this file."
            )
    return stack_index.astype(np.int64), stacks
