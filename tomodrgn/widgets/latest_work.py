"""Long work beside the notebook: one thread, and of the wishes that wait only the newest is done."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["LatestWork", "Outdated"]

Outdated = Callable[[], bool]
IDLE_SECONDS = 60.0


class LatestWork:
    """Does what was asked for last, in a thread of its own.

    The thread waits a while for more: a new one is slow at first.

    Parameters
    ----------
    name
        Of the thread.
    failed
        Called in that thread with an error of the work.
    settle_seconds
        So long a wish waits for a newer one before it begins: a slider that moves asks many times.
    """

    def __init__(self, name: str, failed: Callable[[Exception], None], *, settle_seconds: float = 0.0) -> None:
        self._name, self._failed, self._settle = name, failed, settle_seconds
        self._wish: Callable[[Outdated], None] | None = None
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None
        self._busy = False
        self._number = 0

    def ask(self, work: Callable[[Outdated], None]) -> None:
        """Have this done next; what is being done is told that it is outdated, and what waited is forgotten.

        Parameters
        ----------
        work
            Called with a function that says whether something else was asked for meanwhile: it may end then.
        """
        with self._changed:
            self._wish, self._number, self._busy = work, self._number + 1, True
            if self._worker is None:
                self._worker = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._worker.start()
            self._changed.notify_all()

    def cancel(self) -> None:
        """Ask for nothing: what is being done is told that it is outdated."""
        with self._changed:
            self._wish, self._number = None, self._number + 1

    @property
    def busy(self) -> bool:
        """Whether something is being done, or waits."""
        return self._busy

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                number = self._number
                while self._settle and self._changed.wait(self._settle) and self._number != number:
                    number = self._number
                work, self._wish, number = self._wish, None, self._number
                if work is None:
                    self._busy = False
                    self._changed.notify_all()
                    if self._changed.wait_for(lambda: self._busy, IDLE_SECONDS):
                        continue
                    self._worker = None
                    return
            try:
                work(lambda number=number: self._number != number)  # type: ignore[misc]
            except Exception as error:
                self._failed(error)
