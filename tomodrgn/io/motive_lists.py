"""Particle lists that are no STAR files: Dynamo tables and table maps, PyTom XML, TOM/AV3 motive lists.

Numbers and texts as they stand in the file; what they mean is said in ``particles``.
"""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.parsers import expat

import numpy as np
import pandas as pd
from jaxtyping import Float64

__all__ = ["list_format", "read_dynamo_table", "read_em_list", "read_pytom_list", "read_tomogram_names"]

DYNAMO_COLUMNS = (26, 42)
EM_HEADER_BYTES = 512
EM_BIG_ENDIAN = (0, 3, 4, 5)
EM_TYPES = {2: "i2", 4: "i4", 5: "f4", 9: "f8"}
EM_ROWS = 20


def list_format(path: Path) -> str | None:
    """``"pytom"``, ``"em"`` or ``"dynamo"`` by the first bytes of a file; None for anything else.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise FileNotFoundError(f"Got {path}, where there is {found}. Check the path (from {Path.cwd()}).")
    with path.open("rb") as file:
        head = file.read(65536)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<"):
        return "pytom"
    if b"\0" in head:
        return "em" if len(head) >= EM_HEADER_BYTES and head[0] <= 6 and head[3] in EM_TYPES else None
    cells = text.split(b"\n", 1)[0].split()
    lowest, highest = DYNAMO_COLUMNS
    return "dynamo" if lowest <= len(cells) <= highest and all(_is_number(cell) for cell in cells) else None


def _is_number(cell: bytes) -> bool:
    try:
        complex(cell.decode("ascii", "replace").replace("i", "j"))
    except ValueError:
        return False
    return True


def read_dynamo_table(path: Path | str) -> Float64[np.ndarray, "k c"]:
    """Rows of a Dynamo table (.tbl), 26 to 42 columns; of complex cells, as MATLAB writes them, the real part.

    Raises
    ------
    ValueError
        If a row has another number of cells than the first, or a cell is no number.
    """
    try:
        table = pd.read_csv(path, sep=r"\s+", header=None, dtype=np.float64, engine="c").to_numpy()
    except (ValueError, pd.errors.ParserError):
        return _checked_dynamo_rows(Path(path))
    return table if np.isfinite(table).all() else _checked_dynamo_rows(Path(path))


def _checked_dynamo_rows(path: Path) -> Float64[np.ndarray, "k c"]:
    """The rows of a table with complex or missing cells; an error for the first that cannot be read."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if not cells:
            continue
        if rows and len(cells) != len(rows[0]):
            raise ValueError(
                f"Got {len(cells)} cells in line {number} of {path}, expected {len(rows[0])} as in the first row. "
                "Complete or remove the row."
            )
        try:
            rows.append([complex(cell.replace("i", "j")).real if "i" in cell else float(cell) for cell in cells])
        except ValueError:
            raise ValueError(
                f"Got {line[:60]!r} in line {number} of {path}, expected numbers. Correct or remove the row."
            ) from None
    if not rows:
        raise ValueError(f"Got {path} without a row, expected a Dynamo table. Give the table.")
    return np.array(rows)


def read_em_list(path: Path | str) -> Float64[np.ndarray, "k 20"]:
    """A TOM/AV3 motive list (.em): the 20 numbers of each particle.

    Raises
    ------
    ValueError
        If the file is no EM file of real numbers, is cut, or has another number of rows than 20.
    """
    data = Path(path).read_bytes()
    if len(data) < EM_HEADER_BYTES or data[3] not in EM_TYPES:
        raise ValueError(f"Got {path}, expected an EM file of real numbers. Write the motive list again.")
    order = ">" if data[0] in EM_BIG_ENDIAN else "<"
    nx, ny, nz = (int(n) for n in np.frombuffer(data, f"{order}i4", count=3, offset=4))
    kind = np.dtype(f"{order}{EM_TYPES[data[3]]}")
    if nx != EM_ROWS or ny < 1 or nz != 1:
        raise ValueError(
            f"Got {path} of {nx} x {ny} x {nz} numbers, expected {EM_ROWS} x particles x 1. Give a motive list, "
            "not a volume."
        )
    if len(data) < EM_HEADER_BYTES + nx * ny * kind.itemsize:
        raise ValueError(f"Got {path} cut after {len(data)} bytes, expected {ny} particles. Copy it again.")
    return np.frombuffer(data, kind, count=nx * ny, offset=EM_HEADER_BYTES).reshape(ny, nx).astype(np.float64)


