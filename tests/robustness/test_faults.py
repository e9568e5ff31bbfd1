"""Faults in the middle of the work: nothing that was finished is lost, what happened is told, the work can go on."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.particles.dataset import sample_batches
from tomodrgn.particles.preprocess import Preprocessor
from tomodrgn.training.batch_parts import BatchParts
from tomodrgn.training.clean import clean_run
from tomodrgn.training.embed import load_model
from tomodrgn.training.job import TrainingJob, start_training
from tomodrgn.training.run_facts import describe_run
from tomodrgn.training.step import draw_noise, training_step

OPTIONS = {
    "model": td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5),
    "preprocess": td.PreprocessConfig(max_radius=0.2),
}
COLUMNS = ["epoch", "split", "reconstruction", "kl", "total"]


def training(epochs: int, **options: object) -> td.TrainConfig:
    return td.TrainConfig(epochs=epochs, batch_size=4, **options)


@pytest.fixture
def particles(tmp_path: Path) -> td.ParticleSet:
    """A data set whose files may be spoilt."""
    return td.simulate_particles(tmp_path / "data", n_particles=8, n_tilts=5, box_px=16, seed=3)


@pytest.fixture(scope="module")
def whole(small_particles, tmp_path_factory: pytest.TempPathFactory) -> td.Run:
    return td.train(small_particles, tmp_path_factory.mktemp("whole") / "run", training=training(21), **OPTIONS)


# --- disks and folders ------------------------------------------------------------------------------------------------


def test_images_that_vanish_in_mid_epoch(particles: td.ParticleSet, tmp_path: Path, capsys) -> None:
    """A disk that is unplugged: the epochs before are whole, and with the disk back the training goes on."""
    stack = particles.stack_paths[-1]
    away = stack.with_suffix(".away")

    def unplug(progress: td.training.train.TrainProgress) -> None:
        if progress.epoch == 2 and progress.batch == 1:
            stack.rename(away)

    config = training(3, cache=False)
    with pytest.raises((FileNotFoundError, OSError), match=stack.name) as caught:
        td.train(particles, tmp_path / "run", training=config, progress=unplug, **OPTIONS)
    assert str(caught.value).startswith("Got ")
    run = td.Run.open(tmp_path / "run")
    assert (run.epochs, run.status["state"]) == ([1], "failed")
    assert stack.name in run.status["error"]
    code = run_command(["train", str(particles.source.path), str(run.folder), "--resume"])
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error
    away.rename(stack)
    assert td.train(particles, run.folder, resume=True).epochs == [1, 2, 3]


def test_stack_that_shrinks_in_mid_epoch(particles: td.ParticleSet, tmp_path: Path) -> None:
    """A stack that is being written again: no crash of the process by a memory map, but an error."""
    stack = particles.stack_paths[0]
    data = stack.read_bytes()

    def cut(progress: td.training.train.TrainProgress) -> None:
        if progress.epoch == 2 and progress.batch == 1:
            stack.write_bytes(data[:1500])

    with pytest.raises(ValueError, match=rf"Got .*{stack.name} of 1500 bytes"):
        td.train(particles, tmp_path / "run", training=training(3, cache=False), progress=cut, **OPTIONS)
    assert td.Run.open(tmp_path / "run").epochs == [1]


def test_run_folder_that_is_moved_while_it_is_trained(particles: td.ParticleSet, tmp_path: Path) -> None:
    folder, moved = tmp_path / "run", tmp_path / "moved"

    def move(progress: td.training.train.TrainProgress) -> None:
        if progress.epoch == 2 and progress.batch == 2 and folder.exists():
            folder.rename(moved)

    with pytest.raises(OSError, match="run"):
        td.train(particles, folder, training=training(3), progress=move, **OPTIONS)
    run = td.Run.open(moved)
    assert run.epochs == [1]
    assert np.isfinite(run.latents().mu).all()
    assert td.train(particles, moved, resume=True, training=training(3)).epochs == [1, 2, 3]


def test_run_folder_that_is_moved_while_it_is_watched(small_particles, whole: td.Run, tmp_path: Path) -> None:
    job = TrainingJob.attach(tmp_path / "nowhere")
    assert (job.state, job.status, job.log()) == ("none", {}, "")
    monitor = td.widgets.TrainingMonitor(None, whole.folder)
    moved = whole.folder.with_name("moved")
    whole.folder.rename(moved)
    try:
        monitor.refresh()
    finally:
        moved.rename(whole.folder)
        monitor.close()


def test_output_that_cannot_be_written(small_particles, tmp_path: Path, capsys) -> None:
    """A file in place of the folder, which root may not write into either."""
    (tmp_path / "file").write_text("mine")
    star = str(small_particles.source.path)
    place = f"{tmp_path}/file"
    for command in (["train", star, f"{place}/run"], ["backproject", star, f"{place}/maps"],
                    ["filter", star, f"{place}/out.star", "--random-subset", "1"], ["simulate", f"{place}/made"],
                    ["info", star, "--ids", f"{place}/ids.csv"]):  # fmt: skip
        assert run_command(command) in (1, 2)
        error = capsys.readouterr().err
        assert "Traceback" not in error, error
        assert "file" in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


READ_ONLY = """
import subprocess, sys
place = sys.argv[1]
for command in (["mount", "--bind", place, place], ["mount", "-o", "remount,ro,bind", place]):
    subprocess.run(command, check=True)
