"""Messages where the eye is: what went wrong is told in the widget, in the colour of the theme."""

from __future__ import annotations

import html

__all__ = ["shown_in"]


def shown_in(message: str) -> str:
    """A message as HTML: errors (they begin with "Got ") in the theme's colour for errors.

    Examples
    --------
    >>> shown_in("3 maps < 4")
    '<span>3 maps &lt; 4</span>'
    """
    colour = ' style="color: var(--jp-error-color1, #c62828)"' if message.startswith("Got ") else ""
    return f"<span{colour}>{html.escape(message)}</span>" if message else ""
