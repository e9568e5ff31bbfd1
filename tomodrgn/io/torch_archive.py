"""Tensors of PyTorch's own files (torch.save since 1.6), as NumPy arrays; nothing in the file is run.

The file is a zip archive: ``<name>/data.pkl``, a pickle in which each tensor is a view of a storage, and one file
``<name>/data/<key>`` of bare numbers for each storage.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tomodrgn.io.fault import FaultError
from tomodrgn.io.plain_pickle import MOST_BYTES, read_plain

__all__ = ["read_torch_archive"]

STORAGES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1",
    "Bool": "?", "BFloat16": "u2",
}  # fmt: skip
STORAGE_NAMES = frozenset(f"torch.{name}Storage" for name in STORAGES)


def read_torch_archive(path: Path | str) -> Any:
    """The value that was saved: containers, numbers, text, and a read-only array for each tensor.

    Numbers of type bfloat16 become float32.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of PyTorch before 1.6, or holds anything but plain data and tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Got {path}, where there is no file. Check the path.")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"Got {path} of more than {MOST_BYTES} bytes, expected weights. Give the file of one epoch.")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"Got {path}, expected an archive as PyTorch 1.6 or later saves it. Load it with PyTorch, save it again, "
            "on a machine that may be lost if its origin is not known."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(path, archive).read()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, KeyError, OSError, UnicodeError) as error:
        raise ValueError(f"Got {path}, expected weights as PyTorch saves them ({error}). Copy it again.") from error


class _Archive:
    """An open archive, and the storages read so far."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self._storages: dict[str, np.ndarray] = {}
        self._left = path.stat().st_size

    def read(self) -> Any:
        names = [name for name in self._archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError(f"Got {self._path} with {len(names)} files data.pkl, expected one. Copy it again.")
        self._prefix = names[0].removesuffix("data.pkl")
        if self._member("byteorder", missing=b"little").strip() != b"little":
            raise ValueError(f"Got {self._path} of big-endian numbers, expected little-endian ones. Save it again.")
        return read_plain(
            io.BytesIO(self._member("data.pkl")),
            f"{self._path} (data.pkl)",
            calls={
                "torch._utils._rebuild_tensor_v2": _rebuilt,
                "torch._utils._rebuild_parameter": lambda data, *_: data,
                "torch.Size": tuple,
            },
            names=STORAGE_NAMES,
            persistent=self._storage,
        )

    def _member(self, name: str, *, missing: bytes | None = None) -> bytes:
        """The bytes of one file; all of them together are no more than the archive, as none is packed."""
        try:
            info = self._archive.getinfo(self._prefix + name)
        except KeyError:
            if missing is not None:
                return missing
            raise
        self._left -= info.file_size
        packed = info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size
        if packed or self._left < 0:
            raise ValueError(f"Got {self._path} with {name} packed, expected plain numbers. Copy it again.")
        return self._archive.read(info)

    def _storage(self, told: Any) -> np.ndarray:
        if type(told) is not tuple or len(told) != 5 or told[0] != "storage" or not isinstance(told[2], str):
            raise FaultError("a value kept elsewhere that is no tensor")
        key, name = told[2], getattr(told[1], "name", "")
        if name not in STORAGE_NAMES or not key.isdecimal():
            raise FaultError(f"a storage {key!r:.40} of {name or 'no type'}")
        if key not in self._storages:
            kind = name.removeprefix("torch.").removesuffix("Storage")
            data = self._member(f"data/{key}")
            numbers = np.frombuffer(data, f"<{STORAGES[kind]}".replace("<?", "?"))
            if kind == "BFloat16":
                numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
            numbers.flags.writeable = False
            self._storages[key] = numbers
        return self._storages[key]


def _rebuilt(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """A tensor as a view of its storage."""
    if not isinstance(storage, np.ndarray) or not (type(size) is type(stride) is tuple) or len(size) != len(stride):
        raise FaultError("a tensor without its storage")
    if len(size) > 16 or not all(type(n) is int and 0 <= n < 1 << 40 for n in (offset, *size, *stride)):
        raise FaultError(f"a tensor of size {size!r:.60}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count and (last >= len(storage) or count > len(storage)):
        raise FaultError(f"a tensor of size {size!r:.60} in a storage of {len(storage)} numbers")
    if not count:
        return np.empty(size, storage.dtype)
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)
