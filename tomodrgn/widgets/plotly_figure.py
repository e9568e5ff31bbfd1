"""FigureWidgets as this package uses them: no button that uploads the chart, one plain look."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

__all__ = ["figure_widget"]

# The share button uploads the chart to a cloud service: these may be unpublished data.
CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
}


def figure_widget(*traces: Any, **layout: Any) -> go.FigureWidget:
    """A figure that can be updated in place."""
    figure = go.FigureWidget(list(traces))
    figure._config = CONFIG
    figure.update_layout(
        template="simple_white",
        margin={"l": 60, "r": 20, "t": 36, "b": 46},
        height=300,
        font={"size": 12},
        modebar={"remove": ["sendChartToCloud"]},
        **layout,
    )
    return figure
