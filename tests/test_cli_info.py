"""`tomodrgn info` on every sample of every program, and where image stacks are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.particles.small_sets import WarpSeries, WarpToolsSet
from tests.particles.test_samples import E3, READABLE, REFUSED, with_extra_columns
from tests.test_cli import fails
from tomodrgn.cli import run_command
from tomodrgn.particles.dialect import DIALECTS
from tomodrgn.particles.read import read_particles

TABLES = [name for name in REFUSED if name.endswith(".star") and REFUSED[name] is not E3]


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What `info --json` says; the text form must name the same dialect."""
    assert run_command(["info", *map(str, arguments), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert run_command(["info", *map(str, arguments)]) == 0
    text = capsys.readouterr().out
    assert f"dialect             {DIALECTS[facts['dialect']]}\n" in text
    assert all(f"remark: {remark}\n" in text for remark in facts["remarks"])
    return facts


@pytest.mark.parametrize(("name", "wanted"), READABLE.items())
@pytest.mark.parametrize("extra", [False, True])
def test_every_sample_is_told_from_its_table_alone(shared_data, tmp_path, capsys, name, wanted, extra):
    """The samples have no image stacks."""
    path = shared_data / "formats" / name
    star, folder = with_extra_columns(path, tmp_path) if extra else (path, None)
    facts = told(capsys, star, *([] if folder is None else ["--datadir", folder]))
    counts = facts["tilts_per_particle"]
    found = (facts["dialect"], facts["particles"], facts["images"], counts["min"], counts["max"], facts["box_px"],
             facts["pixel_size_angst"], facts["ctf_premultiplied"])  # fmt: skip
    assert found == pytest.approx(wanted[:-1])
    stacks = facts["image_stacks"]
    assert stacks["missing"] == stacks["number"] > 0
    assert stacks["first_missing"]
    assert stacks["option"] == ("--stack FILE" if wanted[0] == "emclarity" else "--datadir DIR")


@pytest.mark.parametrize(("name", "pieces"), REFUSED.items())
def test_what_cannot_be_trained_says_why_and_exits_2(shared_data, capsys, name, pieces):
    code, error = fails(capsys, "info", shared_data / "formats" / name)
    assert code == 2
    assert all(piece in error for piece in pieces), error


@pytest.mark.parametrize("name", TABLES)
def test_extra_columns_do_not_hide_what_cannot_be_trained(shared_data, tmp_path, capsys, name):
    star, _ = with_extra_columns(shared_data / "formats" / name, tmp_path)
    code, error = fails(capsys, "info", star)
    assert code == 2
    assert all(piece in error for piece in REFUSED[name]), error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("warp_v1_m/sta_testing.star", ["very different numbers of tilt images", "min 24, median 39, max 39"]),
        ("cryosrpnt/10076_classD_32_clean.star", ["free of a CTF", "exposures are unknown"]),
        (f"{'relion5/project/'}Extract/job020/optimisation_set.star", ["--stack2d --no_ctf", "not white"]),
        ("nextpyp/SYNTHETIC_nextpyp_20col.star", ["drawn image by image"]),
        ("emclarity/emc_30col_test.star", ["no tilt angles", "--tilt-column"]),
    ],
)
def test_remarks_of_reading(shared_data, capsys, caplog, name, words):
    remarks = told(capsys, shared_data / "formats" / name)["remarks"]
    for word in words:
        assert any(word in remark for remark in remarks), remarks
    assert not set(remarks) & set(caplog.messages), "each is told once"


def test_stacks_that_are_there_are_counted_and_some_may_be_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warp = WarpSeries(tmp_path)
    facts = told(capsys, warp.path)
    assert facts["image_stacks"] == {"number": 2, "missing": 0, "first_missing": None, "option": None}
    assert facts["box_px"] == 4
    (warp.folder / "particleseries/T_2.mrcs").unlink()
    facts = told(capsys, warp.path)
    assert facts["image_stacks"]["first_missing"] == "particleseries/T_2.mrcs"
    assert (facts["image_stacks"]["number"], facts["image_stacks"]["missing"]) == (2, 1)
    assert (facts["box_px"], facts["images"]) == (0, 5)
    assert run_command(["info", str(warp.path)]) == 0
    said = capsys.readouterr().out
    assert "box                 unknown, as the image stacks are missing" in said
    assert "1 of 2 are missing, first particleseries/T_2.mrcs; say where they are: --datadir DIR" in said
    for arguments in (["--box", "8"], ["--report", str(warp.folder / "page.html")]):
        code, error = fails(capsys, "info", warp.path, *arguments)
        assert code == 2
        assert "1 of 2 image stacks that do not exist" in error
    assert not (warp.folder / "page.html").exists()


def test_old_hand_of_warptools_is_remarked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unbinned pixels of 2 angstrom beside images of 10: written before July 2026."""
    warptools = WarpToolsSet(tmp_path)
    assert any("says nothing of the hand" in remark for remark in told(capsys, warptools.path)["remarks"])
    assert not any(
        "rlnTomoHand" in remark for remark in told(capsys, warptools.path, "--defocus-hand", "-1")["remarks"]
    )
    warptools.tomograms["global"]["rlnTomoHand"] = "1.0"
    warptools.write()
    assert not any("rlnTomoHand" in remark for remark in told(capsys, warptools.path)["remarks"])


def test_tables_of_particles_and_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warp = WarpSeries(tmp_path)
    ids, images = tmp_path / "ids.csv", tmp_path / "images.csv"
    assert run_command(["info", str(warp.path), "--ids", str(ids), "--images", str(images)]) == 0
    assert f"wrote {ids}\nwrote {images}\n" in capsys.readouterr().out
    particles = read_particles(warp.path)
    table = pd.read_csv(ids, dtype=str)
    assert table["particle_id"].tolist() == particles.particle_id.tolist()
    assert table["n_tilts"].tolist() == ["3", "2"]
    assert table["tomogram"].tolist() == ["001", "T_2"]
    rows = pd.read_csv(images, dtype={"particle_id": str})
    assert rows["tilt"].tolist() == [0, 1, 2, 0, 1]
    assert rows["slice"].tolist() == [0, 1, 2, 0, 1]
    assert rows["dose_e_per_angst2"].tolist() == [3, 6, 9, 3, 6]
    code, error = fails(capsys, "info", warp.path, "--ids", ids)
    assert (code, "--overwrite" in error) == (2, True)
    (warp.folder / "particleseries/T_2.mrcs").unlink()
    assert run_command(["info", str(warp.path), "--images", str(images), "--overwrite"]) == 0
    assert list(pd.read_csv(images)) == ["particle_id", "tilt", "dose_e_per_angst2", "tilt_deg"]


def test_readme_lists_every_dialect() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|") and " (`" in line]
    assert sorted(line.split("(`")[1].split("`)")[0] for line in table) == sorted(DIALECTS)
