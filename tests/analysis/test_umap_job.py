"""UMAP in its own process: the same embedding, told as it comes, stopped when asked, failures in words."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from tests.analysis.planted import as_latents, planted_groups
from tomodrgn.analysis.latent_space import umap_latents
from tomodrgn.analysis.umap_job import UmapJob


def test_it_is_the_same_embedding_and_its_epochs_are_told():
    latents, _ = planted_groups(0, sizes=(60, 40))
    seen, ended = [], []
    job = UmapJob(latents, seed=3, on_progress=lambda done, of: seen.append((done, of)), on_end=ended.append)
    found = job.result(timeout=120.0)
    pd.testing.assert_frame_equal(found, umap_latents(latents, seed=3), check_dtype=False, atol=1e-4)
    assert seen[0] == (0, 0)
    assert seen[-1][0] == seen[-1][1] > 100
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert job.progress == seen[-1]
    assert not job.running
    assert ended == [job]


def test_it_is_cancelled():
    rng = np.random.default_rng(0)
    job = UmapJob(as_latents(rng.normal(size=(20_000, 8))))
    with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        job.result(timeout=0.1)
    began = time.monotonic()
    job.cancel()
    with pytest.raises(RuntimeError, match="it was cancelled"):
        job.result(timeout=30.0)
    assert time.monotonic() - began < 20
    assert not job.running


def test_what_went_wrong_is_said():
    job = UmapJob(as_latents(np.zeros((2, 3))))
    with pytest.raises(RuntimeError, match="2 UMAP components and 15 neighbours for 2 particles"):
        job.result(timeout=60.0)
