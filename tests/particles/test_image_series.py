"""Image series of Warp v1, M and cryoSRPNT: what each image becomes, whatever the order of rows and columns."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.particles.small_sets import WarpSeries, text_frame
from tomodrgn.io.mrc import open_stack, write_stack
from tomodrgn.io.star import write_star
from tomodrgn.particles.read import describe_particles, read_particles


def test_every_quantity_of_a_warp_series(warp: WarpSeries) -> None:
    particles = read_particles(warp.path)
    assert particles.dialect == "warp"
    assert particles.particle_id.tolist() == ["001_0000007", "T_2_0000007"]
    assert particles.tomogram.tolist() == ["001", "T_2"]
    assert particles.half_set.tolist() == [2, 2]
    assert particles.offsets.tolist() == [0, 3, 5]
    assert particles.dose_e_per_angst2.tolist() == [3, 6, 9, 3, 6]
    np.testing.assert_allclose(particles.tilt_deg, [0, 20, 40, 0, 20], atol=0.01)
    assert particles.slice_index.tolist() == [0, 1, 2, 0, 1]
    assert [p.name for p in particles.stack_paths] == ["001.mrcs", "T_2.mrcs"]
    assert particles.stack_index.tolist() == [0, 0, 0, 1, 1]
    assert (particles.box_px, particles.pixel_size_angst) == (4, 5.0)
    assert (particles.ctf_premultiplied, particles.dose_weighted, particles.invert) == (False, False, True)
    assert particles.image_scale.tolist() == [1.0] * 5
    assert not particles.shifts_px.any()
    assert particles.ctf is not None
    np.testing.assert_allclose(particles.ctf.table()[4], [20010.5, 19010, 12.3, 0, 300, 2.7, 0.07], rtol=1e-6)
    expected = Rotation.from_euler("ZYZ", [20.0, 30.0, -95.35435], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(particles.rotations[2], expected, atol=1e-6)


def test_images_are_the_ones_that_the_rows_name(warp: WarpSeries) -> None:
    particles = read_particles(warp.path)
    stacks = [open_stack(path) for path in particles.stack_paths]
    first_pixels = [stacks[s][i, 0, 0] for s, i in zip(particles.stack_index, particles.slice_index, strict=True)]
    assert first_pixels == [0, 16, 32, 0, 16]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(5)), st.randoms(use_true_random=False), st.integers(0, 3))
def test_order_of_rows_and_columns_and_extra_columns_do_not_matter(
    warp: WarpSeries, rows: list[int], random: object, extra: int
) -> None:
    plain = read_particles(WarpSeries(warp.folder).path)
    columns = [*warp.rows.columns]
    random.shuffle(columns)  # type: ignore[attr-defined]
    mixed = warp.rows.iloc[rows][columns]
    for i in range(extra):
        mixed.insert(i, f"userColumn{i}", [f"text {i}", "1", "", "nan", "x"])
    write_star(warp.path, {"": mixed}, overwrite=True)
    particles = read_particles(warp.path)
    assert set(particles.particle_id) == set(plain.particle_id)
    for name in particles.particle_id:
        one, other = particles.subset([name]), plain.subset([name])
        order, source = np.argsort(one.slice_index), np.argsort(other.slice_index)
        np.testing.assert_array_equal(one.dose_e_per_angst2[order], other.dose_e_per_angst2[source])
        np.testing.assert_array_equal(one.rotations[order], other.rotations[source])
        assert one.ctf is not None
        assert other.ctf is not None
        np.testing.assert_array_equal(one.ctf.table()[order], other.ctf.table()[source])
        assert one.stack_paths[one.stack_index[0]] == other.stack_paths[other.stack_index[0]]
        assert one.tomogram.tolist() == other.tomogram.tolist()
    rows_of_first = mixed["rlnGroupName"].to_numpy() == particles.particle_id[0]
    assert particles.source_row[: particles.offsets[1]].tolist() == np.flatnonzero(rows_of_first).tolist()


def test_flags_follow_the_user(warp: WarpSeries) -> None:
    particles = read_particles(warp.path, ctf_premultiplied=True, dose_weighted=True)
    assert (particles.ctf_premultiplied, particles.dose_weighted, particles.invert) == (True, True, False)
    np.testing.assert_allclose(particles.image_scale, [1, 0.9397, 0.766, 1, 0.9397])
    assert read_particles(warp.path, invert=False).invert is False


def test_rows_refined_by_relion_3(warp: WarpSeries) -> None:
    warp.rows = warp.rows.assign(rlnOriginX="1.5", rlnOriginY="-2")
    assert read_particles(warp.write()).shifts_px.tolist() == [[1.5, -2.0]] * 5
    optics = text_frame([{"rlnOpticsGroup": 1, "rlnOpticsGroupName": "o", "rlnVoltage": 200, "rlnImagePixelSize": 2.5,
                          "rlnSphericalAberration": 1.2, "rlnAmplitudeContrast": 0.1}])  # fmt: skip
    gone = ["rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnDetectorPixelSize", "rlnMagnification",
            "rlnOriginX", "rlnOriginY"]  # fmt: skip
    rows = warp.rows.drop(columns=gone).assign(rlnOriginXAngst="5.0", rlnOriginYAngst="-2.5", rlnOpticsGroup="1")
    warp.blocks = {"particles": rows, "optics": optics}
    particles = read_particles(warp.write())
    assert particles.dialect == "warp"
    assert particles.pixel_size_angst == 2.5
    assert particles.shifts_px.tolist() == [[2.0, -1.0]] * 5
    assert particles.ctf is not None
    np.testing.assert_allclose(particles.ctf.table()[0, 4:], [200, 1.2, 0.1], rtol=1e-6)
    warp.blocks["particles"] = rows.assign(rlnOpticsGroup="7")
    with pytest.raises(ValueError, match=r"optics group '7' in .*series\.star, expected one of \['1'\]"):
        read_particles(warp.write())


def test_magnification_scales_the_pixel_size(warp: WarpSeries) -> None:
    warp.rows = warp.rows.assign(rlnMagnification="20000")
    assert read_particles(warp.write()).pixel_size_angst == 2.5


def cryosrpnt(folder: Path, **columns: object) -> Path:
    rows = [
        {"rlnImageName": f"{i + 1}@all.mrcs", "rlnDetectorPixelSize": "13.1", "rlnAngleRot": i, "rlnAngleTilt": 2,
         "rlnAnglePsi": 3, "rlnGroupName": f"000_{i // 2:06d}", **columns}
        for i in range(4)
    ]  # fmt: skip
    folder.mkdir()
    write_stack(folder / "all.mrcs", np.zeros((4, 4, 4), dtype=np.float32), 13.1)
    write_star(folder / "sim.star", {"": text_frame(rows)})
    return folder / "sim.star"


def test_cryosrpnt_without_anything_optional(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        particles = read_particles(cryosrpnt(tmp_path / "sim"))
    assert particles.dialect == "cryosrpnt"
    assert particles.ctf is None
    assert particles.dose_e_per_angst2.tolist() == [0] * 4
    assert np.isnan(particles.tilt_deg).all()
    assert particles.tomogram.tolist() == ["", ""]
    assert particles.invert is False
    assert "exposures are unknown" in caplog.text
    assert "tilt angles are unknown" in caplog.text
    assert describe_particles(particles)["tilt_range_deg"] == [None, None]


def test_cryosrpnt_with_everything(tmp_path: Path) -> None:
    ctf = {"rlnDefocusU": 13099.8, "rlnDefocusV": 13000, "rlnDefocusAngle": 5, "rlnVoltage": 300,
           "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.1, "rlnPhaseShift": 90}  # fmt: skip
    more = {"rlnOriginX": "-2.5", "rlnOriginY": "1.25", "rlnCtfBfactor": "-8.0", "rlnCtfScalefactor": "0.5"}
    particles = read_particles(cryosrpnt(tmp_path / "sim", **ctf, **more))
    assert particles.shifts_px.tolist() == [[-2.5, 1.25]] * 4
    assert particles.dose_e_per_angst2.tolist() == [2.0] * 4
    np.testing.assert_allclose(particles.tilt_deg, 60.0, rtol=1e-6)
    assert particles.ctf is not None
    np.testing.assert_allclose(particles.ctf.table()[3], [13099.8, 13000, 5, 90, 300, 2.7, 0.1], rtol=1e-6)


def test_refined_b_factors_and_tilts_switched_off_are_reported(
    warp: WarpSeries, caplog: pytest.LogCaptureFixture
) -> None:
    read_particles(warp.path)
    assert "that fall" not in caplog.text
    assert "switched off" not in caplog.text
    warp.rows["rlnCtfBfactor"] = ["-12", "-10", "-36", "-12", "-24"]
    warp.rows["rlnCtfScalefactor"] = ["1", "0.0001", "0.77", "1", "0.00094"]
    particles = read_particles(warp.write())
    assert "that fall from one image of a particle to the next, first of 001_0000007 (1 particles" in caplog.text
    assert "Got 2 images with rlnCtfScalefactor up to 0.001" in caplog.text
    assert (particles.tilt_deg >= 89.9).tolist() == [False, True, False, False, True]


def test_doubtful_values_are_reported(warp: WarpSeries, caplog: pytest.LogCaptureFixture) -> None:
    scale = [f"{x}" for x in (1.2, 0.5, 0.5, 0.5, 0.5)]
    warp.rows = warp.rows.assign(
        rlnCtfScalefactor=scale, rlnCtfBfactor=["4.0", "4.0", "4.0", "0", "-8"], rlnRandomSubset=list("12222")
    )
    particles = read_particles(warp.write())
    assert "1 values of rlnCtfScalefactor above 1" in caplog.text
    assert "rlnCtfBfactor above 0 in 3 rows (the first is row 1)" in caplog.text
    assert "half sets (rlnRandomSubset) that differ" in caplog.text
    assert particles.tilt_deg[0] == 0
    assert particles.dose_e_per_angst2.tolist() == [0, 0, 0, 0, 2]
    assert particles.half_set.tolist() == [0, 2]


def test_header_with_another_pixel_size_is_reported_and_not_believed(
    warp: WarpSeries, caplog: pytest.LogCaptureFixture
) -> None:
    write_stack(warp.folder / "particleseries/001.mrcs", np.zeros((3, 4, 4)), 4.0, overwrite=True)
    assert read_particles(warp.path).pixel_size_angst == 5.0
    assert "1 stacks whose header has another pixel size" in caplog.text


def bad_cell(column: str, value: str) -> object:
    def change(warp: WarpSeries) -> None:
        warp.rows = warp.rows.assign(**{column: [value, *warp.rows[column][1:]]})

    return change


def drop(*columns: str) -> object:
    def change(warp: WarpSeries) -> None:
        warp.rows = warp.rows.drop(columns=list(columns))

    return change


@pytest.mark.parametrize(
    ("change", "pieces"),
    [
        (bad_cell("rlnDefocusU", "abc"), ["'abc' as _rlnDefocusU of row 1", "series.star", "finite number"]),
        (bad_cell("rlnAngleRot", "nan"), ["'nan' as _rlnAngleRot of row 1"]),
        (bad_cell("rlnDefocusV", "inf"), ["'inf' as _rlnDefocusV"]),
        (
            bad_cell("rlnImageName", "particleseries/001.mrcs"),
            ["'particleseries/001.mrcs'", "number@path"],
        ),
        (bad_cell("rlnImageName", "0@particleseries/001.mrcs"), ["from 1"]),
        (bad_cell("rlnImageName", "4@particleseries/001.mrcs"), ["image 4 of", "001.mrcs, which holds 3"]),
        (bad_cell("rlnDetectorPixelSize", "6.0"), ["several values of the pixel size", "5 (4 rows), 6 (1 rows)"]),
        (bad_cell("rlnVoltage", "0"), ["0 as _rlnVoltage of row 1 (particle", "expected 1 to 5000"]),
        (bad_cell("rlnVoltage", "300000"), ["300000 as _rlnVoltage of row 1"]),
        (bad_cell("rlnAmplitudeContrast", "1.5"), ["1.5 as _rlnAmplitudeContrast", "expected 0 to 1"]),
        (bad_cell("rlnCtfScalefactor", "-0.5"), ["-0.5 as _rlnCtfScalefactor"]),
        (bad_cell("rlnDetectorPixelSize", "0"), ["0 as _rlnDetectorPixelSize", "expected 0.001 to 10000"]),
        (
            bad_cell("rlnImageName", "2@particleseries/001.mrcs"),
            ["image 2 of particleseries/001.mrcs twice for particle", "in row 2 (1 such rows)"],
        ),
        (drop("rlnDetectorPixelSize"), ["without _rlnDetectorPixelSize", "found rlnMagnification"]),
        (drop("rlnSphericalAberration"), ["without _rlnSphericalAberration"]),
    ],
)
def test_damaged_series_are_refused_with_their_place(warp: WarpSeries, change: object, pieces: list[str]) -> None:
    change(warp)  # type: ignore[operator]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is checked below)
        read_particles(warp.write())
    assert all(piece in str(caught.value) for piece in pieces), caught.value


def test_stacks_of_several_boxes_are_refused(warp: WarpSeries) -> None:
    write_stack(warp.folder / "particleseries/T_2.mrcs", np.zeros((2, 6, 6)), 5.0, overwrite=True)
    with pytest.raises(ValueError, match=r"several boxes: 4 px \(1, as .*001\.mrcs\), 6 px \(1, as .*T_2\.mrcs\)"):
        read_particles(warp.path)


def test_missing_stacks_name_the_places_tried(warp: WarpSeries) -> None:
    (warp.folder / "particleseries/001.mrcs").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        read_particles(warp.path, datadir=warp.folder / "particleseries")
    text = str(caught.value)
    assert "1 of 2 image stacks" in text
    assert "['particleseries/001.mrcs']" in text
    assert str(warp.folder / "particleseries/particleseries/001.mrcs") in text
    assert str(warp.folder / "particleseries/001.mrcs") in text
    assert "--datadir" in text
    without = read_particles(warp.path, check_stacks=False)
    assert without.box_px == 0
    assert without.stack_paths[0] == warp.folder / "particleseries/001.mrcs"
    assert len(without) == 2


@pytest.mark.parametrize(
    ("name", "place", "datadir"),
    [
        ("particleseries/001.mrcs", "below/particleseries/001.mrcs", None),  # beside the STAR file
        ("particleseries/001.mrcs", "particleseries/001.mrcs", None),  # RELION: in a folder above it
        ("my%20data/001.mrcs", "below/my data/001.mrcs", None),
        ("my%20data/001.mrcs", "below/my%20data/001.mrcs", None),
        (r"data\001.mrcs", "below/data/001.mrcs", None),
        (r"C:\warp\data\001.mrcs", "moved/data/001.mrcs", "moved"),
        ("/gone/data/001.mrcs", "moved/gone/data/001.mrcs", "moved"),
        ("/gone/data/001.mrcs", "moved/data/001.mrcs", "moved"),
        ("../gone/data/001.mrcs", "moved/001.mrcs", "moved"),
    ],
)
def test_stacks_are_found_where_programs_and_people_put_them(
    warp: WarpSeries, name: str, place: str, datadir: str | None
) -> None:
    target = warp.folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    (warp.folder / "particleseries/001.mrcs").rename(target)
    warp.rows = warp.rows.iloc[:3].assign(rlnImageName=[f"{i + 1}@{name}" for i in range(3)])
    (warp.folder / "below").mkdir(exist_ok=True)
    warp.path = warp.folder / "below/series.star"
    particles = read_particles(warp.write(), datadir=None if datadir is None else [warp.folder / datadir])
    assert particles.stack_paths[0].resolve() == target.resolve()


def test_a_file_beside_the_star_file_wins_over_one_of_the_working_folder(
    warp: WarpSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack(tmp_path / "other/particleseries/001.mrcs", np.zeros((3, 4, 4)), 5.0)
    monkeypatch.chdir(tmp_path / "other")
    assert read_particles(warp.path).stack_paths[0] == warp.folder / "particleseries/001.mrcs"


def test_one_file_for_two_names_is_refused(warp: WarpSeries, tmp_path: Path) -> None:
    names = [f"{i + 1}@/gone/{folder}/s.mrcs" for folder, count in (("a", 3), ("b", 2)) for i in range(count)]
    warp.rows = warp.rows.assign(rlnImageName=names)
    write_stack(tmp_path / "moved/s.mrcs", np.zeros((3, 4, 4)), 5.0)
    with pytest.raises(ValueError, match=r"/gone/a/s\.mrcs and /gone/b/s\.mrcs, of which only"):
        read_particles(warp.write(), datadir=tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="nowhere, which is no folder"):
        read_particles(warp.path, datadir=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "rows", "particles", "doses", "tilts"),
    [
        ("warp_v1_m/sta_testing.star", 219, 6, [3.25, 6.5, 9.75], (24, 39)),
        ("cryosrpnt/simulated_first_particles.star", 38, 5, [2, 4, 6], (6, 8)),
        ("cryosrpnt/10076_classD_32_clean.star", 46, 6, [0, 0, 0], (6, 8)),
    ],
)
def test_counts_and_doses_of_real_files(
    shared_data: Path, name: str, rows: int, particles: int, doses: list[float], tilts: tuple[int, int]
) -> None:
    found = read_particles(shared_data / "formats" / name, check_stacks=False)
    assert (found.n_images, len(found)) == (rows, particles)
    assert found.dose_e_per_angst2[:3].tolist() == doses
    assert (found.tilt_counts.min(), found.tilt_counts.max()) == tilts
    assert (found.ctf is None) == ("clean" in name)
    table = found.source.rows
    groups = table.groupby("rlnGroupName", sort=False).indices
    assert found.particle_id.tolist() == list(groups)
    for i, (group, members) in enumerate(groups.items()):
        images = slice(found.offsets[i], found.offsets[i + 1])
        assert found.source_row[images].tolist() == members.tolist(), group
        numbers = pd.to_numeric(table["rlnImageName"].iloc[members].str.split("@").str[0]) - 1
        assert found.slice_index[images].tolist() == numbers.tolist()
