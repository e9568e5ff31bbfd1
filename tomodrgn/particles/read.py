"""Read particles of any known dialect; write back what was read, filtered."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tomodrgn.io.star import read_star
from tomodrgn.particles.dialect import (
    DIALECTS,
    UnknownDialectError,
    lone_particles,
    recognise,
    refuse_other_files,
    single_images,
    unknown,
)
from tomodrgn.particles.image_series import read_image_series
from tomodrgn.particles.optimisation_set import read_optimisation_set
from tomodrgn.particles.particle_set import ParticleSet, SourceStar
from tomodrgn.particles.source_table import DataFlags
from tomodrgn.particles.stack_files import SearchPlaces, datadir_tuple
from tomodrgn.particles.write_back import (
    FOLDER_NAMES,
    HAND_COLUMN,
    PARTICLES_FILE,
    TOMOGRAMS_FILE,
    write_particles,
    write_source,
)

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
    box_px: int | None = None,
    check_stacks: bool = True,
) -> ParticleSet:
    """Read the particles and tilt images that a STAR file names.

    Parameters
    ----------
    path
        An image series (one row an image: Warp v1, M, cryoSRPNT) or an optimisation set (WarpTools).
    datadir
        One or several folders in which image stacks are also looked for.
    dialect
        ``"warp"``, ``"cryosrpnt"`` or ``"warptools"``; None recognises it by its columns.
    ctf_premultiplied, dose_weighted, invert
        Whether the images were multiplied by their CTF, were dose weighted, and must be multiplied by -1; None
        follows the file and the dialect.
    defocus_hand
        Hand h of the local defocus ``-h z`` of an optimisation set, z the depth of the particle in angstrom; ``"auto"``
        is rlnTomoHand of each tomogram, 0 leaves local defocus out. Other dialects hold the defocus of each image.
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
    source = _load(Path(path), datadir_tuple(datadir), defocus_hand)
    places = SearchPlaces(star_dirs=_star_dirs(source), datadir=source.datadir)
    flags = DataFlags(ctf_premultiplied=ctf_premultiplied, dose_weighted=dose_weighted, invert=invert)
    particles = _read(source, dialect, places=places, flags=flags, check_stacks=check_stacks)
    return particles if box_px is None else particles.cropped_to(box_px)


def _star_dirs(source: SourceStar) -> tuple[Path, ...]:
    return tuple(dict.fromkeys([source.particles_path.parent, source.path.parent]))


def _read(
    source: SourceStar, dialect: str | None, *, places: SearchPlaces, flags: DataFlags, check_stacks: bool
) -> ParticleSet:
    if dialect is not None and dialect not in DIALECTS:
        raise ValueError(f"Got dialect {dialect!r}, expected one of {', '.join(DIALECTS)}. Choose one or leave it out.")
    dialect = dialect or recognise(source)
    if dialect == "warptools":
        if not source.optimisation_set:
            raise lone_particles(source.path)
        return read_optimisation_set(source, places=places, flags=flags, check_stacks=check_stacks)
    particles = read_image_series(source, dialect, places=places, flags=flags, check_stacks=check_stacks)
    if particles.tilt_counts.max() == 1:
        raise single_images(source.path, f"{len(particles)} particles, {len(particles)} images")
    return particles


def _load(path: Path, datadir: tuple[Path, ...], defocus_hand: Literal["auto", 1, -1, 0]) -> SourceStar:
    """The file and, for an optimisation set, the two that it names."""
    if defocus_hand not in ("auto", 1, -1, 0):
        raise ValueError(f"Got defocus_hand {defocus_hand!r}, expected 'auto', 1, -1 or 0. Choose one.")
    refuse_other_files(path)
    blocks = read_star(path)
    named = next((block for block in blocks.values() if PARTICLES_FILE in block and len(block)), None)
    if named is None:
        return SourceStar(path=path, particles=blocks, particles_block=_rows_block(path, blocks), datadir=datadir)
    if not named.get(TOMOGRAMS_FILE, pd.Series([""])).iloc[0]:
        raise lone_particles(path)
    particles_file, tomograms_file = (
        _named_file(path, str(named[column].iloc[0]), datadir) for column in (PARTICLES_FILE, TOMOGRAMS_FILE)
    )
    particles = read_star(particles_file)
    elsewhere = particles_file.resolve().parent != path.resolve().parent
    return SourceStar(
        path=path,
        particles=particles,
        particles_block=_rows_block(particles_file, particles),
        tomograms=read_star(tomograms_file),
        optimisation_set=blocks,
        datadir=(*datadir, particles_file.parent) if elsewhere else datadir,
        particles_file=particles_file,
        defocus_hand=defocus_hand,
    )


def _named_file(path: Path, name: str, datadir: tuple[Path, ...]) -> Path:
    """A STAR file that an optimisation set names."""
    places = SearchPlaces(star_dirs=(path.parent,), datadir=datadir)
    found = places.find(name)
    if found is None:
        raise FileNotFoundError(
            f"Got {name} named in {path}, which does not exist. Tried {places.tried(name)}. "
            "Put it beside the optimisation set, or give its folder as datadir (--datadir DIR)."
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
    dialect: str | None = None,
    ctf_premultiplied: bool | None = None,
    dose_weighted: bool | None = None,
    invert: bool | None = None,
    defocus_hand: Literal["auto", 1, -1, 0] | None = None,
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
    datadir, dialect, ctf_premultiplied, dose_weighted, invert, defocus_hand, box_px, check_stacks
        See `read_particles`; `defocus_hand` None is that of the set that was written.

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_particles`.
    """
    folder, source_dir = Path(folder), Path(source_dir)
    given = [datadir] if isinstance(datadir, str | Path) else list(datadir or ())
    path = folder / FOLDER_NAMES[0]
    path = path if path.is_file() else folder / "particles.star"
    if defocus_hand is None:
        defocus_hand = _written_hand(path)
    source = _load(path, tuple(Path(d) for d in dict.fromkeys([source_dir, *given])), defocus_hand)
    places = SearchPlaces(star_dirs=(source_dir,), datadir=source.datadir)
    flags = DataFlags(ctf_premultiplied=ctf_premultiplied, dose_weighted=dose_weighted, invert=invert)
    particles = _read(source, dialect, places=places, flags=flags, check_stacks=check_stacks)
    return particles if box_px is None else particles.cropped_to(box_px)


def _written_hand(path: Path) -> Literal["auto", 1, -1, 0]:
    for block in read_star(path).values() if path.name == FOLDER_NAMES[0] else ():
        if HAND_COLUMN in block:
            text = block[HAND_COLUMN].iloc[0]
            return {"1": 1, "-1": -1, "0": 0}.get(text, "auto")  # type: ignore[return-value]
    return "auto"


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
        "tilts_per_particle": {"min": int(counts.min()), "median": float(np.median(counts)), "max": int(counts.max())},
        "dose_range_e_per_angst2": span(particles.dose_e_per_angst2),
        "tilt_range_deg": span(particles.tilt_deg),
        "columns": list(particles.source.rows),
    }
