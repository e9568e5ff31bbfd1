"""Latent space and maps of a run after any of its epochs; follows the newest."""

from __future__ import annotations

import threading

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import traitlets

from tomodrgn.analysis.latent_space import reduce_latents
from tomodrgn.analysis.palette import GREY
from tomodrgn.training.run import Run
from tomodrgn.widgets.epoch_maps import MAP_COLOURS, EpochMaps, spread_particles
from tomodrgn.widgets.explorer_table import same_signs
from tomodrgn.widgets.plotly_figure import figure_widget, keep_state

__all__ = ["EpochView"]

MOST_POINTS = 5000


class EpochView(ipywidgets.VBox):
    """The epochs of a run: which one is shown, its latents, and maps at fixed particles.

    Attributes
    ----------
    epoch
        Which epoch is shown; 0 before the first.
    newest
        Number of the newest epoch on disk.
    follow
        Whether the newest is shown as it comes.
    figure
        The latents, a FigureWidget.
    maps
        The EpochMaps.
    """

    epoch = traitlets.Int(0)
    newest = traitlets.Int(0, read_only=True)
    follow = traitlets.Bool(default_value=True)

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._run: Run | None = None
        self._rows = np.empty(0, dtype=int)
        self._drawn: tuple[str, int] | None = None
        self._axes: pd.DataFrame | None = None
        self.n_particles = 0
        self.maps = EpochMaps()
        self.figure = figure_widget(
            go.Scatter(x=[], y=[], mode="markers", marker={"size": 4, "opacity": 0.7, "color": GREY}, showlegend=False),
            go.Scatter(
                x=[], y=[], mode="markers", showlegend=False,
                marker={"size": 12, "color": list(MAP_COLOURS), "line": {"width": 1.5, "color": "#808080"}},
            ),
            width=400,
            title={"text": "Latents", "x": 0.02},
            xaxis={"title": "PC1"},
            yaxis={"title": "PC2"},
        )  # fmt: skip
        self.figure.update_layout(height=360)
        slider = ipywidgets.IntSlider(
            min=0, max=0, description="epoch", continuous_update=False, layout=ipywidgets.Layout(width="270px")
        )
        slider.add_class("tomodrgn-epoch")
        newest = ipywidgets.Checkbox(description="follow", indent=False, layout=ipywidgets.Layout(width="90px"))
        newest.add_class("tomodrgn-follow")
        self._slider = slider
        self._bar = ipywidgets.HBox([slider, newest])
        ipywidgets.link((self, "epoch"), (slider, "value"))
        ipywidgets.link((self, "follow"), (newest, "value"))
        slider.observe(self._moved, names="value")
        super().__init__([self.figure, self._bar], layout=ipywidgets.Layout(width="410px", flex="0 0 auto"))

    def look(self, run: Run) -> None:
        """Find new epochs of a run, and show the newest if it is followed."""
        with self._lock:
            if self._run is None or self._run.settings["created"] != run.settings["created"]:
                self._begin(run)
            epochs = run.epochs
            if not epochs:
                return
            if not self.maps.particle_ids:
                self._choose(run, epochs[0])
            self.set_trait("newest", epochs[-1])
            self._slider.max = epochs[-1]
            if self.follow:
                self.epoch = epochs[-1]
                self._draw()
            if self.epoch >= epochs[0]:
                self._slider.min = epochs[0]

    def clear(self) -> None:
        """Show nothing: there is no run any more, or not yet."""
        with self._lock:
            self._begin(None)

    @traitlets.observe("follow")
    def _caught_up(self, change: dict) -> None:
        with self._lock:
            if change["new"] and self.newest:
                self.epoch = self.newest
                self._draw()

    def _moved(self, change: dict) -> None:
        with self._lock:
            if change["new"] != self.newest:
                self.follow = False
            if not self.follow:
                self._draw(urgent=True)

    def _begin(self, run: Run | None) -> None:
        if self._run is None and run is None:
            return
        self._run, self._drawn, self._axes = None, None, None
        self.maps.clear()
        self.maps.particle_ids = ()
        self.set_trait("newest", 0)
        self._slider.min = 0
        self._slider.value, self._slider.max = 0, 0
        self.follow = True
        with self.figure.batch_update():
            for trace in self.figure.data:
                trace.update(x=[], y=[])
            self.figure.layout.title.text = "Latents"
        keep_state(self.figure)
        self._run = run

    def _choose(self, run: Run, epoch: int) -> None:
        latents = run.latents(epoch)
        self.n_particles = len(latents)
        order = np.random.default_rng(0).permutation(len(latents))
        self.maps.particle_ids = spread_particles(latents)
        marked = pd.Index(latents.particle_id).get_indexer(pd.Index(self.maps.particle_ids))
        self._rows = np.unique(np.concatenate([order[:MOST_POINTS], marked[marked >= 0]]))

    def _draw(self, *, urgent: bool = False) -> None:
        run, epoch = self._run, self.epoch
        if run is None or not epoch or self._drawn == (run.settings["created"], epoch):
            return
        if epoch not in run.epochs:  # cleaned away: the slider cannot know
            self.figure.layout.title.text = f"Latents of epoch {epoch} are not kept"
            keep_state(self.figure)
            return
        latents = run.latents(epoch)
        if latents.z_dim:
            shown = latents.aligned_to(latents.particle_id[self._rows]) if len(self._rows) < len(latents) else latents
            points = same_signs(reduce_latents(shown), self._axes)
            values = np.zeros((len(points), 2), dtype=np.float32)
            values[:, : points.shape[1]] = points
            marked = points.index.get_indexer(pd.Index(self.maps.particle_ids))
            part = "" if len(shown) == len(latents) else f" ({len(shown):,} of {len(latents):,})"
            with self.figure.batch_update():
                self.figure.data[0].update(x=values[:, 0], y=values[:, 1])
                self.figure.data[1].update(x=values[marked, 0], y=values[marked, 1])
                self.figure.layout.title.text = f"Latents after epoch {epoch}{part}"
                shares = points.attrs["explained_variance_ratio"]
                for axis, name, share in zip(("xaxis", "yaxis"), points.columns, shares, strict=False):
                    self.figure.layout[axis].title.text = f"{name} ({share:.0%})"
            self._axes = points
        else:
            self.figure.layout.title.text = "No latent dimension (z_dim 0)"
        keep_state(self.figure)
        self.maps.show(run.folder, epoch, urgent=urgent)
        self._drawn = run.settings["created"], epoch
