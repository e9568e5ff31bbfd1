"""Slabs read beside other work: the newest wish first, those in between are dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tomodrgn.particles.tomogram_slab import Plane, Slab, TomogramVolume

__all__ = ["SlabReader", "SlabWish"]


@dataclass(frozen=True, kw_only=True)
class SlabWish:
    """Which slab of which volume is wanted, and between which densities (None: found from the volume)."""

    volume: TomogramVolume | None
    plane: Plane
    centre_angst: float
    thickness_angst: float
    contrast: tuple[float, float] | None


class SlabReader:
    """A thread that lives while there is something to read.

    Parameters
    ----------
    show
        Called, from the thread, with the slab (None without a volume) and the densities of black and white.
    fail
        Called with what went wrong.
    """

    def __init__(self, show: Callable[[Slab | None, tuple[float, float]], None], fail: Callable[[str], None]) -> None:
        self._show, self._fail = show, fail
        self._wish: SlabWish | None = None
        self._worker: threading.Thread | None = None
        self._changed = threading.Condition()
        self._limits: dict[tuple[TomogramVolume, Plane, float], tuple[float, float]] = {}

    def ask(self, wish: SlabWish) -> None:
        """Have this slab shown."""
        with self._changed:
            self._wish = wish
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="SlabReader", daemon=True)
                self._worker.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until what was asked for last is shown; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._worker is None, timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                wish, self._wish = self._wish, None
                if wish is None:
                    self._worker = None
                    self._changed.notify_all()
                    return
            try:
                slab, contrast = self._read(wish)
                if self._wish is None:
                    self._show(slab, contrast)
            except Exception as error:
                text = str(error)
                self._fail(text if text.startswith("Got ") else f"Got {type(error).__name__}: {text}")

    def _read(self, wish: SlabWish) -> tuple[Slab | None, tuple[float, float]]:
        volume = wish.volume
        if volume is None:
            return None, (0.0, 1.0)
        key = (volume, wish.plane, wish.thickness_angst)
        if wish.contrast is None and key not in self._limits:
            self._limits[key] = volume.contrast(wish.plane, wish.thickness_angst)
        contrast = self._limits[key] if wish.contrast is None else wish.contrast
        return volume.slab(wish.plane, wish.centre_angst, wish.thickness_angst), contrast
