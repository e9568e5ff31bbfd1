"""Positions of every program: real and hand-made files against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from tests.io.test_motive_lists import em_file
from tests.particles.small_sets import WarpToolsSet, simple, text_frame
from tomodrgn.io.star import read_star, write_star
from tomodrgn.particles.position_set import tomogram_root
from tomodrgn.particles.positions import read_positions

PROJECT = "formats/relion5/project"


def zyz(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's matrix, element by element (Heymann, Chagoyen & Belnap 2005)."""
    (ca, cb, cg), (sa, sb, sg) = np.cos(np.deg2rad([rot, tilt, psi])), np.sin(np.deg2rad([rot, tilt, psi]))
    return np.array([
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ])  # fmt: skip


def zxz(first: float, second: float, third: float) -> np.ndarray:
    """Extrinsic: about z, then x, then z."""
    return Rotation.from_euler("zxz", [first, second, third], degrees=True).as_matrix()


SUBTOMOGRAM = zyz(167.689240, 98.103985, -164.55358)
CENTRE = np.array([4000, 4000, 2000]) / 2 * 1.35
FIRST_CENTRED = np.array([1776.506664, -950.69325, 1135.301351])
MIXED = "formats/stopgap/class6_er_mr1_1_sg.star"

# file, options, kind, particles, first name, its tomogram, its position (angstrom), its rotation
SAMPLES: list[tuple[str, dict[str, Any], str, int, str, str, Any, np.ndarray]] = [
    ("formats/warp_v1_m/volumeseries_bin1_1deg.star", {}, "volume_series", 2, "1342_0000328", "1342",
     np.array([4052.123, 3272.708, 777.879]) * 1.971, zyz(-74.015670, 102.202373, -102.160360)),
    ("formats/warp_v1_m/dynamo2m_warp_volumeseries.star", {}, "volume_series", 44, "tomo_ts01.mrc_0000000",
     "tomo_ts01.mrc", (7561.765, 5632.5, 4867.5), zyz(-99.65710, 20.10800, 40.55400)),
    ("formats/warp_v1_m/pytom_subtomo_format.star", {}, "volume_series", 40, "tomo200528_100.mrc_0000000",
     "tomo200528_100.mrc", (5558.176, 2744.608, 1434.368), zyz(-61.8573, 110.4252, 35.4281)),
    ("formats/warp_v1_m/SYNTHETIC_m_species_particles.star", {}, "m", 6, "TS_01_0000000", "TS_01",
     (979.31262, 5115.11567, 4629.89279), zyz(-88.17515, 89.17832, -18.18322)),
    ("formats/relion3/relion_3.0_warp_volumeseries.star", {}, "volume_series", 3, "01006_0000000", "01006",
     np.array([1028.455, 733.955, 422.955]) * 5.364, zyz(-60.199770, 120.999041, 86.088799)),
    ("formats/relion3/relion_3.1_optics2.star", {}, "volume_series", 3, "0002_0000065", "0002",
     (915.549 * 2.446 + 0.25289, 1480.63 * 2.446 + 2.69889, 938.008 * 2.446 - 7.24711),
     zyz(145.087672, 160.779720, 68.007232)),
    ("formats/relion3/dynamo2m_relion3.1.star", {}, "volume_series", 57, "TS_01.mrc_0000000", "TS_01.mrc",
     (314.929 * 5 - 3.947427, 918.864 * 5 - 0.072427, 349.444 * 5 - 0.072427),
     zyz(-16.91486, 175.815434, 47.775756)),
    ("formats/relion5/relion5.1_3D_warp_subtomo_data.star", {}, "volume_series", 17, "021_0000000", "021",
     (1614.547 * 4.828 - 6.177174, 942.527 * 4.828 - 4.439094, None), zyz(-29.12356, 60.021487, -74.77946)),
    ("formats/relion4/relion_4.0.star", {}, "relion4", 25, "TS_017/68", "TS_017",
     (1700 * 1.971 - 1.260416, 428 * 1.971 - 2.364176, 944 * 1.971 - 3.783296),
     zyz(-61.71449, 150.606435, 110.442075)),
    (f"{PROJECT}/Extract/job020/optimisation_set.star", {}, "relion5", 32, "TS_01/12", "TS_01",
     FIRST_CENTRED + CENTRE, SUBTOMOGRAM @ zyz(-1.00085, 97.383685, 6.558202)),
    (f"{PROJECT}/Refine3D/job023/run_optimisation_set.star", {}, "relion5", 32, "TS_01/12", "TS_01",
     FIRST_CENTRED + CENTRE - SUBTOMOGRAM @ [-2.04850, 1.570849, 1.111174],
     SUBTOMOGRAM @ zyz(-1.47467, 95.609069, 4.094697)),
    (f"{PROJECT}/Picks/job019/particles.star", {"tomograms": f"{PROJECT}/Denoise/job008/tomograms.star"}, "relion5", 51,
     "TS_54/1", "TS_54", np.array([-485.896912, 1974.646743, 588.853933]) + CENTRE, np.eye(3)),
    ("warptools/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star", {}, "warptools", 40,
     "Unt_083/1", "Unt_083", (494.521 * 12, 564.065 * 12, 28.146 * 12), zyz(53.913, 104.840, -78.580)),
    ("formats/warptools/cryocat_warp2_particles_matching.star", {}, "warptools", 21, "TS_17/1", "TS_17",
     (354.242 * 4, 397.132 * 4, 75.828 * 4), zyz(67.5, 11.716, 187.5)),
    ("formats/nextpyp/SYNTHETIC_nextpyp_relion5_export_particles.star", {}, "nextpyp", 1, "TS_01/1", "TS_01",
     (250.5 * 5.4, 310.25 * 5.4, 80 * 5.4), zyz(10, 20, 30)),
    ("formats/cryosrpnt/simulated_first_particles_volume_series.star", {}, "cryosrpnt", 34, "000_000000", "both",
     np.array([404.7058565965978, 296.8929257571516, 191.61069256384758]) * 13.1, zyz(-45, 131.81032, 105)),
    (MIXED, {"pixel_size_angst": 9.6}, "stopgap", 59, "6", "24",
     (823.2121 * 9.6, 753.6012 * 9.6, 677.4676 * 9.6), zxz(33.2584, 8.6516, 65.255699)),
    (MIXED, {"wedge_list": "formats/stopgap/wedge_list.star", "binning": 4.0}, "stopgap", 59, "6", "24",
     (823.2121 * 9.6, 753.6012 * 9.6, 677.4676 * 9.6), zxz(33.2584, 8.6516, 65.255699)),
    ("formats/dynamo/crop.tbl", {"pixel_size_angst": 10.0}, "dynamo", 60, "1", "1",
     (7817.1, 2542.4, 2190.0), zxz(-2.6459, 90, 2.6459).T),
    ("formats/dynamo/b4_motl_CR_dynamo.tbl", {"pixel_size_angst": 10.0}, "dynamo", 60, "1", "2",
     (5080.651, 5491.602, 1676.847), zxz(144.13, -79.159, -180).T),
    ("formats/dynamo/dynamo2m_example.tbl",
     {"pixel_size_angst": 15.0, "tomogram_names": "formats/dynamo/dynamo2m_example.doc"}, "dynamo", 60, "43",
     "tomo_ts01.mrc", (507.3349 * 15, 376.1725 * 15, 322.3319 * 15), zxz(-32.745, 7.6126, -96.518).T),
    ("formats/pytom/pickpos_format.xml", {"pixel_size_angst": 2.0}, "pytom", 10, "tomo1/1", "tomo1",
     (0, 0, 0), zxz(303.99186654901735, 75.7028845495521, 272.8635850585089)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "options", "kind", "count", "name", "root", "position", "rotation"),
    SAMPLES,
    ids=[f"{sample[0].split('/', 1)[1]}{'+' * ('wedge_list' in sample[1])}" for sample in SAMPLES],
)
def test_sample(file, options, kind, count, name, root, position, rotation, shared_data: Path) -> None:
    options = {key: shared_data / value if isinstance(value, str) else value for key, value in options.items()}
    positions = read_positions(shared_data / file, **options)
    assert (positions.kind, len(positions)) == (kind, count)
    assert (positions.particle_id[0], tomogram_root(positions.tomogram[0])) == (name, root)
    known = np.array([value is not None for value in position])
    wanted = [value for value in position if value is not None]
    np.testing.assert_allclose(positions.position_angst[0][known], wanted, atol=1e-6 if kind != "relion5" else 1e-4)
    np.testing.assert_allclose(positions.rotations[0], rotation, atol=1e-4 if file.endswith("matching.star") else 1e-9)
    np.testing.assert_allclose(np.linalg.det(positions.rotations), 1.0)
    assert len(positions.source) == count


