"""A mass that 30 % of the particles have is found in 30 % of them; a mass that all or none have is no two modes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.analysis.ensembles import BODY, BOX, MASS, PLACES, VOXEL, blob, planted_maps
from tests.analysis.planted import SEEDS
from tomodrgn.analysis.occupancy import occupied_shares, region_occupancy
from tomodrgn.analysis.regions import sphere_region


def names_of(maps: np.ndarray) -> list[str]:
    return [f"p{i}" for i in range(len(maps))]


def spheres(radius_angst: float = 10.0) -> dict[str, np.ndarray]:
    return {name: sphere_region(BOX, VOXEL, place, radius_angst=radius_angst) for name, place in PLACES.items()}


def whole_map() -> np.ndarray:
    return blob((0, 0, 0), BODY) + sum(blob(place, MASS) for place in PLACES.values())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_mass_in_thirty_percent_is_recovered(noise, seed):
    maps, has = planted_maps(seed, {"knob": 0.3, "stalk": 0.6}, n=300, noise=noise)
    table = region_occupancy(maps, names_of(maps), spheres())
    assert (table.index.name, table.columns.tolist()) == ("particle_id", ["knob", "stalk"])
    np.testing.assert_allclose(table.mean(), 1.0, rtol=0.05)
    found = occupied_shares(table, seed=seed)
    assert found["two_modes"].all()
    assert found.loc["knob", "share"] == pytest.approx(0.3, abs=0.05)
    assert found.loc["stalk", "share"] == pytest.approx(0.6, abs=0.05)
    for name, present in has.items():
        assert ((table[name] > found.loc[name, "threshold"]) == present).mean() > 0.98
    assert found.loc["knob", "high"] == pytest.approx(1 / 0.3, rel=0.1)
    pd.testing.assert_frame_equal(found, occupied_shares(table, seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_against_a_whole_consensus_occupancy_is_0_or_1(seed):
    maps, has = planted_maps(seed, {"knob": 0.3, "stalk": 0.6})
    table = region_occupancy(maps, names_of(maps), spheres(), consensus=whole_map())
    for name, present in has.items():
        assert table.loc[present, name].mean() == pytest.approx(1.0, abs=0.05)
        assert table.loc[~present, name].mean() == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_all_or_none_have_is_no_two_modes(share, seed):
    maps, _ = planted_maps(seed, {"knob": share, "stalk": 0.5})
    found = occupied_shares(region_occupancy(maps, names_of(maps), spheres(), consensus=whole_map()), seed=seed)
    assert found["two_modes"].tolist() == [False, True]


def test_solvent_level_of_a_map_does_not_matter():
    maps, _ = planted_maps(0, {"knob": 0.3}, n=20, noise=0.0)
    moved = maps + np.arange(20, dtype=np.float32)[:, None, None, None]
    knob = {"knob": spheres()["knob"]}
    one, other = (region_occupancy(m, names_of(maps), knob, consensus=maps[:].mean(axis=0)) for m in (maps, moved))
    np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e9])
def test_a_column_of_one_value_has_one_mode(value):
    found = occupied_shares(pd.DataFrame({"all": np.full(20, value), "some": [0.0] * 8 + [1.0] * 12}))
    row = found.loc["all"]
    assert (row["share"], row["separation"], row["two_modes"]) == (1.0, 0.0, False)
    assert row[["low", "high", "threshold"]].tolist() == pytest.approx([value] * 3)
    assert (found.loc["some", "two_modes"], found.loc["some", "share"]) == (True, 0.6)


@pytest.mark.parametrize("value", [np.nan, np.inf, "much"])
def test_occupancies_that_are_no_numbers_are_refused_by_name(value):
    column = pd.Series(np.arange(12.0), index=names_of(np.zeros(12)), dtype=object)
    column["p7"] = value
    with pytest.raises(ValueError, match=r"occupancy of 'knob' that is no finite number, of particle 'p7' \(1 such"):
        occupied_shares(pd.DataFrame({"knob": column}))


def test_refusals():
    maps, _ = planted_maps(0, {"knob": 0.3}, n=12)
    names = names_of(maps)
    with pytest.raises(ValueError, match=r"without density in the regions \['stalk'\]"):
        region_occupancy(maps - 0.0, names, {"stalk": spheres()["stalk"]}, consensus=blob((0, 0, 0), 5.0))
    with pytest.raises(ValueError, match="12 maps and 0 regions"):
        region_occupancy(maps, names, {})
    with pytest.raises(ValueError, match="Got 11 names for 12 maps"):
        region_occupancy(maps, names[1:], spheres())
    with pytest.raises(ValueError, match=r"regions \['small'\] of another shape"):
        getattr(region_occupancy, "__wrapped__", region_occupancy)(maps, names, {"small": np.ones((4, 4, 4))})
    with pytest.raises(ValueError, match="occupancies of 9 particles"):
        occupied_shares(pd.DataFrame({"knob": np.arange(9.0)}))
