"""Many small grey pictures in rows, as one figure: quick to draw, with ink that is read on light and dark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from matplotlib.figure import Figure

from tomodrgn.plots.labels import as_written

__all__ = ["plot_image_grid"]

INK = "#808080"
GAP = 0.04  # of the side of a picture
CELL_INCHES = 1.15
LEFT_CELLS = 0.3  # beside the pictures, for the titles of rows


def plot_image_grid(
    rows: Sequence[Sequence[Float32[np.ndarray, "d d"]]],
    row_titles: Sequence[str],
    column_titles: Sequence[Sequence[str]],
    *,
    shared: Sequence[int] | None = None,
) -> Figure:
    """Pictures of one side in rows; each row has its own grey scale.

    Parameters
    ----------
    rows
        Pictures of each row, from the left.
    row_titles
        Text left of each row.
    column_titles
        Text above each picture of each row; an empty list leaves a row without.
    shared
        Rows of one number here have one grey scale; None gives each its own.

    Raises
    ------
    ValueError
        If there is no picture.
    """
    if not any(len(row) for row in rows):
        raise ValueError("Got no picture to draw, expected at least one. Choose a particle.")
    side = next(row for row in rows if len(row))[0].shape[0]
    n_columns, gap = max(len(row) for row in rows), max(round(GAP * side), 1)
    groups = list(range(len(rows))) if shared is None else list(shared)
    ranges = {group: _range([row for row, own in zip(rows, groups, strict=True) if own == group]) for group in groups}
    heads = [0.16 if any(titles) else 0.03 for titles in column_titles]
    height = CELL_INCHES * (len(rows) + sum(heads))
    figure = Figure(figsize=(CELL_INCHES * (n_columns + LEFT_CELLS), height), facecolor="none")
    top = height
    for row, group, titles, row_title, head in zip(rows, groups, column_titles, row_titles, heads, strict=True):
        top -= CELL_INCHES * (1 + head)
        left, width = LEFT_CELLS / (n_columns + LEFT_CELLS), n_columns / (n_columns + LEFT_CELLS)
        axes = figure.add_axes((left, top / height, width, CELL_INCHES / height))
        low, high = ranges[group]
        strip = np.full((side, n_columns * side), np.nan, dtype=np.float32)
        for i, picture in enumerate(row):
            strip[:, i * side : (i + 1) * side - gap] = ((picture - low) / (high - low))[:, :-gap]
        axes.imshow(strip, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.axis("off")
        axes.text(
            -0.06 * side, side / 2, as_written(row_title), rotation=90, ha="right", va="center", fontsize=7, color=INK
        )
        for i, title in enumerate(titles):
            axes.text(
                (i + 0.5) * side, -0.03 * side, as_written(title), ha="center", va="bottom", fontsize=8, color=INK
            )
    return figure


def _range(rows: list[Sequence[np.ndarray]]) -> tuple[float, float]:
    """Values drawn black and white."""
    pictures = [picture for row in rows for picture in row]
    if not pictures:
        return 0.0, 1.0
    low, high = np.percentile(np.stack(pictures), [0.5, 99.5])
    return float(low), max(float(high), float(low) + 1e-12)