def test_dynamo_and_warp_name_the_same_axes(shared_data: Path) -> None:
    """Two stages of one project, picked by Dynamo and refined through Warp: at a place the long axes nearly agree."""
    table = read_positions(shared_data / "formats/dynamo/dynamo2m_example.tbl", pixel_size_angst=15.0)
    warp = read_positions(shared_data / "formats/warp_v1_m/dynamo2m_warp_volumeseries.star")
    distance = np.linalg.norm(table.position_angst[:, None] - warp.position_angst, axis=2)
    mine, theirs = np.nonzero((distance < 150) & (np.abs(table.rotations[:, None, 2, 2]) < 0.8))
    assert len(mine) >= 10

    def median_angle_deg(axes: np.ndarray) -> float:
        return float(np.median(np.rad2deg(np.arccos((axes * warp.rotations[theirs, :, 2]).sum(axis=1)))))

    assert median_angle_deg(table.rotations[mine, :, 2]) < 15
    assert median_angle_deg(table.rotations[mine, 2, :]) > 40


def test_relion5_particles_alone_need_the_tomograms(shared_data: Path) -> None:
    particles = shared_data / PROJECT / "Refine3D/job023/run_data.star"
    with pytest.raises(ValueError, match=r"no tomograms file.*--tomograms"):
        read_positions(particles)
    alone = read_positions(particles, tomograms=shared_data / PROJECT / "Denoise/job008/tomograms.star")
    optimisation_set = shared_data / PROJECT / "Refine3D/job023/run_optimisation_set.star"
    whole = read_positions(optimisation_set)
    np.testing.assert_array_equal(alone.position_angst, whole.position_angst)
    with pytest.raises(ValueError, match=r"positions are in angstrom, expected none"):
        read_positions(particles, tomograms=optimisation_set, pixel_size_angst=2.0)


