"""Figures of the analysis of a run: latents, clusters, associations, epochs, tomograms, and maps beside their mean."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tomodrgn.analysis.palette import CATEGORY_COLOURS
from tomodrgn.plots.labels import as_written

__all__ = [
    "plot_associations",
    "plot_cluster_numbers",
    "plot_embedding",
    "plot_epochs",
    "plot_map_differences",
    "plot_validation",
]

CURVE_NAMES = {
    "fsc_selected": "selected, decoded : reconstructed",
    "fsc_others": "others, decoded : reconstructed",
    "fsc_crossed": "decoded : reconstructed of the other",
    "fsc_difference": "of the differences",
    "fsc_selected_halves": "half maps, selected",
    "fsc_others_halves": "half maps, others",
}
DENSITY_FROM = 20_000
MOST_COLUMNS = 20
GAP_PX = 2  # between pictures
LEAST_SPAN = 0.1  # of the colours of strengths, so that chance is not painted as a finding


def plot_embedding(points: pd.DataFrame, clusters: pd.Series) -> Figure:
    """Pairs of coordinates beside each other, coloured by cluster; from 20,000 particles on, their density.

    Parameters
    ----------
    points
        Columns in pairs, such as PC1, PC2, UMAP1, UMAP2, indexed by particle_id; one column alone is a histogram.
    clusters
        Label of each particle.
    """
    names = list(points.columns)
    pairs = [names[i : i + 2] for i in range(0, len(names) - 1, 2)] or [names[:1]]
    figure = Figure(figsize=(4.2 * len(pairs), 3.8), layout="constrained")
    labels = clusters.loc[points.index]
    for axes, pair in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        if len(pair) == 1:
            values = [points.loc[labels == label, pair[0]] for label in sorted(labels.unique())]
            axes.hist(values, bins=40, stacked=True, color=[_colour(i) for i in range(len(values))])
            axes.set(xlabel=pair[0], ylabel="particles")
            continue
        if len(points) >= DENSITY_FROM:
            axes.hexbin(points[pair[0]], points[pair[1]], gridsize=80, bins="log", cmap="Greys", linewidths=0)
        for i, (label, rows) in enumerate(points.groupby(labels)):
            if len(points) < DENSITY_FROM:
                axes.scatter(rows[pair[0]], rows[pair[1]], s=6, color=_colour(i), label=as_written(label), linewidths=0)
            middle = rows[pair].median()
            axes.annotate(as_written(label), tuple(middle), ha="center", va="center", fontsize=11, fontweight="bold",
                          bbox={"boxstyle": "circle,pad=0.2", "facecolor": "white", "alpha": 0.8})  # fmt: skip
        axes.set(xlabel=pair[0], ylabel=pair[1])
    return figure


def plot_cluster_numbers(numbers: pd.DataFrame) -> Figure:
    """BIC of Gaussian mixtures and stability of k-means against the number of clusters; see `mixture_bic`."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(numbers.index, numbers["bic"], "o-", color=CATEGORY_COLOURS[0])
    best = numbers.index.to_numpy()[numbers["best"].to_numpy().argmax()]
    left.axvline(best, color="0.6", linestyle="--", linewidth=0.8)
    left.set(xlabel="clusters", ylabel="BIC (lowest is best)", xticks=numbers.index)
    right.plot(numbers.index, numbers["stability"], "o-", color=CATEGORY_COLOURS[1])
    right.set(xlabel="clusters", ylabel="stability (1 is perfect)", xticks=numbers.index, ylim=(0, 1.05))
    return figure


