"""FSC against a naive loop; resolution, low-pass and mirror against known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tomodrgn.imaging import fourier, resolution


def naive_fsc(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The definition on the full transform, voxel by voxel."""
    d = len(a)
    fa, fb = np.fft.fftn(a), np.fft.fftn(b)
    cross, power_a, power_b = (np.zeros(2 * d) for _ in range(3))
    for index in np.ndindex(a.shape):
        k = [i if i <= d // 2 else i - d for i in index]
        shell = round(float(np.sqrt(sum(x * x for x in k))))
        cross[shell] += (fa[index] * fb[index].conj()).real
        power_a[shell] += abs(fa[index]) ** 2
        power_b[shell] += abs(fb[index]) ** 2
    return (cross / np.sqrt(np.maximum(power_a * power_b, 1e-300)))[: d // 2 + 1]


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    common = rng.normal(size=(10, 10, 10))
    return (common + rng.normal(size=common.shape)).astype(np.float32), (
        common + 0.5 * rng.normal(size=common.shape)
    ).astype(np.float32)


def test_fsc_equals_the_naive_loop(maps):
    a, b = maps
    found = resolution.fourier_shell_correlation(a, b)
    assert found.shape == (6,)
    np.testing.assert_allclose(found, naive_fsc(a, b), atol=1e-6)
    assert 0.3 < found[2:].mean() < 0.9


def test_fsc_within_a_mask_is_that_of_the_masked_maps(maps):
    a, b = maps
    mask = np.random.default_rng(3).uniform(size=a.shape)
    found = resolution.fourier_shell_correlation(a, b, mask)
    np.testing.assert_allclose(found, naive_fsc(a * mask, b * mask), atol=1e-6)
    assert np.abs(found - resolution.fourier_shell_correlation(a, b)).max() > 1e-3


def test_fsc_of_a_map_with_itself_its_negative_noise_and_nothing(maps):
    a, _ = maps
    np.testing.assert_allclose(resolution.fourier_shell_correlation(a, 3 * a), 1.0)
    np.testing.assert_allclose(resolution.fourier_shell_correlation(a, -a), -1.0)
    assert (resolution.fourier_shell_correlation(a, np.zeros_like(a)) == 0).all()
    one, other = np.random.default_rng(0).normal(size=(2, 32, 32, 32))
    assert np.abs(resolution.fourier_shell_correlation(one, other)[4:]).max() < 0.15


@pytest.mark.parametrize(
    ("shapes", "mask", "words"),
    [
        (((8, 8, 8), (10, 10, 10)), None, "two cubes of one even side"),
        (((8, 8, 6), (8, 8, 6)), None, "two cubes"),
        (((8, 8), (8, 8)), None, "two cubes"),
        (((7, 7, 7), (7, 7, 7)), None, "even side"),
        (((8, 8, 8), (8, 8, 8)), (6, 6, 6), "mask of shape"),
    ],
)
def test_fsc_refuses_what_it_cannot_compare(shapes, mask, words):
    function = getattr(resolution.fourier_shell_correlation, "__wrapped__", resolution.fourier_shell_correlation)
    with pytest.raises(ValueError, match=words):
        function(np.zeros(shapes[0]), np.zeros(shapes[1]), None if mask is None else np.zeros(mask))


def test_resolution_at_the_crossing():
    """Box 20, 2 A: shell s is 40 / s A. Between shells 3 (0.7) and 4 (0.3) 0.5 is crossed at shell 3.5."""
    fsc = np.array([1.0, 1.0, 0.9, 0.7, 0.3, 0.6, 0.1, 0.0, 0.0, 0.0, 0.0])
    assert resolution.resolution_at(fsc, 2.0, 0.5) == pytest.approx(40 / 3.5)
    assert resolution.resolution_at(fsc, 2.0) == pytest.approx(40 / (5 + (0.6 - 0.143) / 0.5))
    assert resolution.resolution_at(np.full(11, 0.9), 2.0) == 4.0
    assert resolution.resolution_at(np.array([1.0] + [0.0] * 10), 2.0) == pytest.approx(40.0)
    assert resolution.resolution_at(np.array([1.0, 1.0] + [0.0] * 9), 2.0, 0.5) == pytest.approx(40 / 1.5)


def test_shell_resolution():
    assert resolution.shell_resolution_angst(8, 3.0).tolist() == [np.inf, 24.0, 12.0, 8.0, 6.0]


def test_lowpass_keeps_what_is_coarser_and_removes_what_is_finer():
    """Box 32, 2 A, 16 A: cutoff at shell 4, edge from 3 to 5, half on shell 4."""
    volume = torch.randn(2, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    before = fourier.rfft3_centred(volume)
    after = fourier.rfft3_centred(resolution.lowpass_filter(volume, 16.0, 2.0))
    radius = fourier.half_frequencies_xyz(32).norm(dim=-1) * 32
    torch.testing.assert_close(after[:, radius <= 3], before[:, radius <= 3], atol=1e-4, rtol=0)
    assert after[:, radius >= 5].abs().max() < 1e-4
    on_edge = (radius - 4).abs() < 1e-4
    torch.testing.assert_close(after[:, on_edge], before[:, on_edge] / 2, atol=1e-3, rtol=0)


def test_mirror_flips_z_about_the_centre_and_twice_is_nothing():
    volume = np.zeros((6, 6, 6), np.float32)
    volume[3, 2, 1], volume[4, 5, 0] = 1.0, 2.0
    other = resolution.mirror(volume)
    assert (other[3, 2, 1], other[2, 5, 0]) == (1.0, 2.0)
    stack = np.random.default_rng(0).normal(size=(2, 6, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(resolution.mirror(resolution.mirror(stack)), stack)
    np.testing.assert_array_equal(resolution.mirror(stack)[1], resolution.mirror(stack[1]))
