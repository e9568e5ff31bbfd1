"""The run folder: made whole, opened by anyone, never overwritten by accident, never half read."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import tomodrgn as td
from tomodrgn.training.train import train

TINY = {
    "model": td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5),
    "preprocess": td.PreprocessConfig(max_radius=0.2),
    "training": td.TrainConfig(epochs=1, batch_size=4),
}


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    return train(small_particles, tmp_path_factory.mktemp("run") / "first", **TINY)


def test_reopened_run_has_what_was_trained(run, small_particles):
    again = td.Run.open(run.folder)
    assert again.model_config == TINY["model"]
    assert again.preprocess_config == TINY["preprocess"]
    assert again.train_config == TINY["training"]
    assert again.epochs == [1]
    assert again.particles.particle_id.tolist() == small_particles.particle_id.tolist()
    np.testing.assert_array_equal(again.particles.rotations, small_particles.rotations)
    assert again.particles.stack_paths == small_particles.stack_paths
    assert again.latents().particle_id.tolist() == small_particles.particle_id.tolist()
    assert set(again.history.columns) >= {"epoch", "split", "reconstruction", "kl", "total", "beta", "learning_rate"}
    assert again.status["state"] == "finished"


def test_table_joins_star_columns_and_latents_by_particle_id(run):
    table = run.table()
    assert table.index.tolist() == run.particles.particle_id.tolist()
    assert {"z1", "z2", "z1_std", "tomogram", "n_tilts", "userGridSquare"} <= set(table.columns)
    np.testing.assert_allclose(table["z1"], run.latents().mu[:, 0])


def test_table_has_what_the_analysis_added(run):
    ids = run.particles.particle_id
    folder = run.folder / "analysis"
    folder.mkdir()
    try:
        (folder / "clusters.csv").write_text(
            "particle_id,cluster,tomogram\n" + "".join(f"{i},{n},t{n}\n" for n, i in enumerate(ids[::-1]) if n)
        )
        (folder / "edges.csv").write_text(f"particle_id,other\n{ids[0]},{ids[1]}\n{ids[0]},{ids[2]}\n")
        (folder / "associations.csv").write_text("column,score\nrlnDefocusU,0.5\n")
        table = run.table()
        assert table.index.tolist() == ids.tolist()
        assert np.isnan(table["cluster"].iloc[-1])
        assert table["cluster"].iloc[:-1].tolist() == list(range(len(ids) - 1, 0, -1))
        assert (table["clusters_tomogram"].iloc[0], table["tomogram"].iloc[0]) == ("t11", run.particles.tomogram[0])
        assert not {"other", "score"} & set(table)
        (folder / "damaged.csv").write_text("particle_id,a\n1,2\n1,2,3\n")
        with pytest.raises(ValueError, match=r"Got .*damaged.csv, expected a table in CSV"):
            run.table()
    finally:
        shutil.rmtree(folder)


def test_table_leaves_out_the_analysis_of_another_epoch(run, tmp_path, caplog):
    two = td.Run.open(shutil.copytree(run.folder, tmp_path / "two"))
    shutil.copytree(two.folder / "epochs" / "0001", two.folder / "epochs" / "0002")
    folder, ids = two.folder / "analysis", run.particles.particle_id
    folder.mkdir()
    for name in ("embedding", "clusters", "outliers", "occupancy", "labels"):
        (folder / f"{name}.csv").write_text(f"particle_id,my_{name}\n" + "".join(f"{i},1\n" for i in ids))
    made = {"my_embedding", "my_clusters", "my_outliers", "my_occupancy"}
    assert {*made, "my_labels"} <= set(two.table(1)), "nobody knows what epoch they are of"
    (folder / "analysis.json").write_text('{"epoch": 1}')
    assert {*made, "my_labels"} <= set(two.table(1))
    assert caplog.text == ""
    for epoch in (2, None):
        table = two.table(epoch)
        assert not made & set(table)
        assert {"my_labels", "z1", "tomogram"} <= set(table)
    assert (
        "is of epoch 1: its embedding, clusters, outliers, occupancy are left out of the table of epoch 2"
        in caplog.text
    )
    (folder / "analysis.json").write_text("{")
    with pytest.raises(ValueError, match=r"analysis\.json, expected the settings of an analysis.* --overwrite"):
        two.table()


def test_run_survives_moving_of_its_folder(run, tmp_path):
    moved = tmp_path / "moved"
    run.folder.rename(moved)
    try:
        assert len(td.Run.open(moved).particles) == len(run.particles)
    finally:
        moved.rename(run.folder)


def test_nothing_is_overwritten_unless_asked(run, small_particles, tmp_path):
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        train(small_particles, run.folder, **TINY)
    assert (run.folder / "run.json").read_bytes() == before
    other = tmp_path / "notes"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="other files"):
        train(small_particles, other, overwrite=True, **TINY)
    assert (other / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{", "expected a tomodrgn run description"),
        ('{"format": "something", "version": 1}', "of format 'something'"),
        ('{"format": "tomodrgn-run", "version": 99}', "Update tomodrgn"),
        ("[]", "expected a tomodrgn run description"),
    ],
)
def test_damaged_or_foreign_run_is_refused(tmp_path, content, error):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=error):
        td.Run.open(tmp_path)


def test_missing_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        td.Run.open(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"without run\.json"):
        td.Run.open(tmp_path)


def test_missing_epoch_names_those_there(run):
    with pytest.raises(ValueError, match="epochs 1 to 1"):
        run.latents(7)


def test_run_json_is_plain_and_versioned(run):
    settings = json.loads((run.folder / "run.json").read_text())
    assert (settings["format"], settings["version"]) == ("tomodrgn-run", 1)
    assert len(settings["source"]["sha256"]) == 64
    assert settings["training"]["seed"] == 0
