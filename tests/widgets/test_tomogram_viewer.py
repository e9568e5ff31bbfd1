"""The viewer of tomograms by its traits: what it draws where, what a lasso chooses, which file it takes."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tomodrgn as td
from tomodrgn.io.mrc import write_tomogram
from tomodrgn.particles.tomogram_files import find_tomograms
from tomodrgn.particles.tomogram_slab import TomogramVolume, slab_limits
from tomodrgn.widgets.colours import colour_column

SHAPE, VOXEL = (20, 60, 45), 130.0  # zyx; no two sides alike; not the pixel size of the particles (8 A)


# --- files ------------------------------------------------------------------------------------------------------------


def empty_volumes(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        write_tomogram(folder / name, np.zeros((2, 3, 4), np.int8), 10.0)
    return folder


def test_volumes_are_matched_by_name(tmp_path):
    folder = empty_volumes(
        tmp_path, "TS_1_10.00Apx.mrc", "rec_TS_10.mrc", "2024_TS_2_bin8.mrc", "TS_3.rec", "TS_3_15.00Apx.mrc",
        "TS_4_b_x.mrc", "other.mrc",
    )  # fmt: skip
    (folder / "TS_5.mrc").write_bytes(b"no volume")
    names = ["TS_1.tomostar", "TS_10.tomostar", "TS_2", "TS_3", "TS_4", "TS_4_b", "TS_5", "TS_6"]
    found = find_tomograms(names, folder)
    assert {name: path.name for name, path in found.files.items()} == {
        "TS_1.tomostar": "TS_1_10.00Apx.mrc", "TS_10.tomostar": "rec_TS_10.mrc", "TS_2": "2024_TS_2_bin8.mrc",
        "TS_3": "TS_3.rec", "TS_4_b": "TS_4_b_x.mrc", "TS_5": "TS_5.mrc",
    }  # fmt: skip
    table = found.table
    assert table.loc["TS_3", "others"] == "TS_3_15.00Apx.mrc"
    assert table.loc["TS_6", "match"] == "no file"
    assert table.loc["TS_2", "match"] == "name within the file's name"
    assert table.loc["TS_1.tomostar", ["size_x", "size_y", "size_z", "voxel_angst"]].tolist() == [4, 3, 2, 10.0]
    assert "expected an MRC file" in table.loc["TS_5", "problem"]
    given = find_tomograms(names, {"TS_6.mrc": folder / "other.mrc"})
    assert given.files == {"TS_6": folder / "other.mrc"}
    with pytest.raises(ValueError, match=r"1 tomograms that are not there, first \['TS_77'\]"):
        find_tomograms(names, {"TS_77": folder / "other.mrc"})
    with pytest.raises(ValueError, match="without a tomogram"):
        find_tomograms(names, empty_volumes(tmp_path / "none"))


# --- slabs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def volume(tmp_path: Path) -> tuple[np.ndarray, Path]:
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    write_tomogram(tmp_path / "t.mrc", values, VOXEL)
    return values, tmp_path / "t.mrc"


@pytest.mark.parametrize(("plane", "axis"), [("xy", 0), ("xz", 1), ("yz", 2)])
def test_slabs_are_the_mean_of_their_slices(volume, plane, axis):
    values, path = volume
    opened = TomogramVolume(path)
    for centre, thickness in ((5 * VOXEL, 0.0), (7.2 * VOXEL, 3 * VOXEL), (-50.0, 10.0), (1e6, 10.0)):
        first, last = slab_limits(centre, thickness, VOXEL, SHAPE[axis])
        slab = opened.slab(plane, centre, thickness)
        wanted = np.take(values, range(first, last + 1), axis=axis).mean(axis=axis)
        np.testing.assert_allclose(slab.values, wanted, atol=1e-5)
        assert slab.n_slices == last - first + 1
        rows, columns = slab.values.shape
        assert slab.low_angst == (-VOXEL / 2, -VOXEL / 2)
        assert slab.high_angst == ((columns - 0.5) * VOXEL, (rows - 0.5) * VOXEL)


def test_large_planes_are_binned_and_places_stay(volume):
    values, path = volume
    slab = TomogramVolume(path).slab("xy", 0.0, 0.0, most_px=20)
    assert slab.values.shape == (20, 15)
    np.testing.assert_allclose(slab.values[3, 2], values[0, 9:12, 6:9].mean(), rtol=1e-4)
    assert slab.high_angst == (44.5 * VOXEL, 59.5 * VOXEL)


def test_only_the_slices_of_the_slab_are_held(tmp_path):
    """A sparse file of 8 GB: far more than the memory that a slab may take."""
    import tracemalloc

    path = tmp_path / "large.mrc"
    write_tomogram(path, np.zeros((1, 2048, 2048), np.float32), 10.0)
    with path.open("r+b") as file:
        file.seek(8)
        file.write(np.int32(512).tobytes())
        file.truncate(1024 + 4 * 512 * 2048 * 2048)
    opened = TomogramVolume(path)
    assert opened.size_xyz == (2048, 2048, 512)
    tracemalloc.start()
    assert opened.slab("xy", 2000.0, 200.0).values.shape == (682, 682)
    assert opened.slab("xz", 2000.0, 20.0).n_slices == 3
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6


def test_voxel_sizes_that_are_missing_are_asked_for(tmp_path):
    write_tomogram(tmp_path / "t.mrc", np.zeros(SHAPE, np.float32), 0.0)
    with pytest.raises(ValueError, match="without a voxel size in its header"):
        TomogramVolume(tmp_path / "t.mrc")
    assert TomogramVolume(tmp_path / "t.mrc", 10.0).last_voxel_angst.tolist() == [440.0, 590.0, 190.0]


# --- the widget -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> td.Run:
    place = tmp_path_factory.mktemp("viewer")
    particles = td.simulate_particles(
        place / "data", n_particles=24, n_tilts=5, n_tomograms=3, box_px=16, snr=1.0, seed=2, dialect="warptools"
    )
    return td.fit_linear(particles, place / "run", td.LinearConfig(n_components=2))


@pytest.fixture
def folder(run: td.Run, tmp_path: Path) -> Path:
    """Volumes of the first two of three tomograms; a bright voxel at every particle."""
    positions = td.read_positions(run.settings["source"]["path"])
    for name in ("TS_001", "TS_002"):
        values = np.zeros((15, 56, 57), np.float32)
        own = positions.take(positions.tomogram == f"{name}.tomostar")
        z, y, x = np.round(own.position_angst[:, ::-1] / VOXEL).astype(int).T
        values[z, y, x] = 1
        write_tomogram(tmp_path / f"{name}_{VOXEL:.2f}Apx.mrc", values, VOXEL)
    return tmp_path


def caught(viewer, how: str, points: list[int]) -> None:
    """Catch points of the particles in the slab, as the page tells it."""
    number = next(i for i, trace in enumerate(viewer.picture.figure.data) if trace.name == "particles")
    viewer.picture.figure._handle_custom_msg({"event": how, "points": {str(number): points}}, [])


def drawn(viewer, name: str) -> np.ndarray:
    trace = next(t for t in viewer.picture.figure.data if t.name == name)
    return np.stack([np.asarray(trace.x, float), np.asarray(trace.y, float)], axis=1)


def shown_grey(viewer) -> np.ndarray:
    """The picture, lowest row first."""
    data = viewer.picture.figure.layout.images[0].source.removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))[::-1]


@pytest.mark.parametrize(("plane", "axes"), [("xy", [0, 1]), ("xz", [0, 2]), ("yz", [1, 2])])
def test_particles_lie_on_their_density_in_every_plane(run, folder, plane, axes):
    viewer = td.widgets.TomogramViewer(run, tomograms=folder)
    viewer.tomogram = "TS_002.tomostar"  # not the first
    viewer.plane = plane
    viewer.thickness_angst = 1500.0
    viewer.contrast = (0.0, 0.01)  # a bright voxel in up to 13 slices
    assert viewer.wait(60.0)
    own = viewer.positions.take(viewer.positions.tomogram == "TS_002.tomostar")
    depth = own.position_angst[:, ({0, 1, 2} - set(axes)).pop()]
    inside = np.abs(depth - viewer.centre_angst) <= 750
    assert viewer.shown_ids == own.particle_id[inside].tolist()
    assert inside.sum() > 0
    np.testing.assert_allclose(drawn(viewer, "particles"), own.position_angst[inside][:, axes])
    np.testing.assert_allclose(drawn(viewer, "others"), own.position_angst[~inside][:, axes])
    image, grey = viewer.picture.figure.layout.images[0], shown_grey(viewer)
    assert (image.x, image.y - image.sizey) == (-VOXEL / 2, -VOXEL / 2)
    assert image.sizex == pytest.approx(VOXEL * grey.shape[1])
    well = np.abs(depth - viewer.centre_angst) <= 750 - VOXEL / 2
    columns, rows = np.floor((own.position_angst[well][:, axes] + VOXEL / 2) / VOXEL).astype(int).T
    assert (grey[rows, columns] > 200).all()
    assert (grey > 200).mean() < 0.03
    # Arrows point along the particle's own z axis.
    arrows = drawn(viewer, "directions").reshape(-1, 6, 2)
    steps = arrows[:, 1] - arrows[:, 0]
    np.testing.assert_allclose(steps, 0.4 * 128 * own.rotations[inside][:, axes, 2], atol=1e-6)


def test_a_lasso_chooses_by_name_and_choices_elsewhere_are_marked(run, folder):
    viewer = td.widgets.TomogramViewer(run, tomograms=folder)
    viewer.tomogram = "TS_002.tomostar"
    viewer.thickness_angst = 4000.0
    names = viewer.shown_ids
    assert len(names) > 3
    caught(viewer, "lasso", [1, 2])
    assert set(viewer.selection.particle_ids) == set(names[1:3])
    assert viewer.selection.made_by == "lasso in TS_002.tomostar"
    places = dict(zip(viewer.positions.particle_id, viewer.positions.position_angst[:, :2], strict=True))
    np.testing.assert_allclose(drawn(viewer, "chosen"), [places[n] for n in names[1:3]])
    viewer.adding = True
    caught(viewer, "box", [0])
    assert set(viewer.selection.particle_ids) == set(names[:3])
    viewer.selection.set([names[3], viewer.positions.particle_id[0]])  # and one of another tomogram
    np.testing.assert_allclose(drawn(viewer, "chosen"), [places[names[3]]])
    viewer.tomogram = "TS_001.tomostar"
    np.testing.assert_allclose(drawn(viewer, "chosen"), [places[viewer.positions.particle_id[0]]])
    viewer.select([])
    assert drawn(viewer, "chosen").shape == (0, 2)


def test_colours_are_those_of_the_explorer(run, folder):
    viewer = td.widgets.TomogramViewer(run, tomograms=folder)
    viewer.thickness_angst = 4000.0
    trace = next(t for t in viewer.picture.figure.data if t.name == "particles")
    for column in ("userGridSquare", "z1"):
        viewer.colour = column
        found = colour_column(viewer.table[column])
        if found.is_categorical:
            wanted = dict(zip(found.drawn.cat.categories, found.colours, strict=True))
            assert set(trace.marker.color) == {wanted[viewer.table.loc[viewer.shown_ids[0], column]]}
            assert all(str(value) in viewer._legend.value for value in found.drawn.cat.categories)
        else:
            values = viewer.table.loc[viewer.shown_ids, column].to_numpy()
            steps = [found.colours.index(colour) for colour in trace.marker.color]
            assert (np.diff(np.array(steps)[np.argsort(values)]) >= 0).all()
            assert f"{found.norm[1]:.4g}" in viewer._legend.value
    with pytest.raises(Exception, match="Got colour 'nothing'"):
        viewer.colour = "nothing"


def test_contrast_and_places_can_be_typed(run, folder):
    viewer = td.widgets.TomogramViewer(run, tomograms=folder)
    viewer.contrast = (0.0, 2.0)
    assert viewer.wait(60.0)
    assert shown_grey(viewer).max() <= 128
    viewer.contrast = (2.0, 0.0)
    assert viewer.wait(60.0)
    assert shown_grey(viewer).min() >= 127
    viewer.outside, viewer.thickness_angst, viewer.centre_angst = "hidden", 1.0, 0.0
    assert viewer.wait(60.0)
    assert len(drawn(viewer, "others")) == 0
    with pytest.raises(Exception, match="Got tomogram 'TS_9', expected one of"):
        viewer.tomogram = "TS_9"


def test_without_a_volume_particles_are_shown_in_space(run, folder):
    viewer = td.widgets.TomogramViewer(run, tomograms=folder)
    assert viewer.mode == "slices"
    viewer.tomogram = "TS_003.tomostar"
    assert viewer.mode == "3-D"
    assert "no volume. 2 of 3 tomograms have a volume" in viewer._matched.value
    own = viewer.positions.take(viewer.positions.tomogram == "TS_003.tomostar")
    points, arrows, ring = viewer.space.figure.data
    np.testing.assert_allclose(np.stack([points.x, points.y, points.z], axis=1), own.position_angst)
    step = np.array([arrows.x[1] - arrows.x[0], arrows.y[1] - arrows.y[0], arrows.z[1] - arrows.z[0]])
    np.testing.assert_allclose(step / np.linalg.norm(step), own.rotations[0, :, 2], atol=1e-6)
    viewer._caught(np.array([1]), "click")
    assert viewer.selection.particle_ids == (own.particle_id[1],)
    np.testing.assert_allclose([ring.x[0], ring.y[0], ring.z[0]], own.position_angst[1])
    viewer.mode = "slices"  # a plain map of places
    assert len(drawn(viewer, "particles")) + len(drawn(viewer, "others")) == len(own)
    viewer.tomogram = "TS_001.tomostar"
    assert viewer.mode == "slices"


def test_what_is_wrong_is_said_in_place(run, folder, small_particles, tmp_path):
    write_tomogram(folder / f"TS_002_{VOXEL:.2f}Apx.mrc", np.zeros((15, 20, 57), np.float32), VOXEL, overwrite=True)
    viewer = td.widgets.TomogramViewer(run, tomograms=folder)
    assert viewer.message == ""
    viewer.tomogram = "TS_002.tomostar"
    assert "particles outside TS_002" in viewer.message
    viewer.tomogram = "TS_001.tomostar"
    assert viewer.message == ""
    viewer.tomogram = "TS_002.tomostar"
    assert "particles outside TS_002" in viewer.message
    (folder / f"TS_001_{VOXEL:.2f}Apx.mrc").write_bytes(b"x" * 2000)
    again = td.widgets.TomogramViewer(run, tomograms=folder)
    assert again.message.startswith("Got ")
    assert again.mode == "3-D"
    other = td.fit_linear(small_particles, tmp_path / "none", td.LinearConfig(n_components=1))
    bare = td.widgets.TomogramViewer(other)
    assert "positions=read_positions(FILE)" in bare.message
    assert "expected the tomogram and the position" in bare._note.value


def test_positions_of_another_file_are_joined_by_name(run, folder):
    found = td.read_positions(run.settings["source"]["path"])
    order = np.random.default_rng(1).permutation(len(found))[:-2]
    moved = replace(found.take(order), position_angst=found.position_angst[order] + 100.0)
    viewer = td.widgets.TomogramViewer(run, tomograms=folder, positions=moved)
    assert viewer.message == "22 of 24 particles have one of 22 positions"
    place = dict(zip(found.particle_id, found.position_angst, strict=True))
    for name, at in zip(viewer.positions.particle_id, viewer.positions.position_angst, strict=True):
        np.testing.assert_allclose(at, place[name] + 100.0)
