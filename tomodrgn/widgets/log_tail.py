"""The last lines of a training's log."""

from __future__ import annotations

import html

import ipywidgets

from tomodrgn.training.job import LOG, TrainingJob
from tomodrgn.widgets.in_place import file_stamp

__all__ = ["LogTail"]

STYLE = (
    "height: 118px; overflow: auto; margin: 0; padding: 4px 8px; line-height: 1.25; font-size: 85%; "
    "white-space: pre-wrap; overflow-wrap: anywhere; "
    "color: var(--jp-content-font-color1, #222); background: var(--jp-layout-color2, #eee)"
)


class LogTail(ipywidgets.HTML):
    """Shows the end of log.txt, which is read again only when it has changed.

    Parameters
    ----------
    lines
        Number of lines.
    """

    def __init__(self, lines: int = 8) -> None:
        super().__init__(layout=ipywidgets.Layout(width="960px"))
        self._lines = lines
        self._drawn: tuple[int, ...] | None = None
        self.add_class("tomodrgn-log")

    def draw(self, job: TrainingJob) -> None:
        """Show the log of a job."""
        stamp = file_stamp(job.folder / LOG)
        if stamp == self._drawn:
            return
        text = job.log(self._lines) or "nothing printed yet"
        self.value = f'<pre style="{STYLE}">{html.escape(text)}</pre>'
        self._drawn = stamp
