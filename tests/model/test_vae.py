"""The autoencoder: latents of each particle by itself, one decoder by two ways, volumes counted from a consensus."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.model.small_models import BOX, SMALL, batch_of, model
from tests.particles.hand_made import blob_images, particle_set
from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging import fourier, grid, gridding
from tomodrgn.imaging.pose import euler_to_rotation
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import TiltDataset
from tomodrgn.particles.preprocess import Preprocessor

FRAMES = ["particle", "image"]


def consensus(seed: int = 0) -> torch.Tensor:
    volume = torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(seed))
    return volume * (grid.radii(BOX, 3) < 5)


# --- encoder ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_latent_of_a_particle_depends_on_its_own_tilts_only_in_any_order(preprocessor, frame, pooling):
    network = model(encoder_frame=frame, pooling=pooling)
    mean, log_variance = network.encode(batch_of(preprocessor, [0, 1, 2, 3]))
    assert mean.shape == log_variance.shape == (4, 3)
    assert mean.std(dim=0).min() > 1e-3
    again = network.encode(batch_of(preprocessor, [2, 0], backwards=True))
    torch.testing.assert_close(again[0], mean[[2, 0]], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again[1], log_variance[[2, 0]], atol=1e-5, rtol=1e-4)


def test_particle_frame_sees_one_molecule_alike_in_all_poses(tmp_path):
    """Two states, each in many poses without noise: the mean of what is seen tells states apart, not poses."""
    rng, n = np.random.default_rng(1), 40
    rotations = euler_to_rotation(*rng.uniform(-180, 180, (3, 4 * n)))
    places = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    seen = np.einsum("icj,j->ic", rotations[:, :2], places[0])
    seen[2 * n :] = np.einsum("icj,j->ic", rotations[2 * n :, :2], places[1])
    images = blob_images(seen[:, None], np.array([100.0]), BOX, 1.5).astype(np.float32)
    particles = particle_set(tmp_path, list(images.reshape(4, n, BOX, BOX)), rotations=rotations)
    preprocessor = Preprocessor(particles, PreprocessConfig(), scale=1.0)
    batch = preprocessor(TiltDataset(particles).read_batch(np.arange(4), list(np.arange(4 * n).reshape(4, n))))
    means = model().seen_by_encoder(batch).view(4, n, -1).mean(dim=1)
    alike = torch.corrcoef(means)
    assert min(alike[0, 1], alike[2, 3]) > 0.95
    assert alike[:2, 2:].max() < 0.7


@pytest.mark.parametrize("premultiplied", [False, True])
def test_encoder_sees_the_difference_from_the_consensus(preprocessor, premultiplied):
    """An image that is the consensus' own projection leaves nothing to be seen."""
    batch = dataclasses.replace(batch_of(preprocessor, [0, 1]), ctf_premultiplied=premultiplied)
    network = model()
    network.set_consensus(consensus())
    xyz, sign = grid.fold_into_half(grid.slice_coordinates(batch.frequencies, batch.rotations))
    values = gridding.sample_half_volume(network.maps, xyz.reshape(-1, 3))[:, 0]
    slices = torch.complex(values[:, 0], values[:, 1] * sign.flatten()).view(sign.shape)
    own = dataclasses.replace(batch, values=batch.transfer * slices)
    assert network.seen_by_encoder(own).abs().max() < 1e-4
    assert network.seen_by_encoder(batch).abs().max() > 0.1


def test_homogeneous_model_has_no_latent(preprocessor):
    network = model(z_dim=0)
    mean, log_variance = network.encode(batch_of(preprocessor, [0, 1]))
    assert mean.shape == log_variance.shape == (2, 0)
    k = grid.HalfGrid.of_volume(BOX).frequencies
    values = network.decode(k, torch.zeros(len(k), dtype=torch.long), mean)
    shared = network.decode_shared(k, mean)
    assert shared.shape == (2, len(k), 2)
    torch.testing.assert_close(shared, torch.stack([values, values]))


# --- decoder ----------------------------------------------------------------------------------------------------------

