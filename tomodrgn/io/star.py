"""STAR blocks in and out: always a dict of frames; every cell is text, so digits and names stay as written.

A reader of its own, because identifiers such as ``001`` and ``1e5`` must stay text in columns that are not known
beforehand, and because a damaged row must be named by file and line; the starfile package is the independent
reader that the tests compare with. Tables go through Arrow's reader of delimited text, part by part, several times
faster than through that of pandas; tables with quoted cells through a slower one of our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from tomodrgn.io.atomic import replacing

__all__ = ["is_simple", "read_star", "write_star"]

TOKEN = re.compile(r"\"([^\"]*)\"(?=\s|$)|'([^']*)'(?=\s|$)|(#.*)|(\S+)", re.ASCII)
QUOTED_CELL = re.compile(rb"[\"'](?<![^ \t\n][\"'])")  # a quote that no other character precedes
COMMENT = re.compile(rb"#(?<![^ \t\n]#)[^\n]*")
VERSION = re.compile(rb"# version (\d+)\s*\Z")
SPACE = re.compile(r"\s")
ROWS_AT_ONCE = 50_000
BYTES_AT_ONCE = 1 << 22
SPECIAL_STARTS = ("#", '"', "'", "_", "data_", "DATA_", "Data_", "loop_", "LOOP_", "Loop_")


def is_simple(block: pd.DataFrame) -> bool:
    """Whether a block is a list of ``_name value`` lines rather than a loop."""
    return bool(block.attrs.get("simple", False))


def read_star(path: Path | str) -> dict[str, pd.DataFrame]:
    """Read all blocks of a STAR file.

    Parameters
    ----------
    path
        The STAR file.

    Returns
    -------
    Block name (without ``data_``) to a frame whose cells are all text and whose columns are the labels without
    the leading underscore, in the order of the file. A block of ``_name value`` lines is a frame of one row with
    ``frame.attrs["simple"]`` set; `write_star` writes it back so.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, is not text, has no ``data_`` block, names a block or label twice, or a row has
        another number of cells than the block has labels; the message gives the line, both numbers and the cure.
    """
    path = Path(path)
    data = _text(path)
    starts = list(_block_starts(data))
    if not starts:
        raise ValueError(f"Got {path} without a `data_` block, expected a STAR file. Give the STAR file.")
    before = COMMENT.sub(b"", data[: starts[0]]).strip()
    if before:
        raise ValueError(
            f"Got {before[:40].decode(errors='replace')!r} before the first block of {path}, expected `data_`. "
            "Remove the text or give the STAR file itself."
        )
    blocks: dict[str, pd.DataFrame] = {}
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        name, block = _Block(path, data, start, end).read()
        if name in blocks:
            raise ValueError(f"Got block `data_{name}` twice in {path}, expected it once. Rename or remove one.")
        if version := VERSION.search(data, max(0, start - 80), start):
            block.attrs["version"] = version[1].decode()
        blocks[name] = block
    return blocks


def _text(path: Path) -> bytes:
    """The bytes of a text file, with newlines only."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise FileNotFoundError(f"Got STAR file {path}, where there is {found}. Check the path (from {Path.cwd()}).")
    data = path.read_bytes()
    if not data or data.isspace():
        raise ValueError(f"Got an empty file {path}, expected a STAR file. Write or copy it again.")
    if b"\0" in data[:4096] or b"\0" in data[-4096:]:
        raise ValueError(f"Got a binary file {path}, expected STAR text. Give the .star file, not the images.")
    try:
        if not data.isascii():
            data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Got byte {data[error.start]:#04x} at position {error.start} of {path}, expected UTF-8 text. "
            "Convert the file to UTF-8 or give the .star file."
        ) from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _block_starts(data: bytes) -> Iterator[int]:
    """Positions of the lines that consist of `data_<name>` alone."""
    for at in sorted(_positions(data)):
        line = data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        if not data[line:at].strip() and len(data[at:end].split(b" #")[0].split()) == 1:
            yield line


