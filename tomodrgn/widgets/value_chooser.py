"""Choosing by the values of a column: all particles of a category, or of a range of numbers."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets
import numpy as np
import pandas as pd
import traitlets

from tomodrgn.widgets.selection import Selection

__all__ = ["ValueChooser"]

MISSING = "(none)"
MOST_VALUES = 200
DIGITS = 5  # of the ends of a range, which are rounded outwards


class ValueChooser(ipywidgets.HBox):
    """A row of controls that stands for a legend that can be clicked, or for a range drawn in a histogram.

    Parameters
    ----------
    table
        One row a particle, indexed by particle_id.
    selection
        The choice that is changed.
    column
        Which column; any of the table.

    Attributes
    ----------
    column
        As given; it can be set.
    value
        The category, of text and of true and false; ``"(none)"`` is what is missing.
    low, high
        The range of a column of numbers, both ends included.
    """

    column = traitlets.Unicode()
    value = traitlets.Unicode("")
    low = traitlets.Float(0.0)
    high = traitlets.Float(1.0)

    def __init__(self, table: pd.DataFrame, selection: Selection, column: str) -> None:
        self._table, self.selection, self._filling = table, selection, False
        self._title = ipywidgets.Label(layout=ipywidgets.Layout(width="auto", min_width="110px"))
        self._value = ipywidgets.Dropdown(layout=ipywidgets.Layout(width="220px"))
        self._value.add_class("tomodrgn-value")
        self._range = ipywidgets.FloatRangeSlider(
            min=-1e300, max=1e300, continuous_update=False, readout=False, layout=ipywidgets.Layout(width="220px")
        )
        self._range.add_class("tomodrgn-range")
        self._low = ipywidgets.FloatText(layout=ipywidgets.Layout(width="90px"), continuous_update=False)
        self._high = ipywidgets.FloatText(layout=ipywidgets.Layout(width="90px"), continuous_update=False)
        self._low.add_class("tomodrgn-low")
        self._high.add_class("tomodrgn-high")
        buttons = [
            self._button("Choose", "Choose these particles and no others", self.choose),
            self._button("Add", "Choose these particles as well", self.add),
            self._button("Remove", "Choose these particles no longer", self.remove),
            self._button("Keep", "Of those chosen, keep these only", self.keep),
        ]
        super().__init__(
            [self._title, self._value, self._low, self._range, self._high, *buttons],
            layout=ipywidgets.Layout(flex_flow="row wrap", align_items="center", min_height="36px"),
            column=column,
        )
        self.add_class("tomodrgn-chooser")
        ipywidgets.link((self, "low"), (self._low, "value"))
        ipywidgets.link((self, "high"), (self._high, "value"))
        self._value.observe(self._valued, names="value")
        self._range.observe(self._ranged, names="value")
        self._fill()

    @staticmethod
    def _button(label: str, tooltip: str, act: Callable[[], None]) -> ipywidgets.Button:
        made = ipywidgets.Button(description=label, tooltip=tooltip, layout=ipywidgets.Layout(width="84px"))
        made.add_class(f"tomodrgn-value-{label.lower()}")
        made.on_click(lambda _: act())
        return made

    @property
    def table(self) -> pd.DataFrame:
        """One row a particle."""
        return self._table

    @table.setter
    def table(self, table: pd.DataFrame) -> None:
        self._table = table
        if self.column in table:
            self._fill()
        else:
            self.column = str(table.columns[0])

    @property
    def numeric(self) -> bool:
        """Whether the column is one of numbers, and a range is chosen."""
        column = self._table[self.column]
        return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)

    @property
    def particle_ids(self) -> list[str]:
        """The particles of the value, or of the range."""
        column = self._table[self.column]
        if self.numeric:
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            return self._table.index[(values >= self.low) & (values <= self.high)].astype(str).tolist()
        wanted = column.isna() if self.value == MISSING else column.astype("str") == self.value
        return self._table.index[wanted.fillna(value=False).to_numpy(dtype=bool)].astype(str).tolist()

    @property
    def story(self) -> str:
        """What is chosen, in words."""
        if self.numeric:
            return f"{self.column} from {self.low:g} to {self.high:g}"
        return f"{self.column} {self.value}"

    def choose(self) -> None:
        """Choose these particles and no others."""
        self.selection.set(self.particle_ids, made_by=self.story)

    def add(self) -> None:
        """Choose these particles as well."""
        self.selection.add(self.particle_ids, made_by=self.story)

    def remove(self) -> None:
        """Choose these particles no longer."""
        self.selection.remove(self.particle_ids, made_by=self.story)

    def keep(self) -> None:
        """Of those chosen, keep these only."""
        self.selection.intersect(self.particle_ids, made_by=self.story)

    @traitlets.validate("column")
    def _known(self, proposal: dict) -> str:
        if proposal["value"] not in self._table:
            raise ValueError(f"Got column {proposal['value']!r}, expected one of {list(self._table)}. Choose one.")
        return str(proposal["value"])

    @traitlets.observe("column")
    def _fill(self, change: dict | None = None) -> None:
        if not hasattr(self, "_range") or not self.column:
            return
        self._title.value = f"all of {self.column}"
        numeric = self.numeric
        self._value.layout.display = "none" if numeric else ""
        for control in (self._low, self._range, self._high):
            control.layout.display = "" if numeric else "none"
        if numeric:
            self._fill_range()
        else:
            self._fill_values()

    def _fill_range(self) -> None:
        values = self._table[self.column].to_numpy(dtype=np.float64, na_value=np.nan)
        values = values[np.isfinite(values)]
        least, greatest = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        low, high = _outwards(least, -1), _outwards(greatest, 1)
        self._filling = True
        try:
            self._range.min, self._range.max = -1e300, 1e300
            self._range.value = (low, high)
            self._range.min, self._range.max = low, max(high, low + 1e-12)
            self._range.step = max((high - low) / 200, 1e-12)
        finally:
            self._filling = False
        self.low, self.high = low, high

    def _fill_values(self) -> None:
        column = self._table[self.column]
        counts = column.astype("str").where(column.notna(), MISSING).value_counts()
        names = [str(name) for name in counts.index[:MOST_VALUES]]
        names.sort()
        self._filling = True
        try:
            self._value.options = [(f"{name} ({counts[name]})", name) for name in names]
        finally:
            self._filling = False
        self.value = self.value if self.value in names else names[0]
        self._value.value = self.value

    def _valued(self, change: dict) -> None:
        if not self._filling and change["new"] is not None:
            self.value = change["new"]

    def _ranged(self, change: dict) -> None:
        if not self._filling:
            self.low, self.high = map(float, change["new"])

    @traitlets.observe("value", "low", "high")
    def _typed(self, change: dict) -> None:
        if not hasattr(self, "_range"):
            return
        if change["name"] == "value":
            if self.value in [value for _, value in self._value.options]:
                self._value.value = self.value
            return
        low, high = self._range.min, self._range.max
        inside = (min(max(self.low, low), high), min(max(self.high, low), high))
        if inside[0] <= inside[1] and inside != self._range.value:
            self._filling = True
            try:
                self._range.value = inside
            finally:
                self._filling = False


def _outwards(number: float, sign: int) -> float:
    """A number of few digits, a little above (sign 1) or below it."""
    if not number:
        return 0.0
    unit = 10.0 ** (np.floor(np.log10(abs(number))) - DIGITS + 1)
    return float(f"{sign * np.ceil(sign * number / unit - 1e-9) * unit:.{DIGITS + 2}g}")
