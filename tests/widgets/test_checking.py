"""The particle viewer and the assumption checker without a browser."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import traitlets
from PIL import Image

import tomodrgn as td
from tomodrgn.volumes import assumptions
from tomodrgn.widgets import AssumptionChecker, ParticleViewer, Selection, assumption_checker


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> td.ParticleSet:
    """Images whose flags can be judged, read as they were made."""
    folder = tmp_path_factory.mktemp("noisy") / "data"
    return td.simulate_particles(folder, n_particles=32, n_tilts=7, snr=0.1, seed=3)


def height_px(viewer: ParticleViewer) -> int:
    assert viewer.wait(60.0)
    return Image.open(io.BytesIO(viewer._picture.value)).height


def test_viewer_draws_a_row_for_each_chosen_particle(small_particles):
    viewer = ParticleViewer(small_particles)
    ids = small_particles.particle_id.tolist()
    assert viewer.shown == (ids[0], ids[6], ids[11])
    three = height_px(viewer)
    viewer._names.value = (ids[4],)
    assert (viewer.selection.particle_ids, viewer.shown) == ((ids[4],), (ids[4],))
    assert height_px(viewer) == pytest.approx(three / 3, abs=2)
    viewer.selection.set(ids)
    assert height_px(viewer) == pytest.approx(2 * three, abs=4)
    assert (len(viewer.shown), viewer.message) == (6, "6 of 12 chosen are shown")
    viewer.selection.clear()
    assert viewer.wait(60.0)
    assert (viewer._picture.value, viewer.message) == (b"", "No particle is chosen.")


def test_viewers_share_a_selection_and_search_names(small_particles):
    ids = small_particles.particle_id.tolist()
    selection = Selection(ids, ids[-1:])
    viewer = ParticleViewer(small_particles, selection)
    viewer.search = ids[2]
    assert list(viewer._names.options) == [ids[2]]
    assert selection.particle_ids == (ids[-1],)  # a search does not choose
    viewer._names.value = (ids[2],)
    assert (selection.particle_ids, viewer.shown) == ((ids[2],), (ids[2],))
    viewer.search = ""
    assert viewer._names.options[0] == ids[2]
    assert sorted(viewer._names.options) == sorted(ids)


def test_viewer_shows_what_is_wrong_with_the_images(tmp_path):
    particles = td.simulate_particles(tmp_path / "data", n_particles=4, n_tilts=3, n_tomograms=1, seed=1)
    viewer = ParticleViewer(particles)
    assert viewer.wait(60.0)
    for stack in (tmp_path / "data").rglob("*.mrcs"):
        stack.write_bytes(b"")
    viewer.selection.set(particles.particle_id[1:2])
    assert viewer.wait(60.0)
    assert viewer._picture.value == b""
    assert ".mrcs" in viewer.message


def test_checker_names_the_right_setting_and_warns_of_a_wrong_one(noisy):
    checker = AssumptionChecker(noisy)
    assert (checker.state, checker.n_particles, checker.settings) == (
        "none", 32, {"ctf_premultiplied": False, "dose_weighted": False, "invert": True},
    )  # fmt: skip
    checker.compare()
    assert checker.wait(60.0).warnings == []
    best = "The setting that agrees best with the images: ctf_premultiplied=False, dose_weighted=False, invert=True."
    assert best in checker._said.value
    assert "Warning" not in checker._said.value
    assert (checker.state, checker._picture.value[:4]) == ("done", b"\x89PNG")

    checker._controls[2].value = False  # untick the inversion of contrast
    assert (checker.state, checker.check, checker._picture.value) == ("none", None, b"")
    assert checker.particles.invert is False
    assert noisy.invert is True
    checker.compare()
    assert len(checker.wait(60.0).warnings) == 1
    assert "Read them with invert=True (--invert)." in checker._said.value
    assert best in checker._said.value


def test_controls_rest_while_it_runs_and_an_error_is_shown_in_place(noisy, monkeypatch):
    seen = []

    def broken(particles, **options):
        seen.append([control.disabled for control in checker._controls])
        raise ValueError("Got <nothing> but zeros.")

    checker = AssumptionChecker(noisy)
    monkeypatch.setattr(assumption_checker, "compare_assumptions", broken)
    checker.compare()
    assert checker.wait(20.0) is None
    assert seen == [[True] * 5]
    assert (checker.state, checker.message) == ("failed", "Got <nothing> but zeros.")
    assert "Got &lt;nothing&gt;" in checker._said.value
    assert not any(control.disabled for control in checker._controls)


def test_flags_changed_meanwhile_are_compared_again(noisy, monkeypatch):
    asked = []

    def compare(particles, **options):
        asked.append(particles.invert)
        checker.invert = False
        return assumptions.compare_assumptions(particles, **options)

    checker = AssumptionChecker(noisy, n_particles=16)
    monkeypatch.setattr(assumption_checker, "compare_assumptions", compare)
    checker.compare()
    assert bool(checker.wait(60.0).table.loc["invert", "chosen"]) is False
    assert asked == [True, False]


def test_a_setting_that_images_do_not_decide_stays_as_chosen(noisy):
    still = dataclasses.replace(noisy, dose_e_per_angst2=np.zeros(noisy.n_images), dose_weighted=True)
    checker = AssumptionChecker(still)
    checker.compare()
    sentence = checker.wait(60.0).best_setting
    assert "dose_weighted=True" in sentence
    assert "(as chosen, not decided by the images: dose_weighted)" in sentence


def test_checker_refuses_a_handful(small_particles):
    with pytest.raises(ValueError, match="Got 12 particles, expected at least 16"):
        AssumptionChecker(small_particles)


def test_viewer_shows_predictions_of_a_run(small_particles, tmp_path, monkeypatch):
    run = td.fit_linear(small_particles, tmp_path / "run", td.LinearConfig(n_components=1))
    viewer = ParticleViewer(run=run)
    assert viewer.views == ("low-passed", "prediction", "residual")
    nine_rows = height_px(viewer)
    viewer.views = ("prediction", "raw")
    assert viewer.views == ("raw", "prediction")
    assert height_px(viewer) == pytest.approx(2 / 3 * nine_rows, rel=0.1)
    viewer.arrangement = "one tilt"
    first = (height_px(viewer), viewer._picture.value)
    assert not viewer._slider.disabled
    viewer._slider.value = 3
    assert viewer.wait(60.0)
    assert (viewer.tilt, viewer._picture.value != first[1]) == (3, True)
    # The slider reads no file again.
    monkeypatch.setattr("tomodrgn.widgets.particle_viewer.tilt_images", None)
    monkeypatch.setattr(viewer, "_predictor", None)
    before = viewer._picture.value
    viewer.lowpass_angst = 60.0
    assert viewer.wait(60.0)
    assert viewer.message == ""
    assert viewer._picture.value != before
    with pytest.raises((ValueError, traitlets.TraitError), match="need a run"):
        ParticleViewer(small_particles).views = ("residual",)
    with pytest.raises(ValueError, match="neither particles nor a run"):
        ParticleViewer()
    viewer.views = ()
    assert viewer.wait(60.0)
    assert viewer.message == "Choose what to show."
