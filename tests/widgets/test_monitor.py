"""The training monitor beyond start and stop: commands, pace, epochs, maps, other hosts, folders that vanish."""

from __future__ import annotations

import gc
import json
import shlex
import shutil
import threading
import time
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

import tomodrgn as td
from tomodrgn.cli import app
from tomodrgn.config import LinearConfig, PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.training.command import command_line, command_of_run, training_verb
from tomodrgn.training.job import start_training
from tomodrgn.training.lock import LOCK
from tomodrgn.training.pace import Pace, training_pace
from tomodrgn.training.run import Run
from tomodrgn.widgets import ConfigForm, TrainingMonitor
from tomodrgn.widgets.epoch_maps import EMPTY
from tomodrgn.widgets.progress_text import host_text

MODEL = VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5)
COARSE = PreprocessConfig(max_radius=0.2)


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    """A finished run of three epochs with held-out tilts."""
    folder = tmp_path_factory.mktemp("monitor") / "run"
    three = TrainConfig(epochs=3, batch_size=4, held_out_fraction=0.3)
    start_training(small_particles, folder, model=MODEL, preprocess=COARSE, training=three).wait(120.0)
    return Run.open(folder)


@pytest.fixture(scope="module")
def linear(small_particles, tmp_path_factory):
    """A linear run."""
    return td.fit_linear(small_particles, tmp_path_factory.mktemp("monitor") / "linear", LinearConfig(n_components=2))


