"""A linear run: the same folder as any other, and everything downstream takes it."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.imaging.fourier import fourier_crop3
from tomodrgn.io.mrc import read_volume, write_stack
from tomodrgn.particles.dataset import TiltDataset
from tomodrgn.training.job import option_flags
from tomodrgn.training.linear_run import load_subspace
from tomodrgn.training.lock import LOCK, hold_run
from tomodrgn.training.train import train
from tomodrgn.widgets import ConfigForm, LatentExplorer, TrainingMonitor

TWO = td.LinearConfig(n_components=2)


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    return td.simulate_particles(
        tmp_path_factory.mktemp("linear") / "data", n_particles=60, n_tilts=8, n_states=2, snr=0.2, seed=3
    )


@pytest.fixture(scope="module")
def run(particles, tmp_path_factory):
    return td.fit_linear(particles, tmp_path_factory.mktemp("run") / "run", TWO)


def test_the_folder_is_that_of_a_finished_run(run, particles):
    opened = td.Run.open(run.folder)
    assert (opened.kind, opened.epochs, opened.z_dim, opened.status["state"]) == ("linear", [1], 2, "finished")
    assert opened.linear_config == TWO
    assert not (run.folder / LOCK).exists()
    assert not list(run.folder.rglob("*.tmp*"))
    assert opened.fit["suggested_components"] == 1
    assert opened.fit["seconds"] > 0
    table = opened.table()
    assert table.index.tolist() == particles.particle_id.tolist()
    assert {"z1", "z2", "z1_std", "z2_std"} <= set(table)
    row = opened.history.iloc[0]
    assert len(opened.history) == 1
    assert row["kl"] > 0
    assert row["total"] == pytest.approx(row["reconstruction"] + row["kl"])
    assert row["total"] < 0  # the images are likelier than under the average alone


def test_latents_have_mean_and_covariance(run):
    latents = run.latents()
    assert latents.covariance.shape == (60, 2, 2)
    variance = latents.covariance.diagonal(axis1=1, axis2=2)
    np.testing.assert_allclose(np.exp(latents.logvar), variance, rtol=1e-4)
    np.testing.assert_allclose(latents.frame()["z1_std"], np.sqrt(variance[:, 0]), rtol=1e-4)


def test_embedding_the_same_particles_gives_the_same_posteriors(run, particles):
    again = td.embed_particles(run, particles.subset(particles.particle_id[::-1][:20]))
    known = run.latents().aligned_to(again.particle_id)
    np.testing.assert_allclose(again.mu, known.mu, atol=1e-4)
    np.testing.assert_allclose(again.covariance, known.covariance, atol=1e-4)


def test_maps_are_the_average_and_the_components(run):
    subspace = load_subspace(run)
    z = np.array([[0.0, 0.0], [1.5, -0.5]], np.float32)
    made = td.generate_volumes(run, z)
    wanted = subspace.decode(torch.from_numpy(z)).numpy() * run.settings["scale"]
    wanted -= wanted.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(made.maps, wanted, atol=1e-4 * np.abs(wanted).max())
    half = td.generate_volumes(run, z, box_px=16)
    cropped = fourier_crop3(torch.from_numpy(made.maps), 16).numpy()
    np.testing.assert_allclose(half.maps, cropped, atol=1e-4 * np.abs(cropped).max())
    assert half.voxel_size_angst == pytest.approx(2 * made.voxel_size_angst)


def test_maps_are_in_the_units_of_an_autoencoders_maps(run, particles, tmp_path):
    """Both models show the same average; that of the autoencoder is regularised more, hence lower."""
    options = td.TrainConfig(epochs=1, learning_rate=1e-9)
    other = train(particles, tmp_path / "vae", model=td.VaeConfig(z_dim=0), training=options)
    mine, theirs = td.generate_volumes(run, np.zeros((1, 2), np.float32)), td.generate_volumes(other, np.zeros((1, 0)))
    slope = float((mine.maps * theirs.maps).sum() / np.square(theirs.maps).sum())
    assert 1.0 < slope < 1.35


def test_verbs_and_views_take_a_linear_run(run, particles, tmp_path, capsys):
    star = str(particles.source.path)
    assert run_command(["embed", str(run.folder), star, str(tmp_path / "z.npz")]) == 0
    assert td.Latents.load(tmp_path / "z.npz").covariance is not None
    for number, choice in enumerate((["--kmeans", "2"], ["--pc", "1"])):
        assert run_command(["generate", str(run.folder), str(tmp_path / f"m{number}"), *choice]) == 0
    assert read_volume(tmp_path / "m0/cluster_000.mrc")[0].shape == (32, 32, 32)
    capsys.readouterr()
    explorer = LatentExplorer(run)
    assert "z1_std" in explorer.table
    monitor = TrainingMonitor(None, run.folder)
    assert (monitor.state, monitor.epoch, monitor.epochs) == ("finished", 1, 1)
    monitor.close()


def test_the_shell_fits_says_what_it_found_and_obeys_the_folder(particles, tmp_path, capsys, caplog):
    command = ["train", str(particles.source.path), str(tmp_path / "run"), "--model", "linear"]
    assert run_command([*command, "--z-dim", "2", "--seed", "4"]) == 0
    said = capsys.readouterr().out
    assert "2 components" in said
    assert "held-out tilts suggest 1" in said
    assert "only the first 1 of 2 components" in caplog.text  # which the shell shows on stderr
    made = td.Run.open(tmp_path / "run")
    assert (made.linear_config.n_components, made.train_config.seed) == (2, 4)
    assert run_command(command) == 2  # it exists
    with hold_run(tmp_path / "run"):
        assert run_command([*command, "--overwrite"]) == 2
    assert run_command([*command, "--overwrite", "--max-components", "3"]) == 0
    assert td.Run.open(tmp_path / "run").z_dim == 1
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--model", "linear", "--epochs", "3"], "--epochs"),
        (["--model", "linear", "--pooling", "max"], "--pooling"),
        (["--model", "vae", "--n-components", "3"], "--n-components"),
        (["--model", "linear", "--z-dim", "0"], "--z-dim 0"),
        (["--model", "linear", "--z-dim", "2", "--n-components", "3"], "--n-components"),
        (["--model", "linear", "--resume"], "--overwrite"),
    ],
)
def test_options_of_the_other_model_are_refused(particles, tmp_path, capsys, options, word):
    assert run_command(["train", str(particles.source.path), str(tmp_path / "run"), *options]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_linear_run_is_not_resumed_as_an_autoencoder(run, particles):
    with pytest.raises(ValueError, match="of the linear model"):
        train(particles, run.folder, resume=True)
    assert td.Run.open(run.folder).status["state"] == "finished"


def test_the_fit_stops_when_asked_and_says_so(particles, tmp_path):
    told = []
    run = td.fit_linear(particles, tmp_path / "run", progress=told.append, should_stop=lambda: len(told) == 2)
    assert [state.stage for state in told] == [1, 2]
    assert told[0].radius < told[1].radius
    assert (run.status["state"], run.epochs, run.fit) == ("stopped", [], {})
    assert td.fit_linear(particles, tmp_path / "run", overwrite=True).status["state"] == "finished"


def test_what_goes_wrong_is_in_the_status(tmp_path, capsys):
    particles = td.simulate_particles(tmp_path / "data", n_particles=4, n_tilts=3, missing_tilts=0, n_tomograms=4)
    images = TiltDataset(particles).read_images(np.arange(3))
    for path in particles.stack_paths:
        write_stack(path, images * (path == particles.stack_paths[0]), particles.pixel_size_angst, overwrite=True)
    assert run_command(["train", str(particles.source.path), str(tmp_path / "run"), "--model", "linear"]) == 2
    assert "Got 1 particles with images that are not constant" in capsys.readouterr().err
    assert td.Run.open(tmp_path / "run").status["state"] == "failed"


def test_doubts_are_written_down(tmp_path, caplog):
    particles = td.simulate_particles(tmp_path / "data", n_particles=40, n_tilts=6, n_states=1, snr=0.1, seed=1)
    keep = np.ones(particles.n_images, bool)
    keep[particles.offsets[3] + 1 : particles.offsets[4]] = False
    with caplog.at_level(logging.WARNING):
        run = td.fit_linear(particles.subset_images(keep), tmp_path / "run")
    remarks = json.loads((run.folder / "run.json").read_text())["fit"]["remarks"]
    assert run.fit["suggested_components"] == 0
    assert f"1 particles have a single tilt image, first {particles.particle_id[3]}" in remarks[0]
    assert remarks[1].startswith("no component helps to predict tilts that were held out")
    for remark in remarks:
        assert remark in caplog.text


def test_a_job_is_started_with_the_options_of_the_linear_model(particles, tmp_path):
    assert option_flags(TWO, td.TrainConfig(seed=2)) == ["--n-components", "2", "--seed", "2"]
    job = td.start_training(particles, tmp_path / "run", model=TWO)
    assert "--model linear" in job.command
    assert job.wait(120.0) == "finished"
    assert td.Run.open(tmp_path / "run").z_dim == 2
    form = ConfigForm(TWO)
    assert form.value(td.LinearConfig) == TWO
