"""Answers about latents: by particle id, the same for one seed, numbered by size."""

from __future__ import annotations

import importlib
import pkgutil
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from tests.analysis.planted import SEEDS, as_latents, planted_groups
from tomodrgn import analysis
from tomodrgn.analysis.latent_space import (
    adjusted_rand_index,
    cluster_centres,
    cluster_latents,
    nearest_particles,
    number_by_size,
    reduce_latents,
    tsne_latents,
    umap_latents,
)
from tomodrgn.analysis.paths import traverse_latents
from tomodrgn.particles.latents import Latents

SIZES = {"b": 12, "a": 30, "c": 20}
CENTRES = {"a": [0, 0, 0], "b": [10, 0, 0], "c": [0, 9, 0]}


@pytest.fixture
def groups() -> Latents:
    """Three round groups of 12, 30 and 20 particles, mixed; a particle's name begins with its group."""
    rng = np.random.default_rng(0)
    names = np.array([f"{group}{i}" for group, size in SIZES.items() for i in range(size)])
    rng.shuffle(names)
    return as_latents(np.array([CENTRES[n[0]] for n in names]) + rng.normal(size=(62, 3)), names.tolist())


# --- components -------------------------------------------------------------------------------------------------------


def test_components_are_the_directions_of_largest_spread():
    """Spreads 3 and 1 along known directions: shares 9 / 10 and 1 / 10, coordinates as made, up to sign."""
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(200, 2))
    scores -= scores.mean(axis=0)
    scores = np.linalg.qr(scores)[0] * np.sqrt(200) * [3, 1]
    directions = np.array([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    table = reduce_latents(as_latents(scores @ directions + [5, 6, 7]))
    assert table.columns.tolist() == ["PC1", "PC2"]
    assert (table.index.name, table.index[3]) == ("particle_id", "p3")
    np.testing.assert_allclose(np.abs(table.to_numpy()), np.abs(scores), atol=1e-4)
    assert table.attrs["explained_variance_ratio"] == pytest.approx([0.9, 0.1], abs=1e-4)


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (3, 3), (9, 3)])
def test_no_more_components_than_dimensions(groups, asked, given):
    assert reduce_latents(groups, asked).shape == (62, given)


def test_no_more_components_than_particles():
    assert reduce_latents(as_latents(np.eye(2, 5)), 4).shape == (2, 2)


def test_homogeneous_latents_and_no_components_are_refused(groups):
    empty = as_latents(np.zeros((5, 0)))
    for refused in (reduce_latents, lambda latents: cluster_latents(latents, 2)):
        with pytest.raises(ValueError, match=r"0 dimensions.*z_dim of 1 or more"):
            refused(empty)
    with pytest.raises(ValueError, match="Got 0 components"):
        reduce_latents(groups, 0)


# --- clusters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_numbered_by_falling_size(groups, seed):
    clusters = cluster_latents(groups, 3, seed=seed)
    assert clusters.name == "cluster"
    assert clusters.groupby(clusters).size().tolist() == [30, 20, 12]
    assert {(name[0], label) for name, label in clusters.items()} == {("a", 0), ("c", 1), ("b", 2)}


def test_same_seed_same_labels_whatever_the_order(groups):
    crowd = as_latents(np.random.default_rng(3).normal(size=(300, 4)))
    first = cluster_latents(crowd, 8, seed=1)
    pd.testing.assert_series_equal(first, cluster_latents(crowd, 8, seed=1))
    assert not first.equals(cluster_latents(crowd, 8, seed=2))
    sizes = first.value_counts().sort_index()
    assert sizes.is_monotonic_decreasing
    other_way = groups.aligned_to(groups.particle_id[::-1])
    assert adjusted_rand_index(cluster_latents(groups, 3), cluster_latents(other_way, 3)) == 1.0


@pytest.mark.parametrize("n", [0, -1, 63])
def test_impossible_numbers_of_clusters_are_refused(groups, n):
    with pytest.raises(ValueError, match=f"Got {n} clusters for 62 particles, expected 1 to 62"):
        cluster_latents(groups, n)


def test_centres_are_members_near_their_mean(groups):
    clusters = cluster_latents(groups, 3)
    centres = cluster_centres(groups, clusters)
    assert centres.index.tolist() == ["cluster_000", "cluster_001", "cluster_002"]
    assert centres["n_particles"].tolist() == [30, 20, 12]
    assert centres["cluster"].tolist() == [0, 1, 2]
    for _, row in centres.iterrows():
        members = clusters.index[clusters == row["cluster"]]
        assert row["particle_id"] in members
        mu = groups.aligned_to(members.to_numpy()).mu
        distance = np.linalg.norm(mu - mu.mean(axis=0), axis=1)
        assert row["particle_id"] == members[distance.argmin()]
        own = groups.aligned_to(np.array([row["particle_id"]])).mu[0]
        assert row[["z1", "z2", "z3"]].tolist() == own.tolist()


