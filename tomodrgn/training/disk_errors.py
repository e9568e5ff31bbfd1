"""A disk that has no room, as an error that says what is kept and how to go on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from safetensors import SafetensorError

from tomodrgn.training.run import Run

__all__ = ["failures_told"]

# No room, no room in a quota, no room in a file, a broken disk, a disk that was made read-only.
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextmanager
def failures_told(run: Run, *, writes: bool = True) -> Iterator[None]:
    """Write into the status of a run how its training ends, if it does not end well.

    Parameters
    ----------
    writes
        Whether this process writes at all; of several only one does.

    Raises
    ------
    OSError
        In place of an error of the disk: it names the run, its last epoch and the cure.
    """
    try:
        yield
    except BaseException as error:
        told = _of_disk(run, error) or error
        stopped = isinstance(error, KeyboardInterrupt)
        said = {} if stopped else {"error": f"{type(told).__name__}: {told}"}
        if writes:
            with suppress(OSError):  # of a full disk: the error itself is what must be told
                run.write_status("stopped" if stopped else "failed", epoch=max(run.epochs, default=0), **said)
        if told is not error:
            raise told from error
        raise


def _of_disk(run: Run, error: BaseException) -> OSError | None:
    """What an error of writing means for the run; None if it is of another kind."""
    # safetensors has no error number, but says it in its message.
    in_words = isinstance(error, SafetensorError) and "os error" in str(error)
    if not in_words and not (isinstance(error, OSError) and error.errno in ERRORS):
        return None
    kept = f"Its epochs up to {run.epochs[-1]} are whole" if run.epochs else "It has no finished epoch"
    again = "fit again with the same command" if run.kind == "linear" else "go on with --resume"
    return OSError(
        f"Got a disk that could not be written to for run {run.folder} ({error}), expected room for its files. {kept}: "
        f"make room, then {again}."
    )
