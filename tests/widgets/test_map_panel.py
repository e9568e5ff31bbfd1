"""The panel of maps: large ones come small first, boxes, and what was asked for is never lost."""

from __future__ import annotations

import pytest

import tomodrgn as td
from tomodrgn.volumes.decoder import MapDecoder
from tomodrgn.widgets.map_panel import MapPanel

TINY = td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5)


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    return td.train(
        small_particles,
        tmp_path_factory.mktemp("panel") / "run",
        model=TINY,
        preprocess=td.PreprocessConfig(max_radius=0.2),
        training=td.TrainConfig(epochs=1, batch_size=4),
    )


@pytest.fixture
def panel(run, monkeypatch):
    """A panel that shows the mean at 16 px, the largest that comes at once."""
    monkeypatch.setattr("tomodrgn.widgets.map_panel.QUICK_BOX", 16)
    panel = MapPanel(run, box_px=16)
    assert panel.wait(60.0)
    return panel


def test_a_large_map_is_shown_smaller_until_it_is_ready(panel, run):
    seen = []
    panel.viewer.observe(lambda change: seen.append((change["new"].maps.shape[1], panel.message)), names="stack")
    panel.box_px = 24  # the same map larger: nothing smaller on the way
    assert panel.wait(60.0)
    first, second = map(str, run.latents().particle_id[:2])
    panel.show_particles([first])
    assert panel.wait(60.0)
    assert [box for box, _ in seen] == [24, 16, 24]
    assert seen[-1][1] == f"decoding the map at {first} ... (shown at 16 px)"
    assert (panel.message, panel.title, panel.stack.voxel_size_angst) == ("", f"map at {first}", 8.0 * 32 / 24)
    panel.show_particles([first, second])  # several: in their size only
    assert panel.wait(60.0)
    assert [box for box, _ in seen[3:]] == [24]


def test_any_even_box_can_be_set(panel):
    seen = []
    panel.viewer.observe(lambda change: seen.append(change["new"].maps.shape[1]), names="stack")
    for wrong in (25, 34, 6):
        with pytest.raises(ValueError, match=f"Got box {wrong}, expected an even number from 8 to 32"):
            panel.box_px = wrong
    assert panel.box_px == 16
    panel.box_px = 20  # not offered so far
    assert panel.wait(60.0)
    assert (seen, panel._size.value, panel._size.options) == ([20], 20, (16, 20, 32))
    panel._size.value = 32
    assert panel.wait(60.0)
    assert (seen, panel.box_px) == ([20, 32], 32)


def while_large_maps_are_decoded(monkeypatch, act) -> None:
    """Have something happen whenever a map of 32 px is about to be decoded."""
    decode = MapDecoder.__call__

    def acted(decoder, points):
        if decoder.box_px == 32:
            act()
        return decode(decoder, points)

    monkeypatch.setattr(MapDecoder, "__call__", acted)


@pytest.fixture
def large(panel, run):
    """The panel at 32 px, and the name of a particle that it does not show yet."""
    panel.box_px = 32
    assert panel.wait(60.0)
    return panel, str(run.latents().particle_id[3])


def test_what_was_asked_for_is_shown_in_the_box_that_was_set_meanwhile(large, monkeypatch):
    panel, name = large
    while_large_maps_are_decoded(monkeypatch, lambda: setattr(panel, "box_px", 24))
    panel.show_particles([name])
    assert panel.wait(60.0)
    assert (panel.title, panel.stack.maps.shape[1], panel.message) == (f"map at {name}", 24, "")
    assert panel.stack.labels["particle_id"].tolist() == [name]


def test_a_map_that_fails_after_its_first_sight_has_its_own_title(large, monkeypatch):
    panel, name = large

    def no_memory():
        raise MemoryError("no room for it")

    while_large_maps_are_decoded(monkeypatch, no_memory)
    panel.show_particles([name])
    assert panel.wait(60.0)
    assert (panel.title, panel.stack.maps.shape[1]) == (f"map at {name}", 16)
    assert panel.message == "Got MemoryError: no room for it"
