"""Write to a temporary name, then rename: a reader never sees half a file, and a crash leaves the old one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["refuse_existing", "replacing"]


def refuse_existing(path: Path | str, *, overwrite: bool) -> None:
    """Refuse an output that is there already; asked before long work, and again when it is written.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    """
    if not overwrite and Path(path).exists():
        raise FileExistsError(
            f"Got output {path}, which exists already. Choose another name, or pass overwrite=True (--overwrite)."
        )


@contextmanager
def replacing(path: Path | str, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends without an error.

    Parameters
    ----------
    path
        The file to be written; its folder is made if needed.
    overwrite
        Whether a file already there may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
