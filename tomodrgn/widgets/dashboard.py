"""All views of a run on one page, with one choice of particles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ipywidgets
import pandas as pd
import traitlets

from tomodrgn.training.run import Run
from tomodrgn.widgets.in_place import shown_in
from tomodrgn.widgets.latent_explorer import LatentExplorer
from tomodrgn.widgets.particle_viewer import ParticleViewer
from tomodrgn.widgets.selection import Selection
from tomodrgn.widgets.training_monitor import TrainingMonitor

__all__ = ["Dashboard", "explore"]


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
    selection
        A Selection of another view, to be shared.
    height
        Of the pictures, in pixels of the screen.

    Attributes
    ----------
    selection
        The chosen particles, the same in all views.
    pane
        The title of the pane that is open.
    panes
        The views made so far, by their titles.
    explorer
        The LatentExplorer.
    message
        What went wrong in making a pane; empty when all is well.

    Raises
    ------
    ValueError
        If the run has no latents (z_dim 0), or `pane` is set to a title that is none.
    """

    pane = traitlets.Unicode()
    message = traitlets.Unicode("", read_only=True)

    def __init__(
        self,
        run: Run | Path | str,
        epoch: int | None = None,
        *,
        clusters: pd.Series | None = None,
        columns: pd.DataFrame | None = None,
        selection: Selection | None = None,
        height: int = 420,
    ) -> None:
        self.run = run if isinstance(run, Run) else Run.open(run)
        self.explorer = LatentExplorer(
            self.run, epoch, clusters=clusters, columns=columns, selection=selection, height=height
        )
        self.selection = self.explorer.selection
        self._makers: dict[str, Callable[[], ipywidgets.Widget]] = {
            "Tilt images": lambda: ParticleViewer(self.run.particles, self.selection),
            "Training": lambda: TrainingMonitor(None, self.run.folder),
        }
        self.panes: dict[str, ipywidgets.Widget] = {}
        self._places = {title: ipywidgets.VBox([_line("opening ...")]) for title in self._makers}
        self._tabs = ipywidgets.Tab(list(self._places.values()), titles=tuple(self._places), selected_index=None)
        self._tabs.add_class("tomodrgn-panes")
        super().__init__([self.explorer, self._tabs])
        self.add_class("tomodrgn-dashboard")
        self._tabs.observe(self._opened, names="selected_index")

    @traitlets.validate("pane")
    def _known(self, proposal: dict) -> str:
        if proposal["value"] and proposal["value"] not in self._makers:
            raise ValueError(f"Got pane {proposal['value']!r}, expected one of {list(self._makers)}. Choose one of these.")
        return str(proposal["value"])

    @traitlets.observe("pane")
    def _open(self, change: dict) -> None:
        title = change["new"]
        self._tabs.selected_index = list(self._makers).index(title) if title else None
        if not title or title in self.panes:
            return
        try:
            self.panes[title] = self._makers[title]()
        except (OSError, ValueError, KeyError, ImportError) as error:
            text = str(error.args[0]) if error.args else type(error).__name__
            self.set_trait("message", text)
            self._places[title].children = [_line(text)]
        else:
            self.set_trait("message", "")
            self._places[title].children = [self.panes[title]]

    def _opened(self, change: dict) -> None:
        self.pane = "" if change["new"] is None else list(self._makers)[change["new"]]

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
    selection: Selection | None = None,
) -> Dashboard:
    """Lay out all views of a run together, linked by one choice of particles; see `Dashboard`.

    Examples
    --------
    >>> board = explore("runs/first")  # doctest: +SKIP
    >>> board.selection.particle_ids  # doctest: +SKIP
    """
    return Dashboard(run, epoch, clusters=clusters, columns=columns, selection=selection)


def _line(text: str) -> ipywidgets.HTML:
    return ipywidgets.HTML(shown_in(text))
