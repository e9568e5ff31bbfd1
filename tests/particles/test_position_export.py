"""Coordinates written for WarpTools and RELION: the columns each of them reads, and the way there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from tests.particles.small_sets import WarpToolsSet, text_frame
from tomodrgn.imaging.pose import euler_to_rotation
from tomodrgn.io.star import write_star
from tomodrgn.particles.position_export import rotation_to_euler
from tomodrgn.particles.positions import read_positions, write_positions
from tomodrgn.particles.read import read_particles

PROJECT = "formats/relion5/project"
NAMES = {"formats/stopgap/class6_er_mr1_1_sg.star": {"24": "TS_24"}, "formats/dynamo/crop.tbl": {"1": "x/TS_01.mrc"}}
CONVERTED = [
    "formats/stopgap/class6_er_mr1_1_sg.star",
    "formats/dynamo/crop.tbl",
    "formats/pytom/pickpos_format.xml",
    "formats/warp_v1_m/SYNTHETIC_m_species_particles.star",
    "formats/relion3/relion_3.1_optics2.star",
    "formats/relion4/relion_4.0.star",
    f"{PROJECT}/Refine3D/job023/run_optimisation_set.star",
]


def read(shared_data: Path, file: str):
    pixel = {} if file.endswith(("species_particles.star", "optics2.star", "4.0.star", "set.star")) else {
        "pixel_size_angst": 9.6}  # fmt: skip
    return read_positions(shared_data / file, tomogram_names=NAMES.get(file), **pixel)


@pytest.mark.parametrize("file", CONVERTED)
def test_there_and_back_in_angstrom(file: str, shared_data: Path, tmp_path: Path) -> None:
    """As WarpTools reads it: one table, rlnMicrographName, coordinates times --coords_angpix, no origin left."""
    positions = read(shared_data, file)
    assert write_positions(positions, tmp_path / "out.star") == 1.0
    table = starfile.read(tmp_path / "out.star")
    assert "rlnTomoName" not in table
    assert not [name for name in table if "Origin" in name]
    assert table["rlnMicrographName"].str.endswith(".tomostar").all()
    again = read_positions(tmp_path / "out.star")
    np.testing.assert_array_equal(again.particle_id, positions.particle_id)
    np.testing.assert_allclose(again.position_angst, positions.position_angst, atol=1e-6)
    np.testing.assert_allclose(again.rotations, positions.rotations, atol=1e-7)


def test_one_file_for_warptools_and_relion(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / PROJECT / "Refine3D/job023/run_optimisation_set.star"
    positions = read_positions(source)
    assert write_positions(positions, tmp_path / "out.star", tomograms=source) == 1.35
    table = starfile.read(tmp_path / "out.star", always_dict=True)["particles"]  # the block that RELION asks for
    assert set(table["rlnTomoName"]) == set(positions.tomogram)
    assert (table["rlnMicrographName"] == table["rlnTomoName"] + ".tomostar").all()
    assert table["rlnTomoParticleName"].tolist() == positions.particle_id.tolist()
    assert set(table["rlnRandomSubset"]) == {1, 2}
    coordinates_px = table[[f"rlnCoordinate{axis}" for axis in "XYZ"]].to_numpy()
    centred = table[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    np.testing.assert_allclose(coordinates_px * 1.35, positions.position_angst, atol=1e-5)
    np.testing.assert_allclose(centred / 1.35 + [2000, 2000, 1000], coordinates_px, atol=1e-5)
    euler = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    back = Rotation.from_euler("ZYZ", euler, degrees=True).inv().as_matrix()
    np.testing.assert_allclose(back, positions.rotations, atol=1e-7)
    again = read_positions(tmp_path / "out.star", tomograms=source)
    np.testing.assert_allclose(again.position_angst, positions.position_angst, atol=1e-5)


def test_a_list_of_numbers_named_and_joined_after_extraction(tmp_path: Path) -> None:
    """Dynamo -> coordinates -> particles that bear our names: the original table still finds them."""
    made = WarpToolsSet(tmp_path)
    table = np.zeros((3, 26))
    table[:, 0], table[:, 19] = [70, 71, 72], [1, 2, 1]
    table[:, 23:26] = [[100, 110, 40], [120, 90, 30], [60, 50, 20]]
    np.savetxt(tmp_path / "a.tbl", table, fmt="%g")
    (tmp_path / "names.csv").write_text("number,name\n1,rec_001.mrc\n2,rec_T_2.mrc\n")
    positions = read_positions(tmp_path / "a.tbl", pixel_size_angst=10.0, tomogram_names=tmp_path / "names.csv")
    assert write_positions(positions, tmp_path / "out.star", tomograms=tmp_path / "t.star") == 2.0
    out = starfile.read(tmp_path / "out.star")
    assert out["rlnTomoName"].tolist() == ["001.tomostar", "T_2.tomostar", "001.tomostar"]
    assert out["rlnTomoParticleName"].tolist() == ["001/1", "T_2/1", "001/2"]
    assert out["rlnCoordinateX"].tolist() == [500, 600, 300]
    again = read_positions(tmp_path / "out.star", tomograms=tmp_path / "t.star")
    match = again.aligned_to(read_particles(made.path))  # extracted, and named anew in the order of the rows
    np.testing.assert_allclose(match.positions.position_angst[:, 0], [1000, 600, 1200])
    made.rows = made.rows.assign(tomodrgnParticleId=["70", "72", "71"])  # extracted, with our column kept
    made.write()
    kept = positions.aligned_to(read_particles(made.path))
    np.testing.assert_allclose(kept.positions.position_angst[:, 0], [1000, 600, 1200])


def test_tomograms_by_number_are_refused(shared_data: Path, tmp_path: Path) -> None:
    positions = read_positions(shared_data / "formats/dynamo/crop.tbl", pixel_size_angst=2.0)
    with pytest.raises(ValueError, match=r"tomograms 1 of .*by number.*--tomogram-names"):
        write_positions(positions, tmp_path / "out.star")
    with pytest.raises(ValueError, match=r"first \['1'\], expected names such as \['TS_01', 'TS_03', 'TS_43'\]"):
        write_positions(
            positions, tmp_path / "out.star", tomograms=shared_data / PROJECT / "Denoise/job008/tomograms.star"
        )
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    made = WarpToolsSet(tmp_path)
    positions = read_positions(made.path)
    (tmp_path / "out.star").write_text("mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_positions(positions, tmp_path / "out.star")
    write_positions(positions, tmp_path / "out.star", overwrite=True)
    sizes = made.tomograms["global"]
    write_star(tmp_path / "b.star", {"global": sizes.assign(rlnTomoTiltSeriesPixelSize=["2", "3"])})
    with pytest.raises(ValueError, match=r"several values of rlnTomoTiltSeriesPixelSize .* 2 \(2 rows\), 3 \(1 rows\)"):
        write_positions(positions, tmp_path / "c.star", tomograms=tmp_path / "b.star")
    write_star(tmp_path / "d.star", {"global": sizes.assign(rlnTomoSizeX="10")})
    with pytest.raises(ValueError, match="outside their tomogram"):
        write_positions(positions, tmp_path / "c.star", tomograms=tmp_path / "d.star")
    write_star(tmp_path / "e.star", {"particles": text_frame([{"rlnTomoParticleName": "a/1"}])})
    with pytest.raises(ValueError, match="no table of tomograms"):
        write_positions(positions, tmp_path / "c.star", tomograms=tmp_path / "e.star")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_euler_angles_of_any_rotation(seed: int) -> None:
    rotations = Rotation.random(200, random_state=seed).as_matrix()
    np.testing.assert_allclose(euler_to_rotation(*rotation_to_euler(rotations).T), rotations, atol=1e-12)
    for tilt in (0.0, 180.0):
        poles = euler_to_rotation(np.linspace(-170, 170, 9), np.full(9, tilt), np.linspace(80, -20, 9))
        np.testing.assert_allclose(euler_to_rotation(*rotation_to_euler(poles).T), poles, atol=1e-12)
