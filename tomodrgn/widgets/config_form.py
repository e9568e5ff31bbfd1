"""A form for any configuration, and the configuration it holds."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, TypeVar

import ipywidgets
import traitlets

from tomodrgn.config import Config, PreprocessConfig, TrainConfig, VaeConfig

__all__ = ["ConfigForm"]

AnyConfig = TypeVar("AnyConfig", bound=Config)

# Options shown first; all others are folded away.
ESSENTIALS = ("z_dim", "epochs", "batch_size", "max_radius", "seed")
FOLDS = {"PreprocessConfig": "Preprocessing", "VaeConfig": "Model", "LinearConfig": "Model", "TrainConfig": "Training"}


class ConfigForm(ipywidgets.VBox):
    """A form made from configuration classes: names, help, ranges and defaults are theirs.

    Parameters
    ----------
    *configs
        Configurations to begin with, or their classes for the defaults; none given: all three of a training.

    Attributes
    ----------
    configs
        The configurations as they are now, in the order given. Where an option is wrong, that configuration is the
        last right one.
    errors
        What is wrong: option name to message; empty when all is well.

    Examples
    --------
    >>> form = ConfigForm(VaeConfig(z_dim=4), TrainConfig)
    >>> form.set(epochs=12)
    >>> form.value(VaeConfig).z_dim, form.value(TrainConfig).epochs
    (4, 12)
    """

    configs = traitlets.Tuple()
    errors = traitlets.Dict()

    def __init__(self, *configs: Config | type[Config]) -> None:
        given = configs or (VaeConfig, TrainConfig, PreprocessConfig)
        present = tuple(config() if isinstance(config, type) else config for config in given)
        kinds = [type(config) for config in present]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"Got {[kind.__name__ for kind in kinds]}, expected each kind of configuration once.")
        self._rows = {
            name: OptionRow(name, schema, getattr(config, name), self._typed)
            for config in present
            for name, schema in config.model_json_schema()["properties"].items()
        }
        first = [row for name, row in self._rows.items() if name in ESSENTIALS]
        folds = []
        for kind in kinds:
            rows = [self._rows[name] for name in kind.model_fields if name not in ESSENTIALS]
            folds.append(ipywidgets.VBox(rows))
        titles = tuple(f"{FOLDS.get(kind.__name__, kind.__name__)}: more options" for kind in kinds)
        self.accordion = ipywidgets.Accordion(children=folds, titles=titles, selected_index=None)
        super().__init__([*first, self.accordion], configs=present)

    def value(self, kind: type[AnyConfig]) -> AnyConfig:
        """The configuration of that class, as the form has it now.

        Raises
        ------
        KeyError
            If the form has none of that class.
        ValueError
            If one of its options is wrong; the message names it.
        """
        found = next((config for config in self.configs if isinstance(config, kind)), None)
        if found is None:
            raise KeyError(f"Got {kind.__name__}, expected one of {[type(c).__name__ for c in self.configs]}.")
        wrong = {name: text for name, text in self.errors.items() if name in kind.model_fields}
        if wrong:
            listed = "; ".join(f"{name}: {text}" for name, text in wrong.items())
            raise ValueError(f"Got a form with wrong options ({listed}). Correct them.")
        return found

    def set(self, **options: Any) -> None:
        """Fill in options by name.

        Raises
        ------
        KeyError
            If there is no such option.
        ValueError
            If a value is wrong; the form then shows it.
        """
        unknown = sorted(set(options) - set(self._rows))
        if unknown:
            raise KeyError(f"Got option {unknown[0]!r}, expected one of {sorted(self._rows)}.")
        for name, value in options.items():
            self._rows[name].fill(value)
        wrong = {name: self.errors[name] for name in options if name in self.errors}
        if wrong:
            listed = "; ".join(f"{name}: {text}" for name, text in wrong.items())
            raise ValueError(f"Got wrong options ({listed}). Correct them.")

    def _typed(self) -> None:
        """Make the configurations anew from what the form shows."""
        configs: list[Config] = []
        errors: dict[str, str] = {}
        for config in self.configs:
            kind = type(config)
            try:
                configs.append(kind(**{name: self._rows[name].entry for name in kind.model_fields}))
            except ValueError as error:
                configs.append(config)
                errors |= {str(e["loc"][0]) if e["loc"] else "": e["msg"] for e in error.errors()}  # type: ignore[attr-defined]
        for name, row in self._rows.items():
            row.show_error(errors.get(name, ""))
        self.errors, self.configs = errors, tuple(configs)


class OptionRow(ipywidgets.HBox):
    """Name, control and help of one option; the help gives way to what is wrong with the entry."""

    def __init__(self, name: str, schema: dict[str, Any], value: Any, changed: Callable[[], None]) -> None:
        kinds = {part.get("type") for part in schema.get("anyOf", [schema])}
        self.optional = "null" in kinds
        self.help = html.escape(" ".join(schema.get("description", "").split()) + _range_text(schema))
        layout = ipywidgets.Layout(width="130px")
        self.control: Any
        if "enum" in schema:
            self.control = ipywidgets.Dropdown(options=schema["enum"], value=value, layout=layout)
        elif "boolean" in kinds:
            self.control = ipywidgets.Checkbox(value=value, indent=False, layout=layout)
        else:
            empty = "automatic" if self.optional else ""
            self.control = ipywidgets.Text(value=_as_text(value), placeholder=empty, layout=layout)
        self.control.tooltip = self.help
        self.control.add_class(f"tomodrgn-option-{name}")
        label = ipywidgets.Label(name, layout=ipywidgets.Layout(width="150px"))
        self.note = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 auto"))
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
        """Show what is wrong, or else the help."""
        if message:
            self.note.value = f'<span style="color: var(--jp-error-color1, #c62828)">{html.escape(message)}</span>'
        else:
            self.note.value = f'<span style="color: var(--jp-ui-font-color2, #666); font-size: 90%">{self.help}</span>'


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)


def _range_text(schema: dict[str, Any]) -> str:
    limits: dict[str, Any] = next(
        (part for part in schema.get("anyOf", [schema]) if "minimum" in part or "exclusiveMinimum" in part), {}
    )
    low, above, high = limits.get("minimum"), limits.get("exclusiveMinimum"), limits.get("maximum")
    if above is not None:
        text = f"above {above:g}" + (f", at most {high:,g}" if high is not None else "")
    elif low is not None and high is not None:
        return f" ({low:,g} to {high:,g})" if low != high else ""
    elif low is not None:
        text = f"at least {low:,g}"
    else:
        return ""
    return f" ({text})"
