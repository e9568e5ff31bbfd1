"""`tomodrgn convert-positions`: what it writes and prints, and one line for each mistake."""

from __future__ import annotations

import shlex

import pytest
import starfile

from tests.test_cli import fails
from tomodrgn.cli import run_command


def test_convert_a_dynamo_table(shared_data, tmp_path, capsys):
    table, names = (shared_data / "formats/dynamo" / f"dynamo2m_example.{kind}" for kind in ("tbl", "doc"))
    out = tmp_path / "out.star"
    options = ["--pixel-size-angst", "15", "--tomogram-names", str(names)]
    assert run_command(["convert-positions", str(table), str(out), *options]) == 0
    said = capsys.readouterr().out
    assert f"wrote 60 positions (dynamo) to {out}, tomograms: 1;" in said
    assert f"ts_export_particles --input_star {out} --coords_angpix 1 " in said
    assert "relion" not in said
    written = starfile.read(out)
    assert written["rlnMicrographName"].iloc[0] == "tomo_ts01.mrc.tomostar"
    assert written["rlnCoordinateX"].iloc[0] == pytest.approx((508.5 - 1.1651) * 15)


def test_convert_for_relion_too(shared_data, tmp_path, capsys):
    project = shared_data / "formats/relion5/project"
    out, tomograms = tmp_path / "out.star", project / "Denoise/job008/tomograms.star"
    command = ["convert-positions", str(project / "Picks/job019/particles.star"), str(out), "--tomograms"]
    assert run_command([*command, str(tomograms)]) == 0
    said = capsys.readouterr().out
    assert "--coords_angpix 1.35 " in said
    assert f"relion_tomo_subtomo --p {out} --t {tomograms} --stack2d --no_ctf" in said
    assert len(starfile.read(out)) == 51


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("nothing.star {out}", "no file"),
        ("{data}/dynamo/crop.tbl {out}", "--pixel-size-angst"),
        ("{data}/dynamo/crop.tbl {out} --pixel-size-angst -1", "expected a positive number"),
        ("{data}/dynamo/crop.tbl {out} --pixel-size-angst 2", "--tomogram-names"),
        ("{data}/dynamo/crop.tbl {out} --pixel-size-angst 2 --tomogram-names none.csv", "none.csv"),
        ("{data}/stopgap/class6_er_mr1_1_sg.star {out} --wedge-list {data}/stopgap/wedge_list.star", "--binning"),
        ("{data}/relion5/project/Picks/job019/particles.star {out}", "--tomograms"),
        ("{data}/warp_v1_m/sta_testing.star {out}", "expected the tomogram and the position"),
        ("{data}/cistem/fixture.cistem {out}", "binary"),
        ("{data}/dynamo/crop.tbl {data}/NOTES.md --pixel-size-angst 2", "--overwrite"),
        ("{data}/dynamo/crop.tbl", "OUT"),
    ],
)
def test_mistakes(options, words, shared_data, tmp_path, capsys):
    arguments = shlex.split(options.format(data=shared_data / "formats", out=tmp_path / "out.star"))
    code, error = fails(capsys, "convert-positions", *arguments)
    assert code == 2
    assert words in error
    assert list(tmp_path.iterdir()) == []
