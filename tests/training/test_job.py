"""A training in its own process: it says how far it is, stops when asked, goes on, and fails in plain sight."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import tomodrgn as td
from tomodrgn.training.command import option_flags
from tomodrgn.training.job import TrainingJob, start_training
from tomodrgn.training.lock import LOCK, LockHolder
from tomodrgn.training.run import Run

SMALL = td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5)
COARSE = td.PreprocessConfig(max_radius=0.2)
LONG = td.TrainConfig(epochs=3000, batch_size=4, seed=3)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def trained(small_particles, tmp_path_factory):
    """Folder of a finished run of one epoch."""
    one = td.TrainConfig(epochs=1, batch_size=4)
    run = tmp_path_factory.mktemp("trained") / "run"
    start_training(small_particles, run, model=SMALL, preprocess=COARSE, training=one).wait(240.0)
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def jobs():
    """A list: the jobs put into it are ended after the test."""
    started = []
    yield started
    for job in started:
        job.kill()


def until(condition, seconds=240):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain")
        time.sleep(0.05)
    return found


def test_flags_are_options_that_differ_from_their_defaults():
    assert option_flags(td.VaeConfig(), None, td.TrainConfig(epochs=5, learning_rate=1e-3, split_tilts=False)) == [
        "--epochs", "5", "--learning-rate", "0.001", "--no-split-tilts",
    ]  # fmt: skip


def test_start_watch_stop_resume(small_particles, tmp_path, jobs, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as the kernels of notebooks do
    run = tmp_path / "runs" / "first"
    job = start_training(small_particles, run, model=SMALL, preprocess=COARSE, training=LONG)
    jobs.append(job)
    assert job.state in ("starting", "running")
    assert TrainingJob.attach(run).pid == job.pid, "found before it wrote anything"
    until(lambda: job.status.get("epoch", 0) >= 2)
    assert (job.state, job.status["epochs"], job.status["pid"]) == ("running", 3000, job.pid)
    assert (Run.open(run).train_config, Run.open(run).model_config) == (LONG, SMALL)

    other = TrainingJob.attach(run)
    assert (other.running, other.state) == (True, "running")
    with pytest.raises(BlockingIOError, match=f"is being trained by process {job.pid} on host"):
        start_training(small_particles, run, resume=True)
    other.stop()
    assert job.wait(120.0) == "stopped"
    assert (other.running, other.state, job.exit_code) == (False, "stopped", 0)
    done = Run.open(run).epochs
    assert len(done) >= 2
    assert len(Run.open(run).latents()) == len(small_particles)

    Run.open(run).with_training(LONG.model_copy(update={"epochs": done[-1] + 2}))
    again = start_training(small_particles, run, resume=True)
    jobs.append(again)
    assert again.wait(240.0) == "finished"
    assert Run.open(run).epochs[-1] == done[-1] + 2, "the command's default of 30 epochs must not raise them"
    assert TrainingJob.attach(run).state == "finished"
    assert "--resume" in again.command
    assert "\x1b" not in again.log()
    assert f"epoch {done[-1] + 2} of {done[-1] + 2}: reconstruction" in again.log(3)
    assert again.log().endswith(again.log(3) + "\n")


def test_command_is_the_same_training_for_a_shell(small_particles, tmp_path, jobs):
    two = td.TrainConfig(epochs=2, batch_size=4)
    job = start_training(small_particles, tmp_path / "a run", model=SMALL, preprocess=COARSE, training=two)
    jobs.append(job)
    assert job.wait(240.0) == "finished"
    line = job.command.replace("tomodrgn", f"{sys.executable} -m tomodrgn", 1) + " --overwrite"
    before = Run.open(job.folder).latents().mu
    assert subprocess.run(line, shell=True, capture_output=True).returncode == 0
    assert (Run.open(job.folder).latents().mu == before).all()


def test_wrong_file_fails_in_plain_sight(tmp_path):
    job = start_training(tmp_path / "nowhere.star", tmp_path / "run")
    with pytest.raises(RuntimeError, match=r"exit code 2.*nowhere\.star.*[^.]\. See "):
        job.wait(240.0)
    assert (job.state, job.exit_code) == ("failed", 2)
    assert "nowhere.star" in job.log(1)


def test_killed_process_is_interrupted(small_particles, tmp_path, jobs):
    job = start_training(small_particles, tmp_path / "run", model=SMALL, preprocess=COARSE, training=LONG)
    jobs.append(job)
    until(lambda: job.status.get("epoch", 0) >= 1)
    os.kill(job.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="SIGKILL"):
        job.wait(10.0)
    assert (job.state, TrainingJob.attach(job.folder).state) == ("interrupted", "interrupted")


def test_killed_before_its_first_word_is_interrupted(run):
    """The words in status.json are those of the training before, which finished."""
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        (run / LOCK).write_text(json.dumps(asdict(LockHolder.of(sleeper.pid))))
        job = TrainingJob.attach(run)
        assert (job.state, job.found_status["state"]) == ("starting", "finished")
        job.kill()
    finally:
        sleeper.kill()
        sleeper.wait()
    assert (job.running, job.state, job.failure()) == (False, "interrupted", "ended without a word")
    with pytest.raises(RuntimeError, match=r"ended without a word\. See "):
        job.wait(10.0)
    Run.open(run).write_status("finished", epoch=1)
    assert (job.state, job.failure()) == ("finished", ""), "a later process has trained here"
    assert TrainingJob.attach(run).state == "finished"


def test_nothing_is_overwritten_unless_asked(small_particles, run, tmp_path):
    (run / "log.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="resume=True"):
        start_training(small_particles, run)
    assert (run / "log.txt").read_text() == "mine"
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="other files"):
        start_training(small_particles, notes, overwrite=True)
    assert [p.name for p in notes.iterdir()] == ["notes.txt"]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        start_training(small_particles, tmp_path / "gone", resume=True)
    assert not (tmp_path / "gone").exists()


def test_part_of_a_file_is_refused_with_the_cure(small_particles, tmp_path):
    with pytest.raises(ValueError, match="write_particles"):
        start_training(small_particles.subset(small_particles.particle_id[:4]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_training_and_no_folder(tmp_path):
    job = TrainingJob.attach(tmp_path / "nowhere")
    assert (job.running, job.state, job.log(), job.pid) == (False, "none", "", None)
    job.stop()
    assert not (tmp_path / "nowhere").exists()


def test_process_of_that_number_that_is_no_training_is_left_alone(run):
    Run.open(run).write_status("running", epoch=1)  # by this very process, which is no `tomodrgn train`
    job = TrainingJob.attach(run)
    assert (job.running, job.state) == (False, "interrupted")
    job.stop()


def test_training_of_another_machine_cannot_be_stopped_here(run):
    holder = replace(LockHolder.of(os.getpid()), host="elsewhere")
    (run / LOCK).write_text(json.dumps(asdict(holder)))
    Run.open(run).write_status("running", epoch=1)
    job = TrainingJob.attach(run)
    assert (job.running, job.state, job.pid) == (True, "running", None)
    with pytest.raises(RuntimeError, match="runs on elsewhere"):
        job.stop()


def test_training_by_this_very_process_is_seen_and_not_ended(small_particles, tmp_path):
    seen = []

    def look(_):
        job = TrainingJob.attach(tmp_path / "run")
        with pytest.raises(RuntimeError, match="this process itself"):
            job.stop()
        seen.append((job.running, job.pid))

    one = td.TrainConfig(epochs=1, batch_size=12)
    td.train(small_particles, tmp_path / "run", model=SMALL, preprocess=COARSE, training=one, progress=look)
    assert set(seen) == {(True, os.getpid())}
    assert (TrainingJob.attach(tmp_path / "run").running, TrainingJob.attach(tmp_path / "run").pid) == (False, None)
