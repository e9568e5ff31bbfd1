"""What the benchmarks share: the machine in words, the matrix-product peak, a table, a JSON file."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import torch


def machine() -> str:
    """The processors and versions that a result depends on."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
        names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
        device = (
            f"{names[0] if names else platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
        )
    return f"{device}; torch {torch.__version__}, Python {platform.python_version()}"


def synchronise(device: torch.device) -> None:
    """Wait for a device to have done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, width: int, *, rows: int = 2048, seconds: float = 0.05) -> float:
    """Floating-point operations a second of (rows, width) @ (width, width), in float32, or bfloat16 on CUDA."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a = torch.randn(rows, width, device=device, dtype=dtype)
    b = torch.randn(width, width, device=device, dtype=dtype)
    for _ in range(5):
        a @ b
    synchronise(device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(5):
            a @ b
        synchronise(device)
        count += 5
    return 2 * rows * width * width * count / (time.perf_counter() - began)


def matmul_peak(device: torch.device, width: int, seconds: float = 1.0) -> float:
    """Best of `matmul_rate` over several row counts."""
    counts = (1024, 2048, 4096, 8192, 65_536)
    return max(matmul_rate(device, width, rows=rows, seconds=seconds / len(counts)) for rows in counts)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A table with one line a row; all have the same columns."""
    cells = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(rows[0], *cells, strict=True)]
    for line in (list(rows[0]), *cells):
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


def write_json(path: Path, **content: Any) -> None:
    """The machine and what was measured on it."""
    path.write_text(json.dumps({"machine": machine(), **content}, indent=2) + "\n")
