"""What can be done with a choice of particles, in a row of controls: query, undo, invert, keep under a name."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets
import pandas as pd
import traitlets

from tomodrgn.training.run import Run
from tomodrgn.widgets.selection import Selection

__all__ = ["SelectionBar"]


class SelectionBar(ipywidgets.VBox):
    """Controls of a Selection.

    Parameters
    ----------
    selection
        The choice that is shown and changed.
    table
        One row a particle, for queries.
    run
        Where choices are kept under a name; without one they are not.
    epoch
        Epoch of the latents that are looked at; None is the last.

    Attributes
    ----------
    query
        A condition such as ``rlnDefocusU > 2e4 and cluster in [1, 3]``; setting it chooses (`tomodrgn.analysis.query`).
    message
        How many are chosen and how they came about; or what was wrong with the last query or name. Read-only.
    """

    query = traitlets.Unicode("")
    message = traitlets.Unicode("", read_only=True)

    def __init__(
        self, selection: Selection, table: pd.DataFrame, run: Run | None = None, *, epoch: int | None = None
    ) -> None:
        self.selection, self.table, self._run, self.epoch = selection, table, run, epoch
        text = ipywidgets.Text(
            placeholder="query, such as  z1 > 0 and rlnDefocusU > 2e4",
            continuous_update=False,
            layout=ipywidgets.Layout(flex="1 1 260px", width="auto"),
        )
        text.add_class("tomodrgn-query")
        self._undo = _button("Undo", "The choice before", selection.undo)
        self._redo = _button("Redo", "The choice that was undone", selection.redo)
        buttons = [
            self._undo,
            self._redo,
            _button("Invert", "Choose all others", selection.invert),
            _button("Clear", "Choose nothing", selection.clear),
        ]
        self._name = ipywidgets.Text(placeholder="name", layout=ipywidgets.Layout(width="110px"))
        self._name.add_class("tomodrgn-selection-name")
        keep = _button("Save", "Keep the choice under this name in the run", lambda: self.save(self._name.value))
        row = [text, *buttons, *([] if run is None else [self._name, keep])]
        note = ipywidgets.Label(layout=ipywidgets.Layout(min_height="28px"))
        note.add_class("tomodrgn-selection-note")
        super().__init__([ipywidgets.HBox(row, layout=ipywidgets.Layout(flex_flow="row wrap")), note])
        self.add_class("tomodrgn-selection")
        ipywidgets.link((self, "query"), (text, "value"))
        ipywidgets.dlink((self, "message"), (note, "value"))
        selection.observe(self._tell, names=["particle_ids", "made_by"])
        self._tell()

    def save(self, name: str, *, overwrite: bool = False) -> None:
        """Keep the choice in the run (`Selection.save`); what is wrong is shown in place."""
        if self._run is None:
            raise ValueError("Got no run to keep a choice in, expected one. Give the run to SelectionBar.")
        try:
            path = self.selection.save(self._run, name, epoch=self.epoch, overwrite=overwrite)
        except (OSError, ValueError) as error:
            self.set_trait("message", str(error))
        else:
            self.set_trait("message", f"{len(self.selection)} particles kept in {path}")

    @traitlets.observe("query")
    def _ask(self, change: dict) -> None:
        if not change["new"].strip():
            return
        try:
            self.selection.query(self.table, change["new"])
        except ValueError as error:
            self.set_trait("message", str(error))
        else:
            self._tell()

    def _tell(self, change: dict | None = None) -> None:
        chosen = f"{len(self.selection)} of {len(self.selection.known_ids)} particles chosen"
        story = f" ({self.selection.made_by})" if len(self.selection) else ""
        self.set_trait("message", chosen + story)
        self._undo.disabled, self._redo.disabled = not self.selection.can_undo, not self.selection.can_redo


def _button(label: str, tooltip: str, act: Callable[[], None]) -> ipywidgets.Button:
    button = ipywidgets.Button(description=label, tooltip=tooltip, layout=ipywidgets.Layout(width="64px"))
    button.add_class(f"tomodrgn-{label.lower()}")
    button.on_click(lambda _: act())
    return button
