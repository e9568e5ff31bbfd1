"""Which volume on the disk belongs to which tomogram of a STAR file, matched by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tomodrgn.io.mrc import read_header
from tomodrgn.particles.position_set import tilt_series_of

__all__ = ["TomogramFiles", "find_tomograms"]

VOLUME_SUFFIXES = (".mrc", ".rec", ".map", ".st", ".ali")


@dataclass(frozen=True, kw_only=True)
class TomogramFiles:
    """The volumes of tomograms.

    Parameters
    ----------
    files
        Volume of each tomogram that has one, by its name in the STAR file.
    table
        One row a tomogram (index its name): `file`, `voxel_angst`, `size_x`, `size_y`, `size_z` (voxels), `match` (how
        it was found), `others` (further files that would fit) and `problem` (why it cannot be read). Texts are empty
        where there is nothing to say, numbers missing where there is no file.
    """

    files: dict[str, Path]
    table: pd.DataFrame


def find_tomograms(names: Iterable[str], where: Mapping[str, Path | str] | Path | str | None) -> TomogramFiles:
    """Match tomograms to volumes.

    A file of the tomogram's very tilt series (``TS_01_10.00Apx.mrc``, ``rec_TS_01.mrc`` for ``TS_01.tomostar``) is
    taken before one that has its name between other words (``2024_TS_01_bin8.mrc``). ``TS_1`` is not found in
    ``TS_10``, and a file goes to the tomogram with the longest name that it has. Of several that fit the one with the
    shortest name is taken, and the others are named in the table.

    Parameters
    ----------
    names
        Names of tomograms, as the STAR file writes them.
    where
        A folder of volumes (MRC; not searched below), or volumes by the name of tomogram; None is no file.

    Raises
    ------
    ValueError
        If the folder is none or has no volume, or a name given is that of no tomogram.

    Examples
    --------
    >>> find_tomograms(["TS_01.tomostar"], None).table["match"].tolist()
    ['no file']
    """
    names = list(dict.fromkeys(str(name) for name in names))
    found = _given(names, where) if isinstance(where, Mapping) else _found(names, where)
    rows = [_row(name, found.get(name)) for name in names]
    table = pd.DataFrame(rows, index=pd.Index(names, name="tomogram"))
    return TomogramFiles(files={name: paths[0] for name, (_, paths) in found.items()}, table=table)


def _given(names: list[str], where: Mapping[str, Path | str]) -> dict[str, tuple[str, list[Path]]]:
    series = {tilt_series_of(str(name)): Path(path) for name, path in where.items()}
    unknown = sorted(set(series) - {tilt_series_of(name) for name in names})
    if unknown:
        raise ValueError(
            f"Got volumes for {len(unknown)} tomograms that are not there, first {unknown[:3]}, expected names such as "
            f"{names[:3]}. Name them as the particles do."
        )
    own = {name: series.get(tilt_series_of(name)) for name in names}
    return {name: ("given", [path]) for name, path in own.items() if path is not None}


def _found(names: list[str], where: Path | str | None) -> dict[str, tuple[str, list[Path]]]:
    if where is None:
        return {}
    folder = Path(where)
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in VOLUME_SUFFIXES) if folder.is_dir() else []
    if not files:
        raise ValueError(f"Got {folder} without a tomogram, expected a folder of MRC files. Give another folder.")
    series = {name: tilt_series_of(name) for name in names}
    exact: dict[str, list[Path]] = {}
    within: dict[str, list[Path]] = {}
    for path in files:
        own = [name for name in names if tilt_series_of(path.name) == series[name]]
        parts = [name for name in names if _has_word(path.stem, series[name])]
        if own:
            exact.setdefault(own[0], []).append(path)
        elif parts:
            within.setdefault(max(parts, key=lambda name: len(series[name])), []).append(path)
    found = {}
    for name in names:
        kind = "same tilt series" if name in exact else "name within the file's name"
        fitting = exact.get(name, []) or within.get(name, [])
        if fitting:
            found[name] = kind, sorted(fitting, key=lambda path: (len(path.name), path.name))
    return found


def _has_word(text: str, word: str) -> bool:
    return bool(word) and re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", text) is not None


def _row(name: str, found: tuple[str, list[Path]] | None) -> dict[str, object]:
    row: dict[str, object] = {"file": "", "voxel_angst": None, "size_x": None, "size_y": None, "size_z": None}
    row |= {"match": "no file", "others": "", "problem": ""}
    if found is None:
        return row
    kind, paths = found
    row |= {"file": str(paths[0]), "match": kind, "others": ", ".join(path.name for path in paths[1:])}
    try:
        header = read_header(paths[0])
    except (OSError, ValueError) as error:
        return row | {"problem": str(error)}
    nz, ny, nx = header.shape_zyx
    return row | {"voxel_angst": header.voxel_size_angst, "size_x": nx, "size_y": ny, "size_z": nz}
