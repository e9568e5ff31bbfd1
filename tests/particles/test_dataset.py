"""From stacks on disk to batches: the right pixels, one visit a particle, a reader thread that is heard and ends."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator

import mrcfile
import numpy as np
import pytest
import torch

from tests.particles.hand_made import particle_set
from tomodrgn.particles import dataset
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.particle_set import ParticleSet

COUNTS = [3, 1, 4, 2, 3]


def numbered(dtype: type = np.float32) -> list[np.ndarray]:
    """Stacks whose every pixel is the image's row in the set."""
    ends = np.cumsum(COUNTS)
    rows = [np.arange(end - count, end) for end, count in zip(ends, COUNTS, strict=True)]
    return [np.broadcast_to(r[:, None, None], (len(r), 4, 4)).astype(dtype) for r in rows]


@pytest.fixture
def particles(tmp_path) -> ParticleSet:
    return particle_set(tmp_path, numbered())


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-tilt-images"]


def no_reader_is_left(seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while reader_threads() and time.monotonic() < end:
        time.sleep(0.01)
    return not reader_threads()


def test_images_come_in_the_order_asked_for_across_stacks(particles):
    rows = np.array([12, 0, 5, 3, 4, 1, 9, 0])
    images = TiltDataset(particles).read_images(rows)
    assert images.dtype == np.float32
    assert (images == rows[:, None, None]).all()


def test_slice_numbers_of_the_set_are_followed(tmp_path):
    stack = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((4, 4), np.float32)
    particles = particle_set(tmp_path, [stack], slice_index=np.array([4, 0, 2, 2, 1]))
    assert TiltDataset(particles).read_images(np.arange(5))[:, 0, 0].tolist() == [4, 0, 2, 2, 1]


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.int16, np.uint16])
def test_every_stored_type_becomes_float32(tmp_path, dtype):
    images = TiltDataset(particle_set(tmp_path, numbered(dtype))).read_images(np.arange(13))
    assert images.dtype == np.float32
    assert images[:, 1, 2].tolist() == list(range(13))


def test_batch_says_whose_image_is_whose(particles):
    batch = TiltDataset(particles).read_batch(np.array([2, 0]), [np.array([5, 7]), np.array([0, 1, 2])])
    assert batch.particles.tolist() == [2, 0]
    assert batch.image_rows.tolist() == [5, 7, 0, 1, 2]
    assert batch.owner.tolist() == [0, 0, 1, 1, 1]
    assert batch.images[:, 0, 0].tolist() == [5, 7, 0, 1, 2]


def test_few_stacks_are_open_at_once(particles, monkeypatch):
    monkeypatch.setattr(dataset, "OPEN_STACKS", 2)
    reader = TiltDataset(particles)
    for _ in range(2):
        assert reader.read_images(np.arange(13))[:, 0, 0].tolist() == list(range(13))
        assert len(reader._open) == 2


def test_stack_that_changed_is_refused_by_name(particles):
    path = particles.stack_paths[2]
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.zeros((3, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"p2\.mrcs with 3 images of 4 px, expected image 4 of 4 px"):
        TiltDataset(particles).read_images(np.arange(4, 8))
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.zeros((4, 6, 6), np.float32))
    with pytest.raises(ValueError, match=r"p2\.mrcs with 4 images of 6 px"):
        TiltDataset(particles).read_images(np.arange(4, 8))


@pytest.mark.filterwarnings("ignore::RuntimeWarning:mrcfile", "ignore::RuntimeWarning:numpy")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_pixels_that_are_no_numbers_are_refused_by_name(tmp_path, value, dtype):
    images = numbered(dtype)
    images[2][1, 3, 0] = value
    reader = TiltDataset(particle_set(tmp_path, images))
    assert len(reader.read_images(np.arange(4))) == 4
    with pytest.raises(ValueError, match=r"not finite in image 2 of .*p2\.mrcs \(particle 'p2'; 1 of 13 images read\)"):
        reader.read_images(np.arange(13))
    images[2][1] = np.finfo(np.float16).max  # sums of large numbers are numbers
    assert len(TiltDataset(particle_set(tmp_path / "large", images)).read_images(np.arange(13))) == 13


# --- which particles and images ---------------------------------------------------------------------------------------


