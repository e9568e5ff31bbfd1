"""FigureWidgets as this package uses them: no button that uploads the chart, one plain look, in the page's colours."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import plotly
import plotly.graph_objects as go
import traitlets

from tomodrgn.widgets.page_code import PageCode, page_code_trait, page_module

__all__ = ["SPACE_AXIS", "SharedFigure", "figure_style", "figure_widget", "keep_state"]

# The share button uploads the chart to a cloud service: these may be unpublished data.
CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
}
CLEAR, MIDDLE_GREY = "rgba(0,0,0,0)", "#808080"
SPACE_AXIS = {"color": MIDDLE_GREY, "gridcolor": "rgba(128,128,128,0.35)", "showbackground": False}  # of 3-D scenes
# Plotly knows no colours of the page's theme; text takes them by CSS, lines are a grey that is seen on both.
STYLE = """<style>
.tomodrgn-figure svg text { fill: var(--jp-content-font-color1, #222) !important; }
.tomodrgn-figure .modebar-btn path { fill: var(--jp-ui-font-color2, #777) !important; }
</style>"""


class SharedFigure(go.FigureWidget):
    """A FigureWidget that loads fast, opens its connection to the page when it is complete, and loses no click.

    Plotly's own brings its 5 MB of code again with each figure, and shows nothing where a slow page needs more than
    two seconds for them; it opens its connection empty and sends its traces after; and it keeps one message to Python
    at a time, so that the lasso drawn while Python is busy is lost to the next move of the mouse. Here hovering is not
    told to Python at all.
    """

    _esm = page_module("figure.js")
    _page_code = page_code_trait()

    _complete = False

    @traitlets.default("_page_code")
    def _share_code(self) -> PageCode:
        return PageCode.shared("plotly", Path(plotly.__file__).parent / "package_data/widgetbundle.js")

    def open(self) -> None:
        """Open the connection, once there is something to show."""
        if self._complete:
            super().open()

    def complete(self) -> None:
        """Open the connection with all that the figure holds."""
        self._complete = True
        self.open()

    def on_chosen(self, chose: Callable[[str, dict[int, np.ndarray]], None]) -> None:
        """Have each lasso, box and click told.

        Parameters
        ----------
        chose
            Called with "lasso", "box" or "click", and the rows that it caught of each trace, by the trace's number.
        """

        def heard(_: object, content: dict[str, Any], buffers: object) -> None:
            if content.get("event") in ("lasso", "box", "click"):
                caught = {int(trace): np.array(rows, np.int64) for trace, rows in content["points"].items()}
                chose(content["event"], caught)

        self.on_msg(heard)

    def forget_lasso(self) -> None:
        """Take what was drawn off the page."""
        self._send_relayout_msg({"selections": []})


def figure_widget(*traces: Any, **layout: Any) -> SharedFigure:
    """A figure that can be updated in place."""
    figure = SharedFigure(list(traces))
    figure._config = CONFIG
    figure.update_layout(
        template="simple_white",
        margin={"l": 60, "r": 20, "t": 36, "b": 46},
        height=300,
        font={"size": 12},
        modebar={"remove": ["sendChartToCloud"], "bgcolor": CLEAR},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        **layout,
    )
    figure.update_xaxes(linecolor=MIDDLE_GREY, tickcolor=MIDDLE_GREY)
    figure.update_yaxes(linecolor=MIDDLE_GREY, tickcolor=MIDDLE_GREY)
    figure.add_class("tomodrgn-figure")
    keep_state(figure)
    figure.complete()
    return figure


def keep_state(figure: go.FigureWidget) -> None:
    """Make what a figure holds now the state with which new views of it begin.

    Plotly does so only for figures that are displayed themselves. One within another widget shows what it was made
    with, and the changes that the page has seen since: none, if it was still loading, or was loaded again.
    """
    figure._widget_layout = deepcopy(figure._layout_obj._props)
    figure._widget_data = deepcopy(figure._data)


def figure_style() -> ipywidgets.HTML:
    """What a view with figures shows along with them, so that their text is readable in a dark theme."""
    return ipywidgets.HTML(STYLE, layout=ipywidgets.Layout(height="0px", margin="0px"))
