"""Three columns in space: a part of the points of a large set, and of the chosen ones."""

from __future__ import annotations

from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import traitlets

from tomodrgn.analysis.palette import column_rgb
from tomodrgn.widgets.colours import is_dark
from tomodrgn.widgets.page_theme import PageTheme
from tomodrgn.widgets.plotly_figure import SPACE_AXIS, figure_widget
from tomodrgn.widgets.selection import Selection

__all__ = ["LatentScatter3d"]

MOST_POINTS = 20_000  # drawn of all, and of the chosen
NOTHING = "(none)"
CHOSEN = "#D55E00"


class LatentScatter3d(ipywidgets.VBox):
    """A scatter of three columns that can be turned; the mouse over a point tells its name.

    Parameters
    ----------
    table
        One row a particle, indexed by particle_id.
    axes
        Columns that can be axes.
    selection
        The choice, which is marked.
    x, y, colour
        Columns; they can be set.

    Attributes
    ----------
    x, y, colour
        As given.
    z
        The third column; empty as long as none was chosen, and then nothing is drawn.
    """

    x = traitlets.Unicode()
    y = traitlets.Unicode()
    z = traitlets.Unicode("")
    colour = traitlets.Unicode()

    def __init__(self, table: pd.DataFrame, axes: list[str], selection: Selection, **columns: str) -> None:
        self._table, self.axes, self.selection = table, axes, selection
        self.figure: Any = None
        self._choice = ipywidgets.Dropdown(options=[NOTHING, *axes], description="third column")
        self._choice.add_class("tomodrgn-z")
        self._note = ipywidgets.Label()
        self._place = ipywidgets.VBox()
        self._place.add_class("tomodrgn-space")
        super().__init__([ipywidgets.HBox([self._choice, self._note]), self._place], **columns)
        ipywidgets.link((self, "z"), (self._choice, "value"), transform=(lambda z: z or NOTHING, _named))
        selection.observe(self._draw, names="particle_ids")
        PageTheme.follow(self._follow_theme)

    def _follow_theme(self, background: str) -> None:
        self._draw()

    def renew(self, table: pd.DataFrame, axes: list[str]) -> None:
        """Show another table of the same particles."""
        z = self.z if self.z in axes else ""
        self._table, self.axes = table, axes
        self._choice.options = [NOTHING, *axes]
        self.z = z
        self._draw()

    @traitlets.validate("z")
    def _known(self, proposal: dict) -> str:
        if proposal["value"] and proposal["value"] not in self.axes:
            raise ValueError(f"Got column {proposal['value']!r} for z, expected one of {self.axes}. Choose one.")
        return str(proposal["value"])

    @traitlets.observe("x", "y", "z", "colour")
    def _draw(self, change: dict | None = None) -> None:
        if not self.z:
            self._place.layout.display = "none"
            return
        self._place.layout.display = ""
        if self.figure is None:
            everyone = go.Scatter3d(mode="markers", marker={"size": 2.5, "opacity": 0.8}, hoverinfo="text")
            chosen = go.Scatter3d(mode="markers", marker={"size": 4, "color": CHOSEN}, hoverinfo="text")
            self.figure = figure_widget(everyone, chosen, showlegend=False)
            scene = {f"{axis}axis": SPACE_AXIS for axis in "xyz"}
            self.figure.update_layout(height=440, margin={"l": 0, "r": 0, "t": 0, "b": 0}, scene=scene)
            self._place.children = [self.figure]
        some = _part(np.arange(len(self._table)))
        marked = self._table.index.get_indexer(pd.Index(self.selection.particle_ids))
        with self.figure.batch_update():
            for trace, rows in zip(self.figure.data, (some, _part(np.sort(marked[marked >= 0]))), strict=True):
                part = self._table.iloc[rows]
                for axis, name in (("x", self.x), ("y", self.y), ("z", self.z)):
                    trace[axis] = part[name].to_numpy(dtype=np.float32)
                trace.text = part.index.astype(str).tolist()
            dark = is_dark(PageTheme.shared().background)
            rgb = (255 * column_rgb(self._table[self.colour], dark=dark)[some]).astype(int)
            self.figure.data[0].marker.color = [f"rgb({r},{g},{b})" for r, g, b in rgb]
            self.figure.update_scenes(xaxis_title=self.x, yaxis_title=self.y, zaxis_title=self.z)
        left_out = len(self._table) - len(some)
        self._note.value = f"{len(some)} of {len(self._table)} particles are drawn" if left_out else ""


def _named(text: str) -> str:
    return "" if text == NOTHING else text


def _part(rows: np.ndarray) -> np.ndarray:
    """Rows, or so many of them at even steps."""
    if len(rows) <= MOST_POINTS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_POINTS).astype(np.int64)]
