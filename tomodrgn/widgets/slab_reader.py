"""Slabs read beside other work: the newest wish first, those in between are dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tomodrgn.particles.tomogram_slab import Plane, Slab, TomogramVolume
from tomodrgn.widgets.in_place import told
from tomodrgn.widgets.latest_work import LatestWork, Outdated

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
        self._show = show
        self._work = LatestWork("SlabReader", lambda error: fail(told(error)))
        self._limits: dict[tuple[TomogramVolume, Plane, float], tuple[float, float]] = {}

    def ask(self, wish: SlabWish) -> None:
        """Have this slab shown."""
        self._work.ask(lambda outdated: self._answer(wish, outdated))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until what was asked for last is shown; whether it is."""
        return self._work.wait(timeout)

    def _answer(self, wish: SlabWish, outdated: Outdated) -> None:
        slab, contrast = self._read(wish)
        if not outdated():
            self._show(slab, contrast)

    def _read(self, wish: SlabWish) -> tuple[Slab | None, tuple[float, float]]:
        volume = wish.volume
        if volume is None:
            return None, (0.0, 1.0)
        key = (volume, wish.plane, wish.thickness_angst)
        if wish.contrast is None and key not in self._limits:
            self._limits[key] = volume.contrast(wish.plane, wish.thickness_angst)
        contrast = self._limits[key] if wish.contrast is None else wish.contrast
        return volume.slab(wish.plane, wish.centre_angst, wish.thickness_angst), contrast
