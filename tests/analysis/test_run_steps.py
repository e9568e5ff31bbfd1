"""Steps of the analysis of a run: neighbours by its own positions, ensembles, paths, defocus, references."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import tomodrgn as td
from tests.analysis.planted import SEEDS, as_latents, planted_groups
from tests.analysis.tomograms import planted_pairs, random_positions
from tomodrgn.analysis.latent_space import cluster_centres, cluster_latents
from tomodrgn.analysis.mapback import map_back
from tomodrgn.analysis.run_analysis import analyze_run
from tomodrgn.analysis.run_steps import (
    RunNeighbours,
    decode_ensemble,
    map_landscape,
    particle_columns,
    path_between_clusters,
    read_reference,
)
from tomodrgn.io.mrc import write_volume
from tomodrgn.particles.simulate import truth_volumes
from tomodrgn.volumes.volume_stack import VolumeStack


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> td.Run:
    """Two states in two tomograms, of a dialect that has positions and keeps defocus with the tilts."""
    place = tmp_path_factory.mktemp("steps")
    particles = td.simulate_particles(
        place / "data", n_particles=40, n_tilts=8, box_px=16, n_states=2, n_tomograms=2, snr=0.3, dialect="warptools"
    )
    return td.fit_linear(particles, place / "run", model=td.LinearConfig(n_components=2))


def test_positions_of_the_run_are_taken_and_a_reference_is_scored(run):
    reference = truth_volumes(run.folder.parent / "data")["consensus"]
    path = run.folder.parent / "reference.mrc"
    write_volume(path, reference, run.settings["pixel_size_angst"])
    found = analyze_run(run, reference=path)
    assert found.neighbours is not None
    assert found.neighbours.distances["n_pairs"].sum() >= 0
    assert {"class", "neighbour_class", "ratio"} <= set(found.neighbours.classes)
    assert found.epochs.table["reference_fsc"].iloc[0] > 0.7
    assert not any(note.startswith("neighbours") for note in found.notes)
    folder = found.save()
    tables = {p.stem for p in folder.glob("*.csv")}
    assert {"pair_distances", "recurrent_pairs", "class_neighbours", "path", "map_space", "half_map_fsc"} <= tables
    assert len(run.table()) == 40
    # The clusters of the analysis are the classes of mapback, whatever else is called so.
    placed = map_back(run, run.folder.parent / "placed")
    assert (placed.table["label"] == found.particles["cluster"].loc[placed.table.index]).all()


def test_a_reference_of_another_field_is_refused(run, tmp_path):
    pixel = run.settings["pixel_size_angst"]
    write_volume(tmp_path / "other.mrc", np.ones((16,) * 3, np.float32), 2 * pixel)
    with pytest.raises(ValueError, match="expected the field of the run's maps"):
        analyze_run(run, reference=tmp_path / "other.mrc")
    wave = np.cos(2 * np.pi * np.arange(32) / 16)[None, None, :] * np.ones((32,) * 3)
    write_volume(tmp_path / "fine.mrc", wave.astype(np.float32), pixel / 2)
    np.testing.assert_allclose(read_reference(tmp_path / "fine.mrc", 16, pixel), wave[::2, ::2, ::2], atol=1e-4)


def test_mean_defocus_is_a_column_where_the_particles_have_none(run):
    particles = run.particles_without_images
    assert not any("defocus" in str(name).lower() for name in particles.frame())
    columns = particle_columns(particles)
    one = particles.subset(particles.particle_id[3:4])
    expected = (one.ctf.defocus_u_angst + one.ctf.defocus_v_angst).mean() / 2
    assert columns["mean_defocus_angst"].iloc[3] == pytest.approx(expected, rel=1e-5)
    assert "mean_defocus_angst" not in particle_columns(dataclasses.replace(particles, ctf=None))


def test_ensembles_are_of_all_particles_or_of_centres(run):
    latents = run.latents()
    every = decode_ensemble(run, latents)
    assert every.labels["particle_id"].tolist() == latents.particle_id.tolist()
    wanted = td.generate_volumes(run, latents.mu[:3]).maps
    np.testing.assert_allclose(every.maps[:3], wanted, atol=1e-5)
    few = decode_ensemble(run, latents, n_maps=7, box_px=8)
    assert few.maps.shape == (7, 8, 8, 8)
    assert few.labels["n_particles"].sum() == 40
    pd.testing.assert_frame_equal(few.labels, decode_ensemble(run, latents, n_maps=7, box_px=8).labels)
    with pytest.raises(ValueError, match="Got 0 maps"):
        decode_ensemble(run, latents, n_maps=0)


def test_maps_that_do_not_differ_have_no_space():
    labels = pd.DataFrame({"particle_id": ["a", "b"]}, index=["m0", "m1"])
    stack = VolumeStack(maps=np.ones((2, 4, 4, 4), np.float32), voxel_size_angst=1.0, labels=labels)
    notes: list[str] = []
    assert map_landscape(stack, pd.Series([0, 0], index=["a", "b"]), notes) is None
    assert notes == ["space of the maps: they do not differ"]


@pytest.mark.parametrize("seed", SEEDS)
def test_path_between_clusters_goes_through_particles_or_straight(seed):
    rng = np.random.default_rng(seed)
    between = np.stack([rng.uniform(-6, 6, 150), rng.normal(0, 0.3, 150)], axis=1)
    bridge = as_latents(np.concatenate([rng.normal([-6, 0], 1, (200, 2)), rng.normal([6, 0], 1, (180, 2)), between]))
    apart, _ = planted_groups(seed, (60, 50), z_dim=2, apart=60.0)
    for latents, joined in ((bridge, True), (apart, False)):
        notes: list[str] = []
        centres = cluster_centres(latents, cluster_latents(latents, 2, seed=seed))
        path = path_between_clusters(latents, centres, notes)
        assert path["particle_id"].iloc[[0, -1]].tolist() == centres["particle_id"].tolist()
        assert (not notes) == joined
        assert (path["n_particles"] > 0).all()
    assert path_between_clusters(apart, centres.iloc[:1], notes) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbours_of_a_run_find_planted_pairs_and_none_at_random(seed):
    positions, planted = planted_pairs(seed)
    labels = pd.Series("one", index=positions.particle_id)
    found = RunNeighbours.of(positions, labels, box_angst=200.0, seed=seed)
    pairs = found.pairs[found.pairs["recurrent"]]
    assert len(planted & set(zip(pairs["particle_id"], pairs["neighbour_id"], strict=True))) > 0.9 * len(planted)
    assert found.classes["ratio"].tolist() == [1.0]
    at_random = RunNeighbours.of(random_positions(seed), labels, box_angst=200.0, seed=seed)
    assert at_random.pairs["recurrent"].sum() == 0
