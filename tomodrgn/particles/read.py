"""Read particles of any known dialect; write back what was read, filtered."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tomodrgn.io.cistem import is_cistem, read_cistem
from tomodrgn.io.star import read_star
from tomodrgn.particles.cistem import guess_stack
from tomodrgn.particles.dialect import (
    DIALECTS,
    OPTIMISATION_SETS,
    UnknownDialectError,
    lone_particles,
    recognise,
    refuse_other_files,
    single_images,
    unknown,
)
from tomodrgn.particles.image_series import read_image_series
from tomodrgn.particles.kept_images import IMAGES_FILE, keep_listed_images
from tomodrgn.particles.optimisation_set import read_optimisation_set
from tomodrgn.particles.particle_set import ParticleSet, SourceStar
from tomodrgn.particles.read_options import ReadOptions
from tomodrgn.particles.stack_files import SearchPlaces, datadir_tuple, folders_of, told_name
from tomodrgn.particles.tilt_series import TILT_SERIES_FILE
from tomodrgn.particles.write_back import (
    FOLDER_NAMES,
    PARTICLES_FILE,
    TOMOGRAMS_FILE,
    write_particles,
    write_source,
)

logger = logging.getLogger(__name__)

FEW_TILTS = 0.75  # of the median
CISTEM_POSITION = "cisTEMPositionInStack"

__all__ = [
    "UnknownDialectError",
    "describe_particles",
    "read_particles",
    "read_source",
    "write_particles",
    "write_source",
]


def read_particles(
    path: Path | str,
    *,
    datadir: str | Path | Iterable[str | Path] | None = None,
    dialect: str | None = None,
    ctf_premultiplied: bool | None = None,
    dose_weighted: bool | None = None,
    invert: bool | None = None,
    defocus_hand: Literal["auto", 1, -1, 0] = "auto",
    pixel_size_angst: float | None = None,
    stack: Path | str | None = None,
    phase_unit: Literal["deg", "rad"] | None = None,
    tilt_column: str | None = None,
    box_px: int | None = None,
    check_stacks: bool = True,
) -> ParticleSet:
    """Read the particles and tilt images that a STAR file names.

    Parameters
    ----------
    path
        An image series (one row an image: Warp v1, M, RELION 3 refinements of these, cryoSRPNT, NextPYP, cisTEM text or
        binary, emClarity) or an optimisation set (WarpTools, RELION 5, NextPYP).
    datadir
        One or several folders in which image stacks are also looked for.
    dialect
        ``"warp"``, ``"cryosrpnt"``, ``"nextpyp"``, ``"cistem"``, ``"emclarity"``, ``"tomodrgn"``, ``"warptools"``,
        ``"relion5"`` or ``"nextpyp_relion5"``; None recognises it by its columns.
    ctf_premultiplied, dose_weighted, invert
        Whether the images were multiplied by their CTF, were dose weighted, and must be multiplied by -1; None
        follows the file and the dialect.
    defocus_hand
        Hand of the local defocus of an optimisation set, in place of rlnTomoHand; see `read_optimisation_set`. 0 leaves
        local defocus out, ``"auto"`` is rlnTomoHand of each tomogram. Other dialects hold the defocus of each image.
    pixel_size_angst
        Size of a pixel of the images on disk, in place of that of the file (NextPYP rounds it to two decimals).
    stack
        The image stack of a cisTEM or emClarity file that does not name it; by default one of the same name beside it.
    phase_unit
        Unit of cisTEMPhaseShift, which may be either.
    tilt_column
        Column of tilt angles in degrees, for image series that hold none or in another place.
    box_px
        Images are Fourier-cropped to this side when they are used; see `ParticleSet.cropped_to`. None keeps theirs.
    check_stacks
        Whether image stacks must be there; False reads the tables alone.

    Raises
    ------
    FileNotFoundError
        If the file, a file it names or an image stack is missing; the message lists the places tried.
    UnknownDialectError
        If the file is of no known dialect, or holds no tilt images (a ValueError).
    ValueError
        If the file is damaged or its parts do not fit together.
    """
    options = ReadOptions(
        dialect=dialect,
        ctf_premultiplied=ctf_premultiplied,
        dose_weighted=dose_weighted,
        invert=invert,
        defocus_hand=defocus_hand,
        pixel_size_angst=pixel_size_angst,
        stack=None if stack is None else Path(stack).absolute(),
        phase_unit=phase_unit,
        tilt_column=tilt_column,
    )
    source = _load(Path(path), datadir_tuple(datadir), options)
    places = SearchPlaces(star_dirs=_star_dirs(source), datadir=source.datadir)
    particles = _read(source, places=places, check_stacks=check_stacks)
    return particles if box_px is None else particles.cropped_to(box_px)


def _star_dirs(source: SourceStar) -> tuple[Path, ...]:
    return folders_of(source.particles_path, source.path)


def _read(source: SourceStar, *, places: SearchPlaces, check_stacks: bool) -> ParticleSet:
    dialect = source.options.dialect
    if dialect is not None and dialect not in DIALECTS:
        raise ValueError(f"Got dialect {dialect!r}, expected one of {', '.join(DIALECTS)}. Choose one or leave it out.")
    dialect = dialect or recognise(source)
    source.options.refuse_others_of(dialect, source.path)
    if dialect in OPTIMISATION_SETS:
        if not source.optimisation_set:
            raise lone_particles(source.path)
        particles = read_optimisation_set(source, dialect, places=places, check_stacks=check_stacks)
    else:
        particles = read_image_series(source, dialect, places=places, check_stacks=check_stacks)
    if particles.tilt_counts.max() == 1 and source.options.dialect is None and dialect != "tomodrgn":
        raise single_images(source.path, f"{len(particles)} particles, {len(particles)} images", dialect)
    _say_if_tilts_vary(particles)
    return particles


def _say_if_tilts_vary(particles: ParticleSet) -> None:
    """Particles with few tilts are known less well than the others."""
    counts = particles.tilt_counts
    low, middle, high = counts.min(), np.median(counts), counts.max()
    if low < FEW_TILTS * middle or high > middle / FEW_TILTS:
        logger.warning(
            "Got particles with very different numbers of tilt images in %s: min %s, median %g, max %s.",
            particles.source.path, low, middle, high,
        )  # fmt: skip


def _load(path: Path, datadir: tuple[Path, ...], options: ReadOptions) -> SourceStar:
    """The file and, for an optimisation set, those that it names."""
    refuse_other_files(path)
    blocks = {"": read_cistem(path)} if is_cistem(path) else read_star(path)
    if options.stack is None and any(CISTEM_POSITION in b and "cisTEMStackFilename" not in b for b in blocks.values()):
        options = dataclasses.replace(options, stack=guess_stack(path))
    named = next((block for block in blocks.values() if PARTICLES_FILE in block and len(block)), None)
    if named is None:
        return SourceStar(
            path=path, particles=blocks, particles_block=_rows_block(path, blocks), datadir=datadir, options=options
        )
    if not named.get(TOMOGRAMS_FILE, pd.Series([""])).iloc[0]:
        raise lone_particles(path)
    places = SearchPlaces(star_dirs=folders_of(path), datadir=datadir)
    particles_file, tomograms_file = (
        _named_file(path, str(named[column].iloc[0]), places) for column in (PARTICLES_FILE, TOMOGRAMS_FILE)
    )
    particles, tomograms = read_star(particles_file), read_star(tomograms_file)
    block = _rows_block(particles_file, particles)
    elsewhere = particles_file.resolve().parent != path.resolve().parent
    near = SearchPlaces(star_dirs=folders_of(path, tomograms_file), datadir=datadir)
    return SourceStar(
        path=path,
        particles=particles,
        particles_block=block,
        tomograms=tomograms,
        tilt_series=_tilt_series(tomograms_file, tomograms, particles[block], near),
        optimisation_set=blocks,
        datadir=(*datadir, particles_file.parent) if elsewhere else datadir,
        particles_file=particles_file,
        tomograms_file=tomograms_file,
        options=options,
    )


def _tilt_series(
    path: Path, tomograms: dict[str, pd.DataFrame], rows: pd.DataFrame, places: SearchPlaces
) -> dict[str, tuple[Path, dict[str, pd.DataFrame]]]:
    """The files of RELION 5 with the tilts of one tomogram each, of the tomograms that particles name."""
    table = next((block for block in tomograms.values() if TILT_SERIES_FILE in block), None)
    if table is None or "rlnTomoName" not in table or "rlnTomoName" not in rows:
        return {}
    needed = set(rows["rlnTomoName"])
    files = {
        name: _named_file(path, file, places)
        for name, file in zip(table["rlnTomoName"], table[TILT_SERIES_FILE], strict=True)
        if name in needed
    }
    return {name: (file, read_star(file)) for name, file in files.items()}


def _named_file(path: Path, name: str, places: SearchPlaces) -> Path:
    """A STAR file that another one names."""
    found = places.find(name)
    if found is None:
        raise FileNotFoundError(
            f"Got {told_name(name)} named in {path}, which does not exist. Tried {places.tried(name)}. "
            "Put it beside the file that names it, or give the folder that its name begins from (RELION's project) as "
            "datadir (--datadir DIR)."
        )
    return found[0]


def _rows_block(path: Path, blocks: dict[str, pd.DataFrame]) -> str:
    """Name of the block with one row a particle or image: that with images, else the one with the most rows."""
    with_images = [name for name, block in blocks.items() if "rlnImageName" in block]
    name = max(with_images or list(blocks), key=lambda key: len(blocks[key]))
    if not len(blocks[name]):
        raise unknown(path, blocks)
    return name


def read_source(
    folder: Path | str,
    *,
    source_dir: Path | str,
    datadir: str | Path | Iterable[str | Path] | None = None,
    options: ReadOptions | None = None,
    box_px: int | None = None,
    check_stacks: bool = True,
) -> ParticleSet:
    """Read what `write_source` wrote; image stacks are looked for from the place of the original file.

    Parameters
    ----------
    folder
        The folder given to `write_source`.
    source_dir
        Folder of the STAR file that was read first.
    datadir
        One or several folders in which image stacks are also looked for.
    options
        The options of the set that was written.
    box_px, check_stacks
        See `read_particles`.

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_particles`.
    """
    folder, source_dir = Path(folder), Path(source_dir)
    given = [datadir] if isinstance(datadir, str | Path) else list(datadir or ())
    path = folder / FOLDER_NAMES[0]
    path = path if path.is_file() else folder / "particles.star"
    source = _load(path, tuple(Path(d) for d in dict.fromkeys([source_dir, *given])), options or ReadOptions())
    places = SearchPlaces(star_dirs=(source_dir,), datadir=source.datadir)
    particles = _read(source, places=places, check_stacks=check_stacks)
    if (folder / IMAGES_FILE).is_file():
        particles = keep_listed_images(particles, folder / IMAGES_FILE)
    return particles if box_px is None else particles.cropped_to(box_px)


def describe_particles(particles: ParticleSet) -> dict[str, Any]:
    """What a set holds, in numbers and texts that JSON knows; ranges of unknown values are [None, None]."""
    counts = particles.tilt_counts

    def span(values: np.ndarray) -> list[float | None]:
        known = values[np.isfinite(values)]
        return [float(known.min()), float(known.max())] if len(known) else [None, None]

    return {
        "dialect": particles.dialect,
        "particles": len(particles),
        "tomograms": len(set(particles.tomogram.tolist()) - {""}),
        "images": particles.n_images,
        "box_px": particles.box_px,
        "stack_box_px": particles.stack_box_px,
        "pixel_size_angst": particles.pixel_size_angst,
        "ctf_premultiplied": particles.ctf_premultiplied,
        "dose_weighted": particles.dose_weighted,
        "invert": particles.invert,
        "tilts_per_particle": {"min": int(counts.min()), "median": float(np.median(counts)), "max": int(counts.max())},
        "dose_range_e_per_angst2": span(particles.dose_e_per_angst2),
        "tilt_range_deg": span(particles.tilt_deg),
        "columns": list(particles.source.rows),
    }