@pytest.mark.parametrize("file", [MIXED, "formats/dynamo/crop.tbl", "formats/pytom/pickpos_format.xml"])
def test_binned_pixels_need_their_size(file: str, shared_data: Path) -> None:
    with pytest.raises(ValueError, match=r"--pixel-size-angst.*unbinned pixel size times the binning"):
        read_positions(shared_data / file)


def test_a_wedge_list_needs_the_binning_and_nothing_else(shared_data: Path) -> None:
    wedge = shared_data / "formats/stopgap/wedge_list.star"
    for options in ({}, {"binning": 2.0, "pixel_size_angst": 3.0}):
        with pytest.raises(ValueError, match=r"--binning.*no other pixel size"):
            read_positions(shared_data / MIXED, wedge_list=wedge, **options)
    with pytest.raises(ValueError, match=r"binning .* without a wedge list"):
        read_positions(shared_data / MIXED, pixel_size_angst=3.0, binning=2.0)
    with pytest.raises(ValueError, match="without the block `data_stopgap_wedgelist`"):
        read_positions(shared_data / MIXED, wedge_list=shared_data / MIXED, binning=2.0)
    with pytest.raises(ValueError, match="no STOPGAP"):
        read_positions(shared_data / "formats/relion4/relion_4.0.star", wedge_list=wedge, binning=2.0)
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="expected a positive number"):
            read_positions(shared_data / MIXED, pixel_size_angst=value)


@pytest.mark.parametrize(
    "file",
    ["warp_v1_m/sta_testing.star", "cryosrpnt/10076_classD_32_clean.star", "relion3/relion31.star",
     "nextpyp/SYNTHETIC_nextpyp_21col_groupname.star", "cistem/fixture.star", "stopgap/wedge_list.star",
     "relion5/project/Denoise/job008/tomograms.star"],
)  # fmt: skip
def test_files_without_positions_are_refused(file: str, shared_data: Path) -> None:
    with pytest.raises(ValueError, match=r"with the columns .*expected the tomogram and the position of each particle"):
        read_positions(shared_data / "formats" / file)


