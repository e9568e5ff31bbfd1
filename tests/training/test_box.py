"""Runs at a smaller box than that of the images: remembered, resumed, embedded, and passed on to a process."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import tomodrgn as td
from tomodrgn.particles.downsample import downsample_particles
from tomodrgn.training.embed import embed_particles
from tomodrgn.training.job import start_training
from tomodrgn.training.train import train

SMALL = {
    "model": td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5),
    "preprocess": td.PreprocessConfig(max_radius=0.4),
}
ONE = td.TrainConfig(epochs=1, batch_size=4)
TWO = td.TrainConfig(epochs=2, batch_size=4)


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    """Two epochs at box 16 of images of 32 px."""
    return train(small_particles.cropped_to(16), tmp_path_factory.mktemp("box") / "run", training=TWO, **SMALL)


def test_run_remembers_the_box(run, small_particles):
    again = td.Run.open(run.folder)
    assert (again.settings["box_px"], again.settings["pixel_size_angst"]) == (16, 16.0)
    assert again.settings["source"]["stack_box_px"] == 32
    assert (again.particles.box_px, again.particles.stack_box_px, again.particles.pixel_size_angst) == (16, 32, 16.0)
    np.testing.assert_allclose(again.particles.shifts_px, small_particles.shifts_px / 2, rtol=1e-6)
    stack = td.generate_volumes(again, np.zeros((1, 2)))
    assert (stack.maps.shape, stack.voxel_size_angst) == ((1, 16, 16, 16), 16.0)


def test_run_written_before_there_were_boxes_opens(small_particles, tmp_path):
    old = train(small_particles, tmp_path / "run", training=ONE, **SMALL)
    settings = json.loads((old.folder / "run.json").read_text())
    assert settings["source"].pop("stack_box_px") == 32
    (old.folder / "run.json").write_text(json.dumps(settings))
    again = td.Run.open(old.folder)
    assert (again.particles.box_px, again.particles.stack_box_px) == (32, 32)
    # Those of the training are made from images that it keeps in half precision.
    np.testing.assert_allclose(embed_particles(again, small_particles).mu, again.latents().mu, atol=1e-3)


def test_embedding_crops_larger_images_of_the_same_field(run, small_particles):
    """Particles at their own box, at a third one and at the run's have the same latents: those of the run."""
    for particles in (small_particles, small_particles.cropped_to(12), small_particles.cropped_to(16)):
        np.testing.assert_allclose(embed_particles(run, particles).mu, run.latents().mu, atol=1e-3)


def test_embedding_refuses_another_field_or_fewer_pixels(run, small_particles, tmp_path):
    other = td.simulate_particles(tmp_path / "other", n_particles=3, n_tilts=3, box_px=24)
    with pytest.raises(ValueError, match=r"24 px, 192 A across.*expected 16 px or more, 256 A across"):
        embed_particles(run, other)
    fewer = downsample_particles(small_particles, tmp_path / "fewer", box_px=12)
    with pytest.raises(ValueError, match=r"12 px, 256 A across.*expected 16 px or more, 256 A across"):
        embed_particles(run, fewer)


def test_training_on_downsampled_images_is_training_on_cropped_ones(run, small_particles, tmp_path):
    """To the half precision of the stacks."""
    on_disk = downsample_particles(small_particles, tmp_path / "small", box_px=16)
    again = train(on_disk, tmp_path / "run", training=TWO, **SMALL)
    assert again.settings["scale"] == pytest.approx(run.settings["scale"], rel=1e-4)
    for column in ("reconstruction", "kl"):
        np.testing.assert_allclose(again.history[column], run.history[column], rtol=2e-3)
    np.testing.assert_allclose(embed_particles(run, on_disk).mu, run.latents().mu, atol=2e-3)


def test_resumed_run_keeps_its_box(run, small_particles, tmp_path):
    """With particles at that box, or at that of their images; any other box was asked for by mistake."""
    first = train(small_particles.cropped_to(16), tmp_path / "run", training=ONE, **SMALL)
    for name, particles in (("own", small_particles), ("same", small_particles.cropped_to(16))):
        folder = shutil.copytree(first.folder, tmp_path / name)
        resumed = train(particles, folder, training=TWO, resume=True)
        np.testing.assert_allclose(resumed.latents().mu, run.latents().mu, atol=1e-5)
    with pytest.raises(ValueError, match="box 24 px, expected 16 px"):
        train(small_particles.cropped_to(24), first.folder, training=TWO, resume=True)


def test_process_trains_at_the_box_of_the_particles(run, small_particles, tmp_path):
    job = start_training(small_particles.cropped_to(16), tmp_path / "run", training=TWO, **SMALL)
    assert "--box 16" in job.command
    assert job.wait(120.0) == "finished"
    np.testing.assert_allclose(td.Run.open(job.folder).latents().mu, run.latents().mu, atol=1e-4)
    whole = start_training(small_particles, tmp_path / "whole", training=ONE, **SMALL)
    whole.kill()
    assert "--box" not in whole.command
