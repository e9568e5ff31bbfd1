"""What a training in a shell says, kept in the run folder for those who watch it from elsewhere."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

__all__ = ["RunLog"]


class RunLog(logging.Handler):
    """Keeps lines and warnings in ``RUN/log.txt``, from the moment the folder is that of this training.

    A job of a notebook has its whole output there already; then nothing is added.

    Parameters
    ----------
    run
        The run folder.
    add
        Whether to write after what an earlier training of the folder said (as when it is resumed).
    """

    def __init__(self, run: Path, *, add: bool) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("tomodrgn: %(levelname)s: %(message)s"))
        self._path, self._add = run / "log.txt", add
        self._waiting: list[str] = []
        self._begun = self._speaks = self._writes = False

    def __enter__(self) -> RunLog:
        logging.getLogger("tomodrgn").addHandler(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        logging.getLogger("tomodrgn").removeHandler(self)
        if error is not None:
            self.line(f"tomodrgn: {error or type(error).__name__}")

    def begin(self) -> None:
        """The folder is that of this training from now on."""
        if self._begun:
            return
        from tomodrgn.training.devices import is_first_process

        self._begun, self._speaks = True, is_first_process()
        self._writes = self._speaks and not _is_output(self._path)
        if self._writes and not self._add:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        self._write()

    def line(self, text: str) -> None:
        """Add a line."""
        self._waiting.append(text)
        if self._begun:
            self._write()

    def last_line(self, text: str) -> None:
        """Add what is printed at the end, too; by the first process."""
        self.begin()
        self.line(text)
        if self._speaks:
            print(text)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a warning."""
        self.line(self.format(record))

    def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        if lines and self._writes:
            # A full disk is told by the training itself, and a log is not worth ending one.
            with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)


def _is_output(path: Path) -> bool:
    """Whether what this process prints goes to a file."""
    try:
        return path.is_file() and path.samefile(f"/dev/fd/{sys.stdout.fileno()}")
    except (OSError, ValueError):  # printing to no file at all
        return False
