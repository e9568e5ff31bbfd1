"""One step: the loss as defined, gradients that do not depend on chunks, and tilts split fairly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from tests.model.small_models import batch_of, model
from tomodrgn.config import TrainConfig
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.preprocess import FourierBatch
from tomodrgn.training.step import (
    StepNoise,
    chunk_size,
    draw_noise,
    split_tilts,
    splits_tilts,
    training_step,
)

BETA = 0.7


@pytest.fixture
def batch(preprocessor) -> FourierBatch:
    return batch_of(preprocessor, [0, 1, 2, 3])


def gradients(network: TiltSeriesVae) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def noise_of(batch: FourierBatch, network: TiltSeriesVae, seed: int) -> StepNoise:
    counts = batch.owner.bincount(minlength=batch.n_particles).tolist()
    return draw_noise(counts, network.config.z_dim, torch.Generator().manual_seed(seed))


def drawn_halves(batch: FourierBatch, seed: int) -> tuple[FourierBatch, FourierBatch]:
    return split_tilts(batch, torch.rand(len(batch.owner), generator=torch.Generator().manual_seed(seed)))


def stepped(batch: FourierBatch, network: TiltSeriesVae, **options: object) -> tuple[dict[str, torch.Tensor], object]:
    network.zero_grad()
    fabric = Fabric(accelerator="cpu", devices=1)
    config = TrainConfig(**({"points_per_chunk": 10**6} | options))
    losses = training_step(fabric, network, batch, config, beta=BETA, noise=noise_of(batch, network, 5))
    return gradients(network), losses


@pytest.mark.parametrize("split", [False, True])
def test_chunks_change_neither_loss_nor_gradients(batch, split):
    network = model()
    whole, losses = stepped(batch, network, split_tilts=split)
    assert {name.split(".")[0] for name in whole} == {
        "tilt_encoder", "particle_encoder", "linear_encoder", "decoder", "from_latent",
    }  # fmt: skip
    assert all(gradient.abs().max() > 0 for gradient in whole.values())
    for size in (64, 100, 511):
        parts, again = stepped(batch, network, split_tilts=split, points_per_chunk=size)
        assert parts.keys() == whole.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(parts[name], gradient, atol=1e-5 * float(gradient.abs().max()), rtol=1e-3)
        torch.testing.assert_close(again.total, losses.total)


@pytest.mark.parametrize("z_dim", [0, 3])
def test_loss_and_gradients_are_those_of_the_definition(batch, z_dim):
    """Written out: weighted mean of squared errors, plus beta times the divergence a frequency."""
    network = model(z_dim=z_dim)
    found, losses = stepped(batch, network, split_tilts=False)
    network.zero_grad()
    mean, log_variance = network.encode(batch)
    draw = noise_of(batch, network, 5).latents
    z = mean + draw * torch.exp(log_variance / 2)
    points = batch.points()
    predicted = torch.view_as_complex(network.decode(points.coordinates, points.owner, z))
    target = torch.view_as_complex(points.target.contiguous())
    error = (points.weights * (points.transfer * predicted - target).abs() ** 2).sum() / points.weights.sum()
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum() / len(points)
    (error + BETA * divergence).backward()
    assert float(losses.reconstruction) == pytest.approx(float(error), rel=1e-5)
    assert float(losses.kl) == pytest.approx(float(divergence), rel=1e-4)
    assert float(losses.total) == pytest.approx(float(error + BETA * divergence), rel=1e-5)
    for name, expected in gradients(network).items():
        torch.testing.assert_close(found[name], expected, atol=1e-5 * float(expected.abs().max() + 1e-6), rtol=1e-3)


def test_divergence_is_pulled_towards_its_target(batch):
    """The KL term is beta times the distance from the target; its gradient changes sign there."""
    network = model()
    mean, log_variance = network.encode(batch)
    each = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
    low, high = float(each.min()) - 0.1, float(each.max()) + 0.1
    (below, losses), (above, other) = (stepped(batch, network, split_tilts=False, kl_target=t) for t in (low, high))
    n_points = len(batch.points())
    for found, target in ((losses, low), (other, high)):
        penalty = float((each - target).abs().sum()) / n_points
        assert float(found.total - found.reconstruction) == pytest.approx(BETA * penalty, rel=1e-3)
    plain, _ = stepped(batch, network, split_tilts=False)
    name = "particle_encoder.last.bias"
    torch.testing.assert_close(below[name], plain[name])
    without = (below[name] + above[name]) / 2  # the gradient of the reconstruction alone
    assert not torch.allclose(without, plain[name])


def test_noise_of_the_latent_follows_its_generator(batch):
    network = model()
    first, again = (float(stepped(batch, network)[1].total) for _ in range(2))
    assert first == again
    other = training_step(
        Fabric(accelerator="cpu", devices=1), network, batch, TrainConfig(), beta=BETA,
        noise=noise_of(batch, network, 6),
    )  # fmt: skip
    assert float(other.total) != first


def test_reconstruction_is_judged_by_tilts_that_were_not_encoded(batch):
    """With a latent that says nothing, the loss is that of the second half's points alone."""
    network = model()
    _, second = drawn_halves(batch, 5)
    with torch.no_grad():
        network.from_latent.weight.zero_()
        points = second.points()
        predicted = network.decode(points.coordinates, points.owner, torch.zeros(4, 3))
    error = points.weights @ (points.transfer[:, None] * predicted - points.target).square().sum(dim=1)
    _, losses = stepped(batch, network)
    assert float(losses.reconstruction) == pytest.approx(float(error / points.weights.sum()), rel=1e-4)


