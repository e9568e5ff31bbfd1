"""A disk that fills up ends a training with one clear line; what was finished is whole, and goes on from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Trains until the disk is full, then looks at what is there, makes room, and goes on for one epoch. A disk of 4 MB
# needs a mount, which a container may refuse; files that are limited in size fail as well, in midst of being written.
SCRIPT = """
import json, resource, subprocess, sys
from pathlib import Path
import numpy as np

particles, place = sys.argv[1], Path(sys.argv[2])
folder, ballast = place / "run", place / "ballast"
model = ["--z-dim", "2", "--encoder-dim", "16", "--decoder-dim", "16", "--decoder-layers", "1"]
model += ["--encoder-layers", "1", "--encoder-grid", "5", "--max-radius", "0.2"]
command = ["train", particles, str(folder), *model, "--batch-size", "4"]
mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
mounted = sys.argv[3] == "small disk" and subprocess.run(mount, capture_output=True).returncode == 0

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.training.embed import load_model

if mounted:
    ballast.write_bytes(bytes(1 << 20))
else:
    run_command([*command, "--epochs", "3"])
    largest = max(path.stat().st_size for path in (folder / "training_state").iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 4096, resource.RLIM_INFINITY))
    command.append("--resume")
code = run_command([*command, "--epochs", "100000"])
run = td.Run.open(folder)
found = {"code": code, "epochs": run.epochs, "history": run.history["epoch"].tolist(), "state": run.status["state"]}
found["finite"] = bool(np.isfinite(run.latents().mu).all())
load_model(run)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ballast.unlink(missing_ok=True)
run.with_training(run.train_config.model_copy(update={"epochs": run.epochs[-1] + 1}))
found["resumed"] = td.train(td.read_particles(particles), folder, resume=True).epochs
print(json.dumps(found))
"""
IN_NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def may_have_mounts() -> bool:
    """Whether a process may have mounts of its own here."""
    try:
        return subprocess.run([*IN_NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kind", ["small disk", "small files"])
def test_full_disk(small_particles, tmp_path, kind):
    before = IN_NAMESPACE if kind == "small disk" and may_have_mounts() else []
    done = subprocess.run(
        [*before, sys.executable, "-c", SCRIPT, str(small_particles.source.path), str(tmp_path), kind],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["code"], found["state"], found["finite"]) == (1, "failed", True)
    assert "Got a disk that could not be written to for run" in done.stderr
    assert "are whole: make room, then go on with --resume." in done.stderr
    assert "Traceback" not in done.stderr
    last = found["epochs"][-1]
    assert last >= 3
    assert found["history"] in (found["epochs"], found["epochs"][:-1])
    assert found["resumed"] == list(range(1, last + 2))
