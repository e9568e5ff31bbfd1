"""Figures of particles in their tomograms: classes, distances, geometry that comes back, classes around each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tomodrgn.analysis.palette import CATEGORY_COLOURS, GREY
from tomodrgn.plots.labels import as_written

__all__ = ["plot_class_neighbours", "plot_pair_distances", "plot_recurrent_pairs", "plot_tomogram_classes"]

MOST_TOMOGRAMS = 30
MOST_RATIO = 4.0  # of the colours, and its inverse


def plot_tomogram_classes(table: pd.DataFrame) -> Figure:
    """Share of each class in each tomogram, those that differ most from chance first; see `enrich_in_tomograms`."""
    order = table.groupby("tomogram")["p_value"].min().sort_values().index[:MOST_TOMOGRAMS]
    counts = table.pivot_table(index="tomogram", columns="class", values="n_particles").loc[order]
    shares = counts.div(counts.sum(axis=1), axis=0)
    figure = Figure(figsize=(6, 1.2 + 0.24 * len(shares)), layout="constrained")
    axes = figure.subplots()
    begin = np.zeros(len(shares))
    for i, name in enumerate(shares):
        axes.barh(
            np.arange(len(shares)),
            shares[name],
            left=begin,
            color=CATEGORY_COLOURS[i % len(CATEGORY_COLOURS)],
            label=as_written(name),
        )
        begin += shares[name].to_numpy()
    whole = counts.sum() / counts.to_numpy().sum()
    for edge in whole.cumsum()[:-1]:
        axes.axvline(edge, color="black", linestyle="--", linewidth=0.8)
    axes.set_yticks(np.arange(len(shares)), [as_written(name) for name in shares.index], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="share of the tomogram's particles (dashed: of all)", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=8, ncols=8, title="class", loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def plot_pair_distances(table: pd.DataFrame) -> Figure:
    """Pairs of particles by distance, divided by chance; see `pair_distances`."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.stairs(table["ratio"], [*table["from_angst"], table["to_angst"].iloc[-1]], color=CATEGORY_COLOURS[0])
    axes.axhline(1, color="0.6", linestyle="--", linewidth=0.8)
    axes.set(xlabel="distance (Å)", ylabel="pairs / chance", ylim=(0, None))
    return figure


def plot_recurrent_pairs(table: pd.DataFrame) -> Figure:
    """Distance and turn of neighbours, and those whose geometry comes back; see `recurrent_pairs`."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for recurrent, colour, label in ((False, GREY, "others"), (True, CATEGORY_COLOURS[4], "come back")):
        rows = table[table["recurrent"] == recurrent]
        axes.scatter(rows["distance_angst"], rows["angle_deg"], s=8, color=colour, linewidths=0,
                     label=f"{label} ({len(rows):,})")  # fmt: skip
    axes.set(xlabel="distance (Å)", ylabel="angle between the two (°)", xlim=(0, None), ylim=(0, 180))
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_class_neighbours(table: pd.DataFrame) -> Figure:
    """Neighbours of each class around particles of each class, divided by chance; see `enrich_around_classes`.

    Rings mark pairs of classes beyond chance, all together (p_family below 0.05).
    """
    matrix = table.pivot_table(index="class", columns="neighbour_class", values="ratio", sort=True)
    sure = table.pivot_table(index="class", columns="neighbour_class", values="p_family", sort=True) < 0.05
    n = len(matrix)
    figure = Figure(figsize=(2.8 + 0.45 * n, 1.6 + 0.45 * n), layout="constrained")
    axes = figure.subplots()
    span = np.log2(MOST_RATIO)
    drawn = axes.imshow(
        np.log2(matrix.clip(1 / MOST_RATIO, MOST_RATIO).to_numpy()), cmap="RdBu_r", vmin=-span, vmax=span
    )
    rows, places = np.nonzero(sure.to_numpy())
    axes.scatter(places, rows, s=60, facecolors="none", edgecolors="black", linewidths=1.5)
    axes.set_xticks(range(n), [as_written(name) for name in matrix.columns], fontsize=8)
    axes.set_yticks(range(n), [as_written(name) for name in matrix.index], fontsize=8)
    axes.set(xlabel="class of the neighbour", ylabel="class")
    bar = figure.colorbar(drawn, label="neighbours / chance")
    bar.set_ticks([-span, 0, span], labels=[f"{1 / MOST_RATIO:g}", "1", f"{MOST_RATIO:g}"])
    return figure
