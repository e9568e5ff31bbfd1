"""cisTEM's binary parameter files (.cistem), as tables of text with the labels of its STAR files.

Little-endian: number of columns and of rows (int32); for each column a flag of one bit (int64) and the code of its type
(int8); then the rows, packed in that order. Text has its length (int32) before it.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pandas as pd

from tomodrgn.io.atomic import replacing

__all__ = ["is_cistem", "read_cistem", "write_cistem"]

INT, FLOAT, DOUBLE, LONG, TEXT, UINT = 2, 3, 4, 5, 8, 9
NUMBERS = {INT: "<i4", FLOAT: "<f4", DOUBLE: "<f8", LONG: "<i8", UINT: "<u4"}
# Label and type of the column of each bit, from the lowest.
COLUMNS = (
    ("cisTEMPositionInStack", UINT), ("cisTEMImageActivity", INT), ("cisTEMAnglePsi", FLOAT), ("cisTEMXShift", FLOAT),
    ("cisTEMYShift", FLOAT), ("cisTEMDefocus1", FLOAT), ("cisTEMDefocus2", FLOAT), ("cisTEMDefocusAngle", FLOAT),
    ("cisTEMPhaseShift", FLOAT), ("cisTEMOccupancy", FLOAT), ("cisTEMLogP", FLOAT), ("cisTEMSigma", FLOAT),
    ("cisTEMScore", FLOAT), ("cisTEMScoreChange", FLOAT), ("cisTEMPixelSize", FLOAT),
    ("cisTEMMicroscopeVoltagekV", FLOAT), ("cisTEMMicroscopeCsMM", FLOAT), ("cisTEMAmplitudeContrast", FLOAT),
    ("cisTEMBeamTiltX", FLOAT), ("cisTEMBeamTiltY", FLOAT), ("cisTEMImageShiftX", FLOAT), ("cisTEMImageShiftY", FLOAT),
    ("cisTEMAngleTheta", FLOAT), ("cisTEMAnglePhi", FLOAT), ("cisTEMStackFilename", TEXT),
    ("cisTEMOriginalImageFilename", TEXT), ("cisTEMReference3DFilename", TEXT), ("cisTEMBest2DClass", INT),
    ("cisTEMBeamTiltGroup", INT), ("cisTEMParticleGroup", INT), ("cisTEMPreExposure", FLOAT),
    ("cisTEMTotalExposure", FLOAT), ("cisTEMAssignedSubset", INT),
)  # fmt: skip
BIT_OF = {label: bit for bit, (label, _) in enumerate(COLUMNS)}
UNKNOWN = "cisTEMColumn"  # and the number of the bit


def is_cistem(path: Path | str) -> bool:
    """Whether a file begins as a binary parameter file does."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(17)
    if len(head) < 17:
        return False
    n_columns, n_rows, flag, kind = struct.unpack("<iiqb", head)
    return 1 <= n_columns <= 64 and n_rows >= 0 and flag > 0 and flag.bit_count() == 1 and kind in (*NUMBERS, TEXT)


