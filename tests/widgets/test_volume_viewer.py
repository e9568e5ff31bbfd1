"""VolumeViewer and its parts without a browser: axes, levels, comparisons, slices, movies."""

from __future__ import annotations

import io
import subprocess

import numpy as np
import pandas as pd
import pytest
import traitlets
from PIL import Image

from tomodrgn.plots.surfaces import render_surface, save_movie
from tomodrgn.volumes.volume_stack import VolumeStack
from tomodrgn.widgets import VolumeViewer


def stack_of(*maps):
    labels = pd.DataFrame(index=[f"map_{i}" for i in range(len(maps))])
    return VolumeStack(maps=np.stack(maps).astype(np.float32), voxel_size_angst=2.0, labels=labels)


def bars():
    """Bars of different lengths along x, y and z, axes zyx."""
    volume = np.zeros((24, 24, 24))
    volume[12, 12, 12:22] = 1  # long: +x
    volume[12, 12:18, 12] = 1  # shorter: +y
    volume[12:15, 12, 12] = 1  # shortest: +z
    return volume


@pytest.fixture
def noise():
    return [5 + 3 * volume for volume in np.random.default_rng(0).standard_normal((3, 16, 16, 16))]


def sigma(volume):
    return (volume - volume.mean()) / volume.std()


def field(viewer, panel=0, surface=0):
    return viewer.surfaces.surfaces[panel][surface].scalar_field


def test_bars_lie_along_their_axes():
    viewer = VolumeViewer(stack_of(bars()))
    shown = field(viewer) > 3  # k3d takes [z, y, x]
    assert (shown[12, 12].sum(), shown[12, :, 12].sum(), shown[:, 12, 12].sum()) == (10, 6, 3)
    # The surface spans the box: voxel i is at (i - 12) * 2 angstrom but for half a voxel of the cube's edge.
    matrix = np.asarray(viewer.surfaces.surfaces[0][0].model_matrix)
    assert np.diag(matrix)[:3] == pytest.approx([48, 48, 48])
    assert matrix[:3, 3] == pytest.approx([0, 0, 0])
    position, target, up = np.asarray(viewer.surfaces.plots[0].camera).reshape(3, 3)
    right = np.cross(target - position, up)
    assert (right[0] > 0, up[1] > 0, position[2] > target[2]) == (True, True, True)


def test_level_is_in_sigma_and_maps_are_swapped(noise):
    viewer = VolumeViewer(stack_of(*noise))
    assert viewer.map_name == "map_0"
    assert viewer.surfaces.surfaces[0][0].level == viewer.level == pytest.approx(sigma(noise[0]).max() / 2, abs=0.5)
    np.testing.assert_allclose(field(viewer), sigma(noise[0]), atol=1e-4)
    viewer.map_name = "map_1"
    np.testing.assert_allclose(field(viewer), sigma(noise[1]), atol=1e-4)
    viewer.level = 1.5
    assert viewer.surfaces.surfaces[0][0].level == viewer._slider.value == 1.5
    viewer._slider.value = 2.5
    assert (viewer.level, viewer.surfaces.surfaces[0][0].level) == (2.5, 2.5)
    for wrong in ("map_name", "compared"):
        with pytest.raises((ValueError, traitlets.TraitError), match="expected one of"):
            setattr(viewer, wrong, "map_9" if wrong == "map_name" else ("map_9",))


def test_another_stack_is_one_message_for_each_surface(noise, monkeypatch):
    """The page makes a surface anew for each message: none is sent because the slider answers inexactly."""
    viewer = VolumeViewer(stack_of(noise[0]))
    sent = []
    monkeypatch.setattr(
        viewer.surfaces.surfaces[0][0], "_send", lambda message, buffers=None: sent.append(sorted(message["state"]))
    )
    viewer.level = 1.5
    viewer.show(stack_of(noise[1]))
    viewer._slider.value = 1.5000000000000004  # as the page's slider answers a new range
    assert (sent, viewer.level) == ([["level"], ["scalar_field"]], 1.5)


def test_flat_maps_are_refused():
    with pytest.raises(ValueError, match="varies"):
        VolumeViewer(stack_of(np.ones((8, 8, 8))))


def test_maps_are_compared_side_by_side_overlaid_and_subtracted(noise):
    viewer = VolumeViewer(stack_of(*noise))
    viewer.compared = ("map_1", "map_2")
    viewer.arrangement = "side by side"
    assert viewer.shown == ("map_0", "map_1", "map_2")
    assert [len(panel) for panel in viewer.surfaces.surfaces] == [1, 1, 1]
    np.testing.assert_allclose(field(viewer, 2), sigma(noise[2]), atol=1e-4)
    viewer.level = 1.25
    assert {panel[0].level for panel in viewer.surfaces.surfaces} == {1.25}

    viewer.arrangement = "overlay"
    assert len(viewer.surfaces.surfaces[0]) == 3
    assert len({surface.color for surface in viewer.surfaces.surfaces[0]}) == 3

    viewer.arrangement = "difference"
    assert viewer.shown == ("map_0", "map_1")
    difference = sigma(noise[0] - noise[1])
    np.testing.assert_allclose(field(viewer, 0, 0), difference, atol=1e-4)
    np.testing.assert_allclose(field(viewer, 0, 1), -difference, atol=1e-4)

    viewer.arrangement = "one map"
    assert len(viewer.surfaces.surfaces[0]) == 1
    np.testing.assert_allclose(field(viewer), sigma(noise[0]), atol=1e-4)


