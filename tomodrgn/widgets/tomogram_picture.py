"""The picture of a slab with the particles in it: a grey image below, glyphs above; a lasso tells which were caught."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float64, Int64
from PIL import Image

from tomodrgn.particles.tomogram_slab import Slab
from tomodrgn.widgets.plotly_figure import CONFIG, figure_widget, keep_state

__all__ = ["Glyphs", "TomogramPicture", "arrow_lines", "slab_picture"]

MARK = "#D55E00"  # rings about those that are chosen
FAINT = 0.18
GREY = "#888888"  # of axes: seen on light and on dark
TOOLS = {
    **CONFIG,
    "modeBarButtonsToRemove": ["sendChartToCloud", "autoScale2d"],
    "scrollZoom": True,
}


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """Particles as they are drawn in a picture.

    Parameters
    ----------
    places
        Where they are, right and up, in angstrom, (k, 2).
    directions
        Their own z axes, as seen in the picture (length 1 if they lie in it), (k, 2).
    colours, texts
        Colour of each, and what the mouse tells of it.
    inside
        Whether each lies in the slab.
    chosen
        Whether each is chosen.
    length_angst
        Length of an arrow that lies in the picture.
    """

    places: Float64[np.ndarray, "k 2"]
    directions: Float64[np.ndarray, "k 2"]
    colours: list[str]
    texts: list[str]
    inside: Bool[np.ndarray, " k"]
    chosen: Bool[np.ndarray, " k"]
    length_angst: float


class TomogramPicture:
    """A plotly figure of one tomogram.

    Parameters
    ----------
    chose
        Called with the rows of the particles that a lasso, a box or a click caught (of those in the slab).
    height
        In pixels of the screen.
    """

    def __init__(self, chose: Callable[[Int64[np.ndarray, " n"], str], None], *, height: int) -> None:
        self._chose, self._lock = chose, threading.RLock()
        self._rows: dict[str, np.ndarray] = {"others": np.zeros(0, np.int64), "particles": np.zeros(0, np.int64)}
        plain = {"mode": "markers", "hoverinfo": "text", "showlegend": False}
        keep = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}
        faint = {"selected": {"marker": {"opacity": FAINT}}, "unselected": {"marker": {"opacity": FAINT}}}
        line = {"mode": "lines", "hoverinfo": "skip", "showlegend": False}
        ring = {"symbol": "circle-open", "size": 17, "color": MARK, "line": {"width": 3}}
        self.figure = figure_widget(
            go.Scatter(x=[], y=[], name="others", marker={"size": 8, "opacity": FAINT}, **plain, **faint),
            go.Scatter(x=[], y=[], name="directions", line={"width": 2, "color": "#FFFFFF"}, **line),
            go.Scatter(
                x=[], y=[], name="particles", **plain, **keep,
                marker={"size": 10, "opacity": 1, "line": {"width": 1, "color": "#222222"}},
            ),
            go.Scatter(x=[], y=[], name="chosen", **(plain | {"hoverinfo": "skip"}), **keep, marker=ring),
        )  # fmt: skip
        self.figure._config = TOOLS
        axis = {"color": GREY, "showgrid": False, "zeroline": False, "ticks": "outside", "constrain": "domain"}
        self.figure.update_layout(
            height=height,
            dragmode="lasso",
            hovermode="closest",
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font={"color": GREY},
            margin={"l": 64, "r": 12, "t": 12, "b": 44},
            xaxis=axis,
            yaxis={**axis, "scaleanchor": "x", "scaleratio": 1},
            modebar={"remove": ["sendChartToCloud"], "color": GREY, "bgcolor": "rgba(0,0,0,0)"},
            newselection={"line": {"color": MARK, "width": 2}},
            uirevision="kept",
        )
        self.figure.add_layout_image({
            "xref": "x", "yref": "y", "sizing": "stretch", "layer": "below", "xanchor": "left", "yanchor": "top",
            "source": None, "x": 0, "y": 1, "sizex": 1, "sizey": 1,
        })  # fmt: skip
        self.figure.on_chosen(self._caught)
        self.figure.add_class("tomodrgn-tomogram-picture")

    def frame(self, low: tuple[float, float], high: tuple[float, float], axes: str) -> None:
        """Show this part of the plane (right, up; angstrom) as a whole; `axes` are the letters of its two axes."""
        with self._changing():
            self.figure.layout.xaxis.update(range=[low[0], high[0]], title=f"{axes[0]} (Å)")
            self.figure.layout.yaxis.update(range=[low[1], high[1]], title=f"{axes[1]} (Å)")

    def show_image(self, slab: Slab | None, contrast: tuple[float, float]) -> None:
        """Show a slab behind the particles, black at the first and white at the second of two densities."""
        with self._changing():
            image = self.figure.layout.images[0]
            if slab is None:
                image.source = None
                return
            (left, bottom), (right, top) = slab.low_angst, slab.high_angst
            image.update(x=left, y=top, sizex=right - left, sizey=top - bottom, source=slab_picture(slab, contrast))

    def show_particles(self, glyphs: Glyphs, *, others: bool, on_image: bool) -> None:
        """Show particles: those in the slab fully, the others faintly or not at all."""
        inside, outside = np.flatnonzero(glyphs.inside), np.flatnonzero(~glyphs.inside)
        outside = outside if others else outside[:0]
        self._rows = {"particles": inside, "others": outside}
        arrows = arrow_lines(glyphs.places[inside], glyphs.length_angst * glyphs.directions[inside])
        with self._changing():
            for name, rows in self._rows.items():
                trace = self._trace(name)
                trace.x, trace.y = glyphs.places[rows, 0], glyphs.places[rows, 1]
                trace.marker.color = [glyphs.colours[i] for i in rows]
                trace.text = [glyphs.texts[i] for i in rows]
            lines = self._trace("directions")
            lines.x, lines.y = arrows[:, 0], arrows[:, 1]
            lines.line.color = "#FFFFFF" if on_image else GREY
            self._ring(glyphs, others=others)

    def mark(self, glyphs: Glyphs, *, others: bool) -> None:
        """Put rings about those that are chosen."""
        with self._changing():
            self._ring(glyphs, others=others)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Changes that are sent at one go, one after another, and that later views of the figure begin with."""
        with self._lock:
            with self.figure.batch_update():
                yield
            keep_state(self.figure)

    def _ring(self, glyphs: Glyphs, *, others: bool) -> None:
        rows = np.flatnonzero(glyphs.chosen & (glyphs.inside | others))
        trace = self._trace("chosen")
        trace.x, trace.y = glyphs.places[rows, 0], glyphs.places[rows, 1]
        trace.marker.opacity = np.where(glyphs.inside[rows], 1.0, 2 * FAINT)

    def _trace(self, name: str) -> go.Scatter:
        return next(trace for trace in self.figure.data if trace.name == name)

    def _caught(self, how: str, caught: dict[int, np.ndarray]) -> None:
        """A lasso or a box catches particles of the slab; a click, one of the others as well."""
        rows = {trace.name: caught[i] for i, trace in enumerate(self.figure.data) if i in caught}
        if how == "click":
            found = [self._rows[name][rows[name]] for name in ("particles", "others") if name in rows]
            if found:
                self._chose(found[0], how)
            return
        self._chose(self._rows["particles"][rows.get("particles", np.zeros(0, np.int64))], how)
        self.figure.forget_lasso()


