"""FigureWidgets as this package uses them: no button that uploads the chart, one plain look, in the page's colours."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import ipywidgets
import plotly.graph_objects as go

__all__ = ["figure_style", "figure_widget", "keep_state"]

# The share button uploads the chart to a cloud service: these may be unpublished data.
CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
}
CLEAR, MIDDLE_GREY = "rgba(0,0,0,0)", "#808080"
# Plotly knows no colours of the page's theme; text takes them by CSS, lines are a grey that is seen on both.
STYLE = """<style>
.tomodrgn-figure svg text { fill: var(--jp-content-font-color1, #222) !important; }
.tomodrgn-figure .modebar-btn path { fill: var(--jp-ui-font-color2, #777) !important; }
</style>"""


class CompleteFigure(go.FigureWidget):
    """A figure that opens its connection to the page when it is complete.

    Plotly's own opens it empty and sends its traces after; a page that misses that message shows an empty figure.
    """

    _complete = False

    def open(self) -> None:
        """Open the connection, once there is something to show."""
        if self._complete:
            super().open()

    def complete(self) -> None:
        """Open the connection with all that the figure holds."""
        self._complete = True
        self.open()


def figure_widget(*traces: Any, **layout: Any) -> go.FigureWidget:
    """A figure that can be updated in place."""
    figure = CompleteFigure(list(traces))
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
