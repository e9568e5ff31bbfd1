"""Figures of what lies between and beyond clusters: paths, the space of maps, occupancy, outliers, maps correlated."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tomodrgn.analysis.landscape import VolumeComponents
from tomodrgn.analysis.palette import CATEGORY_COLOURS, GREY
from tomodrgn.plots.labels import as_written

__all__ = ["plot_landscape", "plot_map_correlations", "plot_occupancy", "plot_outliers", "plot_path"]

SHOWN_COMPONENTS = 3


def plot_path(points: pd.DataFrame, path: pd.DataFrame) -> Figure:
    """A path through particles in the first two coordinates, and how crowded it is along its way.

    Parameters
    ----------
    points
        Coordinates of all particles, such as PC1 and PC2, indexed by particle_id.
    path
        Columns particle_id, n_particles and density: a path on data joined with its `path_support`.
    """
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    x, y = points.columns[0], points.columns[min(1, points.shape[1] - 1)]
    stops = points.loc[path["particle_id"]]
    left.scatter(points[x], points[y], s=5, color=GREY, linewidths=0)
    left.plot(stops[x], stops[y], "o-", color=CATEGORY_COLOURS[3], markersize=4)
    for name, place in (("start", 0), ("end", -1)):
        left.annotate(name, (stops[x].iloc[place], stops[y].iloc[place]), fontsize=9, fontweight="bold",
                      xytext=(4, 4), textcoords="offset points")  # fmt: skip
    left.set(xlabel=as_written(x), ylabel=as_written(y))
    steps = np.arange(len(path))
    right.bar(steps, path["n_particles"], color=CATEGORY_COLOURS[1], label="particles near")
    right.set(xlabel="point of the path", ylabel="particles near", xticks=steps)
    density = right.twinx()
    density.plot(steps, path["density"], "o-", color=CATEGORY_COLOURS[4])
    density.set_ylabel("density (1: at a typical particle)", color=CATEGORY_COLOURS[4])
    density.set_ylim(0, None)
    return figure


def plot_landscape(components: VolumeComponents, labels: pd.Series) -> Figure:
    """Maps in the space of their principal components, and where those components lie; see `reduce_volumes`.

    Parameters
    ----------
    labels
        Class of each map, indexed as the coordinates.
    """
    coordinates = components.coordinates
    shown = min(SHOWN_COMPONENTS, len(components.components))
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    scatter, panel = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.15))[0]
    axes = scatter.subplots()
    x, y = coordinates.columns[0], coordinates.columns[min(1, coordinates.shape[1] - 1)]
    for i, (label, rows) in enumerate(coordinates.groupby(labels.loc[coordinates.index])):
        axes.scatter(rows[x], rows[y], s=14, color=_colour(i), label=as_written(label), linewidths=0)
    axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel=f"{x} of maps", ylabel=f"{y} of maps")
    grid = panel.subplots(shown, 3, squeeze=False)
    for row, component, share in zip(grid, components.components, components.explained_variance_ratio, strict=False):
        sums = np.stack([component.sum(axis=axis) for axis in range(3)])
        most = max(float(np.abs(sums).max()), 1e-12)
        for pane, picture in zip(row, sums, strict=True):
            pane.imshow(picture, cmap="RdBu_r", origin="lower", vmin=-most, vmax=most)
            pane.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"{share:.0%}", fontsize=8)
    for pane, title in zip(grid[0], ("along z", "along y", "along x"), strict=True):
        pane.set_title(title, fontsize=8)
    return figure


def plot_occupancy(occupancy: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """Occupancy of each region over the particles, and the share that has its mass; see `occupied_shares`.

    Parameters
    ----------
    occupancy
        One column a region, one row a particle.
    shares
        Index region: `share`, `threshold` and `two_modes`.
    """
    names = [str(name) for name in occupancy]
    figure = Figure(figsize=(3.6 * len(names), 2.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axes.hist(occupancy[name], bins=40, color=CATEGORY_COLOURS[1])
        found = shares.loc[name]
        said = "no two modes"
        if found["two_modes"]:
            axes.axvline(found["threshold"], color="black", linestyle="--", linewidth=0.8)
            said = f"{found['share']:.0%} have it"
        axes.set_title(f"{as_written(name)}: {said}", fontsize=9)
        axes.set(xlabel="occupancy (1: as in the average)", ylabel="particles")
    return figure


def plot_outliers(scores: pd.DataFrame) -> Figure:
    """Distance and width of each particle, in robust standard deviations; see `score_outliers`."""
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    finite = np.isfinite(scores[["z_norm_score", "width_score"]].to_numpy()).all(axis=1)
    for outlier, colour, label in ((False, GREY, "others"), (True, CATEGORY_COLOURS[4], "outliers")):
        chosen = scores["outlier"].to_numpy() == outlier
        rows = scores[chosen & finite]
        axes.scatter(rows["z_norm_score"], rows["width_score"], s=8, color=colour, linewidths=0,
                     label=f"{label} ({int(chosen.sum()):,})")  # fmt: skip
    axes.set(xlabel="score of |z|", ylabel="score of the posterior width")
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_map_correlations(correlations: pd.DataFrame) -> Figure:
    """Correlation of every map with every other; see `correlate_maps`."""
    n = len(correlations)
    figure = Figure(figsize=(2.2 + 0.3 * n, 1.6 + 0.3 * n), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(correlations.to_numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
    names = [as_written(name) for name in correlations.index]
    axes.set_xticks(range(n), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(n), names, fontsize=8)
    figure.colorbar(drawn, label="correlation")
    return figure


def _colour(i: int) -> str:
    return CATEGORY_COLOURS[i % len(CATEGORY_COLOURS)]
