"""Recognition of dialects, refusals, and writing back exactly what was read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.particles.small_sets import WarpSeries, WarpToolsSet, simple, text_frame
from tomodrgn.io.star import is_simple, read_star, write_star
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import (
    UnknownDialectError,
    describe_particles,
    read_particles,
    read_source,
    write_particles,
    write_source,
)
from tomodrgn.particles.source_table import text_to_numbers

PER_IMAGE = ("rotations", "shifts_px", "dose_e_per_angst2", "tilt_deg", "image_scale", "slice_index", "source_slot")


def assert_same(one: ParticleSet, other: ParticleSet) -> None:
    """All but the place in the source file."""
    for name in ("particle_id", "tomogram", "half_set", "offsets", *PER_IMAGE):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("dialect", "box_px", "pixel_size_angst", "ctf_premultiplied", "dose_weighted", "invert"):
        assert getattr(one, name) == getattr(other, name), name
    assert (one.ctf is None) == (other.ctf is None)
    if one.ctf is not None and other.ctf is not None:
        np.testing.assert_array_equal(one.ctf.table(), other.ctf.table())
    paths = [[Path(p.stack_paths[i]).resolve() for i in p.stack_index] for p in (one, other)]
    assert paths[0] == paths[1]


# ------------------------------------------------------------------ writing back


@pytest.mark.parametrize("kind", ["warp", "warptools"])
def test_write_and_read_gives_the_same_set(kind: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(kind)
    particles = read_particles(made.path)
    written = write_particles(particles, made.folder / "out.star")
    assert [p.name for p in written] == (
        ["out.star"] if kind == "warp" else ["out.star", "out_particles.star", "out_tomograms.star"]
    )
    assert_same(read_particles(made.folder / "out.star"), particles)
    for path, source in zip(
        written, ["series.star"] if kind == "warp" else ["set.star", "p.star", "t.star"], strict=True
    ):
        ours, theirs = read_star(path), read_star(made.folder / source)
        assert list(ours) == list(theirs)
        for name, block in theirs.items():
            assert is_simple(ours[name]) == is_simple(block)
            if "rlnTomoParticlesFile" in block:
                assert ours[name].to_dict("records") == [
                    {"rlnTomoParticlesFile": "out_particles.star", "rlnTomoTomogramsFile": "out_tomograms.star",
                     "rlnNote": "a b"}
                ]  # fmt: skip
            else:
                pd.testing.assert_frame_equal(ours[name], block)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 39), min_size=1))
def test_filtered_real_set_keeps_text_and_images(
    real_set: Path, tmp_path_factory: pytest.TempPathFactory, chosen: set[int]
) -> None:
    particles = read_particles(real_set)
    kept = particles.subset(particles.particle_id[sorted(chosen)])
    folder = tmp_path_factory.mktemp("filtered")
    write_particles(kept, folder / "kept.star")
    assert_same(read_particles(folder / "kept.star", datadir=real_set.parent), kept)
    source = (real_set.parent / real_set.name.replace("_optimisation_set", "")).read_text()
    rows = [line.split() for line in source.splitlines() if "[" in line]
    written = [line.split() for line in (folder / "kept_particles.star").read_text().splitlines() if "[" in line]
    assert written == [rows[i] for i in sorted(chosen)]


def test_filtered_series_in_the_order_of_the_file(warp: WarpSeries) -> None:
    warp.rows = warp.rows.iloc[[3, 0, 4, 1, 2]].assign(userNote=["", "a b", "it's", "#1", "x"])
    particles = read_particles(warp.write())
    assert particles.particle_id.tolist() == ["T_2_0000007", "001_0000007"]
    write_particles(particles.subset(["001_0000007"]), warp.folder / "one.star")
    pd.testing.assert_frame_equal(
        read_star(warp.folder / "one.star")[""], warp.rows.iloc[[1, 3, 4]].reset_index(drop=True)
    )


def test_added_columns_are_joined_by_particle(warp: WarpSeries, warptools: WarpToolsSet) -> None:
    others = read_particles(warptools.path)
    labels = pd.DataFrame({"tomodrgnLabel": [7, 8], "z1": [0.1, 1 / 3]}, index=["T_2_0000007", "001_0000007"])
    write_particles(read_particles(warp.path), warp.folder / "labelled.star", columns=labels)
    block = read_star(warp.folder / "labelled.star")[""]
    assert block["tomodrgnLabel"].tolist() == ["8", "8", "8", "7", "7"]
    assert [float(z) for z in block["z1"]] == [1 / 3] * 3 + [0.1] * 2
    again = read_particles(warp.folder / "labelled.star")
    assert again.frame()["tomodrgnLabel"].tolist() == [8, 7]
    changed = labels.drop(columns="z1") * 2
    write_particles(again, warp.folder / "labelled again.star", columns=changed)
    assert read_star(warp.folder / "labelled again.star")[""]["tomodrgnLabel"].tolist() == [
        "16",
        "16",
        "16",
        "14",
        "14",
    ]
    with pytest.raises(ValueError, match=r"new columns \['z1'\].*labelled\.star has already"):
        write_particles(again, warp.folder / "x.star", columns=labels)
    with pytest.raises(KeyError, match=r"without 2 of 3 particles.*'001/1', '001/2'"):
        write_particles(others, warptools.folder / "x.star", columns=labels.set_axis(["T_2/1", "x"]))
    assert not (warptools.folder / "x.star").exists()


def test_nothing_is_overwritten_unless_asked(warptools: WarpToolsSet) -> None:
    particles = read_particles(warptools.path)
    (warptools.folder / "out_tomograms.star").write_text("mine")
    with pytest.raises(FileExistsError, match=r"out_tomograms\.star.*overwrite=True"):
        write_particles(particles, warptools.folder / "out.star")
    assert not (warptools.folder / "out.star").exists()
    assert not (warptools.folder / "out_particles.star").exists()
    write_particles(particles, warptools.folder / "out.star", overwrite=True)
    assert_same(read_particles(warptools.folder / "out.star"), particles)


def test_images_dropped_from_full_stacks_leave_the_mask(warptools: WarpToolsSet) -> None:
    particles = read_particles(warptools.path)
    keep = np.array([True, False, True, True, True, False, True, True, True])
    left = particles.subset_images(keep)
    write_particles(left, warptools.folder / "left.star")
    masks = read_star(warptools.folder / "left_particles.star")["particles"]["rlnTomoVisibleFrames"]
    assert masks.tolist() == ["[1,0,0,1]", "[1,1,0,1]", "[0,1,1]"]
    again = read_particles(warptools.folder / "left.star")
    np.testing.assert_array_equal(again.slice_index, left.slice_index)
    np.testing.assert_array_equal(again.dose_e_per_angst2, left.dose_e_per_angst2)


def test_images_cannot_be_dropped_from_compact_stacks(warptools: WarpToolsSet) -> None:
    warptools.write_stacks(compact=True)
    particles = read_particles(warptools.path)
    keep = np.arange(9) != 1
    with pytest.raises(ValueError, match=r"1 particles without some .* first '001/1'.*visible images only"):
        write_particles(particles.subset_images(keep), warptools.folder / "left.star")
    write_particles(particles.subset(["001/2"]), warptools.folder / "left.star")
    assert read_particles(warptools.folder / "left.star").tilt_counts.tolist() == [4]


def test_a_file_written_elsewhere_says_where_its_images_are(
    warp: WarpSeries, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    particles = read_particles(warp.path)
    write_particles(particles, warp.folder / "beside.star")
    assert not caplog.text
    write_particles(particles, tmp_path / "far/away.star")
    assert f"datadir={warp.folder}" in caplog.text
    assert_same(read_particles(tmp_path / "far/away.star", datadir=warp.folder), particles)


def test_images_dropped_from_a_series_are_dropped_rows(warp: WarpSeries) -> None:
    particles = read_particles(warp.path).subset_images(np.array([True, False, True, True, True]))
    write_particles(particles, warp.folder / "left.star")
    pd.testing.assert_frame_equal(
        read_star(warp.folder / "left.star")[""], warp.rows.iloc[[0, 2, 3, 4]].reset_index(drop=True)
    )


# ------------------------------------------------------------------ the folder of a run


@pytest.mark.parametrize("kind", ["warp", "warptools"])
def test_source_folder_is_read_back_with_its_images(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made = request.getfixturevalue(kind)
    flags = {"ctf_premultiplied": True, "dose_weighted": True, "invert": True}
    particles = read_particles(made.path, **flags)
    particles = particles.subset(particles.particle_id[1:])
    written = write_source(particles, tmp_path / "run")
    names = {"particles.star"} | ({"tomograms.star", "optimisation_set.star"} if kind == "warptools" else set())
    assert {p.name for p in written} == {p.name for p in (tmp_path / "run").iterdir()} == names
    options = particles.source.options
    again = read_source(tmp_path / "run", source_dir=made.folder, datadir=[], options=options)
    assert_same(again, particles)
    assert again.source.rows["tomodrgnParticleId"].tolist() == particles.particle_id[
        particles.image_particle if kind == "warp" else slice(None)
    ].tolist()  # fmt: skip
    write_source(again, tmp_path / "second")  # a run made from the particles of a run
    assert_same(
        read_source(tmp_path / "second", source_dir=tmp_path / "run", datadir=again.source.datadir, options=options),
        again,
    )
    with pytest.raises(FileExistsError):
        write_source(again, tmp_path / "run")


def test_source_folder_takes_columns_and_drops_stale_files(
    warp: WarpSeries, warptools: WarpToolsSet, tmp_path: Path
) -> None:
    write_source(read_particles(warptools.path), tmp_path / "run")
    labels = pd.DataFrame({"tomodrgnLabel": [1, 2]}, index=["001_0000007", "T_2_0000007"])
    write_source(read_particles(warp.path), tmp_path / "run", columns=labels, overwrite=True)
    again = read_source(tmp_path / "run", source_dir=warp.folder)
    assert again.dialect == "warp"
    assert again.frame()["tomodrgnLabel"].tolist() == [1, 2]


def test_a_run_folder_beside_other_files_of_the_same_name(
    warptools: WarpToolsSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    particles = read_particles(warptools.path)
    write_source(particles.subset(["T_2/1"]), tmp_path / "run")
    write_source(particles, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(read_source("run", source_dir=warptools.folder)) == 1


def test_optimisation_set_whose_particles_lie_elsewhere(warptools: WarpToolsSet, tmp_path: Path) -> None:
    particles = read_particles(warptools.path)
    named = simple(rlnTomoParticlesFile=warptools.folder / "p.star", rlnTomoTomogramsFile=warptools.folder / "t.star")
    write_star(tmp_path / "far/set.star", {"": named})
    far = read_particles(tmp_path / "far/set.star")
    assert_same(far, particles)
    write_source(far, tmp_path / "run")
    assert_same(read_source(tmp_path / "run", source_dir=tmp_path / "far", datadir=far.source.datadir), particles)


# ------------------------------------------------------------------ recognition


def test_described_as_json(real_set: Path, warp: WarpSeries) -> None:
    facts = json.loads(json.dumps(describe_particles(read_particles(real_set))))
    columns = facts.pop("columns")
    assert (columns[0], columns[-1], len(columns)) == ("rlnTomoName", "rlnTomoVisibleFrames", 15)
    low, high = facts.pop("tilt_range_deg")
    assert -80 < low < -50
    assert 40 < high < 60
    np.testing.assert_allclose(facts.pop("dose_range_e_per_angst2"), [0, 92.019], rtol=1e-6)
    assert facts == {
        "dialect": "warptools", "particles": 40, "tomograms": 4, "images": 1430, "box_px": 32, "pixel_size_angst": 12.0,
        "stack_box_px": 32,
        "ctf_premultiplied": True, "dose_weighted": True, "invert": False,
        "tilts_per_particle": {"min": 34, "median": 36.0, "max": 37},
    }  # fmt: skip
    facts = describe_particles(read_particles(warp.path))
    assert facts["tilts_per_particle"] == {"min": 2, "median": 2.5, "max": 3}
    assert facts["dose_range_e_per_angst2"] == [3.0, 9.0]


def test_em_motive_list(tmp_path: Path) -> None:
    (tmp_path / "motl.em").write_bytes(b"\6\0\0\5" * 300)
    with pytest.raises(UnknownDialectError, match="TOM/AV3"):
        read_particles(tmp_path / "motl.em")


def test_parts_of_an_optimisation_set(warptools: WarpToolsSet) -> None:
    warptools.optimisation = {"": simple(rlnTomoParticlesFile="p.star")}
    with pytest.raises(UnknownDialectError, match="_rlnTomoTomogramsFile"):
        read_particles(warptools.write())
    warptools.optimisation = {"": simple(rlnTomoParticlesFile="gone.star", rlnTomoTomogramsFile="t.star")}
    with pytest.raises(FileNotFoundError) as caught:
        read_particles(warptools.write())
    assert "gone.star named in" in str(caught.value)
    assert str(warptools.folder / "gone.star") in str(caught.value)
    assert "--datadir" in str(caught.value)
    with pytest.raises(UnknownDialectError, match="Give the optimisation set"):
        read_particles(warptools.folder / "p.star")
    with pytest.raises(UnknownDialectError, match="Give the optimisation set"):
        read_particles(warptools.folder / "p.star", dialect="warptools")


def test_matrix_tables_of_other_programs(warptools: WarpToolsSet) -> None:
    plain = read_particles(warptools.path)
    warptools.tomograms = {name.replace(".tomostar", ""): block for name, block in warptools.tomograms.items()}
    table = warptools.tomograms["global"]
    warptools.tomograms["global"] = table.assign(
        rlnTomoName=["001", "T_2"], rlnTomoTiltSeriesName=["Movies/a.mrc", "Movies/b.mrc"]
    )
    warptools.rows = warptools.rows.assign(rlnTomoName=["001", "001", "T_2"])
    assert read_particles(warptools.write()).dialect == "nextpyp_relion5"
    told = read_particles(warptools.path, dialect="warptools")
    np.testing.assert_array_equal(told.rotations, plain.rotations)
    assert told.tomogram.tolist() == ["001", "001", "T_2"]  # a name of digits stays a name
    warptools.tomograms["global"] = warptools.tomograms["global"].assign(rlnTomoTiltSeriesName=["a.mrc", "b.mrc"])
    assert read_particles(warptools.write()).dialect == "relion5"  # tables of RELION 4 with stacks of RELION 5
    warptools.tomograms["global"] = warptools.tomograms["global"].assign(rlnTomoTiltSeriesName="dummy_1.mrc")
    assert read_particles(warptools.write()).dialect == "warptools"


def test_particles_of_one_image_each(warp: WarpSeries) -> None:
    warp.rows = warp.rows.iloc[[0, 3]]
    with pytest.raises(UnknownDialectError, match="single-particle data"):
        read_particles(warp.write())
    with pytest.raises(UnknownDialectError, match=r"2 particles, 2 images.*--dialect warp\)"):
        read_particles(warp.path)
    particles = read_particles(warp.path, dialect="warp")
    assert particles.tilt_counts.tolist() == [1, 1]
    write_particles(particles, warp.folder / "images.star", as_images=True)
    assert read_particles(warp.folder / "images.star").tilt_counts.tolist() == [1, 1]


def test_the_users_word_on_the_dialect(warp: WarpSeries) -> None:
    with pytest.raises(ValueError, match="dialect 'relion', expected one of warptools, relion5"):
        read_particles(warp.path, dialect="relion")
    assert read_particles(warp.path, dialect="cryosrpnt").invert is False
    with pytest.raises(FileNotFoundError, match=r"none\.star"):
        read_particles(warp.folder / "none.star")


def test_a_wrong_hand_is_refused(warptools: WarpToolsSet, without_shape_checks: None) -> None:
    with pytest.raises(ValueError, match="defocus_hand 2, expected one of 'auto', 1, -1, 0"):
        read_particles(warptools.path, defocus_hand=2)  # type: ignore[arg-type]


def test_blocks_without_rows(tmp_path: Path) -> None:
    write_star(tmp_path / "a.star", {"particles": text_frame([{"rlnImageName": "x"}]).iloc[:0]})
    with pytest.raises(UnknownDialectError, match=r"data_particles: rlnImageName"):
        read_particles(tmp_path / "a.star")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["rlnImageName", "rlnGroupName", "rlnAngleRot", "rlnCtfBfactor", "rlnDefocusU"]))
def test_a_missing_column_is_named(warp: WarpSeries, column: str) -> None:
    write_star(warp.path, {"": warp.rows.drop(columns=column)}, overwrite=True)
    with pytest.raises(UnknownDialectError) as caught:
        read_particles(warp.path)
    expected = "single-particle" if column == "rlnGroupName" else column
    assert expected in str(caught.value)


CELLS = (
    ["1", "-0.0", "1e5", "007", ".5", "5."],
    ["nan", "inf", "-Infinity", "1e400"],
    ["+2", "3"],
    ["x", "1"],
    ["", "1"],
    ["1_0", "0x1F", "1,5", "1d5", "true"],
)


@pytest.mark.parametrize("cells", CELLS)
def test_cells_are_numbers_as_programs_write_them(cells: list[str]) -> None:
    """Each cell is what float says of it; what no program writes as a number is none."""
    plain = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.IGNORECASE)
    wanted = [float(cell) if plain.fullmatch(cell) else np.nan for cell in cells]
    np.testing.assert_array_equal(text_to_numbers(pd.Series(cells, dtype="str")), wanted)
