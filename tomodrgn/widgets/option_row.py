"""One option of a form: its name, a control, and its help."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets

__all__ = ["OptionRow"]

HELP_STYLE = "grid-area: 1/1; color: var(--jp-ui-font-color2, #666); font-size: 90%; line-height: 1.25"
ERROR_STYLE = "grid-area: 1/1; align-self: center; color: var(--jp-error-color1, #c62828); line-height: 1.25"


class OptionRow(ipywidgets.HBox):
    """Name, control and help of one option; what is wrong with the entry takes the place of the help.

    Parameters
    ----------
    name
        Of the option.
    schema
        Its part of the JSON schema of the configuration.
    value
        Its value.
    changed
        Called after every change of the entry.
    """

    def __init__(self, name: str, schema: dict[str, Any], value: Any, changed: Callable[[], None]) -> None:
        kinds = {part.get("type") for part in schema.get("anyOf", [schema])}
        self.optional = "null" in kinds
        text = " ".join(schema.get("description", "").split()) + _range_text(schema)
        self.help = html.escape(text)
        layout = ipywidgets.Layout(width="130px", flex="0 0 auto")
        self.control: Any
        if "enum" in schema:
            self.control = ipywidgets.Dropdown(options=schema["enum"], value=value, layout=layout)
        elif "boolean" in kinds:
            self.control = ipywidgets.Checkbox(value=value, indent=False, layout=layout)
        else:
            empty = "automatic" if self.optional else ""
            self.control = ipywidgets.Text(value=_as_text(value), placeholder=empty, layout=layout)
        self.control.tooltip = text
        self.control.add_class(f"tomodrgn-option-{name}")
        label = ipywidgets.Label(name, layout=ipywidgets.Layout(width="150px", flex="0 0 auto"))
        self.note = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 auto"))
        self.note.add_class(f"tomodrgn-note-{name}")
        self.show_error("")
        super().__init__([label, self.control, self.note], layout=ipywidgets.Layout(align_items="center"))
        self.control.observe(lambda change: changed(), names="value")

    @property
    def entry(self) -> Any:
        """What is typed; nothing typed is None where that is allowed."""
        value = self.control.value
        return None if self.optional and isinstance(value, str) and not value.strip() else value

    def fill(self, value: Any) -> None:
        """Put a value into the control."""
        self.control.value = _as_text(value) if isinstance(self.control, ipywidgets.Text) else value

    def show_error(self, message: str) -> None:
        """Show what is wrong, or else the help; the help keeps its room, so that nothing moves."""
        hidden = "; visibility: hidden" if message else ""
        error = f'<span style="{ERROR_STYLE}">{html.escape(message)}</span>' if message else ""
        shown = f'<span style="{HELP_STYLE}{hidden}">{self.help}</span>'
        self.note.value = f'<div style="display: grid">{shown}{error}</div>'


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)


def _range_text(schema: dict[str, Any]) -> str:
    """The range in words.

    Examples
    --------
    >>> _range_text({"minimum": 0, "maximum": 1024}), _range_text({"exclusiveMinimum": 0, "exclusiveMaximum": 1})
    (' (0 to 1,024)', ' (above 0, below 1)')
    """
    bounds = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    parts = schema.get("anyOf", [schema])
    limits: dict[str, Any] = next((part for part in parts if any(bound in part for bound in bounds)), {})
    low, above, high, below = (limits.get(bound) for bound in bounds)
    if low is not None and high is not None:
        return f" ({low:,g} to {high:,g})" if low != high else ""
    words = {"at least": low, "above": above, "at most": high, "below": below}
    told = [f"{word} {value:,g}" for word, value in words.items() if value is not None]
    return f" ({', '.join(told)})" if told else ""
