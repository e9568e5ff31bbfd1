"""`tomodrgn train` takes a part of the particles and of their images; the run keeps that part, and goes on with it."""

from __future__ import annotations

import numpy as np
import pytest

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.cli.run_log import RunLog

TINY = ["--z-dim", "2", "--encoder-dim", "16", "--decoder-dim", "16", "--encoder-layers", "1", "--decoder-layers", "1"]
TINY += ["--encoder-grid", "5", "--max-radius", "0.2", "--batch-size", "4"]


@pytest.mark.parametrize(("dialect", "tilts"), [("warp", 4), ("warptools", None)])
def test_listed_particles_and_early_tilts_are_trained_on_and_kept_by_the_run(tmp_path, dialect, tilts):
    particles = td.simulate_particles(
        tmp_path / "data", n_particles=9, n_tilts=7, missing_tilts=2, box_px=16, dialect=dialect
    )
    listed = tmp_path / "ids.csv"
    listed.write_text("particle_id\n" + "\n".join(particles.particle_id[[7, 1, 4, 5, 2, 8]]) + "\n")
    choice = ["--particle-ids", str(listed), "--first", "5", *(["--tilts", f"0:{tilts}"] if tilts else [])]
    command = ["train", str(particles.source.path), str(tmp_path / "run"), *TINY]
    assert run_command([*command, *choice, "--epochs", "1"]) == 0
    run = td.Run.open(tmp_path / "run")
    wanted = particles.particle_id[[1, 2, 4, 5, 7]].tolist()
    assert run.latents().particle_id.tolist() == wanted
    assert run.particles.particle_id.tolist() == wanted
    # Of each particle the images of least exposure, and no others.
    own = {name: at for at, name in enumerate(particles.particle_id)}
    for name, first, end in zip(wanted, run.particles.offsets[:-1], run.particles.offsets[1:], strict=True):
        rows = slice(particles.offsets[own[name]], particles.offsets[own[name] + 1])
        lowest = np.sort(particles.dose_e_per_angst2[rows])[:tilts]
        np.testing.assert_allclose(np.sort(run.particles.dose_e_per_angst2[first:end]), lowest, rtol=1e-5)
    assert run_command([*command, "--first", "4", "--epochs", "2", "--resume"]) == 2
    assert run_command([*command, *choice, "--epochs", "2", "--resume"]) == 0
    # Nothing chosen: those of the run, as when a job resumes it.
    assert run_command([*command, "--epochs", "3", "--resume"]) == 0
    again = td.Run.open(run.folder)
    assert again.epochs == [1, 2, 3]
    assert again.latents().particle_id.tolist() == wanted
    assert (again.folder / "log.txt").read_text().count("Going on with the 5 particles") == 1


def test_part_of_the_tilts_of_stacks_that_cannot_be_cut(tmp_path):
    """A run keeps the rows of whole particles, and which of their images were used."""
    options = {"n_particles": 4, "n_tilts": 5, "missing_tilts": 2, "box_px": 16, "seed": 3}
    particles = td.simulate_particles(tmp_path / "data", **options, dialect="warptools")
    command = ["train", str(particles.source.path), str(tmp_path / "run"), *TINY]
    assert run_command([*command, "--tilts", "0:2", "--epochs", "1"]) == 0
    run = td.Run.open(tmp_path / "run")
    assert (run.folder / "images.csv").is_file()
    assert run.particles.tilt_counts.tolist() == [2] * 4
    assert run.particles_without_images.n_images == 8
    doses = np.split(particles.dose_e_per_angst2, particles.offsets[1:-1])
    lowest = [np.sort(dose)[:2] for dose in doses]
    np.testing.assert_allclose(np.sort(run.particles.dose_e_per_angst2.reshape(4, 2), axis=1), lowest)
    assert run_command([*command, "--tilts", "0:3", "--epochs", "2", "--resume"]) == 0
    assert run_command([*command, "--tilts", "0:1", "--epochs", "2", "--resume"]) == 2
    assert td.Run.open(run.folder).epochs == [1, 2]
    listed = (run.folder / "images.csv").read_text()
    (run.folder / "images.csv").write_text(listed.replace(listed.split(",")[-1].strip(), "1 77"))
    with pytest.raises(ValueError, match=r"^Got .*images.csv with images \[1, 77\] of particle"):
        _ = td.Run.open(run.folder).particles
    (run.folder / "images.csv").write_text(listed.replace(listed.split(",")[-1].strip(), "1 " + 30 * "9"))
    with pytest.raises(ValueError, match=r"^Got .*images.csv, expected columns"):
        _ = td.Run.open(run.folder).particles
    assert run_command([*command, "--epochs", "1", "--overwrite"]) == 0
    assert not (run.folder / "images.csv").exists()
    assert td.Run.open(run.folder).particles.n_images == particles.n_images


