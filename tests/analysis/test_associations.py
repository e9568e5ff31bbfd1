"""A planted association ranks first, columns that must not correlate are flagged, and chance raises no false alarm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mutual_info_score

from tests.analysis.planted import SEEDS, as_latents
from tomodrgn.analysis.associations import associate_columns, nuisance_of
from tomodrgn.particles.latents import Latents


def with_columns(seed: int, k: int = 600) -> tuple[Latents, pd.DataFrame]:
    """Latents of 4 axes and columns that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    latents = as_latents(rng.normal(size=(k, 4)))
    columns = pd.DataFrame(
        {
            "rlnDefocusU": rng.uniform(1e4, 4e4, k),
            "rlnAngleTilt": rng.uniform(0, 180, k),
            "n_tilts": rng.integers(30, 42, k),
            "tomogram": rng.choice([f"TS_{i:02d}" for i in range(12)], k),
            "rlnClassNumber": rng.integers(1, 5, k),
            "score": rng.normal(size=k),
            "treatment": rng.choice(["none", "drug"], k),
        },
        index=pd.Index(latents.particle_id, name="particle_id"),
    )
    return latents, columns


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_text_column_ranks_first_and_alone(seed):
    latents, columns = with_columns(seed)
    columns["treatment"] = np.where(
        latents.mu[:, 2] + np.random.default_rng(seed + 100).normal(size=600) > 0, "drug", "none"
    )
    table = associate_columns(latents, columns, seed=seed)
    assert table.loc[0, ["column", "axis", "kind"]].tolist() == ["treatment", "z3", "name"]
    assert table.loc[0, "p_family"] < 0.01
    assert 0.1 < table.loc[0, "strength"] < 0.5
    assert (table.loc[1:, "p_family"] >= 0.05).all()
    assert not table["warning"].any()
    assert len(table) == 7 * 4
    pd.testing.assert_frame_equal(table, associate_columns(latents, columns, seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "kind", "plant"),
    [
        ("rlnDefocusU", "defocus", lambda z: 2e4 + 3e3 * np.abs(z)),  # no correlation coefficient sees this one
        ("n_tilts", "tilt count", lambda z: (35 + 2 * z).round().astype(int)),
        ("tomogram", "tomogram", lambda z: np.where(z > 0.5, "TS_01", "TS_02")),
        ("rlnAngleTilt", "pose", lambda z: 90 + 40 * np.tanh(z)),
    ],
)
def test_columns_that_must_not_correlate_are_flagged(name, kind, plant, seed):
    latents, columns = with_columns(seed)
    columns[name] = plant(latents.mu[:, 0])
    some, mixed = np.random.default_rng(seed + 100).random(600) < 0.7, columns[name].sample(frac=1, random_state=seed)
    columns[name] = columns[name].where(some, mixed.to_numpy())
    table = associate_columns(latents, columns, seed=seed)
    flagged = table[table["warning"]]
    assert flagged["column"].tolist() == [name]
    assert flagged["axis"].tolist() == ["z1"]
    assert flagged["nuisance"].tolist() == [kind]
    assert associate_columns(latents, columns, seed=seed, min_strength=0.9)["warning"].sum() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_chance_raises_an_alarm_in_five_percent_of_tables_at_most(seed):
    """20 sets of columns shuffled against the latents: at most 5 % of rows by themselves, and few whole tables."""
    alone, family = [], []
    for repeat in range(20):
        latents, columns = with_columns(1000 * seed + repeat, k=120)
        table = associate_columns(latents, columns, n_permutations=99, seed=repeat)
        alone.append((table["p_value"] < 0.05).mean())
        family.append((table["p_family"] < 0.05).any())
    assert 0.01 < np.mean(alone) < 0.065
    assert np.sum(family) <= 3  # 1 of 20 is expected; more than 3 come in less than 2 % of cases


