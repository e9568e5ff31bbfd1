"""Paths go where they were planted: along components, straight, round an arc of particles, through all clusters."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest

from tests.analysis.planted import SEEDS, as_latents, planted_groups
from tomodrgn.analysis.latent_space import cluster_latents
from tomodrgn.analysis.paths import graph_path, straight_path, traverse_latents
from tomodrgn.analysis.support import path_support
from tomodrgn.analysis.tours import cluster_tour
from tomodrgn.particles.latents import Latents

Z = ["z1", "z2"]


def planted_arc(seed: int) -> tuple[Latents, np.ndarray]:
    """Two states at the ends of half a circle of radius 10, particles between them; and the angle of each particle."""
    rng = np.random.default_rng(seed)
    angle = np.concatenate([np.full(150, 0.0), np.full(150, np.pi), rng.uniform(0, np.pi, 500)])
    rng.shuffle(angle)
    mu = 10 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return as_latents(np.concatenate([mu, np.zeros((800, 2))], axis=1) + rng.normal(size=(800, 4)) * 0.3), angle


def ends_of(latents: Latents, angle: np.ndarray) -> list[str]:
    return [str(latents.particle_id[np.argmin(angle)]), str(latents.particle_id[np.argmax(angle)])]


# --- along components -------------------------------------------------------------------------------------------------


def test_percentiles_put_as_many_particles_between_any_two_points():
    rng = np.random.default_rng(0)
    latents = as_latents(rng.exponential(size=(2000, 1)) * [3.0, 0.0] + rng.normal(size=(2000, 2)) * 1e-3)
    path = traverse_latents(latents, n_points=5, percentiles=(10.0, 90.0), spacing="percentiles")
    along = np.sort(path["z1"])
    counts = [((latents.mu[:, 0] > a) & (latents.mu[:, 0] <= b)).sum() for a, b in pairwise(along)]
    assert counts == pytest.approx([400] * 4, abs=3)
    even = np.diff(traverse_latents(latents, n_points=5, percentiles=(10.0, 90.0))["pc"])
    np.testing.assert_allclose(even, even[0], rtol=1e-4)
    assert np.diff(path["pc"]).max() > 3 * np.diff(path["pc"]).min()


def test_on_data_points_are_particles_nearest_to_the_path():
    latents = as_latents(np.random.default_rng(1).normal(size=(300, 3)) * [5, 1, 1])
    path, free = (traverse_latents(latents, n_points=7, on_data=on_data) for on_data in (True, False))
    assert path.columns.tolist() == ["pc", "particle_id", "z1", "z2", "z3"]
    names = free[["z1", "z2", "z3"]]
    for _, point in names.iterrows():
        nearest = np.linalg.norm(latents.mu - point.to_numpy(), axis=1).argmin()
        assert latents.particle_id[nearest] in path["particle_id"].tolist()
    np.testing.assert_array_equal(path[["z1", "z2", "z3"]], latents.aligned_to(path["particle_id"].to_numpy()).mu)
    few = traverse_latents(as_latents(np.array([[0.0], [1.0], [9.0]])), n_points=20, on_data=True)
    assert sorted(few["particle_id"]) == ["p0", "p1", "p2"]
    assert few["pc"].is_monotonic_increasing


@pytest.mark.parametrize(
    "wrong",
    [{"n_points": 0}, {"percentiles": (95.0, 5.0)}, {"percentiles": (-1.0, 50.0)}, {"percentiles": (0.0, 101.0)}],
)
def test_impossible_traversals_are_refused(wrong):
    with pytest.raises(ValueError, match=r"points between percentiles .*, expected 1 or more between 0 and 100"):
        traverse_latents(as_latents(np.eye(4)), **wrong)


def test_unknown_spacing_is_refused():
    unchecked = getattr(traverse_latents, "__wrapped__", traverse_latents)  # types are checked in tests only
    with pytest.raises(ValueError, match="Got spacing 'foo', expected one of 'even', 'percentiles'"):
        unchecked(as_latents(np.eye(4)), 1, spacing="foo")
    for wrong in ({"component": 1.5}, {"n_points": 2.5}):
        with pytest.raises(ValueError, match="whole number"):
            unchecked(as_latents(np.eye(4)), **wrong)


# --- straight ---------------------------------------------------------------------------------------------------------


def test_straight_path_between_particles_and_points():
    latents = as_latents(np.array([[0, 0], [4, 2], [1, 0.6], [3.1, 1.4], [9, 9]]))
    path = straight_path(latents, "p0", np.array([4.0, 2.0]), n_points=5)
    assert path.index.tolist() == [f"line_00{i}" for i in range(5)]
    np.testing.assert_allclose(path[Z], [[0, 0], [1, 0.5], [2, 1], [3, 1.5], [4, 2]])
    on_data = straight_path(latents, "p0", "p1", n_points=4, on_data=True)
    assert on_data["particle_id"].tolist() == ["p0", "p2", "p3", "p1"]


def test_straight_path_refuses_unknown_ends():
    latents = as_latents(np.eye(3))
    with pytest.raises(KeyError, match="'x'"):
        straight_path(latents, "p0", "x")
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(3,\)"):
        straight_path(latents, "p0", np.zeros(2))
    with pytest.raises(ValueError, match="Got 1 points"):
        straight_path(latents, "p0", "p1", n_points=1)


# --- through the graph ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_graph_path_between_two_states_follows_the_particles_between_them(seed):
    """The straight path crosses the empty middle of the circle; that of the graph goes round, in order, on data."""
    latents, angle = planted_arc(seed)
    start, end = ends_of(latents, angle)
    path = graph_path(latents, [start, end])
    assert path["particle_id"].iloc[[0, -1]].tolist() == [start, end]
    radius = np.linalg.norm(path[Z], axis=1)
    assert radius.min() > 9
    at = angle[[int(name[1:]) for name in path["particle_id"]]]
    inner = at[(at > 0.1) & (at < np.pi - 0.1)]
    assert len(inner) > 8
    assert (np.diff(inner) > -0.05).all()
    assert (np.diff(inner) < 0.6).all()
    assert path["length"].iloc[-1] == pytest.approx(10 * np.pi, rel=0.15)
    np.testing.assert_array_equal(path[["z1", "z2"]], latents.aligned_to(path["particle_id"].to_numpy()).mu[:, :2])
    straight = straight_path(latents, start, end)
    assert np.linalg.norm(straight[Z], axis=1).min() < 1
    support, none = (path_support(latents, found, radius=1.5) for found in (path, straight))
    assert support["n_particles"].min() >= 10
    assert none["n_particles"].iloc[4] == 0
    assert support["density"].min() > 20 * none["density"].iloc[4]
    pd.testing.assert_frame_equal(path, graph_path(latents, [start, end]))


def test_thinned_graph_path_keeps_its_anchors_and_is_even():
    latents, angle = planted_arc(0)
    start, end = ends_of(latents, angle)
    middle = str(latents.particle_id[np.abs(angle - np.pi / 2).argmin()])
    whole = graph_path(latents, [start, middle, end], n_neighbors=8)
    assert whole.loc[whole["anchor"], "particle_id"].tolist() == [start, middle, end]
    thin = graph_path(latents, [start, middle, end], n_neighbors=8, n_points=6)
    assert len(thin) <= 7 < len(whole)
    assert thin["particle_id"].isin(whole["particle_id"]).all()
    assert thin.loc[thin["anchor"], "particle_id"].tolist() == [start, middle, end]
    assert np.diff(thin["length"]).max() < 2.5 * whole["length"].iloc[-1] / 5


def test_graph_path_is_the_shortest_of_all_chains():
    """Eight particles: every chain of neighbours tried by hand."""
    latents = as_latents(np.random.default_rng(4).normal(size=(7, 2)))
    path = graph_path(latents, ["p0", "p3"], n_neighbors=3)
    distance = np.linalg.norm(latents.mu[:, None] - latents.mu[None], axis=-1)
    near = np.argsort(distance, axis=1)[:, 1:4]
    joined = {frozenset((i, int(j))) for i in range(7) for j in near[i]}
    chains = [
        (0, *inner, 3)
        for n in range(6)
        for inner in permutations([1, 2, 4, 5, 6], n)
        if all(frozenset(pair) in joined for pair in pairwise((0, *inner, 3)))
    ]
    best = min(sum(distance[a, b] for a, b in pairwise(chain)) for chain in chains)
    assert path["length"].iloc[-1] == pytest.approx(best, rel=1e-5)


def test_graph_path_to_the_same_particle_and_back():
    latents = as_latents(np.arange(6.0)[:, None])
    path = graph_path(latents, ["p0", "p0", "p2", "p0"], n_neighbors=1)
    assert path["particle_id"].tolist() == ["p0", "p1", "p2", "p1", "p0"]


def test_graph_path_refuses_what_is_not_connected_or_known():
    latents, truth = planted_groups(0, (50, 40), apart=50.0)
    far = [str(latents.particle_id[np.argmax(truth == group)]) for group in (0, 1)]
    with pytest.raises(ValueError, match=r"no chain of neighbours between them .* Raise n_neighbors"):
        graph_path(latents, far, n_neighbors=5)
    with pytest.raises(KeyError, match=r"\['x'\].* Choose them from latents\.particle_id"):
        graph_path(latents, [far[0], "x"])
    with pytest.raises(ValueError, match="Got 1 anchors"):
        graph_path(latents, far[:1])


# --- tours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_tour_visits_clusters_on_a_line_in_order(seed):
    rng = np.random.default_rng(seed)
    place = rng.permutation(7) * 10.0
    latents = as_latents(np.repeat(place, 40)[:, None] * [0.6, 0.8] + rng.normal(size=(280, 2)))
    tour = cluster_tour(latents, 7, seed=seed)
    along = tour[Z].to_numpy() @ [0.6, 0.8]
    assert (np.diff(along) > 5).all() or (np.diff(along) < -5).all()
    assert tour["length"].iloc[-1] == pytest.approx(60, abs=6)
    assert tour["n_particles"].tolist() == [40] * 7
    clusters = cluster_latents(latents, 7, seed=seed)
    assert clusters[tour["particle_id"]].tolist() == tour["cluster"].tolist()
    pd.testing.assert_frame_equal(tour, cluster_tour(latents, 7, seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_tour_is_nearly_as_short_as_the_shortest(seed):
    centres = np.random.default_rng(seed).normal(size=(7, 2)) * 20
    tour = cluster_tour(as_latents(np.repeat(centres, 3, axis=0)), 7, seed=seed)
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    shortest = min(sum(distance[a, b] for a, b in pairwise(order)) for order in permutations(range(7)))
    assert shortest - 1e-3 <= tour["length"].iloc[-1] <= 1.05 * shortest


def test_tour_of_one_cluster_is_a_point():
    tour = cluster_tour(as_latents(np.eye(3)), 1)
    assert (len(tour), tour["length"].tolist()) == (1, [0.0])


# --- support ----------------------------------------------------------------------------------------------------------


def test_support_counts_by_hand():
    latents = as_latents(np.array([[0.0, 0], [1, 0], [0, 2], [5, 5]]))
    path = pd.DataFrame({"z1": [0.0, 4.0], "z2": [0.0, 5.0]}, index=["a", "b"])
    table = path_support(latents, path, radius=1.5)
    assert table.index.tolist() == ["a", "b"]
    assert table["n_particles"].tolist() == [2, 1]
    assert table["nearest_particle_id"].tolist() == ["p0", "p3"]
    assert table["nearest_distance"].tolist() == pytest.approx([0.0, 1.0])
    assert table.attrs["radius"] == 1.5


def test_density_is_that_of_the_normal_distribution():
    """At the mean exp(z / 2 * ln 2) times denser than at a typical (median) particle, nearly; far away empty."""
    latents = as_latents(np.random.default_rng(0).normal(size=(20_000, 2)))
    path = pd.DataFrame({"z1": [0.0, np.sqrt(2 * np.log(2)), 9.0], "z2": [0.0, 0.0, 9.0]})
    assert path_support(latents, path)["density"].tolist() == pytest.approx([2.0, 1.0, 0.0], rel=0.15, abs=1e-6)


def test_support_refuses_other_latents_and_radii():
    latents = as_latents(np.eye(3))
    with pytest.raises(KeyError, match="without the columns"):
        path_support(latents, pd.DataFrame({"z1": [0.0]}))
    for radius in (-1.0, 0.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=rf"radius {radius}, expected more than 0"):
            path_support(latents, latents.frame(), radius=radius)
    same = path_support(as_latents(np.zeros((6, 2))), pd.DataFrame({"z1": [0.0], "z2": [0.0]}))
    assert same["n_particles"].tolist() == [6], "all in one place have a scale of 0 of their own"
