"""Predicted tilt images against images without noise, of which the answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import tomodrgn as td
from tomodrgn.imaging import fourier
from tomodrgn.particles.tilt_images import fourier_batch, rows_by_tilt, tilt_images
from tomodrgn.volumes.predict import ImagePredictor, _slices_of_maps, predict_images

LOW_ANGST = 40.0
FEW = td.PreprocessConfig(max_radius=0.3)


@pytest.fixture(scope="module", params=["warp", "warptools"])
def sets(request, tmp_path_factory):
    """Particles with little noise, and the same without any; WarpTools' are premultiplied and weighted."""
    options = {"n_particles": 40, "n_tilts": 9, "n_states": 2, "snr": 2.0, "seed": 4, "dialect": request.param}
    folder = tmp_path_factory.mktemp("predict")
    return (
        td.simulate_particles(folder / "noisy", **options),
        td.simulate_particles(folder / "plain", **options, noise=False),
    )


@pytest.fixture(scope="module")
def linear(sets, tmp_path_factory):
    return td.fit_linear(sets[0], tmp_path_factory.mktemp("linear") / "run", td.LinearConfig(n_components=1))


def correlations(a, b):
    """Of each image, at low frequencies."""
    a, b = (x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(axis=1, keepdims=True) for x in (a, b))
    return (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))


def test_a_linear_run_predicts_the_images_without_noise(sets, linear):
    _, plain = sets
    ids = plain.particle_id[[3, 20, 31]]
    found = predict_images(linear, ids).lowpassed(LOW_ANGST)
    assert list(dict.fromkeys(found.particle_id)) == list(ids)
    for name in ids:
        own = found.particle_id == name
        assert (np.diff(found.tilt_deg[own]) > -1e-3).all()  # Warp's files tell no sign
    truth = predict_images(linear, ids, particles=plain).lowpassed(LOW_ANGST)
    own = correlations(found.predicted, truth.observed)
    assert own.min() > 0.9
    # Another particle's pose: its prediction is not like these images.
    other = ids[[1, 2, 0]]
    turned = np.concatenate([np.flatnonzero(found.particle_id == name) for name in other])
    some = min(len(turned), len(own))
    assert np.mean(correlations(found.predicted[turned[:some]], truth.observed[:some])) < own.mean() - 0.2
    # The scale is right as well: little is left of the images without noise.
    left = (truth.observed - found.predicted).var() / truth.observed.var()
    assert left < 0.2
    np.testing.assert_allclose(found.residual, found.observed - found.predicted)


def test_an_autoencoder_predicts_them_too(sets, tmp_path):
    noisy, plain = sets
    model = td.VaeConfig(z_dim=2, encoder_dim=32, decoder_dim=32)
    run = td.train(noisy, tmp_path / "run", model=model, training=td.TrainConfig(epochs=2, batch_size=8))
    ids = plain.particle_id[[0, 25]]
    found = predict_images(run, ids, particles=plain, n_tilts=3)
    assert len(found) == 6
    low = found.lowpassed(LOW_ANGST)
    assert correlations(low.predicted, low.observed).min() > 0.9
    # Slices of the decoder are those of the particle's map.
    predictor = ImagePredictor(run, particles=plain)
    batch = fourier_batch(predictor._preprocessor, found.image_rows)
    maps = td.generate_volumes(run, run.latents().aligned_to(ids).mu).maps / run.settings["scale"]
    values = _slices_of_maps(batch, torch.from_numpy(maps)) * batch.transfer
    images = predictor._preprocessor.grid.images(values).numpy() * run.settings["scale"]
    assert correlations(images, found.predicted).min() > 0.98


def test_pictures_are_centred_flipped_and_by_tilt(sets):
    plain = sets[1]
    rows = rows_by_tilt(plain, 5)
    assert (np.diff(plain.tilt_deg[rows]) >= 0).all()
    assert list(rows_by_tilt(plain, 5, 3)) == [rows[0], rows[(len(rows) - 1) // 2], rows[-1]]
    found = tilt_images(plain, rows, FEW)
    assert found.predicted is None
    with pytest.raises(ValueError, match="without a prediction"):
        _ = found.residual
    with pytest.raises(ValueError, match="expected more than 0"):
        found.lowpassed(0.0)
    # In the order asked for, whichever that is, of one particle or of several.
    mixed = np.concatenate([rows[::-1], rows_by_tilt(plain, 2)])
    again = tilt_images(plain, mixed, FEW)
    np.testing.assert_allclose(again.flipped[: len(rows)][::-1], found.flipped, atol=1e-4)
    assert list(again.particle_id[[0, -1]]) == list(plain.particle_id[[5, 2]])
    # Density is bright and in the middle.
    y, x = np.mgrid[:32, :32] - 16
    weight = np.clip(again.flipped.mean(axis=0) - np.percentile(again.flipped.mean(axis=0), 60), 0, None)
    assert abs((weight * x).sum() / weight.sum()) < 2
    assert abs((weight * y).sum() / weight.sum()) < 2
    smooth = found.lowpassed(LOW_ANGST).flipped
    power = fourier.rfft2_centred(torch.from_numpy(smooth)).abs()
    assert power[:, 0, 10:].max() < 1e-3 * power.max()
    assert found.take(np.arange(2)).raw.shape == (2, 32, 32)


def test_unknown_particles_and_other_sets_are_refused(sets, linear):
    with pytest.raises(KeyError, match="nobody"):
        predict_images(linear, ["nobody"])
    names = [f"other_{i}" for i in range(len(sets[1]))]
    with pytest.raises(KeyError, match="other_0"):
        ImagePredictor(linear, particles=dataclasses.replace(sets[1], particle_id=np.array(names)))
    with pytest.raises(ValueError, match="epoch"):
        ImagePredictor(linear, 7)
