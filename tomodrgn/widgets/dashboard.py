"""All views of a run on one page, with one choice of particles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
import traitlets

from tomodrgn.particles.position_set import Positions
from tomodrgn.training.run import Run
from tomodrgn.widgets.in_place import shown_in, told
from tomodrgn.widgets.latent_explorer import LatentExplorer
from tomodrgn.widgets.particle_viewer import ParticleViewer
from tomodrgn.widgets.selection import Selection
from tomodrgn.widgets.tomogram_viewer import TomogramViewer
from tomodrgn.widgets.training_monitor import TrainingMonitor
from tomodrgn.widgets.volume_gallery import VolumeGallery

__all__ = ["Dashboard", "explore"]

GALLERY_MAPS = 12


class Dashboard(ipywidgets.VBox):
    """The latent explorer, and under it panes that share its choice of particles; each is made when it is first opened.

    Parameters
    ----------
    run
        A run, or its folder.
    epoch
        Epoch whose latents are shown; None is the last.
    clusters
        A class for each particle, as of `cluster_latents`: the column `cluster`.
    columns
        Further columns to colour by, indexed by particle_id.
    tomograms, positions
        As of `TomogramViewer`: where volumes of the tomograms are, and places of the particles.
    selection
        A Selection of another view, to be shared.
    height
        Of the pictures, in pixels of the screen.

    Attributes
    ----------
    selection
        The chosen particles, the same in all views.
    pane
        The pane that is open: ``"Tilt images"``, ``"Gallery"``, ``"Tomograms"`` or ``"Training"``.
    panes
        The views made so far, by their panes.
    explorer
        The LatentExplorer.
    message
        What went wrong in making a pane; empty when all is well.

    Raises
    ------
    ValueError
        If the run has no latents (z_dim 0), or `pane` is set to another word.
    """

    pane = traitlets.Unicode("Tilt images")
    message = traitlets.Unicode("", read_only=True)

    def __init__(
        self,
        run: Run | Path | str,
        epoch: int | None = None,
        *,
        clusters: pd.Series | None = None,
        columns: pd.DataFrame | None = None,
        tomograms: Mapping[str, Path | str] | Path | str | None = None,
        positions: Positions | None = None,
        selection: Selection | None = None,
        height: int = 420,
    ) -> None:
        self.panes: dict[str, ipywidgets.Widget] = {}
        self.run = run if isinstance(run, Run) else Run.open(run)
        self.explorer = LatentExplorer(
            self.run, epoch, clusters=clusters, columns=columns, selection=selection, height=height
        )
        self.selection = self.explorer.selection
        shared: dict[str, Any] = {"selection": self.selection}
        placed: dict[str, Any] = {
            "tomograms": tomograms,
            "positions": positions,
            "clusters": clusters,
            "columns": columns,
        }
        self._makers: dict[str, Callable[[], ipywidgets.Widget]] = {
            "Tilt images": lambda: ParticleViewer(run=self.run, epoch=epoch, **shared),
            "Gallery": lambda: VolumeGallery.of_run(self.run, GALLERY_MAPS, epoch=epoch, **shared),
            "Tomograms": lambda: TomogramViewer(self.run, epoch, height=height, **placed, **shared),
            "Training": lambda: TrainingMonitor(None, self.run.folder),
        }
        self._places = {name: ipywidgets.VBox([_line("opening ...")]) for name in self._makers}
        self._tabs = ipywidgets.Tab(list(self._places.values()), titles=tuple(self._places), selected_index=0)
        self._tabs.add_class("tomodrgn-panes")
        super().__init__([self.explorer, self._tabs])
        self.add_class("tomodrgn-dashboard")
        self._tabs.observe(self._turned, names="selected_index")
        self._open()

    @traitlets.validate("pane")
    def _known(self, proposal: dict) -> str:
        names = list(self._makers)
        if proposal["value"] not in names:
            raise ValueError(f"Got pane {proposal['value']!r}, expected one of {names}. Choose one of these.")
        return str(proposal["value"])

    @traitlets.observe("pane")
    def _open(self, change: dict | None = None) -> None:
        name = self.pane
        self._tabs.selected_index = list(self._makers).index(name)
        if name in self.panes:
            return
        self.set_trait("message", "")
        try:
            self.panes[name] = self._makers[name]()
        except (OSError, ValueError, KeyError, ImportError) as error:
            self.set_trait("message", told(error))
            self._places[name].children = [_line(self.message)]
        else:
            self._places[name].children = [self.panes[name]]

    def _turned(self, change: dict) -> None:
        self.pane = list(self._makers)[change["new"] or 0]

    def close(self) -> None:
        """Close all views; a training that is watched goes on."""
        for view in self.panes.values():
            view.close()
        super().close()


def explore(
    run: Run | Path | str,
    epoch: int | None = None,
    *,
    clusters: pd.Series | None = None,
    columns: pd.DataFrame | None = None,
    tomograms: Mapping[str, Path | str] | Path | str | None = None,
    positions: Positions | None = None,
    selection: Selection | None = None,
) -> Dashboard:
    """Lay out all views of a run together, linked by one choice of particles; `Dashboard` tells the parameters."""
    return Dashboard(
        run,
        epoch,
        clusters=clusters,
        columns=columns,
        tomograms=tomograms,
        positions=positions,
        selection=selection,
    )


def _line(text: str) -> ipywidgets.HTML:
    return ipywidgets.HTML(shown_in(text))