def read_cistem(path: Path | str) -> pd.DataFrame:
    """Read a binary parameter file.

    Returns
    -------
    Table of text cells; the text of a number is the shortest that is read as the same number. Columns that are not
    known are named by the number of their bit.

    Raises
    ------
    ValueError
        If the file is no such file, names a column twice, is cut short, or is longer than it says.
    """
    path = Path(path)
    if not is_cistem(path):
        raise ValueError(f"Got {path}, expected a binary cisTEM file. Give a .cistem file, or the STAR file.")
    data = path.read_bytes()
    n_columns, n_rows = struct.unpack_from("<ii", data)
    start = 8 + 9 * n_columns
    if start > len(data):
        raise _cut_short(path, len(data))
    columns = [struct.unpack_from("<qb", data, 8 + 9 * i) for i in range(n_columns)]
    flags = [flag for flag, _ in columns]
    if min(flags) <= 0 or any(flag.bit_count() != 1 for flag in flags) or len(set(flags)) < n_columns:
        raise ValueError(
            f"Got {path} with columns that are flagged {flags[:8]} ..., expected one bit for each, and none twice. "
            "Copy or export it again."
        )
    labels = [_label(flag.bit_length() - 1) for flag in flags]
    kinds = [kind for _, kind in columns]
    strange = [kind for kind in kinds if kind not in (*NUMBERS, TEXT)]
    if strange:
        raise ValueError(
            f"Got {path} with a column of type {strange[0]}, which is not known. Export it as a STAR file."
        )
    if TEXT in kinds:
        cells = _mixed_rows(path, data, kinds, n_rows)
    else:
        row = np.dtype([(label, NUMBERS[kind]) for label, kind in zip(labels, kinds, strict=True)])
        if len(data) != start + n_rows * row.itemsize:
            raise _cut_short(path, len(data), start + n_rows * row.itemsize)
        table = np.frombuffer(data, dtype=row, count=n_rows, offset=start)
        cells = [[str(value) for value in table[label]] for label in labels]
    return pd.DataFrame(dict(zip(labels, cells, strict=True)), dtype=str)


def _label(bit: int) -> str:
    return COLUMNS[bit][0] if bit < len(COLUMNS) else f"{UNKNOWN}{bit}"


def _cut_short(path: Path, found: int, wanted: int | None = None) -> ValueError:
    expected = "more" if wanted is None else f"{wanted} as its header says"
    return ValueError(f"Got {path} of {found} bytes, expected {expected}. Copy or export it again.")


def _mixed_rows(path: Path, data: bytes, kinds: list[int], n_rows: int) -> list[list[str]]:
    """The cells of each column of a file with text."""
    cells: list[list[str]] = [[] for _ in kinds]
    types = {kind: np.dtype(name) for kind, name in NUMBERS.items()}
    at = 8 + 9 * len(kinds)
    for _ in range(n_rows):
        for column, kind in zip(cells, kinds, strict=True):
            size = 4 if kind == TEXT else types[kind].itemsize
            first = data[at : at + size]
            at += size
            if len(first) < size:
                raise _cut_short(path, len(data))
            if kind != TEXT:
                column.append(str(np.frombuffer(first, types[kind])[0]))
                continue
            length = struct.unpack("<i", first)[0]
            text = data[at : at + max(length, 0)]
            at += length
            if length < 0 or len(text) < length:
                raise _cut_short(path, len(data))
            column.append(text.decode(errors="replace"))
    if at != len(data):
        raise _cut_short(path, len(data), at)
    return cells


def write_cistem(path: Path | str, table: pd.DataFrame, *, overwrite: bool = False) -> None:
    """Write a binary parameter file, whole or not at all.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    ValueError
        If a column has no place in such files, or a cell is no number.
    """
    path = Path(path)
    foreign = [str(label) for label in table if label not in BIT_OF]
    if foreign:
        raise ValueError(
            f"Got the columns {foreign} for {path}, which binary cisTEM files cannot hold. Write a .star file."
        )
    bits = [BIT_OF[str(label)] for label in table]
    kinds = [COLUMNS[bit][1] for bit in bits]
    header = b"".join(struct.pack("<qb", 1 << bit, kind) for bit, kind in zip(bits, kinds, strict=True))
    columns = [
        [_packed_text(cell) for cell in table[label]] if kind == TEXT else _packed_numbers(path, table[label], kind)
        for label, kind in zip(table, kinds, strict=True)
    ]
    rows = b"".join(cell for row in zip(*columns, strict=True) for cell in row)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(struct.pack("<ii", len(kinds), len(table)) + header + rows)


def _packed_text(cell: str) -> bytes:
    text = cell.encode()
    return struct.pack("<i", len(text)) + text


def _packed_numbers(path: Path, column: pd.Series, kind: int) -> list[bytes]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if np.isnan(values).any():
        bad = column.iloc[int(np.argmax(np.isnan(values)))]
        raise ValueError(f"Got {bad!r} as _{column.name} for {path}, expected a number. Correct it.")
    packed = values.astype(NUMBERS[kind])
    return [value.tobytes() for value in packed]
