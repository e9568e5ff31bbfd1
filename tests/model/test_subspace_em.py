"""The E step against brute force, the EM's ascent, and what held-out tilts say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.model.linear_sets import BOX, LinearParticles
from tomodrgn.imaging import grid
from tomodrgn.imaging.lattice import VoxelLattice
from tomodrgn.model.linear import residual_matrices
from tomodrgn.model.slice_reader import SliceReader
from tomodrgn.model.slice_statistics import PARTS, SliceMatrices
from tomodrgn.model.subspace_em import (
    Evidence,
    Posterior,
    SubspaceEm,
    canonical,
    evidence,
    held_out_gain,
    posterior,
    solve_at_voxels,
    spread,
)
from tomodrgn.particles.dataset import TiltDataset

RADIUS = 5.5 / BOX


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> SliceReader:
    particles = LinearParticles(tmp_path_factory.mktemp("linear"), seed=0, n_particles=60, n_tilts=6, noise=2.0)
    return SliceReader(particles.preprocessor).limited(RADIUS)


@pytest.fixture(scope="module")
def matrices(reader) -> SliceMatrices:
    blocks = list(residual_matrices(reader, torch.zeros(BOX, BOX, BOX)))
    assert len(blocks) == 1
    return blocks[0]


@pytest.fixture(scope="module")
def em(reader) -> SubspaceEm:
    return SubspaceEm(reader.lattice, torch.full((BOX // 2 + 1,), 0.5), grid.soft_spherical_mask(BOX, 0.7))


def test_evidence_agrees_with_brute_force(reader, matrices, em):
    """Sums over every coefficient of one particle, from images and not from matrices."""
    generator = torch.Generator().manual_seed(0)
    components = torch.view_as_complex(torch.randn(2, len(reader.lattice), 2, generator=generator))
    found = evidence(matrices, components, em.noise)
    particles, which = reader.particles, 7
    rows = np.arange(particles.offsets[which], particles.offsets[which + 1])
    batch = reader.preprocessor(TiltDataset(particles).read_batch(np.array([which]), [rows]))
    numerator, denominator = batch.gridding_terms()
    xyz = grid.slice_coordinates(batch.frequencies, batch.rotations).reshape(-1, 3)
    voxel, sign, _ = reader.lattice.nearest(xyz)
    assert (voxel >= 0).all()
    values = components[:, voxel.long()]
    values = torch.where(sign > 0, values, values.conj())
    linear = 2 / 0.5 * (values.conj() * numerator.flatten()).real.sum(dim=1)
    precision = 2 / 0.5 * ((values * denominator.flatten()) @ values.conj().T).real
    assert torch.allclose(found.linear[which].sum(dim=0), linear, rtol=1e-3, atol=1e-3 * float(linear.abs().max()))
    assert torch.allclose(found.precision[which].sum(dim=0), precision, rtol=1e-3, atol=1e-2)


def test_posterior_of_one_coordinate_is_the_textbook_one():
    found = posterior(torch.tensor([[[3.0]]]), torch.tensor([[2.0]]))
    assert found.mean.item() == pytest.approx(2 / 4)
    assert found.covariance.item() == pytest.approx(1 / 4)
    # log N(y; 0, s + 1) / N(y; 0, s) of one observation y = 2 / 3 with variance s = 1 / 3
    expected = -0.5 * np.log(4 / 3 * 3) + 0.5 * (2 / 3) ** 2 * (3 - 3 / 4)
    assert found.gain.item() == pytest.approx(expected, rel=1e-5)
    assert found.divergence().item() == pytest.approx(0.5 * (0.25 + 0.25 - 1 + np.log(4)), rel=1e-5)


def test_no_images_give_the_prior():
    found = posterior(torch.zeros(2, 3, 3), torch.zeros(2, 3))
    assert isinstance(found, Posterior)
    assert torch.equal(found.covariance, torch.eye(3).expand(2, 3, 3))
    assert not found.mean.any()
    assert found.divergence().abs().max() < 1e-6


def test_steps_raise_the_likelihood(matrices, em):
    components = em.random_start(matrices, 2, seed=0)
    gains = []
    for _ in range(8):
        gains.append(float(evidence(matrices, components, em.noise).posterior().gain.sum()))
        components = em.step([matrices], components)
    assert gains[-1] > gains[0] + 10
    assert gains[-1] >= 0.98 * max(gains)  # the ridge and the mask take a little back


def test_blocks_one_after_another_give_the_same_step(reader, matrices, em):
    components = em.random_start(matrices, 2, seed=0)
    n = len(reader.particles)
    blocks = [next(reader.blocks(part))[1] for part in (np.arange(20), np.arange(20, n))]
    split = [SliceMatrices.of([block], RADIUS, len(reader.lattice)) for block in blocks]
    whole, parts = em.step([matrices], components), em.step(iter(split), components)
    assert torch.allclose(whole, parts, atol=1e-3 * float(whole.abs().max()))


def test_canonical_components_are_orthogonal_and_fall():
    components = torch.view_as_complex(torch.randn(3, 500, 2, generator=torch.Generator().manual_seed(0)))
    found = canonical(components)
    gram = (found.conj() @ found.T).real
    assert torch.allclose(gram, torch.diag(gram.diagonal()), atol=1e-2)
    assert (gram.diagonal().diff() <= 0).all()
    # The same volumes: the sum of B B^T is that of before.
    before, after = (torch.view_as_real(c).flatten(1) for c in (components, found))
    assert torch.allclose(before.T @ before, after.T @ after, atol=1e-2)


def test_held_out_gain_is_the_likelihood_of_the_other_tilts(matrices, em):
    found = evidence(matrices, em.random_start(matrices, 2, seed=0), em.noise)
    gain = held_out_gain(found, [0, 1])
    assert gain.shape == (3, matrices.n_particles)
    assert not gain[0].any()
    expected = found.posterior().gain - found.posterior([0, 1]).gain
    assert torch.allclose(gain[2], expected)


def test_spread_finds_the_scale_of_the_coordinates():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(4000, 2, generator=generator) * torch.tensor([1.5, 0.4])
    precision = torch.eye(2).expand(4000, PARTS, 2, 2) * 5
    noise = torch.randn(4000, PARTS, 2, generator=generator) * 5**0.5
    found = spread(Evidence(precision=precision, linear=precision[..., 0, :1] * truth[:, None] + noise), [1, 2])
    assert found.tolist() == pytest.approx([1.5, 0.4], rel=0.08)


def test_voxels_of_matrices_are_those_of_the_lattice(reader, matrices):
    assert matrices.by_row[0].shape == (PARTS * len(reader.particles), len(VoxelLattice.within(BOX, RADIUS)))
    dense = [matrix.to_dense() for matrix in matrices.by_row]
    for row, voxel in zip(dense, matrices.by_voxel, strict=True):
        assert torch.equal(voxel.to_dense(), row.T)


@pytest.mark.parametrize("c", [1, 2, 3, 7])
def test_small_systems_at_every_voxel_are_solved(c):
    generator = torch.Generator().manual_seed(c)
    roots = torch.randn(50, c, c + 1, generator=generator)
    roots[0] = 0  # a voxel that nobody saw has its ridge alone
    ridge = 0.1 + torch.rand(50, generator=generator)
    normal = roots @ roots.mT
    right = torch.view_as_complex(torch.randn(c, 50, 2, generator=generator))
    i, j = torch.tril_indices(c, c)
    found = solve_at_voxels(normal[:, i, j].T.contiguous(), ridge, right)
    whole = normal + ridge[:, None, None] * torch.eye(c)
    expected = torch.linalg.solve(whole.to(torch.complex128), right.T.to(torch.complex128)[..., None])[..., 0].T
    torch.testing.assert_close(found, expected.to(torch.complex64), rtol=1e-3, atol=1e-4)


def test_transposes_hold_the_same_numbers(matrices):
    for rows, voxels in zip(matrices.by_row, matrices.by_voxel, strict=True):
        assert torch.equal(rows.to_dense().T, voxels.to_dense())
