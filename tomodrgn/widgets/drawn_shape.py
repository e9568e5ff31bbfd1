"""Shapes that a person draws on a plotly figure, and the points within them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

__all__ = ["corners_of", "points_within"]


def corners_of(shape: Mapping[str, Any]) -> Float64[np.ndarray, "c 2"]:
    """Corners of a lasso or a box, as plotly keeps it in `layout.selections`, in the units of the axes.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> corners_of({"type": "path", "path": "M0,0L4,0L4,2.5Z"}).tolist()
    [[0.0, 0.0], [4.0, 0.0], [4.0, 2.5]]
    >>> len(corners_of({"type": "rect", "x0": 0, "x1": 4, "y0": 0, "y1": 1}))
    4
    """
    if shape.get("type") == "rect":
        (x0, x1), (y0, y1) = (shape["x0"], shape["x1"]), (shape["y0"], shape["y1"])
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)
    words = re.findall(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", str(shape.get("path", "")))
    if shape.get("type") != "path" or len(words) < 6 or len(words) % 2:
        raise ValueError(f"Got the shape {dict(shape)}, expected a box or a lasso of three corners or more. Draw one.")
    return np.array([float(word) for word in words]).reshape(-1, 2)


def points_within(points: Float64[np.ndarray, "n 2"], corners: Float64[np.ndarray, "c 2"]) -> Bool[np.ndarray, " n"]:
    """Which points lie within a polygon: a ray to the right crosses its sides an odd number of times.

    Examples
    --------
    >>> corners = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
    >>> points_within(np.array([[1.0, 0.5], [3.0, 0.5]]), corners).tolist()
    [True, False]
    """
    within = np.zeros(len(points), dtype=bool)
    x, y = points.T
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crossed = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        within ^= crossed
    return within
