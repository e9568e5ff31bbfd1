"""Where a model is computed: one device, or several processes that share every batch.

Each process (rank) has one device, all read the same particles and draw the same batches; each takes its share of the
particles of every batch, and gradients are summed. So a training on many devices is that on one with the same batches.
Only the first process writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from tomodrgn.config import TrainConfig

__all__ = [
    "default_device",
    "is_first_process",
    "launch",
    "on_first_process",
    "own_share",
    "share_weights",
    "sum_gradients",
    "sum_over_processes",
]


def default_device(device: str | None = None) -> torch.device:
    """The named device; "auto" or None is CUDA where it is there, or the CPU.

    Raises
    ------
    ValueError
        If CUDA is named and torch sees no such device, or torch knows no device of that name.
    """
    if device not in (None, "auto"):
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(
                f"Got accelerator {device!r}, but torch {torch.__version__} sees no CUDA device. Use 'cpu' or 'auto' "
                "(--accelerator), or look whether nvidia-smi shows a device and torch was installed for CUDA."
            )
        try:
            return torch.device(str(device))
        except RuntimeError:
            raise ValueError(f"Got device {device!r}, expected 'cpu', 'cuda' or 'auto'. Choose one of these.") from None
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def launch(config: TrainConfig) -> Fabric:
    """All processes of a training, of which this is one; the others are started unless torchrun or SLURM did.

    Raises
    ------
    ValueError
        If the device is not there, or torchrun or SLURM started another number of processes on a node than `devices`.
    """
    device = default_device(config.accelerator)
    started = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE")
    parallel = config.devices * config.num_nodes > 1
    if started is not None and started.isdecimal() and int(started) not in (1, config.devices):
        raise ValueError(
            f"Got {started} processes on this node and --devices {config.devices}, expected one process for each "
            "device. Give torchrun --nproc-per-node (or srun --ntasks-per-node) and --devices the same number."
        )
    if device.type == "cuda" and config.devices > torch.cuda.device_count():
        raise ValueError(
            f"Got --devices {config.devices}, but torch sees {torch.cuda.device_count()} CUDA devices. Ask for fewer."
        )
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy="ddp" if parallel else "auto",
        precision=_precision(config),
    )
    fabric.launch()
    return fabric


def is_first_process() -> bool:
    """Whether this process is the one that writes and speaks, of those that `launch` joined."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def on_first_process(fabric: Fabric, work: Callable[[], object]) -> None:
    """Do something in the first process, while the others wait; if it fails, they end silently."""
    failed: BaseException | None = None
    if fabric.is_global_zero:
        try:
            work()
        except BaseException as error:
            failed = error
    if sum_over_processes(fabric, torch.tensor(float(failed is not None))) and failed is None:
        raise SystemExit(1)
    if failed is not None:
        raise failed


def own_share(fabric: Fabric, n: int) -> slice:
    """Which of n things in order are this process's."""
    cuts = np.linspace(0, n, fabric.world_size + 1).round().astype(int)
    return slice(int(cuts[fabric.global_rank]), int(cuts[fabric.global_rank + 1]))


def sum_over_processes(fabric: Fabric, values: Tensor) -> Tensor:
    """Sum of a tensor over all processes, in each of them."""
    if fabric.world_size == 1:
        return values
    summed = values.to(fabric.device, copy=True)
    torch.distributed.all_reduce(summed)
    return summed


def sum_gradients(fabric: Fabric, model: nn.Module) -> None:
    """Replace gradients by their sums over all processes; a parameter that none of them used keeps none."""
    if fabric.world_size == 1:
        return
    parameters = [p for p in model.parameters() if p.requires_grad]
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=fabric.device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    summed = sum_over_processes(fabric, torch.cat([used, *(g.flatten() for g in gradients)]))
    used, *parts = summed.split([len(parameters), *(p.numel() for p in parameters)])
    for parameter, part, count in zip(parameters, parts, used.tolist(), strict=True):
        parameter.grad = part.view_as(parameter) if count else None


def share_weights(fabric: Fabric, model: nn.Module) -> None:
    """Give all processes the weights of the first."""
    if fabric.world_size > 1:
        for value in model.state_dict().values():
            torch.distributed.broadcast(value, 0)


def _precision(config: TrainConfig) -> Literal["32-true", "bf16-mixed"]:
    if config.precision != "auto":
        return config.precision
    cuda = torch.cuda.is_available() and config.accelerator != "cpu"
    return "bf16-mixed" if cuda else "32-true"
