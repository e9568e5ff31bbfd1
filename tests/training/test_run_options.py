"""What a run remembers of how its particles were read: what the user gave, apart from what the file says itself."""

from __future__ import annotations

import json
import logging

import tomodrgn as td
from tomodrgn.training.run import Run


def made_of(particles, folder):
    return Run.create(
        folder,
        particles,
        model=td.VaeConfig(z_dim=2),
        preprocess=td.PreprocessConfig(),
        training=td.TrainConfig(),
        scale=1.0,
        n_tilts=5,
    )


def test_flags_that_the_file_gives_are_not_called_lost(tmp_path, caplog):
    particles = td.simulate_particles(
        tmp_path / "data", n_particles=6, n_tilts=5, missing_tilts=0, dialect="warptools", premultiplied=False
    )
    run = made_of(particles, tmp_path / "run")
    again = Run.open(run.folder).particles
    assert (again.ctf_premultiplied, again.dose_weighted, again.invert) == (False, False, True)
    assert again.source.options.settings() == particles.source.options.settings() == {"dialect": "warptools"}
    with caplog.at_level(logging.WARNING):
        td.write_particles(again.subset(again.particle_id[:3]), tmp_path / "data/kept.star")
    assert caplog.text == ""
    kept = td.read_particles(tmp_path / "data/kept.star")
    assert (kept.ctf_premultiplied, kept.dose_weighted, kept.invert) == (False, False, True)


def test_flags_of_the_user_are_called_lost(tmp_path, caplog):
    td.simulate_particles(tmp_path / "data", n_particles=6, n_tilts=5)
    particles = td.read_particles(tmp_path / "data/particles.star", invert=False)
    run = made_of(particles, tmp_path / "run")
    again = Run.open(run.folder).particles
    assert again.invert is False
    with caplog.at_level(logging.WARNING):
        td.write_particles(again, tmp_path / "data/kept.star")
    assert "without invert False (--invert): give them again" in caplog.text


def test_a_run_of_before_opens(tmp_path):
    particles = td.simulate_particles(tmp_path / "data", n_particles=6, n_tilts=5)
    folder = made_of(particles, tmp_path / "run").folder
    settings = json.loads((folder / "run.json").read_text())
    del settings["source"]["given"]
    (folder / "run.json").write_text(json.dumps(settings))
    assert Run.open(folder).particles.source.options.invert is particles.invert
