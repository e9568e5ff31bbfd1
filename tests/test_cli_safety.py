"""What the verbs must never do: replace what they read, ignore an option, or write names that do not lead back."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.particles.small_sets import WarpSeries, WarpToolsSet
from tests.test_cli import fails
from tomodrgn.cli import run_command
from tomodrgn.io.star import read_star
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import read_particles, write_particles
from tomodrgn.particles.simulate import simulate_particles


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RELION 5 project: names begin at its root."""
    folder = tmp_path_factory.mktemp("project") / "root"
    simulate_particles(folder, n_particles=6, n_tilts=5, n_tomograms=2, box_px=16, dialect="relion5", noise=False)
    return folder


@pytest.fixture
def cistem(tmp_path: Path) -> ParticleSet:
    return simulate_particles(tmp_path / "c", n_particles=4, n_tilts=5, box_px=16, dialect="cistem", noise=False)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- nothing that is read is replaced ---------------------------------------------------------------------------------


def test_filter_never_replaces_its_source(
    cistem: ParticleSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = WarpToolsSet(tmp_path)
    (tmp_path / "link.star").symlink_to(made.path)
    before = contents(tmp_path)
    for name in ("set.star", "link.star", "p.star", "t.star"):
        code, error = fails(capsys, "filter", made.path, tmp_path / name, "--random-subset", "1", "--overwrite")
        assert (code, "which is one of the files that are read" in error) == (2, True), name
    beside = made.path.with_name("set_particles.star")
    shutil.copy(made.folder / "p.star", beside)
    star = cistem.source.path
    for out in (star, star.with_name(cistem.stack_paths[0].name)):
        code, error = fails(capsys, "filter", star, out, "--random-subset", "1", "--overwrite")
        assert (code, "expected" in error) == (2, True)
    beside.unlink()
    assert contents(tmp_path) == before


def test_other_verbs_never_replace_their_source(warp_series: WarpSeries, capsys: pytest.CaptureFixture[str]) -> None:
    folder, star = warp_series.folder, warp_series.path
    before = contents(folder)
    stack = folder / "particleseries/T_2.mrcs"
    for option in ("--ids", "--images", "--report"):
        for out in (star, stack):
            code, error = fails(capsys, "info", star, option, out, "--overwrite")
            assert (code, "which is one of the files that are read" in error) == (2, True), (option, out)
    code, error = fails(capsys, "convert-positions", star, star, "--overwrite")
    assert (code, "which is one of the files that are read" in error) == (2, True)
    particles = read_particles(star)
    for out in (star, stack):
        with pytest.raises(ValueError, match=r"Got output .*, expected"):
            write_particles(particles, out, overwrite=True, as_images=out == star)
    assert contents(folder) == before


@pytest.fixture
def warp_series(tmp_path: Path) -> WarpSeries:
    return WarpSeries(tmp_path)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [("--stack", "x.mrcs", "cistem, emclarity"), ("--phase-unit", "rad", "cistem, emclarity"),
     ("--defocus-hand", "-1", "warptools, relion5, nextpyp_relion5")],
)  # fmt: skip
def test_option_of_another_dialect_is_refused(
    warp_series: WarpSeries, capsys: pytest.CaptureFixture[str], option: str, value: str, wanted: str
) -> None:
    code, error = fails(capsys, "info", warp_series.path, option, value)
    assert code == 2
    assert f"({option}) for {warp_series.path} of dialect warp, expected it for {wanted} only" in error


def test_tilt_column_is_not_for_optimisation_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = fails(capsys, "info", WarpToolsSet(tmp_path).path, "--tilt-column", "foo")
    assert (code, "(--tilt-column)" in error, "of dialect warptools" in error) == (2, True, True)


def test_what_is_not_written_is_said(warp_series: WarpSeries, caplog: pytest.LogCaptureFixture) -> None:
    particles = read_particles(warp_series.path, pixel_size_angst=7.5, invert=False)
    out = warp_series.folder / "out.star"
    write_particles(particles, out)
    said = "without invert False (--invert), pixel_size_angst 7.5 (--pixel-size-angst): give them again"
    assert said in caplog.text
    assert "--as-images" in caplog.text
    assert read_particles(out).pixel_size_angst != 7.5
    caplog.clear()
    write_particles(particles, warp_series.folder / "images.star", as_images=True)
    assert "give them again" not in caplog.text
    again = read_particles(warp_series.folder / "images.star")
    assert (again.pixel_size_angst, again.invert) == (7.5, False)


