"""Histogram of any column: the chosen particles against all; and a choice by its values."""

from __future__ import annotations

import ipywidgets
import pandas as pd
import traitlets

from tomodrgn import plots
from tomodrgn.widgets.selection import Selection
from tomodrgn.widgets.value_chooser import ValueChooser

__all__ = ["ColumnHistogram"]


class ColumnHistogram(ipywidgets.VBox):
    """How a column is spread over the chosen particles, and over all; a range of it, or a value, can be chosen.

    Parameters
    ----------
    table
        One row a particle, indexed by particle_id.
    selection
        The choice.
    column
        Which column; any of the table.

    Attributes
    ----------
    column
        As given; it can be set.
    active
        Whether it is drawn: one that cannot be seen need not be.
    """

    column = traitlets.Unicode()
    active = traitlets.Bool(default_value=False)

    def __init__(self, table: pd.DataFrame, selection: Selection, column: str) -> None:
        self._table, self.selection = table, selection
        self._choice = ipywidgets.Dropdown(options=[str(name) for name in table], description="column")
        self._choice.add_class("tomodrgn-histogram-column")
        self._picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="520px", height="260px"))
        self._picture.add_class("tomodrgn-histogram")
        self.chooser = ValueChooser(table, selection, column)
        super().__init__([self._choice, self._picture, self.chooser], column=column)
        traitlets.dlink((self, "column"), (self.chooser, "column"))
        ipywidgets.link((self, "column"), (self._choice, "value"))
        selection.observe(self._draw, names="particle_ids")

    @property
    def table(self) -> pd.DataFrame:
        """One row a particle."""
        return self._table

    @table.setter
    def table(self, table: pd.DataFrame) -> None:
        column = self.column
        self._table = self.chooser.table = table
        self._choice.options = [str(name) for name in table]
        self.column = column if column in table else str(table.columns[0])
        self._draw()

    @traitlets.validate("column")
    def _known(self, proposal: dict) -> str:
        if proposal["value"] not in self._table:
            raise ValueError(f"Got column {proposal['value']!r}, expected one of {list(self._table)}. Choose one.")
        return str(proposal["value"])

    @traitlets.observe("column", "active")
    def _draw(self, change: dict | None = None) -> None:
        if not self.active:
            return
        chosen = self._table.index.isin(self.selection.particle_ids)
        self._picture.value = plots.figure_png(plots.plot_histogram(self._table[self.column], chosen))
