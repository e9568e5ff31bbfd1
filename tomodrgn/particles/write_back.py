"""Write particles back as the STAR text they were read from, filtered."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from tomodrgn.io import mrc
from tomodrgn.io.atomic import refuse_existing
from tomodrgn.io.cistem import write_cistem
from tomodrgn.io.star import write_star
from tomodrgn.particles.image_table import image_table
from tomodrgn.particles.kept_images import IMAGES_FILE, write_kept_images
from tomodrgn.particles.optimisation_set import parse_mask
from tomodrgn.particles.own_files import refuse_own_files
from tomodrgn.particles.particle_set import ParticleSet, SourceStar
from tomodrgn.particles.stack_files import SearchPlaces, folders_of
from tomodrgn.particles.tilt_series import TILT_SERIES_FILE

__all__ = [
    "FOLDER_NAMES",
    "PARTICLES_FILE",
    "TOMOGRAMS_FILE",
    "file_names",
    "kept_rows",
    "name_prefix",
    "write_particles",
    "write_source",
]

logger = logging.getLogger(__name__)

PARTICLES_FILE, TOMOGRAMS_FILE = "rlnTomoParticlesFile", "rlnTomoTomogramsFile"
# Columns of our own that say how images are read.
MEANING = ("tomodrgnPreExposure", "tomodrgnTiltAngle", "tomodrgnImageScale", "tomodrgnDoseWeighted", "tomodrgnInvert")
STACK_SUFFIXES = (".mrcs", ".mrc", ".st", ".ali", ".rec", ".em")
ID_COLUMN = "tomodrgnParticleId"
FOLDER_NAMES = ("optimisation_set.star", "particles.star", "tomograms.star")


def write_particles(
    particles: ParticleSet,
    path: Path | str,
    *,
    overwrite: bool = False,
    columns: pd.DataFrame | None = None,
    as_images: bool = False,
    copy_tilt_series: bool = False,
) -> list[Path]:
    """Write the particles of a set as the STAR text they were read from: all blocks and columns, digits unchanged.

    An optimisation set becomes `path`, ``<name>_particles.star`` and ``<name>_tomograms.star`` beside it, named as the
    source names its own: from the root of the project, where the source does so and `path` lies below that. A path
    that ends in ``.cistem`` makes a binary file of particles of cisTEM. Names of image stacks, and of RELION's files of
    tilts, are not changed: give `datadir` when such a file is read from another folder.

    Parameters
    ----------
    path
        The file to write.
    overwrite
        Whether files already there may be replaced.
    columns
        Columns to add, indexed by particle_id, such as `Latents.star_columns`; those that exist are replaced if their
        name begins with ``tomodrgn``.
    as_images
        Whether to write a table of our own with one row an image instead (dialect ``"tomodrgn"``), which holds any
        choice of images, and full paths of their stacks.
    copy_tilt_series
        Whether files of RELION with the tilts of one tomogram are written too, below ``tilt_series`` beside `path`.

    Returns
    -------
    The files written.

    Raises
    ------
    FileExistsError
        If a file exists and `overwrite` is False; nothing is written then.
    KeyError
        If `columns` lacks a particle.
    ValueError
        If a file is one that the particles were read from or is named as images are, `columns` would replace a column
        of the source or name a particle twice, or images were taken out of particles whose stacks hold visible images
        only.
    """
    path = Path(path)
    if path.suffix.lower() in STACK_SUFFIXES:
        raise ValueError(
            f"Got output {path}, whose name is that of images, expected one that ends in .star (or .cistem). Rename it."
        )
    refuse_own_files(particles, [path.parent / name for name in _names(particles, path, as_images=as_images)])
    _say_what_is_not_written(particles, path, as_images=as_images)
    if as_images:
        blocks = image_table(particles)
        blocks["particles"] = _with_added(blocks["particles"], particles, particles.image_particle, columns)
        write_star(path, blocks, overwrite=overwrite)
        return [path]
    written = _write(
        particles,
        path.parent,
        file_names(path),
        prefix=name_prefix(particles.source, path.parent),
        columns=columns,
        overwrite=overwrite,
        copy_tilt_series=copy_tilt_series,
    )
    _say_where_stacks_are(particles, path)
    return written


def _say_where_stacks_are(particles: ParticleSet, path: Path) -> None:
    """Warn if the stacks are not found from where the file was written."""
    rows = particles.source.rows
    if "rlnImageName" not in rows:
        if particles.source.options.stack is not None:
            logger.warning("The image stack is not named in %s. Read it with stack=%s (--stack).", path,
                           particles.source.options.stack)  # fmt: skip
        return
    source = particles.source
    first = rows["rlnImageName"].iloc[particles.source_row[0]].rpartition("@")[2]
    if SearchPlaces(star_dirs=(path.parent,)).find(first) is None:
        found = SearchPlaces(star_dirs=folders_of(source.particles_path, source.path), datadir=source.datadir).find(
            first
        )
        name = str(found[0]) if found is not None else ""
        folder = name.removesuffix(first) if name.endswith(first) else source.particles_path.parent
        logger.warning(
            "Image stacks such as %s are not found from %s. Read it with datadir=%s (--datadir).", first, path, folder
        )


def _say_what_is_not_written(particles: ParticleSet, path: Path, *, as_images: bool) -> None:
    """Warn of options under which the source was read and that the new file does not hold."""
    given = {} if as_images else particles.source.options.settings()
    lost = {name: value for name, value in given.items() if name not in ("dialect", "stack")}
    if particles.box_px != particles.stack_box_px:
        lost["box"] = particles.box_px
    if not lost:
        return
    told = ", ".join(f"{name} {value} (--{name.replace('_', '-')})" for name, value in lost.items())
    cure = "" if as_images else "; a table of images (as_images=True, --as-images) keeps all but the box"
    logger.warning("%s holds what its source holds, without %s: give them again when it is read%s.", path, told, cure)


def name_prefix(source: SourceStar, folder: Path) -> str:
    """What names in a file in this folder begin with.

    RELION's optimisation sets name files from the root of the project. Where the source does, and the folder lies below
    that root, the prefix is the folder as seen from there, such as ``Select/job005/``; otherwise it is empty, as names
    are those of files beside.
    """
    named = next((block for block in source.optimisation_set.values() if PARTICLES_FILE in block), None)
    if named is None or not len(named):
        return ""
    own, parts = _absolute(source.particles_path), PurePosixPath(str(named[PARTICLES_FILE].iloc[0])).parts
    root = Path(*own.parts[: -len(parts)]) if own.parts[-len(parts) :] == parts else None
    if root is None or root == _absolute(source.path).parent or not _absolute(folder).is_relative_to(root):
        return ""
    return f"{_absolute(folder).relative_to(root).as_posix()}/".removeprefix("./")


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links are kept)


def _names(particles: ParticleSet, path: Path, *, as_images: bool) -> tuple[str, ...]:
    """Names of the files that a set is written to."""
    return file_names(path) if particles.source.optimisation_set and not as_images else (path.name,)


def file_names(path: Path) -> tuple[str, str, str]:
    """Names of the files that an optimisation set becomes: itself, its particles, its tomograms."""
    return path.name, f"{path.stem}_particles.star", f"{path.stem}_tomograms.star"


def write_source(
    particles: ParticleSet, folder: Path | str, *, columns: pd.DataFrame | None = None, overwrite: bool = False
) -> list[Path]:
    """Write the STAR text of a set into a folder, with the column `tomodrgnParticleId`, for `read_source`.

    The files are ``particles.star`` and, for an optimisation set, ``tomograms.star``, ``optimisation_set.star`` and
    (RELION 5) ``tilt_series/<tomogram>.star``; and ``images.csv``, if images were taken out of particles whose stacks
    hold visible images only: then the rows are those of whole particles.

    Raises
    ------
    FileExistsError, KeyError, ValueError
        See `write_particles`.
    """
    folder = Path(folder)
    ids = pd.DataFrame({ID_COLUMN: particles.particle_id}, index=particles.particle_id)
    if columns is not None:
        ids = ids.join(columns)
    names = FOLDER_NAMES if particles.source.optimisation_set else ("particles.star",)
    if overwrite:
        for stale in {*FOLDER_NAMES, IMAGES_FILE}.difference(names):
            (folder / stale).unlink(missing_ok=True)
    whole = not _can_be_cut(particles)
    written = _write(particles, folder, names, columns=ids, overwrite=overwrite, copy_tilt_series=True, whole=whole)
    if whole:
        refuse_existing(folder / IMAGES_FILE, overwrite=overwrite)
        write_kept_images(particles, folder / IMAGES_FILE)
        written.append(folder / IMAGES_FILE)
    return written


def _write(
    particles: ParticleSet,
    folder: Path,
    names: tuple[str, ...],
    *,
    columns: pd.DataFrame | None,
    overwrite: bool,
    prefix: str = "",
    copy_tilt_series: bool = False,
    whole: bool = False,
) -> list[Path]:
    """Write under the names of (optimisation set, particles, tomograms), or of (particles).

    Where one of the files names another, `prefix` stands before that name; `whole` is that of `kept_rows`.
    """
    source = particles.source
    blocks = dict(source.particles)
    blocks[source.particles_block] = kept_rows(particles, columns, whole=whole)
    tilt_files = _tilt_file_names(source) if copy_tilt_series else {}
    if not source.optimisation_set:
        files = {names[0]: blocks}
    else:
        files = {
            **{file: source.tilt_series[name][1] for name, file in tilt_files.items()},
            names[1]: blocks,
            names[2]: {name: _with_tilt_files(block, tilt_files, prefix) for name, block in source.tomograms.items()},
            names[0]: {name: _renamed(block, names, prefix) for name, block in source.optimisation_set.items()},
        }
    for name in files:
        refuse_existing(folder / name, overwrite=overwrite)
    for name, content in files.items():
        if name.endswith(".cistem"):
            write_cistem(folder / name, content[source.particles_block], overwrite=overwrite)
        else:
            write_star(folder / name, content, overwrite=overwrite)
    return [folder / name for name in (*names, *tilt_files.values()) if name in files]


def _tilt_file_names(source: SourceStar) -> dict[str, str]:
    """Names of the files of tilts below one folder, by tomogram; where its name is none of a file, it is numbered."""
    safe = re.compile(r"(?!\.+$)[^/\\:\s]+")
    stems = {name: name if safe.fullmatch(name) else f"tomogram_{i:04d}" for i, name in enumerate(source.tilt_series)}
    return {name: f"tilt_series/{stem}.star" for name, stem in stems.items()}


def _with_tilt_files(block: pd.DataFrame, tilt_files: dict[str, str], prefix: str) -> pd.DataFrame:
    """The table of tomograms with other names of the files of their tilts."""
    if not tilt_files or TILT_SERIES_FILE not in block:
        return block
    pairs = zip(block["rlnTomoName"], block[TILT_SERIES_FILE], strict=True)
    new = [prefix + tilt_files[name] if name in tilt_files else file for name, file in pairs]
    renamed = block.assign(**{TILT_SERIES_FILE: new})
    renamed.attrs.update(block.attrs)
    return renamed


def _renamed(block: pd.DataFrame, names: tuple[str, ...], prefix: str) -> pd.DataFrame:
    if PARTICLES_FILE not in block:
        return block
    renamed = block.assign(**{PARTICLES_FILE: prefix + names[1], TOMOGRAMS_FILE: prefix + names[2]})
    renamed.attrs.update(block.attrs)
    return renamed


class UncutStackError(ValueError):
    """Images were taken out of a particle whose stack holds visible images only."""


def _can_be_cut(particles: ParticleSet) -> bool:
    """Whether the rows of the source can say which images belong to this set."""
    try:
        kept_rows(particles)
    except UncutStackError:
        return False
    return True


def kept_rows(particles: ParticleSet, columns: pd.DataFrame | None = None, *, whole: bool = False) -> pd.DataFrame:
    """The rows of the source that belong to this set, in the order of the source, with masks and columns added.

    With `whole` the masks stay as they are, those of whole particles.

    Raises
    ------
    KeyError, ValueError
        See `write_particles`.
    """
    source = particles.source
    rows, first = np.unique(particles.source_row, return_index=True)
    owner = particles.image_particle[first]
    kept = source.rows.iloc[rows]
    if source.optimisation_set and not whole:
        kept = _with_masks(kept, particles, owner)
    kept = _with_added(kept, particles, owner, columns)
    kept.attrs.update(source.rows.attrs)
    return kept


def _with_added(
    kept: pd.DataFrame, particles: ParticleSet, owner: np.ndarray, columns: pd.DataFrame | None
) -> pd.DataFrame:
    """Rows with the columns to add, each with the values of its particle (given by `owner`)."""
    if columns is None:
        return kept
    path = particles.source.path
    odd = [c for c in columns if not re.fullmatch(r"[^\s_#\"'][^\s]*", str(c))]
    if odd:
        raise ValueError(f"Got new column {odd[0]!r} for {path}, expected a name without spaces. Rename it.")
    replaced = [c for c in columns if c in kept and (not str(c).startswith("tomodrgn") or c in MEANING)]
    if replaced:
        raise ValueError(
            f"Got new columns {replaced} that {path} has already. Rename them (only labels and latents, whose names "
            "begin with tomodrgn, may be replaced)."
        )
    names = pd.Index(columns.index.astype(str))
    if names.has_duplicates:
        raise ValueError(
            f"Got several rows of particle {names[names.duplicated()][0]!r} in new columns for {path}, expected one "
            "for each particle_id. Remove the others."
        )
    at = names.get_indexer(pd.Index(particles.particle_id))
    if (at < 0).any():
        missing = particles.particle_id[at < 0]
        raise KeyError(
            f"Got new columns without {len(missing)} of {len(particles)} particles of {path}, first "
            f"{missing[:3].tolist()}. Give a row for each particle_id."
        )
    return kept.assign(**{str(c): columns[c].to_numpy()[at[owner]] for c in columns})


def _with_masks(kept: pd.DataFrame, particles: ParticleSet, owner: np.ndarray) -> pd.DataFrame:
    """The rows with rlnTomoVisibleFrames of the images that are left, where images were taken out."""
    column = "rlnTomoVisibleFrames"
    if column not in kept:
        return kept
    texts = kept[column].tolist()
    masks = {text: parse_mask(text) for text in set(texts)}
    shown = np.array([masks[text].sum() for text in texts])
    changed = np.flatnonzero(shown != particles.tilt_counts[owner])
    for row in changed:
        images = slice(particles.offsets[owner[row]], particles.offsets[owner[row] + 1])
        mask = masks[texts[row]]
        path = particles.stack_paths[particles.stack_index[images][0]]
        if mrc.read_header(path).shape_zyx[0] != len(mask):
            first = str(particles.particle_id[owner[row]])
            raise UncutStackError(
                f"Got {len(changed)} particles without some of their images, first {first!r}, whose stack {path} holds "
                "visible images only. Such a stack cannot be cut by rlnTomoVisibleFrames: keep or drop "
                "whole particles, or write a table of images (as_images=True, --as-images)."
            )
        cells = texts[row].strip("[]() ").split(",")
        left = set(np.flatnonzero(mask)[particles.source_slot[images]].tolist())
        texts[row] = "[" + ",".join(c if i in left else "0" for i, c in enumerate(cells)) + "]"
    return kept.assign(**{column: texts}) if len(changed) else kept
