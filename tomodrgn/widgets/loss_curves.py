"""Losses and learning rate of a training, by epoch."""

from __future__ import annotations

import ipywidgets
import pandas as pd
import plotly.graph_objects as go
import traitlets

from tomodrgn.analysis.palette import CATEGORY_COLOURS
from tomodrgn.widgets.plotly_figure import figure_widget, keep_state

__all__ = ["LossCurves"]

ORANGE, _, GREEN, BLUE, VERMILION, PINK = CATEGORY_COLOURS[:6]
TRACES = (
    # name, split, column, axis, line
    ("reconstruction", "train", "reconstruction", "y", {"color": BLUE}),
    ("KL", "train", "kl", "y2", {"color": GREEN}),
    ("held-out tilts", "test", "reconstruction", "y", {"color": VERMILION, "dash": "dot"}),
    ("learning rate", "train", "learning_rate", "y3", {"color": PINK, "dash": "dash"}),
)


class LossCurves(ipywidgets.VBox):
    """Reconstruction loss of trained and of held-out tilts; below it KL divergence and learning rate.

    Attributes
    ----------
    log_scale
        Whether the axes are logarithmic.
    figure
        The FigureWidget.
    """

    log_scale = traitlets.Bool(default_value=False)

    def __init__(self) -> None:
        self.figure = figure_widget(
            *(
                go.Scatter(x=[], y=[], name=name, mode="lines+markers", yaxis=axis, line=line, marker={"size": 5})
                for name, _, _, axis, line in TRACES
            ),
            width=540,
            title={"text": "Losses", "x": 0.02},
            legend={"orientation": "h", "x": 0.12, "y": 1.12, "font": {"size": 11}},
            xaxis={"title": "epoch", "anchor": "y2"},
            yaxis={"title": "reconstruction", "tickformat": ".3~g", "domain": [0.46, 1]},
            yaxis2={"title": "KL", "tickformat": ".2~g", "domain": [0, 0.36]},
            yaxis3={
                "title": "learning rate",
                "overlaying": "y2",
                "side": "right",
                "tickformat": ".2~g",
                "showgrid": False,
                "rangemode": "tozero",
            },
        )
        self.figure.update_layout(margin={"r": 76}, height=360)
        keep_state(self.figure)
        logarithmic = ipywidgets.Checkbox(description="logarithmic axes", indent=False)
        logarithmic.add_class("tomodrgn-log-scale")
        ipywidgets.link((self, "log_scale"), (logarithmic, "value"))
        super().__init__([self.figure, logarithmic], layout=ipywidgets.Layout(width="550px", flex="0 0 auto"))

    def draw(self, history: pd.DataFrame) -> None:
        """Show a history, as of `Run.history`."""
        with self.figure.batch_update():
            for trace, (_, split, column, _, _) in zip(self.figure.data, TRACES, strict=True):
                rows = history[history["split"] == split] if len(history) else history
                trace.x, trace.y = rows["epoch"].to_numpy(dtype=float), rows[column].to_numpy(dtype=float)
                trace.showlegend = split == "train" or bool(len(rows))
        keep_state(self.figure)

    @traitlets.observe("log_scale")
    def _rescale(self, change: dict) -> None:
        kind = "log" if change["new"] else "linear"
        self.figure.update_layout(yaxis_type=kind, yaxis2_type=kind, yaxis3_type=kind)
        keep_state(self.figure)
