"""Particles of a tomogram in three dimensions, with their directions; a click tells which one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float64

from tomodrgn.widgets.plotly_figure import SPACE_AXIS, figure_widget, keep_state

__all__ = ["TomogramSpace"]

MARK, GREY = "#D55E00", "#888888"


class TomogramSpace:
    """A plotly figure of the particles of one tomogram, axes in angstrom and of one scale.

    Parameters
    ----------
    chose
        Called with the row of the particle that was clicked.
    height
        In pixels of the screen.
    """

    def __init__(self, chose: Callable[[int], None], *, height: int) -> None:
        empty = {"x": [], "y": [], "z": [], "showlegend": False}
        ring = {"symbol": "circle-open", "size": 13, "color": MARK, "line": {"width": 4, "color": MARK}}
        self.figure = figure_widget(
            go.Scatter3d(**empty, mode="markers", hoverinfo="text", marker={"size": 5}, name="particles"),
            go.Scatter3d(**empty, mode="lines", hoverinfo="skip", line={"width": 3, "color": GREY}, name="directions"),
            go.Scatter3d(**empty, mode="markers", hoverinfo="skip", marker=ring, name="chosen"),
        )
        self.figure.update_layout(
            height=height,
            font={"color": GREY},
            margin={"l": 0, "r": 0, "t": 0, "b": 0},
            scene={
                "aspectmode": "data",
                **{f"{name}axis": {**SPACE_AXIS, "title": f"{name} (Å)"} for name in "xyz"},
                "camera": {"eye": {"x": 0.9, "y": -1.3, "z": 1.1}},
            },
            uirevision="kept",
        )
        self.figure.add_class("tomodrgn-tomogram-space")

        def clicked(how: str, caught: dict[int, np.ndarray]) -> None:
            if len(caught.get(0, ())):
                chose(int(caught[0][0]))

        self.figure.on_chosen(clicked)

    def show(
        self,
        places: Float64[np.ndarray, "k 3"],
        steps: Float64[np.ndarray, "k 3"],
        *,
        colours: list[str],
        texts: list[str],
        chosen: Bool[np.ndarray, " k"],
    ) -> None:
        """Show particles: places and directions (with their length) in angstrom, order xyz."""
        lines = np.stack([places, places + steps, np.full_like(places, np.nan)], axis=1).reshape(-1, 3)
        with self.figure.batch_update():
            points, arrows, _ = self.figure.data
            points.x, points.y, points.z = places.T
            points.marker.color, points.text = colours, texts
            arrows.x, arrows.y, arrows.z = lines.T
            self._mark(places[chosen])
        keep_state(self.figure)

    def mark(self, places: Float64[np.ndarray, "c 3"]) -> None:
        """Put rings about these places."""
        with self.figure.batch_update():
            self._mark(places)
        keep_state(self.figure)

    def _mark(self, places: np.ndarray) -> None:
        ring = self.figure.data[2]
        ring.x, ring.y, ring.z = places.T
