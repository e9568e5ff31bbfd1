"""The gallery without a browser: tiles, ticks, labels, and where labels go."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import traitlets
from PIL import Image

import tomodrgn as td
from tomodrgn.analysis.map_labels import labels_of_maps, particles_of_maps
from tomodrgn.widgets import Selection, VolumeGallery, VolumeViewer
from tomodrgn.widgets.latest_work import LatestWork


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory) -> td.Run:
    return td.fit_linear(small_particles, tmp_path_factory.mktemp("run") / "run", model=td.LinearConfig(n_components=1))


@pytest.fixture
def labelled(run):
    """A gallery of three clusters of the run, and the run without labels."""
    (run.folder / "analysis" / "labels.csv").unlink(missing_ok=True)
    gallery = VolumeGallery.of_run(run, 3, box_px=16)
    assert gallery.wait(120.0), gallery.message
    return gallery


def balls(*radii):
    axis = np.arange(16) - 8
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    maps = np.stack([(radius - distance).clip(-1, 1) for radius in radii]).astype(np.float32)
    return td.VolumeStack(maps=maps, voxel_size_angst=4.0, labels=pd.DataFrame(index=[f"ball_{r}" for r in radii]))


def drawn(tile) -> float:
    """Share of the picture that the surface fills."""
    return float((np.asarray(Image.open(io.BytesIO(tile.picture)))[..., 3] > 0).mean())


def press(gallery, name: str) -> None:
    def find(widget):
        if f"tomodrgn-{name}" in getattr(widget, "_dom_classes", ()):
            return widget
        return next((found for child in getattr(widget, "children", ()) if (found := find(child))), None)

    find(gallery).click()


def test_each_map_gets_a_picture_and_the_level_draws_them_anew():
    gallery = VolumeGallery(balls(3, 6), tile_px=60)
    assert gallery.wait(60.0)
    small, large = gallery.tiles.values()
    assert (list(gallery.tiles), small.name) == (["ball_3", "ball_6"], "ball_3")
    assert 0 < 2 * drawn(small) < drawn(large)
    before = drawn(small)
    gallery.level = 0.5
    assert gallery.controls.level.value == 0.5
    assert gallery.wait(60.0)
    assert drawn(small) > before
    assert gallery.message == ""
    other = VolumeGallery(balls(5))
    assert other.wait(60.0)
    gallery.tick(["ball_3"])
    gallery.show(balls(3, 4))
    assert (list(gallery.tiles), gallery.ticked) == (["ball_3", "ball_4"], ("ball_3",))
    with pytest.raises((ValueError, traitlets.TraitError), match="expected one of"):
        gallery.tick(["ball_6"])
    with pytest.raises((ValueError, traitlets.TraitError), match="expected one of"):
        gallery.labels = {"ball_6": "x"}


def test_a_click_shows_the_map_large():
    gallery = VolumeGallery(balls(3, 6))
    gallery.tiles["ball_6"]._handle_custom_msg({"kind": "open"}, [])
    assert (gallery.opened, gallery.viewer.map_name) == ("ball_6", "ball_6")
    assert [tile.opened for tile in gallery.tiles.values()] == [False, True]
    gallery.level = 1.5
    assert gallery.viewer.level == 1.5
    viewer = VolumeViewer(balls(5))
    given = VolumeGallery(balls(3, 6), viewer=viewer)
    given.opened = "ball_3"
    assert (viewer.map_name, viewer.stack.names) == ("ball_3", ["ball_3", "ball_6"])
    assert given._large.children == ()


def test_ticks_and_labels_go_both_ways():
    clusters = pd.Series(["ball_3", "ball_6", "ball_6"], index=["a", "b", "c"])
    gallery = VolumeGallery(balls(3, 6), clusters)
    small, large = gallery.tiles.values()
    assert (small.note, large.note) == ("1", "2")
    large.ticked = True
    assert gallery.ticked == ("ball_6",)
    gallery.label = "50S"
    press(gallery, "label-ticked")
    assert (gallery.labels, large.label) == ({"ball_6": "50S"}, "50S")
    small.label = " junk "
    assert gallery.labels == {"ball_3": "junk", "ball_6": "50S"}
    assert gallery.particle_labels.to_dict() == {"a": "junk", "b": "50S", "c": "50S"}
    press(gallery, "choose-ticked")
    assert (gallery.selection.particle_ids, gallery.selection.made_by) == (("b", "c"), "maps ball_6")
    gallery.controls.used.value = "junk"
    press(gallery, "choose-label")
    assert (gallery.selection.particle_ids, gallery.selection.made_by) == (("a",), "label junk")
    press(gallery, "tick-all")
    press(gallery, "good")
    assert set(gallery.labels.values()) == {"good"}
    press(gallery, "unlabel")
    assert gallery.labels == {}
    gallery.tick(())
    press(gallery, "label-ticked")
    assert gallery.message.startswith("Got no ticked map")
    gallery.quick_labels = ("30S",)
    gallery.tick(["ball_3"])
    press(gallery, "30s")
    assert gallery.labels == {"ball_3": "30S"}


def test_labels_are_kept_in_the_run_and_come_back(run, labelled):
    names = list(labelled.tiles)
    assert names == ["cluster_000", "cluster_001", "cluster_002"]
    assert sum(int(tile.note) for tile in labelled.tiles.values()) == len(run.latents().particle_id)
    with pytest.raises(FileNotFoundError, match="without labels"):
        labelled.load()
    labelled.labels = {names[0]: "50S", names[2]: "junk"}
    labelled.save()
    column = run.table()["label"]
    own = set(labelled.particles_of([names[0]]))
    assert set(column.index[column == "50S"]) == own
    assert column.isna().sum() == len(labelled.particles_of([names[1]]))
    press(labelled, "save-labels")
    assert "exists already" in labelled.message
    labelled.save(overwrite=True)
    other = VolumeGallery(labelled.stack, labelled.members, run=run)
    other.load()
    assert other.labels == labelled.labels
    strange = pd.Series(["a"], index=["nobody"])
    with pytest.raises(KeyError, match="nobody"):
        VolumeGallery(labelled.stack, strange.map({"a": names[0]}), run=run)


def test_labels_reach_a_written_star(run, labelled, tmp_path):
    names = list(labelled.tiles)
    labelled.labels = {names[1]: "large subunit"}
    labelled.write_star(tmp_path / "all.star")
    read = td.read_particles(tmp_path / "all.star", check_stacks=False).frame()
    own = labelled.particles_of([names[1]])
    assert set(read.index[read["tomodrgnLabel"] == "large subunit"]) == set(own)
    assert (read["tomodrgnLabel"] != "").sum() == len(own)
    labelled.write_star(tmp_path / "some.star", only="large subunit")
    some = td.read_particles(tmp_path / "some.star", check_stacks=False)
    assert set(some.particle_id) == set(own)
    with pytest.raises(ValueError, match="expected one of"):
        labelled.write_star(tmp_path / "none.star", only="30S")
    press(labelled, "write-star")
    assert labelled.message.startswith("Got no name of a file")
    with pytest.raises(ValueError, match="Got no run"):
        VolumeGallery(balls(3)).save()


def test_making_of_maps_can_be_stopped(run):
    gallery = VolumeGallery.of_run(run, 12, box_px=32)
    gallery.stop()
    assert gallery.wait(120.0)
    assert (gallery.tiles, "Stopped" in gallery.message or gallery.message.startswith(("k-means", ""))) == ({}, True)
    gallery.make(100)
    assert gallery.wait(60.0)
    assert gallery.message.startswith("Got 100 clusters")


def test_particles_of_maps_and_back():
    maps = pd.DataFrame({"cluster": [0, 1], "particle_id": ["b", "a"]}, index=["m0", "m1"])
    assert particles_of_maps(maps).to_dict() == {"b": "m0", "a": "m1"}
    members = particles_of_maps(maps, pd.Series([0, 1, 1, -1], index=["a", "b", "c", "d"]))
    assert members.to_dict() == {"a": "m0", "b": "m1", "c": "m1"}
    with pytest.raises(ValueError, match="none of which"):
        particles_of_maps(maps, pd.Series([7], index=["a"]))
    assert labels_of_maps(members, pd.Series({"a": "x", "b": "y"})) == ({"m0": "x"}, ["m1"])


def test_a_selection_can_be_shared():
    selection = Selection("abc")
    gallery = VolumeGallery(balls(3), pd.Series(["ball_3"], index=["b"]), selection=selection)
    gallery.tick(gallery.tiles)
    gallery.choose_ticked()
    assert selection.particle_ids == ("b",)


def test_of_waiting_work_only_the_newest_is_done():
    import threading

    done, failed, begun, go = [], [], threading.Event(), threading.Event()
    work = LatestWork("test", failed.append)

    def first(outdated):
        begun.set()
        go.wait(10)
        done.append(("first", outdated()))

    work.ask(first)
    begun.wait(10)
    work.ask(lambda outdated: done.append(("second", outdated())))
    work.ask(lambda outdated: done.append(("third", outdated())))
    assert work.busy
    go.set()
    assert work.wait(10.0)
    assert done == [("first", True), ("third", False)]
    work.ask(lambda outdated: 1 / 0)
    assert work.wait(10.0)
    assert isinstance(failed[0], ZeroDivisionError)


def test_a_thread_that_waits_takes_the_next_work_and_ends_when_none_comes(monkeypatch):
    import threading

    def found():
        return [thread for thread in threading.enumerate() if thread.name == "idle test"]

    work, seen = LatestWork("idle test", pytest.fail), []
    for _ in range(2):
        work.ask(lambda outdated: seen.append(threading.current_thread()))
        assert work.wait(10.0)
        assert not work.busy
    assert seen[0] is seen[1] is found()[0]
    monkeypatch.setattr("tomodrgn.widgets.latest_work.IDLE_SECONDS", 0.05)
    work.ask(lambda outdated: None)
    assert work.wait(10.0)
    seen[0].join(10.0)
    assert found() == []
    work.ask(lambda outdated: seen.append(threading.current_thread()))
    assert work.wait(10.0)
    assert len(seen) == 3


def test_work_that_is_taken_back_at_once_is_over():
    work = LatestWork("test", pytest.fail)
    for _ in range(20):
        work.ask(lambda outdated: None)
        assert work.wait(10.0)  # the thread waits for more now
        with work._changed:  # so that the thread cannot see the wish before it is gone
            work.ask(lambda outdated: pytest.fail("it was taken back"))
            work.cancel()
        assert work.wait(10.0)
        assert not work.busy
