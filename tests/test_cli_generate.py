"""`tomodrgn generate`: one clear line for wrong points, names, boxes, filters and epochs, and nothing written."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import tomodrgn as td
from tests.test_cli import TINY, fails
from tomodrgn.cli import run_command
from tomodrgn.training.run import Run


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate") / "run"
    command = ["train", str(small_particles.source.path), str(folder), *TINY, "--epochs", "1", "--batch-size", "4"]
    assert run_command(command) == 0
    return Run.open(folder)


MISTAKES = {
    "": ["--kmeans, --particle-ids, --latents and --pc"],
    "--kmeans 2 --pc 1": ["none or several"],
    "--kmeans 0": ["0 clusters"],
    "--pc 3": ["component 3"],
    "--pc 1 --box 0": ["Got box 0, expected an even number from 8 to 32"],
    "--pc 1 --box 15": ["Got box 15"],
    "--pc 1 --box -16": ["Got box -16"],
    "--pc 1 --box 34": ["Got box 34"],
    "--pc 1 --lowpass-angst 0": ["filter at 0 angstrom", "above 0"],
    "--pc 1 --lowpass-angst -5": ["filter at -5 angstrom"],
    "--pc 1 --lowpass-angst nan": ["filter at nan angstrom"],
    "--pc 1 --bfactor-angst2 nan": ["B-factor of nan"],
    "--pc 1 --epoch 0": ["Got epoch 0 of run", "epochs 1 to 1"],
    "--pc 1 --epoch 7": ["Got epoch 7 of run"],
    "--latents good.csv --epoch 0": ["Got epoch 0 of run"],
    "--particle-ids empty.csv": ["empty.csv without a row"],
    "--particle-ids good.csv": ["good.csv with the columns name, z1, z2", "named particle_id"],
    "--latents absent.csv": ["absent.csv", "does not exist"],
    "--latents none.csv": ["none.csv without a row"],
    "--latents one.csv": ["one.csv with the latent columns z1, expected z1 to z2"],
    "--latents three.csv": ["three.csv with the latent columns z1, z2, z3, expected z1 to z2"],
    "--latents words.csv": ["'much' as z2 of point a in words.csv", "finite number"],
    "--latents gap.csv": ["'' as z1 of point map_000 in gap.csv"],
    "--latents infinite.csv": ["'inf' as z1", "infinite.csv"],
}
TABLES = {
    "good": "name,z1,z2\na,0,0\n",
    "empty": "particle_id\n",
    "none": "name,z1,z2\n",
    "one": "z1\n0\n",
    "three": "z1,z2,z3\n0,0,0\n",
    "words": "name,z1,z2\na,0,much\n",
    "gap": "z1,z2\n,0\n",
    "infinite": "z1,z2\ninf,0\n",
}


@pytest.mark.parametrize(("options", "words"), MISTAKES.items())
def test_mistakes_are_one_line_and_exit_2(run, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    for name, text in TABLES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    code, error = fails(capsys, "generate", run.folder, "maps", *options.split())
    assert code == 2, error
    assert all(word in error for word in words), error
    assert "[" not in error, "a raw list"
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize("verb", ["generate RUN OUT --pc 1", "embed RUN nowhere.star OUT/volumes.csv"])
def test_a_missing_run_is_told_before_what_is_there(tmp_path, capsys, verb):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "volumes.csv").write_text("name\n")
    code, error = fails(capsys, *verb.replace("RUN", "nothere").replace("OUT", str(tmp_path / "out")).split())
    assert code == 2
    assert "Got run nothere: no such folder" in error


@pytest.mark.parametrize(
    "name", ["../out", "a/b", "/tmp/out", "..", ".", "", " ", "a\\b", "C:x", "a\tb", "x" * 201, "good"]
)
def test_names_that_would_leave_the_folder_are_refused(run, tmp_path, capsys, name):
    table = tmp_path / "in/latents.csv"
    table.parent.mkdir()
    pd.DataFrame({"name": ["good", name], "z1": 0.0, "z2": 0.0}).to_csv(table, index=False)
    code, error = fails(capsys, "generate", run.folder, tmp_path / "maps", "--latents", table)
    assert code == 2, error
    assert "Got the map name" in error
    assert "latents.csv" in error
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "latents.csv"]
    stack = td.VolumeStack(
        maps=np.zeros((2, 4, 4, 4), np.float32), voxel_size_angst=1.0, labels=pd.DataFrame(index=["x", name])
    )
    if name != "good":
        with pytest.raises(ValueError, match="Got the map name"):
            stack.save(tmp_path / "maps")
        assert not (tmp_path / "maps").exists()


def test_a_homogeneous_run_has_one_map(small_particles, tmp_path, capsys):
    folder = tmp_path / "run"
    sizes = [*TINY[2:], "--z-dim", "0", "--epochs", "1", "--batch-size", "4"]
    assert run_command(["train", str(small_particles.source.path), str(folder), *sizes]) == 0
    assert run_command(["generate", str(folder), str(tmp_path / "maps")]) == 0
    assert "wrote 1 maps of box 32" in capsys.readouterr().out
    maps = td.VolumeStack.open(tmp_path / "maps")
    assert maps.names == ["map_000"]
    assert maps.maps.std() > 0
    code, error = fails(capsys, "generate", folder, tmp_path / "other", "--kmeans", "2")
    assert (code, "latent" in error) == (2, True)
