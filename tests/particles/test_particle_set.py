"""One order, one identity: subsets, image choices, frames, and values that cannot be changed."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodrgn.particles.particle_set import CtfParameters, ParticleSet, SourceStar, numeric_columns


def made_up(counts: list[int]) -> ParticleSet:
    """Particles p0, p1 ... with the given numbers of images; every per-image value is its row."""
    n, k = sum(counts), len(counts)
    row = np.arange(n, dtype=np.float32)
    names = ("defocus_u_angst", "defocus_v_angst", "defocus_angle_deg", "phase_shift_deg", "voltage_kv", "cs_mm",
             "amplitude_contrast")  # fmt: skip
    table = pd.DataFrame({"rlnGroupName": [f"p{i}" for i, c in enumerate(counts) for _ in range(c)],
                          "rlnTomoName": "001", "userScore": [f"{x}.50" for x in range(n)], "userNote": "a",
                          "n_tilts": "9"}, dtype=str)  # fmt: skip
    return ParticleSet(
        dialect="warp",
        particle_id=np.array([f"p{i}" for i in range(k)]),
        tomogram=np.array([f"t{i % 2}" for i in range(k)]),
        half_set=np.arange(k) % 3,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        rotations=row[:, None, None] + np.zeros((n, 3, 3), dtype=np.float32),
        shifts_px=np.stack([row, -row], axis=1),
        ctf=CtfParameters(**{name: row + i for i, name in enumerate(names)}),
        dose_e_per_angst2=row,
        tilt_deg=row,
        image_scale=row,
        stack_paths=(Path("a.mrcs"),),
        stack_index=np.zeros(n, dtype=int),
        slice_index=np.arange(n),
        box_px=8,
        pixel_size_angst=2.0,
        ctf_premultiplied=False,
        dose_weighted=False,
        invert=True,
        source=SourceStar(path=Path("made_up.star"), particles={"": table}, particles_block=""),
        source_row=np.arange(n),
        source_slot=np.zeros(n, dtype=int),
    )


def test_subset_keeps_the_order_of_the_set_and_takes_everything_along() -> None:
    particles = made_up([2, 3, 1, 2])
    chosen = particles.subset(["p3", "p1"])
    assert chosen.particle_id.tolist() == ["p1", "p3"]
    assert chosen.dose_e_per_angst2.tolist() == [2, 3, 4, 6, 7]
    assert chosen.slice_index.tolist() == [2, 3, 4, 6, 7]
    assert chosen.ctf is not None
    assert chosen.ctf.table()[:, 1].tolist() == [3, 4, 5, 7, 8]
    assert chosen.offsets.tolist() == [0, 3, 5]
    assert chosen.tomogram.tolist() == ["t1", "t1"]
    assert chosen.half_set.tolist() == [1, 0]
    assert particles.subset(["p3", "p1"], invert=True).particle_id.tolist() == ["p0", "p2"]
    assert particles.subset(SimpleNamespace(particle_ids={"p2"})).particle_id.tolist() == ["p2"]


def test_subset_images_drops_particles_without_an_image() -> None:
    particles = made_up([2, 3, 1])
    left = particles.subset_images(np.array([False, True, False, False, False, True]))
    assert left.particle_id.tolist() == ["p0", "p2"]
    assert left.dose_e_per_angst2.tolist() == [1, 5]
    assert left.tilt_counts.tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"\(2,\) flags, expected one for each of 6 images"):
        particles.subset_images(np.array([True, False]))
    with pytest.raises(ValueError, match="none of the 3 particles"):
        particles.subset_images(np.zeros(6, dtype=bool))


def cuts(particles: ParticleSet) -> list[tuple[str, tuple[int, int]]]:
    return list(zip(particles.particle_id, pairwise(particles.offsets.tolist()), strict=True))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_a_subset_is_what_a_loop_would_take(counts: list[int], data: st.DataObject) -> None:
    particles = made_up(counts)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=sum(counts), max_size=sum(counts))))
    if not keep.any():
        return
    left = particles.subset_images(keep)
    expected = [(name, [r for r in range(a, b) if keep[r]]) for name, (a, b) in cuts(particles)]
    found = [(name, left.source_row[a:b].tolist()) for name, (a, b) in cuts(left)]
    assert found == [(name, rows) for name, rows in expected if rows]


def test_unknown_ids_are_counted_and_named() -> None:
    particles = made_up([1, 1])
    with pytest.raises(KeyError, match=r"2 of 3 particle ids.*among the 2 particles of made_up\.star.*'x', 'y'"):
        particles.subset(["p0", "x", "y"])
    with pytest.raises(ValueError, match="none of the 2 particles"):
        particles.subset([])
    assert particles.positions_of(["p1", "p0", "p1"]).tolist() == [1, 0, 1]


def test_images_of_and_image_particle() -> None:
    particles = made_up([2, 3, 1])
    assert particles.images_of([2, 0]).tolist() == [5, 0, 1]
    assert particles.images_of([]).tolist() == []
    assert particles.image_particle.tolist() == [0, 0, 1, 1, 1, 2]


def test_arrays_cannot_be_changed_and_the_callers_stay_his() -> None:
    particles = made_up([2])
    with pytest.raises(ValueError, match="read-only"):
        particles.dose_e_per_angst2[0] = 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        particles.box_px = 3  # type: ignore[misc]
    dose = np.zeros(2, dtype=np.float32)
    dataclasses.replace(particles, dose_e_per_angst2=dose)
    dose[0] = 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": np.array([0, 1])}, "offsets that do not cut 3 images into 2 particles"),
        ({"offsets": np.array([0, 0, 3])}, "'p0' without an image"),
        ({"offsets": np.array([0, 3, 2])}, "offsets that do not cut"),
        ({"tomogram": np.array(["a"])}, "1 values of tomogram, expected one for each of 2 particles"),
        ({"slice_index": np.array([0])}, "1 values of slice_index, expected one for each of 3 images"),
        ({"particle_id": np.array(["a", "a"])}, "'a' 2 times"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    changes: dict[str, np.ndarray], message: str, without_shape_checks: None
) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(made_up([1, 2]), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 sets of CTF parameters"):
        dataclasses.replace(made_up([1, 2]), ctf=made_up([1]).ctf)


def test_frame_has_numbers_as_numbers_names_as_names_and_its_own_columns() -> None:
    frame = made_up([2, 3]).frame()
    assert frame.index.tolist() == ["p0", "p1"]
    assert frame["userScore"].tolist() == [0.5, 2.5]
    assert frame["rlnTomoName"].tolist() == ["001", "001"]
    assert frame["userNote"].tolist() == ["a", "a"]
    assert frame["n_tilts"].tolist() == [2, 3]
    assert frame["tomogram"].tolist() == ["t0", "t1"]


def test_numeric_columns_keep_text_that_is_no_number_and_know_a_written_nan() -> None:
    text = pd.DataFrame(
        {"a": ["1", "nan"], "b": ["1", "x"], "c": ["1e5", "-inf"], "rlnGroupName": ["01", "2"]}, dtype=str
    )
    table = numeric_columns(text)
    assert np.isnan(table["a"].to_numpy(float)[1])
    assert table["b"].tolist() == ["1", "x"]
    assert table["c"].tolist() == [1e5, -np.inf]
    assert table["rlnGroupName"].tolist() == ["01", "2"]
