"""Choices of particles and of images: by tomogram, label, half set, exposure, order and list."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.particles.small_sets import WarpSeries
from tomodrgn.particles.choice import (
    half_sets,
    image_list,
    in_tomograms,
    listed_images,
    up_to_dose,
    with_label,
    within_order,
)
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import read_particles


@pytest.fixture
def particles(warp: WarpSeries) -> ParticleSet:
    """Particles 001_0000007 with exposures 9, 3, 6 and T_2_0000007 with 3, 3."""
    read = read_particles(warp.path)
    return dataclasses.replace(read, dose_e_per_angst2=np.array([9.0, 3, 6, 3, 3]))


def test_tomograms(particles: ParticleSet) -> None:
    assert in_tomograms(particles, ["T_2"]).tolist() == [False, True]
    assert in_tomograms(particles, ["T_2", "001", "T_2"]).all()
    with pytest.raises(KeyError, match=r"Got tomogram '1', expected one of the 2 tomograms of .*: 001, T_2"):
        in_tomograms(particles, ["T_2", "1"])


def test_labels(particles: ParticleSet, caplog: pytest.LogCaptureFixture) -> None:
    labels = pd.Series([2, 1, 1], index=["elsewhere", "T_2_0000007", "001_0000007"])
    labels["001_0000007"] = 2
    assert with_label(particles, labels, [1]).tolist() == [False, True]
    assert with_label(particles, labels, ["1", 2]).all()
    with pytest.raises(ValueError, match="Got label '7', expected one of those given to particles: 1, 2"):
        with_label(particles, labels, ["7"])
    assert with_label(particles, labels.drop("001_0000007"), ["1"]).tolist() == [False, True]
    assert "Got no label of 1 of 2 particles" in caplog.text
    assert "['001_0000007']: they count as particles without" in caplog.text
    with pytest.raises(
        ValueError, match=r"labels of 1 particles, first \['elsewhere'\], expected some of .*001_0000007"
    ):
        with_label(particles, labels[["elsewhere"]], ["2"])
    with pytest.raises(ValueError, match="several labels of particle 'T_2_0000007'"):
        with_label(particles, labels.set_axis(["T_2_0000007", "T_2_0000007", "001_0000007"]), ["1"])


def test_exposure_and_order(particles: ParticleSet) -> None:
    assert up_to_dose(particles, 6.0).tolist() == [False, True, True, True, True]
    assert within_order(particles, None, 1).tolist() == [False, True, False, True, False]
    assert within_order(particles, 1, None).tolist() == [True, False, True, False, True]
    assert within_order(particles, 1, 2).tolist() == [False, False, True, False, True]
    assert not within_order(particles, 3, None).any()


def test_listed_images_are_rows_of_the_list_of_images(particles: ParticleSet) -> None:
    table = image_list(particles)
    assert table["tilt"].tolist() == [0, 1, 2, 0, 1]
    assert table["dose_e_per_angst2"].tolist() == [9, 3, 6, 3, 3]
    keep = np.array([True, False, True, False, True])
    assert listed_images(particles, table[keep]).tolist() == keep.tolist()
    assert listed_images(particles, table[keep].astype(str)).tolist() == keep.tolist()
    for tilt in ("3", "-1", "0.5", "x", ""):
        wrong = pd.DataFrame({"particle_id": ["001_0000007"], "tilt": [tilt]})
        with pytest.raises(ValueError, match=f"tilt '{tilt}' of particle '001_0000007', expected .* 0 to 2"):
            listed_images(particles, wrong)
    with pytest.raises(ValueError, match="without tilt, expected the columns particle_id and tilt"):
        listed_images(particles, table[["particle_id"]])
    with pytest.raises(KeyError, match="nobody"):
        listed_images(particles, pd.DataFrame({"particle_id": ["nobody"], "tilt": ["0"]}))


def test_halves_are_of_the_source_or_drawn_and_always_the_same(particles: ParticleSet) -> None:
    known = dataclasses.replace(particles, half_set=np.array([2, 1]))
    assert half_sets(known, seed=3).tolist() == [2, 1]
    drawn = [half_sets(particles, seed=seed).tolist() for seed in range(20)]
    assert {tuple(halves) for halves in drawn} == {(1, 2), (2, 1)}
    assert drawn == [half_sets(particles, seed=seed).tolist() for seed in range(20)]
