"""A tile of a gallery: the picture of a map, a tick, and a label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from tomodrgn.widgets.page_code import page_module

__all__ = ["MapTile"]

STATIC = Path(__file__).parent / "static"


class MapTile(anywidget.AnyWidget):
    """One map; its picture is a button, and tick and label are reached by the Tab key as well.

    Attributes
    ----------
    name
        Of the map.
    note
        What else is told of it, in a few letters.
    picture
        PNG; empty until it is there.
    ticked
        Whether it is ticked.
    label
        What was typed.
    opened
        Whether it is the one that is shown large.
    size_px
        Side of the picture.
    """

    _esm = page_module("map_tile.js")
    _css = STATIC / "map_tile.css"
    name = traitlets.Unicode().tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    picture = traitlets.Bytes(b"").tag(sync=True)
    ticked = traitlets.Bool(default_value=False).tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    opened = traitlets.Bool(default_value=False).tag(sync=True)
    size_px = traitlets.Int(150).tag(sync=True)

    def on_open(self, act: Callable[[str], None]) -> None:
        """Call this with the name when the picture is clicked."""

        def heard(_: Any, content: Any, buffers: Any) -> None:
            if isinstance(content, dict) and content.get("kind") == "open":
                act(self.name)

        self.on_msg(heard)
