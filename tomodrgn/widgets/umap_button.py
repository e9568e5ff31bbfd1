"""A button that makes UMAP in another process and tells its progress; pressed again it ends the work."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets
import pandas as pd

from tomodrgn.analysis.umap_job import UmapJob
from tomodrgn.particles.latents import Latents

__all__ = ["UmapButton"]


class UmapButton(ipywidgets.Button):
    """Makes the columns UMAP1 and UMAP2.

    Parameters
    ----------
    latents
        What is embedded; it can be set anew.
    found
        Called with the columns when they are there.

    Attributes
    ----------
    job
        The work, once it began.
    """

    def __init__(self, latents: Latents, found: Callable[[pd.DataFrame], None]) -> None:
        self.latents, self._found = latents, found
        self.job: UmapJob | None = None
        super().__init__(
            description="UMAP", tooltip="Make UMAP1 and UMAP2, beside other work", layout={"width": "170px"}
        )
        self.add_class("tomodrgn-umap")
        self.on_click(lambda _: self.make())

    def make(self, *, seed: int = 0) -> UmapJob:
        """Begin, or end what runs."""
        if self.job is not None and self.job.running:
            self.job.cancel()
            return self.job
        self.description = "UMAP: neighbours ..."
        self.job = UmapJob(self.latents, seed=seed, on_progress=self._tell, on_end=self._take)
        return self.job

    def _tell(self, done: int, of: int) -> None:
        self.description = f"UMAP: {done} of {of} (stop)" if of else "UMAP: neighbours ..."

    def _take(self, job: UmapJob) -> None:
        self.description = "UMAP"
        try:
            columns = job.result()
        except RuntimeError as error:
            self.tooltip = str(error)
            return
        self._found(columns)
        self.disabled = True
