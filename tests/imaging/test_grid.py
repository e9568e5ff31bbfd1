"""Half grids hold one of each Friedel pair; slices lie where rotations say; windows have the radii they name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tomodrgn.imaging import fourier, grid
from tomodrgn.imaging.grid import HalfGrid
from tomodrgn.imaging.pose import axis_rotation, euler_to_rotation


@pytest.mark.parametrize(("ndim", "box", "radius"), [(2, 8, 0.5), (2, 12, 0.3), (3, 8, 0.5), (3, 6, 0.4)])
def test_half_grid_has_one_of_each_pair_below_the_radius(ndim, box, radius):
    kept = HalfGrid.of_image(box, max_radius=radius) if ndim == 2 else HalfGrid.of_volume(box, max_radius=radius)
    found = {tuple(k) for k in (kept.frequencies * box).round().long().tolist()}
    axis = range(-box // 2, box // 2)
    points = np.stack(np.meshgrid(*[axis] * ndim, indexing="ij"), axis=-1).reshape(-1, ndim)
    norm = np.linalg.norm(points, axis=1) / box
    wanted = {tuple(p) for p in points[(norm > 0) & (norm < radius)].tolist()}
    assert len(found) == len(kept) == len(wanted) // 2
    opposite = {tuple(-x for x in p) for p in found}
    assert not found & opposite
    assert found | opposite == wanted


def test_half_grid_index_points_at_its_frequencies():
    kept = HalfGrid.of_volume(10)
    torch.testing.assert_close(fourier.half_frequencies_xyz(10).reshape(-1, 3)[kept.index], kept.frequencies)
    torch.testing.assert_close(kept.radius, kept.frequencies.square().sum(dim=1).sqrt())
    assert (len(kept.to("cpu")), kept.to("cpu").box_px) == (len(kept), 10)


def test_half_grid_carries_everything_within_nyquist():
    """An image limited to the kept frequencies, rebuilt from them alone, is the same image."""
    generator = torch.Generator().manual_seed(1)
    k = fourier.half_frequencies_xy(16)
    radius = k.norm(dim=-1)
    full = fourier.rfft2_centred(torch.randn(16, 16, generator=generator))
    image = fourier.irfft2_centred(torch.where((radius < 0.5) & (radius > 0), full, 0), 16)
    kept = HalfGrid.of_image(16)
    half = torch.zeros(16 * 9, dtype=torch.complex64)
    half[kept.index] = fourier.rfft2_centred(image).flatten()[kept.index]
    half = half.view(16, 9)
    fourier.complete_friedel(half, ndim=2)
    torch.testing.assert_close(fourier.irfft2_centred(half, 16), image, atol=1e-5, rtol=0)


def test_radius_below_the_first_frequency_is_refused():
    with pytest.raises(ValueError, match=r"max_radius 0\.05 .* box 16.*more than 0\.0625"):
        HalfGrid.of_image(16, max_radius=0.05)


def test_canonical_half_holds_exactly_one_of_k_and_minus_k():
    axis = torch.tensor([-0.2, 0.0, 0.3])
    for ndim in (2, 3):
        k = torch.cartesian_prod(*[axis] * ndim)
        k = k[k.norm(dim=-1) > 0]
        assert (grid.in_canonical_half(k) ^ grid.in_canonical_half(-k)).all()
    assert grid.in_canonical_half(torch.tensor([[0.1, -0.3, -0.3], [0.0, 0.1, -0.3], [0.0, 0.0, 0.1]])).all()


def test_slice_of_an_unrotated_image_is_the_plane_z_zero():
    k = HalfGrid.of_image(8).frequencies
    xyz = grid.slice_coordinates(k, torch.eye(3)[None])[0]
    torch.testing.assert_close(xyz, torch.cat([k, torch.zeros(len(k), 1)], dim=1))


def test_slice_of_a_quarter_turn_about_x_is_worked_by_hand():
    """The particle turned by 90 degrees about x: its y axis points along the beam, its z axis along -y of the image.

    The slice's x frequency is then the volume's kx, and its y frequency the volume's -kz.
    """
    rotation = torch.tensor(axis_rotation("x", 90.0), dtype=torch.float32)
    xyz = grid.slice_coordinates(torch.tensor([[0.1, 0.0], [0.0, 0.2]]), rotation)[0]
    torch.testing.assert_close(xyz, torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.0, -0.2]]), atol=1e-7, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_fourier_slice_theorem_of_analytic_blobs(seed):
    """The 2-D transform of the blobs' projection equals their analytic 3-D transform on the slice."""
    rng = np.random.default_rng(seed)
    d, n, width = 32, 5, 1.8
    centres, heights = rng.uniform(-5, 5, (n, 3)), rng.uniform(0.5, 2, n)
    rotation = euler_to_rotation(*[np.array([a]) for a in rng.uniform(-180, 180, 3)])[0]
    moved = centres @ rotation.T  # r_image = R r_particle
    y, x = np.mgrid[:d, :d] - d // 2
    projection = sum(
        h * width * math.sqrt(2 * math.pi) * np.exp(-((x - mx) ** 2 + (y - my) ** 2) / (2 * width**2))
        for h, (mx, my, _) in zip(heights, moved, strict=True)
    )
    kept = HalfGrid.of_image(d)
    observed = fourier.rfft2_centred(torch.from_numpy(projection)).flatten()[kept.index].numpy() * d
    xyz = grid.slice_coordinates(kept.frequencies.double(), torch.from_numpy(rotation)[None])[0].numpy()
    envelope = (2 * math.pi) ** 1.5 * width**3 * np.exp(-2 * (math.pi * width) ** 2 * (xyz**2).sum(axis=1))
    expected = envelope * (np.exp(-2j * np.pi * xyz @ centres.T) @ heights)
    assert np.abs(expected).max() > 10
    np.testing.assert_allclose(observed, expected, atol=2e-3)


def test_radii_are_distances_from_the_centre_index():
    r = grid.radii(6, 2)
    assert r[3, 3] == 0
    assert (r[3, 0], r[0, 3], r[3, 5]) == (3, 3, 2)
    assert grid.radii(4, 3)[0, 0, 0] == pytest.approx(math.sqrt(12))


def test_window_is_one_inside_zero_outside_and_half_between():
    window = grid.image_window(40, 0.5, 0.8)
    r = grid.radii(40, 2) / 20
    assert (window[r <= 0.5] == 1).all()
    assert (window[r >= 0.8] < 1e-7).all()
    assert window[20, 20 + 13] == pytest.approx(0.5, abs=1e-6)  # 13 px is 0.65 of the half box
    edge = window[20, 30:37]
    assert (edge.diff() < 0).all()
    assert set(grid.image_window(40, 0.5, 0.5).unique().tolist()) <= {0.0, 1.0}


def test_soft_sphere_is_half_at_its_radius():
    mask = grid.soft_spherical_mask(40, 0.5, 0.2)
    assert mask[20, 20, 30] == pytest.approx(0.5, abs=1e-6)
    assert (mask[20, 20, 28], mask[20, 20, 20], mask[20, 20, 39]) == (1.0, 1.0, 0.0)
    assert mask[20, 20, 32] == pytest.approx(0.0, abs=1e-6)
