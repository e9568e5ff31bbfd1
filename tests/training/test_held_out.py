"""Tilts that are held out are chosen once, never trained on, and scored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

import tomodrgn as td
from tests.training.test_train import SMALL
from tomodrgn.io import mrc
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.preprocess import Preprocessor
from tomodrgn.training.embed import load_model
from tomodrgn.training.held_out import held_out_loss, held_out_tilts


def test_share_of_each_particles_tilts(small_particles):
    held = held_out_tilts(small_particles, 0.4, seed=1)
    counts = np.add.reduceat(held.astype(int), small_particles.offsets[:-1])
    np.testing.assert_array_equal(counts, (0.4 * small_particles.tilt_counts).astype(int))
    np.testing.assert_array_equal(held, held_out_tilts(small_particles, 0.4, seed=1))
    assert (held != held_out_tilts(small_particles, 0.4, seed=2)).any()
    assert not held_out_tilts(small_particles, 0.0, seed=1).any()
    # A share that is less than one tilt is one tilt, but not the only one that a particle has.
    alone = np.ones(small_particles.n_images, dtype=bool)
    alone[1 : small_particles.offsets[1]] = False
    few = small_particles.subset_images(alone)
    counts = np.add.reduceat(held_out_tilts(few, 0.01, seed=1).astype(int), few.offsets[:-1])
    assert counts.tolist() == [0, *[1] * (len(few) - 1)]


@pytest.fixture
def halves(small_particles, tmp_path):
    """Runs whose data differ in the held-out images alone."""
    config = td.TrainConfig(epochs=2, batch_size=4, held_out_fraction=0.3, seed=4)
    held = held_out_tilts(small_particles, 0.3, seed=4)
    images = TiltDataset(small_particles).read_images(np.arange(small_particles.n_images))
    runs = []
    for name, factor in (("as_they_are", 1.0), ("other", 30.0)):
        changed = np.where(held[:, None, None], factor * images, images).astype(np.float32)
        mrc.write_stack(tmp_path / f"{name}.mrcs", changed, small_particles.pixel_size_angst)
        particles = dataclasses.replace(
            small_particles,
            stack_paths=(tmp_path / f"{name}.mrcs",),
            stack_index=np.zeros(len(images), dtype=np.int64),
            slice_index=np.arange(len(images)),
        )
        runs.append((particles, td.train(particles, tmp_path / name, training=config, **SMALL)))
    return runs


def test_held_out_images_have_no_part_in_the_training_but_in_its_test(halves):
    (_, one), (_, other) = halves
    for name, value in load_file(one.epoch_folder() / "weights.safetensors").items():
        assert torch.equal(value, load_file(other.epoch_folder() / "weights.safetensors")[name]), name
    by_split = [run.history.set_index("split")["reconstruction"] for run in (one, other)]
    np.testing.assert_array_equal(by_split[0]["train"], by_split[1]["train"])
    assert (by_split[1]["test"] > 100 * by_split[0]["test"]).all()
    assert one.history["epoch"].tolist() == [1, 1, 2, 2]
    # Latents are those of all tilts.
    assert not np.allclose(one.latents().mu, other.latents().mu)


def test_loss_is_that_of_the_definition(halves):
    """All particles in one batch: the weighted mean of squared errors over held-out points."""
    particles, run = halves[0]
    held, model = held_out_tilts(particles, 0.3, seed=4), load_model(run)
    preprocessor = Preprocessor(particles, run.preprocess_config, scale=run.settings["scale"])
    ((chosen, rows),) = sample_batches(particles, len(particles))
    raw = TiltDataset(particles).read_batch(chosen, rows)
    batch, own = preprocessor(raw), torch.from_numpy(held)
    with torch.no_grad():
        mean, _ = model.encode(batch.take_images(~own))
        points = batch.take_images(own).points()
        predicted = model.decode(points.coordinates, points.owner, mean)
    squares = (points.transfer[:, None] * predicted - points.target).square().sum(dim=1)
    expected = float(points.weights @ squares / points.weights.sum())
    found = held_out_loss(
        model, preprocessor, held, Fabric(accelerator="cpu", devices=1), beta=0.5, points_per_chunk=777
    )
    assert found["reconstruction"] == pytest.approx(expected, rel=1e-4)
    assert found["total"] == pytest.approx(found["reconstruction"] + 0.5 * found["kl"])
    assert run.history["reconstruction"].iloc[-1] == pytest.approx(expected, rel=1e-4)