K = grid.HalfGrid.of_volume(BOX).frequencies[::7]
Z = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("with_consensus", [False, True])
def test_decoding_points_and_whole_volumes_agree(with_consensus):
    network = model()
    if with_consensus:
        network.set_consensus(consensus())
    together = network.decode_shared(K, Z)
    owner = torch.arange(5).repeat_interleave(len(K))
    singly = network.decode(K.repeat(5, 1), owner, Z).view(5, len(K), 2)
    torch.testing.assert_close(together, singly, atol=1e-5, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3
    shuffled = torch.randperm(len(owner), generator=torch.Generator().manual_seed(0))
    mixed = network.decode(K.repeat(5, 1)[shuffled], owner[shuffled], Z)
    torch.testing.assert_close(mixed, singly.reshape(-1, 2)[shuffled], atol=1e-5, rtol=1e-5)


def test_first_layer_is_that_of_features_beside_the_latent():
    network = model()
    joined = torch.nn.Linear(network.decoder.first.in_features + 3, 24)
    with torch.no_grad():
        joined.weight.copy_(torch.cat([network.decoder.first.weight, network.from_latent.weight], dim=1))
        joined.bias.copy_(network.decoder.first.bias)
    owner = torch.arange(len(K)) % 5
    expected = network.decoder.after_first(joined(torch.cat([network.features(K), Z[owner]], dim=1)))
    torch.testing.assert_close(network.decode(K, owner, Z), expected, atol=1e-5, rtol=1e-5)


def test_untrained_decoder_gives_the_consensus():
    """Values of a slice of the consensus, in the units of an image transform: those of its projection."""
    network = TiltSeriesVae(SMALL, BOX)
    volume = fourier.irfft3_centred(
        fourier.rfft3_centred(consensus()) * (fourier.half_frequencies_xyz(BOX).norm(dim=-1) < 0.4), BOX
    )
    network.set_consensus(volume)
    kept = grid.HalfGrid.of_image(BOX, max_radius=0.4)
    xyz = torch.cat([kept.frequencies, torch.zeros(len(kept), 1)], dim=1)
    found = torch.view_as_complex(network.decode(xyz, torch.zeros(len(kept), dtype=torch.long), Z).detach())
    expected = fourier.rfft2_centred(volume.sum(dim=0)).flatten()[kept.index]
    assert expected.abs().max() > 1
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_without_consensus_the_decoder_starts_at_random():
    network = TiltSeriesVae(SMALL.model_copy(update={"consensus": False}), BOX)
    assert network.decode(K, torch.zeros(len(K), dtype=torch.long), Z).abs().max() > 1e-3


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_follow_the_seed_alone():
    first = TiltSeriesVae(SMALL, BOX, seed=3).state_dict()
    torch.rand(5)
    again, other = TiltSeriesVae(SMALL, BOX, seed=3).state_dict(), TiltSeriesVae(SMALL, BOX, seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.vectors"], other["features.vectors"])
    assert not torch.equal(first["decoder.first.weight"], other["decoder.first.weight"])


def test_saved_weights_hold_all_that_cannot_be_made_again(preprocessor):
    """A model of another seed with the first one's weights is the first one: features and norms are in them."""
    first, second = model(0), model(1)
    first.tilt_norm.mean.fill_(0.2)
    second.load_state_dict(first.state_dict())
    batch = batch_of(preprocessor, [0, 3])
    for a, b in zip(first.encode(batch), second.encode(batch), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
    torch.testing.assert_close(first.decode_shared(K, Z), second.decode_shared(K, Z), atol=0, rtol=0)


def test_sizes_follow_the_configuration():
    network = TiltSeriesVae(SMALL.model_copy(update={"n_frequencies": 10, "decoder_layers": 4}), BOX)
    assert network.features.vectors.shape == (3, 10)
    assert TiltSeriesVae(SMALL, BOX).features.vectors.shape == (3, 24)
    assert len(network.decoder.residual) == 4
    coarse = TiltSeriesVae(SMALL.model_copy(update={"encoder_frame": "image"}), BOX, max_radius=0.3)
    assert coarse.tilt_encoder.first.in_features == 2 * len(grid.HalfGrid.of_image(BOX, max_radius=0.3))


def test_components_are_added_in_proportion_to_their_coordinates():
    """With the networks at zero a latent (a, b, ...) gives consensus + a * first + b * second component."""
    network = model()
    maps = torch.randn(3, network.box_px, network.box_px, network.box_px, generator=torch.Generator().manual_seed(0))
    network.set_consensus(maps[0])
    network.set_components(maps[1:])
    torch.nn.init.zeros_(network.decoder.last.weight)
    torch.nn.init.zeros_(network.decoder.last.bias)
    z = torch.zeros(2, network.config.z_dim)
    z[0, 0], z[0, 1], z[1, 1] = 0.5, -2.0, 1.0
    k = grid.HalfGrid.of_volume(network.box_px, max_radius=0.4).frequencies[::7]
    parts = gridding.sample_half_volume(gridding.prepare_sampling(maps), k)  # (m, 3, 2)
    expected = torch.stack([parts[:, 0] + 0.5 * parts[:, 1] - 2.0 * parts[:, 2], parts[:, 0] + parts[:, 2]])
    torch.testing.assert_close(network.decode_shared(k, z), expected, atol=1e-4, rtol=1e-4)
    owner = torch.ones(len(k), dtype=torch.long)
    torch.testing.assert_close(network.decode(k, owner, z), expected[1], atol=1e-4, rtol=1e-4)
