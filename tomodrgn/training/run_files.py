"""The small files of a run folder that anyone may have written: read, checked, and told what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tomodrgn.config import (
    Config,
    LinearConfig,
    PreprocessConfig,
    PublishedConfig,
    TrainConfig,
    VaeConfig,
    fault_of_options,
)
from tomodrgn.io.fault import FaultError
from tomodrgn.particles.read_options import ReadOptions

__all__ = [
    "FIRST_OPTIONS",
    "FORMAT",
    "HISTORY_COLUMNS",
    "MODELS",
    "VERSION",
    "given_options",
    "kind_of",
    "read_history",
    "read_options",
    "read_settings",
    "read_status",
]

FORMAT, VERSION = "tomodrgn-run", 1
# What the first runs of version 1 kept of the options, beside `datadir`.
FIRST_OPTIONS = ("dialect", "ctf_premultiplied", "dose_weighted", "invert")
HISTORY_COLUMNS = ["epoch", "split", "reconstruction", "kl", "total", "beta", "learning_rate", "seconds"]
MODELS: dict[str, Any] = {"vae": VaeConfig, "linear": LinearConfig, "published": PublishedConfig}


def read_settings(path: Path) -> dict[str, Any]:
    """The content of run.json, of which every part that a run needs is there and of its kind.

    Raises
    ------
    ValueError
        If the file is damaged, or was written by a later version of the format.
    """
    try:
        settings = _json(path)
        kind, version = settings["format"], int(settings["version"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"Got {path}, expected a tomodrgn run description ({error}). Restore that file.") from error
    if kind != FORMAT or version > VERSION:
        raise ValueError(
            f"Got {path} of format {kind!r} version {version}, expected {FORMAT!r} up to version {VERSION}. "
            "Update tomodrgn."
        )
    fault = _fault(settings)
    if fault:
        raise ValueError(f"Got {path} with {fault}. Restore that file, or update tomodrgn if a later version wrote it.")
    return settings


def read_options(source: dict[str, Any]) -> ReadOptions:
    """How the particles of a run are read, by the part `source` of run.json."""
    return ReadOptions.from_settings(source.get("options") or {name: source[name] for name in FIRST_OPTIONS})


def given_options(source: dict[str, Any]) -> ReadOptions:
    """What the user gave of these, apart from what the files say; runs of before did not tell them apart."""
    return ReadOptions.from_settings(source["given"]) if "given" in source else read_options(source)


def read_status(path: Path) -> dict[str, Any]:
    """What the training process last said of itself; empty if it never began.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    try:
        return _json(path)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"Got {path}, expected the status of a training ({error}). Remove that file.") from error


def read_history(path: Path) -> pd.DataFrame:
    """Losses of every finished epoch; empty before the first.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    if not path.is_file():
        return pd.DataFrame(columns=HISTORY_COLUMNS)
    try:
        history = pd.read_csv(path)
        missing = [name for name in HISTORY_COLUMNS if name not in history]
        numbers = history.drop(columns=["split", *missing], errors="ignore")
        words = [str(name) for name in numbers if not pd.api.types.is_numeric_dtype(numbers[name])]
        if missing or (words and len(history)):
            raise FaultError(f"without {', '.join(missing)}" if missing else f"words in {', '.join(words)}")
    except ValueError as error:  # of pandas, too: its own errors are ValueErrors
        raise ValueError(f"Got {path}, expected a history of losses ({error}). Restore that file.") from error
    return history


def kind_of(model: Config) -> str:
    """The kind of model that run.json names for these options."""
    return next(kind for kind, config in MODELS.items() if type(model) is config)


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise FaultError(f"it holds a {type(content).__name__}, not names and values")
    return content


def _fault(settings: dict[str, Any]) -> str:
    """What is wrong with the parts of run.json, and what was expected; empty if nothing."""
    parts: dict[str, Any] = {name: settings.get(name) for name in ("model", "preprocess", "training", "source")}
    for name, part in parts.items():
        if not isinstance(part, dict):
            return f"{name} {part!r:.60}, expected names and values"
    kind = parts["model"].get("kind", "vae")
    if not isinstance(kind, str) or kind not in MODELS:
        return f"a model of kind {kind!r:.60}, expected one of {', '.join(MODELS)}"
    configs = {"model": MODELS[kind], "preprocess": PreprocessConfig, "training": TrainConfig}
    for name, config in configs.items():
        found = fault_of_options(config, {k: v for k, v in parts[name].items() if (name, k) != ("model", "kind")})
        if found:
            return f"{name}.{found}"
    return _fault_of_numbers(settings) or _fault_of_source(parts["source"])


def _fault_of_numbers(settings: dict[str, Any]) -> str:
    for name, whole in (("scale", False), ("pixel_size_angst", False), ("n_tilts", True), ("box_px", True)):
        value = settings.get(name)
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or not 0 < value < np.inf:  # type: ignore[operator]
            return f"{name} {value!r:.60}, expected a {'whole ' if whole else ''}number above 0"
    box = settings["box_px"]
    return f"box_px {box}, expected an even number up to 65536" if box % 2 or box > 65536 else ""


def _fault_of_source(source: dict[str, Any]) -> str:
    for name in ("path", "sha256"):
        if not isinstance(source.get(name), str):
            return f"source.{name} {source.get(name)!r:.60}, expected text"
    folders = source.get("datadir")
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        return f"source.datadir {folders!r:.60}, expected a list of folders"
    try:
        read_options(source)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return f"source.options that cannot be read ({error}), expected those of read_particles"
    box = source.get("stack_box_px")
    return "" if box is None or (isinstance(box, int) and box > 0) else f"source.stack_box_px {box!r:.60}, expected px"
