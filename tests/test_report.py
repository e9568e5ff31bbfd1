"""The page about a set of particles: verdict, best setting, remarks, figures; nothing from elsewhere."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.report import write_data_report


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> td.ParticleSet:
    folder = tmp_path_factory.mktemp("noisy") / "data"
    return td.simulate_particles(folder, n_particles=32, n_tilts=7, snr=0.1, seed=3)


def test_a_wrong_flag_is_at_the_top_of_the_page(noisy, tmp_path):
    wrong = dataclasses.replace(noisy, invert=False)
    path = tmp_path / "page.html"
    check = write_data_report(wrong, path, remarks=["Got a <doubtful> hand."])
    assert check is not None
    assert check.settings == {"ctf_premultiplied": False, "dose_weighted": False, "invert": True}
    page = path.read_text(encoding="utf-8")
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Warnings", "Remarks on reading", "What the file holds", "What the images say", "Flags", "Tilt images",
        "Power and CTF", "Exposure", "Views and tilts", "Tilt images per particle",
    ]  # fmt: skip
    top = page[: page.index("What the file holds")]
    assert '<p class="verdict bad">The images contradict the contrast' in top
    assert "agrees best with the images: ctf_premultiplied=False, dose_weighted=False, invert=True." in top
    assert "Read them with invert=True (--invert)." in top
    assert "Got a &lt;doubtful&gt; hand." in top
    assert page.count('src="data:image/png;base64,') == 6
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    with pytest.raises(FileExistsError):
        write_data_report(noisy, path)


def test_a_handful_is_shown_but_not_judged(small_particles, tmp_path):
    assert write_data_report(small_particles, tmp_path / "page.html") is None
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "12 particles are too few to judge" in page
    assert "Remarks on reading" not in page
    assert page.count('src="data:image/png;base64,') == 5


@pytest.mark.parametrize("as_json", [False, True])
def test_the_shell_says_what_the_page_says(noisy, tmp_path, capsys, as_json):
    arguments = ["info", str(noisy.source.path), "--no-invert", "--report", str(tmp_path / "page.html")]
    assert run_command([*arguments, "--json"] if as_json else arguments) == 0
    said = capsys.readouterr().out
    if as_json:
        facts = json.loads(said)
        assert facts["invert"] is False
        said = "\n".join([facts["images_say"], *facts["warnings"]])
    assert "The images contradict the contrast" in said
    assert "Read them with invert=True (--invert)." in said
