"""Cleaning a run: chosen epochs stay, so do the newest and what a resumed training needs; nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.training.clean import clean_run
from tomodrgn.training.lock import hold_run

OPTIONS = {
    "model": td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5),
    "preprocess": td.PreprocessConfig(max_radius=0.2),
}


@pytest.fixture(scope="module")
def trained(small_particles, tmp_path_factory) -> td.Run:
    folder = tmp_path_factory.mktemp("clean") / "run"
    return td.train(small_particles, folder, training=td.TrainConfig(epochs=6, batch_size=6), **OPTIONS)


@pytest.fixture
def run(trained: td.Run, tmp_path: Path) -> td.Run:
    shutil.copytree(trained.folder, tmp_path / "run")
    return td.Run.open(tmp_path / "run")


@pytest.mark.parametrize(
    ("choice", "kept"),
    [({"keep": [2, 5]}, (2, 5, 6)), ({"every": 2}, (2, 4, 6)), ({"every": 4}, (4, 6)), ({"last": 2}, (5, 6)),
     ({"last": 100}, (1, 2, 3, 4, 5, 6)), ({"keep": []}, (6,))],
)  # fmt: skip
def test_chosen_epochs_stay(run: td.Run, choice: dict, kept: tuple[int, ...]) -> None:
    others = {
        path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file() and "epochs" not in path.parts
    }
    before = {path: path.read_bytes() for path in (run.folder / "epochs").rglob("*") if path.is_file()}
    told = clean_run(run, **choice, dry_run=True)
    assert run.epochs == [1, 2, 3, 4, 5, 6]
    done = clean_run(run, **choice)
    assert done == told
    assert (done.kept, tuple(run.epochs)) == (kept, kept)
    left = {path: path.read_bytes() for path in (run.folder / "epochs").rglob("*") if path.is_file()}
    assert left == {path: data for path, data in before.items() if int(path.parent.name) in kept}
    assert done.n_bytes == sum(len(data) for path, data in before.items() if path not in left)
    assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file() and "epochs" not in p.parts} == others


def test_a_cleaned_run_resumes_bit_for_bit(run: td.Run, trained: td.Run, small_particles, tmp_path: Path) -> None:
    more = td.TrainConfig(epochs=7)
    shutil.copytree(trained.folder, tmp_path / "whole")
    whole = td.train(small_particles, tmp_path / "whole", training=more, resume=True)
    clean_run(run, last=1)
    parts = td.train(small_particles, run.folder, training=more, resume=True)
    assert parts.epochs == [6, 7]
    assert (parts.latents().mu == whole.latents().mu).all()
    columns = ["epoch", "reconstruction", "kl", "total"]
    assert parts.history[columns].equals(whole.history[columns])


def test_what_resume_needs_stays_where_the_newest_state_is_older(run: td.Run) -> None:
    """A training that was killed between the epoch and its optimiser resumes from the epoch before."""
    state = run.folder / "training_state"
    (state / "0006.safetensors").rename(state / "0005.safetensors")
    assert clean_run(run, keep=[1]).kept == (1, 5, 6)


def test_what_a_killed_training_left_goes(run: td.Run) -> None:
    for name in (".0007", ".0003-replaced"):
        (run.folder / "epochs" / name).mkdir()
        (run.folder / "epochs" / name / "weights.safetensors").write_bytes(b"x" * 10)
    (run.folder / "epochs/notes.txt").write_text("mine")
    done = clean_run(run, last=100)
    assert (done.removed, len(done.folders), done.n_bytes) == ((), 2, 20)
    assert sorted(path.name for path in (run.folder / "epochs").iterdir())[-1] == "notes.txt"


def test_links_are_not_followed(run: td.Run, tmp_path: Path) -> None:
    shutil.move(run.folder / "epochs/0002", tmp_path / "elsewhere")
    (run.folder / "epochs/0002").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"0002, which is a link to .*elsewhere, expected a folder of the run itself"):
        clean_run(run, last=1)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2
    assert len(run.epochs) == 6


def test_a_run_that_is_trained_is_left_alone(run: td.Run) -> None:
    with hold_run(run.folder):
        (run.folder / "training.lock").write_text('{"pid": 1, "host": "elsewhere", "started": 1, "since": "now"}')
        with pytest.raises(BlockingIOError, match="being trained by process 1"):
            clean_run(run, last=1)
    assert len(run.epochs) == 6


@pytest.mark.parametrize(
    ("choice", "words"),
    [({}, "none or several"), ({"last": 1, "every": 2}, "none or several"), ({"last": 0}, "Got --last 0"),
     ({"every": -1}, "Got --every -1"), ({"keep": [9]}, r"Got epochs \[9\].*1, 2, 3")],
)  # fmt: skip
def test_choices_that_are_none(run: td.Run, choice: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clean_run(run, **choice)
    assert len(run.epochs) == 6


def test_the_shell_says_what_would_go(run: td.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["clean", str(run.folder), "--keep", "2,4", "--dry-run"]) == 0
    assert "would remove epochs 1, 3, 5 of" in capsys.readouterr().out
    assert len(run.epochs) == 6
    assert run_command(["clean", str(run.folder), "--keep", "2,4"]) == 0
    said = capsys.readouterr().out
    assert "removed epochs 1, 3, 5 of" in said
    assert "epochs 2, 4, 6 stay" in said
    assert run_command(["clean", str(run.folder), "--keep", "two"]) == 2
    assert "Got --keep 'two', expected numbers of epochs such as 5,10" in capsys.readouterr().err
    assert run_command(["clean", str(run.folder)]) == 2
