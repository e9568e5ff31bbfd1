"""Figures of results: FSC curves, losses, latents, maps; and how figures are saved."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool
from matplotlib.figure import Figure

from tomodrgn.plots.labels import as_written

__all__ = ["figure_png", "plot_fsc", "plot_history", "plot_latents", "plot_volume_projections", "save_figures"]


def plot_fsc(curve: pd.DataFrame) -> Figure:
    """FSC curves against resolution.

    Parameters
    ----------
    curve
        Columns shell, resolution_angst and one or more named fsc...; see `Reconstruction.curve`.
    """
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    frequency = 1.0 / curve["resolution_angst"].to_numpy()
    for name in curve.filter(regex="^fsc").columns:
        axes.plot(frequency, curve[name], label=name)
    axes.axhline(0.143, color="0.6", linewidth=0.8, linestyle="--")
    axes.set(xlabel="resolution (Å)", ylabel="Fourier shell correlation", ylim=(-0.1, 1.05))
    ticks = frequency[frequency > 0][:: max(1, len(frequency) // 6)]
    axes.set_xticks(ticks, [f"{1 / t:.0f}" for t in ticks])
    axes.legend(frameon=False)
    return figure


def plot_history(history: pd.DataFrame) -> Figure:
    """Reconstruction loss and KL divergence by epoch; see `Run.history`."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for split, rows in history.groupby("split"):
        left.plot(rows["epoch"], rows["reconstruction"], label=split)
        right.plot(rows["epoch"], rows["kl"], label=split)
    left.set(xlabel="epoch", ylabel="reconstruction loss")
    right.set(xlabel="epoch", ylabel="KL divergence per frequency")
    return figure


def plot_latents(points: pd.DataFrame, colour: pd.Series | None = None) -> Figure:
    """Scatter of the first two columns, coloured by a column of text or numbers with the same index."""
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    x, y = points.columns[0], points.columns[min(1, points.shape[1] - 1)]
    if colour is None or pd.api.types.is_numeric_dtype(colour):
        drawn = axes.scatter(points[x], points[y], s=8, c=None if colour is None else colour.loc[points.index])
        if colour is not None:
            figure.colorbar(drawn, label=as_written(colour.name))
    else:
        for value, rows in points.groupby(colour.loc[points.index], dropna=False):
            axes.scatter(rows[x], rows[y], s=8, label=as_written(value))
        axes.legend(frameon=False, title=as_written(colour.name))
    axes.set(xlabel=x, ylabel=y)
    return figure


def plot_histogram(column: pd.Series, chosen: Bool[np.ndarray, " k"], *, n_bins: int = 40) -> Figure:
    """How a column is spread over all particles and over the chosen ones, each as shares of its own number.

    Numbers are put into bins; of text the most frequent values are shown. Ink is grey, to be read on light and dark.

    Parameters
    ----------
    chosen
        Which particles are chosen.
    """
    figure = Figure(figsize=(5.2, 2.6), layout="constrained", facecolor="none")
    axes = figure.subplots()
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        known = np.isfinite(values)
        edges = np.histogram_bin_edges(values[known], n_bins) if known.any() else np.linspace(0, 1, n_bins + 1)
        groups = [np.histogram(values[known & some], edges)[0] for some in (np.ones_like(chosen), chosen)]
        places, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
    else:
        text = column.astype("str").where(column.notna(), "(none)")
        names = text.value_counts().index[:12].tolist()
        groups = [text[some].value_counts().reindex(names, fill_value=0).to_numpy() for some in (slice(None), chosen)]
        places, width = np.arange(len(names)), 0.8
        axes.set_xticks(places, [as_written(str(name)[-16:]) for name in names], rotation=30, ha="right")
    everyone, some = (
        counts / max(number, 1) for counts, number in zip(groups, (len(chosen), chosen.sum()), strict=True)
    )
    axes.bar(places, everyone, width=width, label=f"all ({len(chosen)})", color="#9E9E9E", alpha=0.6)
    axes.bar(places, some, width=width, label=f"chosen ({chosen.sum()})", fill=False, ec="#D55E00", lw=1.6)
    axes.set(xlabel=as_written(column.name), ylabel="share", facecolor="none")
    axes.tick_params(colors="#808080", labelsize=8)
    axes.xaxis.label.set_color("#808080")
    axes.yaxis.label.set_color("#808080")
    axes.spines[:].set_color("#808080")
    axes.legend(frameon=False, labelcolor="#808080", fontsize=8)
    return figure


def plot_volume_projections(maps: np.ndarray, names: list[str]) -> Figure:
    """Sums of each map along z, y and x, one row a map."""
    figure = Figure(figsize=(4.5, 1.5 * len(maps)), layout="constrained")
    grid = figure.subplots(len(maps), 3, squeeze=False)
    for row, (volume, name) in zip(grid, zip(maps, names, strict=True), strict=True):
        for axis, axes in enumerate(row):
            axes.imshow(volume.sum(axis=axis), cmap="gray", origin="lower")
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(as_written(name))
    return figure


def figure_png(figure: Figure, *, dpi: int = 110) -> bytes:
    """The figure as the bytes of a PNG file."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    return drawn.getvalue()


def save_figures(folder: Path, **figures: Figure) -> list[Path]:
    """Write each figure as ``<name>.png`` into a folder, which is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=150)
    return paths
