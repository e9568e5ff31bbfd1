"""A linear run: the same folder as any other, and everything downstream takes it."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.imaging.fourier import fourier_crop3
from tomodrgn.io.mrc import open_stack, read_volume, write_stack
from tomodrgn.particles.dataset import TiltDataset
from tomodrgn.training.command import option_flags
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


def test_an_epoch_that_is_not_there_is_refused(run, particles, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"Got epoch 7 of run .*, which has epochs 1 to 1"):
        td.embed_particles(run, particles, epoch=7)
    few = particles.subset(particles.particle_id[:3])
    np.testing.assert_array_equal(td.embed_particles(run, few, epoch=1).mu, td.embed_particles(run, few).mu)
    command = ["embed", str(run.folder), str(particles.source.path), str(tmp_path / "z.npz"), "--epoch", "7"]
    assert run_command(command) == 2
    assert "Got epoch 7" in capsys.readouterr().err
    assert not (tmp_path / "z.npz").exists()
    assert run_command(["embed", "--help"]) == 0
    assert "of a linear run covariance" in " ".join(capsys.readouterr().out.replace("\u2502", " ").split())


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
    assert "components: 2, to" in said
    assert "held-out tilts suggest 1" in said
    assert "only the first of 2 components helps" in caplog.text  # which the shell shows on stderr
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
    for use in (lambda: td.generate_volumes(run, np.zeros((1, 2))), lambda: td.embed_particles(run, particles)):
        with pytest.raises(ValueError, match=r"whose fit is stopped, expected one with a finished epoch. Fit it again"):
            use()
    assert td.fit_linear(particles, tmp_path / "run").status["state"] == "finished"


def test_what_goes_wrong_is_in_the_status(tmp_path, capsys):
    particles = td.simulate_particles(tmp_path / "data", n_particles=4, n_tilts=3, missing_tilts=0, n_tomograms=4)
    images = TiltDataset(particles).read_images(np.arange(3))
    for path in particles.stack_paths:
        write_stack(path, images * (path == particles.stack_paths[0]), particles.pixel_size_angst, overwrite=True)
    assert run_command(["train", str(particles.source.path), str(tmp_path / "run"), "--model", "linear"]) == 2
    assert "Got images that are not constant of 1 of 4 particles" in capsys.readouterr().err
    assert td.Run.open(tmp_path / "run").status["state"] == "failed"


def test_doubts_are_written_down(tmp_path, caplog):
    particles = td.simulate_particles(tmp_path / "data", n_particles=40, n_tilts=6, n_states=1, snr=0.1, seed=1)
    keep = np.ones(particles.n_images, bool)
    keep[particles.offsets[3] + 1 : particles.offsets[4]] = False
    with caplog.at_level(logging.WARNING):
        run = td.fit_linear(particles.subset_images(keep), tmp_path / "run")
    remarks = json.loads((run.folder / "run.json").read_text())["fit"]["remarks"]
    assert run.fit["suggested_components"] == 0
    assert f"particles with a single tilt image: 1, first {particles.particle_id[3]}" in remarks[0]
    assert remarks[1].startswith("no component helps to predict tilts that were held out")
    for remark in remarks:
        assert remark in caplog.text
    for use in (lambda: td.generate_volumes(run, np.zeros((1, 1))), lambda: td.embed_particles(run, particles)):
        caplog.clear()
        use()
        assert f"linear run {run.folder}: no component helps" in caplog.text


def test_a_job_is_started_with_the_options_of_the_linear_model(particles, tmp_path):
    assert option_flags(TWO, td.TrainConfig(seed=2)) == ["--n-components", "2", "--seed", "2"]
    job = td.start_training(particles, tmp_path / "run", model=TWO)
    assert "--model linear" in job.command
    assert job.wait(120.0) == "finished"
    assert td.Run.open(tmp_path / "run").z_dim == 2
    form = ConfigForm(TWO)
    assert form.value(td.LinearConfig) == TWO


def test_run_keeps_its_maps_as_mrc_and_the_errors_of_its_scores(run, particles):
    subspace = load_subspace(run)
    average, voxel_size = read_volume(run.folder / "consensus.mrc")
    assert voxel_size == pytest.approx(particles.pixel_size_angst, rel=1e-4)
    made = td.generate_volumes(run, np.zeros((1, 2), np.float32)).maps[0]
    np.testing.assert_allclose(average - average.mean(), made, atol=1e-4 * np.abs(made).max())
    components = np.array(open_stack(run.component_path)).reshape(2, 32, 32, 32)
    expected = subspace.components.numpy() * run.settings["scale"]
    np.testing.assert_allclose(components, expected, atol=1e-5 * np.abs(expected).max())
    search = pd.read_csv(run.folder / "search.csv")
    assert (search.query("components > 0")["error"] > 0).all()


def test_as_many_components_as_particles_are_refused_before_there_is_a_folder(particles, tmp_path, capsys):
    few = particles.subset(particles.particle_id[:5])
    with pytest.raises(ValueError, match=r"Got 5 components .*for 5 particles"):
        td.fit_linear(few, tmp_path / "run", td.LinearConfig(n_components=5))
    assert not (tmp_path / "run").exists()


def test_a_single_particle_is_refused_before_there_is_a_folder(particles, tmp_path):
    with pytest.raises(ValueError, match=r"Got 1 particle, .*at least two"):
        td.fit_linear(particles.subset(particles.particle_id[:1]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_memory_that_ends_the_search_early_is_told(particles, tmp_path):
    run = td.fit_linear(particles, tmp_path / "run", td.LinearConfig(memory_gib=0.002))
    told = [remark for remark in run.fit["remarks"] if remark.startswith("memory_gib 0.002 let components")]
    assert len(told) == 1
    needed = float(told[0].split("raise it to ")[1].split(" ")[0])
    again = td.fit_linear(particles, tmp_path / "again", td.LinearConfig(memory_gib=needed))
    assert not [remark for remark in again.fit["remarks"] if "memory_gib" in remark]
    assert again.fit["radius_per_px"] > run.fit["radius_per_px"]


def test_a_radius_that_was_asked_for_is_kept_or_refused(particles, tmp_path):
    asked = td.LinearConfig(component_radius=0.3, n_components=2)
    assert td.fit_linear(particles, tmp_path / "run", asked).fit["radius_per_px"] == 0.3
    with pytest.raises(ValueError, match=r"Got component_radius 0.3 and memory_gib 0.002, .*Raise memory_gib to "):
        td.fit_linear(particles, tmp_path / "little", asked.model_copy(update={"memory_gib": 0.002}))
    for radius in (0.01, 0.5):
        with pytest.raises(ValueError, match=rf"Got component_radius {radius} .*expected more than 0.0312"):
            td.fit_linear(
                particles,
                tmp_path / "none",
                td.LinearConfig(component_radius=radius),
                preprocess=td.PreprocessConfig(max_radius=0.4),
            )
    assert not (tmp_path / "none").exists()


def test_resume_is_not_offered_where_it_is_refused(run, particles):
    with pytest.raises(FileExistsError) as error:
        td.fit_linear(particles, run.folder)
    assert "--overwrite" in str(error.value)
    assert "--resume" not in str(error.value)


def test_interruption_says_what_can_be_done(particles, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("tomodrgn.training.linear_run.fit_subspace", interrupt)
    star = str(particles.source.path)
    assert run_command(["train", star, str(tmp_path / "run"), "--model", "linear"]) == 130
    assert "--resume" not in capsys.readouterr().err
    monkeypatch.setattr("tomodrgn.training.train.build_model", interrupt)
    assert run_command(["train", star, str(tmp_path / "vae")]) == 130
    assert "--resume goes on" in capsys.readouterr().err


def test_blank_particles_are_told_when_they_are_embedded(run, particles, tmp_path, caplog):
    few = particles.subset(particles.particle_id[:3])
    images = TiltDataset(few).read_images(np.arange(few.n_images))
    images[: few.offsets[1]] = 7
    write_stack(tmp_path / "images.mrcs", images, few.pixel_size_angst)
    changed = dataclasses.replace(
        few, stack_paths=(tmp_path / "images.mrcs",), stack_index=np.zeros(len(images), dtype=np.int64),
        slice_index=np.arange(len(images)),
    )  # fmt: skip
    latents = td.embed_particles(run, changed)
    assert latents.mu[0] == pytest.approx([0, 0])
    assert f"Got 1 of 3 particles of {few.source.path} whose images hold one value everywhere" in caplog.text
