"""Builders of broken inputs: each makes a sound set, run or file in a folder, spoils one thing, and gives its path."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tests.particles.small_sets import WarpSeries, WarpToolsSet
from tomodrgn.io.mrc import write_stack

# --- STAR files -------------------------------------------------------------------------------------------------------


def text(content: str | bytes, name: str = "given.star") -> Callable[[Path], Path]:
    """A file of this content."""

    def build(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return build


def warp(**columns: str) -> Callable[[Path], Path]:
    """An image series with these cells in the columns of its first row; None removes a column."""

    def build(folder: Path) -> Path:
        made = WarpSeries(folder)
        rows = made.rows.copy()
        for name, cell in columns.items():
            if cell is None:
                rows = rows.drop(columns=name)
            else:
                rows.loc[0, name] = cell
        made.rows = rows
        return made.write()

    return build


def warp_all(**columns: str) -> Callable[[Path], Path]:
    """An image series with these cells in every row."""

    def build(folder: Path) -> Path:
        made = WarpSeries(folder)
        made.rows = made.rows.assign(**columns)
        return made.write()

    return build


def warp_rows(choose: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], Path]:
    """An image series of the rows that `choose` leaves."""

    def build(folder: Path) -> Path:
        made = WarpSeries(folder)
        made.rows = choose(made.rows)
        return made.write()

    return build


def tools(change: Callable[[WarpToolsSet], object]) -> Callable[[Path], Path]:
    """An optimisation set after `change`."""

    def build(folder: Path) -> Path:
        made = WarpToolsSet(folder)
        change(made)
        return made.write()

    return build


def cell(table: str, column: str, value: str, row: int = 0) -> Callable[[WarpToolsSet], object]:
    """One cell of an optimisation set: of its particles, optics, tomograms or the tilts of a tomogram."""

    def change(made: WarpToolsSet) -> None:
        blocks = made.particles if table in made.particles else made.tomograms
        blocks[table] = blocks[table].copy()
        blocks[table].loc[row, column] = value

    return change


def without(table: str, *columns: str) -> Callable[[WarpToolsSet], object]:
    """An optimisation set that lacks columns, or (none given) the whole block."""

    def change(made: WarpToolsSet) -> None:
        blocks = made.particles if table in made.particles else made.tomograms
        if columns:
            blocks[table] = blocks[table].drop(columns=list(columns))
        else:
            del blocks[table]

    return change


def twice(table: str) -> Callable[[WarpToolsSet], object]:
    """An optimisation set that has the first row of a table twice."""

    def change(made: WarpToolsSet) -> None:
        blocks = made.particles if table in made.particles else made.tomograms
        blocks[table] = pd.concat([blocks[table], blocks[table].iloc[:1]], ignore_index=True)

    return change


def then(build: Callable[[Path], Path], spoil: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A set, of whose folder something is spoilt afterwards."""

    def both(folder: Path) -> Path:
        path = build(folder)
        spoil(folder)
        return path

    return both


# --- files in general -------------------------------------------------------------------------------------------------


def cut(name: str, size: int) -> Callable[[Path], object]:
    """Cut a file of the folder."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return spoil


def removed(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def replaced(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def loop(name: str) -> Callable[[Path], object]:
    """A link that leads to itself in place of a file."""

    def spoil(folder: Path) -> None:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(path.name)

    return spoil


def as_folder(name: str) -> Callable[[Path], object]:
    """A folder in place of a file."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return spoil


# --- MRC files --------------------------------------------------------------------------------------------------------


def header(nx: int, ny: int, nz: int, mode: int = 2, *, order: str = "<", extension: int = 0) -> bytes:
    """The 1,024 bytes of an MRC header."""
    head = bytearray(1024)
    struct.pack_into(f"{order}4i", head, 0, nx, ny, nz, mode)
    struct.pack_into(f"{order}i", head, 92, extension)
    head[208:216] = b"MAP " + (b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0")
    return bytes(head)


def mrc(content: bytes, name: str = "map.mrc") -> Callable[[Path], Path]:
    return text(content, name)


def pixels(value: float) -> Callable[[Path], object]:
    """One pixel of this value in the first stack of an image series."""

    def spoil(folder: Path) -> None:
        images = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
        images[1, 2, 2] = value
        write_stack(folder / "particleseries/001.mrcs", images, 5.0, overwrite=True)

    return spoil


# --- run folders ------------------------------------------------------------------------------------------------------


def settings(**changes: object) -> Callable[[Path], object]:
    """Other entries of run.json (``a__b`` is b within a); None removes one."""

    def spoil(folder: Path) -> None:
        path = folder / "run.json"
        content = json.loads(path.read_text())
        for name, value in changes.items():
            part, parts = content, name.split("__")
            for key in parts[:-1]:
                part = part[key]
            if value is None:
                del part[parts[-1]]
            else:
                part[parts[-1]] = value
        path.write_text(json.dumps(content))

    return spoil


def archive(**arrays: object) -> bytes:
    """An .npz archive; a value of bytes is stored as it is, others as numpy would, with pickles where it needs them."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in arrays.items():
            content = io.BytesIO()
            if not isinstance(value, bytes):
                np.save(content, np.asarray(value), allow_pickle=True)
            file.writestr(f"{name}.npy", value if isinstance(value, bytes) else content.getvalue())
    return out.getvalue()


def npy_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """The beginning of an .npy file that claims this shape, without its numbers."""
    said = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(said)) + said