# --- splitting --------------------------------------------------------------------------------------------------------


def made_up(counts: list[int]) -> FourierBatch:
    """A batch whose every image is told by its number."""
    n = sum(counts)
    row = torch.arange(n).float()
    return FourierBatch(
        particles=torch.arange(len(counts)),
        image_rows=torch.arange(n),
        owner=torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)),
        slot=torch.cat([torch.arange(count) for count in counts]),
        values=torch.complex(row, -row)[:, None] + torch.zeros(n, 2),
        ctf=row[:, None] + torch.zeros(n, 2),
        exposure=row[:, None] + torch.zeros(n, 2),
        image_weights=row,
        kept=torch.ones(n, 2),
        rotations=row[:, None, None] + torch.zeros(n, 3, 3),
        frequencies=torch.zeros(2, 2),
        ctf_premultiplied=False,
        dose_weighted=False,
    )


def images(batch: FourierBatch) -> list[int]:
    return [int(x) for x in batch.ctf[:, 0]]


@pytest.mark.parametrize("seed", range(10))
def test_split_halves_each_particle_and_puts_single_tilts_on_both_sides(seed):
    counts = [*np.random.default_rng(seed).integers(1, 42, 60).tolist(), 1, 2, 3, 41]
    batch = made_up(counts)
    first, second = drawn_halves(batch, seed)
    for half in (first, second):
        assert half.n_particles == len(counts)
        assert half.owner.tolist() == [int(batch.owner[i]) for i in images(half)]
        torch.testing.assert_close(half.rotations[:, 0, 0], half.ctf[:, 0])
        torch.testing.assert_close(half.values.real[:, 0], half.ctf[:, 0])
        assert half.owner.bincount(minlength=len(counts)).min() >= 1
    ends = np.cumsum(counts)
    for particle, (start, end) in enumerate(zip(ends - counts, ends, strict=True)):
        a, b = ({i for i in images(half) if start <= i < end} for half in (first, second))
        assert a | b == set(range(start, end)), particle
        if end - start == 1:
            assert a == b
        else:
            assert not a & b
            assert len(a) - len(b) in (0, 1)


def test_split_is_random_and_follows_its_generator():
    batch = made_up([6] * 50)

    def drawn(seed: int) -> list[int]:
        return images(drawn_halves(batch, seed)[0])

    assert drawn(1) == drawn(1) != drawn(2)
    often = np.bincount(np.concatenate([drawn(seed) for seed in range(200)]), minlength=300).reshape(50, 6).sum(axis=0)
    np.testing.assert_allclose(often / (200 * 50), 0.5, atol=0.03)


def test_which_models_split_tilts():
    config = model().config
    assert splits_tilts(TrainConfig(), config)
    assert not splits_tilts(TrainConfig(split_tilts=False), config)
    assert not splits_tilts(TrainConfig(), config.model_copy(update={"z_dim": 0}))


def test_options_that_are_not_given_follow_others():
    assert chunk_size(TrainConfig(points_per_chunk=99), torch.device("cpu")) == 99