def test_images_up_to_an_exposure(small_particles, tmp_path):
    dose = float(np.median(small_particles.dose_e_per_angst2))
    command = ["train", str(small_particles.source.path), str(tmp_path / "run"), *TINY, "--epochs", "1"]
    assert run_command([*command, "--max-dose", str(dose)]) == 0
    kept = td.Run.open(tmp_path / "run").particles
    assert kept.n_images == int((small_particles.dose_e_per_angst2 <= dose).sum())
    assert kept.dose_e_per_angst2.max() <= dose


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--first", "0"], "Got --first 0, expected 1 or more"),
        (["--tilts", "3"], "Got --tilts 3, expected A:B"),
        (["--max-dose", "-1"], "leaves none of the 12 particles"),
    ],
)
def test_choices_that_cannot_be_are_refused(small_particles, tmp_path, capsys, options, words):
    assert run_command(["train", str(small_particles.source.path), str(tmp_path / "run"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_line_of_an_epoch_tells_trained_and_held_out_tilts_apart(small_particles, tmp_path, capsys):
    options = [*TINY, "--epochs", "2", "--held-out-fraction", "0.3"]
    assert run_command(["train", str(small_particles.source.path), str(tmp_path / "run"), *options]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    history = td.Run.open(tmp_path / "run").history.set_index(["epoch", "split"])
    assert len(lines) == 2
    for epoch, line in enumerate(lines, start=1):
        trained, held_out = history.loc[(epoch, "train")], history.loc[(epoch, "test")]
        assert f"epoch {epoch} of 2: reconstruction {trained['reconstruction']:.5f}, KL {trained['kl']:.5f}, " in line
        assert f"held-out tilts {held_out['reconstruction']:.5f}, " in line
        assert trained["reconstruction"] != held_out["reconstruction"]


def test_what_a_shell_says_is_kept_in_the_run_folder(small_particles, tmp_path, capsys):
    command = ["train", str(small_particles.source.path), str(tmp_path / "run"), *TINY]
    assert run_command([*command, "--epochs", "1"]) == 0
    log = tmp_path / "run/log.txt"
    first = log.read_text()
    assert first == capsys.readouterr().out
    assert first.startswith("epoch 1 of 1: reconstruction ")
    assert run_command([*command, "--epochs", "2", "--resume"]) == 0
    assert log.read_text() == first + capsys.readouterr().out
    assert run_command([*command, "--epochs", "1"]) == 2  # refused: the folder is another training's
    assert log.read_text().count("epoch 2 of 2") == 1
    assert run_command([*command, "--epochs", "1", "--overwrite"]) == 0
    assert log.read_text() == capsys.readouterr().out
    linear = ["train", str(small_particles.source.path), str(tmp_path / "linear"), "--model", "linear"]
    assert run_command(linear) == 0
    told = (tmp_path / "linear/log.txt").read_text()
    assert "stage 1 of at most" in told
    assert told.splitlines()[-1] == capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("add", [True, False])
def test_a_log_that_cannot_be_written_hides_no_error(tmp_path, add):
    (tmp_path / "log.txt").mkdir()

    def fail() -> None:
        with RunLog(tmp_path, add=add) as log:
            log.begin()
            log.line("a line")
            raise RuntimeError("of the training itself")

    with pytest.raises(RuntimeError, match="of the training itself"):
        fail()
    assert list((tmp_path / "log.txt").iterdir()) == []