def plot_map_differences(
    maps: Float32[np.ndarray, "v d d d"], names: list[str], *, groups: list[int] | None = None
) -> Figure:
    """Each map, and what it has more (red) or less (blue) than the mean of the maps; sums along z, y and x.

    Parameters
    ----------
    groups
        A number for each map; each is compared to the mean of the maps of its number. One group if not given.
    """
    which = np.zeros(len(maps), dtype=int) if groups is None else np.asarray(groups)
    means = np.stack([maps[which == group].mean(axis=0) for group in which])
    sums, changes = (np.stack([some.sum(axis=axis) for axis in (1, 2, 3)], axis=1) for some in (maps, maps - means))
    most = max(float(np.abs(changes).max()), 1e-12)
    figure = Figure(figsize=(7.5, 1.12 * len(maps) + 0.35), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(_mosaic(sums), cmap="gray", vmin=sums.min(), vmax=sums.max())
    right.imshow(_mosaic(changes), cmap="RdBu_r", vmin=-most, vmax=most)
    step = sums.shape[-1] + GAP_PX
    middle = (np.arange(max(3, len(maps))) + 0.5) * step - GAP_PX / 2 - 0.5
    for axes in (left, right):
        axes.set_xticks(middle[:3], ["along z", "along y", "along x"], fontsize=8)
        axes.set_yticks(middle[: len(maps)], [as_written(name) for name in names], fontsize=8)
        axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
    right.set_yticks([])
    return figure


def _mosaic(pictures: Float[np.ndarray, "v three d d"]) -> Float[np.ndarray, "h w"]:
    """Rows of pictures, their first rows at the bottom, with gaps of NaN between them."""
    edge = ((0, 0), (0, 0), (0, GAP_PX), (0, GAP_PX))
    tiles = np.pad(pictures[:, :, ::-1], edge, constant_values=np.nan)
    v, n, height, width = tiles.shape
    return tiles.transpose(0, 2, 1, 3).reshape(v * height, n * width)[:-GAP_PX, :-GAP_PX]


def plot_associations(table: pd.DataFrame) -> Figure:
    """Strength with which the strongest columns go with each axis; rings mark those beyond chance."""
    columns = list(table.groupby("column")["strength"].max().sort_values(ascending=False).index[:MOST_COLUMNS])
    axes_names = list(dict.fromkeys(sorted(table["axis"], key=lambda name: (len(name), name))))
    chosen = table[table["column"].isin(columns)]
    strength = chosen.pivot_table(index="column", columns="axis", values="strength").loc[columns, axes_names]
    sure = chosen.pivot_table(index="column", columns="axis", values="p_family").loc[columns, axes_names] < 0.05
    figure = Figure(figsize=(2.5 + 0.5 * len(axes_names), 1 + 0.26 * len(columns)), layout="constrained")
    axes = figure.subplots()
    most = max(LEAST_SPAN, float(strength.to_numpy().max()))
    drawn = axes.imshow(strength.clip(lower=0), cmap="viridis", aspect="auto", vmin=0, vmax=most)
    rows, places = np.nonzero(sure.to_numpy())
    axes.scatter(places, rows, s=40, facecolors="none", edgecolors="white", linewidths=1.5)
    axes.set_xticks(range(len(axes_names)), [as_written(name) for name in axes_names], rotation=45, fontsize=8)
    axes.set_yticks(range(len(columns)), [as_written(name) for name in columns], fontsize=8)
    figure.colorbar(drawn, label="strength (1: one knows the other)")
    return figure


def plot_epochs(table: pd.DataFrame) -> Figure:
    """Losses of each epoch, and how far latents and maps agree with those of the last one; see `compare_epochs`."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label in (("reconstruction", "training tilts"), ("held_out", "held-out tilts")):
        if table[name].notna().any():
            left.plot(table.index, table[name], "o-", markersize=3, label=label)
    left.set(xlabel="epoch", ylabel="reconstruction loss")
    labels = {"latent_agreement_last": "latents", "neighbours_kept_last": "neighbours",
              "difference_correlation_last": "differences of maps", "map_fsc_last": "FSC of maps",
              "reference_fsc": "FSC with the reference"}  # fmt: skip
    for i, (name, label) in enumerate(labels.items()):
        if name in table:
            right.plot(table.index, table[name], "o-", markersize=3, label=label, color=_colour(i))
    right.set(xlabel="epoch", ylabel="agreement with the last epoch", ylim=(0, 1.05))
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    return figure


def plot_validation(curves: pd.DataFrame) -> Figure:
    """FSC of decoded maps with reconstructions of their own and of the other particles; see `SelectionValidation`."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    named = (
        (left, ("fsc_selected", "fsc_others", "fsc_crossed", "fsc_difference")),
        (right, ("fsc_selected_halves", "fsc_others_halves")),
    )
    frequency = 1 / curves["resolution_angst"].to_numpy()
    for axes, names in named:
        for i, name in enumerate(names):
            axes.plot(frequency, curves[name], label=CURVE_NAMES[name], color=_colour(i))
        axes.axhline(0.143, color="0.6", linewidth=0.8, linestyle="--")
        _fsc_axis(axes, frequency)
    return figure


def _fsc_axis(axes: Axes, frequency: np.ndarray) -> None:
    ticks = frequency[1:][:: max(1, len(frequency) // 6)]
    axes.set_xticks(ticks, [f"{1 / tick:.0f}" for tick in ticks])
    axes.set(xlabel="resolution (Å)", ylabel="Fourier shell correlation", ylim=(-0.1, 1.05))
    axes.legend(frameon=False, fontsize=8)


def _colour(i: int) -> str:
    return CATEGORY_COLOURS[i % len(CATEGORY_COLOURS)]
