"""A long training with a monitor attached for all of it: memory, open files and the size of the folder over the epochs.

    python tests/robustness/soak.py --epochs 200 --particles 40

Both processes are looked at in /proc every few seconds. A slope is that of the least-squares line through the memory
after a third of the epochs, when caches are full. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

import tomodrgn as td
from tomodrgn.training.job import start_training

SECONDS = 2.0


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def watched(folder: Path, epochs: int, particles: int) -> dict[str, object]:
    """Train, with a monitor open, and what was seen of both."""
    data = td.simulate_particles(folder / "data", n_particles=particles, n_tilts=9, seed=0)
    job = start_training(
        data,
        folder / "run",
        model=td.VaeConfig(z_dim=4, encoder_dim=32, decoder_dim=32, decoder_layers=1, encoder_layers=1, encoder_grid=7),
        training=td.TrainConfig(epochs=epochs),
    )
    monitor = td.widgets.TrainingMonitor(None, folder / "run")
    seen: list[tuple[int, float, float, int, int]] = []
    while job.running:
        monitor.refresh()
        try:
            if done := td.Run(job.folder, {}).epochs:
                trains = memory_mib(job.pid or 0), open_files(job.pid or 0)
                gc.collect()
                seen.append((done[-1], trains[0], memory_mib(os.getpid()), trains[1], open_files(os.getpid())))
        except (FileNotFoundError, ProcessLookupError, IndexError):
            pass  # it has just ended
        time.sleep(SECONDS)
    state = job.wait()
    monitor.close()
    epoch, training, watching, files, own_files = np.array(seen).T
    late = epoch > epochs / 3
    run = td.Run.open(folder / "run")
    sizes = {path.name: size_mb(path) for path in run.folder.iterdir() if path.is_dir()}
    return {
        "state": state,
        "epochs": len(run.epochs),
        "looks": len(seen),
        "training_mib": [round(float(training[late][0]), 1), round(float(training[late][-1]), 1)],
        "training_kib_per_epoch": round(1024 * float(np.polyfit(epoch[late], training[late], 1)[0]), 2),
        "monitor_mib": [round(float(watching[late][0]), 1), round(float(watching[late][-1]), 1)],
        "monitor_kib_per_look": round(1024 * float(np.polyfit(np.arange(late.sum()), watching[late], 1)[0]), 2),
        "open_files_training": [int(files[late].min()), int(files[late].max())],
        "open_files_monitor": [int(own_files[late].min()), int(own_files[late].max())],
        "folder_mb": round(size_mb(run.folder), 2),
        "epochs_mb": round(sizes["epochs"], 2),
        "epoch_mb": round(size_mb(run.epoch_folder()), 4),
        "training_state_mb": round(sizes["training_state"], 4),
    }


def main() -> None:
    """Read the command line, soak, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--particles", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = watched(Path(folder), options.epochs, options.particles)
    for name, value in found.items():
        print(f"{name:28}{value}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
