"""Messages where the eye is: what went wrong is told in the widget, in the colour of the theme."""

from __future__ import annotations

import html
from pathlib import Path

__all__ = ["command_shown", "file_stamp", "shown_in", "told"]


def shown_in(message: str) -> str:
    """A message as HTML: errors (they begin with "Got ") in the theme's colour for errors.

    Examples
    --------
    >>> shown_in("3 maps < 4")
    '<span>3 maps &lt; 4</span>'
    """
    colour = ' style="color: var(--jp-error-color1, #c62828)"' if message.startswith("Got ") else ""
    return f"<span{colour}>{html.escape(message)}</span>" if message else ""


def told(error: Exception) -> str:
    """The words of an error, in one line; errors of others are named by their kind.

    Examples
    --------
    >>> told(KeyError("Got x, expected y.")), told(OSError(5, "Input/output error"))
    ('Got x, expected y.', 'Got OSError: [Errno 5] Input/output error')
    """
    text = str(error.args[0]) if len(error.args) == 1 else str(error)
    return text if text.startswith("Got ") else f"Got {type(error).__name__}: {text}".rstrip(": ")


def command_shown(command: str) -> str:
    """A line for the shell as HTML that can be copied; long ones are broken, and two lines have room."""
    style = (
        "white-space: pre-wrap; overflow-wrap: anywhere; min-height: 2.6em; line-height: 1.3; margin: 2px 0; "
        "padding: 4px 8px; color: var(--jp-content-font-color1, #222); background: var(--jp-layout-color2, #eee)"
    )
    return f'<pre style="{style}">{html.escape(command)}</pre>'


def file_stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written anew; empty if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
