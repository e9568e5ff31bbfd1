"""ChimeraX scripts: maps opened and placed by matrices, markers, colours. All paths are relative to the script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Float64

from tomodrgn.io.atomic import replacing

__all__ = ["safe_name", "write_markers", "write_script"]

TOMOGRAM_MODEL, MARKER_MODEL, MAP_MODEL = 1, 2, 3


def safe_name(name: str) -> str:
    """A name of a file and of a model: letters, digits, dot, dash and underscore only, not hidden, not empty.

    Examples
    --------
    >>> [safe_name(name) for name in ("TS_01", "../x y", "", 'a"; close #1')]
    ['TS_01', '_x_y', '_', 'a_close_1']
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "_"


def write_markers(
    path: Path,
    names: Sequence[str],
    places_angst: Float64[np.ndarray, "k 3"],
    rgb: Float64[np.ndarray, "k 3"],
    *,
    radius_angst: float,
    overwrite: bool = False,
) -> None:
    """A marker file (CMM, XML): a coloured sphere at each particle, with its name as a note.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    """
    lines = ['<marker_set name="particles">']
    for i, (name, place, colour) in enumerate(zip(names, places_angst, rgb, strict=True)):
        x, y, z = (f"{value:.3f}" for value in place)
        r, g, b = (f"{value:.4f}" for value in colour)
        lines.append(
            f'<marker id="{i + 1}" x="{x}" y="{y}" z="{z}" r="{r}" g="{g}" b="{b}" radius="{radius_angst:.2f}" '
            f"note={quoteattr(str(name))}/>"
        )
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join([*lines, "</marker_set>\n"]), encoding="utf-8")


def write_script(
    path: Path,
    *,
    markers: str,
    maps: Sequence[str],
    affine: Float64[np.ndarray, "k 4 4"],
    rgb: Float64[np.ndarray, "k 3"],
    levels: Sequence[float],
    tomogram: str | None = None,
    overwrite: bool = False,
) -> None:
    """A script (CXC) that opens markers and one map a particle, places each and colours it.

    Models are #1 (the tomogram, if there is one), #2 (markers) and #3.1, #3.2 ... (maps, in the order given).

    Parameters
    ----------
    markers, maps, tomogram
        Paths relative to the script; one map each for the k matrices.
    affine
        Of `place_maps`.
    levels
        Level of the surface of each map.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    ValueError
        If a path has quotes or line breaks.
    """
    for name in filter(None, (tomogram, markers, *maps)):
        if re.search(r'["\r\n]', name):
            raise ValueError(f"Got a file named {name!r}, expected no quotes or line breaks, for ChimeraX. Rename it.")
    lines = ["# Open this file in ChimeraX. Models: #1 tomogram, #2 markers, #3 maps."]
    if tomogram is not None:
        lines.append(f'open "{tomogram}" id {TOMOGRAM_MODEL} name tomogram')
        lines.append(f"volume #{TOMOGRAM_MODEL} style image")
    lines.append(f'open "{markers}" id {MARKER_MODEL}')
    for i, (name, matrix, colour, level) in enumerate(zip(maps, affine, rgb, levels, strict=True), start=1):
        model = f"#{MAP_MODEL}.{i}"
        red, green, blue = (round(255 * value) for value in colour)
        lines.append(f'open "{name}" id {MAP_MODEL}.{i}')
        lines.append(f"volume {model} style surface step 1 level {level:.6g}")
        lines.append(f"view matrix models {model}," + ",".join(f"{value:.6f}" for value in matrix[:3].ravel()))
        lines.append(f"color {model} #{red:02x}{green:02x}{blue:02x}")
    lines.append("view")
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
