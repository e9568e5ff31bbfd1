"""Read positions of particles from any program; write them for extraction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tomodrgn.io.motive_lists import list_format, read_tomogram_names
from tomodrgn.io.star import read_star
from tomodrgn.particles.motive_list_positions import (
    MOTIVE_LIST,
    ListPixels,
    positions_from_list,
    positions_from_stopgap,
)
from tomodrgn.particles.particle_set import SourceStar
from tomodrgn.particles.position_export import write_positions
from tomodrgn.particles.position_set import PositionMatch, Positions, tomogram_root
from tomodrgn.particles.position_tables import positions_from_star, star_kind
from tomodrgn.particles.stack_files import SearchPlaces, datadir_tuple, folders_of
from tomodrgn.particles.tomogram_table import TomogramTable, read_tomogram_table
from tomodrgn.particles.write_back import PARTICLES_FILE, TOMOGRAMS_FILE

__all__ = ["PositionMatch", "Positions", "read_positions", "tomogram_root", "write_positions"]


def read_positions(
    path: Path | str,
    *,
    pixel_size_angst: float | None = None,
    tomograms: Path | str | None = None,
    tomogram_names: Path | str | Mapping[str, str] | None = None,
    wedge_list: Path | str | None = None,
    binning: float | None = None,
    datadir: str | Path | Iterable[str | Path] | None = None,
) -> Positions:
    """Read where particles sit in their tomograms, and how they are turned.

    Names of particles are tomodrgnParticleId where a file has it; else rlnTomoParticleName (RELION 4 and 5, WarpTools,
    NextPYP), rlnGroupName (cryoSRPNT), ``<series>_<7 digits>`` of the volume in rlnImageName (Warp 1), the row of each
    source counted from 0 (M), motl_idx (STOPGAP), the tag (Dynamo), or ``<series>/<row from 1>`` (PyTom, files of
    coordinates alone).

    Parameters
    ----------
    path
        A STAR file of Warp 1 or RELION 3 (volume series), an M species, WarpTools, RELION 4 or 5, NextPYP,
        pytom-match-pick or cryoSRPNT; an optimisation set; a STOPGAP motive list; a Dynamo table; a PyTom list (XML); a
        TOM/AV3 motive list (.em).
    pixel_size_angst
        Size of the pixels in which the file counts positions; needed where the file does not say: STOPGAP, TOM/AV3,
        PyTom and most Dynamo tables (pixels of the binned tomogram), some STAR files.
    tomograms
        Tomograms file (or optimisation set) with sizes and pixel sizes; needed for a RELION 5 particles file alone and
        for fractions of the tomogram, as Warp's template matching writes them.
    tomogram_names
        Names of numbered tomograms: number to name, or a CSV file (columns number and name) or Dynamo .doc or .vll.
    wedge_list, binning
        In place of `pixel_size_angst`, a STOPGAP wedge list, whose pixel size is unbinned, and the binning of the
        tomograms that particles were picked in.
    datadir
        Folders in which the files named by an optimisation set are also looked for.

    Raises
    ------
    FileNotFoundError
        If the file or one it names is missing.
    ValueError
        If the file is damaged or has no positions, if pixel size or tomograms file are needed and not given, or if
        positions lie outside their tomogram.
    """
    path = Path(path)
    for name, value in (("pixel_size_angst", pixel_size_angst), ("binning", binning)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ValueError(f"Got {name} {value}, expected a positive number. Correct it.")
    pixels = ListPixels(
        pixel_size_angst=pixel_size_angst, wedge_list=None if wedge_list is None else Path(wedge_list), binning=binning
    )
    places = SearchPlaces(star_dirs=folders_of(path), datadir=datadir_tuple(datadir))
    form = list_format(path)
    blocks = {} if form else read_star(path)
    if form:
        positions = positions_from_list(path, form, pixels)
    elif MOTIVE_LIST in blocks:
        positions = positions_from_stopgap(blocks, path, pixels)
    else:
        _refuse_wedge_list(path, pixels)
        source = _source(path, blocks, places)
        table = _tomogram_table(source, tomograms, places)
        positions = positions_from_star(
            source, star_kind(source, table), tomograms=table, pixel_size_angst=pixel_size_angst
        )
    return _renamed(positions, tomogram_names)


def _refuse_wedge_list(path: Path, pixels: ListPixels) -> None:
    if pixels.wedge_list is not None or pixels.binning is not None:
        raise ValueError(
            f"Got a wedge list or a binning for {path}, which is no STOPGAP, TOM/AV3, Dynamo or PyTom list, expected "
            "none. Leave them out; give pixel_size_angst (--pixel-size-angst) if the file lacks its pixel size."
        )


def _source(path: Path, blocks: dict[str, pd.DataFrame], places: SearchPlaces) -> SourceStar:
    """The file that has the rows, and its block of rows."""
    named = next((block for block in blocks.values() if PARTICLES_FILE in block and len(block)), None)
    particles, file = blocks, path
    if named is not None:
        name = str(named[PARTICLES_FILE].iloc[0])
        found = places.find(name)
        if found is None:
            raise FileNotFoundError(
                f"Got particles file {name} named in {path}, which does not exist. Tried {places.tried(name)}. "
                "Give its folder as datadir (--datadir DIR)."
            )
        file = found[0]
        particles = read_star(file)
    with_coordinates = [
        name for name, block in particles.items() if any("Coordinate" in str(column) for column in block)
    ]
    block = max(with_coordinates or list(particles), key=lambda name: len(particles[name]))
    if not len(particles[block]):
        raise ValueError(f"Got {file} without a row, expected positions of particles. Give the file of particles.")
    return SourceStar(
        path=path,
        particles=particles,
        particles_block=block,
        optimisation_set=blocks if named is not None else {},
        particles_file=file,
    )


def _tomogram_table(source: SourceStar, given: Path | str | None, places: SearchPlaces) -> TomogramTable | None:
    if given is not None:
        return read_tomogram_table(given)
    named = [block for block in source.optimisation_set.values() if TOMOGRAMS_FILE in block and len(block)]
    return read_tomogram_table(source.path, places) if named and named[0][TOMOGRAMS_FILE].iloc[0] else None


def _renamed(positions: Positions, names: Path | str | Mapping[str, str] | None) -> Positions:
    """The same positions with named tomograms."""
    if names is None:
        return positions
    known = dict(names) if isinstance(names, Mapping) else read_tomogram_names(names)
    missing = sorted(set(positions.tomogram) - set(known))
    if missing:
        raise ValueError(
            f"Got {len(missing)} tomograms in {positions.path} without a name, first {missing[:5]}, expected all in "
            f"the table of tomogram names ({len(known)} names, first {list(known)[:3]}). Add them to it."
        )
    return replace(positions, tomogram=np.array([known[name] for name in positions.tomogram], dtype=object))