def test_missing_parts_of_an_optimisation_set(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"particles file .*job009/particles\.star .*Tried"):
        read_positions(shared_data / PROJECT / "Picks/job009/optimisation_set.star")
    made = WarpToolsSet(tmp_path)
    (tmp_path / "t.star").rename(tmp_path / "moved.star")
    with pytest.raises(FileNotFoundError, match=r"tomograms file t\.star .*--tomograms"):
        read_positions(made.path)
    assert len(read_positions(made.path, tomograms=tmp_path / "moved.star")) == 3
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moved.star").rename(tmp_path / "elsewhere/t.star")
    assert len(read_positions(made.path, datadir=tmp_path / "elsewhere")) == 3


# ------------------------------------------------------------------ hand-made files


def star(path: Path, rows: list[dict[str, object]], **blocks: pd.DataFrame) -> Path:
    write_star(path, {**blocks, "particles": text_frame(rows)}, overwrite=True)
    return path


def row(**cells: object) -> dict[str, object]:
    place = {"rlnCoordinateX": 10, "rlnCoordinateY": 20, "rlnCoordinateZ": 30}
    return {**place, "rlnAngleRot": 0, "rlnAngleTilt": 0, "rlnAnglePsi": 0, **cells}


def test_tom_av3_list(tmp_path: Path) -> None:
    motl = np.zeros((2, 20))
    motl[:, [3, 4]] = [[11, 3], [12, 3]]
    motl[:, 7:13] = [[101, 51, 26, 1, -2, 0.5], [5, 5, 5, 0, 0, 0]]
    motl[:, 16:19] = [[10, 20, 30], [0, 0, 0]]  # phi, psi, theta
    positions = read_positions(em_file(tmp_path / "motl.em", motl), pixel_size_angst=2.0)
    assert (positions.kind, positions.particle_id.tolist()) == ("av3", ["11", "12"])
    assert positions.tomogram.tolist() == ["3", "3"]
    np.testing.assert_allclose(positions.position_angst, [[202.0, 96.0, 51.0], [8.0, 8.0, 8.0]])
    np.testing.assert_allclose(positions.rotations[0], zxz(10, 30, 20), atol=1e-7)


def test_dynamo_pixel_size_of_column_36_and_repeated_tags(tmp_path: Path) -> None:
    table = np.zeros((2, 36))
    table[:, [0, 19, 35]] = [[5, 1, 4.0], [5, 2, 4.0]]
    table[:, 23:26] = [[10, 20, 30], [1, 2, 3]]
    path = tmp_path / "a.tbl"
    np.savetxt(path, table, fmt="%g")
    positions = read_positions(path)
    assert positions.particle_id.tolist() == ["1/5", "2/5"]
    np.testing.assert_allclose(positions.position_angst[0], [40, 80, 120])
    np.testing.assert_allclose(read_positions(path, pixel_size_angst=3.0).position_angst[0], [30, 60, 90])
    table[1, 19] = 1
    np.savetxt(path, table, fmt="%g")
    with pytest.raises(ValueError, match="Got particle '1/5' twice"):
        read_positions(path)


def test_stopgap_keeps_the_best_score_of_a_repeated_particle(shared_data: Path, tmp_path: Path) -> None:
    blocks = read_star(shared_data / MIXED)
    motl = blocks["stopgap_motivelist"]
    again = motl.iloc[[3, 7]].assign(score=["0.999", "0.001"], orig_x=["1.0", "2.0"])
    blocks["stopgap_motivelist"] = pd.concat([motl, again])
    write_star(tmp_path / "a.star", blocks)
    positions = read_positions(tmp_path / "a.star", pixel_size_angst=1.0)
    before = read_positions(shared_data / MIXED, pixel_size_angst=1.0)
    assert sorted(positions.particle_id) == sorted(before.particle_id)
    at = {name: i for i, name in enumerate(positions.particle_id)}
    moved = [name for i, name in enumerate(before.particle_id)
             if not np.allclose(positions.position_angst[at[name]], before.position_angst[i])]  # fmt: skip
    assert moved == [before.particle_id[3]]


