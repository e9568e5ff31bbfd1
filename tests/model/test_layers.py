"""Layers against values worked by hand; the particle frame reads density where the molecule has it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from tests.particles.hand_made import blob_images
from tomodrgn.imaging import fourier, grid
from tomodrgn.imaging.pose import euler_to_rotation
from tomodrgn.model.layers import FixedNorm, FourierFeatures, ParticleFrame, ResidualMlp, draw_weights


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_residual_network_by_hand():
    """Weights 2, -1 and 3: x = 1 gives relu(2) = 2, then 2 + relu(-2 + 5) = 5, then 15; x = -1 gives 0, 5, 15."""
    network = ResidualMlp(1, 1, 1, 1)
    with torch.no_grad():
        for layer, weight, bias in ((network.first, 2, 0), (network.residual[0], -1, 5), (network.last, 3, 0)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    assert network(torch.tensor([[1.0], [-1.0], [4.0]])).flatten().tolist() == [15.0, 15.0, 24.0]


def test_caller_may_add_to_the_first_layer():
    network = ResidualMlp(3, 8, 2, 2)
    x, added = torch.randn(5, 3, generator=generator()), torch.randn(5, 8, generator=generator(1))
    torch.testing.assert_close(network.after_first(network.first(x)), network(x))
    assert (network.after_first(network.first(x) + added) - network(x)).abs().max() > 1e-3


def test_fixed_norm_is_nothing_until_it_is_set_and_is_kept_with_the_weights():
    norm = FixedNorm(2)
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    torch.testing.assert_close(norm(x), x)
    norm.mean.copy_(torch.tensor([1.0, 1.0]))
    norm.std.copy_(torch.tensor([1.0, 2.0]))
    assert norm(x).tolist() == [[0.0, 0.5], [2.0, 2.0]]
    other = FixedNorm(2)
    other.load_state_dict(norm.state_dict())
    torch.testing.assert_close(other(x), norm(x))


def test_drawn_weights_follow_the_generator_alone():
    def drawn(seed: int) -> torch.Tensor:
        network = ResidualMlp(4, 16, 2, 2)
        draw_weights(network, generator(seed))
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    first = drawn(3)
    torch.rand(7)  # the global generator has no say
    torch.testing.assert_close(drawn(3), first, atol=0, rtol=0)
    assert (drawn(4) != first).all()
    layer = torch.nn.Linear(100, 300)
    draw_weights(layer, generator())
    for drawn_values in (layer.weight, layer.bias):
        assert 0.09 < float(drawn_values.abs().max()) <= 0.1
        assert float(drawn_values.std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.1)


# --- Fourier features -------------------------------------------------------------------------------------------------


def test_features_are_sines_and_cosines_of_the_phase():
    features = FourierFeatures(2, 8, 0.5, generator=generator())
    features.vectors.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0]]))
    k = [0.25, 0.125, 0.25]
    # k.f = 0.25 and 2 * 0.125 - 0.25 = 0: sines 1 and 0, cosines 0 and 1.
    found = features(torch.tensor([k]))[0].tolist()
    assert found == pytest.approx([1.0, 0.0, 0.0, 1.0], abs=1e-6)


def test_feature_vectors_have_the_spread_asked_for_and_are_saved():
    features = FourierFeatures(4000, 64, 0.5, generator=generator(1))
    assert features.vectors.shape == (3, 4000)
    assert float(features.vectors.std()) == pytest.approx(0.5 * 64 / 2, rel=0.03)
    assert "vectors" in features.state_dict()
    other = FourierFeatures(4000, 64, 0.5, generator=generator(2))
    assert (other.vectors != features.vectors).any()


def test_geometric_features_lie_on_the_axes_from_one_pixel_to_half_a_box():
    features = FourierFeatures(14, 32, 0.5, generator=generator(), kind="geometric")
    assert (features.vectors.shape, features.out_dim) == ((3, 12), 24)
    for axis in range(3):
        own = features.vectors[:, 4 * axis : 4 * axis + 4]
        expected = torch.zeros(3, 4)
        expected[axis] = torch.tensor([1.0, 16 ** (1 / 3), 16 ** (2 / 3), 16.0])
        torch.testing.assert_close(own, expected)


def test_phases_are_not_rounded_in_mixed_precision():
    features = FourierFeatures(64, 128, 0.5, generator=generator())
    k = torch.rand(50, 3, generator=generator(1)) - 0.5
    exact = features(k)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(features(k), exact, atol=1e-4, rtol=0)


# --- density at points of the particle --------------------------------------------------------------------------------

BOX = 32


def coefficients(images: np.ndarray) -> torch.Tensor:
    kept = grid.HalfGrid.of_image(BOX)
    return fourier.rfft2_centred(torch.from_numpy(images).float()).flatten(1)[:, kept.index]


@pytest.mark.parametrize("seed", range(3))
def test_frame_reads_a_blob_at_its_own_place_under_any_pose(seed):
    """Whatever the pose, the density at the points is that of the blob's projection at each point's projection."""
    rng = np.random.default_rng(seed)
    frame = ParticleFrame(BOX, 0.5, n_across=9, radius=0.7)
    blob = np.array([[4.0, -3.0, 2.0]]) if seed == 0 else rng.uniform(-5, 5, (1, 3))
    rotations = euler_to_rotation(*rng.uniform(-180, 180, (3, 6)))
    seen = np.einsum("icj,bj->ibc", rotations[:, :2], blob)
    density = frame(coefficients(blob_images(seen, np.array([1e3]), BOX, 3.0)), torch.tensor(rotations).float())
    assert density.shape == (6, len(frame))
    # Along the beam all points look alike: compare with the distance between point and blob across the beam.
    across = np.linalg.norm(np.einsum("icj,sj->isc", rotations[:, :2], frame.points.double().numpy()) - seen, axis=2)
    for image, distance in zip(density.numpy(), across, strict=True):
        order = np.argsort(distance)
        assert np.corrcoef(image, np.exp(-(distance**2) / (2 * 4.0**2)))[0, 1] > 0.97
        assert image[order[:5]].min() > image[order[-100:]].max()
    # Over many poses only the place of the blob itself is always bright.
    nearest = np.linalg.norm(frame.points.double().numpy() - blob, axis=1).argmin()
    average = density.mean(dim=0).numpy()
    best = frame.points[int(average.argmax())].double().numpy()
    assert np.linalg.norm(best - blob) < 3.5
    assert average[nearest] > 0.8 * average.max()


def test_frame_reads_a_point_where_it_lies():
    """Without rotation, density at (x, y, z) is that of the image at column d/2 + x, row d/2 + y."""
    frame = ParticleFrame(BOX, 0.5, n_across=7, radius=0.75)  # points every 4 px, from -12 to 12
    image = blob_images(np.array([[[8.0, -4.0]]]), np.array([1e3]), BOX, 2.5)
    density = frame(coefficients(image), torch.eye(3)[None])[0]
    brightest = frame.points[density >= 0.999 * density.max()]
    assert {tuple(p) for p in brightest[:, :2].round().int().tolist()} == {(8, -4)}
    assert len(brightest) == int(((frame.points[:, :2] - torch.tensor([8.0, -4.0])).norm(dim=1) < 1e-3).sum())


def test_frame_points_fill_the_particle():
    frame = ParticleFrame(BOX, 0.5, n_across=7, radius=0.75)
    assert float(frame.points.norm(dim=1).max()) <= 0.75 * 16 * 1.01
    steps = itertools.product(range(-3, 4), repeat=3)
    assert len(frame) == sum(x * x + y * y + z * z <= 9 for x, y, z in steps)
    wide = ParticleFrame(BOX, 0.5, n_across=7, radius=1.0)
    assert float(wide.points.abs().max()) == pytest.approx(16.0)


def test_noise_of_the_frame_has_the_standard_deviation_it_names():
    frame = ParticleFrame(BOX, 0.5, n_across=9, radius=0.7)
    noise = coefficients(np.random.default_rng(0).normal(size=(300, BOX, BOX)))
    rotations = torch.tensor(euler_to_rotation(*np.random.default_rng(1).uniform(-180, 180, (3, 300)))).float()
    assert float(frame(noise, rotations).std()) == pytest.approx(0.95, abs=0.08)


def test_frame_is_the_same_in_mixed_precision():
    frame = ParticleFrame(BOX, 0.5, n_across=9, radius=0.7)
    noise = coefficients(np.random.default_rng(0).normal(size=(20, BOX, BOX)))
    rotations = torch.tensor(euler_to_rotation(*np.random.default_rng(1).uniform(-180, 180, (3, 20)))).float()
    exact = frame(noise, rotations)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(frame(noise, rotations).float(), exact, atol=0.02, rtol=0.01)


def test_frame_leaves_out_what_the_points_cannot_hold():
    """Points 8 px apart hold periods above 16 px: a ripple of 4 px gives nothing, one of 32 px does."""
    frame = ParticleFrame(BOX, 0.5, n_across=4, radius=0.75)
    x = np.arange(BOX) - BOX // 2
    for period, seen in ((4, False), (32, True)):
        ripple = np.cos(2 * np.pi * x / period)[None, None, :] * np.ones((1, BOX, 1))
        assert (float(frame(coefficients(ripple), torch.eye(3)[None]).abs().max()) > 0.1) is seen
