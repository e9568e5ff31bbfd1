"""Half maps of a known resolution: the mask adds nothing, and each side of a box has its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.analysis.planted import SEEDS
from tomodrgn.analysis.resolution import correlate_maps, half_map_fsc, local_resolution, randomise_phases
from tomodrgn.imaging import fourier
from tomodrgn.imaging.grid import soft_spherical_mask
from tomodrgn.imaging.resolution import fourier_shell_correlation, lowpass_filter, resolution_at

BOX, VOXEL = 32, 2.0
RADIUS = (fourier.half_frequencies_xyz(BOX).norm(dim=-1) * BOX).numpy()


def half_maps(seed: int, decay: float, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A particle whose detail fades, in two halves with white noise; a mask about it; and the shell of FSC 0.143.

    Noise beyond the mask is cut off by it, so that the FSC is ``S / (S + N <mask^2>)`` of the powers S and N.
    """
    rng = np.random.default_rng(seed)
    mask = soft_spherical_mask(BOX, 0.55, 0.3).numpy()
    half = fourier.rfft3_centred(torch.from_numpy(rng.normal(size=(BOX,) * 3) * mask))
    half *= torch.exp(-torch.from_numpy((RADIUS / decay) ** 2))
    shells = np.arange(BOX // 2 + 1)
    power = np.array([(half.abs() ** 2).numpy()[RADIUS.round() == shell].mean() for shell in shells])
    expected = power / (power + noise**2 * (mask**2).mean())
    shell = float(BOX * VOXEL / resolution_at(expected, VOXEL))
    halves = (fourier.irfft3_centred(half, BOX).numpy() + noise * rng.normal(size=(2, BOX, BOX, BOX))).astype(
        np.float32
    )
    return halves[0], halves[1], mask, shell


# --- phases -----------------------------------------------------------------------------------------------------------


def test_random_phases_keep_amplitudes_and_coarse_shells():
    volume = np.random.default_rng(0).normal(size=(BOX,) * 3).astype(np.float32) + 3
    other = randomise_phases(volume, 6, seed=1)
    before, after = (fourier.rfft3_centred(torch.from_numpy(v)).numpy() for v in (volume, other))
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-3)
    coarse = RADIUS.round() < 6
    np.testing.assert_allclose(after[coarse], before[coarse], atol=1e-3)
    fsc = fourier_shell_correlation(volume, other)
    assert (fsc[:6] > 0.999).all()
    assert np.abs(fsc[7:]).max() < 0.2
    np.testing.assert_array_equal(other, randomise_phases(volume, 6, seed=1))
    assert np.abs(other - randomise_phases(volume, 6, seed=2)).max() > 1
    with pytest.raises(ValueError, match="Got shell 0"):
        randomise_phases(volume, 0)


# --- FSC of half maps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("decay", [5.0, 6.0])
def test_resolution_of_half_maps_is_that_of_their_signal(decay, seed):
    a, b, mask, shell = half_maps(seed, decay)
    table = half_map_fsc(a, b, VOXEL, mask=mask, seed=seed)
    assert BOX * VOXEL / table.attrs["resolution_angst"] == pytest.approx(shell, abs=1.2)
    start = table.attrs["randomised_from"]
    assert table.loc[start, "unmasked"] < 0.8 <= table.loc[start - 1, "unmasked"]
    assert (table["corrected"] == table["masked"])[: start + 2].all()
    assert abs(table["corrected"].iloc[round(shell) + 3 :].mean()) < 0.1
    assert table["resolution_angst"].iloc[4] == pytest.approx(BOX * VOXEL / 4)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tight_mask_on_noise_earns_nothing(seed):
    """A hard, small mask correlates the masked noise with itself; the correction takes that away."""
    rng = np.random.default_rng(seed)
    common = lowpass_filter(torch.from_numpy(rng.normal(size=(BOX,) * 3).astype(np.float32)), 20.0, VOXEL).numpy()
    a, b = (common + 0.3 * rng.normal(size=(2, BOX, BOX, BOX)) + 2.0).astype(np.float32)
    mask = (soft_spherical_mask(BOX, 0.25, 0.01).numpy() > 0.5).astype(np.float32)
    table = half_map_fsc(a, b, VOXEL, mask=mask, seed=seed)
    fine = table.iloc[8:]
    assert fine["masked"].mean() > 0.25
    assert fine["corrected"].mean() < 0.6 * fine["masked"].mean()
    assert fine["randomised"].mean() > 0.2
    assert resolution_at(table["masked"].to_numpy(), VOXEL) < table.attrs["resolution_angst"]


