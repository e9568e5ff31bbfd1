"""Which colour each particle gets: numbers along a scale, text by its value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from plotly.colors import sample_colorscale, sequential

from tomodrgn.analysis.palette import CATEGORY_COLOURS, GREY

__all__ = ["Colouring", "colour_column"]

OTHER, MISSING = "(other)", "(none)"
SCALE_STEPS = 64


@dataclass(frozen=True, kw_only=True)
class Colouring:
    """Values as they are drawn, and the colours they get.

    Parameters
    ----------
    drawn
        Numbers (float32, none missing), or categories.
    colours
        For numbers the colour scale from the lowest to the highest; for categories one each, in their order.
    norm
        Values of the first and the last colour of the scale; of categories (0, 1), which is not used.
    """

    drawn: pd.Series
    colours: list[str]
    norm: tuple[float, float]

    @property
    def is_categorical(self) -> bool:
        """Whether values are categories."""
        return isinstance(self.drawn.dtype, pd.CategoricalDtype)


def colour_column(column: pd.Series) -> Colouring:
    """Colours for a column of numbers or text.

    Numbers run along viridis; those missing are grey. Text gets a colour each for the most frequent values, and grey
    for all others.

    Examples
    --------
    >>> colour_column(pd.Series([1.0, 2.0, 5.0])).norm
    (1.0, 5.0)
    >>> colour_column(pd.Series(["b", "a", "b"])).drawn.cat.categories.tolist()
    ['a', 'b']
    """
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return _numbers(column)
    text = column.astype("str").where(column.notna(), MISSING)
    counts = text[text != MISSING].value_counts()
    shown = sorted(counts.index[: len(CATEGORY_COLOURS)])
    text = text.where(text.isin([*shown, MISSING]), OTHER)
    rest = [name for name in (OTHER, MISSING) if (text == name).any()]
    categories = pd.Series(pd.Categorical(text, categories=[*shown, *rest]), index=column.index, name=column.name)
    return Colouring(drawn=categories, colours=[*CATEGORY_COLOURS[: len(shown)], *[GREY] * len(rest)], norm=(0.0, 1.0))


def _numbers(column: pd.Series) -> Colouring:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    scale = list(sample_colorscale(sequential.Viridis, np.linspace(0, 1, SCALE_STEPS), colortype="rgb"))
    colours = ["#{:02x}{:02x}{:02x}".format(*(int(float(c)) for c in text[4:-1].split(","))) for text in scale]
    if not known.all():
        step = (high - low) / (SCALE_STEPS - 1)
        values, low, colours = np.where(known, values, low - step), low - step, [GREY, *colours]
    return Colouring(
        drawn=pd.Series(values.astype(np.float32), index=column.index, name=column.name),
        colours=colours,
        norm=(low, high),
    )
