"""The chosen particles as a table: the first of them, with the columns that are asked for."""

from __future__ import annotations

from collections.abc import Iterable

import ipywidgets
import pandas as pd
import traitlets

from tomodrgn.widgets.selection import Selection

__all__ = ["ChosenTable"]

MOST_ROWS = 200
FIRST_COLUMNS = 6
STYLE = (
    "<style>.tomodrgn-table td, .tomodrgn-table th {padding: 1px 10px; text-align: left; white-space: nowrap}</style>"
)


class ChosenTable(ipywidgets.HBox):
    """Up to 200 chosen particles, a row each, particle_id first.

    Parameters
    ----------
    table
        One row a particle, indexed by particle_id.
    selection
        The choice.
    columns
        Those shown at first; None takes six.

    Attributes
    ----------
    columns
        Names of the columns that are shown, in the order of the table.
    active
        Whether it is drawn: one that cannot be seen need not be.
    """

    columns = traitlets.Tuple()
    active = traitlets.Bool(default_value=False)

    def __init__(self, table: pd.DataFrame, selection: Selection, *, columns: Iterable[str] | None = None) -> None:
        self._table, self.selection = table, selection
        names = [str(name) for name in table]
        self._choice = ipywidgets.SelectMultiple(options=names, rows=10, layout=ipywidgets.Layout(width="200px"))
        self._choice.add_class("tomodrgn-table-columns")
        self._html = ipywidgets.HTML()
        place = ipywidgets.VBox(
            [self._html], layout=ipywidgets.Layout(height="260px", overflow="auto", flex="1 1 300px", min_width="0")
        )
        place.add_class("tomodrgn-table")
        super().__init__([self._choice, place], columns=tuple(names[:FIRST_COLUMNS] if columns is None else columns))
        ipywidgets.link((self, "columns"), (self._choice, "value"))
        selection.observe(self._draw, names="particle_ids")

    @property
    def table(self) -> pd.DataFrame:
        """One row a particle."""
        return self._table

    @table.setter
    def table(self, table: pd.DataFrame) -> None:
        kept = tuple(name for name in self.columns if name in table)
        self._table = table
        self._choice.options = [str(name) for name in table]
        self.columns = kept
        self._draw()

    @property
    def shown(self) -> pd.DataFrame:
        """What is in the table."""
        return self._table.loc[list(self.selection.particle_ids[:MOST_ROWS]), list(self.columns)]

    @traitlets.validate("columns")
    def _known(self, proposal: dict) -> tuple[str, ...]:
        strange = [name for name in proposal["value"] if name not in self._table]
        if strange:
            raise ValueError(f"Got column {strange[0]!r}, expected some of {list(self._table)}. Choose some.")
        return tuple(str(name) for name in self._table if name in set(proposal["value"]))

    @traitlets.observe("columns", "active")
    def _draw(self, change: dict | None = None) -> None:
        if not self.active:
            return
        if not len(self.selection):
            self._html.value = "No particle is chosen."
            return
        more = len(self.selection) - MOST_ROWS
        note = f"<p>and {more} more</p>" if more > 0 else ""
        shown = self.shown.rename_axis("particle_id").reset_index()
        self._html.value = STYLE + shown.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format) + note