def test_clusters_are_one_more_axis():
    latents, columns = with_columns(0)
    clusters = pd.Series(np.random.default_rng(0).integers(0, 3, 600), index=columns.index, name="cluster")
    columns["rlnClassNumber"] = (clusters.to_numpy() + 2) % 3  # the same groups by other names
    shuffled = clusters.sample(frac=1, random_state=0)
    table = associate_columns(latents, columns, clusters=shuffled, seed=1)
    assert table.loc[0, ["column", "axis"]].tolist() == ["rlnClassNumber", "cluster"]
    assert table.loc[0, "strength"] == pytest.approx(1.0)
    assert table.loc[0, "mutual_information"] == pytest.approx(np.log(3), rel=0.01)
    assert np.isnan(table.loc[0, "correlation_ratio"])
    assert (table["axis"] == "cluster").sum() == 7


def test_numbers_against_scikit_learn_and_by_hand():
    latents, columns = with_columns(3, k=216)  # six bins
    table = associate_columns(latents, columns, n_permutations=50).set_index(["column", "axis"])
    axis = pd.Series(latents.mu[:, 1])
    bins = pd.qcut(axis, 6, labels=False)
    expected = mutual_info_score(columns["treatment"], bins)
    assert table.loc[("treatment", "z2"), "mutual_information"] == pytest.approx(expected, abs=1e-9)
    both = mutual_info_score(pd.qcut(columns["score"], 6, labels=False), bins)
    assert table.loc[("score", "z2"), "mutual_information"] == pytest.approx(both, abs=1e-9)
    between = axis.groupby(columns["treatment"].to_numpy()).transform("mean")
    assert table.loc[("treatment", "z2"), "correlation_ratio"] == pytest.approx(between.var() / axis.var(), rel=1e-4)
    assert table.loc[("rlnClassNumber", "z1"), "n_values"] == 4
    assert table.loc[("score", "z1"), "n_values"] == 6


def test_joined_by_name_whatever_the_order():
    latents, columns = with_columns(0)
    columns["treatment"] = np.where(latents.mu[:, 2] > 0, "drug", "none")
    mixed = columns.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(associate_columns(latents, columns), associate_columns(latents, mixed))


def test_empty_identifying_and_missing_columns():
    latents, columns = with_columns(0)
    odd = pd.DataFrame(
        {
            "constant": "one",
            "rlnImageName": [f"{i}@stack" for i in range(600)],
            "holes": np.where(latents.mu[:, 0] > 1, np.nan, columns["score"]),
            "text_holes": pd.Series(["a", None] * 300, index=columns.index),
            "flag": latents.mu[:, 1] > 0,
        },
        index=columns.index,
    )
    table = associate_columns(latents, odd)
    assert set(table["column"]) == {"holes", "text_holes", "flag"}
    assert set(table.loc[:1, "column"]) == {"holes", "flag"}
    nothing = associate_columns(latents, odd[["constant", "rlnImageName"]])
    assert len(nothing) == 0
    assert nothing.columns.tolist() == table.columns.tolist()


def test_progress_is_told():
    told = []
    associate_columns(*with_columns(0, 50), n_permutations=3, progress=lambda done, n: told.append((done, n)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_wrong_input_is_refused():
    latents, columns = with_columns(0, 50)
    with pytest.raises(KeyError, match=r"1 of 50 particles without a row of columns, first \['p0'\]"):
        associate_columns(latents, columns.iloc[1:])
    with pytest.raises(KeyError, match="1 particles without a cluster"):
        associate_columns(latents, columns, clusters=columns["rlnClassNumber"].iloc[1:])
    with pytest.raises(ValueError, match="'p0' twice"):
        associate_columns(latents, pd.concat([columns, columns.iloc[:1]]))
    for few, n in ((9, 10), (50, 0)):
        with pytest.raises(ValueError, match=f"Got {few} particles and {n} permutations"):
            associate_columns(*with_columns(0, few), n_permutations=n)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("rlnDefocusAngle", "defocus"),
        ("rlnTomoVisibleFrames", "tilt count"),
        ("rlnTomoName", "tomogram"),
        ("rlnOriginZAngst", "pose"),
        ("rlnCoordinateX", "pose"),
        ("rlnRandomSubset", ""),
        ("rlnLogLikeliContribution", ""),
    ],
)
def test_kinds_of_columns(column, kind):
    assert nuisance_of(column) == kind
