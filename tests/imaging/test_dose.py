"""Exposure and tilt weights against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tomodrgn.imaging import dose

RADIUS = torch.tensor([0.0, 0.05, 0.1, 0.25])
KILOVOLT = torch.tensor([300.0, 200.0])


def test_critical_exposure_by_hand():
    """0.1 to the power -1.6649 is 10^1.6649 = 46.2275: 0.24499 * 46.2275 + 2.8141 = 14.1393 e/A^2 at 10 A."""
    at_10_angst = dose.critical_exposure(torch.tensor([0.1]), KILOVOLT)[:, 0]
    assert at_10_angst[0] == pytest.approx(14.1393, abs=1e-3)
    assert at_10_angst[1] == pytest.approx(0.8 * 14.1393, abs=1e-3)


def test_critical_exposure_against_the_formula_and_the_infinite_mean():
    found = dose.critical_exposure(RADIUS, KILOVOLT)
    assert found[:, 0].isinf().all()
    for i, factor in enumerate((1.0, 0.8)):
        for j in (1, 2, 3):
            expected = factor * (0.24499 * math.pow(float(RADIUS[j]), -1.6649) + 2.8141)
            assert found[i, j] == pytest.approx(expected, rel=1e-5)


def test_exposure_weight_by_hand():
    """Exposed to twice the critical exposure, a frequency keeps 1/e of its amplitude; the mean keeps all."""
    weights = dose.exposure_weights(torch.tensor([0.0, 0.1]), torch.tensor([2 * 14.1393, 0.0]), torch.full((2,), 300.0))
    assert weights[0].tolist() == pytest.approx([1.0, math.exp(-1)], abs=1e-4)
    assert weights[1].tolist() == [1.0, 1.0]


def test_exposure_mask_ends_at_the_optimal_exposure():
    """2.51284 * 14.1393 = 35.530 e/A^2 is where 10 A ends; coarser detail stays longer, at 200 kV less long."""
    exposure = torch.tensor([35.4, 35.7, 35.4])
    mask = dose.exposure_mask(torch.tensor([0.0, 0.05, 0.1]), exposure, torch.tensor([300.0, 300.0, 200.0]))
    assert mask.tolist() == [[True, True, True], [True, True, False], [True, True, False]]


def test_tilt_weight_is_the_cosine_of_degrees():
    angles = torch.tensor([0.0, 60.0, -60.0, 45.0, 89.0, 100.0, float("nan")])
    expected = [1.0, 0.5, 0.5, math.sqrt(0.5), math.cos(math.radians(89)), 0.0, 1.0]
    assert dose.tilt_weights(angles).tolist() == pytest.approx(expected, abs=1e-6)