def test_another_stack_of_another_size_is_shown(noise):
    viewer = VolumeViewer(stack_of(*noise))
    viewer.map_name = "map_2"
    other = VolumeStack(maps=bars()[None].astype(np.float32), voxel_size_angst=3.0, labels=pd.DataFrame(index=["bars"]))
    viewer.show(other)
    assert (viewer.map_name, viewer.shown, viewer.compared) == ("bars", ("bars",), ())
    assert np.diag(np.asarray(viewer.surfaces.surfaces[0][0].model_matrix))[:3] == pytest.approx([72, 72, 72])
    viewer.stack = stack_of(*noise)
    assert viewer.map_name == "map_0"


def test_playing_goes_through_the_maps(noise):
    viewer = VolumeViewer(stack_of(*noise))
    assert (viewer._play.max, viewer.playing) == (2, False)
    viewer._play.value = 2  # as the browser does
    assert viewer.map_name == "map_2"
    viewer.play()
    assert viewer.playing
    viewer.pause()
    assert not viewer.playing


def test_slices_cut_the_map_where_the_sliders_say():
    viewer = VolumeViewer(stack_of(bars()))
    viewer.slices = True
    planes = viewer.planes

    def bright(normal):
        picture = np.asarray(Image.open(io.BytesIO(planes._columns[normal][1].children[0].value)))
        rows, columns = np.nonzero(picture > 128)
        half, scale = picture.shape[0] / 2, picture.shape[0] / 24
        if not len(rows):
            return None
        return tuple(round(v / scale) for v in (columns.max() - half, half - rows.min()))  # to the right, up

    assert bright("z") == (10, 6)  # x to the right, y up
    assert bright("y") == (10, 3)  # x to the right, z up
    assert bright("x") == (6, 3)  # y to the right, z up
    planes.z_angst = 4.0  # two voxels above the centre: the bar along z only
    assert bright("z") == (1, 1)
    planes.z_angst = 8.0
    assert bright("z") is None


def test_a_picture_of_a_surface_has_its_axes_right():
    picture = render_surface(bars().astype(np.float32), 3.0, size_px=200, turn=np.eye(3))
    seen = picture[..., 3] > 0
    rows, columns = np.nonzero(seen)
    voxel = 200 / (0.84 * 24)
    assert (columns.max() - 100) / voxel == pytest.approx(9.5, abs=0.6)  # half the density lies beyond the last voxel
    assert (100 - rows.min()) / voxel == pytest.approx(5.5, abs=0.6)
    # Lit from the upper left and in front: a ball's upper left is brighter than its lower right.
    axis = np.arange(24) - 12
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    density = (6.0 - distance).clip(-1, 1).astype(np.float32)
    ball = render_surface(density, -float(density.mean() / density.std()), size_px=100)  # where it is 0
    middle = ball[..., 0].astype(int)
    assert middle[40, 40] > middle[60, 60] + 20
    assert (ball[..., 3] > 0).mean() == pytest.approx(np.pi * 6**2 / (0.84 * 24) ** 2, rel=0.1)


def test_stack_is_written_as_gif_video_and_maps(noise, tmp_path):
    viewer = VolumeViewer(stack_of(*noise, bars()[4:20, 4:20, 4:20]))
    viewer.level = 1.0
    (gif,) = viewer.export(tmp_path / "path.gif", size_px=64)
    with Image.open(gif) as movie:
        assert (movie.n_frames, movie.size, movie.info["loop"]) == (4, (64, 64), 0)
    (video,) = viewer.export(tmp_path / "path.mp4", size_px=64)
    import imageio_ffmpeg

    said = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", video], capture_output=True, text=True).stderr
    assert "h264" in said
    assert "64x64" in said
    paths = viewer.export(tmp_path / "maps")
    assert [path.name for path in paths] == [f"map_{i}.mrc" for i in range(4)]
    with pytest.raises(FileExistsError, match=r"path\.gif"):
        viewer.export(tmp_path / "path.gif")
    viewer._path.value = str(tmp_path / "path.gif")
    viewer._export_pressed()
    assert viewer.message.startswith("Got ")
    with pytest.raises(ValueError, match="ends in"):
        save_movie(tmp_path / "film.avi", [np.zeros((8, 8, 3), np.uint8)])


def test_statistics_tell_mean_sigma_and_likeness(noise):
    table = stack_of(noise[0], 2 * noise[0] + 1, noise[1]).statistics()
    assert table["correlation_with_first"].tolist() == pytest.approx([1, 1, 0], abs=0.05)
    assert table["sigma"].tolist() == pytest.approx([noise[0].std(), 2 * noise[0].std(), noise[1].std()], rel=1e-4)
