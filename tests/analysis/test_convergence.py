"""Epochs compared: planted turns and shuffles of latents, planted losses, and a real training with a known answer."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import tomodrgn as td
from tests.analysis.planted import SEEDS
from tomodrgn.analysis.convergence import compare_epochs, compare_tilt_halves, latent_agreement, neighbours_kept
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.simulate import truth_volumes

EPOCHS = 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> td.Run:
    """Two states that differ much, few epochs with held-out tilts."""
    place = tmp_path_factory.mktemp("convergence")
    particles = td.simulate_particles(place / "data", n_particles=60, n_tilts=10, box_px=16, snr=0.3, seed=0)
    return td.train(
        particles,
        place / "run",
        model=td.VaeConfig(z_dim=2, decoder_dim=32, encoder_dim=32),
        training=td.TrainConfig(epochs=EPOCHS, held_out_fraction=0.2, seed=0),
    )


@pytest.fixture
def own_run(trained: td.Run, tmp_path) -> td.Run:
    """A copy of the run, to be changed."""
    return td.Run.open(shutil.copytree(trained.folder, tmp_path / "run"))


def plant_held_out(run: td.Run, losses: list[float]) -> None:
    history = run.history
    history.loc[history["split"] == "test", "reconstruction"] = losses
    run.write_history(history)


def plant_latents(run: td.Run, epoch: int, mu: np.ndarray) -> None:
    path = run.epoch_folder(epoch) / "latents.npz"
    replace(Latents.load(path), mu=mu.astype(np.float32)).save(path, overwrite=True)


# --- latents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_turned_and_scaled_latents_agree_and_shuffled_ones_do_not(seed):
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(400, 3)) * [3, 2, 1]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = 2.5 * mu @ turn + [4, 0, -1]
    assert latent_agreement(mu, moved) == pytest.approx(1, abs=1e-9)
    assert neighbours_kept(mu, moved) == pytest.approx(1)
    other = rng.permutation(mu)
    assert latent_agreement(mu, other) < 0.05
    assert neighbours_kept(mu, other, n_neighbors=20) == pytest.approx(20 / 399, abs=0.02)
    noisy = mu + rng.normal(size=mu.shape) * np.sqrt(14 / 3)  # as much noise as signal, shared evenly by three axes
    assert latent_agreement(mu, noisy) == pytest.approx(0.5, abs=0.1)


def test_latents_that_do_not_vary_agree_with_nothing():
    assert np.isnan(latent_agreement(np.zeros((5, 2)), np.arange(10.0).reshape(5, 2)))
    assert np.isnan(neighbours_kept(np.zeros((1, 2)), np.zeros((1, 2))))


# --- epochs -----------------------------------------------------------------------------------------------------------


def test_epochs_of_a_training(trained):
    seen = []
    found = compare_epochs(trained, n_maps=4, progress=lambda done, of: seen.append((done, of)))
    assert list(found.table.index) == list(range(1, EPOCHS + 1))
    assert seen == [(i + 1, EPOCHS) for i in range(EPOCHS)]
    assert found.table.loc[EPOCHS, ["latent_agreement_last", "map_fsc_last"]].to_numpy() == pytest.approx(1, abs=1e-5)
    assert found.table.loc[1].filter(regex="(agreement|kept|fsc|correlation)$").isna().all()
    history = trained.history.set_index(["split", "epoch"])["reconstruction"]
    np.testing.assert_allclose(found.table["held_out"], history["test"])
    np.testing.assert_allclose(found.table["reconstruction"], history["train"])
    assert found.curves.shape == (EPOCHS, 9)
    assert set(found.particle_ids) <= set(trained.particles.particle_id)
    again = compare_epochs(trained, n_maps=4)
    pd.testing.assert_frame_equal(again.table, found.table)
    assert again.verdict == found.verdict


def test_few_of_many_epochs_are_taken(trained):
    assert list(compare_epochs(trained, max_epochs=3, n_maps=2).table.index) == [1, 3, EPOCHS]


def test_reference_is_scored_at_every_epoch(trained):
    reference = truth_volumes(trained.folder.parent / "data")["consensus"]
    table = compare_epochs(trained, n_maps=2, reference=reference).table
    assert (table["reference_fsc"] > 0.8).all()
    assert table["reference_resolution_angst"].between(2 * trained.settings["pixel_size_angst"], 200).all()
    noise = np.random.default_rng(0).normal(size=(16,) * 3).astype(np.float32)
    assert (compare_epochs(trained, n_maps=2, reference=noise).table["reference_fsc"].abs() < 0.4).all()
    with pytest.raises(ValueError, match=r"Got a reference map of shape \(8, 8, 8\)"):
        compare_epochs(trained, reference=reference[:8, :8, :8])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_epoch_from_which_latents_stay_is_found(own_run, seed):
    """Latents are those of the last epoch, turned, from epoch 3 on; before, other particles' latents."""
    rng = np.random.default_rng(seed)
    last = own_run.latents().mu
    for epoch in range(1, EPOCHS):
        turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
        plant_latents(own_run, epoch, last @ turn if epoch >= 3 else rng.permutation(last))
    for epoch in range(1, EPOCHS):  # the networks of the last epoch, so that maps follow the latents
        shutil.copy(own_run.epoch_folder() / "weights.safetensors", own_run.epoch_folder(epoch))
    table = compare_epochs(own_run, n_maps=4, seed=seed).table
    assert (table["latent_agreement_last"] > 0.99).tolist() == [False, False, True, True, True, True]
    plant_latents(own_run, 5, last)
    plant_latents(own_run, 4, last)
    plant_latents(own_run, 3, last)
    found = compare_epochs(own_run, n_maps=4, seed=seed)
    assert found.stable_from == 3
    assert found.verdict == "stable from epoch 3 of 6"
    plant_latents(own_run, 5, rng.permutation(last))
    found = compare_epochs(own_run, n_maps=4, seed=seed)
    assert found.stable_from is None
    assert found.verdict.startswith("not stable at epoch 6")


