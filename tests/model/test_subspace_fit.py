"""The fit of a linear subspace: does it find what is there, and only that; are its errors those that it states."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch
from scipy.stats import chi2, spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from tests.model.linear_sets import LinearParticles
from tests.particles.hand_made import particle_set
from tomodrgn.analysis.latent_space import cluster_latents
from tomodrgn.config import LinearConfig, PreprocessConfig
from tomodrgn.imaging import grid
from tomodrgn.imaging.resolution import fourier_shell_correlation
from tomodrgn.model.linear import LinearLatents
from tomodrgn.model.slice_reader import SliceReader
from tomodrgn.model.subspace_fit import SubspaceFit, fit_subspace, remarks_on_offsets
from tomodrgn.particles.dataset import TiltDataset
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor, estimate_scale
from tomodrgn.particles.simulate import read_truth, simulate_particles, truth_volumes
from tomodrgn.volumes.backproject import backproject

FEW = {"n_particles": 150, "n_tilts": 8, "n_states": 2, "snr": 0.05, "missing_tilts": 0}
MANY = FEW | {"n_particles": 300, "n_tilts": 31, "snr": 0.02}


def preprocessor_of(particles: ParticleSet) -> Preprocessor:
    config = PreprocessConfig()
    return Preprocessor(particles, config, scale=estimate_scale(particles, config))


def fit(particles: ParticleSet, **options: object) -> SubspaceFit:
    return fit_subspace(preprocessor_of(particles), LinearConfig(**options))


def agreement(mean: np.ndarray, particles: ParticleSet, label: np.ndarray) -> tuple[float, float]:
    """Adjusted Rand index of k-means, and AUC of a linear probe."""
    latents = Latents(particle_id=particles.particle_id, mu=mean, logvar=np.zeros_like(mean))
    index = adjusted_rand_score(label, cluster_latents(latents, 2, seed=0))
    probability = cross_val_predict(LogisticRegression(), mean, label, cv=5, method="predict_proba")[:, 1]
    return index, roc_auc_score(label, probability)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4])
def test_two_states_from_few_particles(tmp_path, seed):
    particles = simulate_particles(tmp_path / "data", **FEW, seed=seed)
    found = fit(particles)
    label = read_truth(tmp_path / "data").loc[particles.particle_id, "label"].to_numpy()
    index, auc = agreement(found.latents.mean, particles, label)
    assert index >= 0.75
    assert auc >= 0.97
    assert found.suggested_components >= 1
    # Class means are as good as the weighted backprojection of each true class.
    mask = grid.soft_spherical_mask(32, 0.7).numpy()
    means = torch.from_numpy(np.stack([found.latents.mean[label == state].mean(axis=0) for state in (0, 1)]))
    maps, truth = found.subspace.decode(means).numpy(), truth_volumes(tmp_path / "data")
    for state in (0, 1):
        true_class = backproject(particles.subset(particles.particle_id[label == state])).full
        known = fourier_shell_correlation(true_class, truth[f"state_{state}"], mask)
        curve = fourier_shell_correlation(maps[state], truth[f"state_{state}"], mask)
        last = np.flatnonzero(known[1:] < 0.5)[0] + 1
        assert last > 6
        assert (curve[1:last] >= known[1:last] - 0.05).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_states_from_many_tilts(tmp_path, seed):
    particles = simulate_particles(tmp_path / "data", **MANY, seed=seed)
    label = read_truth(tmp_path / "data").loc[particles.particle_id, "label"].to_numpy()
    index, auc = agreement(fit(particles).latents.mean, particles, label)
    assert index >= 0.9
    assert auc >= 0.99


@pytest.mark.parametrize("dialect", ["warptools", "relion5"])
def test_premultiplied_images_tell_as_much(tmp_path, dialect):
    particles = simulate_particles(tmp_path / "data", **FEW, dialect=dialect, seed=0)
    assert particles.ctf_premultiplied
    label = read_truth(tmp_path / "data").loc[particles.particle_id, "label"].to_numpy()
    index, auc = agreement(fit(particles).latents.mean, particles, label)
    assert index >= 0.75
    assert auc >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_leading_component_follows_a_continuous_motion(tmp_path, seed):
    particles = simulate_particles(
        tmp_path / "data", n_particles=300, n_tilts=21, n_states=1, continuous=True, snr=0.05, seed=seed
    )
    found = fit(particles)
    truth = read_truth(tmp_path / "data").loc[particles.particle_id, "parameter"]
    assert abs(spearmanr(truth, found.latents.mean[:, 0]).statistic) >= 0.9
    assert found.suggested_components >= 1


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("k", "tilts", "snr"), [(150, 8, 0.05), (200, 16, 0.5), (100, 8, 2.0)])
def test_nothing_is_found_where_nothing_is(tmp_path, k, tilts, snr, seed):
    """Whatever the signal: what the average misses must not pass for a component that all particles share."""
    particles = simulate_particles(
        tmp_path / "data", n_particles=k, n_tilts=tilts, n_states=1, snr=snr, mass_difference=0.12, seed=seed
    )
    found = fit(particles)
    assert found.suggested_components == 0
    z = found.latents.mean
    assert z.shape == (k, 1)  # one is kept, to be looked at
    assert abs(z.mean()) < 4 * z.std() / np.sqrt(k)


@pytest.mark.parametrize(("k", "tilts", "noise"), [(300, 8, 4.0), (150, 20, 4.0), (300, 8, 2.0), (300, 8, 8.0)])
def test_posteriors_are_calibrated(tmp_path, k, tilts, noise):
    """90 % of the true coordinates lie in the 90 % regions; the signal-to-noise ratio is 0.03 to 0.5 an image."""
    inside = []
    for seed in range(3):
        known = LinearParticles(tmp_path / str(seed), seed, n_particles=k, n_tilts=tilts, noise=noise)
        found = fit_subspace(known.preprocessor, LinearConfig(), seed=seed)
        error = known.coordinates_along(found.subspace.components) - found.latents.mean
        distance = np.einsum("ki,kij,kj->k", error, np.linalg.inv(found.latents.covariance), error)
        inside.append((distance < chi2.ppf(0.9, found.subspace.z_dim)).mean())
    assert abs(np.mean(inside) - 0.9) <= 0.04, inside
    assert np.ptp(inside) < 0.08, inside


def test_components_are_ordered_and_of_one_norm(tmp_path):
    found = fit_subspace(LinearParticles(tmp_path, 1).preprocessor, LinearConfig(n_components=3)).subspace
    assert found.prior_std[0] == 1
    assert (found.prior_std.diff() <= 0).all()
    gram = found.components.flatten(1) @ found.components.flatten(1).T
    leading = gram[:2, :2] / gram[0, 0]
    assert torch.allclose(leading, torch.eye(2), atol=0.1)


def test_a_part_of_the_particles_that_fits_into_memory_finds_the_same(tmp_path, monkeypatch):
    known = LinearParticles(tmp_path, 1)
    monkeypatch.setattr("tomodrgn.model.subspace_fit.FEWEST_PARTICLES", 100)
    whole = fit_subspace(known.preprocessor, LinearConfig(n_components=2))
    sizes = []
    original = SliceReader.blocks

    def blocks(self, chosen=None):
        sizes.append(len(self.particles) if chosen is None else len(chosen))
        return original(self, chosen)

    monkeypatch.setattr(SliceReader, "blocks", blocks)
    part = fit_subspace(known.preprocessor, LinearConfig(n_components=2, memory_gib=0.015))
    assert min(sizes) < 300  # the search saw a part
    assert part.latents.mean.shape == (300, 2)
    for j in range(2):
        assert abs(np.corrcoef(whole.latents.mean[:, j], part.latents.mean[:, j])[0, 1]) > 0.9


def test_encoding_the_particles_again_gives_their_coordinates(tmp_path):
    known = LinearParticles(tmp_path, 0, n_particles=100)
    found = fit_subspace(known.preprocessor, LinearConfig(n_components=2))
    again = found.subspace.encode(SliceReader(known.preprocessor, seed=9).limited(found.subspace.max_radius))
    assert np.allclose(again.mean, found.latents.mean, atol=1e-3)
    assert np.allclose(again.covariance, found.latents.covariance, atol=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_tilt_and_no_image_at_all(tmp_path, caplog, seed):
    """Tilt counts vary from 1; images of zeros are left out, with a warning; such a particle has its prior."""
    known = LinearParticles(tmp_path / "known", seed, n_particles=80)
    whole = known.preprocessor.particles
    counts = [1, *(3 + np.arange(79) % 6)]
    rows = [np.arange(whole.offsets[i], whole.offsets[i] + n) for i, n in enumerate(counts)]
    stacks = [TiltDataset(whole).read_images(r) for r in rows]
    stacks[5][:] = 0
    stacks[6][0] = 0
    particles = particle_set(tmp_path / "data", stacks, rotations=whole.rotations[np.concatenate(rows)])
    preprocessor = Preprocessor(particles, known.preprocessor.config, scale=known.scale)
    with caplog.at_level(logging.WARNING):
        found = fit_subspace(preprocessor, LinearConfig(n_components=2))
    assert f"are left out: {len(stacks[5]) + 1}" in caplog.text
    assert "p5" in caplog.text
    assert "particles with a single tilt image: 1, first p0" in caplog.text
    assert len(found.remarks) >= 2
    std = np.sqrt(found.latents.covariance.diagonal(axis1=1, axis2=2))
    prior = found.subspace.prior_std.numpy()
    assert np.isfinite(found.latents.mean).all()
    assert found.latents.mean[5] == pytest.approx([0, 0])
    assert std[5] == pytest.approx(prior)
    assert np.median(std[7:], axis=0)[0] < std[0, 0] < prior[0]  # one tilt tells something, but less than many


def test_images_of_nothing_are_refused(tmp_path):
    particles = particle_set(tmp_path, [np.zeros((3, 16, 16), np.float32)] * 4)
    preprocessor = Preprocessor(particles, PreprocessConfig(), scale=1.0)
    with pytest.raises(ValueError, match="not constant of 0 of 4 particles"):
        fit_subspace(preprocessor, LinearConfig())


def test_fit_is_the_same_again(tmp_path):
    known = LinearParticles(tmp_path, 0, n_particles=60)
    first, second = (fit_subspace(known.preprocessor, LinearConfig(), seed=3) for _ in range(2))
    assert np.array_equal(first.latents.mean, second.latents.mean)
    assert dataclasses.astuple(first.stages[0])[0] == pytest.approx(4.5 / 32)


def test_an_offset_that_all_particles_share_is_remarked():
    """The second coordinate is 1.2 for all, give or take 0.3."""
    rng = np.random.default_rng(0)
    mean = (rng.normal(size=(50, 2)) * [1, 0.3] + [0.1, 1.2]).astype(np.float32)
    nothing = np.zeros(50, np.float32)
    latents = LinearLatents(mean=mean, covariance=np.zeros((50, 2, 2), np.float32), gain=nothing, divergence=nothing)
    remarks = remarks_on_offsets(latents)
    assert len(remarks) == 1
    assert remarks[0].startswith("along component 2 all particles are about alike (1.2")
