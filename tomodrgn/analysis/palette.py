"""Colours that the colour blind can tell apart: categories and a scale of numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float64

__all__ = ["CATEGORY_COLOURS", "CATEGORY_COLOURS_ON_DARK", "DARK_START", "GREY", "column_rgb"]

# Okabe & Ito's colours, told apart by the colour blind, then darker ones.
CATEGORY_COLOURS = (
    "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#8C6D00", "#F0E442", "#6A3D9A", "#1B4F72",
    "#7B241C", "#145A32",
)  # fmt: skip
# The same where the background is dark: the last four are lighter.
CATEGORY_COLOURS_ON_DARK = (*CATEGORY_COLOURS[:8], "#B79CED", "#A9D6E5", "#E8A598", "#A8D5A2")
GREY = "#9E9E9E"
# Nine points of viridis, between which colours are interpolated.
VIRIDIS = ("#440154", "#472D7B", "#3B528B", "#2C728E", "#21918C", "#28AE80", "#5EC962", "#ADDC30", "#FDE725")
DARK_START = 0.33  # of viridis: more than 3 to 1 against the dark background of JupyterLab


def column_rgb(column: pd.Series, *, dark: bool = False) -> Float64[np.ndarray, "k 3"]:
    """Red, green and blue from 0 to 1 of each value of a column.

    Numbers run along viridis from the lowest to the highest; whole numbers of few values, and text, get a colour each
    in the order of their values. What is missing is grey.

    Parameters
    ----------
    dark
        For a dark background: without viridis' violet, and with lighter colours for values.

    Examples
    --------
    >>> column_rgb(pd.Series(["b", "a", None])).round(2).tolist()
    [[0.34, 0.71, 0.91], [0.9, 0.62, 0.0], [0.62, 0.62, 0.62]]
    """
    known = column.notna().to_numpy()
    found = np.tile(_rgb(GREY), (len(column), 1))
    if not known.any():
        return found
    values = column[known]
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    few = values.nunique() <= len(CATEGORY_COLOURS)
    if numeric and not (few and (values.astype(float) % 1 == 0).all()):
        numbers = values.to_numpy(dtype=np.float64)
        span = numbers.max() - numbers.min()
        place = (numbers - numbers.min()) / span if span > 0 else np.full(len(numbers), 0.5)
        place = DARK_START + (1 - DARK_START) * place if dark else place
        anchors = np.array([_rgb(colour) for colour in VIRIDIS])
        axis = np.linspace(0, 1, len(anchors))
        found[known] = np.stack([np.interp(place, axis, anchors[:, i]) for i in range(3)], axis=1)
        return found
    codes, _ = pd.factorize(values if numeric else values.astype(str), sort=True)
    colours = CATEGORY_COLOURS_ON_DARK if dark else CATEGORY_COLOURS
    found[known] = np.array([_rgb(colour) for colour in colours])[codes % len(CATEGORY_COLOURS)]
    return found


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
