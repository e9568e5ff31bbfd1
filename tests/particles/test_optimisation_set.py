"""WarpTools optimisation sets: each image gets its own pose, exposure, defocus and slice."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.particles.small_sets import WarpToolsSet, text_frame
from tomodrgn.io.mrc import open_stack, write_stack
from tomodrgn.particles.optimisation_set import parse_mask
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import read_particles
from tomodrgn.particles.tilt_series import signed_tilt_deg


def test_every_quantity_of_a_set(warptools: WarpToolsSet) -> None:
    particles = read_particles(warptools.path)
    assert particles.dialect == "warptools"
    assert particles.particle_id.tolist() == ["001/1", "001/2", "T_2/1"]
    assert particles.tomogram.tolist() == ["001.tomostar", "001.tomostar", "T_2.tomostar"]
    assert particles.half_set.tolist() == [0, 0, 0]
    assert particles.offsets.tolist() == [0, 3, 7, 9]
    assert particles.dose_e_per_angst2.tolist() == [0, 2, 3, 0, 1, 2, 3, 101, 102]
    np.testing.assert_allclose(particles.tilt_deg, [-40, 20, 50, -40, -10, 20, 50, 0, 30], atol=1e-4)
    assert particles.slice_index.tolist() == [0, 2, 3, 0, 1, 2, 3, 1, 2]
    assert particles.source_row.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert particles.source_slot.tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1]
    np.testing.assert_allclose(particles.image_scale[:3], [0.766, 0.940, 0.643], rtol=1e-6)
    assert (particles.box_px, particles.pixel_size_angst) == (4, 10.0)
    assert (particles.ctf_premultiplied, particles.dose_weighted, particles.invert) == (True, True, False)
    assert not particles.shifts_px.any()


def test_pose_is_the_tilt_after_the_particle(warptools: WarpToolsSet) -> None:
    rotation = read_particles(warptools.path).rotations[1]
    particle = Rotation.from_euler("ZYZ", [10.0, 70.0, -25.5], degrees=True).inv().as_matrix()
    tilt = Rotation.from_euler("y", 20.0, degrees=True).as_matrix()
    np.testing.assert_allclose(rotation, tilt @ particle, atol=1e-6)


@pytest.mark.parametrize("compact", [False, True])
def test_slices_of_full_and_of_visible_only_stacks(warptools: WarpToolsSet, *, compact: bool) -> None:
    warptools.write_stacks(compact=compact)
    particles = read_particles(warptools.path)
    visible_tilts = [0, 2, 3, 0, 1, 2, 3, 1, 2]
    assert stored_values(particles) == visible_tilts  # the stacks hold the number of the tilt
    assert particles.dose_e_per_angst2.tolist() == [0, 2, 3, 0, 1, 2, 3, 101, 102]


def stored_values(particles: ParticleSet) -> list[float]:
    stacks = [open_stack(path) for path in particles.stack_paths]
    return [float(stacks[s][i, 0, 0]) for s, i in zip(particles.stack_index, particles.slice_index, strict=True)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.permutations(range(3)), st.permutations(range(15)), st.permutations(range(9)), st.permutations(range(3)),
    st.integers(0, 2),
)  # fmt: skip
def test_order_of_rows_columns_and_blocks_and_extra_columns_do_not_matter(
    warptools: WarpToolsSet, rows: list[int], columns: list[int], tilt_columns: list[int], blocks: list[int], extra: int
) -> None:
    fresh = WarpToolsSet(warptools.folder)
    plain = read_particles(fresh.path)
    fresh.rows = fresh.rows.iloc[rows, columns].assign(**{f"user{i}": ["a b", "", "3"] for i in range(extra)})
    for name in WarpToolsSet.ANGLES:
        fresh.tomograms[name] = (
            fresh.tomograms[name].iloc[:, tilt_columns].assign(**{f"u{i}": "1" for i in range(extra)})
        )
    fresh.tomograms = {name: fresh.tomograms[name] for name in np.array(list(fresh.tomograms))[blocks]}
    fresh.particles = dict(reversed(fresh.particles.items()))
    particles = read_particles(fresh.write())
    assert particles.particle_id.tolist() == [plain.particle_id[i] for i in rows]
    for name in plain.particle_id:
        one, other = particles.subset([name]), plain.subset([name])
        for field in ("rotations", "dose_e_per_angst2", "tilt_deg", "image_scale", "slice_index", "source_slot"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)
        assert one.ctf is not None
        assert other.ctf is not None
        np.testing.assert_array_equal(one.ctf.table(), other.ctf.table())
        assert stored_values(one) == stored_values(other)


def test_origins_in_space_become_shifts_in_the_image(warptools: WarpToolsSet) -> None:
    warptools.rows = warptools.rows.assign(rlnOriginXAngst="20.0", rlnOriginYAngst="-5.0", rlnOriginZAngst="10.0")
    particles = read_particles(warptools.write())
    untilted = particles.shifts_px[7]  # T_2/1, 0 degrees
    np.testing.assert_allclose(untilted, [2.0, -0.5], atol=1e-6)
    tilted = particles.shifts_px[8]  # 30 degrees about y: x' = x cos + z sin
    np.testing.assert_allclose(tilted, [2.0 * np.cos(np.pi / 6) + 1.0 * 0.5, -0.5], atol=1e-6)


def test_subtomogram_angles_turn_pose_and_origin(warptools: WarpToolsSet) -> None:
    turned = {"rlnTomoSubtomogramRot": "0", "rlnTomoSubtomogramTilt": "0", "rlnTomoSubtomogramPsi": "-90"}
    before = read_particles(warptools.path)
    warptools.rows = warptools.rows.assign(**turned, rlnOriginXAngst="20.0")
    particles = read_particles(warptools.write())
    quarter_turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])  # Rz(90): x goes to y
    np.testing.assert_allclose(particles.rotations[7], quarter_turn @ before.rotations[7], atol=1e-6)
    np.testing.assert_allclose(particles.shifts_px[7], [0.0, 2.0], atol=1e-6)


def defocus_u(warptools: WarpToolsSet, **options: object) -> np.ndarray:
    particles = read_particles(warptools.write(), **options)  # type: ignore[arg-type]
    assert particles.ctf is not None
    astigmatism = particles.ctf.defocus_u_angst - particles.ctf.defocus_v_angst
    np.testing.assert_allclose(astigmatism, 1000, atol=0.01)
    return particles.ctf.defocus_u_angst[7:9]


def test_local_defocus_follows_warp(warptools: WarpToolsSet) -> None:
    """T_2/1 lies at (1200, 1200, 500) angstrom, the centre of its tomogram at (1000, 1200, 400): 200 and 100 off."""
    base = np.array([20101.0, 20102.0])
    tilted = -200 * 0.5 + 100 * np.cos(np.pi / 6)  # z' = -x sin + z cos at 30 degrees
    depth = np.array([100.0, tilted])
    np.testing.assert_allclose(defocus_u(warptools), base + depth, atol=0.01)
    np.testing.assert_allclose(defocus_u(warptools, defocus_hand=-1), base + depth, atol=0.01)
    np.testing.assert_allclose(defocus_u(warptools, defocus_hand=1), base - depth, atol=0.01)
    np.testing.assert_allclose(defocus_u(warptools, defocus_hand=0), base, atol=0.01)
    warptools.tomograms["global"]["rlnTomoHand"] = ["-1.0", "1.0"]
    np.testing.assert_allclose(defocus_u(warptools), base - depth, atol=0.01)
    warptools.tomograms["global"] = warptools.tomograms["global"].drop(columns="rlnTomoHand")
    np.testing.assert_allclose(defocus_u(warptools), base + depth, atol=0.01)
    warptools.rows = warptools.rows.assign(rlnOriginXAngst="200.0")  # moves the particle to the tilt axis
    np.testing.assert_allclose(defocus_u(warptools), base + 100 * np.array([1, np.cos(np.pi / 6)]), atol=0.01)


def test_local_defocus_needs_positions_and_sizes(warptools: WarpToolsSet, caplog: pytest.LogCaptureFixture) -> None:
    warptools.rows = warptools.rows.drop(columns="rlnCoordinateZ")
    np.testing.assert_allclose(defocus_u(warptools), [20101, 20102])
    assert "no coordinates of particles" in caplog.text
    fresh = WarpToolsSet(warptools.folder)
    fresh.tomograms.pop("global")
    np.testing.assert_allclose(defocus_u(fresh), [20101, 20102])
    assert "no sizes of the tomograms" in caplog.text


def test_phase_shift_of_new_exports(warptools: WarpToolsSet) -> None:
    for name in WarpToolsSet.ANGLES:
        warptools.tomograms[name]["rlnPhaseShift"] = [f"{10 * i}" for i in range(len(warptools.tomograms[name]))]
    ctf = read_particles(warptools.write()).ctf
    assert ctf is not None
    assert ctf.phase_shift_deg.tolist() == [0, 20, 30, 0, 10, 20, 30, 10, 20]


def test_tilt_tables_of_angles(warptools: WarpToolsSet) -> None:
    """Before 2024-04-18: XTilt is the tilt, ZRot about -86."""
    for name, angles in WarpToolsSet.ANGLES.items():
        table = warptools.tomograms[name].drop(columns=[f"rlnTomoProj{a}" for a in "XYZW"])
        table = table.assign(rlnTomoXTilt=[str(a) for a in angles], rlnTomoYTilt="2.0", rlnTomoZRot="-86.0")
        warptools.tomograms[name] = table
    particles = read_particles(warptools.write())
    tilt = Rotation.from_euler("xyz", [20.0, 2.0, -86.0], degrees=True).as_matrix()  # extrinsic: Rz Ry Rx
    particle = Rotation.from_euler("ZYZ", [10.0, 70.0, -25.5], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(particles.rotations[1], tilt @ particle, atol=1e-6)
    np.testing.assert_allclose(particles.tilt_deg, [-40, 20, 50, -40, -10, 20, 50, 0, 30], atol=2.1)


def test_signed_tilts() -> None:
    about_y = Rotation.from_euler("y", np.array([-60, -3, 0, 45])[:, None], degrees=True).as_matrix()
    np.testing.assert_allclose(signed_tilt_deg(about_y), [-60, -3, 0, 45], atol=1e-6)
    about_x = Rotation.from_euler("xz", [[-60, 80], [-3, 80], [45, 80]], degrees=True).as_matrix()
    np.testing.assert_allclose(signed_tilt_deg(about_x), [-60, -3, 45], atol=1e-6)


def test_angles_multiplied_twice_by_old_warptools(
    warptools: WarpToolsSet, shared_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = (shared_data / "formats/warptools/cryocat_warp2_particles_matching.star").read_text()
    rows = [line.split() for line in text.splitlines() if "TS_17" in line]
    assert rows[0][5:8] == ["3867.465", "671.269", "10742.958"]
    twice = dict(zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), rows[0][5:8], strict=True))
    warptools.rows = warptools.rows.assign(**twice)
    rotation = read_particles(warptools.write()).rotations[7]
    expected = Rotation.from_euler("ZYZ", [67.5, 11.716, 187.5], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(rotation, expected, atol=1e-5)
    assert "WarpTools up to 2.0.0dev25" in caplog.text
    assert "divided" in caplog.text


def test_a_whole_old_export(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "formats/warptools"
    for name in ("matching.star", "matching_tomograms.star", "set.star"):
        source = {"matching.star": "cryocat_warp2_particles_matching.star", "set.star":
                  "cryocat_warp2_matching_optimisation_set.star"}.get(name, f"cryocat_warp2_{name}")  # fmt: skip
        (tmp_path / name).write_bytes((folder / source).read_bytes())
    particles = read_particles(tmp_path / "set.star", check_stacks=False)
    assert (len(particles), particles.n_images) == (21, 861)
    assert (particles.box_px, particles.pixel_size_angst) == (64, 4.0)


def test_images_that_are_not_premultiplied(warptools: WarpToolsSet) -> None:
    warptools.particles["optics"]["rlnCtfDataAreCtfPremultiplied"] = "0"
    particles = read_particles(warptools.write())
    assert (particles.ctf_premultiplied, particles.dose_weighted, particles.invert) == (False, False, True)
    assert particles.image_scale.tolist() == [1.0] * 9
    told = read_particles(warptools.path, ctf_premultiplied=True, invert=True)
    assert (told.ctf_premultiplied, told.dose_weighted, told.invert) == (True, True, True)
    assert read_particles(warptools.path, dose_weighted=True).image_scale[0] == pytest.approx(0.766)


def test_particle_ids(warptools: WarpToolsSet) -> None:
    warptools.rows = warptools.rows.drop(columns="rlnTomoParticleName")
    assert read_particles(warptools.write()).particle_id.tolist() == [
        "001.tomostar/1", "001.tomostar/2", "T_2.tomostar/1",
    ]  # fmt: skip
    warptools.rows = warptools.rows.assign(tomodrgnParticleId=["c", "a", "b"])
    assert read_particles(warptools.write()).particle_id.tolist() == ["c", "a", "b"]


def test_half_sets_masks_of_upstream_and_hidden_particles(
    warptools: WarpToolsSet, caplog: pytest.LogCaptureFixture
) -> None:
    masks = ["[0,0,0,0]", "[1,2,0,1]", "[0,1,1]"]  # upstream writes 2 for its test images
    warptools.rows = warptools.rows.assign(rlnRandomSubset=["1", "2", "1"], rlnTomoVisibleFrames=masks)
    particles = read_particles(warptools.write())
    assert particles.particle_id.tolist() == ["001/2", "T_2/1"]
    assert particles.half_set.tolist() == [2, 1]
    assert particles.slice_index.tolist() == [0, 1, 3, 1, 2]
    assert particles.source_row.tolist() == [1, 1, 1, 2, 2]
    assert "Left out 1 particles" in caplog.text
    assert "these are read as visible" in caplog.text
    warptools.rows = warptools.rows.assign(rlnTomoVisibleFrames=["[0,0,0,0]", "[0,0,0,0]", "[0,0,0]"])
    with pytest.raises(ValueError, match="no particle with a visible tilt"):
        read_particles(warptools.write())


def test_without_visible_frames_all_tilts_are_meant(warptools: WarpToolsSet) -> None:
    warptools.rows = warptools.rows.drop(columns="rlnTomoVisibleFrames")
    particles = read_particles(warptools.write())
    assert particles.tilt_counts.tolist() == [4, 4, 3]
    warptools.rows = WarpToolsSet(warptools.folder).rows
    warptools.write_stacks(compact=True)
    warptools.rows = warptools.rows.drop(columns="rlnTomoVisibleFrames")
    with pytest.raises(ValueError, match=r"Got 3 images in .*001_10\.00A_000001\.mrcs"):
        read_particles(warptools.write())


def test_stacks_need_not_be_there_to_read_the_tables(warptools: WarpToolsSet) -> None:
    for path in warptools.folder.rglob("*.mrcs"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="3 of 3 image stacks"):
        read_particles(warptools.path)
    particles = read_particles(warptools.path, check_stacks=False)
    assert particles.box_px == 4
    assert particles.slice_index.tolist() == particles.source_slot.tolist()
    assert particles.dose_e_per_angst2.tolist() == [0, 2, 3, 0, 1, 2, 3, 101, 102]


def edit(column: str, values: list[str]) -> Callable[[WarpToolsSet], None]:
    def change(warptools: WarpToolsSet) -> None:
        warptools.rows = warptools.rows.assign(**{column: values})

    return change


def edit_block(block: str, column: str, values: list[str]) -> Callable[[WarpToolsSet], None]:
    def change(warptools: WarpToolsSet) -> None:
        blocks = warptools.tomograms if block in warptools.tomograms else warptools.particles
        blocks[block] = blocks[block].assign(**{column: values})

    return change


def without_table(warptools: WarpToolsSet) -> None:
    del warptools.tomograms["T_2.tomostar"]


def without_tomogram(warptools: WarpToolsSet) -> None:
    warptools.tomograms["global"] = warptools.tomograms["global"].iloc[:1]


def without_defocus(warptools: WarpToolsSet) -> None:
    warptools.tomograms["001.tomostar"] = warptools.tomograms["001.tomostar"].drop(columns="rlnDefocusU")


def short_stack(warptools: WarpToolsSet) -> None:
    write_stack(warptools.folder / "stacks/001/001_10.00A_000001.mrcs", np.zeros((2, 4, 4)), 10.0, overwrite=True)


@pytest.mark.parametrize(
    ("change", "pieces"),
    [
        (edit("rlnTomoVisibleFrames", ["[1,1]", "[1,1,1,1]", "[0,1,1]"]),
         ["2 tilts for particle '001/1'", "p.star", "(1 such particles)", "expected 4", "'001.tomostar'"]),
        (edit("rlnTomoVisibleFrames",
         ["[1,x]", "[1,1,1,1]", "[0,1,1]"]), ["'[1,x]'", "list of 0 and 1", "particle '001/1'", "p.star"]),
        (short_stack, ["Got 2 images in", "000001.mrcs for particle '001/1'", "expected 4", "or 3 (the visible"]),
        (without_table, ["1 tomograms in", "p.star without a tilt table, first ['T_2.tomostar']", "set.star"]),
        (without_tomogram, ["1 tomograms that", "data_global", "['T_2.tomostar']"]),
        (without_defocus, ["`data_001.tomostar`", "without _rlnDefocusU"]),
        (edit_block("001.tomostar", "rlnTomoProjZ", ["[0,0,1]", "[0,0]", "[0,0,1]", "[0,0,1]"]),
         ["'[0,0]' as _rlnTomoProjZ of row 2", "data_001.tomostar"]),
        (edit_block("001.tomostar", "rlnMicrographPreExposure", ["0", "x", "1", "2"]),
         ["'x' as _rlnMicrographPreExposure of row 2"]),
        (edit_block("optics", "rlnImagePixelSize", ["10.0", "8.0"]), ["values of the pixel size", "8 (1 rows)"]),
        (edit_block("optics", "rlnImageSize", ["4", "6"]), ["several values of the box"]),
        (edit_block("optics", "rlnImageSize", ["6", "6"]), ["images of 4 px", "expected 6 px as rlnImageSize"]),
        (edit_block("optics", "rlnCtfDataAreCtfPremultiplied", ["1", "0"]),
         ["several values of rlnCtfDataAreCtfPremultiplied"]),
        (edit("rlnOpticsGroup", ["1", "1", "9"]), ["optics group '9'", "p.star"]),
        (edit("rlnTomoParticleName", ["a", "b", "a"]), ["particle 'a' twice", "p.star"]),
        (edit("rlnCoordinateX", ["1", "2", "2000"]),
         ["1 of 3 particles outside their tomogram", "20000.0", "2000.0, 2400.0, 800.0", "defocus_hand=0"]),
        (edit("rlnAnglePsi", ["1", "2", ""]), ["'' as _rlnAnglePsi of row 3"]),
    ],
)  # fmt: skip
def test_damaged_sets_are_refused_with_their_place(
    warptools: WarpToolsSet, change: Callable[[WarpToolsSet], None], pieces: list[str]
) -> None:
    change(warptools)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is checked below)
        read_particles(warptools.write())
    assert all(piece in str(caught.value) for piece in pieces), caught.value


def test_low_defocus_is_reported_for_visible_tilts_only(
    warptools: WarpToolsSet, caplog: pytest.LogCaptureFixture
) -> None:
    table = warptools.tomograms["T_2.tomostar"]
    warptools.tomograms["T_2.tomostar"] = table.assign(rlnDefocusV=["43.5", "19101", "19102"])
    read_particles(warptools.write())
    assert "failed fits" not in caplog.text
    warptools.tomograms["T_2.tomostar"] = table.assign(rlnDefocusV=["43.5", "43.5", "19102"])
    read_particles(warptools.write())
    assert "Got 1 of 9 images" in caplog.text


def test_tilts_that_no_particle_sees_may_hold_anything(warptools: WarpToolsSet) -> None:
    plain = read_particles(warptools.path)
    table = warptools.tomograms["T_2.tomostar"]
    failed = {"rlnDefocusU": "nan", "rlnCtfScalefactor": "-1", "rlnTomoProjX": "[]", "rlnMicrographPreExposure": "x"}
    hidden = table.copy()
    hidden.loc[0, list(failed)] = list(failed.values())
    warptools.tomograms["T_2.tomostar"] = hidden
    again = read_particles(warptools.write())
    for name in ("rotations", "tilt_deg", "dose_e_per_angst2", "image_scale", "shifts_px"):
        np.testing.assert_array_equal(getattr(again, name), getattr(plain, name), err_msg=name)
    assert again.ctf is not None
    assert plain.ctf is not None
    np.testing.assert_array_equal(again.ctf.table(), plain.ctf.table())
    hidden.loc[2, "rlnDefocusU"] = "nan"
    with pytest.raises(ValueError, match=r"'nan' as _rlnDefocusU of row 3"):
        read_particles(warptools.write())


def test_exposures_may_be_absent(warptools: WarpToolsSet, caplog: pytest.LogCaptureFixture) -> None:
    for name in WarpToolsSet.ANGLES:
        warptools.tomograms[name] = warptools.tomograms[name].drop(columns="rlnMicrographPreExposure")
    assert not read_particles(warptools.write()).dose_e_per_angst2.any()
    assert "exposures are unknown" in caplog.text


@pytest.mark.parametrize(
    ("text", "mask"), [("[1,0,1]", [1, 0, 1]), ("[1, 0]", [1, 0]), ("1", [1]), ("[1.0,2]", [1, 1])]
)
def test_masks(text: str, mask: list[int]) -> None:
    assert parse_mask(text).tolist() == [bool(m) for m in mask]


def test_the_real_set(real_set: Path) -> None:
    particles = read_particles(real_set)
    assert (len(particles), len(set(particles.tomogram)), particles.n_images) == (40, 4, 1430)
    assert (particles.box_px, particles.pixel_size_angst, particles.ctf_premultiplied) == (32, 12.0, True)
    assert (particles.tilt_counts.min(), particles.tilt_counts.max()) == (34, 37)
    assert len(particles.stack_paths) == 40
    identity = particles.rotations @ particles.rotations.transpose(0, 2, 1)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=2e-5)


def test_each_real_image_has_its_own_exposure_scale_tilt_and_slice(real_set: Path) -> None:
    """Straight from the text, line by line."""
    stem = real_set.name.removesuffix("_optimisation_set.star")
    tables: dict[str, list[tuple[float, float, float]]] = {}
    name = ""
    for line in (real_set.parent / f"{stem}_tomograms.star").read_text().splitlines():
        if line.startswith("data_"):
            name = line.removeprefix("data_").strip()
        elif "[" in line:
            cos_tilt = float(line.split()[2].split(",")[2])  # the last of the 3 x 3 numbers
            tables.setdefault(name, []).append((float(line.split()[-1]), float(line.split()[-2]), cos_tilt))
    expected = []
    for line in (real_set.parent / f"{stem}.star").read_text().splitlines():
        if "[" in line:
            tomogram, particle = line.split()[0], line.split()[8]
            for tilt, shown in enumerate(re.findall(r"[01]", line.split()[-1])):
                if shown == "1":
                    expected.append((particle, tilt, *tables[tomogram][tilt]))
    assert len(expected) == 1430
    found = read_particles(real_set)
    ids = found.particle_id[found.image_particle]
    assert ids.tolist() == [e[0] for e in expected]
    assert found.slice_index.tolist() == [e[1] for e in expected]
    np.testing.assert_allclose(found.dose_e_per_angst2, [e[2] for e in expected], rtol=1e-6)
    np.testing.assert_allclose(found.image_scale, [e[3] for e in expected], rtol=1e-6)
    np.testing.assert_allclose(np.cos(np.deg2rad(found.tilt_deg)), [e[4] for e in expected], atol=1e-6)


def test_real_rows_in_mixed_order_keep_their_images(real_set: Path, tmp_path: Path) -> None:
    from tomodrgn.io.star import read_star, write_star

    plain = read_particles(real_set)
    stem = real_set.name.removesuffix("_optimisation_set.star")
    blocks = read_star(real_set.parent / f"{stem}.star")
    order = np.random.default_rng(3).permutation(40)
    blocks["particles"] = blocks["particles"].iloc[order]
    write_star(tmp_path / "p.star", blocks)
    tomograms = real_set.parent / f"{stem}_tomograms.star"
    both = text_frame([{"rlnTomoParticlesFile": "p.star", "rlnTomoTomogramsFile": tomograms}])
    write_star(tmp_path / "set.star", {"optimisation_set": both})  # the loop form
    mixed = read_particles(tmp_path / "set.star", datadir=real_set.parent)
    assert mixed.particle_id.tolist() == plain.particle_id[order].tolist()
    rows = plain.images_of(order)
    for field in ("rotations", "shifts_px", "dose_e_per_angst2", "tilt_deg", "image_scale", "slice_index"):
        np.testing.assert_array_equal(getattr(mixed, field), getattr(plain, field)[rows], err_msg=field)
    assert plain.ctf is not None
    assert mixed.ctf is not None
    np.testing.assert_array_equal(mixed.ctf.table(), plain.ctf.table()[rows])
    assert [mixed.stack_paths[i] for i in mixed.stack_index] == [plain.stack_paths[i] for i in plain.stack_index[rows]]


def test_one_tilt_each_is_single_particle_data(warptools: WarpToolsSet) -> None:
    warptools.rows["rlnTomoVisibleFrames"] = ["[1,0,0,0]", "[0,1,0,0]", "[0,1,0]"]
    warptools.write()
    with pytest.raises(ValueError, match="single-particle data"):
        read_particles(warptools.path)
