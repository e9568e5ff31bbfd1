"""Images are read once: the cache holds what the preprocessing gives, wherever it lies, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

import tomodrgn as td
from tests.training.test_train import SMALL
from tomodrgn.io import mrc
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.preprocess import Preprocessor, estimate_scale
from tomodrgn.training.cached_images import SPARE_BYTES, cache_bytes, cache_images

FABRIC = Fabric(accelerator="cpu", devices=1)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def preprocessor(small_particles):
    config = td.PreprocessConfig(max_radius=0.4)
    return Preprocessor(small_particles, config, scale=estimate_scale(small_particles, config))


def options(gib: float, **changes: object) -> td.TrainConfig:
    return td.TrainConfig(cache_gib=gib, **changes)


@pytest.mark.parametrize("gib", [1.0, 0.0])
def test_batches_are_those_of_the_images_to_half_precision(preprocessor, tmp_path, gib):
    cache = cache_images(preprocessor, tmp_path, options(gib), FABRIC)
    assert isinstance(cache.coefficients, np.memmap) == (gib == 0)
    assert cache.coefficients.nbytes == cache_bytes(preprocessor)
    assert not any(tmp_path.iterdir()), "the file has no name"
    choices = sample_batches(preprocessor.particles, 5, generator=np.random.default_rng(0))
    pairs = zip(preprocessor.with_cache(cache).batches(choices), preprocessor.batches(choices), strict=True)
    for found, wanted in pairs:
        error = (found.values - wanted.values).abs()
        assert 0 < float((error / wanted.values.abs().clamp(min=1e-3)).max()) < 1e-3
        for name in ("particles", "image_rows", "owner", "slot", "ctf", "exposure", "image_weights", "kept"):
            assert torch.equal(getattr(found, name), getattr(wanted, name)), name


def test_subset_of_the_images(preprocessor, tmp_path):
    cache = cache_images(preprocessor, tmp_path, options(1.0), FABRIC)
    keep = np.arange(0, preprocessor.particles.n_images, 2)
    part = cache.take_images(keep).take_images(np.array([3, 1]))
    found = part.read_batch(np.array([0]), [np.array([0, 1])])
    np.testing.assert_array_equal(found.coefficients.numpy(), cache.coefficients[[6, 2]])


def test_epochs_read_nothing_but_the_cache(small_particles, tmp_path, monkeypatch):
    read, original = [], TiltDataset.read_images

    def counted(self, rows):
        read.append(len(rows))
        return original(self, rows)

    monkeypatch.setattr(TiltDataset, "read_images", counted)
    at_end = []
    config = td.TrainConfig(epochs=3, batch_size=4, held_out_fraction=0.3)
    for name, cached in (("cached", True), ("read", False)):
        at_end.clear()
        td.train(
            small_particles,
            tmp_path / name,
            training=config.model_copy(update={"cache": cached}),
            progress=lambda _: at_end.append(sum(read)),
            **SMALL,
        )
        assert (at_end[0] == at_end[-1]) == cached


def test_memory_and_file_give_the_same_training_bit_for_bit(small_particles, tmp_path):
    runs = [
        td.train(small_particles, tmp_path / str(gib), training=options(gib, epochs=1, batch_size=4), **SMALL)
        for gib in (1.0, 0.0)
    ]
    one, other = (load_file(run.epoch_folder() / "weights.safetensors") for run in runs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert sorted(p.name for p in runs[0].folder.iterdir()) == sorted(p.name for p in runs[1].folder.iterdir())


@pytest.mark.parametrize("told", [True, False])
def test_full_disk_means_images_are_read_in_each_epoch(preprocessor, tmp_path, monkeypatch, caplog, told):
    """Whether the disk says so beforehand, or only when it is written to."""
    free = cache_bytes(preprocessor) + SPARE_BYTES - 1 if told else 1 << 60
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))
    folder = tmp_path
    if not told:
        monkeypatch.setattr("tomodrgn.training.cached_images._parts", lambda *_: iter([FullDisk()]))
    assert cache_images(preprocessor, folder, options(0.0), FABRIC) is None
    assert "--cache-dir" in caplog.text
    assert not any(folder.iterdir())


class FullDisk:
    """Coefficients that cannot be written."""

    @property
    def data(self):
        raise OSError(28, "No space left on device")


def test_stopped_and_turned_off(preprocessor, tmp_path, monkeypatch):
    monkeypatch.setattr("tomodrgn.training.cached_images.BATCH_PARTICLES", 4)
    for gib in (1.0, 0.0):
        assert cache_images(preprocessor, tmp_path, options(gib), FABRIC, should_stop=lambda: True) is None
        assert cache_images(preprocessor, tmp_path, options(gib, cache=False), FABRIC) is None
    assert not any(tmp_path.iterdir())


def test_image_beyond_half_precision_is_named(small_particles, tmp_path):
    images = TiltDataset(small_particles).read_images(np.arange(small_particles.n_images))
    row = int(small_particles.offsets[4])
    images[row] *= 1e8
    mrc.write_stack(tmp_path / "images.mrcs", images, small_particles.pixel_size_angst)
    changed = dataclasses.replace(
        small_particles,
        stack_paths=(tmp_path / "images.mrcs",),
        stack_index=np.zeros(len(images), dtype=np.int64),
        slice_index=np.arange(len(images)),
    )
    preprocessor = Preprocessor(changed, td.PreprocessConfig(), scale=1.0)
    with pytest.raises(
        ValueError, match=f"particle '{small_particles.particle_id[4]}'.*65,504.*Leave the particle out"
    ):
        cache_images(preprocessor, tmp_path, options(1.0), FABRIC)
