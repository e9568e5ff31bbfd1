"""UMAP in a process of its own, watched and stopped from here: compiled loops would hold up a notebook otherwise.

The process is ``python -m tomodrgn.analysis.umap_job LATENTS.npz OUT.csv ...``; it prints a line for each epoch.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tomodrgn.analysis.latent_space import umap_latents
from tomodrgn.particles.latents import Latents

__all__ = ["UmapJob"]


class UmapJob:
    """A UMAP that is being made.

    Parameters
    ----------
    latents, n_neighbors, min_dist, seed
        See `umap_latents`; two components are made.
    on_progress
        Called in a thread of its own with epochs done and all epochs: (0, 0) while neighbours are searched.
    on_end
        Called in that thread at the end, however it came, with this job.

    Attributes
    ----------
    progress
        Epochs done, and all.
    """

    def __init__(
        self,
        latents: Latents,
        *,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        seed: int = 0,
        on_progress: Callable[[int, int], None] = lambda done, of: None,
        on_end: Callable[[UmapJob], None] = lambda job: None,
    ) -> None:
        self.progress = (0, 0)
        self._on_progress, self._on_end, self._cancelled = on_progress, on_end, False
        self._folder = tempfile.TemporaryDirectory(prefix="tomodrgn-umap-")
        place = Path(self._folder.name)
        latents.save(place / "latents.npz")
        self._out = place / "umap.csv"
        options = [str(n_neighbors), repr(float(min_dist)), str(seed)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(place / "latents.npz"), str(self._out), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._table: pd.DataFrame | None = None
        self._error = ""
        self._watcher = threading.Thread(target=self._watch, name="UmapJob", daemon=True)
        self._watcher.start()

    @property
    def running(self) -> bool:
        """Whether it is still being made."""
        return self._watcher.is_alive()

    def cancel(self) -> None:
        """End the work; `result` then says that it was cancelled."""
        self._cancelled = True
        self._process.terminate()

    def result(self, timeout: float | None = None) -> pd.DataFrame:
        """Wait for the end; columns UMAP1 and UMAP2, indexed by particle_id.

        Raises
        ------
        TimeoutError
            If it takes longer than so many seconds.
        RuntimeError
            If it was cancelled, or failed; the message says why.
        """
        ended = threading.current_thread() is self._watcher  # on_end asks
        if not ended:
            self._watcher.join(timeout)
        if not ended and self._watcher.is_alive():
            raise TimeoutError(f"Got no UMAP within {timeout:g} s, expected one. Wait longer, or cancel it.")
        if self._table is None:
            raise RuntimeError(
                f"Got no UMAP: {'it was cancelled' if self._cancelled else self._error}. Start it again."
            )
        return self._table

    def _watch(self) -> None:
        complaints: list[str] = []
        reader = threading.Thread(target=lambda: complaints.extend(self._process.stderr or ()), daemon=True)
        reader.start()
        for line in self._process.stdout or ():
            done, _, of = line.partition(" of ")
            if done.isdigit() and of.strip().isdigit():
                self.progress = (int(done), int(of))
                self._on_progress(*self.progress)
        code = self._process.wait()
        reader.join()
        if code == 0:
            self._table = pd.read_csv(self._out, dtype={"particle_id": str}, keep_default_na=False)
            self._table = self._table.set_index("particle_id")
        else:
            self._error = complaints[-1].strip() if complaints else f"its process ended with code {code}"
        self._folder.cleanup()
        self._on_end(self)


def _main(source: str, out: str, *options: str) -> None:
    """The other process."""

    def tell(done: int, of: int) -> None:
        sys.stdout.write(f"{done} of {of}\n")
        sys.stdout.flush()

    n_neighbors, min_dist, seed = int(options[0]), float(options[1]), int(options[2])
    table = umap_latents(Latents.load(source), n_neighbors=n_neighbors, min_dist=min_dist, seed=seed, progress=tell)
    table.to_csv(out)


if __name__ == "__main__":
    _main(*sys.argv[1:])