def test_centre_is_of_its_own_cluster_even_in_the_middle_of_another():
    """Cluster 0 is a ring around cluster 1: the ring's mean lies in cluster 1."""
    angle = np.arange(8) * np.pi / 4
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 5
    latents = as_latents(np.concatenate([ring, [[0.1, 0.0], [-0.1, 0.0]]]))
    clusters = pd.Series([0] * 8 + [1] * 2, index=latents.particle_id)
    centres = cluster_centres(latents, clusters)
    assert clusters[centres["particle_id"]].tolist() == [0, 1]


def test_centres_follow_names_not_rows(groups):
    clusters = cluster_latents(groups, 3)
    pd.testing.assert_frame_equal(cluster_centres(groups, clusters[::-1]), cluster_centres(groups, clusters))
    some = clusters.iloc[:40]
    assert cluster_centres(groups, some)["n_particles"].sum() == 40
    with pytest.raises(KeyError, match="unknown"):
        cluster_centres(groups, pd.Series([0], index=["unknown"]))


def test_nearest_particles():
    latents = as_latents([[0, 0], [4, 0], [0, 4]])
    assert nearest_particles(latents, np.array([[3.0, 0.5], [0.2, 0.1], [1.0, 9.0]])).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((1, 3)), r"shape \(1, 3\), expected \(v, 2\)"),
        (np.zeros(2), r"shape \(2,\), .* point\[None\]"),
        (np.zeros((0, 2)), r"shape \(0, 2\)"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), "Got point 1 with a coordinate that is no finite number"),
    ],
)
def test_points_of_another_space_have_no_nearest_particle(points, words):
    unchecked = getattr(nearest_particles, "__wrapped__", nearest_particles)  # shapes are checked in tests only
    with pytest.raises(ValueError, match=words):
        unchecked(as_latents([[0, 0], [4, 0]]), points)


@pytest.mark.parametrize(
    ("refused", "arguments", "words"),
    [
        (cluster_latents, (2.5,), r"Got 2\.5 clusters for 62 particles, expected 1 to 62\. Choose"),
        (cluster_latents, (0,), r"Choose such a whole number \(n_clusters, --kmeans\)"),
        (reduce_latents, (0,), "Choose such a whole number"),
        (reduce_latents, (1.5,), r"Got 1\.5 components"),
        (umap_latents, (2.5,), r"Got 2\.5 UMAP components"),
    ],
)
def test_numbers_that_are_not_whole_are_refused_with_a_cure(groups, refused, arguments, words):
    with pytest.raises(ValueError, match=words):
        getattr(refused, "__wrapped__", refused)(groups, *arguments)


def test_functions_that_take_a_table_are_those_that_say_so():
    """`reduce_latents` names them."""
    modules = [
        importlib.import_module(f"tomodrgn.analysis.{found.name}") for found in pkgutil.iter_modules(analysis.__path__)
    ]
    found = {
        name
        for module in modules
        for name in getattr(module, "__all__", ())
        if callable(getattr(module, name))
        and str(getattr(getattr(module, name), "__annotations__", {}).get("latents", "")).count("DataFrame")
    }
    said = set(
        re.findall(r"`(\w+)`", reduce_latents.__doc__.partition("A table is also taken by")[2].partition(";")[0])
    )
    assert found - {"reduce_latents"} == said


def test_rand_index_by_hand_and_by_name():
    """Pairs together: in a 2, in b 1, in both 1; by chance 2 * 1 / 6 = 1/3: (1 - 1/3) / (3/2 - 1/3) = 4/7."""
    names = ["p", "q", "r", "s"]
    a = pd.Series([0, 0, 1, 1], index=names)
    b = pd.Series(["x", "x", "y", "z"], index=names)
    assert adjusted_rand_index(a, b) == pytest.approx(4 / 7)
    assert adjusted_rand_index(a, b[::-1]) == pytest.approx(4 / 7)
    assert adjusted_rand_index(a, 1 - a) == 1.0
    for other in (b.iloc[:3], b.rename({"s": "t"})):
        with pytest.raises(ValueError, match="same particle ids"):
            adjusted_rand_index(a, other)


# --- traversals -------------------------------------------------------------------------------------------------------


