"""Simulated tomograms hold each particle at its place, in its pose and state, whatever file names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomodrgn as td
from tomodrgn.analysis.placement import render_tomogram, score_hands
from tomodrgn.io.mrc import open_tomogram
from tomodrgn.particles.position_set import Positions, tilt_series_of
from tomodrgn.particles.simulate import read_truth, truth_volumes
from tomodrgn.particles.simulated_formats import FORMATS

SMALL: dict[str, Any] = {"n_particles": 16, "n_tilts": 3, "n_tomograms": 2, "pixel_size_angst": 10.0, "seed": 3}
VOXEL = 30.0


def placed(particles: td.ParticleSet, folder: Path) -> Positions:
    own = folder / "reconstruction" / "positions.star"
    return td.read_positions(own if own.exists() else particles.source.path).aligned_to(particles).positions


@pytest.mark.parametrize("dialect", FORMATS)
def test_every_dialect_has_tomograms_and_positions_that_fit(tmp_path, dialect):
    particles = td.simulate_particles(tmp_path, dialect=dialect, tomograms=True, noise=False, **SMALL)
    positions, truth, volumes = placed(particles, tmp_path), read_truth(tmp_path), truth_volumes(tmp_path)
    assert len(positions) == 16
    labels = truth.loc[positions.particle_id, "label"].to_numpy()
    maps = np.stack([volumes[f"state_{i}"] for i in range(3)])
    for name in ("TS_001", "TS_002"):
        tomogram, voxel = open_tomogram(tmp_path / "reconstruction" / f"{name}_{VOXEL:.2f}Apx.mrc")
        assert (voxel, tomogram.shape, tomogram.dtype) == (VOXEL, (60, 240, 240), np.float16)
        rows = np.array([tilt_series_of(str(t)) == name for t in positions.tomogram])
        own = positions.take(rows)
        made = render_tomogram(
            own, maps, 10.0, shape_zyx=tomogram.shape, tomogram_voxel_angst=VOXEL, map_of=labels[rows]
        )
        assert np.corrcoef(made.ravel(), tomogram.ravel())[0, 1] > 0.9
        wrong = render_tomogram(
            own, maps, 10.0, shape_zyx=tomogram.shape, tomogram_voxel_angst=VOXEL, map_of=(labels[rows] + 1) % 3
        )
        assert np.corrcoef(wrong.ravel(), tomogram.ravel())[0, 1] < np.corrcoef(made.ravel(), tomogram.ravel())[0, 1]


def test_noise_is_of_variance_1_and_tells_the_hand(tmp_path):
    particles = td.simulate_particles(tmp_path / "a", dialect="warptools", tomograms=True, **SMALL)
    clean = td.simulate_particles(tmp_path / "b", dialect="warptools", tomograms=True, noise=False, **SMALL)
    name = f"reconstruction/TS_001_{VOXEL:.2f}Apx.mrc"
    noisy, signal = (np.asarray(open_tomogram(tmp_path / k / name)[0], np.float32) for k in "ab")
    assert (noisy - signal).std() == pytest.approx(1, abs=0.01)
    own = placed(particles, tmp_path / "a")
    own = own.take(own.tomogram == "TS_001.tomostar")
    z, y, x = (np.arange(n) * VOXEL for n in signal.shape)
    about = []
    for place in own.position_angst:
        square = (z[:, None, None] - place[2]) ** 2 + (y[:, None] - place[1]) ** 2 + (x - place[0]) ** 2
        about.append(signal[square < 100.0**2].var())
    assert np.mean(about) == pytest.approx(0.5, rel=0.1)
    hand = score_hands(noisy, VOXEL, own, truth_volumes(tmp_path / "a")["consensus"], voxel_size_angst=10.0)
    assert not hand.mirrored_is_better
    assert not hand.dark
    assert len(clean) == len(particles)


def test_without_them_nothing_is_written_and_images_are_the_same(tmp_path):
    from tomodrgn.particles.dataset import TiltDataset

    plain = td.simulate_particles(tmp_path / "a", **SMALL)
    more = td.simulate_particles(tmp_path / "b", tomograms=True, **SMALL)
    assert not (tmp_path / "a" / "reconstruction").exists()
    rows = np.arange(plain.n_images)
    np.testing.assert_array_equal(TiltDataset(plain).read_images(rows), TiltDataset(more).read_images(rows))
    td.simulate_particles(tmp_path / "b", overwrite=True, **SMALL)
    assert not (tmp_path / "b" / "reconstruction").exists()