def _positions(data: bytes) -> Iterator[int]:
    """Where a keyword of blocks stands; STAR's keywords are of any case."""
    for word in (b"data_", b"DATA_", b"Data_"):
        at = data.find(word)
        while at >= 0:
            yield at
            at = data.find(word, at + len(word))


class _Block:
    """One block of a STAR file: bytes `start` to `end` of `data`."""

    def __init__(self, path: Path, data: bytes, start: int, end: int) -> None:
        self.path, self.data, self.start, self.end = path, data, start, end
        self.name = ""

    def read(self) -> tuple[str, pd.DataFrame]:
        """Name and frame."""
        at, line = self._line(self.start)
        self.name = line.split()[0][len("data_") :]
        labels: list[str] = []
        values: list[str] = []
        loop = False
        while at < self.end:
            following, line = self._line(at)
            if line[:6].lower().rstrip() == "loop_":
                loop = True
            elif line.startswith("_"):
                cells = _cells(line)
                labels.append(cells[0][1:])
                if not loop:
                    values.append(self._value(cells, at))
            elif line and not line.startswith("#"):
                break
            at = following
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"Got label _{twice} twice in block `data_{self.name}` of {self.path}. Remove one.")
        if at < self.end and not (loop and labels):
            raise self._error(at, "expected `loop_` and labels before rows", "Add the labels that name its columns.")
        if loop:
            return self.name, self._rows(labels, at)
        frame = pd.DataFrame([values] if labels else [], columns=labels, dtype=str)
        frame.attrs["simple"] = True
        return self.name, frame

    def _line(self, at: int) -> tuple[int, str]:
        """Start of the next line, and the text of the line at `at`."""
        end = self.data.find(b"\n", at, self.end)
        end = self.end if end < 0 else end
        return min(end + 1, self.end), self.data[at:end].decode().strip()

    def _error(self, at: int, expected: str, cure: str) -> ValueError:
        number = self.data.count(b"\n", 0, at) + 1
        text = self._line(at)[1]
        where = f"line {number} of {self.path} (block `data_{self.name}`)"
        return ValueError(f"Got {text[:60]!r} in {where}, {expected}. {cure}")

    def _value(self, cells: list[str], at: int) -> str:
        if len(cells) > 2:
            raise self._error(at, f"expected 1 value, found {len(cells) - 1}", "Put a text with spaces in quotes.")
        return cells[1] if len(cells) == 2 else ""

    def _rows(self, labels: list[str], at: int) -> pd.DataFrame:
        quotes = any(self.data.find(quote, at, self.end) >= 0 for quote in (b'"', b"'"))
        if quotes and QUOTED_CELL.search(self.data, at, self.end):
            cells = [row for _, row in self._checked_rows(len(labels), at)]
            return pd.DataFrame(cells, columns=labels, dtype=str)
        names = [str(i) for i in range(len(labels))]
        try:
            tables = [_read_rows(rows, names) for part in self._parts(at) if (rows := _single_spaced(part))]
        except pa.ArrowInvalid as error:
            for _ in self._checked_rows(len(labels), at):
                pass
            where = f"block `data_{self.name}` of {self.path}"
            raise ValueError(f"Got rows of {where} that cannot be read ({error}). Write the file again.") from error
        if not tables:
            return pd.DataFrame({label: pd.Series(dtype=str) for label in labels})
        return pa.concat_tables(tables).to_pandas(split_blocks=True).set_axis(labels, axis=1)

    def _parts(self, at: int) -> Iterator[bytes]:
        """The rest of the block in parts of whole lines, without comments."""
        while at < self.end:
            cut = self.data.rfind(b"\n", at, at + BYTES_AT_ONCE) + 1 if at + BYTES_AT_ONCE < self.end else self.end
            cut = cut or self.data.find(b"\n", at, self.end) + 1 or self.end  # a line longer than a part
            part = self.data[at:cut]
            yield COMMENT.sub(b"", part) if b"#" in part else part
            at = cut

    def _checked_rows(self, width: int, at: int) -> Iterator[tuple[int, list[str]]]:
        """Position and cells of each row; an error for the first row of another width."""
        while at < self.end:
            following, line = self._line(at)
            cells = _cells(line)
            if cells and len(cells) != width:
                cure = "Complete or remove the row; put a text with spaces in quotes."
                raise self._error(at, f"expected {width} cells, found {len(cells)}", cure)
            if cells:
                yield at, cells
            at = following


