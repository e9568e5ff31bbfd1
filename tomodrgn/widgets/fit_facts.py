"""What a linear fit found: how well held-out tilts were predicted, and what is doubtful."""

from __future__ import annotations

import html

import ipywidgets
import pandas as pd
import plotly.graph_objects as go

from tomodrgn.analysis.palette import CATEGORY_COLOURS
from tomodrgn.training.run import Run
from tomodrgn.widgets.plotly_figure import figure_widget, keep_state

__all__ = ["FitFacts"]


class FitFacts(ipywidgets.VBox):
    """Gain on held-out tilts by number of components, for each radius that was tried, and the fit in words.

    Attributes
    ----------
    figure
        The FigureWidget.
    text
        The words, as HTML.
    """

    def __init__(self) -> None:
        self.figure = figure_widget(
            width=540,
            title={"text": "Held-out tilts: gain by number of components", "x": 0.02},
            legend={"title": {"text": "components to"}, "x": 1.02, "y": 1},
            xaxis={"title": "components", "dtick": 1},
            yaxis={"title": "gain (nats a particle)", "tickformat": ".3~g"},
        )
        self.figure.update_layout(height=290, showlegend=True)
        self.text = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="96px", width="540px"))
        self.text.add_class("tomodrgn-fit-facts")
        super().__init__([self.figure, self.text], layout=ipywidgets.Layout(width="550px", flex="0 0 auto"))

    def draw(self, run: Run) -> None:
        """Show the fit of a linear run, or that there is none yet."""
        path = run.folder / "search.csv"
        search = pd.read_csv(path) if path.is_file() else pd.DataFrame()
        traces = []
        stages = search.groupby("radius_per_px", sort=True) if len(search) else ()
        for number, (radius, rows) in enumerate(stages):
            sizes = [11 if suggested else 5 for suggested in rows["suggested"]]
            traces.append(
                go.Scatter(
                    x=rows["components"],
                    y=rows["gain"],
                    error_y={"array": rows["error"]},
                    name=f"{run.settings['pixel_size_angst'] / radius:.1f} Å",
                    mode="lines+markers",
                    line={"color": CATEGORY_COLOURS[number % len(CATEGORY_COLOURS)]},
                    marker={"size": sizes, "symbol": ["star" if size > 5 else "circle" for size in sizes]},
                )
            )
        with self.figure.batch_update():
            self.figure.data = []
            self.figure.add_traces(traces)
        keep_state(self.figure)
        self.text.value = "".join(f"<div>{html.escape(line)}</div>" for line in _facts(run))


def _facts(run: Run) -> list[str]:
    if not run.fit:
        return ["The fit has not ended; what held-out tilts tell is shown when it has."]
    fit, resolution = run.fit, run.settings["pixel_size_angst"] / run.fit["radius_per_px"]
    suggested = fit["suggested_components"]
    return [
        f"{run.z_dim} components, to {resolution:.1f} Å, fitted in {fit['seconds']:.1f} s.",
        f"Held-out tilts suggest {suggested} (stars)." if suggested else "Held-out tilts suggest none.",
        *fit["remarks"],
    ]