from tomodrgn.cli import run_command
codes = [run_command(words) for words in (
    ["train", sys.argv[2], place + "/run", "--epochs", "1"], ["train", sys.argv[2], place + "/old", "--resume"],
    ["info", place + "/old"], ["generate", place + "/old", sys.argv[3] + "/maps", "--kmeans", "2"],
    ["clean", place + "/old", "--last", "1"],
)]
print(codes)
"""


def test_folder_on_a_disk_that_is_read_only(small_particles, whole: td.Run, tmp_path: Path) -> None:
    """Reading works, writing is refused in a line."""
    from tests.training.test_full_disk import IN_NAMESPACE, may_have_mounts

    if not may_have_mounts():
        pytest.skip("Mounts of its own are refused to this process.")
    place, out = tmp_path / "place", tmp_path / "out"
    place.mkdir()
    subprocess.run(["cp", "-r", whole.folder, place / "old"], check=True)
    done = subprocess.run(
        [*IN_NAMESPACE, sys.executable, "-c", READ_ONLY, place, str(small_particles.source.path), out],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes[2:4] == [0, 0]
    assert all(codes[i] in (1, 2) for i in (0, 1, 4)), codes
    assert "Traceback" not in done.stderr
    assert done.stderr.count("ead-only file system") >= 3
    assert len(list((place / "old/epochs").iterdir())) == 21


# --- processes and clocks ---------------------------------------------------------------------------------------------


def test_two_processes_on_one_run(small_particles, tmp_path: Path) -> None:
    """The second is refused in a line, and the first is not disturbed."""
    job = start_training(small_particles, tmp_path / "run", training=training(400), **OPTIONS)
    try:
        until(lambda: td.Run(job.folder, {}).epochs, "a first epoch")
        with pytest.raises(BlockingIOError, match=f"process {job.pid}"):
            td.train(small_particles, tmp_path / "run", resume=True)
        with pytest.raises(BlockingIOError, match=f"process {job.pid}"):
            clean_run(tmp_path / "run", last=1)
        assert job.running
        job.stop()
        assert job.wait(60.0) == "stopped"
    finally:
        if job.running:
            job.kill()
    run = td.Run.open(tmp_path / "run")
    assert run.history["epoch"].tolist() == run.epochs


def until(question: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 120
    while not question():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_training_survives_the_interpreter_that_started_it(small_particles, tmp_path: Path) -> None:
    """The kernel of a notebook is killed: the training goes on, and another kernel finds and stops it."""
    code = (
        "import sys, os, time, tomodrgn as td\n"
        "particles = td.read_particles(sys.argv[1])\n"
        "job = td.start_training(particles, sys.argv[2], model=td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16),"
        " preprocess=td.PreprocessConfig(max_radius=0.2), training=td.TrainConfig(epochs=400, batch_size=4))\n"
        "print(job.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    kernel = subprocess.Popen(
        [sys.executable, "-c", code, str(small_particles.source.path), str(tmp_path / "run")],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    pid = int(kernel.stdout.readline())
    os.killpg(kernel.pid, 9)
    kernel.wait()
    job = TrainingJob.attach(tmp_path / "run")
    try:
        assert job.pid == pid
        until(lambda: td.Run(job.folder, {}).epochs, "an epoch after the kernel's end")
        job.stop()
        assert job.wait(60.0) == "stopped"
    finally:
        if job.running:
            job.kill()


def test_clock_that_jumps_back(small_particles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are for people only: a training under a clock that runs backwards is the same, and so is its resume."""
    one = td.train(small_particles, tmp_path / "one", training=training(3), **OPTIONS)
    now = [time.time()]

    def back() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", back)
    td.train(small_particles, tmp_path / "other", training=training(2), **OPTIONS)
    other = td.train(small_particles, tmp_path / "other", training=training(3), resume=True)
    monkeypatch.undo()
    np.testing.assert_array_equal(one.latents().mu, other.latents().mu)
    assert (other.history["seconds"] >= 0).all()
    assert describe_run(other)["state"] == "finished"


