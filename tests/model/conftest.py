"""Fixtures of the model tests."""

from __future__ import annotations

import pytest

from tests.model.small_models import noise_images
from tomodrgn.particles.preprocess import Preprocessor


@pytest.fixture(scope="session")
def preprocessor(tmp_path_factory: pytest.TempPathFactory) -> Preprocessor:
    return noise_images(tmp_path_factory.mktemp("noise"))
