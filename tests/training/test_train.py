"""The epoch loop: it learns, resumes bit for bit, stops when asked and says what went wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import adjusted_rand_score

import tomodrgn as td
from tomodrgn.analysis.latent_space import cluster_latents
from tomodrgn.imaging.grid import soft_spherical_mask
from tomodrgn.particles.simulate import read_truth, truth_volumes
from tomodrgn.training.embed import embed_particles
from tomodrgn.training.train import train

SMALL = {
    "model": td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5),
    "preprocess": td.PreprocessConfig(max_radius=0.2),
}


def weights(run, epoch=None):
    return load_file(run.epoch_folder(epoch) / "weights.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_latents_separate_discrete_states(tmp_path, seed):
    particles = td.simulate_particles(
        tmp_path / "data", n_particles=400, n_tilts=21, n_states=3, mass_difference=0.2, seed=seed
    )
    run = train(
        particles,
        tmp_path / "run",
        model=td.VaeConfig(z_dim=4, decoder_dim=128),
        preprocess=td.PreprocessConfig(max_radius=0.3),
        training=td.TrainConfig(epochs=8, seed=seed),
    )
    truth = read_truth(tmp_path / "data")["label"].loc[particles.particle_id]
    clusters = cluster_latents(run.latents(), 3, seed=seed)
    assert adjusted_rand_score(truth, clusters) >= 0.8
    # And the maps differ as the states do: at the mean latents of the states, in the molecule's place.
    latents, states = run.latents().mu, truth_volumes(tmp_path / "data")
    means = np.stack([latents[truth.to_numpy() == state].mean(axis=0) for state in range(3)])
    decoded = td.generate_volumes(run, means).maps
    inside = soft_spherical_mask(32, 0.7).numpy() > 0.5
    for state in range(3):
        true_difference = (states[f"state_{state}"] - states["consensus"])[inside]
        difference = (decoded[state] - decoded.mean(axis=0))[inside]
        assert np.corrcoef(true_difference, difference)[0, 1] >= 0.8


def test_loss_falls(small_particles, tmp_path):
    config = td.TrainConfig(epochs=4, batch_size=4, learning_rate=5e-3)
    from_nothing = SMALL["model"].model_copy(update={"consensus": False})
    run = train(small_particles, tmp_path / "run", model=from_nothing, preprocess=SMALL["preprocess"], training=config)
    loss = run.history["reconstruction"]
    assert loss.iloc[-1] < loss.iloc[0]
    assert run.history["epoch"].tolist() == [1, 2, 3, 4]


def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(small_particles, tmp_path):
    whole = train(small_particles, tmp_path / "whole", training=td.TrainConfig(epochs=3, batch_size=4), **SMALL)
    train(small_particles, tmp_path / "parts", training=td.TrainConfig(epochs=1, batch_size=4), **SMALL)
    parts = train(small_particles, tmp_path / "parts", training=td.TrainConfig(epochs=3, batch_size=4), resume=True)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(parts)[name]), name
    np.testing.assert_array_equal(whole.latents().mu, parts.latents().mu)
    columns = ["epoch", "reconstruction", "kl", "total"]
    assert whole.history[columns].equals(parts.history[columns])


@pytest.mark.gpu
def test_training_on_cuda_resumes_there_and_on_the_cpu(small_particles, tmp_path):
    one = td.TrainConfig(epochs=1, batch_size=4, accelerator="cuda")
    run = train(small_particles, tmp_path / "run", training=one, **SMALL)
    for epochs, accelerator in ((2, "cuda"), (3, "cpu"), (4, "cuda")):
        more = td.TrainConfig(epochs=epochs, accelerator=accelerator)
        run = train(small_particles, run.folder, training=more, resume=True)
    assert run.history["epoch"].tolist() == [1, 2, 3, 4]
    assert np.isfinite(run.latents().mu).all()


def test_same_seed_same_latents_other_seed_not(small_particles, tmp_path):
    def latents(name, seed):
        config = td.TrainConfig(epochs=1, batch_size=4, seed=seed)
        return train(small_particles, tmp_path / name, training=config, **SMALL).latents().mu

    first = latents("a", 1)
    np.testing.assert_array_equal(first, latents("b", 1))
    assert not np.allclose(first, latents("c", 2))


def test_resumed_run_keeps_its_number_of_epochs_unless_more_are_asked_for(small_particles, tmp_path):
    run = train(small_particles, tmp_path / "run", training=td.TrainConfig(epochs=1, batch_size=4), **SMALL)
    assert train(small_particles, run.folder, resume=True).epochs == [1]
    assert train(small_particles, run.folder, training=td.TrainConfig(epochs=2), resume=True).epochs == [1, 2]


def test_stop_keeps_finished_epochs_and_resumes(small_particles, tmp_path):
    config = td.TrainConfig(epochs=3, batch_size=4)
    seen = []
    run = train(
        small_particles,
        tmp_path / "run",
        training=config,
        progress=seen.append,
        should_stop=lambda: bool(seen) and seen[-1].epoch == 2 and seen[-1].batch == 2,
        **SMALL,
    )
    assert (run.status["state"], run.epochs, len(run.history)) == ("stopped", [1], 1)
    assert train(small_particles, run.folder, training=config, resume=True).epochs == [1, 2, 3]


@pytest.mark.parametrize("moments", [(2,), (3, 1), (6,), (4, 1, 1)])
def test_training_stopped_within_epochs_loses_nothing_and_equals_an_uninterrupted_one(
    small_particles, tmp_path, monkeypatch, moments
):
    """Three batches an epoch: stopped within the first, after its last one, within the second, and more than once."""
    from tomodrgn.training.step import training_step

    batches = []

    def counted(fabric, model, batch, config, **options):
        batches.append(batch.particles.tolist())
        return training_step(fabric, model, batch, config, **options)

    monkeypatch.setattr("tomodrgn.training.train.training_step", counted)
    config = td.TrainConfig(epochs=3, batch_size=4, learning_rate_schedule="cosine", held_out_fraction=0.3)
    whole = train(small_particles, tmp_path / "whole", training=config, **SMALL)
    wanted = batches.copy()
    batches.clear()
    for number in range(len(moments)):
        end = sum(moments[: number + 1])
        options = {"resume": True} if number else SMALL
        parts = train(
            small_particles,
            tmp_path / "parts",
            training=config,
            should_stop=lambda end=end: len(batches) >= end,
            **options,
        )
        assert (parts.status["state"], len(batches)) == ("stopped", end)
    parts = train(small_particles, parts.folder, resume=True)
    assert batches == wanted, "no batch is done twice"
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(parts)[name]), name
    np.testing.assert_array_equal(whole.latents().mu, parts.latents().mu)
    columns = ["epoch", "split", "reconstruction", "kl", "total", "beta", "learning_rate"]
    assert whole.history[columns].equals(parts.history[columns])
    assert [path.name for path in (parts.folder / "training_state").iterdir()] == ["0003.safetensors"]


def test_interruption_in_mid_epoch_leaves_a_run_that_opens(small_particles, tmp_path):
    def interrupt(state):
        if state.epoch == 2:
            raise KeyboardInterrupt

    config = td.TrainConfig(epochs=2, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        train(small_particles, tmp_path / "run", training=config, progress=interrupt, **SMALL)
    run = td.Run.open(tmp_path / "run")
    assert (run.status["state"], run.epochs) == ("stopped", [1])
    assert len(run.latents()) == len(small_particles)


def test_homogeneous_model_trains_and_has_no_latents(small_particles, tmp_path):
    model = SMALL["model"].model_copy(update={"z_dim": 0})
    run = train(
        small_particles,
        tmp_path / "run",
        model=model,
        preprocess=SMALL["preprocess"],
        training=td.TrainConfig(epochs=2, batch_size=4),
    )
    assert run.latents().mu.shape == (len(small_particles), 0)
    assert run.history["kl"].tolist() == [0.0, 0.0]
    assert td.generate_volumes(run, np.zeros((1, 0))).maps.std() > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_pooling_separates_states_of_particles_with_few_or_many_tilts(tmp_path, seed):
    particles = td.simulate_particles(
        tmp_path / "data", n_particles=100, n_tilts=31, missing_tilts=23, n_states=2, mass_difference=0.2, seed=seed
    )
    truth = read_truth(tmp_path / "data")["label"].loc[particles.particle_id]
    for pooling, wanted in {"mean": 0.8, "max": 0.6, "median": 0.6, "attention": 0.6, "concatenate": 0.6}.items():
        run = train(
            particles,
            tmp_path / pooling,
            model=td.VaeConfig(z_dim=2, pooling=pooling, encoder_dim=64, encoder_layers=1, decoder_dim=32),
            preprocess=td.PreprocessConfig(max_radius=0.25),
            training=td.TrainConfig(epochs=10, batch_size=8, seed=seed),
        )
        clusters = cluster_latents(run.latents(), 2, seed=seed)
        assert adjusted_rand_score(truth, clusters) >= wanted, pooling


@pytest.mark.parametrize(
    ("model", "training"),
    [
        ({"positional_encoding": "geometric"}, {"beta_schedule": "cyclical", "learning_rate_schedule": "cosine"}),
        ({"pooling": "attention"}, {"beta_schedule": "linear", "weight_decay": 0.1, "kl_target": 3.0}),
        ({"pooling": "concatenate"}, {"tilts_per_particle": 4, "tilt_sampling": "first"}),
    ],
)
def test_options_of_the_published_model_train_and_resume(small_particles, tmp_path, model, training):
    config = td.TrainConfig(epochs=2, batch_size=4, **training)
    options = {"model": SMALL["model"].model_copy(update=model), "preprocess": SMALL["preprocess"]}
    whole = train(small_particles, tmp_path / "whole", training=config, **options)
    stopped = iter([False] * 3 + [True])
    train(small_particles, tmp_path / "parts", training=config, should_stop=lambda: next(stopped), **options)
    parts = train(small_particles, tmp_path / "parts", training=config, resume=True)
    columns = ["epoch", "reconstruction", "kl", "total", "beta", "learning_rate"]
    assert whole.history[columns].equals(parts.history[columns])
    assert np.isfinite(whole.latents().mu).all()


def test_published_encoder_trains(small_particles, tmp_path):
    model = SMALL["model"].model_copy(update={"encoder_frame": "image"})
    run = train(
        small_particles,
        tmp_path / "run",
        model=model,
        preprocess=SMALL["preprocess"],
        training=td.TrainConfig(epochs=1, batch_size=4, split_tilts=False),
    )
    assert np.isfinite(run.latents().mu).all()


def test_embedding_the_training_set_gives_the_latents_of_the_run(small_particles, tmp_path):
    run = train(small_particles, tmp_path / "run", training=td.TrainConfig(epochs=1, batch_size=4), **SMALL)
    subset = small_particles.subset(small_particles.particle_id[3:7])
    latents = embed_particles(run, subset)
    assert latents.particle_id.tolist() == subset.particle_id.tolist()
    np.testing.assert_allclose(latents.mu, run.latents().mu[3:7], atol=1e-3)


def test_embedding_refuses_images_of_another_size(small_particles, tmp_path):
    run = train(small_particles, tmp_path / "run", training=td.TrainConfig(epochs=1, batch_size=4), **SMALL)
    other = td.simulate_particles(tmp_path / "other", n_particles=3, n_tilts=3, box_px=24)
    with pytest.raises(ValueError, match="expected 32"):
        embed_particles(run, other)


def test_loss_that_is_not_finite_names_the_particles_and_keeps_the_last_epoch(small_particles, tmp_path):
    config = td.TrainConfig(epochs=2, batch_size=4, learning_rate=1e-3)
    run = train(small_particles, tmp_path / "run", training=config.model_copy(update={"epochs": 1}), **SMALL)
    state = load_file(run.epoch_folder() / "weights.safetensors")
    from safetensors.torch import save_file

    good = (run.epoch_folder() / "weights.safetensors").read_bytes()
    save_file({k: torch.full_like(v, torch.nan) if v.is_floating_point() else v for k, v in state.items()},
              run.epoch_folder() / "weights.safetensors")  # fmt: skip
    with pytest.raises(FloatingPointError, match=small_particles.particle_id[0].split("_")[0]):
        train(small_particles, run.folder, training=config, resume=True)
    (run.epoch_folder() / "weights.safetensors").write_bytes(good)
    assert td.Run.open(run.folder).epochs == [1]
    assert td.Run.open(run.folder).status["state"] == "failed"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_first_loss_that_is_not_finite_ends_the_epoch_with_names_and_checkpoint(
    small_particles, tmp_path, monkeypatch, value
):
    from tomodrgn.training.step import training_step

    batches = []

    def broken(fabric, model, batch, config, **options):
        loss = training_step(fabric, model, batch, config, **options)
        batches.append(batch.particles.tolist())
        return replace(loss, total=loss.total * value) if len(batches) in (9, 10) else loss

    monkeypatch.setattr("tomodrgn.training.train.training_step", broken)
    config = td.TrainConfig(epochs=3, batch_size=2)
    with pytest.raises(FloatingPointError) as raised:
        train(small_particles, tmp_path / "run", training=config, **SMALL)
    assert len(batches) == 9, "it stops there, not at the end of the epoch"
    names = ", ".join(small_particles.particle_id[batches[8]])
    assert f"in epoch 2, first in the batch of particles {names}. " in str(raised.value)
    assert str(raised.value).endswith(f"The last good checkpoint is {tmp_path / 'run/epochs/0001'}.")
    monkeypatch.undo()
    assert train(small_particles, tmp_path / "run", resume=True).epochs == [1, 2, 3]
