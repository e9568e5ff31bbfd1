"""Planted pairs of neighbours are found by their geometry and by their distance; random placement is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from tests.analysis.planted import SEEDS
from tests.analysis.tomograms import as_positions, planted_pairs, random_positions
from tomodrgn.analysis.neighbourhood import nearest_neighbours, pair_distances, recurrent_pairs
from tomodrgn.imaging.pose import axis_rotation


def pairs_of(table: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(table["particle_id"], table["neighbour_id"], strict=True))


# --- nearest ----------------------------------------------------------------------------------------------------------


def test_neighbours_by_hand():
    """p1 stands on the x axis of the tomogram, which is the y axis of p0, turned by 90 degrees about z."""
    turned = Rotation.from_euler("z", -90, degrees=True).as_matrix()
    places = np.array([[0, 0, 0], [30, 0, 0], [0, 0, 100], [0, 0, 1]])
    positions = as_positions(places, np.stack([turned, *[np.eye(3)] * 3]), np.array(["a", "a", "a", "b"]))
    table = nearest_neighbours(positions, 2)
    assert table.columns[:4].tolist() == ["particle_id", "rank", "neighbour_id", "distance_angst"]
    assert table["particle_id"].tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]  # p3 is alone in its tomogram
    assert table["rank"].tolist() == [1, 2] * 3
    assert table["neighbour_id"].tolist() == ["p1", "p2", "p0", "p2", "p0", "p1"]
    first = table.iloc[0]
    assert first[["x_angst", "y_angst", "z_angst"]].tolist() == pytest.approx([0, 30, 0], abs=1e-9)
    assert table["angle_deg"].tolist() == pytest.approx([90, 90, 90, 0, 90, 0], abs=1e-4)
    assert table["distance_angst"].tolist() == pytest.approx([30, 100, 30, np.hypot(30, 100), 100, np.hypot(30, 100)])
    near = nearest_neighbours(positions, 2, max_distance_angst=50.0)
    assert pairs_of(near) == {("p0", "p1"), ("p1", "p0")}


@pytest.mark.parametrize(("n", "distance"), [(0, 5.0), (1, 0.0), (1, np.nan), (1.5, 5.0)])
def test_no_neighbour_or_no_distance_is_refused_with_a_cure(n, distance):
    unchecked = getattr(nearest_neighbours, "__wrapped__", nearest_neighbours)
    with pytest.raises(ValueError, match=rf"Got {n} neighbours up to {distance} A, .* Raise n_neighbours or max_dist"):
        unchecked(random_positions(0, 5), n, max_distance_angst=distance)


def test_neighbours_against_all_distances():
    positions = random_positions(0, 60)
    table = nearest_neighbours(positions, 3)
    for i, name in enumerate(positions.particle_id):
        distance = np.linalg.norm(positions.position_angst - positions.position_angst[i], axis=1)
        distance[(positions.tomogram != positions.tomogram[i]) | (np.arange(60) == i)] = np.inf
        wanted = positions.particle_id[np.argsort(distance)[:3]].tolist()
        assert table.loc[table["particle_id"] == name, "neighbour_id"].tolist() == wanted


def test_geometry_does_not_change_when_the_tomogram_is_turned():
    positions, _ = planted_pairs(0)
    turn = Rotation.from_euler("ZYZ", [30, 50, 70], degrees=True).as_matrix()
    other = as_positions(positions.position_angst @ turn.T + 5, turn @ positions.rotations, positions.tomogram)
    pd.testing.assert_frame_equal(nearest_neighbours(positions), nearest_neighbours(other))


def test_particles_in_one_place_are_neighbours_but_not_their_own():
    positions = as_positions(np.zeros((4, 3)), np.stack([np.eye(3)] * 4), np.array(["a"] * 4))
    table = nearest_neighbours(positions, 2)
    assert (table["particle_id"] != table["neighbour_id"]).all()
    assert table["rank"].tolist() == [1, 2] * 4


# --- geometry that comes back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_pairs_are_found(seed):
    positions, planted = planted_pairs(seed)
    table = recurrent_pairs(positions, max_distance_angst=300.0, seed=seed)
    found = pairs_of(table[table["recurrent"]])
    assert len(planted & found) > 0.9 * len(planted)
    assert len(found - planted) < 0.1 * len(planted)
    assert table["n_alike"].iloc[0] >= 20 > 4 * max(table.attrs["n_alike_by_chance"])
    pd.testing.assert_frame_equal(table, recurrent_pairs(positions, max_distance_angst=300.0, seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_placement_has_no_pairs_that_come_back(seed):
    alarms = [
        recurrent_pairs(random_positions(100 * seed + i, 200), max_distance_angst=500.0, seed=i)["recurrent"].any()
        for i in range(10)
    ]
    assert sum(alarms) <= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_orientation_that_all_share_is_chance(seed):
    """Particles on a membrane, turned at random about its normal only: nothing that the null does not have."""
    rng = np.random.default_rng(seed)
    places = np.concatenate([rng.uniform(0, 3000, (200, 2)), rng.normal(0, 5, (200, 1))], axis=1)
    rotations = axis_rotation("z", rng.uniform(0, 360, 200))
    table = recurrent_pairs(as_positions(places, rotations, np.array(["a"] * 200)), max_distance_angst=300.0, seed=seed)
    assert not table["recurrent"].any()


def test_number_of_alike_pairs_by_hand():
    """Three pairs of one geometry, one of them 29 A and another 31 A off, one turned by 40 degrees."""
    start = np.arange(4)[:, None] * np.array([5000.0, 0, 0])
    steps = np.array([[100, 0, 0], [100, 29, 0], [100, 0, 31], [100, 0, 0]])
    rotations = np.stack([np.eye(3)] * 7 + [Rotation.from_euler("z", 40, degrees=True).as_matrix()])
    positions = as_positions(np.concatenate([start, start + steps]), rotations, np.array(["a"] * 8))
    table = recurrent_pairs(positions, max_distance_angst=200.0, n_permutations=1).set_index("particle_id")
    assert table.loc[["p0", "p1", "p2", "p3"], "n_alike"].tolist() == [1, 1, 0, 0]


def test_no_pair_gives_an_empty_table():
    table = recurrent_pairs(random_positions(0, 3, n_tomograms=3), max_distance_angst=100.0)
    assert len(table) == 0
    assert {"n_alike", "p_family", "recurrent"} <= set(table.columns)


# --- distances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_distance_is_an_excess(seed):
    """Pairs at about 195 A, whatever their orientation."""
    positions, _ = planted_pairs(seed)
    mixed = as_positions(positions.position_angst, random_positions(seed).rotations, positions.tomogram)
    table = pair_distances(mixed, max_distance_angst=500.0, n_bins=10, seed=seed)
    found = table[table["p_family"] < 0.05]
    assert found["from_angst"].min() == 150.0
    assert found["to_angst"].max() <= 250.0
    assert found["ratio"].max() > 2
    pd.testing.assert_frame_equal(table, pair_distances(mixed, max_distance_angst=500.0, n_bins=10, seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_placement_has_no_distance_in_excess(seed):
    alarms, ratios = [], []
    for i in range(10):
        table = pair_distances(random_positions(100 * seed + i, 200), max_distance_angst=600.0, n_bins=6, seed=i)
        alarms.append((table["p_family"] < 0.05).any())
        ratios.append(table["ratio"].iloc[-1])
    assert sum(alarms) <= 2
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_every_pair_is_counted_once():
    positions = as_positions(np.arange(4)[:, None] * [10.0, 0, 0], np.stack([np.eye(3)] * 4), np.array(["a"] * 4))
    table = pair_distances(positions, max_distance_angst=35.0, n_bins=7, n_permutations=2)
    assert table["n_pairs"].tolist() == [0, 0, 3, 0, 2, 0, 1]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_nothing_to_ask_for_is_refused():
    positions = random_positions(0, 9)
    with pytest.raises(ValueError, match="Got 0 neighbours"):
        nearest_neighbours(positions, 0)
    with pytest.raises(ValueError, match=r"distance 0\.0 A"):
        recurrent_pairs(positions, max_distance_angst=0.0)
    with pytest.raises(ValueError, match="0 permutations"):
        pair_distances(positions, max_distance_angst=10.0, n_permutations=0)
