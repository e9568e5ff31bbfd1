"""Two trainings never share a folder: the second is told who has it, and writes nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.training.job import start_training
from tomodrgn.training.lock import LOCK, LockHolder, hold_run, lock_holder
from tomodrgn.training.run import Run

SMALL = {
    "model": td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5),
    "preprocess": td.PreprocessConfig(max_radius=0.2),
}
TINY = ["--z-dim", "2", "--encoder-dim", "16", "--decoder-dim", "16", "--encoder-layers", "1", "--decoder-layers", "1"]
TINY += ["--encoder-grid", "5", "--max-radius", "0.2", "--batch-size", "4"]


def contents(folder):
    """Every file with its bytes and the time of its last change."""
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def write_lock(folder, **changes):
    """The lock of this process, changed."""
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(json.dumps(asdict(replace(LockHolder.of(os.getpid()), **changes))))


def dead_process():
    """Number and start of a process that has ended."""
    process = subprocess.Popen(["sleep", "60"])
    holder = LockHolder.of(process.pid)
    process.kill()
    process.wait()
    return {"pid": holder.pid, "started": holder.started}


@pytest.fixture
def paused(small_particles, tmp_path, monkeypatch):
    """A training process that stands still after its first epoch."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    training = td.TrainConfig(epochs=3000, batch_size=4)
    job = start_training(small_particles, tmp_path / "run", training=training, **SMALL)
    end = time.monotonic() + 60
    while job.status.get("epoch", 0) < 1 and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGSTOP)
    time.sleep(0.2)
    yield job
    job.kill()
    job.process.wait()


def test_second_training_of_a_folder_is_refused_and_writes_nothing(small_particles, paused, capsys):
    before = contents(paused.folder)
    words = f"is being trained by process {paused.pid} on host {socket.gethostname()}"
    for choice in ("--overwrite", "--resume"):
        options = [*TINY, "--epochs", "3000", choice]
        assert run_command(["train", str(small_particles.source.path), str(paused.folder), *options]) == 2
        assert words in capsys.readouterr().err
    for choice in ({"overwrite": True}, {"resume": True}):
        for start in (td.train, start_training):
            with pytest.raises(BlockingIOError, match=words):
                start(small_particles, paused.folder, **choice)
    assert contents(paused.folder) == before
    # And a process that was killed does not keep the folder.
    os.kill(paused.pid, signal.SIGKILL)
    paused.process.wait()
    epochs = Run.open(paused.folder).epochs[-1] + 1
    assert lock_holder(paused.folder) is None
    again = start_training(small_particles, paused.folder, overwrite=True, training=td.TrainConfig(epochs=1), **SMALL)
    assert again.wait(180.0) == "finished"
    assert epochs >= 2
    assert Run.open(paused.folder).epochs == [1]
    assert not (paused.folder / LOCK).exists()


def test_of_two_that_start_at_once_one_goes_on_and_stops_when_asked(small_particles, tmp_path):
    command = [sys.executable, "-m", "tomodrgn", "train", str(small_particles.source.path), str(tmp_path / "run")]
    command += [*TINY, "--epochs", "3000", "--overwrite"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        end = time.monotonic() + 60
        while all(process.poll() is None for process in both) and time.monotonic() < end:
            time.sleep(0.05)
        first, second = sorted(both, key=lambda process: process.poll() is not None)
        assert (first.poll(), second.poll()) == (None, 2)
        assert f"by process {first.pid} on host {socket.gethostname()}" in second.stderr.read().decode()
        while not (tmp_path / "run/history.csv").exists() and time.monotonic() < end:
            time.sleep(0.05)
        first.terminate()
        assert first.wait(30) == 0
    finally:
        for process in both:
            process.kill()
            process.communicate()
    run = Run.open(tmp_path / "run")
    assert run.status["state"] == "stopped"
    assert run.history["epoch"].tolist() == run.epochs


CONTEST = """
import sys, time
from tomodrgn.training.lock import hold_run
sys.stdin.readline()
try:
    with hold_run(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.readline()
except BlockingIOError:
    print("refused", flush=True)
"""


def test_lock_of_a_dead_process_goes_to_one_of_many(tmp_path):
    write_lock(tmp_path, **dead_process())
    command = [sys.executable, "-c", CONTEST, str(tmp_path)]
    several = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    for process in several:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.stdout.readline().strip() for process in several]
    for process in several:
        process.communicate("end\n", timeout=30)
    assert sorted(said) == ["held", *["refused"] * 4]
    assert not (tmp_path / LOCK).exists()


def test_same_number_of_a_later_process_is_not_the_holder(tmp_path):
    write_lock(tmp_path, started=1)
    assert lock_holder(tmp_path) is None
    with hold_run(tmp_path):
        assert lock_holder(tmp_path).pid == os.getpid()
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} "), hold_run(tmp_path):
            pytest.fail("held twice")


def test_lock_of_another_host_is_told_with_the_cure(small_particles, tmp_path, capsys):
    folder = tmp_path / "run"
    write_lock(folder, host="elsewhere", pid=1234)
    before = contents(folder)
    assert run_command(["train", str(small_particles.source.path), str(folder), *TINY]) == 2
    error = capsys.readouterr().err
    assert "by process 1234 on host elsewhere" in error
    assert f"delete {folder / LOCK}" in error
    assert contents(folder) == before


def test_file_system_without_locks_goes_by_the_file(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    write_lock(tmp_path, **dead_process())
    with hold_run(tmp_path):
        assert lock_holder(tmp_path).pid == os.getpid()
    living = subprocess.Popen(["sleep", "60"])
    try:
        write_lock(tmp_path, **{k: v for k, v in asdict(LockHolder.of(living.pid)).items() if k in ("pid", "started")})
        with pytest.raises(BlockingIOError, match=f"process {living.pid} "), hold_run(tmp_path):
            pytest.fail("held twice")
    finally:
        living.kill()
        living.wait()


def test_folder_made_for_nothing_is_removed(tmp_path):
    with pytest.raises(ValueError, match="wrong"), hold_run(tmp_path / "run"):
        raise ValueError("wrong")
    assert not (tmp_path / "run").exists()


def test_training_killed_while_its_folder_was_made_can_be_started_again(small_particles, tmp_path):
    folder = tmp_path / "run"
    write_lock(folder, **dead_process())
    (folder / "particles.star").write_text("half")
    run = td.train(small_particles, folder, training=td.TrainConfig(epochs=1, batch_size=4), **SMALL)
    assert (run.epochs, (folder / LOCK).exists()) == ([1], False)
