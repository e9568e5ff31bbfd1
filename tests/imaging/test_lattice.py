"""Voxels of a padded half grid: where points fall, and values that agree with closed forms."""

from __future__ import annotations

import pytest
import torch

from tests.particles.hand_made import blob_transform
from tomodrgn.imaging import grid
from tomodrgn.imaging.lattice import VoxelLattice

BOX, WIDTH = 16, 1.5


def points(n: int = 500, radius: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    return directions * radius * torch.rand(n, 1, generator=generator) ** (1 / 3)


def blobs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A volume of blobs; their centres and heights."""
    centres, heights = torch.tensor([[2.0, -1, 0], [-2, 1, 3], [0, 2, -2]]), torch.tensor([100.0, 80, 60])
    axis = torch.arange(BOX) - BOX // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = torch.zeros(BOX, BOX, BOX)
    for (cx, cy, cz), height in zip(centres.tolist(), heights.tolist(), strict=True):
        square = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
        volume += height * torch.exp(-square / (2 * WIDTH**2)) / (2 * torch.pi * WIDTH**2) ** 1.5
    return volume, centres, heights


def closed_form(coordinates: torch.Tensor) -> torch.Tensor:
    _, centres, heights = blobs()
    return torch.from_numpy(blob_transform(coordinates.double().numpy(), centres.numpy(), heights.numpy(), WIDTH)) / BOX


def test_nearest_voxel_is_the_nearest():
    lattice = VoxelLattice.within(BOX, 0.3)
    xyz = points()
    voxel, sign, offset = lattice.nearest(xyz)
    assert (voxel >= 0).all()
    assert (offset.abs() <= 0.5 + 1e-4).all()
    found = (lattice.xyz[voxel.long()] + offset) * sign[:, None] * lattice.spacing
    assert torch.allclose(found, xyz, atol=1e-6)


def test_points_beyond_the_lattice_have_no_voxel():
    lattice = VoxelLattice.within(BOX, 0.2)
    voxel, _, _ = lattice.nearest(torch.tensor([[0.45, 0, 0], [0, 0.3, 0.3], [0.1, 0, 0]]))
    assert voxel[:2].tolist() == [-1, -1]
    assert voxel[2] >= 0


def test_a_smaller_lattice_holds_the_first_voxels_of_a_larger_one():
    small, large = VoxelLattice.within(BOX, 0.15), VoxelLattice.within(BOX, 0.4)
    assert torch.equal(large.xyz[: len(small)], small.xyz)
    values = torch.randn(2, len(small), dtype=torch.complex64)
    assert torch.equal(large.widened(values)[:, : len(small)], values)
    assert not large.widened(values)[:, len(small) :].any()


def test_values_and_their_gradient_agree_with_the_closed_form():
    lattice = VoxelLattice.within(BOX, 0.3)
    volume, _, _ = blobs()
    voxel, sign, offset = lattice.nearest(points())
    found = lattice.with_gradient(volume)[:, voxel.long()]
    value = found[0] + (found[1:] * offset.T).sum(dim=0)
    expected = closed_form(points()).to(torch.complex64)
    expected = torch.where(sign > 0, expected, expected.conj())
    error = (value - expected).abs().square().mean().sqrt() / expected.abs().square().mean().sqrt()
    nearest = (found[0] - expected).abs().square().mean().sqrt() / expected.abs().square().mean().sqrt()
    assert error < 0.05
    assert nearest > 3 * error


def test_volumes_and_values_are_inverse():
    lattice = VoxelLattice.within(BOX, 0.5)
    volume, _, _ = blobs()
    for blur in (False, True):
        again = lattice.volumes(lattice.values(volume[None], blur=blur), sharpen=blur)[0]
        difference = (again - volume) - (again - volume).mean()  # the mean is not kept
        assert difference.abs().max() < 0.02 * volume.max()


@pytest.mark.parametrize("radius", [0.5, 0.3])  # the whole padded cube, and a coarser one
def test_masking_is_a_product_in_real_space(radius):
    lattice = VoxelLattice.within(BOX, radius)
    mask = grid.soft_spherical_mask(BOX, 0.6)
    volume, _, _ = blobs()
    volume = volume - volume.mean()
    found = lattice.masked(lattice.values(volume[None]), lattice.mask_cube(mask))
    expected = lattice.values((volume * mask)[None])
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("radius", [0.15, 0.3])
def test_shell_mean_is_the_mean_of_a_shell(radius):
    lattice = VoxelLattice.within(BOX, radius)
    values = torch.randn(len(lattice), generator=torch.Generator().manual_seed(1))
    found = lattice.shell_mean(values)
    inside = lattice.shell == 2
    assert torch.allclose(found[inside], values[inside].mean(), atol=1e-5)