def test_without_a_generator_the_order_is_that_of_the_set(particles):
    batches = sample_batches(particles, 2)
    assert [chosen.tolist() for chosen, _ in batches] == [[0, 1], [2, 3], [4]]
    assert [rows.tolist() for _, images in batches for rows in images] == [
        [0, 1, 2], [3], [4, 5, 6, 7], [8, 9], [10, 11, 12],
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_each_particle_once_with_all_its_images(particles, batch_size):
    batches = sample_batches(particles, batch_size, generator=np.random.default_rng(0))
    assert all(len(chosen) <= batch_size for chosen, _ in batches)
    assert sorted(np.concatenate([chosen for chosen, _ in batches])) == [0, 1, 2, 3, 4]
    for chosen, images in batches:
        for particle, rows in zip(chosen, images, strict=True):
            assert rows.tolist() == list(range(particles.offsets[particle], particles.offsets[particle + 1]))


def flat(batches: list[tuple[np.ndarray, list[np.ndarray]]]) -> list[tuple[int, tuple[int, ...]]]:
    return [(int(p), tuple(r.tolist())) for chosen, rows in batches for p, r in zip(chosen, rows, strict=True)]


def test_order_and_images_follow_the_seed(particles):
    def draw(seed: int) -> list[tuple[int, tuple[int, ...]]]:
        return flat(sample_batches(particles, 2, tilts_per_particle=2, generator=np.random.default_rng(seed)))

    assert draw(7) == draw(7)
    assert len({tuple(draw(seed)) for seed in range(8)}) > 4
    assert len({tuple(p for p, _ in draw(seed)) for seed in range(8)}) > 4


def test_some_images_are_drawn_without_replacement_and_few_are_all_taken(particles):
    drawn = set()
    for seed in range(20):
        for particle, rows in flat(
            sample_batches(particles, 3, tilts_per_particle=3, generator=np.random.default_rng(seed))
        ):
            start, stop = particles.offsets[particle], particles.offsets[particle + 1]
            assert len(set(rows)) == len(rows) == min(3, stop - start)
            assert set(rows) <= set(range(start, stop))
            assert list(rows) == sorted(rows)
            if particle == 2:
                drawn.add(rows)
    assert drawn == {(4, 5, 6), (4, 5, 7), (4, 6, 7), (5, 6, 7)}
    first = flat(sample_batches(particles, 5, tilts_per_particle=2))
    assert first == [(0, (0, 1)), (1, (3,)), (2, (4, 5)), (3, (8, 9)), (4, (10, 11))]


def test_first_tilts_are_those_of_the_lowest_exposure(particles):
    dose = np.array([9.0, 0.0, 3.0, 0.0, 3.0, 2.0, 1.0, 0.0, 0.0, 3.0, 5.0, 5.0, 5.0])
    exposed = dataclasses.replace(particles, dose_e_per_angst2=dose)
    generator = np.random.default_rng(0)
    for _ in range(3):
        batches = sample_batches(exposed, 2, tilts_per_particle=2, tilt_sampling="first", generator=generator)
        assert dict(flat(batches)) == {0: (1, 2), 1: (3,), 2: (6, 7), 3: (8, 9), 4: (10, 11)}


# --- reading ahead ----------------------------------------------------------------------------------------------------


def test_batches_come_in_order_and_the_thread_ends(particles):
    choices = sample_batches(particles, 2, generator=np.random.default_rng(3))
    found = list(TiltDataset(particles).batches(choices))
    assert [b.particles.tolist() for b in found] == [chosen.tolist() for chosen, _ in choices]
    for batch in found:
        torch.testing.assert_close(batch.images[:, 0, 0], batch.image_rows.float())
    assert no_reader_is_left()


def test_error_of_the_reader_is_raised_where_batches_are_used(particles):
    choices = sample_batches(particles, 1)
    particles.stack_paths[3].unlink()
    seen = []
    with pytest.raises(FileNotFoundError, match=r"p3\.mrcs"):
        seen += [batch.particles.tolist() for batch in TiltDataset(particles).batches(choices)]
    found = TiltDataset(particles).batches(choices)
    assert [next(found).particles.tolist() for _ in range(3)] == [[0], [1], [2]]
    with pytest.raises(FileNotFoundError, match=r"p3\.mrcs"):
        next(found)
    assert no_reader_is_left()


def test_error_of_the_choices_is_raised_too(particles):
    def choices() -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        yield sample_batches(particles, 1)[0]
        raise RuntimeError("no more choices")

    with pytest.raises(RuntimeError, match="no more choices"):
        list(TiltDataset(particles).batches(choices()))
    assert no_reader_is_left()


def test_reader_stays_a_few_ahead_and_stops_when_left(particles):
    asked = 0

    def endless() -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        nonlocal asked
        while True:
            asked += 1
            yield sample_batches(particles, 1)[asked % 5]

    found = TiltDataset(particles).batches(endless())
    next(found)
    time.sleep(0.3)
    assert 2 <= asked <= 5
    found.close()
    assert no_reader_is_left()
    assert asked <= 6


def test_reading_goes_on_while_a_batch_is_used(particles):
    """The second batch is read although the first is still being worked on."""
    second = threading.Event()

    def choices() -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        yield sample_batches(particles, 1)[0]
        second.set()
        yield sample_batches(particles, 1)[1]

    found = TiltDataset(particles).batches(choices())
    next(found)
    assert second.wait(5)
    assert next(found).particles.tolist() == [1]
    assert list(found) == []
