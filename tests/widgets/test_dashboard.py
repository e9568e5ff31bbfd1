"""All views of a run on one page: one choice of particles, panes made when they are opened."""

from __future__ import annotations

import pytest

import tomodrgn as td
from tomodrgn.widgets import ParticleViewer, TomogramViewer, TrainingMonitor, VolumeGallery

PANES = {
    "Tilt images": ParticleViewer,
    "Gallery": VolumeGallery,
    "Tomograms": TomogramViewer,
    "Training": TrainingMonitor,
}


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard") / "run"
    return td.fit_linear(small_particles, folder, td.LinearConfig(n_components=2))


def test_every_pane_is_made_when_it_is_opened_and_shares_the_choice(run):
    board = td.widgets.explore(run)
    assert list(board.panes) == [board.pane] == ["Tilt images"]
    for name, kind in PANES.items():
        board.pane = name
        assert (board.message, type(board.panes[name])) == ("", kind)
    assert list(board.panes) == list(PANES)
    made = dict(board.panes)
    board.pane = "Gallery"
    assert board.panes == made

    chosen = run.latents().particle_id[[1, 4]]
    board.panes["Tomograms"].selection.set(chosen)
    for view in (board, board.explorer, *(board.panes[name] for name in PANES if name != "Training")):
        assert view.selection.particle_ids == tuple(chosen)
    with pytest.raises(ValueError, match=r"Got pane 'Maps', expected one of .*Gallery"):
        board.pane = "Maps"
    board.close()


def test_what_a_pane_lacks_is_told_in_place(tmp_path):
    particles = td.simulate_particles(tmp_path / "data", n_particles=12, n_tilts=5, n_tomograms=2, seed=5)
    run = td.fit_linear(particles, tmp_path / "run", td.LinearConfig(n_components=1))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    board = td.widgets.explore(run.folder)
    assert "Got" in board.message
    assert "data" in board._places["Tilt images"].children[0].value
    assert board.panes == {}
    board.pane = "Training"
    assert board.message == ""
    board.close()


def test_a_choice_of_other_particles_is_refused(run):
    with pytest.raises(KeyError, match="other particles"):
        td.widgets.explore(run, selection=td.widgets.Selection(["a", "b"]))
