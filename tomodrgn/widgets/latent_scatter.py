"""The scatter itself: jupyter-scatter with this package's colours, drawn column by column as they are needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jscatter
import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from tomodrgn.widgets.colours import Colouring, can_be_axis, colour_column, is_dark
from tomodrgn.widgets.explorer_table import MAX_COMPONENTS, hover_texts
from tomodrgn.widgets.page_theme import PageTheme
from tomodrgn.widgets.shared_scatter import SharedScatter

__all__ = ["LatentScatter"]

HOVER = "(particle)"  # in brackets, as no column of a STAR file is
MANY_POINTS = 3000
CAMERA_DISTANCE = 1.15  # a little back, so that a lasso goes round the outermost points of a narrow picture, too
MARK_COLOUR = "#D55E00"  # of paths and frames


class LatentScatter:
    """Points of a table, each a row; state is that of the arguments last given.

    Parameters
    ----------
    table
        One row a point.
    height
        Of the picture, in pixels of the screen.
    """

    def __init__(self, table: pd.DataFrame, x: str, y: str, *, height: int) -> None:
        self._table, self._hover = table, tuple[str, ...]()
        self._dark = False
        self._painted: tuple[str, tuple[float, float] | None, bool] | None = None
        self._frame = pd.DataFrame({HOVER: hover_texts(table, ())})
        self.plot = SharedScatter(
            data=self._with(x, y),
            x=x,
            y=y,
            x_scale=self.span(x),
            y_scale=self.span(y),
            height=height,
            mouse_mode="lasso",
            size=6 if len(table) < MANY_POINTS else 3,
            opacity=0.8,
            axes_labels=True,
            legend=True,
            camera_distance=CAMERA_DISTANCE,
            transition_points=False,
        )
        self._tell()
        PageTheme.follow(self._paint_background)

    @property
    def selected(self) -> Int64[np.ndarray, " n"]:
        """Rows of the points that are marked, rising."""
        return np.sort(np.asarray(self.plot.widget.selection, dtype=np.int64))

    def mark(self, rows: Int64[np.ndarray, " n"]) -> None:
        """Mark these points."""
        wanted = np.sort(rows)
        if not np.array_equal(self.selected, wanted):
            self.plot.selection(wanted)

    def move(self, **axes: str) -> None:
        """Put columns on the axes: ``move(x="z1")``."""
        for axis, name in axes.items():
            self._with(name)
            (self.plot.x if axis == "x" else self.plot.y)(name, scale=self.span(name))

    def paint(self, name: str, limits: tuple[float, float] | None = None, *, log: bool = False) -> Colouring:
        """Colour the points by a column; see `colour_column`."""
        found = colour_column(self._table[name], limits, log=log, dark=self._dark)
        shown = name
        if not found.is_categorical and (log or limits is not None):
            shown = f"{name} (log10)" if log else f"{name} (clipped)"
        self._frame[shown] = found.drawn.reset_index(drop=True)
        # Colours as a list and the norm every time: jupyter-scatter keeps the norm of the column before.
        self.plot.color(by=shown, map=found.colours, norm=found.norm)
        self._painted = name, limits, log
        return found

    def look(self, *, size: float, opacity: float, density: bool) -> None:
        """Size in pixels and opacity of the points; with `density` the opacity follows how crowded a place is."""
        self.plot.size(float(size))
        if density:
            self.plot.opacity(by="density")
        else:
            self.plot.opacity(float(opacity), by=None)

    def hover(self, columns: Iterable[str]) -> None:
        """Tell these columns, too, where the mouse is."""
        self._hover = tuple(columns)
        self._frame[HOVER] = hover_texts(self._table, self._hover)
        self._tell()

    def renew(self, table: pd.DataFrame) -> None:
        """Show another table of the same particles, such as another epoch's."""
        self._table, before = table, self._frame
        self._frame = pd.DataFrame({HOVER: hover_texts(table, self._hover)})
        axes = [str(name) for name in before if name in table and can_be_axis(table[name])]
        # Colours that are no axes, such as names, stay as they were drawn until they are painted anew.
        painted = before.drop(columns=[HOVER, *axes])
        self._frame = pd.concat([self._frame, painted], axis=1)
        self.plot.data(self._with(*axes))

    def span(self, name: str) -> tuple[float, float]:
        """Ends of an axis, a little beyond the outermost points."""
        values = self._table[name].to_numpy(dtype=np.float64)
        low, high = float(values.min()), float(values.max())
        beyond = 0.04 * (high - low) if high > low else 0.5
        return low - beyond, high + beyond

    def draw(
        self, path: Float64[np.ndarray, "p 2"] | None = None, picked: Float64[np.ndarray, "2"] | None = None
    ) -> None:
        """Draw a path through the picture, and a frame about a point; what was drawn before goes."""
        drawn: list[Any] = []
        if path is not None and len(path) > 1:
            corners = [(float(x), float(y)) for x, y in path]
            drawn.append(jscatter.Line(corners, line_color=MARK_COLOUR, line_width=3))
        if picked is not None:
            (x_low, x_high), (y_low, y_high) = (self.span(str(self.plot.x()["x"])), self.span(str(self.plot.y()["y"])))
            wide, high = 0.015 * (x_high - x_low), 0.015 * (y_high - y_low)
            x, y = map(float, picked)
            frame = jscatter.Rect(x - wide, x + wide, y - high, y + high, line_color=MARK_COLOUR, line_width=2)
            drawn.append(frame)
        self.plot.annotations(drawn)

    def _paint_background(self, colour: str) -> None:
        """Axes, legend and tooltip go along: jupyter-scatter takes them black or white, whichever is seen."""
        self.plot.background(colour)
        before, self._dark = self._dark, is_dark(colour)
        if self._dark != before and self._painted is not None:
            name, limits, log = self._painted
            self.paint(name, limits, log=log)

    def _with(self, *names: str) -> pd.DataFrame:
        for name in names:
            if name not in self._frame:
                self._frame[name] = self._table[name].to_numpy(dtype=np.float32)
        return self._frame

    def _tell(self) -> None:
        self.plot.tooltip(
            True,
            properties=["x", "y", "color"],
            preview=HOVER,
            preview_type="text",
            preview_text_lines=1 + MAX_COMPONENTS + len(self._hover),
        )