def test_pytom_shift_and_paradigm(tmp_path: Path) -> None:
    text = (
        '<ParticleList><Particle><Rotation Z1="1" Z2="2" X="3" Paradigm="ZXZ"/><Shift X="1" Y="-2" Z="0.5"/>'
        '<PickPosition X="10" Y="20" Z="30" Origin="t/TS_1.mrc"/></Particle></ParticleList>'
    )
    path = tmp_path / "a.xml"
    path.write_text(text)
    positions = read_positions(path, pixel_size_angst=2.0)
    assert (positions.particle_id[0], positions.tomogram[0]) == ("TS_1/1", "t/TS_1.mrc")
    np.testing.assert_allclose(positions.position_angst[0], [22, 36, 61])
    path.write_text(text.replace("ZXZ", "YZY"))
    with pytest.raises(ValueError, match="paradigm 'YZY'"):
        read_positions(path, pixel_size_angst=2.0)


def test_pytom_match_pick_forms(tmp_path: Path) -> None:
    rows = [row(rlnLCCmax=0.5, rlnDetectorPixelSize=8, rlnMicrographName=name) for name in ("TS_1", "TS_2", "TS_1")]
    pixels = read_positions(star(tmp_path / "a.star", rows))
    assert pixels.particle_id.tolist() == ["TS_1/1", "TS_2/1", "TS_1/2"]
    np.testing.assert_allclose(pixels.position_angst, [[80, 160, 240]] * 3)
    sizes = {"rlnTomoSizeX": 1000, "rlnTomoSizeY": 2000, "rlnTomoSizeZ": 600, "rlnTomoTiltSeriesPixelSize": 2}
    table = tmp_path / "t.star"
    write_star(table, {"global": text_frame([{"rlnTomoName": "TS_1", **sizes}])})
    centred = {"rlnCenteredCoordinateXAngst": -20, "rlnCenteredCoordinateYAngst": 8, "rlnCenteredCoordinateZAngst": 0}
    rows = [{**centred, "rlnTomoName": "TS_1", "rlnTomoTiltSeriesPixelSize": 8}]  # of the binned tomogram: not used
    np.testing.assert_allclose(
        read_positions(star(tmp_path / "b.star", rows), tomograms=table).position_angst, [[980, 2008, 600]]
    )


def test_whose_pixels_two_d_stacks_count(tmp_path: Path) -> None:
    """Extracted pixels (5 A) for WarpTools and NextPYP, unbinned ones (2 A) for RELION."""
    optics = {"rlnOpticsGroup": 1, "rlnImagePixelSize": 5, "rlnTomoTiltSeriesPixelSize": 2}
    general = simple(rlnTomoSubTomosAre2DStacks="1")

    def first(name: str, **flag: object) -> tuple[str, float]:
        rows = [row(rlnTomoName=name, rlnTomoParticleName="TS/1", rlnOpticsGroup=1)]
        path = star(tmp_path / "a.star", rows, general=general, optics=text_frame([{**optics, **flag}]))
        positions = read_positions(path)
        return positions.kind, positions.position_angst[0, 0]

    assert first("TS.tomostar", rlnCtfDataAreCtfPremultiplied=1) == ("warptools", 50)
    assert first("TS") == ("nextpyp", 50)
    assert first("TS", rlnCtfDataAreCtfPremultiplied=1) == ("relion5", 20)
    with pytest.raises(ValueError, match="no _rlnTomoTiltSeriesPixelSize"):
        read_positions(star(tmp_path / "b.star", [row(rlnTomoName="TS")]))
    assert read_positions(tmp_path / "b.star", pixel_size_angst=3.0).position_angst[0, 0] == 30


def test_a_relion4_file_may_also_name_the_micrograph(tmp_path: Path) -> None:
    """Its coordinates stay unbinned pixels (2 A), not those of its images (8 A)."""
    optics = {"rlnOpticsGroup": 1, "rlnImagePixelSize": 8, "rlnTomoTiltSeriesPixelSize": 2}
    rows = [row(rlnTomoName="TS", rlnTomoParticleName="TS/1", rlnMicrographName="TS.mrc", rlnOpticsGroup=1)]
    positions = read_positions(star(tmp_path / "a.star", rows, optics=text_frame([optics])))
    assert (positions.kind, positions.position_angst[0].tolist()) == ("relion4", [20, 40, 60])


