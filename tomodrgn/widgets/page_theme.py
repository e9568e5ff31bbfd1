"""The colour of the page, for views that draw their own background and cannot take it from CSS."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import ClassVar

import anywidget
import traitlets

from tomodrgn.widgets.page_code import page_module

__all__ = ["PageTheme"]


class PageTheme(anywidget.AnyWidget):
    """Follows the theme of the page, light or dark; one for all views of a kernel, and not shown itself.

    Attributes
    ----------
    background
        Colour behind the widgets, as ``#rrggbb``.
    """

    _esm = page_module("page_theme.js")
    background = traitlets.Unicode("#ffffff").tag(sync=True)

    _shared: ClassVar[PageTheme | None] = None

    @classmethod
    def shared(cls) -> PageTheme:
        """The one of this kernel."""
        if cls._shared is None or cls._shared.comm is None:
            cls._shared = cls()
        return cls._shared

    @classmethod
    def follow(cls, paint: Callable[[str], None]) -> None:
        """Call a bound method with the background, now and at every change, for as long as its object lives."""
        theme, method = cls.shared(), weakref.WeakMethod(paint)

        def changed(change: dict) -> None:
            live = method()
            if live is None:
                theme.unobserve(changed, "background")
            else:
                live(change["new"])

        theme.observe(changed, "background")
        paint(theme.background)
