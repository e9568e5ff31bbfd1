"""One training at a time in a run folder: a lock that names its process and ends with it.

``training.lock`` is JSON: pid, host, and when that process began (`started`, clock ticks since boot, which tell it
from a later process of the same number; `since`, for people). The process also holds an OS lock (flock) on that file,
which dies with it, so of two that start at once only one goes on. A process that was killed leaves the file: on this
host it is seen to be dead and the file counts for nothing; of another host nobody can tell, so a person must remove it.
Where a file system has no flock (some network mounts), what the file says is all there is.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["LOCK", "LockHolder", "RunLock", "hold_run", "lock_holder"]

LOCK = "training.lock"
TEXT_LENGTH = 256
TRIES, PAUSE_SECONDS = 20, 0.05


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """A process that trains, or did.

    Parameters
    ----------
    pid
        Its number.
    host
        Name of its machine.
    started
        When it began, in clock ticks since its machine was started; 0 if unknown.
    since
        When it took the lock.
    """

    pid: int
    host: str
    started: int
    since: str

    @classmethod
    def of(cls, pid: int) -> LockHolder:
        """A process of this machine, from now on."""
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(pid=pid, host=socket.gethostname(), started=_started(pid) or 0, since=since)

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def may_live(self) -> bool:
        """Whether it lives; of another machine's process nobody can tell, so it may."""
        return not self.is_here or _started(self.pid) == self.started

    def refusal(self, folder: Path) -> BlockingIOError:
        """The error for who wants to train there as well."""
        cure = f"Wait for its end, or stop it (kill {self.pid})."
        if not self.is_here:
            cure = f"Wait for its end, or stop it there. If it was killed, delete {folder / LOCK}."
        return BlockingIOError(
            f"Got run folder {folder}, which is being trained by process {self.pid} on host {self.host} since "
            f"{self.since}, expected one that nobody trains. {cure}"
        )


@dataclass(frozen=True)
class RunLock:
    """The lock of a run folder, while it is held."""

    folder: Path
    descriptor: int

    def name(self, holder: LockHolder) -> None:
        """Write who holds it; may be a process that was only just begun and will train instead of this one."""
        # One write of one length, so that a reader sees the old text or the new.
        os.pwrite(self.descriptor, f"{json.dumps(asdict(holder)):<{TEXT_LENGTH - 1}}\n".encode(), 0)
        os.fsync(self.descriptor)


def lock_holder(folder: Path | str) -> LockHolder | None:
    """The process that trains in a folder; None if nobody does."""
    named = _named(Path(folder))
    return named if named is not None and named.may_live else None


@contextmanager
def hold_run(folder: Path | str) -> Iterator[RunLock]:
    """Keep all others from training in a folder; one that this makes is removed again if nothing was put in it.

    Raises
    ------
    BlockingIOError
        If a process trains there.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = _acquire(folder)
    try:
        lock.name(LockHolder.of(os.getpid()))
        yield lock
    finally:
        holder = lock_holder(folder)
        if holder is None or holder.pid == os.getpid():
            with suppress(FileNotFoundError):
                (folder / LOCK).unlink()
        os.close(lock.descriptor)
        if made:
            with suppress(OSError):
                folder.rmdir()


def _acquire(folder: Path) -> RunLock:
    for _ in range(TRIES):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _flock(descriptor) and _is_at(descriptor, folder / LOCK)
            holder = lock_holder(folder)
            if holder is not None and holder.pid != os.getpid():
                raise holder.refusal(folder)
            if locked:
                held, descriptor = descriptor, -1
                return RunLock(folder, held)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        # Whoever began this process may have it still for a moment, or has not yet written who holds it.
        time.sleep(PAUSE_SECONDS)
    # The OS lock is held by this process itself, or by one that cannot be seen from here (another container).
    raise (_named(folder) or LockHolder.of(os.getpid())).refusal(folder)


def _named(folder: Path) -> LockHolder | None:
    """Whom the file names, dead or alive."""
    try:
        return LockHolder(**json.loads((folder / LOCK).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _flock(descriptor: int) -> bool:
    """Whether the OS lock could be had; True where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at a path: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _started(pid: int) -> int | None:
    """When a process of this machine began, in clock ticks since boot; None if it has ended."""
    try:
        # After the name in brackets, which may hold anything: the state is field 3, the start field 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
