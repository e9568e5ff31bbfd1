"""An autoencoder that starts from a linear run: before its first step it is the linear model."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.imaging.resolution import lowpass_filter
from tomodrgn.particles.preprocess import Preprocessor
from tomodrgn.training.embed import build_model, encode_all
from tomodrgn.training.new_run import create_run
from tomodrgn.training.start import start_model
from tomodrgn.training.train import train
from tomodrgn.volumes.decoder import decode_volumes

SMALL = td.VaeConfig(z_dim=3, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5)


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    return td.simulate_particles(
        tmp_path_factory.mktemp("start") / "data", n_particles=60, n_tilts=8, n_states=2, snr=0.2, seed=3
    )


@pytest.fixture(scope="module")
def linear(particles, tmp_path_factory):
    return td.fit_linear(particles, tmp_path_factory.mktemp("run") / "linear", td.LinearConfig(n_components=2))


def started(particles, folder, linear, **changes):
    """A run that was made but not trained, its model, and the preprocessor."""
    model, training = SMALL.model_copy(update=changes), td.TrainConfig(start_from=str(linear.folder))
    preprocess = td.PreprocessConfig()
    run = create_run(folder, particles, model=model, preprocess=preprocess, training=training, overwrite=False)
    network = build_model(run)
    preprocessor = Preprocessor(particles, preprocess, scale=run.settings["scale"])
    start_model(run, network, preprocessor)
    return run, network.eval(), preprocessor


@pytest.mark.parametrize("changes", [{}, {"encoder_frame": "image"}, {"z_dim": 2, "pooling": "attention"}])
def test_before_the_first_step_latents_and_maps_are_those_of_the_linear_model(particles, linear, tmp_path, changes):
    run, network, preprocessor = started(particles, tmp_path / "run", linear, **changes)
    latents, known = encode_all(network, preprocessor), linear.latents()
    std = load_file(linear.epoch_folder() / "weights.safetensors")["prior_std"].numpy()
    # The linear fit takes slices from the nearest voxel, the encoder between voxels.
    for axis in (0, 1):
        assert np.corrcoef(latents.mu[:, axis], known.mu[:, axis])[0, 1] > 0.99
        assert (latents.mu[:, axis] * std[axis]).std() == pytest.approx(known.mu[:, axis].std(), rel=0.1)
    np.testing.assert_allclose(np.exp(latents.logvar[:, :2] / 2) * std, np.exp(known.logvar / 2), rtol=0.1)
    assert not latents.mu[:, 2:].any()
    assert not latents.logvar[:, 2:].any()  # the prior
    z = np.zeros((2, network.config.z_dim), np.float32)
    z[1, :2] = 2, -1
    with torch.no_grad():
        maps = decode_volumes(network, z, box_px=32, scale=run.settings["scale"])
    wanted = td.generate_volumes(linear, z[:, :2] * std).maps
    for found, known_map in zip(maps, wanted, strict=True):  # beyond Nyquist the decoder gives nothing
        low = lowpass_filter(torch.from_numpy(known_map.copy()), 32 / 14, 1.0).numpy()
        mine = lowpass_filter(torch.from_numpy(found), 32 / 14, 1.0).numpy()
        assert np.abs(mine - low).max() < 0.03 * np.abs(low).max()


def test_training_goes_on_without_the_linear_run_and_resumes_bit_for_bit(particles, linear, tmp_path):
    shutil.copytree(linear.folder, tmp_path / "linear")

    def options(epochs):
        return td.TrainConfig(epochs=epochs, start_from=str(tmp_path / "linear"))

    config = {"model": SMALL, "preprocess": td.PreprocessConfig(max_radius=0.2)}
    whole = train(particles, tmp_path / "whole", training=options(2), **config)
    train(particles, tmp_path / "parts", training=options(1), **config)
    shutil.rmtree(tmp_path / "linear")
    parts = train(particles, tmp_path / "parts", training=td.TrainConfig(epochs=2), resume=True)
    np.testing.assert_array_equal(whole.latents().mu, parts.latents().mu)
    np.testing.assert_allclose(td.embed_particles(parts, particles).mu, parts.latents().mu, atol=1e-3)
    assert td.generate_volumes(parts, parts.latents().mu[:2]).maps.shape == (2, 32, 32, 32)
    # The networks have learned something on top of the linear model.
    assert np.abs(parts.latents().mu[:, 2]).max() > 0


def test_only_suggested_components_are_taken_unless_their_number_was_asked_for(particles, tmp_path, caplog):
    found = td.fit_linear(particles, tmp_path / "found")
    assert found.fit["suggested_components"] == 1
    run, _, _ = started(particles, tmp_path / "one", found)
    assert len(load_file(run.subspace_path)["components"]) == 1
    many = td.fit_linear(particles, tmp_path / "many", td.LinearConfig(n_components=4))
    run, _, _ = started(particles, tmp_path / "three", many)
    assert len(load_file(run.subspace_path)["components"]) == SMALL.z_dim
    nothing = found.with_fit({**found.fit, "suggested_components": 0})
    with caplog.at_level(logging.WARNING):
        run, network, _ = started(particles, tmp_path / "none", nothing)
    assert "which suggests no component" in caplog.text
    assert not run.subspace_path.exists()
    assert network.subspace_encoder is None


def test_a_start_that_does_not_fit_is_refused(particles, linear, small_particles, tmp_path, capsys):
    star = str(particles.source.path)

    def refused(*arguments):
        assert run_command(["train", *map(str, arguments)]) == 2
        assert not (tmp_path / "run").exists() or not (tmp_path / "run/run.json").exists()
        return capsys.readouterr().err

    out, start = tmp_path / "run", ["--start-from", linear.folder]
    assert "no such folder" in refused(star, out, "--start-from", tmp_path / "nowhere")
    assert "box_px 32" in refused(star, out, "--box", "16", *start)
    assert "z_dim 0" in refused(star, out, "--z-dim", "0", *start)
    assert "consensus False" in refused(star, out, "--no-consensus", *start)
    assert "--start-from" in refused(star, out, "--model", "linear", *start)
    short = td.TrainConfig(epochs=1)
    vae = train(
        small_particles, tmp_path / "vae", model=SMALL, training=short, preprocess=td.PreprocessConfig(max_radius=0.2)
    )
    assert "of kind vae" in refused(star, out, "--start-from", vae.folder)


def test_the_start_is_kept_as_a_full_path(particles, linear, tmp_path, monkeypatch):
    monkeypatch.chdir(linear.folder.parent)
    command = ["train", str(particles.source.path), str(tmp_path / "run"), "--start-from", linear.folder.name]
    command += ["--z-dim", "2", "--encoder-dim", "16", "--decoder-dim", "16", "--accelerator", "cpu"]
    assert run_command([*command, "--epochs", "1"]) == 0
    assert td.Run.open(tmp_path / "run").train_config.start_from == str(linear.folder.resolve())
    assert run_command([*command, "--epochs", "2", "--resume"]) == 0
    monkeypatch.chdir(tmp_path)
    assert run_command([*command, "--epochs", "3", "--resume"]) == 2
