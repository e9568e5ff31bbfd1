"""Tensors in safetensors files, which a stranger may have written; what is wrong with one is told with its name."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

__all__ = ["load_weights", "read_tensors"]


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Got weights {path}, where there is no file. Restore it, or choose another epoch.")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OSError) as error:
        raise ValueError(
            f"Got weights {path}, expected a safetensors file ({error}). Restore it, or choose another epoch."
        ) from error


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Give a model the weights in a file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or holds the weights of another model.
    """
    tensors = read_tensors(path)
    own = model.state_dict()
    other = sorted(own.keys() ^ tensors.keys()) or sorted(n for n in own if own[n].shape != tensors[n].shape)
    if other:
        raise ValueError(
            f"Got weights {path} of another model than run.json describes, first {other[:3]}, expected those of one "
            "run. Restore the file, or run.json."
        )
    model.load_state_dict(tensors)
