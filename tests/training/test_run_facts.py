"""What is told of a run: its state, its options, its losses, and what lies in its folder."""

from __future__ import annotations

import json

import pytest

import tomodrgn as td
from tests.training.test_train import SMALL
from tomodrgn.cli import run_command
from tomodrgn.training.run_facts import describe_run


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    config = td.TrainConfig(epochs=2, batch_size=5, held_out_fraction=0.3)
    return td.train(small_particles, tmp_path_factory.mktemp("facts") / "run", training=config, **SMALL)


def test_facts_of_a_run(run, small_particles):
    (run.folder / "selections").mkdir()
    (run.folder / "selections/junk.csv").write_text("particle_id\n")
    facts = json.loads(json.dumps(describe_run(run)))
    assert (facts["kind"], facts["state"], facts["process"], facts["error"]) == ("vae", "finished", None, None)
    assert (facts["epochs"], facts["epochs_wanted"], facts["z_dim"]) == (2, 2, 2)
    assert facts["particles"]["number"] == len(small_particles)
    assert (facts["particles"]["dialect"], facts["particles"]["box_px"]) == ("warp", 32)
    options = {"epochs": 2, "batch_size": 5, "held_out_fraction": 0.3, "max_radius": 0.2, "z_dim": 2}
    assert options.items() <= facts["options"].items()
    assert "seed" not in facts["options"], "it is at its default"
    history = run.history.set_index(["epoch", "split"])
    assert facts["losses"]["test"]["total"] == history.loc[(2, "test"), "total"]
    assert facts["seconds"] == pytest.approx(run.history.query("split == 'train'")["seconds"].sum(), abs=1e-3)
    assert facts["selections"] == ["junk"]
    assert facts["bytes"] > 100_000


def test_run_whose_process_is_gone_was_killed(run):
    status = (run.folder / "status.json").read_text()
    run.write_status("running", epoch=1)
    try:
        assert describe_run(run.folder)["state"] == "killed"
    finally:
        (run.folder / "status.json").write_text(status)


def test_info_tells_of_a_run_in_words_and_in_json(run, capsys):
    assert run_command(["info", str(run.folder)]) == 0
    said = capsys.readouterr().out
    for words in ("vae, latent dimensions: 2", "finished", "2 of 2", "losses (test)", "batch_size=5", "max_radius=0.2"):
        assert words in said
    assert run_command(["info", str(run.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == describe_run(run)


def test_info_of_a_linear_run(small_particles, tmp_path, capsys):
    fitted = td.fit_linear(small_particles, tmp_path / "run", td.LinearConfig(n_components=1))
    assert run_command(["info", str(fitted.folder)]) == 0
    said = capsys.readouterr().out
    assert "linear, latent dimensions: 1" in said
    assert "held-out tilts suggest" in said
    assert all(f"remark: {remark}" in said for remark in fitted.fit["remarks"])


@pytest.mark.parametrize("option", [["--ids", "ids.csv"], ["--dialect", "warp"]])
def test_options_for_particles_are_refused(run, tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    assert run_command(["info", str(run.folder), *option]) == 2
    assert "with options that are for a file of particles" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
