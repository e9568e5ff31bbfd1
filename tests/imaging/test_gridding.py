"""Interpolation to and from half grids: against closed forms of blobs, sums kept, one direction the other's adjoint."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.particles.hand_made import blob_transform
from tomodrgn.imaging import grid, gridding

BOX = 16


def random_frequencies(n: int, *, largest: float = 0.45, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    k = rng.uniform(-0.5, 0.5, (4 * n, 3))
    k = k[np.linalg.norm(k, axis=1) < largest][:n]
    return torch.tensor(k, dtype=torch.float32)


def blob_volume(centres: np.ndarray, heights: np.ndarray, width: float) -> torch.Tensor:
    z, y, x = np.mgrid[:BOX, :BOX, :BOX] - BOX // 2
    blobs = sum(
        h * np.exp(-((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * width**2))
        for h, (cx, cy, cz) in zip(heights, centres, strict=True)
    )
    return torch.tensor(blobs / (2 * math.pi * width**2) ** 1.5, dtype=torch.float32)


@pytest.mark.parametrize(("padding", "error"), [(2, 0.06), (4, 0.015)])
def test_samples_are_the_transform_of_the_volume_at_any_frequency(padding, error):
    """In the units of an orthonormal transform of the projection; twofold padding is good to a few per cent."""
    centres, heights, width = np.array([[3.0, -2.0, 1.0], [-1.0, 2.5, -3.0]]), np.array([60.0, 90.0]), 1.2
    prepared = gridding.prepare_sampling(blob_volume(centres, heights, width)[None], padding=padding)
    k, _ = grid.fold_into_half(random_frequencies(500))
    found = torch.view_as_complex(gridding.sample_half_volume(prepared, k)[:, 0].contiguous()).numpy()
    expected = blob_transform(k.double().numpy(), centres, heights, width) / BOX
    assert np.linalg.norm(found - expected) < error * np.linalg.norm(expected)


def test_sampling_by_hand():
    """A point of height d at the centre: 1 at every frequency; one 1 px along +z: a phase of -2 pi kz."""
    volume = torch.zeros(BOX, BOX, BOX)
    volume[BOX // 2, BOX // 2, BOX // 2] = BOX
    k, _ = grid.fold_into_half(random_frequencies(50, seed=1))
    found = gridding.sample_half_volume(gridding.prepare_sampling(volume[None]), k)[:, 0]
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0]).expand(50, 2), atol=1e-4, rtol=0)
    moved = torch.roll(volume, 1, dims=0)
    found = torch.view_as_complex(
        gridding.sample_half_volume(gridding.prepare_sampling(moved[None]), k)[:, 0].contiguous()
    )
    torch.testing.assert_close(found, torch.polar(torch.ones(50), -2 * torch.pi * k[:, 2]), atol=0.03, rtol=0)


def test_volumes_prepared_together_or_joined_are_sampled_as_each_alone():
    """And all values of a voxel lie together in memory, on which the speed of the decoder depends."""
    volumes = torch.randn(3, BOX, BOX, BOX, generator=torch.Generator().manual_seed(0))
    k, _ = grid.fold_into_half(random_frequencies(50, seed=2))
    alone = [gridding.sample_half_volume(gridding.prepare_sampling(volume[None]), k) for volume in volumes]
    together = gridding.prepare_sampling(volumes)
    joined = gridding.join_prepared(gridding.prepare_sampling(volumes[:1]), gridding.prepare_sampling(volumes[1:]))
    for prepared in (together, joined):
        torch.testing.assert_close(gridding.sample_half_volume(prepared, k), torch.cat(alone, dim=1))
        assert prepared.stride()[:2] == (2, 1)
    torch.testing.assert_close(gridding.sample_half_volume(together[1:], k), torch.cat(alone[1:], dim=1))


def spread_out(
    xyz: torch.Tensor, terms: torch.Tensor, first: torch.Tensor | None = None, grids: int = 1
) -> torch.Tensor:
    sums = torch.zeros(grids * BOX * BOX * (BOX // 2 + 2), 3)
    first = torch.zeros(len(xyz), dtype=torch.long) if first is None else first
    gridding.spread(sums, xyz, terms, box_px=BOX, first=first)
    return sums.view(grids, BOX, BOX, BOX // 2 + 2, 3)


def test_point_on_a_voxel_stays_whole_and_between_voxels_is_shared():
    terms = torch.tensor([[2.0, 3.0, 1.0]])
    on = spread_out(torch.tensor([[1.0, 2.0, -3.0]]), terms)[0]
    assert on[-3, 2, 1].tolist() == [2.0, 3.0, 1.0]
    assert int((on != 0).any(dim=-1).sum()) == 1
    between = spread_out(torch.tensor([[1.25, 2.0, -3.5]]), terms)[0]
    # Three quarters lie at x = 1, one at x = 2; half at z = -4, half at z = -3.
    expected = {(-4, 1): 0.375, (-3, 1): 0.375, (-4, 2): 0.125, (-3, 2): 0.125}
    for (z, x), share in expected.items():
        torch.testing.assert_close(between[z, 2, x], share * terms[0])
    assert int((between != 0).any(dim=-1).sum()) == 4


def test_negative_x_goes_to_the_opposite_frequency_conjugated():
    terms = torch.tensor([[2.0, 3.0, 1.0]])
    found = spread_out(torch.tensor([[-1.0, 2.0, -3.0]]), terms)[0]
    assert found[3, -2, 1].tolist() == [2.0, -3.0, 1.0]
    assert terms.tolist() == [[2.0, 3.0, 1.0]], "the terms given are left as they were"


def test_sums_are_kept_and_go_to_their_own_grid():
    rng = np.random.default_rng(0)
    xyz = random_frequencies(300) * BOX
    terms = torch.tensor(rng.normal(size=(300, 3)), dtype=torch.float32)
    which = torch.arange(300) % 2
    found = spread_out(xyz, terms, which * (BOX * BOX * (BOX // 2 + 2)), grids=2)
    for g in (0, 1):
        mine = terms[which == g]
        sign = torch.where(xyz[which == g][:, 0] < 0, -1.0, 1.0)
        expected = [mine[:, 0].sum(), (mine[:, 1] * sign).sum(), mine[:, 2].sum()]
        torch.testing.assert_close(found[g].sum(dim=(0, 1, 2)), torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_kernel_transform_is_that_of_trilinear_shares():
    """The transform of the triangle of shares, summed: sinc^2, 1 at the centre, (2 / pi)^2 at the edge of an axis."""
    found = gridding.kernel_transform(BOX)
    assert found[8, 8, 8] == 1
    assert float(found[8, 8, 0]) == pytest.approx((2 / math.pi) ** 2, rel=1e-5)
    assert float(found[0, 0, 8]) == pytest.approx((2 / math.pi) ** 4, rel=1e-5)
    fine = torch.linspace(-1, 1, 2001).double()
    triangle = 1 - fine.abs()
    for x in (1, 5):
        integral = torch.trapezoid(triangle * torch.cos(2 * torch.pi * fine * x / BOX), fine)
        assert float(found[8, 8, 8 + x]) == pytest.approx(float(integral), rel=1e-4)