def test_traversal_runs_through_the_mean_between_percentiles():
    """Latents along (3, 4) / 5 at -50 to 50 about (1, 2): 5th and 95th percentiles are -45 and 45."""
    steps = np.arange(-50, 51)
    latents = as_latents(np.array([1, 2]) + steps[:, None] * np.array([0.6, 0.8]))
    path = traverse_latents(latents, n_points=5)
    assert path.index.tolist() == [f"pc1_00{i}" for i in range(5)]
    assert np.abs(path["pc"]).tolist() == pytest.approx([45, 22.5, 0, 22.5, 45], abs=1e-4)
    sign = np.sign(path["z1"].iloc[-1] - 1)  # a component may point either way
    along = sign * np.array([-45, -22.5, 0, 22.5, 45])
    np.testing.assert_allclose(path[["z1", "z2"]], np.array([1, 2]) + along[:, None] * [0.6, 0.8], atol=1e-4)
    whole = traverse_latents(latents, n_points=2, percentiles=(0.0, 100.0))
    assert sorted(whole["z1"]) == pytest.approx([1 - 30, 1 + 30], abs=1e-4)


def test_traversal_of_the_second_component_leaves_the_first_alone():
    rng = np.random.default_rng(0)
    latents = as_latents(rng.normal(size=(500, 3)) * [9, 3, 1])
    path = traverse_latents(latents, 2, n_points=3)
    assert path.index[0] == "pc2_000"
    spread = path[["z1", "z2", "z3"]].max() - path[["z1", "z2", "z3"]].min()
    assert spread["z2"] > 8 > 2 > max(spread["z1"], spread["z3"])


@pytest.mark.parametrize("component", [0, 4])
def test_unknown_component_is_refused(groups, component):
    with pytest.raises(ValueError, match=f"component {component} of 3 latent dimensions and 62 particles.*1 to 3"):
        traverse_latents(groups, component)


# --- embeddings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("embed", [umap_latents, tsne_latents])
def test_embeddings_keep_neighbours_and_the_seed(embed, seed):
    latents, truth = planted_groups(seed, (120, 90, 60))
    table = embed(latents, seed=seed)
    assert table.index.tolist() == latents.particle_id.tolist()
    assert table.columns.tolist() == (["UMAP1", "UMAP2"] if embed is umap_latents else ["tSNE1", "tSNE2"])
    nearest = NearestNeighbors(n_neighbors=2).fit(table).kneighbors(return_distance=False)
    assert (truth[nearest] == truth[:, None]).mean() > 0.99
    pd.testing.assert_frame_equal(table, embed(latents, seed=seed))
    if embed is umap_latents:  # t-SNE of all pairs, from principal components, has no chance in it
        assert not table.equals(embed(latents, seed=seed + 1))


def test_umap_tells_its_progress_and_is_the_same_with_it():
    latents, _ = planted_groups(0, (60, 40))
    told: list[tuple[int, int]] = []
    table = umap_latents(latents, 3, progress=lambda done, n: told.append((done, n)))
    n = told[-1][1]
    assert n >= 100
    assert told == [(0, 0), *((i, n) for i in range(1, n + 1))]
    pd.testing.assert_frame_equal(table, umap_latents(latents, 3))


def test_umap_is_stopped_from_its_progress():
    latents, _ = planted_groups(0, (60, 40))

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        umap_latents(latents, progress=stop)
    assert len(umap_latents(latents)) == 100


def test_small_sets_are_embedded_or_refused():
    assert umap_latents(as_latents(np.random.default_rng(0).normal(size=(6, 1)))).shape == (6, 2)
    assert tsne_latents(as_latents(np.random.default_rng(0).normal(size=(6, 1))), perplexity=2.0).shape == (6, 2)
    for refused in (umap_latents, tsne_latents):
        with pytest.raises(ValueError, match=r"for 3 particles, expected .*\. Choose"):
            refused(as_latents(np.eye(3)))
        with pytest.raises(ValueError, match="0 dimensions"):
            refused(as_latents(np.zeros((50, 0))))


def test_labels_by_size_keep_noise():
    assert number_by_size(np.array([5, 5, -1, -1, -1, 2])).tolist() == [0, 0, -1, -1, -1, 1]
    assert number_by_size(np.array([4, 1, 4, 1])).tolist() == [1, 0, 1, 0]
    assert number_by_size(np.array([-1, -2])).tolist() == [-1, -1]


def test_tables_of_coordinates_serve_as_latents(groups):
    table = groups.frame()[["z1", "z2", "z3"]]
    pd.testing.assert_frame_equal(reduce_latents(groups), reduce_latents(table))
    pd.testing.assert_frame_equal(umap_latents(groups), umap_latents(table))
    clusters = cluster_latents(table, 3)
    pd.testing.assert_series_equal(cluster_latents(groups, 3), clusters)
    centres = cluster_centres(table.add_suffix("_angst"), clusters)
    assert centres["particle_id"].tolist() == cluster_centres(groups, clusters)["particle_id"].tolist()
    assert centres.columns.tolist()[3:] == ["z1_angst", "z2_angst", "z3_angst"]
    with pytest.raises(KeyError, match="without coordinates, first"):
        cluster_centres(table.iloc[1:], clusters)