def test_box_on_the_fly_is_not_written_and_that_is_said(
    project: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    particles = read_particles(project / "Extract/job001/optimisation_set.star", box_px=8)
    write_particles(particles, tmp_path / "out.star", as_images=True)
    assert "without box 8 (--box): give them again" in caplog.text
    assert read_particles(tmp_path / "out.star").box_px == 16


# --- names that lead back ---------------------------------------------------------------------------------------------


def test_sets_below_a_project_are_named_from_its_root(project: Path) -> None:
    star = project / "Extract/job001/optimisation_set.star"
    out = project / "Select/job005/optimisation_set.star"
    assert run_command(["filter", str(star), str(out), "--tomogram", "TS_001", "--overwrite"]) == 0
    block = read_star(out)[""]
    assert block["rlnTomoParticlesFile"].tolist() == ["Select/job005/optimisation_set_particles.star"]
    assert block["rlnTomoTomogramsFile"].tolist() == ["Select/job005/optimisation_set_tomograms.star"]
    assert set(read_particles(out).tomogram) == {"TS_001"}
    assert run_command(["downsample", str(star), str(project / "Extract/job006"), "--box", "8"]) == 0
    small = project / "Extract/job006/optimisation_set.star"
    rows = read_star(project / "Extract/job006/optimisation_set_particles.star")["particles"]
    assert all(name.startswith("Extract/job006/") for name in rows["rlnImageName"])
    assert all((project / name).is_file() for name in rows["rlnImageName"])
    tilts = read_star(project / "Extract/job006/optimisation_set_tomograms.star")["global"]["rlnTomoTiltSeriesStarFile"]
    assert all((project / name).is_file() for name in tilts)
    assert read_particles(small).box_px == 8


def test_folder_that_is_advised_is_the_one_that_helps(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    star, out = project / "Extract/job001/optimisation_set.star", tmp_path / "out.star"
    assert run_command(["filter", str(star), str(out), "--tomogram", "TS_001"]) == 0
    assert read_star(out)[""]["rlnTomoParticlesFile"].tolist() == ["out_particles.star"]
    said = next(text for text in caplog.messages if "Read it with datadir=" in text)
    advised = said.split("datadir=")[1].split(" (--datadir)")[0]
    assert len(read_particles(out, datadir=advised)) < 6


def test_linked_star_file_leads_to_its_stacks(project: Path, warp_series: WarpSeries, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for star in (warp_series.path, project / "Extract/job001/optimisation_set.star"):
        link = tmp_path / "elsewhere" / f"link_{star.name}"
        link.symlink_to(os.path.relpath(star, link.parent))
        np.testing.assert_array_equal(read_particles(link).particle_id, read_particles(star).particle_id)


# --- remarks ----------------------------------------------------------------------------------------------------------


def test_series_without_exposures_and_with_odd_defocus(
    warp_series: WarpSeries, caplog: pytest.LogCaptureFixture
) -> None:
    plain = read_particles(warp_series.path)
    assert "Got rlnCtfBfactor 0" not in caplog.text
    assert "defocus below" not in caplog.text
    warp_series.rows = warp_series.rows.assign(rlnCtfBfactor="0.0", rlnDefocusU="2.1", rlnDefocusV="2.0")
    found = read_particles(warp_series.write())
    assert "Got rlnCtfBfactor 0 in every row" in caplog.text
    assert "Got 5 of 5 images" in caplog.text
    assert "is the unit angstrom?" in caplog.text
    assert (found.dose_e_per_angst2.max(), plain.dose_e_per_angst2.max()) == (0, 9)


def test_remarks_are_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    made = WarpToolsSet(tmp_path)
    with caplog.at_level(logging.INFO):
        assert run_command(["info", str(made.path)]) == 0
    said = capsys.readouterr()
    assert said.out.count("says nothing of the hand") == 1
    assert "says nothing of the hand" not in said.err + caplog.text


def test_keywords_in_capitals(warp_series: WarpSeries) -> None:
    text = warp_series.path.read_text()
    before = read_particles(warp_series.path)
    warp_series.path.write_text(text.replace("data_", "DATA_").replace("loop_", "LOOP_"))
    np.testing.assert_array_equal(read_particles(warp_series.path).rotations, before.rotations)


def test_missing_particles_of_a_column_are_named_plainly(
    warp_series: WarpSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"particle_id": ["T_2_0000007"], "cluster": [1]}).to_csv(tmp_path / "c.csv", index=False)
    column = f"{tmp_path / 'c.csv'}:cluster"
    code, error = fails(capsys, "filter", warp_series.path, tmp_path / "o.star", "--add-column", column)
    assert (code, "first ['001_0000007']" in error) == (2, True)


def test_commands_of_extraction_have_the_numbers_of_the_file(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = fails(capsys, "info", shared_data / "formats/relion4/relion_4.0.star")
    assert code == 2
    optics = read_star(shared_data / "formats/relion4/relion_4.0.star")["optics"].iloc[0]
    box, binning = int(optics["rlnImageSize"]), float(optics["rlnTomoSubtomogramBinning"])
    assert f"--stack2d --no_ctf --b {box} --crop {box} --bin {binning:g} --o " in error
    assert f"--output_angpix {float(optics['rlnImagePixelSize']):g} --box {box} --diameter DIAMETER_ANGST" in error
