"""Widgets without a browser: traits, values that can be typed, errors in place."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import traitlets

import tomodrgn as td
from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.training.job import start_training
from tomodrgn.training.run import Run
from tomodrgn.widgets import ConfigForm, LatentExplorer, Selection, TrainingMonitor
from tomodrgn.widgets.colours import GREY, colour_column

MODEL = VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5)
COARSE = PreprocessConfig(max_radius=0.2)


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("widgets") / "run"
    two = TrainConfig(epochs=2, batch_size=4)
    start_training(small_particles, folder, model=MODEL, preprocess=COARSE, training=two).wait(120.0)
    return Run.open(folder)


# --- Selection -----------------------------------------------------------------------------------------------------


def test_selection_is_ordered_unique_and_observed():
    selection, seen = Selection("abcd"), []
    selection.observe(lambda change: seen.append(change["new"]), names="particle_ids")
    selection.set(["d", "a", "d"])
    selection.add(["b"])
    selection.add(["b"])
    selection.clear()
    assert seen == [("a", "d"), ("a", "b", "d"), ()]
    selection.particle_ids = ["c", "b"]
    assert (selection.particle_ids, selection.positions(), len(selection), "c" in selection) == (
        ("b", "c"), [1, 2], 2, True,
    )  # fmt: skip


def test_selection_refuses_unknown_names_and_stays_as_it_was():
    selection = Selection(["a", "b"], ["a"])
    for change in (selection.set, selection.add, lambda names: setattr(selection, "particle_ids", names)):
        with pytest.raises(KeyError, match=r"1 of 2 .*\['z'\]"):
            change(["b", "z"])
    assert selection.particle_ids == ("a",)
    with pytest.raises(ValueError, match="'a' twice"):
        Selection(["a", "a"])


def test_particle_set_takes_a_selection(small_particles):
    selection = Selection(small_particles.particle_id)
    selection.set(small_particles.particle_id[[5, 2]])
    assert small_particles.subset(selection).particle_id.tolist() == small_particles.particle_id[[2, 5]].tolist()


# --- ConfigForm ----------------------------------------------------------------------------------------------------


def row(form, name):
    return form._rows[name]


def test_form_has_every_option_with_its_help_and_default():
    form = ConfigForm()
    kinds = (VaeConfig, TrainConfig, PreprocessConfig)
    assert set(form._rows) == {name for kind in kinds for name in kind.model_fields}
    assert form.configs == tuple(kind() for kind in kinds)
    for kind in kinds:
        for name, option in kind.model_fields.items():
            assert " ".join(option.description.split())[:30].replace("'", "&#x27;") in row(form, name).note.value
    assert "(0 to 1,024)" in row(form, "z_dim").note.value
    assert form.children[-2] is form.accordion
    assert {child.children[0].value for child in form.children[:-2]} == {
        "z_dim", "epochs", "batch_size", "seed", "max_radius",
    }  # fmt: skip


def test_typing_changes_the_configuration():
    form = ConfigForm(MODEL, TrainConfig)
    row(form, "epochs").control.value = "7"
    row(form, "learning_rate").control.value = "1e-3"
    row(form, "split_tilts").control.value = False
    row(form, "pooling").control.value = "max"
    assert form.value(TrainConfig) == TrainConfig(epochs=7, learning_rate=1e-3, split_tilts=False)
    assert form.value(VaeConfig) == MODEL.model_copy(update={"pooling": "max"})
    row(form, "learning_rate").control.value = " "
    assert form.value(TrainConfig).learning_rate is None
    form.set(epochs=9, beta=0.5)
    assert (form.value(TrainConfig).epochs, row(form, "beta").control.value) == (9, "0.5")


@pytest.mark.parametrize(("typed", "message"), [("0", "greater than or equal to 1"), ("x", "integer"), ("", "integer")])
def test_wrong_entry_is_shown_in_place_and_refused(typed, message):
    form = ConfigForm(MODEL, TrainConfig)
    row(form, "epochs").control.value = typed
    assert message in row(form, "epochs").note.value
    assert message in form.errors["epochs"]
    with pytest.raises(ValueError, match="epochs"):
        form.value(TrainConfig)
    assert form.value(VaeConfig) == MODEL
    row(form, "epochs").control.value = "4"
    assert (form.errors, form.value(TrainConfig).epochs) == ({}, 4)
    assert "passes over all particles" in row(form, "epochs").note.value


def test_form_refuses_what_it_does_not_have():
    form = ConfigForm(MODEL)
    with pytest.raises(KeyError, match="TrainConfig"):
        form.value(TrainConfig)
    with pytest.raises(KeyError, match="zdim"):
        form.set(zdim=3)
    with pytest.raises(ValueError, match="z_dim"):
        form.set(z_dim=-1)
    with pytest.raises(ValueError, match="once"):
        ConfigForm(MODEL, VaeConfig)


# --- TrainingMonitor -----------------------------------------------------------------------------------------------


@pytest.fixture
def monitor(request):
    """Makes monitors that are closed, and whose trainings are ended, after the test."""
    made = []

    def make(*arguments, **options):
        made.append(TrainingMonitor(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.job.kill()


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain")
        time.sleep(0.05)


def test_monitor_starts_watches_and_stops_a_training(small_particles, tmp_path, monkeypatch, monitor):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    form = ConfigForm(MODEL, COARSE, TrainConfig(epochs=3000, batch_size=4))
    view = monitor(small_particles, tmp_path / "run", form, poll_seconds=0.2)
    assert (view.state, view._start.disabled, view._stop.disabled, view._resume.disabled) == ("none", False, True, True)
    view._start.click()
    assert (view.message, view._start.disabled, view._stop.disabled) == ("", True, False)
    until(lambda: view.epoch >= 2 and view.state == "running")
    assert view.epochs == 3000
    until(lambda: len(view.losses.data[0].y) >= 2)
    assert len(view.latents.data[0].x) == len(small_particles)
    view._stop.click()
    until(lambda: view.state == "stopped")
    until(lambda: not view.job.running)  # it writes that it stopped, then ends
    view.refresh()
    assert list(view.losses.data[0].y) == pytest.approx(Run.open(tmp_path / "run").history["reconstruction"].tolist())
    assert (view._start.disabled, view._stop.disabled, view._resume.disabled) == (False, True, False)
    assert view.job.command == view.command == form.command
    assert " of 3000: reconstruction" in view._log.value


def test_monitor_of_a_finished_run(run, monitor):
    view = monitor(None, run.folder, poll_seconds=60.0)
    assert (view.state, view.epoch, view.epochs, view._bar.value) == ("finished", 2, 2, 1.0)
    assert len(view.losses.data[0].y) == 2
    assert np.ptp(view.latents.data[0].x) > 0
    view.log_scale = True
    assert view.losses.layout.yaxis.type == "log"
    view._attempt(view.start)
    assert "no particles" in view.message


def test_monitor_keeps_a_run_unless_told_to_replace_it(run, small_particles, monitor):
    view = monitor(small_particles, run.folder, poll_seconds=60.0)
    view._start.click()
    assert "holds a run already" in view.message
    assert view.message in view._error.value
    assert Run.open(run.folder).epochs == [1, 2]


def test_monitor_shows_why_a_training_failed(tmp_path, monitor):
    view = monitor(tmp_path / "nowhere.star", tmp_path / "run", poll_seconds=0.2)
    view.start()
    until(lambda: view.state == "failed")
    assert "exit code 2" in view.message
    assert "nowhere.star" in view.message
    with pytest.raises(RuntimeError, match="nowhere"):
        view.wait()


def test_monitor_shows_a_wrong_form(small_particles, tmp_path, monitor):
    form = ConfigForm()
    row(form, "epochs").control.value = "none"
    view = monitor(small_particles, tmp_path / "run", form, poll_seconds=60.0)
    view._start.click()
    assert "epochs" in view.message
    assert not (tmp_path / "run").exists()


def test_no_figure_can_send_its_data_away(run, monitor):
    view = monitor(None, run.folder, poll_seconds=60.0)
    for figure in (view.losses, view.latents):
        assert figure._config["showSendToCloud"] is False
        assert figure._config["displaylogo"] is False


# --- LatentExplorer ------------------------------------------------------------------------------------------------


def test_explorer_colours_by_numbers_and_text_and_always_gives_the_norm(run):
    explorer = LatentExplorer(run, clusters=td.cluster_latents(run.latents(), 3))
    assert (explorer.x, explorer.y, explorer.colour) == ("PC1", "PC2", "cluster")
    for name in ("z1", "userGridSquare", "userIceThickness", "PC1"):
        explorer.colour = name
        found = colour_column(explorer.table[name])
        shown = explorer.scatter.color()
        assert (shown["by"], len(shown["map"])) == (name, len(found.colours))
        if not found.is_categorical:
            assert (shown["norm"].vmin, shown["norm"].vmax) == pytest.approx(found.norm)
            drawn = explorer.scatter._points[:, 2]
            assert (drawn.min(), drawn.max()) == pytest.approx((0, 1), abs=1e-3), "values were clipped"


def test_explorer_tells_how_sure_each_place_is(run):
    explorer = LatentExplorer(run)
    latents = run.latents().frame()
    assert {"z1_std", "z2_std"} <= set(explorer.table)
    explorer.colour = "z1_std"
    widget = explorer.scatter.widget
    assert widget.tooltip_enable
    text = explorer.scatter._data[widget.tooltip_preview].iloc[4]
    assert text.startswith(f"{run.particles.particle_id[4]}  z1 ")
    mean, std = latents["z2"].iloc[4], latents["z2_std"].iloc[4]
    assert text.split("  ")[2] == f"z2 {mean:.2f} ± {std:.2f}"


def test_explorer_selection_goes_both_ways(run):
    explorer = LatentExplorer(run)
    names = run.particles.particle_id
    explorer.scatter.widget.selection = np.array([4, 1], dtype=np.uint32)
    assert explorer.selection.particle_ids == (names[1], names[4])
    explorer.select(names[[7, 3]])
    assert sorted(explorer.scatter.widget.selection.tolist()) == [3, 7]
    assert explorer.selection.particle_ids == (names[3], names[7])
    explorer.selection.clear()
    assert explorer.scatter.widget.selection.tolist() == []
    with pytest.raises(KeyError, match="nobody"):
        explorer.select(["nobody"])


def test_explorers_share_a_selection_and_take_columns(run):
    names = run.particles.particle_id
    extra = pd.DataFrame({"mine": np.arange(len(names)) % 2 == 0}, index=names)
    first = LatentExplorer(run)
    second = LatentExplorer(run, columns=extra, selection=first.selection)
    second.colour = "mine"
    second.select(names[:3])
    assert sorted(first.scatter.widget.selection.tolist()) == [0, 1, 2]
    with pytest.raises(KeyError, match="without particle"):
        LatentExplorer(run, columns=extra.iloc[1:])
    with pytest.raises(KeyError, match="other particles"):
        LatentExplorer(run, selection=Selection(["a"]))
    for wrong in ({"x": "nothing"}, {"x": "tomogram"}, {"colour": "nothing"}):
        with pytest.raises((ValueError, traitlets.TraitError), match="expected one of"):
            second.set_trait(*next(iter(wrong.items())))


def test_axes_can_be_any_number_column(run):
    explorer = LatentExplorer(run)
    explorer.x = "userIceThickness"
    values = explorer.table["userIceThickness"].to_numpy()
    drawn = explorer.scatter._points[:, 0]
    assert np.corrcoef(values, drawn)[0, 1] == pytest.approx(1, abs=1e-5)
    assert np.abs(drawn).max() < 1


def test_colours_of_missing_and_rare_values_are_grey():
    numbers = colour_column(pd.Series([1.0, np.nan, 3.0]))
    assert numbers.colours[0] == GREY
    assert numbers.drawn[1] == pytest.approx(numbers.norm[0])
    assert numbers.drawn[0] > numbers.drawn[1]
    text = colour_column(pd.Series([*"aabbccddeeffgghhiijjkkll", "m", None]))
    assert text.drawn.cat.categories.tolist() == [*"abcdefghijkl", "(other)", "(none)"]
    assert text.colours[-2:] == [GREY, GREY]
    assert len(set(text.colours[:-2])) == 12
    constant = colour_column(pd.Series([2.0, 2.0]))
    assert constant.norm[0] < 2 < constant.norm[1]


def test_explorer_makes_a_umap_beside_other_work(small_particles, tmp_path):
    """Of a run with three dimensions: columns, choices and axes come when it is done."""
    run = td.train(
        small_particles,
        tmp_path / "run",
        model=td.VaeConfig(z_dim=3, decoder_dim=16, encoder_dim=16),
        training=td.TrainConfig(epochs=1),
    )
    explorer = LatentExplorer(run)
    job = explorer.make_umap(seed=1)
    found = job.result(timeout=120.0)
    assert (explorer.x, explorer.y) == ("UMAP1", "UMAP2")
    pd.testing.assert_frame_equal(found, td.umap_latents(run.latents(), seed=1), check_dtype=False, atol=1e-4)
    drawn = explorer.scatter._points[:, :2]
    assert np.corrcoef(drawn[:, 0], found["UMAP1"])[0, 1] > 0.999
    assert np.corrcoef(drawn[:, 1], found["UMAP2"])[0, 1] > 0.999
    explorer.bar.query = "UMAP1 > -1e9"
    assert len(explorer.selection) == len(found)
    explorer.colour = "UMAP2"
    explorer.x = "PC1"
    assert LatentExplorer(run)._umap_button.disabled is False


def test_explorer_of_a_homogeneous_run_is_refused(small_particles, tmp_path):
    model = MODEL.model_copy(update={"z_dim": 0})
    one = TrainConfig(epochs=1, batch_size=4)
    start_training(small_particles, tmp_path / "run", model=model, preprocess=COARSE, training=one).wait(120.0)
    with pytest.raises(ValueError, match="z_dim 0"):
        LatentExplorer(tmp_path / "run")


# --- the room ------------------------------------------------------------------------------------------------------


def test_names_are_imported_when_they_are_used():
    code = (
        "import sys, tomodrgn as td; td.widgets; dir(td.widgets)\n"
        "heavy = {'ipywidgets', 'plotly', 'k3d', 'jscatter', 'traitlets'}\n"
        "found = {name.split('.')[0] for name in sys.modules}\n"
        "assert not heavy & found, heavy & found\n"
        "td.widgets.Selection; found = {name.split('.')[0] for name in sys.modules}\n"
        "assert not {'plotly', 'k3d', 'jscatter'} & found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_notebook_extra_the_cure_is_named():
    code = "import sys; sys.modules['k3d'] = None\nimport tomodrgn as td\ntd.widgets.VolumeViewer"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install ".[notebook]"' in done.stderr
    assert "ImportError" in done.stderr


def test_unknown_widget_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Viewer2"):
        td.widgets.Viewer2  # noqa: B018