def test_empty_mask_is_refused():
    a, b, mask, _ = half_maps(0, 5.0)
    with pytest.raises(ValueError, match="without a voxel above 0"):
        half_map_fsc(a, b, VOXEL, mask=0 * mask)


# --- local resolution -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_each_half_of_a_box_has_its_own_resolution(seed):
    """Detail to 20 A at low x and to 8 A at high x."""
    rng = np.random.default_rng(seed)
    box = 48
    white = torch.from_numpy(rng.normal(size=(2, box, box, box)).astype(np.float32))
    x = np.arange(box)[None, None, :]
    signal = np.where(x < box // 2, lowpass_filter(white[0], 20.0, VOXEL), lowpass_filter(white[1], 8.0, VOXEL))
    a, b = (signal + 0.5 * rng.normal(size=(2, box, box, box))).astype(np.float32)
    found = local_resolution(a, b, VOXEL)
    low, high = np.median(found[:, :, 8:16]), np.median(found[:, :, -16:-8])
    assert low == pytest.approx(18, abs=4)
    assert high == pytest.approx(8, abs=1.5)
    assert (found[:, :, 8:16] > found[:, :, -16:-8]).mean() > 0.98


def test_local_resolution_of_a_map_with_itself_and_of_noise():
    one, other = np.random.default_rng(0).normal(size=(2, 24, 24, 24)).astype(np.float32)
    np.testing.assert_allclose(local_resolution(one, one, 3.0), 6.0)
    mask = soft_spherical_mask(24, 0.5).numpy()
    found = local_resolution(one, other, 3.0, mask=mask)
    assert np.isnan(found).tolist() == (mask == 0).tolist()
    assert np.nanmedian(found) > 24
    with pytest.raises(ValueError, match=r"window of 0\.0 px"):
        local_resolution(one, other, 3.0, window_px=0.0)


def test_masks_of_another_shape_are_refused():
    one = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    unchecked = getattr(local_resolution, "__wrapped__", local_resolution)  # shapes are checked in tests only
    with pytest.raises(ValueError, match=r"Got a mask of shape \(3, 3, 3\), expected that of the maps, \(24, 24, 24\)"):
        unchecked(one, one, 8.0, mask=np.ones((3, 3, 3)))


# --- correlation ------------------------------------------------------------------------------------------------------


def test_correlations_are_those_of_numpy():
    maps = np.random.default_rng(0).normal(size=(3, 6, 6, 6)).astype(np.float32)
    maps[2] = 5 - 2 * maps[0]
    table = correlate_maps(maps, list("abc"))
    np.testing.assert_allclose(table, np.corrcoef(maps.reshape(3, -1)), atol=1e-6)
    assert table.loc["a", "c"] == pytest.approx(-1)
    region = np.random.default_rng(1).uniform(size=(6, 6, 6))
    weighted = np.cov(maps.reshape(3, -1), aweights=region.ravel())
    spread = np.sqrt(np.diag(weighted))
    np.testing.assert_allclose(correlate_maps(maps, list("abc"), region=region), weighted / np.outer(spread, spread))


def test_flat_maps_and_wrong_regions():
    maps = np.zeros((2, 4, 4, 4), np.float32)
    maps[1] = np.arange(64).reshape(4, 4, 4)
    assert correlate_maps(maps, ["flat", "ramp"]).to_numpy().tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="0 voxels"):
        correlate_maps(maps, ["flat", "ramp"], region=np.zeros((4, 4, 4)))
    with pytest.raises(ValueError, match="1 names for 2 maps"):
        correlate_maps(maps, ["flat"])
