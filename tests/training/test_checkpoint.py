"""A process killed at any step of a checkpoint leaves a run that opens, and goes on without gap or double line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tomodrgn as td
from tomodrgn.training.checkpoint import restore_checkpoint, write_checkpoint
from tomodrgn.training.embed import build_model, load_model
from tomodrgn.training.lock import lock_holder
from tomodrgn.training.run import Run
from tomodrgn.training.train import train

SMALL = {
    "model": td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5),
    "preprocess": td.PreprocessConfig(max_radius=0.2),
}
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


@pytest.fixture(scope="module")
def whole(small_particles, tmp_path_factory):
    """A run of two epochs, beside which lie copies of it as it was after the first, and between the two."""
    folder = tmp_path_factory.mktemp("checkpoint") / "whole"

    def copy(state):
        if state.history["epoch"].tolist() == [1] and not (folder.parent / "after one").exists():
            shutil.copytree(folder, folder.parent / "after one")

    run = train(small_particles, folder, training=td.TrainConfig(epochs=2, batch_size=4), progress=copy, **SMALL)
    half = shutil.copytree(folder.parent / "after one", folder.parent / "second without its optimiser")
    shutil.copytree(folder / "epochs/0002", half / "epochs/0002")
    return run


def optimiser_of(model):
    return torch.optim.Adam(model.parameters())


def killed_at(step, run, whole):
    """Write the second epoch in a process that is killed before that step; whether there was such a step."""
    model = load_model(whole, 2)
    optimizer = optimiser_of(model)
    restore_checkpoint(whole, model, optimizer)
    latents, history, seen = whole.latents(), whole.history, []

    def count(event, arguments):
        if event in STEPS and str(run.folder) in str(arguments[0]):
            seen.append(event)
            if len(seen) > step:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        sys.addaudithook(count)
        write_checkpoint(run, 2, model=model, optimizer=optimizer, latents=latents, history=history)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("start", ["after one", "second without its optimiser"])
def test_kill_at_each_step_of_a_checkpoint(whole, small_particles, tmp_path, start):
    wanted = load_file(whole.epoch_folder(2) / "weights.safetensors")
    for step in range(100):
        run = Run.open(shutil.copytree(whole.folder.parent / start, tmp_path / str(step)))
        killed = killed_at(step, run, whole)
        assert len(run.latents()) == len(small_particles)
        assert {*run.history["epoch"]} <= {1, 2}
        load_model(run)
        resumed = train(small_particles, run.folder, resume=True)
        assert (resumed.epochs, resumed.history["epoch"].tolist()) == ([1, 2], [1, 2]), step
        columns = ["reconstruction", "kl", "total"]
        assert resumed.history[columns].equals(whole.history[columns])
        again = load_file(resumed.epoch_folder(2) / "weights.safetensors")
        assert all(torch.equal(again[name], value) for name, value in wanted.items()), step
        assert (run.folder / "training_state/0002.safetensors").exists()
        if not killed:
            break
    assert 10 < step < 99, "the steps were counted"


def test_kill_in_the_first_epoch(whole, small_particles, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    for name in ("epochs", "training_state"):
        shutil.rmtree(folder / name)
    (folder / "history.csv").unlink()
    again = train(small_particles, folder, resume=True)
    np.testing.assert_array_equal(again.latents().mu, whole.latents().mu)
    assert again.history["reconstruction"].equals(whole.history["reconstruction"])


def test_epochs_are_ordered_as_numbers(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    for name in ("9999", "10000"):
        shutil.copytree(folder / "epochs/0002", folder / "epochs" / name)
        shutil.copy(folder / "training_state/0002.safetensors", folder / "training_state" / f"{name}.safetensors")
    run = Run.open(folder)
    assert run.epochs == [1, 2, 9999, 10000]
    model = build_model(run)
    assert restore_checkpoint(run, model, optimiser_of(model)) == 10000


def test_epochs_without_their_optimiser_are_not_trained_over(whole, small_particles, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    shutil.rmtree(folder / "training_state")
    with pytest.raises(ValueError, match=r"no optimiser state .* start another run"):
        train(small_particles, folder, training=td.TrainConfig(epochs=3), resume=True)
    assert Run.open(folder).epochs == [1, 2]
    assert Run.open(folder).history["epoch"].tolist() == [1, 2]


# Trains in a process of its own for each line that it reads, without the seconds that it takes to import torch.
TRAINER = """
import os, sys
import tomodrgn as td
from tomodrgn.training.train import train

particles = td.read_particles(sys.argv[1])
model = td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5)
options = {"model": model, "preprocess": td.PreprocessConfig(max_radius=0.2)}
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        more = {"resume": True} if "resume" in line else options
        train(particles, sys.argv[2], training=td.TrainConfig(epochs=100_000, batch_size=4), **more)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_process_killed_at_random_moments(small_particles, tmp_path):
    folder, moments = tmp_path / "run", np.random.default_rng(1).uniform(0, 0.8, 20)
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(small_particles.source.path), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as trainer:
        for number, moment in enumerate(moments):
            print("resume" if (folder / "run.json").exists() else "start", file=trainer.stdin, flush=True)
            child, end = int(trainer.stdout.readline()), time.monotonic() + 60
            # The first dies soon after there is a folder, the others in the midst of their epochs.
            while not (Run(folder, {}).status.get("pid") == child if number else folder.exists()):
                assert time.monotonic() < end
                time.sleep(0.005)
            time.sleep(moment if number else moment / 4)
            os.kill(child, signal.SIGKILL)
            assert int(trainer.stdout.readline()) == -signal.SIGKILL
            assert lock_holder(folder) is None
            if number:
                opened_whole(folder, small_particles)
        trainer.stdin.close()
    run = Run.open(folder)
    last = run.epochs[-1]
    assert last >= 5
    run = run.with_training(run.train_config.model_copy(update={"epochs": last + 1}))
    finished = train(small_particles, folder, resume=True)
    assert finished.history["epoch"].tolist() == finished.epochs == list(range(1, last + 2))


def opened_whole(folder: Path, particles) -> None:
    """The run opens, its last epoch is whole, and its history has every finished epoch once."""
    run = Run.open(folder)
    assert len(run.particles) == len(particles)
    if run.epochs:
        assert np.isfinite(run.latents().aligned_to(particles.particle_id).mu).all()
        load_model(run)
        done = run.history["epoch"].tolist()
        assert done == list(range(1, len(done) + 1))
        assert len(done) in (len(run.epochs), len(run.epochs) - 1)
