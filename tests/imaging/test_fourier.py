"""Transforms: one centring, one scale, Friedel halves, against sums written out and full transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tomodrgn.imaging import fourier


def random_array(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_image_transform_is_the_sum_about_the_centre():
    """Every coefficient against the definition: exp(-2 pi i k.x), x measured from index d // 2, over d."""
    d = 6
    image = random_array(d, d).double().numpy()
    x = np.arange(d) - d // 2
    ky, kx = np.array([0, 1, 2, -3, -2, -1]) / d, np.array([0, 1, 2, 3]) / d
    expected = np.einsum(
        "yx,ky,lx->kl", image, np.exp(-2j * np.pi * np.outer(ky, x)), np.exp(-2j * np.pi * np.outer(kx, x))
    )
    np.testing.assert_allclose(fourier.rfft2_centred(torch.from_numpy(image)).numpy(), expected / d, atol=1e-12)


def test_volume_transform_is_the_sum_about_the_centre():
    d = 4
    volume = random_array(d, d, d).double().numpy()
    wave = np.exp(-2j * np.pi * np.outer(np.array([0, 1, -2, -1]) / d, np.arange(d) - d // 2))
    expected = np.einsum("zyx,az,by,cx->abc", volume, wave, wave, wave[[0, 1, 2]]) / d**1.5
    found = fourier.rfft3_centred(torch.from_numpy(volume)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("d", [8, 10])
def test_inverse_gives_the_array_back(d):
    images, volumes = random_array(2, d, d), random_array(2, d, d, d)
    torch.testing.assert_close(fourier.irfft2_centred(fourier.rfft2_centred(images), d), images)
    torch.testing.assert_close(fourier.irfft3_centred(fourier.rfft3_centred(volumes), d), volumes)


def test_point_at_the_centre_has_a_flat_real_transform():
    image, volume = torch.zeros(8, 8), torch.zeros(8, 8, 8)
    image[4, 4] = volume[4, 4, 4] = 1.0
    torch.testing.assert_close(fourier.rfft2_centred(image), torch.full((8, 5), 1 / 8, dtype=torch.complex64))
    torch.testing.assert_close(fourier.rfft3_centred(volume), torch.full((8, 8, 5), 8**-1.5, dtype=torch.complex64))


def test_point_off_the_centre_has_a_phase_ramp_along_its_own_axis():
    """A point 1 px along +x: exp(-2 pi i kx); 2 px along +y: exp(-4 pi i ky). Axes and sign of the lattice."""
    d = 8
    k = fourier.half_frequencies_xy(d)
    for shift, axis in ((1, 0), (2, 1)):
        image = torch.zeros(d, d)
        image[(d // 2, d // 2 + shift) if axis == 0 else (d // 2 + shift, d // 2)] = d
        expected = torch.polar(torch.ones(d, d // 2 + 1), -2 * torch.pi * shift * k[..., axis])
        torch.testing.assert_close(fourier.rfft2_centred(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volume_lattice_is_xyz_for_arrays_zyx(axis):
    d = 8
    volume = torch.zeros(d, d, d)
    index = [d // 2] * 3
    index[2 - axis] += 1
    volume[tuple(index)] = d**1.5
    k = fourier.half_frequencies_xyz(d)[..., axis]
    expected = torch.polar(torch.ones_like(k), -2 * torch.pi * k)
    torch.testing.assert_close(fourier.rfft3_centred(volume), expected, atol=1e-5, rtol=0)


def test_white_noise_stays_white_with_variance_one():
    noise = random_array(200, 32, 32)
    power = fourier.rfft2_centred(noise).abs().square()
    assert power.mean() == pytest.approx(1.0, abs=0.01)
    shell = (fourier.half_frequencies_xy(32).norm(dim=-1) * 32).round().long()
    by_shell = torch.stack([power[:, shell == s].mean() for s in range(1, 17)])
    assert (by_shell - 1).abs().max() < 0.06
    volume_power = fourier.rfft3_centred(random_array(4, 24, 24, 24)).abs().square()
    assert volume_power.mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_are_transformed_in_float32(dtype):
    images = (random_array(3, 16, 16) * 10).to(dtype)
    found = fourier.rfft2_centred(images)
    assert found.dtype == torch.complex64
    torch.testing.assert_close(found, fourier.rfft2_centred(images.float()))


def test_padding_and_cropping_keep_the_centre():
    image = torch.zeros(6, 6)
    image[3, 3], image[2, 5] = 1.0, 2.0
    padded = fourier.pad_centred(image, 10)
    assert padded.shape == (10, 10)
    assert padded[5, 5] == 1.0
    assert padded[4, 7] == 2.0
    assert padded.sum() == 3.0
    torch.testing.assert_close(fourier.pad_centred(padded, 6), image)
    volume = random_array(2, 6, 6, 6)
    larger = fourier.pad_centred(volume, 8, ndim=3)
    assert larger.shape == (2, 8, 8, 8)
    torch.testing.assert_close(larger[:, 1:7, 1:7, 1:7], volume)


@pytest.mark.parametrize("ndim", [2, 3])
def test_completed_half_equals_the_full_transform(ndim):
    """Blank one member of each pair on the plane kx = 0: completing puts exactly that back, and nothing else."""
    d = 8
    array = random_array(2, *[d] * ndim)
    whole = (fourier.rfft2_centred if ndim == 2 else fourier.rfft3_centred)(array)
    k = (fourier.half_frequencies_xy if ndim == 2 else fourier.half_frequencies_xyz)(d)
    blank = (k[..., 0] == 0) & ((k[..., -1] < 0) & (k[..., -1] > -0.5))
    if ndim == 3:
        blank |= (k[..., 0] == 0) & (k[..., 2] == 0) & (k[..., 1] < 0) & (k[..., 1] > -0.5)
        blank &= (k[..., 1] > -0.5) & (k[..., 2] > -0.5)
    half = torch.where(blank, 0, whole)
    assert (half != whole).any()
    fourier.complete_friedel(half, ndim=ndim)
    torch.testing.assert_close(half, whole)


@pytest.mark.parametrize(("d", "small"), [(16, 8), (12, 10), (20, 14)])
def test_crop_keeps_every_coefficient_below_the_new_nyquist_and_nothing_else(d, small):
    """By frequency in cycles per field, looked up one by one; coefficients times small / d."""
    images = random_array(3, d, d)
    whole, cropped = fourier.rfft2_centred(images), fourier.rfft2_centred(fourier.fourier_crop(images, small))
    n = small // 2
    for ky in range(-n, n):
        for kx in range(n + 1):
            expected = whole[:, ky % d, kx] * (small / d) if max(abs(ky), kx) < n else torch.zeros(3)
            torch.testing.assert_close(cropped[:, ky % small, kx], expected.to(cropped.dtype), atol=1e-5, rtol=1e-5)


def test_crop_keeps_pixel_values_and_the_centre():
    """A smooth blob, wide enough to have no detail beyond the new Nyquist, on pixels twice and 4/3 as large."""
    d = 48
    for small in (24, 36):
        y, x = (torch.arange(d) - d // 2)[:, None], (torch.arange(d) - d // 2)[None]
        blob = torch.exp(-((x - 3.0).square() + (y + 5.0).square()) / (2 * 4.0**2))
        at = (torch.arange(small) - small // 2) * (d / small)
        expected = torch.exp(-((at[None] - 3.0).square() + (at[:, None] + 5.0).square()) / (2 * 4.0**2))
        torch.testing.assert_close(fourier.fourier_crop(blob, small), expected, atol=1e-4, rtol=0)


def test_crop_in_two_steps_is_a_crop_in_one():
    images = random_array(2, 24, 24)
    torch.testing.assert_close(
        fourier.fourier_crop(fourier.fourier_crop(images, 16), 10), fourier.fourier_crop(images, 10)
    )
    assert fourier.fourier_crop(images, 24) is images


def test_crop_takes_half_precision_and_averages_white_noise():
    noise = random_array(64, 32, 32)
    small = fourier.fourier_crop(noise.half(), 16)
    assert small.dtype == torch.float32
    assert small.std() == pytest.approx(15 / 16 * 0.5, rel=0.02)  # 15 of 16 frequencies along each axis, values halved
    torch.testing.assert_close(small.mean(dim=(1, 2)), noise.mean(dim=(1, 2)), atol=1e-3, rtol=0)
