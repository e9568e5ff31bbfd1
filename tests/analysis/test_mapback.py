"""Maps go back where their particles were; wrong conventions fit worse; the scripts say what the matrices say."""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

import tomodrgn as td
from tests.analysis.planted import SEEDS
from tests.analysis.tomograms import as_positions
from tomodrgn.analysis.chimerax import safe_name, write_markers, write_script
from tomodrgn.analysis.mapback import _unique, map_back
from tomodrgn.analysis.placement import place_maps, render_tomogram, score_hands
from tomodrgn.cli import run_command
from tomodrgn.imaging.resolution import mirror
from tomodrgn.particles.position_set import Positions

BOX, VOXEL, TOMOGRAM_VOXEL = 24, 6.0, 8.0
SHAPE = (40, 64, 52)  # zyx, not a cube
# Blobs of one particle, angstrom from its centre, xyz: of no symmetry, and not its own mirror image.
BLOBS = np.array([[0, 0, 0], [24, 0, 0], [0, 34, 0], [0, 0, 44], [24, 0, 16], [-18, -12, 6]], dtype=float)
HEIGHTS, WIDTH = np.array([1.0, 1.5, 0.8, 1.2, 1.0, 0.7]), 7.0


def blob_map(centre: float = BOX // 2) -> np.ndarray:
    """The particle on its grid, with its centre at a voxel index."""
    axis = (np.arange(BOX) - centre) * VOXEL
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    places = np.stack([x, y, z], axis=-1)[..., None, :] - BLOBS
    return (np.exp(-0.5 * np.square(places).sum(axis=-1) / WIDTH**2) @ HEIGHTS).astype(np.float32)


def true_tomogram(rotations: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Blobs of all particles where they belong, without any map: ``A r + position``."""
    tomogram = np.zeros(SHAPE, np.float32)
    z, y, x = np.meshgrid(*(np.arange(n) * TOMOGRAM_VOXEL for n in SHAPE), indexing="ij")
    for rotation, place in zip(rotations, places, strict=True):
        for blob, height in zip(BLOBS @ rotation.T + place, HEIGHTS, strict=True):
            square = (x - blob[0]) ** 2 + (y - blob[1]) ** 2 + (z - blob[2]) ** 2
            tomogram += height * np.exp(-0.5 * square / WIDTH**2)
    return tomogram


ORIGIN = np.array([9.0, -11.0, 8.0])


def relion_star(folder: Path, seed: int, *, with_origin: bool) -> Path:
    """Five particles whose picked coordinates are off their centres by what rlnOrigin says."""
    rng = np.random.default_rng(seed)
    places = np.array([[i, j, 0.5] for i in (0.28, 0.72) for j in (0.2, 0.5, 0.8)])[:5] * np.array(SHAPE[::-1])
    places = places * TOMOGRAM_VOXEL + rng.normal(size=(5, 3)) * 6
    angles = Rotation.random(5, random_state=seed).as_euler("ZYZ", degrees=True)
    picked = (places + ORIGIN) / 4.0
    labels = ["_rlnCoordinateX", "_rlnCoordinateY", "_rlnCoordinateZ", "_rlnAngleRot", "_rlnAngleTilt", "_rlnAnglePsi",
              "_rlnMicrographName", "_rlnImageName", "_rlnOpticsGroup"]  # fmt: skip
    if with_origin:
        labels += ["_rlnOriginXAngst", "_rlnOriginYAngst", "_rlnOriginZAngst"]
    rows = []
    for i, (place, angle) in enumerate(zip(picked, angles, strict=True)):
        row = [*(f"{v:.6f}" for v in place), *(f"{v:.6f}" for v in angle)]
        row += ["TS_07.tomostar", f"subtomo/TS_07/TS_07_{i:07d}_4.00A.mrc", "1"]
        rows.append(" ".join(row + [f"{v:.4f}" for v in ORIGIN] * with_origin))
    path = folder / f"volumes_{with_origin}.star"
    path.write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnImagePixelSize #2\n_rlnImageDimensionality #3\n1 4.0 3\n\n"
        "data_particles\n\nloop_\n" + "\n".join(f"{name} #{i + 1}" for i, name in enumerate(labels)) + "\n"
        + "\n".join(rows) + "\n"
    )  # fmt: skip
    return path


def rendered(positions: Positions, volume: np.ndarray) -> np.ndarray:
    return render_tomogram(positions, volume[None], VOXEL, shape_zyx=SHAPE, tomogram_voxel_angst=TOMOGRAM_VOXEL)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


# --- placement --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_placed_maps_make_the_true_tomogram_and_wrong_conventions_do_not(seed, tmp_path):
    positions = td.read_positions(relion_star(tmp_path, seed, with_origin=True))
    bare = td.read_positions(relion_star(tmp_path, seed, with_origin=False))
    np.testing.assert_allclose(bare.position_angst - positions.position_angst, np.tile(ORIGIN, (5, 1)), atol=1e-3)
    truth = true_tomogram(positions.rotations, positions.position_angst)
    turned = replace(positions, rotations=positions.rotations.transpose(0, 2, 1))
    right = correlation(truth, rendered(positions, blob_map()))
    wrong = {
        "transposed rotation": correlation(truth, rendered(turned, blob_map())),
        "mirrored hand": correlation(truth, rendered(positions, mirror(blob_map()))),
        "half-voxel centre": correlation(truth, rendered(positions, blob_map((BOX - 1) / 2))),
        "missing origin": correlation(truth, rendered(bare, blob_map())),
    }
    assert right > 0.97
    assert all(score < right - 0.04 for score in wrong.values()), wrong


def test_matrices_take_the_centre_of_the_box_to_the_particle():
    rotations = Rotation.random(4, random_state=0).as_matrix()
    places = np.random.default_rng(0).uniform(0, 500, size=(4, 3))
    affine = place_maps(as_positions(places, rotations, np.array(["a"] * 4)), BOX, VOXEL)
    point = np.array([5.0, -7.0, 20.0])
    centre = np.full(3, BOX // 2 * VOXEL)
    for matrix, rotation, place in zip(affine, rotations, places, strict=True):
        np.testing.assert_allclose(matrix @ [*centre, 1], [*place, 1], atol=1e-9)
        np.testing.assert_allclose((matrix @ [*(centre + point), 1])[:3], rotation @ point + place, atol=1e-9)


@pytest.mark.parametrize("contrast", [1, -1])
def test_hands_are_scored_in_noise_and_either_contrast(contrast, tmp_path):
    positions = td.read_positions(relion_star(tmp_path, 1, with_origin=True))
    truth = true_tomogram(positions.rotations, positions.position_angst)
    noisy = contrast * (truth + np.random.default_rng(0).normal(size=SHAPE) * truth.std()) + 5
    found = score_hands(noisy, TOMOGRAM_VOXEL, positions, blob_map(), voxel_size_angst=VOXEL)
    assert not found.mirrored_is_better
    assert found.dark == (contrast < 0)
    assert found.same > found.mirrored + 0.1
    assert found.n_particles >= 3
    other = score_hands(noisy, TOMOGRAM_VOXEL, positions, mirror(blob_map()), voxel_size_angst=VOXEL)
    assert other.mirrored_is_better
    assert str(other).startswith("the mirror image fits the tomogram better")
    with pytest.raises(ValueError, match="none of 5 particles in it"):
        score_hands(noisy[:4], TOMOGRAM_VOXEL, positions, blob_map(), voxel_size_angst=VOXEL)


# --- a run back in its tomograms --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> td.Run:
    place = tmp_path_factory.mktemp("mapback")
    particles = td.simulate_particles(
        place / "data", n_particles=60, n_tilts=10, box_px=32, snr=0.3, seed=0, dialect="warptools"
    )
    return td.fit_linear(particles, place / "run", model=td.LinearConfig(n_components=2))


def parsed(script: Path) -> dict[str, dict[str, object]]:
    """What a script does to each model of a map."""
    models: dict[str, dict[str, object]] = {}
    for line in script.read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r'open "([^"]+)" id (3\.\d+)', line):
            models["#" + found[2]] = {"file": found[1]}
        elif found := re.fullmatch(r"view matrix models (#3\.\d+),(.+)", line):
            models[found[1]]["matrix"] = np.array(found[2].split(","), dtype=float).reshape(3, 4)
        elif found := re.fullmatch(r"color (#3\.\d+) (#[0-9a-f]{6})", line):
            models[found[1]]["colour"] = found[2]
        elif found := re.fullmatch(r"volume (#3\.\d+) style surface step 1 level (\S+)", line):
            models[found[1]]["level"] = float(found[2])
        else:
            assert line.startswith(("#", "view", "open", "volume #1 ")), line
    return models


@pytest.mark.parametrize("maps", ["one", "class", "particle"])
def test_scripts_say_what_the_matrices_say(run, tmp_path, maps):
    labels = pd.Series(np.where(run.latents().mu[:, 0] > 0, "open", "closed"), index=run.latents().particle_id)
    found = map_back(run, tmp_path, maps=maps, labels=labels)
    assert len(found.table) == 60
    assert len(found.scripts) == found.table["tomogram"].nunique() > 1
    assert len(found.maps.maps) == {"one": 1, "class": 2, "particle": 60}[maps]
    tomograms = sorted(found.table["tomogram"].unique())
    for script, tomogram in zip(found.scripts, tomograms, strict=True):
        rows = found.table[found.table["tomogram"] == tomogram]
        models = parsed(script)
        assert len(models) == len(rows)
        markers = ET.parse(script.with_suffix(".cmm")).getroot()
        assert [m.get("note") for m in markers] == rows.index.tolist()
        colours = {}
        for (name, row), model, marker in zip(rows.iterrows(), models.values(), markers, strict=True):
            matrix = row[[f"m{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3, 4)]].to_numpy(float).reshape(3, 4)
            np.testing.assert_allclose(model["matrix"], matrix, atol=1e-4)
            np.testing.assert_allclose(matrix, found.affine[found.table.index.get_loc(name), :3], atol=1e-9)
            assert not Path(model["file"]).is_absolute()
            assert (tmp_path / model["file"]).is_file()
            assert model["file"] == row["map"]
            colours.setdefault(row["label"], set()).add(model["colour"])
            rgb = "#" + "".join(f"{round(255 * float(marker.get(c))):02x}" for c in "rgb")
            assert rgb == model["colour"]
        assert all(len(seen) == 1 for seen in colours.values())
        assert len(set.union(*colours.values())) == len(colours)
    np.testing.assert_allclose(found.affine_zyx[:, 0, 3], found.affine[:, 2, 3])
    np.testing.assert_allclose(found.affine_zyx[:, 1, 0], found.affine[:, 1, 2])


def test_particles_come_as_star_files_of_classes_and_tomograms(run, tmp_path):
    labels = pd.Series(np.where(run.latents().mu[:, 0] > 0, "open", "closed"), index=run.latents().particle_id)
    found = map_back(run, tmp_path, labels=labels)
    datadir = Path(run.settings["source"]["path"]).parent
    for label in ("open", "closed"):
        again = td.read_particles(tmp_path / "classes" / f"class_{label}.star", datadir=datadir)
        assert set(again.particle_id) == set(labels.index[labels == label])
    for script in found.scripts:
        again = td.read_particles(tmp_path / "tomograms" / f"{script.stem}.star", datadir=datadir)
        assert len(set(again.tomogram)) == 1
    with (tmp_path / "placements.csv").open(newline="") as file:
        assert [row["particle_id"] for row in csv.DictReader(file)] == found.table.index.tolist()
    with pytest.raises(FileExistsError, match=r"placements\.csv"):
        map_back(run, tmp_path, labels=labels)
    map_back(run, tmp_path, labels=labels, overwrite=True)


def test_a_column_gives_the_colours_and_a_choice_the_particles(run, tmp_path):
    ids = run.latents().particle_id[:20]
    found = map_back(run, tmp_path, colour_by="z1", particle_ids=ids)
    assert set(found.table.index) == set(ids)
    z = run.table().loc[found.table.index, "z1"]
    rgb = (255 * found.table[["red", "green", "blue"]]).round()
    assert rgb.loc[z.idxmax()].tolist() == [253, 231, 37]
    assert rgb.loc[z.idxmin()].tolist() == [68, 1, 84]
    with pytest.raises(KeyError, match="Got column 'z9' for the colours"):
        map_back(run, tmp_path / "other", colour_by="z9")
    with pytest.raises(ValueError, match=r"expected 3 at most .*--max-maps"):
        map_back(run, tmp_path / "other", max_maps=3)
    with pytest.raises(KeyError, match="labels without 59 of 60"):
        map_back(run, tmp_path / "other", labels=pd.Series("a", index=ids[:1]))


def test_a_tomogram_is_opened_and_tells_the_hand(run, tmp_path):
    """The decoded maps themselves, rendered into a tomogram and mirrored in another."""
    import mrcfile

    plain = map_back(run, tmp_path / "plain", maps="one")
    voxel = plain.maps.voxel_size_angst
    folder = tmp_path / "tomograms of mine"
    folder.mkdir()
    positions = td.read_positions(run.settings["source"]["path"]).aligned_to(run.particles).positions
    names = sorted(set(positions.tomogram))
    for i, name in enumerate(names):
        own = positions.take(positions.tomogram == name)
        shape = tuple(int(n) for n in np.ceil(own.position_angst.max(axis=0)[::-1] / voxel) + 20)
        maps = mirror(plain.maps.maps) if i == 1 else plain.maps.maps
        volume = render_tomogram(own, maps, voxel, shape_zyx=shape, tomogram_voxel_angst=voxel)
        with mrcfile.new(folder / f"rec_{name}.mrc") as file:
            file.set_data(-volume)
            file.voxel_size = voxel
    found = map_back(run, tmp_path / "out", maps="one", tomograms=folder)
    better = [score.mirrored_is_better for score in found.hands.values()]
    assert better == [i == 1 for i in range(len(better))]
    assert len(better) > 1
    assert all(score.dark for score in found.hands.values())
    first = re.search(r'open "([^"]+)" id 1 ', found.scripts[0].read_text())
    assert (found.scripts[0].parent / first[1]).resolve() == (folder / f"rec_{names[0]}.mrc").resolve()


def test_labels_of_like_names_stay_apart_and_files_of_others_stay(run, tmp_path):
    ids = run.latents().particle_id
    labels = pd.Series([("a b", "a_b", "A_B")[i % 3] for i in range(len(ids))], index=ids)
    found = map_back(run, tmp_path / "out", labels=labels)
    assert len(found.maps.maps) == 3
    assert found.table.groupby("label")["map"].nunique().tolist() == [1, 1, 1]
    assert found.table["map"].nunique() == 3
    stars = sorted((tmp_path / "out" / "classes").glob("class_*.star"))
    stars = [path for path in stars if not path.stem.endswith(("_particles", "_tomograms"))]
    assert len(stars) == 3
    (tmp_path / "other").mkdir()
    mine = tmp_path / "other" / found.scripts[0].name
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match=mine.name):
        map_back(run, tmp_path / "other", labels=labels)
    assert mine.read_text() == "mine"
    assert not (tmp_path / "other" / "maps").exists()


def test_names_that_meet_numbered_ones_get_the_next_number(run, tmp_path):
    ids = run.latents().particle_id
    labels = pd.Series([("x y", "x y_2", "x_y")[i % 3] for i in range(len(ids))], index=ids)
    found = map_back(run, tmp_path, labels=labels)
    assert found.maps.names == ["class_x_y", "class_x_y_2", "class_x_y_3"]
    assert found.table.groupby("label")["map"].unique().map(list).tolist() == [
        ["maps/class_x_y.mrc"],
        ["maps/class_x_y_2.mrc"],
        ["maps/class_x_y_3.mrc"],
    ]
    assert _unique(["TS_1", "ts_1_2", "Ts_1", "TS_1_3", "ts_1"]) == ["TS_1", "ts_1_2", "Ts_1_3", "TS_1_3_2", "ts_1_4"]
    assert _unique(["x", "x_particles", "y_tomograms", "y"]) == ["x", "x_particles_2", "y_tomograms", "y_2"]


def test_unknown_words_for_maps_are_refused(run, tmp_path):
    unchecked = getattr(map_back, "__wrapped__", map_back)  # as users call it: types are checked in tests only
    with pytest.raises(ValueError, match="Got maps 'foo', expected one of 'one', 'class', 'particle'"):
        unchecked(run, tmp_path / "out", maps="foo")
    assert not (tmp_path / "out").exists()


def test_runs_whose_file_has_no_positions_ask_for_one(small_particles, tmp_path):
    linear = td.fit_linear(small_particles, tmp_path / "run", model=td.LinearConfig(n_components=1))
    with pytest.raises(ValueError, match="--positions FILE"):
        map_back(linear, tmp_path / "out")


def test_the_verb(run, tmp_path, capsys):
    assert run_command(["mapback", str(run.folder), str(tmp_path / "out"), "--maps", "one", "--colour-by", "z1"]) == 0
    assert "placed 60 particles in" in capsys.readouterr().out
    assert run_command(["mapback", str(run.folder), str(tmp_path / "out")]) == 2
    assert "placements.csv" in capsys.readouterr().err


def test_hostile_names_stay_names(tmp_path):
    for name in ("../../etc/passwd", 'a"; exit #1', "x\ny", "", ".hidden"):
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", safe_name(name)), name
    note = '"/><marker id="9" note="<&'
    write_markers(tmp_path / "m.cmm", [note], np.zeros((1, 3)), np.zeros((1, 3)), radius_angst=1.0)
    assert [marker.get("note") for marker in ET.parse(tmp_path / "m.cmm").getroot()] == [note]
    with pytest.raises(ValueError, match="no quotes or line breaks"):
        write_script(
            tmp_path / "s.cxc",
            markers='m.cmm"\nexit',
            maps=[],
            affine=np.zeros((0, 4, 4)),
            rgb=np.zeros((0, 3)),
            levels=[],
        )


def test_the_real_set_goes_back(shared_data, tmp_path):
    folder = shared_data / "warptools"
    star = folder / "warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
    particles = td.read_particles(star, datadir=folder)
    linear = td.fit_linear(particles, tmp_path / "run", model=td.LinearConfig(n_components=1))
    found = map_back(linear, tmp_path / "out")
    assert len(found.table) == 40
    assert len(found.scripts) == 4
    positions = td.read_positions(star).aligned_to(particles).positions
    centre = np.array([*np.full(3, 16 * 12.0), 1])
    placed = found.affine @ centre
    np.testing.assert_allclose(placed[:, :3], positions.position_angst, atol=0.05)
