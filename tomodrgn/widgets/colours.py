"""Which colour each particle gets: numbers along a scale, text by its value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from plotly.colors import sample_colorscale, sequential

from tomodrgn.analysis.palette import CATEGORY_COLOURS, CATEGORY_COLOURS_ON_DARK, DARK_START, GREY

__all__ = ["Colouring", "can_be_axis", "colour_column", "is_dark"]

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


def can_be_axis(column: pd.Series) -> bool:
    """Whether a column can be an axis: all of it are finite numbers."""
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return False
    return bool(np.isfinite(column.to_numpy(dtype=np.float64, na_value=np.nan)).all())


def is_dark(colour: str) -> bool:
    """Whether a colour ``#rrggbb`` is nearer to black than to white.

    Examples
    --------
    >>> is_dark("#111111"), is_dark("#ffffff")
    (True, False)
    """
    return sum(bytes.fromhex(colour[1:7])) < 3 * 128


def colour_column(
    column: pd.Series, limits: tuple[float, float] | None = None, *, log: bool = False, dark: bool = False
) -> Colouring:
    """Colours for a column of numbers or text.

    Numbers run along viridis; those missing are grey. Text gets a colour each for the most frequent values, and grey
    for all others.

    Parameters
    ----------
    limits
        Numbers that get the first and the last colour, and so do those beyond; None is the least and the greatest.
    log
        Draw the logarithm to base 10 of numbers; those not above 0 are grey.
    dark
        For a dark background: the scale begins with viridis' blue, as its violet could not be seen, and rare values
        have lighter colours.

    Raises
    ------
    ValueError
        If the limits are not two numbers in rising order, or not above 0 for a logarithm.

    Examples
    --------
    >>> colour_column(pd.Series([1.0, 2.0, 5.0])).norm
    (1.0, 5.0)
    >>> colour_column(pd.Series(["b", "a", "b"])).drawn.cat.categories.tolist()
    ['a', 'b']
    """
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return _numbers(column, limits, log=log, dark=dark)
    text = column.astype("str").where(column.notna(), MISSING)
    counts = text[text != MISSING].value_counts()
    shown = sorted(counts.index[: len(CATEGORY_COLOURS)])
    text = text.where(text.isin([*shown, MISSING]), OTHER)
    rest = [name for name in (OTHER, MISSING) if (text == name).any()]
    categories = pd.Series(pd.Categorical(text, categories=[*shown, *rest]), index=column.index, name=column.name)
    colours = (CATEGORY_COLOURS_ON_DARK if dark else CATEGORY_COLOURS)[: len(shown)]
    return Colouring(drawn=categories, colours=[*colours, *[GREY] * len(rest)], norm=(0.0, 1.0))


def _numbers(column: pd.Series, limits: tuple[float, float] | None, *, log: bool, dark: bool) -> Colouring:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if limits is not None and not (limits[0] < limits[1] and (limits[0] > 0 or not log)):
        above = " above 0" if log else ""
        raise ValueError(
            f"Got {limits[0]:g} to {limits[1]:g} as the range of colours of {column.name}, expected two numbers"
            f"{above}, the lower first. Change them."
        )
    if log:
        values = np.log10(values, where=values > 0, out=np.full(len(values), np.nan))
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 1.0)
    if limits is not None:
        low, high = (float(np.log10(x)) if log else float(x) for x in limits)
        values = np.clip(values, low, high)
    if low == high:
        low, high = low - 0.5, high + 0.5
    shares = np.linspace(DARK_START if dark else 0, 1, SCALE_STEPS)
    scale = list(sample_colorscale(sequential.Viridis, shares, colortype="rgb"))
    colours = ["#{:02x}{:02x}{:02x}".format(*(int(float(c)) for c in text[4:-1].split(","))) for text in scale]
    if not known.all():
        step = (high - low) / (SCALE_STEPS - 1)
        values, low, colours = np.where(known, values, low - step), low - step, [GREY, *colours]
    return Colouring(
        drawn=pd.Series(values.astype(np.float32), index=column.index, name=column.name),
        colours=colours,
        norm=(low, high),
    )
