"""The whole analysis of a run: what it finds, writes and says; and its page in a browser without network."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import sync_playwright

import tomodrgn as td
from tests.analysis.planted import SEEDS
from tomodrgn.analysis.analysis_files import remove_earlier
from tomodrgn.analysis.latent_space import adjusted_rand_index
from tomodrgn.analysis.mapback import refuse_many
from tomodrgn.analysis.run_analysis import analyze_run
from tomodrgn.analysis.run_steps import compare_methods
from tomodrgn.cli import run_command
from tomodrgn.imaging.grid import soft_spherical_mask
from tomodrgn.io.mrc import read_volume, write_volume
from tomodrgn.io.star import read_star, write_star
from tomodrgn.particles.simulate import read_truth, truth_volumes
from tomodrgn.report import write_run_report

SECTIONS = ["Dataset", "Training", "Latents", "Clusters", "Associations", "Epochs", "Tomograms", "Images bear it out?"]


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> td.ParticleSet:
    folder = tmp_path_factory.mktemp("analysis") / "data"
    return td.simulate_particles(
        folder, n_particles=120, n_tilts=12, box_px=16, n_states=3, mass_difference=0.3, snr=0.3, seed=0
    )


@pytest.fixture(scope="module")
def linear(particles: td.ParticleSet) -> td.Run:
    folder = particles.source.path.parent.parent / "linear"
    return td.fit_linear(particles, folder, model=td.LinearConfig(n_components=2))


@pytest.fixture(scope="module")
def vae(particles: td.ParticleSet, linear: td.Run) -> td.Run:
    return td.train(
        particles,
        linear.folder.parent / "vae",
        model=td.VaeConfig(z_dim=4, decoder_dim=32, encoder_dim=32),
        training=td.TrainConfig(epochs=3, held_out_fraction=0.2, start_from=str(linear.folder)),
    )


def copy_of(run: td.Run, folder) -> td.Run:
    return td.Run.open(shutil.copytree(run.folder, folder))


@pytest.mark.parametrize("kind", ["linear", "vae"])
def test_both_kinds_of_run_are_analyzed_alike(kind, request, tmp_path):
    run = copy_of(request.getfixturevalue(kind), tmp_path / "run")
    found = analyze_run(run)
    truth = read_truth(request.getfixturevalue("particles").source.path.parent)["label"]
    assert adjusted_rand_index(truth, found.particles["cluster"]) > 0.9
    assert list(found.centres["cluster"]) == [0, 1, 2]
    assert found.cluster_numbers["best"].idxmax() == 3
    assert set(found.maps) == {"clusters", "path", "pc1", "pc2", "map_components"}
    assert len(found.maps["clusters"].maps) == 3
    assert found.validation.verdict.startswith("borne out")
    assert found.resolution.curve.attrs["resolution_angst"] < 100
    assert found.path["particle_id"].iloc[[0, -1]].tolist() == found.centres["particle_id"].iloc[:2].tolist()
    space = found.map_space.coordinates
    assert (space["cluster"] == found.particles["cluster"].loc[space["particle_id"]].to_numpy()).all()
    assert space["PC1"].groupby(space["cluster"]).std().max() < 0.5 * space["PC1"].std()
    assert adjusted_rand_index(space["cluster"], space["map_cluster"]) > 0.9
    assert list(found.cluster_methods.index) == ["Gaussian mixture", "HDBSCAN", "Leiden"]
    assert found.cluster_methods["agreement"].min() > 0.5
    assert found.cluster_methods.loc["HDBSCAN", "n_clusters"] == 3
    assert found.tilt_halves.loc["z1", "reliability"] > 0.8
    assert len(found.epochs.table) == {"linear": 1, "vae": 3}[kind]
    again = analyze_run(run)
    pd.testing.assert_frame_equal(again.particles, found.particles)
    pd.testing.assert_frame_equal(again.associations, found.associations)
    folder = found.save()
    assert folder == run.folder / "analysis"
    table = run.table()
    assert (table["cluster"] == found.particles["cluster"].loc[table.index]).all()
    assert {"PC1", "z_norm", "outlier", "rlnDefocusU", "z1"} <= set(table.columns)
    assert ("UMAP1" in table) == (kind == "vae")
    assert td.VolumeStack.open(run.folder / "volumes" / "clusters").names == [
        "cluster_000",
        "cluster_001",
        "cluster_002",
    ]
    settings = json.loads((folder / "analysis.json").read_text())
    assert settings["n_clusters"] == 3
    assert settings["validation"] == found.validation.verdict
    with pytest.raises(FileExistsError, match="has an analysis already"):
        found.save()


def test_a_new_analysis_leaves_nothing_of_the_one_before(linear, tmp_path):
    run = copy_of(linear, tmp_path / "run")
    (run.folder / "analysis").mkdir()
    (run.folder / "analysis" / "mine.csv").write_text("particle_id\n")
    first = analyze_run(run, n_clusters=4)
    first.save()
    folder = run.folder / "analysis"
    local, voxel_size = read_volume(folder / "validation" / "local_resolution.mrc")
    np.testing.assert_array_equal(local, np.nan_to_num(first.resolution.local_angst))
    assert voxel_size == pytest.approx(run.settings["pixel_size_angst"])
    without = {"validation": None, "tilt_halves": None, "resolution": None, "path": None}
    fewer = dataclasses.replace(analyze_run(run, n_clusters=2), **without)
    fewer.save(overwrite=True)
    assert not (folder / "path.csv").exists()
    assert not (folder / "half_map_fsc.csv").exists()
    assert not (folder / "tilt_halves.csv").exists()
    assert not list((folder / "validation").rglob("*.mrc"))
    assert not (folder / "validation" / "verdict.txt").exists()
    assert sorted(p.name for p in (run.folder / "volumes" / "clusters").glob("*.mrc")) == [
        "cluster_000.mrc",
        "cluster_001.mrc",
    ]
    assert (folder / "mine.csv").exists()


def test_files_of_others_are_not_replaced(linear, tmp_path):
    run = copy_of(linear, tmp_path / "run")
    (run.folder / "analysis").mkdir()
    (run.folder / "analysis" / "clusters.csv").write_text("particle_id,cluster\n")
    assert run_command(["analyze", str(run.folder)]) == 2
    found = analyze_run(run)
    with pytest.raises(FileExistsError, match=r"analysis.clusters\.csv is there"):
        found.save()
    assert (run.folder / "analysis" / "clusters.csv").read_text() == "particle_id,cluster\n"


def test_an_earlier_epoch_and_a_number_of_clusters(vae):
    found = analyze_run(vae, epoch=1, n_clusters=4)
    assert found.epoch == 1
    assert len(found.centres) == 4
    np.testing.assert_allclose(
        found.particles[["z_norm"]].to_numpy()[:, 0], np.linalg.norm(vae.latents(1).mu, axis=1), rtol=1e-5
    )


def test_a_table_of_another_epoch_has_none_of_its_columns(vae, tmp_path):
    run = copy_of(vae, tmp_path / "run")
    found = analyze_run(run, epoch=1, n_clusters=2)
    joined = {*found.particles, "occupancy_arm"}
    occupancy = found.particles[["z_norm"]].rename(columns={"z_norm": "occupancy_arm"})
    dataclasses.replace(found, particles=found.particles.join(occupancy)).save()
    assert joined <= set(run.table(1))
    assert not joined & set(run.table(3))


@pytest.mark.parametrize("seed", SEEDS)
def test_occupancy_of_masks_follows_the_states(seed, tmp_path):
    """The mass that differs between two states, as a mask: its occupancy tells the states apart."""
    data = tmp_path / "data"
    particles = td.simulate_particles(
        data, n_particles=100, n_tilts=12, box_px=16, n_states=2, mass_difference=0.3, snr=0.3, seed=seed
    )
    run = td.fit_linear(particles, tmp_path / "run", model=td.LinearConfig(n_components=1))
    truth = truth_volumes(data)
    difference = np.abs(truth["state_0"] - truth["state_1"])
    voxel = run.settings["pixel_size_angst"]
    write_volume(tmp_path / "arm.mrc", (difference > 0.4 * difference.max()).astype(np.float32), voxel)
    write_volume(tmp_path / "all.mrc", soft_spherical_mask(16, 0.7).numpy(), voxel)
    found = analyze_run(run, masks={"arm": tmp_path / "arm.mrc", "all": tmp_path / "all.mrc"}, seed=seed)
    label = read_truth(data)["label"].loc[found.particles.index]
    groups = found.particles.groupby(label)["occupancy_arm"]
    assert abs(groups.mean().diff().iloc[-1]) > 4 * groups.std().max()
    assert found.particles["occupancy_all"].std() < 0.5 * found.particles["occupancy_arm"].std()
    assert found.occupancy_shares.loc["arm", "two_modes"]
    assert found.occupancy_shares.loc["arm", "share"] == pytest.approx(
        (label == groups.mean().idxmax()).mean(), abs=0.05
    )
    found.save()
    assert "occupancy_arm" in run.table()


def test_missing_images_are_a_note(linear, tmp_path):
    run = copy_of(linear, tmp_path / "run")
    data = shutil.copytree(linear.particles.source.path.parent, tmp_path / "data")
    settings = json.loads((run.folder / "run.json").read_text())
    settings["source"]["path"] = str(data / "particles.star")
    (run.folder / "run.json").write_text(json.dumps(settings))
    for stack in data.rglob("*.mrcs"):
        stack.unlink()
    found = analyze_run(td.Run.open(run.folder))
    assert found.validation is None
    assert found.tilt_halves is None
    assert any(note.startswith("halves of the tilts: ") for note in found.notes)


def test_runs_without_latents_are_refused(particles, tmp_path):
    run = td.train(
        particles, tmp_path / "run", model=td.VaeConfig(z_dim=0, decoder_dim=16), training=td.TrainConfig(epochs=1)
    )
    with pytest.raises(ValueError, match="with 0 latent dimensions of 120 particles"):
        analyze_run(run)


# --- the verbs and the page -------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_verb_writes_a_page_that_needs_no_network(vae, tmp_path, capsys, chromium):
    run = copy_of(vae, tmp_path / "my <i>run")
    assert run_command(["analyze", str(run.folder), "--kmeans", "3"]) == 0
    said = capsys.readouterr().out
    page = run.folder / "analysis" / "report.html"
    assert str(page) in said
    assert "largest cluster: borne out" in said
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_context(offline=True).new_page()
        complaints: list[str] = []
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.goto(page.as_uri())
        titles = shown.locator("h2").all_inner_texts()
        sizes = shown.locator("img").evaluate_all("all => all.map(i => [i.complete, i.naturalWidth])")
        heading = shown.locator("h1").inner_text()
        browser.close()
    assert titles[: len(SECTIONS)] == SECTIONS
    assert heading == "my <i>run, epoch 3"
    assert len(sizes) >= 9
    assert all(complete and width > 100 for complete, width in sizes)
    assert complaints == []
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert run_command(["analyze", str(run.folder)]) == 2
    assert "has an analysis already" in capsys.readouterr().err
    assert run_command(["analyze", str(run.folder), "--overwrite", "--seed", "1"]) == 0


ODD = {
    "<script>document.title='run'</script>": ["<img/src=x>", "&amp;", "$\\frac$"],
    "user$x^$": ["a$b^$", "c"],
    "{0}%s": ["1", "2", "nan"],
    "cluster": ["x", "y"],
    "outlier": ["<b>"],
    "z1": ["7", "8"],
    "nothing": ["nan"],
}


@pytest.fixture(scope="module")
def odd_particles(tmp_path_factory: pytest.TempPathFactory) -> td.ParticleSet:
    """One tomogram whose name and columns hold HTML, formulas, missing values, and names that the analysis uses."""
    folder = tmp_path_factory.mktemp("odd") / "data"
    path = td.simulate_particles(
        folder, n_particles=40, n_tilts=8, box_px=16, n_states=2, mass_difference=0.3, snr=0.3, n_tomograms=1, seed=0
    ).source.path
    blocks = read_star(path)
    name = max(blocks, key=lambda block: len(blocks[block]))
    rng = np.random.default_rng(0)
    columns = {column: rng.choice(values, len(blocks[name])) for column, values in ODD.items()}
    columns["rlnMicrographName"] = "TS_<b>$1^$.tomostar"
    blocks[name] = blocks[name].assign(**columns)
    write_star(path, blocks, overwrite=True)
    return td.read_particles(path)


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["linear", "vae"])
def test_odd_names_missing_values_and_one_dimension(kind, odd_particles, tmp_path, chromium):
    if kind == "linear":
        run = td.fit_linear(odd_particles, tmp_path / "run", model=td.LinearConfig(n_components=1))
    else:
        model = td.VaeConfig(z_dim=1, decoder_dim=16, encoder_dim=16)
        run = td.train(odd_particles, tmp_path / "run", model=model, training=td.TrainConfig(epochs=1))
    found = analyze_run(run)
    page = write_run_report(found, found.save() / "report.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_context(offline=True).new_page()
        complaints: list[str] = []
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.goto(page.as_uri())
        title, text = shown.title(), shown.locator("body").inner_text()
        elements = shown.locator("script, b, img:not([src^='data:'])").count()
        sizes = shown.locator("img").evaluate_all("all => all.map(i => i.naturalWidth)")
        browser.close()
    assert complaints == []
    assert title == "run: analysis of epoch 1"
    assert elements == 0
    assert all(name in text for name in ODD)
    assert min(sizes) > 100
    assert len(sizes) >= 12
    table = run.table()
    assert (table["clusters_cluster"] == found.particles["cluster"]).all()
    assert set(table["cluster"]) == {"x", "y"}


def test_without_positions_there_are_no_neighbours(linear, tmp_path):
    found = analyze_run(linear)
    assert found.neighbours is None
    assert any("no positions" in note for note in found.notes)
    page = write_run_report(found, tmp_path / "page.html")
    assert "Distances of neighbours" not in page.read_text(encoding="utf-8")
    with pytest.raises(FileExistsError):
        write_run_report(found, page)


def test_maps_of_the_clusters_are_placed_where_the_particles_have_positions(tmp_path, monkeypatch):
    options = {"box_px": 16, "n_states": 2, "mass_difference": 0.3, "snr": 0.3, "n_tomograms": 2, "seed": 0}
    particles = td.simulate_particles(tmp_path / "data", dialect="warptools", n_particles=40, n_tilts=8, **options)
    run = td.fit_linear(particles, tmp_path / "run", model=td.LinearConfig(n_components=2))
    found = analyze_run(run, n_clusters=2)
    folder = found.save() / "mapback"
    placed = pd.read_csv(folder / "placements.csv", index_col="particle_id")
    assert (placed["label"] == found.particles["cluster"].loc[placed.index]).all()
    assert len(placed) == 40
    scripts = sorted(folder.glob("*.cxc"))
    assert len(scripts) == 2
    page = write_run_report(found, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "analysis/mapback" in page
    (folder / "mine.txt").write_text("mine")
    monkeypatch.setattr("tomodrgn.analysis.run_analysis.refuse_many", partial(refuse_many, max_maps=5))
    found = analyze_run(run, n_clusters=2)
    assert any(note.startswith("maps of the clusters in the tomograms: Got 20 particles") for note in found.notes)
    found.save(overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    # What a placing left that was cut short is no obstacle, nor is it taken for the user's leave to replace files.
    monkeypatch.undo()
    (folder / scripts[0].name).write_text("cut short")
    found = analyze_run(run, n_clusters=2)
    with pytest.raises(FileExistsError, match="has an analysis already"):
        found.save()
    found.save(overwrite=True)
    assert sorted(folder.glob("*.cxc")) == scripts
    assert (folder / "mine.txt").read_text() == "mine"
    shutil.rmtree(run.folder / "analysis")
    run.folder.joinpath("analysis").mkdir()
    (run.folder / "analysis" / "mapback").write_text("a file")
    with pytest.raises(FileExistsError, match="Got a file"):
        found.save(overwrite=True)


@pytest.mark.parametrize("listed", ["", "other\n1\n", "file\n../../../kept.txt\nmaps/kept.txt\n{absolute}\nmaps\n"])
def test_a_list_of_placed_files_takes_nothing_away_outside_the_run(linear, tmp_path, listed):
    run, kept = copy_of(linear, tmp_path / "run"), tmp_path / "kept.txt"
    kept.write_text("kept")
    folder = run.folder / "analysis" / "mapback"
    folder.mkdir(parents=True)
    (folder / "maps").symlink_to(tmp_path)
    (run.folder / "analysis" / "mapback_files.csv").write_text(listed.format(absolute=kept))
    remove_earlier(run)
    assert kept.read_text() == "kept"


def test_no_agreement_is_told_where_there_is_nothing_to_compare():
    ids = np.array([f"p{i}" for i in range(40)])
    mu = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    latents = td.Latents(particle_id=ids, mu=mu, logvar=np.zeros_like(mu))
    found = compare_methods(latents, pd.Series(0, index=latents.index), 0)
    assert found["agreement"].isna().all()
    many = compare_methods(latents, pd.Series(np.arange(40), index=latents.index), 0)
    assert list(many.index) == ["HDBSCAN", "Leiden"]


def test_validate_verb(linear, tmp_path, capsys):
    latents = linear.latents()
    ids = tmp_path / "ids.csv"
    pd.DataFrame({"particle_id": latents.particle_id[latents.mu[:, 0] > 0]}).to_csv(ids, index=False)
    arguments = ["validate", str(linear.folder), str(tmp_path / "out"), "--particle-ids", str(ids)]
    assert run_command(arguments) == 0
    assert capsys.readouterr().out.startswith("borne out: ")
    assert (tmp_path / "out" / "selected" / "full.mrc").is_file()
    assert run_command(arguments) == 2
    assert "exists" in capsys.readouterr().err