def arrow_lines(places: Float64[np.ndarray, "n 2"], steps: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "m 2"]:
    """Corners of lines that draw arrows from `places` along `steps`, with gaps (nan) between them, (6 n, 2).

    Examples
    --------
    >>> arrow_lines(np.zeros((1, 2)), np.array([[4.0, 0.0]])).tolist()
    [[0.0, 0.0], [4.0, 0.0], [2.8, 0.72], [4.0, 0.0], [2.8, -0.72], [nan, nan]]
    """
    tips, side = places + steps, steps[:, ::-1] * np.array([-1.0, 1.0])
    back = tips - 0.3 * steps
    gap = np.full_like(places, np.nan)
    return np.stack([places, tips, back + 0.18 * side, tips, back - 0.18 * side, gap], axis=1).reshape(-1, 2)


def slab_picture(slab: Slab, contrast: tuple[float, float]) -> str:
    """A slab as a grey PNG in a data address; the first row of its values is the lowest of the picture.

    Parameters
    ----------
    contrast
        Densities of black and of white; the first may be the greater, which inverts the picture.
    """
    low, high = contrast
    scaled = (np.nan_to_num(slab.values) - low) / ((high - low) or 1.0)
    grey = (255 * np.clip(scaled, 0, 1)).astype(np.uint8)[::-1]
    written = io.BytesIO()
    Image.fromarray(grey).save(written, format="PNG", compress_level=3)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")