def test_rising_loss_of_held_out_tilts_is_told(own_run):
    for losses in ([1.0, 0.9, 0.8, 0.79, 0.785, 0.78], [0.79, 0.785, 0.78, 0.788, 0.784, 0.786]):
        plant_held_out(own_run, losses)
        assert compare_epochs(own_run, n_maps=2).warnings == ()
    plant_held_out(own_run, [1.0, 0.8, 0.85, 0.9, 0.94, 0.99])
    found = compare_epochs(own_run, n_maps=2)
    assert found.warnings == ("over-fitting: the loss of held-out tilts rises since epoch 2, prefer that epoch",)
    assert found.verdict.endswith(found.warnings[0])
    plant_held_out(own_run, [1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    assert "rises since epoch 1" in compare_epochs(own_run, n_maps=2).verdict


def test_without_held_out_tilts_that_is_said(own_run):
    history = own_run.history
    own_run.write_history(history[history["split"] == "train"])
    assert "no tilts were held out" in compare_epochs(own_run, n_maps=2).verdict


def test_a_linear_run_has_one_result(small_particles, tmp_path):
    run = td.fit_linear(small_particles, tmp_path / "run", model=td.LinearConfig(n_components=2))
    found = compare_epochs(run)
    assert len(found.table) == 1
    assert found.stable_from is None
    assert found.verdict == "one result, that of epoch 1, with nothing to compare it with"


def test_numbers_below_one_are_refused(trained):
    with pytest.raises(ValueError, match="Got n_maps=0"):
        compare_epochs(trained, n_maps=0)


# --- halves of the tilts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_halves_agree_in_what_differs_and_not_in_noise(tmp_path, seed):
    """The component that tells two states apart, on their images and on those of equal particles."""
    options = {"n_particles": 120, "n_tilts": 16, "box_px": 16, "snr": 0.1, "seed": seed}
    particles = td.simulate_particles(tmp_path / "states", mass_difference=0.3, **options)
    equal = td.simulate_particles(tmp_path / "equal", n_states=1, **options)
    run = td.fit_linear(particles, tmp_path / "run", model=td.LinearConfig(n_components=2))
    table = compare_tilt_halves(run)
    assert table.attrs["n_particles"] == 120
    assert table.loc["z1", "correlation"] > 0.6
    assert compare_tilt_halves(run, equal).loc["z1", "correlation"] < table.loc["z1", "correlation"] - 0.4
    r = table.loc["z1", "correlation"]
    assert table.loc["z1", "reliability"] == pytest.approx(2 * r / (1 + r))


def test_halves_need_images_and_a_model_that_takes_few(trained, small_particles, tmp_path):
    few = trained.particles.subset(trained.particles.particle_id[:2])
    with pytest.raises(ValueError, match="Got 2 particles with four images"):
        compare_tilt_halves(trained, few)
    fixed = td.train(
        small_particles,
        tmp_path / "run",
        model=td.VaeConfig(z_dim=2, pooling="concatenate", decoder_dim=16, encoder_dim=16),
        training=td.TrainConfig(epochs=1),
    )
    with pytest.raises(ValueError, match="'concatenate' takes a fixed number"):
        compare_tilt_halves(fixed)
