"""Sizes and pixel sizes of tomograms, from the tomograms file of RELION or WarpTools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from tomodrgn.io.star import read_star
from tomodrgn.particles.position_set import tilt_series_of
from tomodrgn.particles.source_table import SourceTable
from tomodrgn.particles.stack_files import SearchPlaces
from tomodrgn.particles.tilt_series import tilt_series_blocks
from tomodrgn.particles.write_back import TOMOGRAMS_FILE

__all__ = ["TomogramTable", "read_tomogram_table"]

SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
MARGIN = 0.1


@dataclass(frozen=True, kw_only=True)
class TomogramTable:
    """What a tomograms file says of t tomograms.

    Parameters
    ----------
    path
        The file.
    names
        Column rlnTomoName.
    pixel_size_angst
        Column rlnTomoTiltSeriesPixelSize.
    size_angst
        Size of each tomogram, xyz.
    global_columns
        The table itself, as text.
    """

    path: Path
    names: np.ndarray
    pixel_size_angst: Float64[np.ndarray, " t"]
    size_angst: Float64[np.ndarray, "t 3"]
    global_columns: pd.DataFrame

    @property
    def last_voxel_angst(self) -> Float64[np.ndarray, "t 3"]:
        """Centre of the last unbinned voxel of each tomogram, xyz, from that of the first."""
        return self.size_angst - self.pixel_size_angst[:, None]

    def find(self, tomograms: np.ndarray, path: Path) -> Int64[np.ndarray, " k"]:
        """Row of each named tomogram: by its whole name, else by the name of its tilt series.

        Raises
        ------
        ValueError
            If a tomogram of `path` is not listed, or two listed ones fit.
        """
        if pd.Index(self.names).has_duplicates:
            twice = pd.Index(self.names)[pd.Index(self.names).duplicated()][0]
            raise ValueError(f"Got tomogram {twice!r} twice in {self.path}, expected it once. Remove one.")
        asked = pd.Index(pd.unique(pd.Series(tomograms, dtype=object)))
        at = pd.Index(self.names).get_indexer(asked)
        series = [tilt_series_of(str(name)) for name in self.names]
        for i in np.flatnonzero(at < 0):
            fitting = [j for j, known in enumerate(series) if known == tilt_series_of(str(asked[int(i)]))]
            at[i] = fitting[0] if len(fitting) == 1 else -1
        if (at < 0).any():
            missing = asked[at < 0]
            raise ValueError(
                f"Got {len(missing)} tomograms in {path} that {self.path} does not list, first "
                f"{missing[:3].tolist()}, expected names such as {self.names[:3].tolist()}. Give the tomograms file of "
                "the same project, or a table of tomogram names (tomogram_names, --tomogram-names)."
            )
        return at[asked.get_indexer(pd.Index(tomograms))].astype(np.int64)

    def check_inside(self, position_angst: np.ndarray, at: np.ndarray, path: Path) -> None:
        """Refuse positions outside their tomogram by more than a tenth of its longest side.

        Raises
        ------
        ValueError
            Naming the range of positions and the size.
        """
        size = self.size_angst[at]
        margin = MARGIN * size.max(axis=1, keepdims=True)
        outside = ((position_angst < -margin) | (position_angst > size + margin)).any(axis=1)
        if outside.any():
            low, high = (edge.round(1).tolist() for edge in (position_angst.min(axis=0), position_angst.max(axis=0)))
            raise ValueError(
                f"Got {int(outside.sum())} of {len(at)} particles of {path} outside their tomogram: positions from "
                f"{low} to {high} angstrom, expected 0 to {size.max(axis=0).round(1).tolist()} as {self.path} says. "
                "Check the unit of the coordinates: give the size of their pixels (pixel_size_angst, "
                "--pixel-size-angst), or the tomograms file of the same project."
            )


def read_tomogram_table(path: Path | str, places: SearchPlaces | None = None) -> TomogramTable:
    """Read a tomograms file, or the one that an optimisation set names.

    Parameters
    ----------
    path
        The STAR file.
    places
        Where the file named by an optimisation set is looked for.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If it has no table of tomograms with names, sizes and pixel sizes.
    """
    path = Path(path)
    blocks = read_star(path)
    named = next((block for block in blocks.values() if TOMOGRAMS_FILE in block and len(block)), None)
    if named is not None:
        name = str(named[TOMOGRAMS_FILE].iloc[0])
        places = places or SearchPlaces(star_dirs=(path.parent,))
        found = places.find(name)
        if found is None:
            raise FileNotFoundError(
                f"Got tomograms file {name} named in {path}, which does not exist. Tried {places.tried(name)}. "
                "Give the file itself (tomograms, --tomograms), or its folder (datadir, --datadir)."
            )
        path, blocks = found[0], read_star(found[0])
    tilts = tilt_series_blocks(blocks)
    tables = [name for name, block in blocks.items() if "rlnTomoName" in block and name not in tilts]
    if not tables:
        raise ValueError(
            f"Got {path} with the blocks {', '.join(f'data_{name}' for name in list(blocks)[:4])} and no table of "
            "tomograms (_rlnTomoName), expected a tomograms file. Give the tomograms.star of RELION or WarpTools."
        )
    table = SourceTable(blocks[tables[0]], path, tables[0])
    table.require("rlnTomoTiltSeriesPixelSize", *SIZES)
    pixel = table.numbers("rlnTomoTiltSeriesPixelSize")
    size = np.stack([table.numbers(column) for column in SIZES], axis=1) * pixel[:, None]
    if not (size > 0).all():
        raise ValueError(f"Got a size or pixel size of 0 or less in {table.place}, expected positive ones. Correct it.")
    return TomogramTable(
        path=path, names=table.text("rlnTomoName"), pixel_size_angst=pixel, size_angst=size, global_columns=table.frame
    )
