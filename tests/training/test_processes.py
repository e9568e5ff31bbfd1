"""Two processes that share every batch train as one does."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.torch import load_file

import tomodrgn as td
from tests.training.test_train import SMALL
from tomodrgn.training.lock import lock_holder

SIZES = ["--z-dim", "2", "--encoder-dim", "16", "--decoder-dim", "16", "--decoder-layers", "1", "--encoder-layers", "1"]
SMALL_MODEL = [*SIZES, "--encoder-grid", "5", "--max-radius", "0.2"]
LOSSES = ["reconstruction", "kl", "total"]


def run_command(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "tomodrgn", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.fixture(scope="module")
def one(small_particles, tmp_path_factory):
    """Two epochs in one process; batches of 5, 5 and 2 particles."""
    config = td.TrainConfig(epochs=2, batch_size=5, held_out_fraction=0.3)
    return td.train(small_particles, tmp_path_factory.mktemp("one") / "run", training=config, **SMALL)


@pytest.mark.parametrize("gib", [4, 0])
def test_two_processes_are_as_good_as_one(one, small_particles, tmp_path, gib):
    options = ["--epochs", 2, "--batch-size", 5, "--held-out-fraction", 0.3, "--accelerator", "cpu", "--cache-gib", gib]
    done = run_command("train", small_particles.source.path, tmp_path / "run", *SMALL_MODEL, *options, "--devices", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tomodrgn generate") <= 1, "one process speaks"
    run = td.Run.open(tmp_path / "run")
    np.testing.assert_allclose(run.history[LOSSES], one.history[LOSSES], rtol=1e-5)
    np.testing.assert_allclose(run.latents().mu, one.latents().mu, atol=1e-4)
    other = load_file(run.epoch_folder() / "weights.safetensors")
    for name, value in load_file(one.epoch_folder() / "weights.safetensors").items():
        np.testing.assert_allclose(other[name], value, atol=2e-4, err_msg=name)
    assert run.status["state"] == "finished"
    assert not [p for p in run.folder.iterdir() if p.name.startswith(".")]


def test_started_by_torchrun_stopped_and_resumed_by_one(one, small_particles, tmp_path):
    options = ["--epochs", 1, "--batch-size", 5, "--held-out-fraction", 0.3, "--accelerator", "cpu", "--devices", 2]
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = run_command(
        "train", small_particles.source.path, tmp_path / "run", *SMALL_MODEL, *options, launcher=launcher
    )
    assert done.returncode == 0, done.stderr
    config = td.TrainConfig(epochs=2)
    run = td.train(small_particles, tmp_path / "run", training=config, resume=True)
    np.testing.assert_allclose(run.history[LOSSES], one.history[LOSSES], rtol=1e-5)


def test_two_processes_embed_and_decode_as_one_does(one, small_particles, tmp_path):
    for devices in (1, 2):
        options = ["--accelerator", "cpu", "--devices", devices]
        for command in (
            ["embed", one.folder, small_particles.source.path, tmp_path / f"{devices}.npz"],
            ["generate", one.folder, tmp_path / str(devices), "--kmeans", 5, "--lowpass-angst", 40, "--flip"],
        ):
            done = run_command(*command, *options)
            assert done.returncode == 0, done.stderr
            assert done.stdout.count("wrote") == 1
    first, second = (td.Latents.load(tmp_path / f"{devices}.npz") for devices in (1, 2))
    np.testing.assert_allclose(first.mu, second.mu, atol=1e-5)
    first, second = (td.VolumeStack.open(tmp_path / str(devices)) for devices in (1, 2))
    assert first.names == second.names
    assert first.maps.std() > 0
    np.testing.assert_allclose(first.maps, second.maps, atol=1e-5)


def test_error_of_one_process_ends_all_with_one_message(small_particles, tmp_path):
    options = ["--epochs", 1, "--accelerator", "cpu", "--devices", 2, "--start-from", tmp_path / "nowhere"]
    done = run_command("train", small_particles.source.path, tmp_path / "run", *SMALL_MODEL, *options)
    assert done.returncode == 2
    assert done.stderr.count("Got run") == 1
    assert not (tmp_path / "run").exists()
    assert lock_holder(tmp_path / "run") is None


def test_torchrun_with_another_number_of_devices_is_refused(small_particles, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = run_command("train", small_particles.source.path, tmp_path / "run", *SMALL_MODEL, launcher=launcher)
    assert done.returncode
    assert "Got 2 processes on this node and --devices 1" in done.stderr
    assert not (tmp_path / "run").exists()
