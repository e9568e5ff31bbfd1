"""Fixtures of the particle tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import config

from tests.particles.small_sets import WarpSeries, WarpToolsSet


@pytest.fixture
def warp(tmp_path: Path) -> WarpSeries:
    return WarpSeries(tmp_path / "warp")


@pytest.fixture
def warptools(tmp_path: Path) -> WarpToolsSet:
    return WarpToolsSet(tmp_path / "warptools")


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """As for a user: jaxtyping does not look first."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def real_set(shared_data: Path) -> Path:
    """The optimisation set of 40 real particles."""
    return shared_data / "warptools/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
