"""Planted classes that come together are found, in a tomogram and around each other; random classes are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom

from tests.analysis.planted import SEEDS
from tests.analysis.tomograms import as_positions, random_positions
from tomodrgn.analysis.enrichment import enrich_around_classes, enrich_around_particles, enrich_in_tomograms
from tomodrgn.particles.position_set import Positions


def random_labels(positions: Positions, seed: int) -> pd.Series:
    classes = np.random.default_rng(seed + 900).choice(["free", "bound", "dead"], len(positions), p=[0.6, 0.3, 0.1])
    return pd.Series(classes, index=pd.Index(positions.particle_id, name="particle_id"))


def tomogram_of(positions: Positions) -> pd.Series:
    return pd.Series(positions.tomogram, index=positions.particle_id)


@pytest.mark.parametrize("seed", SEEDS)
def test_class_that_one_tomogram_has_more_of(seed):
    positions = random_positions(seed, 400, n_tomograms=8)
    labels = random_labels(positions, seed)
    labels[(positions.tomogram == "TS_03") & (np.random.default_rng(seed).random(400) < 0.6)] = "dead"
    table = enrich_in_tomograms(labels, tomogram_of(positions), seed=seed)
    assert len(table) == 8 * 3
    more = table[(table["p_family"] < 0.05) & (table["ratio"] > 1)]
    assert more[["tomogram", "class"]].to_numpy().tolist() == [["TS_03", "dead"]]
    assert more["ratio"].item() > 2.5
    less = table[(table["p_family"] < 0.05) & (table["ratio"] < 1)]
    assert set(less["tomogram"]) <= {"TS_03"}
    assert table["n_particles"].sum() == 400
    pd.testing.assert_frame_equal(table, enrich_in_tomograms(labels, tomogram_of(positions), seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_classes_raise_no_alarm_in_tomograms(seed):
    alarms = []
    for i in range(20):
        positions = random_positions(seed, 200, n_tomograms=5)
        labels = random_labels(positions, 50 * seed + i)
        table = enrich_in_tomograms(labels, tomogram_of(positions), n_permutations=200, seed=i)
        alarms.append((table["p_family"] < 0.05).any())
    assert sum(alarms) <= 3


def test_counts_and_chance_in_tomograms_by_hand():
    """Of 10 particles, 4 of class x, 5 in tomogram a, 4 of them x: expected 2, p by the hypergeometric distribution."""
    labels = pd.Series(list("xxxxyyyyyy"), index=[f"p{i}" for i in range(10)])
    tomogram = pd.Series(list("aaaabbbbba"), index=labels.index)
    table = enrich_in_tomograms(labels, tomogram[::-1], n_permutations=20_000).set_index(["tomogram", "class"])
    assert table["n_particles"].tolist() == [4, 1, 0, 5]
    row = table.loc[("a", "x")]
    assert row["expected"] == pytest.approx(2, abs=0.02)
    assert row["ratio"] == pytest.approx(2, abs=0.02)
    law = hypergeom(10, 4, 5)
    assert row["p_value"] == pytest.approx(2 * law.pmf(4), abs=0.005)
    assert 0.5 * row["p_value"] - 0.005 < row["p_family"] < row["p_value"] + 0.005  # all four numbers say the same


@pytest.mark.parametrize("seed", SEEDS)
def test_classes_that_come_together_are_found(seed):
    """Each of the first 60 has a partner beside it: bound next to bound."""
    rng = np.random.default_rng(seed)
    random = random_positions(seed, 400, n_tomograms=4)
    places, tomogram = np.array(random.position_angst), np.array(random.tomogram)
    places[-60:], tomogram[-60:] = places[:60] + rng.normal(size=(60, 3)) * 60, tomogram[:60]
    positions = as_positions(places, random.rotations, tomogram)
    labels = random_labels(positions, seed)
    labels.iloc[:60], labels.iloc[-60:] = "bound", "bound"
    table = enrich_around_classes(positions, labels, radius_angst=200.0, seed=seed).set_index(
        ["class", "neighbour_class"]
    )
    assert table.loc[("bound", "bound"), "p_family"] < 0.05
    assert table.loc[("bound", "bound"), "ratio"] == table["ratio"].max() > 1.3
    assert table.loc[("bound", "free"), "n_pairs"] == table.loc[("free", "bound"), "n_pairs"]
    each = enrich_around_particles(positions, labels, radius_angst=200.0, seed=seed)
    partners = each.iloc[[*range(60), *range(340, 400)]]
    assert (partners["n_same"] >= 1).mean() > 0.85
    assert partners["n_same"].sum() > 1.3 * partners["expected"].sum()
    assert partners["p_value"].mean() < each.drop(partners.index)["p_value"].mean()
    pd.testing.assert_frame_equal(each, enrich_around_particles(positions, labels, radius_angst=200.0, seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_classes_raise_no_alarm_around_each_other(seed):
    alarms, alone = [], []
    for i in range(15):
        positions = random_positions(100 * seed + i, 200)
        labels = random_labels(positions, i)
        table = enrich_around_classes(positions, labels, radius_angst=500.0, n_permutations=100, seed=i)
        alarms.append((table["p_family"] < 0.05).any())
        each = enrich_around_particles(positions, labels, radius_angst=500.0, n_permutations=100, seed=i)
        alone.append((each["p_value"] < 0.05).mean())
    assert sum(alarms) <= 3
    assert np.mean(alone) < 0.055


def test_crowding_and_frequent_classes_of_a_tomogram_are_chance():
    """Tomogram a is crowded and all bound, b is sparse and all free: within each there is nothing to find."""
    positions = random_positions(0, 200, n_tomograms=2)
    labels = pd.Series(np.where(positions.tomogram == "TS_00", "bound", "free"), index=positions.particle_id)
    table = enrich_around_classes(positions, labels, radius_angst=500.0)
    assert (table["p_family"] == 1).all()
    assert table.loc[table["n_pairs"] > 0, "ratio"].tolist() == [1.0, 1.0]


def test_counts_around_particles_by_hand():
    places = np.array([[0, 0, 0], [10, 0, 0], [20, 0, 0], [500, 0, 0]])
    positions = as_positions(places, np.stack([np.eye(3)] * 4), np.array(["a"] * 4))
    labels = pd.Series(["x", "x", "y", "x"], index=["p0", "p1", "p2", "p3"])
    each = enrich_around_particles(positions, labels, radius_angst=15.0)
    assert each["n_neighbours"].tolist() == [1, 2, 1, 0]
    assert each["n_same"].tolist() == [1, 1, 0, 0]
    assert each["p_value"].iloc[3] == 1.0
    table = enrich_around_classes(positions, labels, radius_angst=15.0)
    assert table["n_pairs"].tolist() == [2, 1, 1, 0]
    some = enrich_around_classes(positions, labels.iloc[:2], radius_angst=15.0)
    assert some["n_pairs"].tolist() == [2]


def test_refusals():
    positions = random_positions(0, 9)
    labels = random_labels(positions, 0)
    with pytest.raises(KeyError, match="1 labelled particles without a tomogram"):
        enrich_in_tomograms(labels, tomogram_of(positions).iloc[1:])
    with pytest.raises(KeyError, match="1 labelled particles without a position"):
        enrich_around_classes(positions, labels.rename({"p0": "x"}), radius_angst=10.0)
    with pytest.raises(ValueError, match=r"radius 0\.0 A"):
        enrich_around_particles(positions, labels, radius_angst=0.0)
    with pytest.raises(ValueError, match="0 permutations"):
        enrich_in_tomograms(labels, tomogram_of(positions), n_permutations=0)
    with pytest.raises(ValueError, match="'p0' with a missing label"):
        enrich_in_tomograms(labels.where(labels.index != "p0"), tomogram_of(positions))