@pytest.fixture
def monitor():
    """Makes monitors that are closed, and whose trainings are ended, after the test."""
    made = []

    def make(*arguments, **options):
        made.append(TrainingMonitor(*arguments, **{"poll_seconds": 0.1, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()
        if one.job.process is not None:
            one.job.kill()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain")
        time.sleep(0.05)


# --- the command ---------------------------------------------------------------------------------------------------


def parsed(command: str) -> dict[str, object]:
    """What the program makes of a line: its parameters."""
    program, *verb = shlex.split(command)
    assert program == "tomodrgn"
    function, bound, _ = app.parse_args(verb, exit_on_error=False, print_error=False)
    assert function.__name__ == "train"
    bound.apply_defaults()
    return bound.arguments


def test_command_follows_the_form_and_the_program_understands_it():
    form = ConfigForm()
    form.set(z_dim=5, epochs=7, learning_rate=3e-5, pooling="max", split_tilts=False, window=False, max_radius=0.31)
    form.set(start_from="my runs/linear 1")
    found = parsed(form.command)
    assert (found["vae"], found["training"], found["preprocess"]) == (*form.chosen[::2], form.chosen[1])
    assert (found["particles"], found["run"], found["model"]) == (Path("PARTICLES.star"), Path("RUN"), "vae")
    form._rows["epochs"].control.value = "many"
    assert form.command == ""
    assert "correct first: epochs" in form.children[-1].value
    form._rows["epochs"].control.value = "8"
    assert parsed(form.command)["training"].epochs == 8
    form.arguments = ("a b.star", "the run", "--datadir", "some where")
    assert parsed(form.command)["run"] == Path("the run")
    assert str(parsed(form.command)["data"].datadir[0]) == "some where"


def test_command_of_a_linear_model():
    form = ConfigForm(LinearConfig(n_components=3), TrainConfig(seed=4))
    found = parsed(form.command)
    assert (found["model"], found["linear"], found["training"]) == ("linear", form.chosen[0], form.chosen[2])


def options_of(kind):
    """Any right configuration of a class, made from its own ranges."""

    def values(part):
        if "anyOf" in part:
            return st.one_of(*map(values, part["anyOf"]))
        low, high = part.get("minimum", part.get("exclusiveMinimum", 0)), part.get("maximum", 10_000)
        if "enum" in part:
            return st.sampled_from(part["enum"])
        if part["type"] == "integer":
            return st.integers(low, high)
        if part["type"] == "number":
            most = part.get("exclusiveMaximum", high)
            return st.floats(low, most, exclude_min="minimum" not in part, exclude_max="exclusiveMaximum" in part)
        text = st.sampled_from(["runs/first", "my runs/a 'b'", "x=$HOME"])
        return {"boolean": st.booleans(), "null": st.none(), "string": text}[part["type"]]

    fields = {name: values(part) for name, part in kind.model_json_schema()["properties"].items()}
    return st.fixed_dictionaries({}, optional=fields)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(options_of(VaeConfig), options_of(TrainConfig), options_of(PreprocessConfig))
def test_any_options_pass_through_the_shell_unchanged(model, training, preprocess):
    hypothesis.assume(preprocess.get("window_outer", 0.9) >= preprocess.get("window_inner", 0.8))
    wanted = VaeConfig(**model), TrainConfig(**training), PreprocessConfig(**preprocess)
    found = parsed(command_line(training_verb(["P.star", "RUN"], *wanted)))
    for name, config in zip(("vae", "training", "preprocess"), wanted, strict=True):
        assert (found[name] or type(config)()) == config


def test_command_of_a_run_makes_it_again(run, linear, monitor):
    view = monitor(None, run.folder)
    assert view.command == command_of_run(run)
    found = parsed(view.command)
    assert (found["vae"], found["preprocess"], found["training"]) == (MODEL, COARSE, run.train_config)
    again = found["data"].read(found["particles"])
    assert again.particle_id.tolist() == run.latents().particle_id.tolist()
    found = parsed(command_of_run(linear))
    assert (found["model"], found["linear"]) == ("linear", LinearConfig(n_components=2))


def test_monitor_tells_the_form_its_paths_and_disables_start(small_particles, tmp_path, monitor):
    form = ConfigForm(MODEL, TrainConfig)
    view = monitor(small_particles, tmp_path / "run", form, poll_seconds=60.0)
    assert view.command == form.command
    assert parsed(form.command)["particles"] == small_particles.source.path
    form._rows["epochs"].control.value = "0"
    assert (view._start.disabled, view.command) == (True, "")
    form._rows["epochs"].control.value = "2"
    assert (view._start.disabled, parsed(view.command)["training"].epochs) == (False, 2)
    view.overwrite = True
    assert view.command.endswith(" --overwrite")
    part = monitor(small_particles.subset(small_particles.particle_id[:3]), tmp_path / "part", poll_seconds=60.0)
    assert "3 particles" in part.message


# --- pace ----------------------------------------------------------------------------------------------------------


def status(epoch=0, batch=0, at=0.0, **more):
    return {"pid": 1, "epoch": epoch, "epochs": 10, "batch": batch, "batches": 20, "time": at, **more}


def test_pace_in_the_first_epoch_is_that_of_its_batches():
    empty = pd.DataFrame(columns=["epoch", "seconds"])
    assert training_pace(empty, status(), {}, 160) == Pace()
    assert training_pace(empty, status(batch=1), status(batch=1), 160) == Pace()
    found = training_pace(empty, status(batch=5, at=108.0), status(batch=1, at=100.0), 160)
    assert (found.epoch_seconds, found.particles_per_second) == (40.0, 4.0)
    assert found.seconds_left == pytest.approx(40.0 * (10 - 0.25))


def test_pace_later_is_that_of_the_last_five_epochs_counted_once():
    rows = [{"epoch": e, "split": s, "seconds": t} for e, t in enumerate([99, 10, 10, 10, 10, 20], 1) for s in "ab"]
    found = training_pace(pd.DataFrame(rows), status(epoch=6, batch=10), {}, 120)
    assert found == Pace(epoch_seconds=12.0, particles_per_second=10.0, seconds_left=found.seconds_left)
    assert found.seconds_left == pytest.approx(3.5 * 12)
    done = training_pace(pd.DataFrame(rows), status(epoch=10), {}, 120)
    assert done.seconds_left == 0.0


def test_monitor_shows_pace_and_rate(small_particles, tmp_path, monkeypatch, monitor):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    form = ConfigForm(MODEL, COARSE, TrainConfig(epochs=2000, batch_size=4, learning_rate=0.0123))
    view = monitor(small_particles, tmp_path / "run", form)
    view.start()
    until(lambda: view.epoch >= 2 and "left" in view._pace.value)
    history = Run.open(tmp_path / "run").history
    rate = float(view._pace.value.split(" particles/s")[0].rpartition(" ")[2].replace(",", ""))
    assert 0.2 < rate / (len(small_particles) / history["seconds"].tail(5).mean()) < 5
    assert "learning rate 0.0123" in view._pace.value
    assert view._kill.layout.visibility == "hidden"
    view._stop.click()
    assert view._kill.layout.visibility == "visible" or not view.job.running
    view._kill.click()
    until(lambda: view.state in ("interrupted", "stopped"))
    until(lambda: not view.job.running)
    view.refresh()
    assert view._resume.disabled is False
    assert view._kill.layout.visibility == "hidden"
    assert Run.open(tmp_path / "run").epochs


# --- epochs, maps, memory ------------------------------------------------------------------------------------------


def test_held_out_tilts_have_a_curve_of_their_own(run, monitor):
    view = monitor(None, run.folder, poll_seconds=60.0)
    test = run.history.query("split == 'test'")
    curves = {trace.name: trace for trace in view.losses.data}
    assert list(curves["held-out tilts"].y) == test["reconstruction"].tolist()
    assert len(curves["reconstruction"].y) == len(curves["KL"].y) == len(curves["learning rate"].y) == 3
    view.log_scale = True
    assert {view.losses.layout[axis].type for axis in ("yaxis", "yaxis2", "yaxis3")} == {"log"}


def test_three_maps_after_each_epoch_and_back_to_an_earlier_one(run, monitor):
    view = monitor(None, run.folder, poll_seconds=60.0)
    maps = view.epoch_view.maps
    assert maps.wait(60.0)
    assert (maps.epoch, maps.message, view.epoch_view.epoch, view.epoch_view.newest) == (3, "", 3, 3)
    assert len(set(maps.particle_ids)) == 3
    assert set(maps.particle_ids) <= set(run.latents().particle_id)
    last = [picture.value for picture in maps._pictures]
    assert EMPTY.getvalue() not in last
    marked = np.stack([view.latents.data[1].x, view.latents.data[1].y])
    assert marked.shape == (2, 3)
    view.epoch_view.epoch = 1
    assert view.epoch_view.follow is False
    assert maps.wait(60.0)
    assert (maps.epoch, "after epoch 1" in view.latents.layout.title.text) == (1, True)
    assert [picture.value for picture in maps._pictures] != last
    view.refresh()
    assert view.epoch_view.epoch == 1, "it must not run away while somebody looks at it"
    view.epoch_view.follow = True
    assert maps.wait(60.0)
    assert (view.epoch_view.epoch, maps.epoch, [picture.value for picture in maps._pictures]) == (3, 3, last)
    names = run.latents().particle_id[:2]
    maps.particle_ids = tuple(names)
    maps.show(run.folder, 3, urgent=True)
    assert maps.wait(60.0)
    assert maps._pictures[2].value == EMPTY.getvalue()


def test_a_run_without_latents_has_one_map(small_particles, tmp_path, monitor):
    one = TrainConfig(epochs=1, batch_size=4)
    flat = td.train(small_particles, tmp_path / "run", model=MODEL.model_copy(update={"z_dim": 0}), training=one)
    view = monitor(None, flat.folder, poll_seconds=60.0)
    assert view.epoch_view.maps.wait(60.0)
    shown = [picture.value != EMPTY.getvalue() for picture in view.epoch_view.maps._pictures]
    assert (shown, view.epoch_view.maps.message, view.message) == ([True, False, False], "", "")
    assert "z_dim 0" in view.latents.layout.title.text


def test_a_linear_run_shows_its_fit(linear, monitor):
    view = monitor(None, linear.folder, poll_seconds=60.0)
    assert view._left.children == (view.fit,)
    search = pd.read_csv(linear.folder / "search.csv")
    assert sum(len(trace.x) for trace in view.fit.figure.data) == len(search)
    assert (
        f"2 components, to {linear.settings['pixel_size_angst'] / linear.fit['radius_per_px']:.1f} Å"
        in view.fit.text.value
    )
    for remark in linear.fit["remarks"]:
        assert remark.split("'")[0][:30] in view.fit.text.value
    assert (view._text.value, view._resume.disabled) == ("linear fit finished", True)
    assert view.epoch_view.maps.wait(60.0)
    assert view.epoch_view.maps.epoch == 1


@pytest.mark.slow
def test_two_hundred_epochs_leave_no_memory_or_files_behind(run, tmp_path, monitor):
    """A monitor that sees many epochs come, one after another."""
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    view = monitor(None, folder, poll_seconds=3600.0)
    rows, first = run.history, None
    for epoch in range(4, 204):
        (folder / f"epochs/{epoch:04d}").symlink_to(folder / f"epochs/{1 + epoch % 3:04d}")
        rows = pd.concat([rows, rows.tail(2).assign(epoch=epoch)])
        Run(folder, {}).write_history(rows)
        view.refresh()
        if epoch % 10 == 0:
            assert view.epoch_view.maps.wait(60.0)
        if epoch == 60:
            first = open_files(), threading.active_count(), live_objects()
    assert view.epoch_view.maps.wait(60.0)
    assert (view.epoch, view.epoch_view.newest, view.message) == (203, 203, "")
    assert len(view.losses.data[0].y) == 203
    assert len(view.epoch_view.maps._kept) <= 32
    files, threads, objects = open_files(), threading.active_count(), live_objects()
    assert files <= first[0] + 2
    assert threads <= first[1] + 1
    assert objects < 1.1 * first[2]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def live_objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def test_nothing_is_read_again_that_has_not_changed(run, monitor, monkeypatch):
    view = monitor(None, run.folder, poll_seconds=3600.0)
    assert view.epoch_view.maps.wait(60.0)
    monkeypatch.setattr(Run, "latents", lambda *_: pytest.fail("latents were read again"))
    monkeypatch.setattr(pd, "read_csv", lambda *_, **__: pytest.fail("the history was read again"))
    monkeypatch.setattr(type(view.job), "log", lambda *_: pytest.fail("the log was read again"))
    view.refresh()
    assert view.message == ""


# --- other hosts, folders that vanish, other monitors ---------------------------------------------------------------


def test_a_training_on_another_host_is_watched(run, tmp_path, monitor):
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    holder = {"pid": 77, "host": "gpu12", "started": 5, "since": "2026-01-01 10:00:00"}
    (folder / LOCK).write_text(json.dumps(holder))
    words = status(epoch=3, batch=10, at=time.time() - 90, state="running", host="gpu12") | {"pid": 77}
    (folder / "status.json").write_text(json.dumps(words))
    view = monitor(None, folder, poll_seconds=60.0)
    assert (view.state, view.epoch, view.epochs) == ("running", 3, 10)
    assert "batch 10 of 20" in view._text.value
    assert "on host gpu12, process 77, last word 1 min 3" in view._pace.value
    assert " left" in view._pace.value
    view._stop.click()
    assert "kill 77" in view.message
    old = words | {"time": time.time() - 7300}
    (folder / "status.json").write_text(json.dumps(old))
    view.refresh()
    assert "last word 2 h 1 min ago; if it was killed there, delete training.lock" in view._pace.value
    (folder / LOCK).unlink()
    view.refresh()
    assert view.state == "interrupted"
    assert host_text(None, words, Pace()) == ""


def test_a_folder_that_is_moved_is_told_in_place_and_found_again(run, tmp_path, monitor):
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    view = monitor(None, folder)
    assert view.state == "finished"
    folder.rename(tmp_path / "elsewhere")
    until(lambda: view.state == "gone")
    assert "moved or deleted" in view.message
    assert view.message[:30] in view._error.value
    assert len(view.losses.data[0].y) == 3, "what was drawn stays"
    (tmp_path / "elsewhere").rename(folder)
    until(lambda: view.state == "finished")
    assert view.message == ""
    shutil.rmtree(folder)
    until(lambda: view.state == "gone")
    assert any(thread.name == "TrainingMonitor" for thread in threading.enumerate())


def test_damaged_files_are_told_in_place_and_do_not_end_the_watch(run, tmp_path, monitor):
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    view = monitor(None, folder)
    whole = (folder / "history.csv").read_text()
    (folder / "history.csv").write_text("nonsense")
    until(lambda: view.message.startswith("Got "))
    (folder / "history.csv").write_text(whole)
    until(lambda: view.message == "")
    assert len(view.losses.data[0].y) == 3


def test_training_begun_by_somebody_else_is_followed_and_resumed_without_particles(
    small_particles, tmp_path, monkeypatch, monitor
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    view = monitor(None, tmp_path / "run")
    assert (view.state, view._start.disabled, view._resume.disabled) == ("none", True, True)
    one = TrainConfig(epochs=1, batch_size=4)
    start_training(small_particles, tmp_path / "run", model=MODEL, preprocess=COARSE, training=one).wait(60.0)
    until(lambda: view.state == "finished")
    assert (view.epoch, view._resume.disabled) == (1, False)
    Run.open(tmp_path / "run").with_training(one.model_copy(update={"epochs": 2}))
    view.resume()
    assert view.wait(60.0) == "finished"
    assert view.epoch == 2


def test_a_new_monitor_takes_over_from_an_earlier_one(run, monitor):
    first, before = monitor(None, run.folder), watching()
    second = monitor(None, run.folder)
    assert "watches from now on" in first.message
    assert second.message == ""
    until(lambda: watching() == before)
    second.close()
    until(lambda: watching() == before - 1)


def watching() -> int:
    """Number of threads in which a monitor watches."""
    return sum(thread.name == "TrainingMonitor" for thread in threading.enumerate())


def test_a_page_that_loads_later_begins_with_what_was_drawn(run, monitor):
    view = monitor(None, run.folder, poll_seconds=60.0)
    drawn = view.losses._widget_data[0]["y"]
    assert list(drawn) == pytest.approx(run.history.query("split == 'train'")["reconstruction"].tolist())
    assert len(view.latents._widget_data[0]["x"]) == len(run.latents())
    assert view.losses._widget_layout["title"]["text"] == "Losses"
    assert "after epoch 3" in view.latents._widget_layout["title"]["text"]
