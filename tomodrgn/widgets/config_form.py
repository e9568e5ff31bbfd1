"""A form for any configuration, and the configuration it holds."""

from __future__ import annotations

from typing import Any, TypeVar

import ipywidgets
import traitlets

from tomodrgn.config import Config, LinearConfig, PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.training.command import command_line, training_verb
from tomodrgn.widgets.in_place import command_shown
from tomodrgn.widgets.option_row import OptionRow

__all__ = ["ConfigForm"]

AnyConfig = TypeVar("AnyConfig", bound=Config)

# Options shown first; all others are folded away.
ESSENTIALS = ("z_dim", "n_components", "epochs", "batch_size", "max_radius", "seed")
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
    arguments
        Particles and run folder of the command, and flags of reading; a TrainingMonitor fills in its own.
    command
        The line for a shell that trains with these options; empty while one of them is wrong.

    Examples
    --------
    >>> form = ConfigForm(VaeConfig(z_dim=4), TrainConfig)
    >>> form.set(epochs=12)
    >>> form.value(VaeConfig).z_dim, form.value(TrainConfig).epochs
    (4, 12)
    >>> form.command
    'tomodrgn train PARTICLES.star RUN --z-dim 4 --epochs 12'
    """

    configs = traitlets.Tuple()
    errors = traitlets.Dict()
    arguments = traitlets.Tuple(("PARTICLES.star", "RUN"))
    command = traitlets.Unicode(read_only=True)

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
        line = ipywidgets.HTML()
        line.add_class("tomodrgn-command")
        super().__init__([*first, self.accordion, line], configs=present)
        ipywidgets.dlink((self, "command"), (line, "value"), self._command_shown)

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

    @property
    def chosen(self) -> tuple[Config | None, PreprocessConfig | None, TrainConfig | None]:
        """Options of model, preprocessing and training, those of a linear model before others; None if not asked for.

        Raises
        ------
        ValueError
            If an option is wrong; the message names it.
        """
        kinds = {type(config) for config in self.configs}
        model = next((self.value(kind) for kind in (LinearConfig, VaeConfig) if kind in kinds), None)
        preprocess = self.value(PreprocessConfig) if PreprocessConfig in kinds else None
        return model, preprocess, self.value(TrainConfig) if TrainConfig in kinds else None

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
        self.configs = tuple(configs)
        self.errors = errors

    @traitlets.observe("arguments", "configs", "errors")
    def _write_command(self, change: dict | None = None) -> None:
        line = "" if self.errors else command_line(training_verb(self.arguments, *self.chosen))
        self.set_trait("command", line)

    def _command_shown(self, command: str) -> str:
        return command_shown(command or f"correct first: {', '.join(self.errors)}")