def test_twenty_stops_and_resumes_equal_an_uninterrupted_run(small_particles, whole: td.Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for cycle in range(1, 21):
        told: list[int] = []  # after two batches or three, in the midst of an epoch or at its end
        run = td.train(small_particles, folder, training=training(21), resume=cycle > 1,
                       progress=lambda progress, told=told: told.append(progress.batch),
                       should_stop=lambda told=told, cycle=cycle: len(told) >= 2 + cycle % 2,
                       **(OPTIONS if cycle == 1 else {}))  # fmt: skip
        assert run.status["state"] == "stopped", cycle
    run = td.train(small_particles, folder, resume=True)
    assert run.epochs == list(range(1, 22))
    np.testing.assert_array_equal(run.latents().mu, whole.latents().mu)
    for name, value in load_model(run).state_dict().items():
        assert torch.equal(value, load_model(whole).state_dict()[name]), name
    assert run.history[COLUMNS].equals(whole.history[COLUMNS])


# --- memory -----------------------------------------------------------------------------------------------------------


class Short:
    """A training step on a machine that has room for so many particles at once."""

    def __init__(self, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.most, self.error, self.sizes = most, error, []

    def __call__(self, fabric, model, batch, config, **options):
        self.sizes.append(batch.n_particles)
        if batch.n_particles > self.most:
            training_step(fabric, model, batch, config, **options)  # gradients of the failed try must not count
            raise self.error("CUDA out of memory. Tried to allocate 20 GiB.")
        return training_step(fabric, model, batch, config, **options)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_gradients_of_parts_are_those_of_the_batch(small_particles, whole: td.Run, error, split, caplog) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    config = td.TrainConfig(split_tilts=split)
    preprocessor = Preprocessor(small_particles, OPTIONS["preprocess"], scale=whole.settings["scale"])
    batch = next(iter(preprocessor.batches(sample_batches(small_particles, 11))))
    counts = torch.bincount(batch.owner).tolist()

    def gradients(most: int) -> tuple[dict, object, BatchParts, Short]:
        model, parts, step = load_model(whole), BatchParts(fabric), Short(most, error)
        noise = draw_noise(counts, 2, torch.Generator().manual_seed(1))
        loss = parts(step, model, batch, config, beta=0.1, noise=noise)
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, loss, parts, step

    wanted, whole_loss, _, _ = gradients(11)
    found, loss, parts, step = gradients(3)
    assert (parts.parts, step.sizes) == (4, [11, 6, 3, 3, 2, 3])
    for name in ("reconstruction", "kl", "total"):
        torch.testing.assert_close(getattr(loss, name), getattr(whole_loss, name), rtol=1e-5, atol=1e-7)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=2e-4, atol=1e-6)
    assert caplog.text.count("batches are taken in 4 parts from now on") == 1
    assert parts(step, load_model(whole), batch, config, beta=0.1, noise=draw_noise(
        counts, 2, torch.Generator().manual_seed(1))) is not None  # fmt: skip
    assert max(step.sizes[-4:]) <= 3


def test_training_goes_on_where_memory_is_short(small_particles, tmp_path: Path, monkeypatch, caplog) -> None:
    step = Short(1)
    monkeypatch.setattr("tomodrgn.training.train.training_step", step)
    short = td.train(small_particles, tmp_path / "short", training=training(2), **OPTIONS)
    monkeypatch.undo()
    usual = td.train(small_particles, tmp_path / "usual", training=training(2), **OPTIONS)
    assert step.sizes.count(4) == 1
    assert step.sizes.count(1) == 2 * 12
    np.testing.assert_allclose(short.latents().mu, usual.latents().mu, atol=0.02)
    np.testing.assert_allclose(short.history["total"], usual.history["total"], rtol=1e-3)


def test_no_room_for_one_particle_is_told(small_particles, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("tomodrgn.training.train.training_step", Short(0))
    with pytest.raises(MemoryError, match=r"Got no memory for a batch of one particle .*--points-per-chunk"):
        td.train(small_particles, tmp_path / "run", training=training(1), **OPTIONS)
    assert td.Run.open(tmp_path / "run").status["state"] == "failed"
    assert run_command(["train", str(small_particles.source.path), str(tmp_path / "run"), "--overwrite"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_other_errors_are_not_taken_for_it(small_particles, tmp_path: Path, monkeypatch, caplog) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("tomodrgn.training.train.training_step", broken)
    with caplog.at_level(logging.WARNING), pytest.raises(RuntimeError, match="shapes do not fit"):
        td.train(small_particles, tmp_path / "run", training=training(1), **OPTIONS)
    assert "no memory" not in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="There is a CUDA device.")
def test_cuda_that_is_not_there(small_particles, tmp_path: Path, capsys) -> None:
    star, out = str(small_particles.source.path), tmp_path / "run"
    for command in (["train", star, str(out)], ["train", star, str(out), "--model", "linear"]):
        assert run_command([*command, "--accelerator", "cuda"]) == 2
        error = capsys.readouterr().err
        assert "Got " in error
        assert "CUDA" in error or "cuda" in error
    assert not out.exists()