def test_fractions_of_the_tomogram(tmp_path: Path) -> None:
    """Warp's template matching counts from 0 (first voxel) to 1 (last one) of 1000 x 1200 x 400 px of 2 A."""
    made = WarpToolsSet(tmp_path)
    places = {"rlnCoordinateX": 0.5, "rlnCoordinateY": 1.0, "rlnCoordinateZ": 0.0}
    path = star(tmp_path / "match.star", [row(rlnMicrographName="001.tomostar", **places)])
    with pytest.raises(ValueError, match=r"fractions of the tomogram.*--tomograms"):
        read_positions(path)
    positions = read_positions(path, tomograms=made.path)
    np.testing.assert_allclose(positions.position_angst, [[0.5 * 999 * 2, 1199 * 2, 0]])


def test_positions_outside_the_tomogram_are_refused(tmp_path: Path) -> None:
    made = WarpToolsSet(tmp_path)
    made.rows = made.rows.assign(rlnCoordinateX="900")
    made.write()
    with pytest.raises(ValueError, match=r"3 of 3 particles .*outside .*expected 0 to \[2000\.0, 2400\.0, 800\.0\]"):
        read_positions(made.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rlnCoordinateZ": "inf"}, "Got 'inf' as _rlnCoordinateZ of row 1"),
        ({"rlnAngleTilt": "x"}, "Got 'x' as _rlnAngleTilt of row 1"),
        ({"rlnPixelSize": "0"}, "pixel size of 0 angstrom"),
        ({"tomodrgnParticleId": "b"}, "Got particle 'b' twice"),
    ],
)
def test_bad_cells(change: dict[str, str], message: str, tmp_path: Path) -> None:
    rows = [row(rlnPixelSize=2, rlnMicrographName="TS", tomodrgnParticleId=name) for name in "ab"]
    path = star(tmp_path / "a.star", [{**rows[0], **change}, rows[1]])
    with pytest.raises(ValueError, match=message):
        read_positions(path)


def test_missing_pixel_size_and_angles(tmp_path: Path) -> None:
    path = star(tmp_path / "a.star", [row(rlnMicrographName="TS")])
    with pytest.raises(ValueError, match=r"no _rlnPixelSize.*--pixel-size-angst"):
        read_positions(path)
    np.testing.assert_allclose(read_positions(path, pixel_size_angst=2.0).position_angst, [[20, 40, 60]])
    path = star(tmp_path / "b.star", [{k: v for k, v in row(rlnMicrographName="TS").items() if k != "rlnAngleRot"}])
    with pytest.raises(ValueError, match="without _rlnAngleRot"):
        read_positions(path, pixel_size_angst=2.0)


def test_particles_without_angles_are_not_rotated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """RELION's filament picks have only the angles of the subtomogram."""
    place = {name: value for name, value in row().items() if "Coordinate" in name}
    turned = {"rlnTomoSubtomogramRot": 10, "rlnTomoSubtomogramTilt": 20, "rlnTomoSubtomogramPsi": 30}
    path = star(tmp_path / "a.star", [{**place, "rlnTomoName": "TS", **turned}])
    np.testing.assert_allclose(read_positions(path, pixel_size_angst=2.0).rotations[0], zyz(10, 20, 30), atol=1e-12)
    assert not caplog.records
    path = star(tmp_path / "b.star", [{**place, "rlnTomoName": "TS"}])
    np.testing.assert_array_equal(read_positions(path, pixel_size_angst=2.0).rotations[0], np.eye(3))
    assert "taken as not rotated" in caplog.text


def test_tomogram_names_must_be_complete(shared_data: Path) -> None:
    table = shared_data / "formats/dynamo/b4_motl_CR_dynamo.tbl"
    with pytest.raises(ValueError, match=r"2 tomograms .*without a name, first \['27', '32'\]"):
        read_positions(table, pixel_size_angst=1.0, tomogram_names={"2": "a", "25": "b"})
    named = read_positions(
        table, pixel_size_angst=1.0, tomogram_names={n: f"T{n}" for n in ("2", "5", "25", "27", "32")}
    )
    assert set(named.tomogram) <= {"T2", "T5", "T25", "T27", "T32"}
