"""Where a model is computed."""

from __future__ import annotations

import torch

__all__ = ["default_device"]


def default_device(device: str | None = None) -> torch.device:
    """The named device; "auto" or None is CUDA where it is there, or the CPU.

    Raises
    ------
    ValueError
        If CUDA is named and torch sees no such device.
    """
    if device not in (None, "auto"):
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(
                f"Got accelerator {device!r}, but torch {torch.__version__} sees no CUDA device. Use 'cpu' or 'auto' "
                "(--accelerator), or look whether nvidia-smi shows a device and torch was installed for CUDA."
            )
        return torch.device(str(device))
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
