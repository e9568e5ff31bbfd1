"""Colours of points as a list, and what they mean, as HTML."""

from __future__ import annotations

import html

import numpy as np

from tomodrgn.widgets.colours import Colouring

__all__ = ["legend_html", "point_colours"]

ENTRY = "tomodrgn-legend-entry"
LINE = "display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: center; line-height: 20px"
SQUARE = "display: inline-block; width: 12px; height: 12px; border-radius: 6px; margin-right: 5px; background: "


def point_colours(colouring: Colouring) -> list[str]:
    """The colour of every value, such as ``#440154``.

    Examples
    --------
    >>> import pandas as pd
    >>> from tomodrgn.widgets.colours import colour_column
    >>> point_colours(colour_column(pd.Series(["b", "a", "b"])))
    ['#56B4E9', '#E69F00', '#56B4E9']
    """
    colours = np.array(colouring.colours, dtype=object)
    if colouring.is_categorical:
        return colours[colouring.drawn.cat.codes.to_numpy()].tolist()
    low, high = colouring.norm
    place = (colouring.drawn.to_numpy(dtype=np.float64) - low) / (high - low)
    return colours[np.clip(np.round(place * (len(colours) - 1)), 0, len(colours) - 1).astype(int)].tolist()


def legend_html(colouring: Colouring, name: str) -> str:
    """What the colours of a column mean: a scale with its ends, or a word for each colour."""
    title = f"<b>{html.escape(name)}</b>"
    if colouring.is_categorical:
        words = [
            f'<span class="{ENTRY}"><span style="{SQUARE}{colour}"></span>{html.escape(str(value))}</span>'
            for value, colour in zip(colouring.drawn.cat.categories, colouring.colours, strict=True)
        ]
        return f'<div style="{LINE}">{title}{"".join(words)}</div>'
    stops = ", ".join(colouring.colours[:: max(len(colouring.colours) // 16, 1)])
    bar = f"display: inline-block; width: 140px; height: 12px; background: linear-gradient(to right, {stops})"
    low, high = colouring.norm
    ends = f"<span>{low:.4g}</span><span style='{bar}'></span><span>{high:.4g}</span>"
    return f'<div style="{LINE}">{title}{ends}</div>'
