"""A run goes on only with the images and the options it was started with; whatever differs is named."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.io.star import read_star, write_star
from tomodrgn.particles.downsample import downsample_particles
from tomodrgn.training.job import start_training
from tomodrgn.training.resume import check_same_particles, resumed_options
from tomodrgn.training.train import train

MODEL = td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5)
COARSE = td.PreprocessConfig(max_radius=0.2)
TWO = td.TrainConfig(epochs=2, batch_size=4)


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "run"
    return train(small_particles, folder, model=MODEL, preprocess=COARSE, training=TWO)


def contents(run):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(run.folder.rglob("*")) if p.is_file()}


@pytest.fixture(autouse=True)
def untouched(run):
    """Every refusal comes before anything is written."""
    before = contents(run)
    yield
    assert contents(run) == before


def altered(particles, folder, label, change):
    """The same images under the same names, with one column changed."""
    shutil.copytree(particles.source.path.parent, folder)
    star = folder / particles.source.path.name
    blocks = read_star(star)
    rows = blocks[particles.source.particles_block]
    rows[label] = [f"{change(float(value)):.6f}" for value in rows[label]]
    write_star(star, blocks, overwrite=True)
    return star


def no_change(value):
    return value


@pytest.mark.parametrize(
    ("label", "change", "words"),
    [
        ("rlnAngleRot", lambda v: v + 5, "other rotations"),
        ("rlnDefocusU", lambda v: v + 100, "other CTF parameters"),
        ("rlnOriginX", lambda v: v + 0.1, "other shifts"),
        ("rlnCtfBfactor", lambda v: v - 4, "other exposure"),
        ("userIceThickness", no_change, "sha256 of the file"),
    ],
)
def test_same_names_in_another_file_are_refused(run, small_particles, tmp_path, capsys, label, change, words):
    star = altered(small_particles, tmp_path / "data", label, change)
    assert run_command(["train", str(star), str(run.folder), "--resume", "--epochs", "3"]) == 2
    error = capsys.readouterr().err
    for word in (words, str(star), str(run.folder), "Resume with the file"):
        assert word in error


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--no-invert"], "invert False, expected True"),
        (["--ctf-premultiplied"], "ctf_premultiplied True, expected False"),
        (["--dose-weighted"], "dose_weighted True, expected False"),
        (["--pixel-size-angst", "9"], "pixel size of 9 A, expected 8 A"),
        (["--box", "16"], "box 16 px, expected 32 px"),
        (["--z-dim", "7", "--seed", "3"], "--z-dim 7 (the run has 2), --seed 3 (the run has 0)"),
        (["--batch-size", "2", "--max-radius", "0.3"], "--batch-size 2 (the run has 4)"),
        (["--max-radius", "0.3", "--epochs", "5"], "--max-radius 0.3 (the run has 0.2)"),
        (["--epochs", "1"], "--epochs 1 (the run has 2)"),
    ],
)
def test_other_flags_are_refused(run, small_particles, capsys, flags, words):
    assert run_command(["train", str(small_particles.source.path), str(run.folder), "--resume", *flags]) == 2
    assert words in capsys.readouterr().err


def test_other_images_on_disk_are_refused(run, small_particles, tmp_path):
    small = downsample_particles(small_particles, tmp_path / "small", box_px=16)
    assert small.particle_id.tolist() == small_particles.particle_id.tolist()
    with pytest.raises(ValueError, match="images of 16 px, expected 32 px; pixel size of 16 A, expected 8 A"):
        train(small, run.folder, resume=True)


def test_other_particles_are_refused(run, small_particles):
    with pytest.raises(ValueError, match=r"Got 5 particles .* expected the 12 of run"):
        train(small_particles.subset(small_particles.particle_id[:5]), run.folder, resume=True)


def test_process_is_not_begun_with_other_options(run, small_particles):
    with pytest.raises(ValueError, match=re.escape("--z-dim 7 (the run has 2)")):
        start_training(small_particles, run.folder, model=td.VaeConfig(z_dim=7), resume=True)


def test_same_options_and_more_epochs_are_taken(run):
    asked = td.TrainConfig(epochs=9, batch_size=4, accelerator="cpu", points_per_chunk=512)
    goes_on = resumed_options(run, MODEL, COARSE, asked)
    assert goes_on == TWO.model_copy(update={"epochs": 9, "accelerator": "cpu", "points_per_chunk": 512})
    assert resumed_options(run, None, None, None) == TWO


def test_own_copy_of_the_particles_is_the_same(run, small_particles, tmp_path):
    check_same_particles(run, run.particles)
    moved = shutil.copytree(small_particles.source.path.parent, tmp_path / "moved")
    check_same_particles(run, td.read_particles(moved / small_particles.source.path.name))
    copied = shutil.copytree(run.folder, tmp_path / "run")
    again = train(run.particles, copied, training=td.TrainConfig(epochs=3), resume=True)
    assert again.epochs == [1, 2, 3]
    assert np.isfinite(again.latents().mu).all()