def _single_spaced(rows: bytes) -> bytes:
    """Lines whose cells are parted by one space each, with none before the first or after the last."""
    text = np.frombuffer(rows, dtype=np.uint8)
    gap = (text == ord(" ")) | (text == ord("\t"))
    kept = ~gap
    kept[:-1] |= gap[:-1] & ~gap[1:] & (text[1:] != ord("\n"))  # the last one of a gap within a line
    return np.where(gap, np.uint8(ord(" ")), text)[kept].tobytes().replace(b"\n ", b"\n").strip(b" \n")


def _read_rows(rows: bytes, names: list[str]) -> pa.Table:
    """Lines of `_single_spaced` as columns of text; an ArrowInvalid error where a line has other than one cell each."""
    return csv.read_csv(
        pa.BufferReader(rows),
        read_options=csv.ReadOptions(column_names=names, block_size=max(len(rows), 1)),
        parse_options=csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False, check_utf8=False
        ),
    )


def _cells(line: str) -> list[str]:
    """The cells of a line: quotes taken off, a comment left out."""
    found = []
    for token in TOKEN.finditer(line):
        double, single, comment, plain = token.groups()
        if comment is not None:
            break
        found.append(next(text for text in (double, single, plain) if text is not None))
    return found


def write_star(path: Path | str, blocks: Mapping[str, pd.DataFrame], *, overwrite: bool = False) -> None:
    """Write blocks to a STAR file, whole or not at all.

    Parameters
    ----------
    path
        The file to write.
    blocks
        Block name to frame. Text cells are written as they are, in quotes where they hold spaces or nothing;
        numbers with all their digits. A frame with ``attrs["simple"]`` and one row becomes ``_name value`` lines.
    overwrite
        Whether a file already there may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    ValueError
        If a cell holds a line break, or spaces and both kinds of quotes.
    """
    path = Path(path)
    with replacing(path, overwrite=overwrite) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
        for name, block in blocks.items():
            version = f"# version {block.attrs['version']}\n\n" if "version" in block.attrs else ""
            out.write(f"\n{version}data_{name}\n\n")
            if is_simple(block) and len(block) <= 1:
                out.writelines(f"_{label}  {_written(block[label], path)[0]}\n" for label in block if len(block))
            else:
                out.write("loop_\n")
                out.writelines(f"_{label} #{i}\n" for i, label in enumerate(block, 1))
                for start in range(0, len(block), ROWS_AT_ONCE):
                    part = block.iloc[start : start + ROWS_AT_ONCE]
                    rows = zip(*(_written(part[label], path) for label in part), strict=True)
                    out.writelines("\t".join(row) + "\n" for row in rows)
            out.write("\n")


def _written(column: pd.Series, path: Path) -> list[str]:
    """The cells of a column as they stand in the file."""
    if column.dtype == bool:
        column = column.astype(int)
    cells = column.astype(str).fillna("nan").tolist()
    joined = "\n" + "\n".join(cells)
    plain = joined.isascii() and not any(space in joined for space in " \t\r\v\f")
    if plain and len(joined.split()) == len(cells) and not any(f"\n{start}" in joined for start in SPECIAL_STARTS):
        return cells
    special = (not cell or cell.startswith(SPECIAL_STARTS) or SPACE.search(cell) for cell in cells)
    return [_quoted(cell, path) if quote else cell for cell, quote in zip(cells, special, strict=True)]


def _quoted(cell: str, path: Path) -> str:
    quote = next((mark for mark in "\"'" if mark not in cell), None)
    if quote is None or "\n" in cell or "\r" in cell:
        raise ValueError(
            f"Got the text {cell!r} for {path}, expected one line without both kinds of quotes, as STAR needs. "
            "Change the text."
        )
    return f"{quote}{cell}{quote}"