def read_pytom_list(path: Path | str) -> pd.DataFrame:
    """A PyTom ParticleList (XML): one row of text a particle.

    Returns
    -------
    Columns named ``<element><attribute>``: Filename, RotationZ1, RotationZ2, RotationX, ShiftX ... PickPositionZ,
    PickPositionOrigin, PickPositionBinning, ScoreValue, ClassName; what a particle does not have is empty text.

    Raises
    ------
    ValueError
        If the file is no such list, or declares a document type (its entities could expand without bound).
    """
    text = Path(path).read_bytes()
    try:
        if _has_document_type(text):
            raise ET.ParseError("it has a document type, <!DOCTYPE, which is not read")
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"Got {path}, expected a PyTom ParticleList ({error}). Write the list again.") from None
    rows = [_particle_cells(particle) for particle in root.iter("Particle")]
    if root.tag != "ParticleList" or not rows:
        raise ValueError(
            f"Got {path} with the root <{root.tag}> and {len(rows)} particles, expected a PyTom <ParticleList>. "
            "Give the particle list."
        )
    return pd.DataFrame(rows, dtype=str).fillna("")


def _has_document_type(text: bytes) -> bool:
    """Whether XML declares a document type; none of its entities is expanded."""
    found: list[bool] = []

    def stop(*_: object) -> None:
        found.append(True)
        raise ValueError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = stop
    with suppress(ValueError, LookupError, expat.ExpatError):  # the second parser says what is wrong
        parser.Parse(text, True)
    return bool(found)


def _particle_cells(particle: ET.Element) -> dict[str, str]:
    cells = {"Filename": particle.get("Filename", "")}
    for name in ("Rotation", "Shift", "PickPosition", "Score", "Class"):
        element = particle.find(name)
        if element is not None:
            cells |= {f"{name}{attribute}": value for attribute, value in element.items()}
    return cells


def read_tomogram_names(path: Path | str) -> dict[str, str]:
    """Names of numbered tomograms.

    Parameters
    ----------
    path
        A CSV file with the columns ``number`` and ``name``; or a Dynamo table map, ``.doc`` with lines
        ``number path``, or ``.vll`` with one path a line, counted from 1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is laid out otherwise, or gives one number two names.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Got table of tomogram names {path}, which does not exist. Check the name.")
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if path.suffix.lower() == ".csv":
        table = list(csv.DictReader(lines, skipinitialspace=True))
        pairs = [(row.get("number") or "", row.get("name") or "") for row in table]
    else:
        pairs = [_map_line(line, at) for at, line in enumerate(lines, 1)]
    names: dict[str, str] = {}
    for number, name in pairs:
        if not number.strip().isdigit() or not name.strip():
            raise ValueError(
                f"Got {(number, name)} in {path}, expected the number and the name of a tomogram. Write a CSV file "
                "with the columns number and name, or a Dynamo .doc file with `number path` in each line."
            )
        if names.setdefault(str(int(number)), name.strip()) != name.strip():
            raise ValueError(f"Got two names of tomogram {int(number)} in {path}, expected one. Remove the other.")
    if not names:
        raise ValueError(f"Got {path} without a tomogram, expected numbers and names. Add a line for each tomogram.")
    return names


def _map_line(line: str, at: int) -> tuple[str, str]:
    first, _, rest = line.partition(" ") if " " in line else line.partition("\t")
    return (first, rest) if first.isdigit() and rest.strip() else (str(at), line)
