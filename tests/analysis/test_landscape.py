"""Components of an ensemble are the masses that were planted; clusters take their coordinates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.analysis.ensembles import BOX, MASS, PLACES, VOXEL, blob, planted_maps
from tests.analysis.planted import SEEDS
from tomodrgn.analysis.clusters import mixture_bic
from tomodrgn.analysis.landscape import reduce_volumes
from tomodrgn.analysis.latent_space import adjusted_rand_index, cluster_centres, cluster_latents
from tomodrgn.analysis.regions import automatic_region, sphere_region


def names_of(maps: np.ndarray) -> list[str]:
    return [f"p{i}" for i in range(len(maps))]


@pytest.mark.parametrize("seed", SEEDS)
def test_components_are_the_planted_masses_and_clusters_the_planted_states(seed):
    maps, has = planted_maps(seed, {"knob": 0.45, "stalk": 0.25})
    found = reduce_volumes(maps, names_of(maps), region=automatic_region(maps), n_components=4, seed=seed)
    assert found.coordinates.columns.tolist() == ["PC1", "PC2", "PC3", "PC4"]
    assert found.explained_variance_ratio[1] > 5 * found.explained_variance_ratio[2]
    for mass in PLACES:
        wanted = blob(PLACES[mass], MASS)
        projected = np.linalg.norm([np.vdot(c, wanted) for c in found.components[:2]])
        assert projected > 0.9 * np.linalg.norm(wanted)
    two = found.coordinates[["PC1", "PC2"]]
    assert mixture_bic(two, range(1, 7), seed=seed)["bic"].idxmin() == 4
    states = pd.Series(2 * has["knob"] + has["stalk"], index=two.index)
    clusters = cluster_latents(two, 4, seed=seed)
    assert adjusted_rand_index(clusters, states) > 0.98
    assert cluster_centres(two, clusters)["n_particles"].tolist() == sorted(states.value_counts(), reverse=True)
    again = reduce_volumes(maps, names_of(maps), region=automatic_region(maps), n_components=4, seed=seed)
    pd.testing.assert_frame_equal(found.coordinates, again.coordinates)


def test_a_region_shows_only_what_is_in_it():
    maps, has = planted_maps(0, {"knob": 0.4, "stalk": 0.4})
    knob = sphere_region(BOX, VOXEL, PLACES["knob"], radius_angst=12.0)
    found = reduce_volumes(maps, names_of(maps), region=knob, n_components=2)
    along = found.coordinates["PC1"].to_numpy()
    assert abs(np.corrcoef(along, has["knob"])[0, 1]) > 0.97
    assert abs(np.corrcoef(along, has["stalk"])[0, 1]) < 0.2
    assert np.abs(found.components[:, knob == 0]).max() == 0


def test_components_by_hand():
    """Two voxels: values (0, 0), (2, 0), (1, 3), (1, -3): spreads 2/4 and 18/4 about (1, 0)."""
    maps = np.zeros((4, 2, 2, 2), np.float32)
    maps[:, 0, 0, 1], maps[:, 1, 1, 0] = [0, 2, 1, 1], [0, 0, 3, -3]
    found = reduce_volumes(maps, list("abcd"), n_components=2)
    np.testing.assert_allclose(np.abs(found.coordinates), [[0, 1], [0, 1], [3, 0], [3, 0]], atol=1e-5)
    np.testing.assert_allclose(found.explained_variance_ratio, [0.9, 0.1], atol=1e-5)
    np.testing.assert_allclose(found.mean[0, 0, 1], 1.0)
    half = np.full((2, 2, 2), 0.5, np.float32)
    np.testing.assert_allclose(
        reduce_volumes(maps, list("abcd"), region=half).coordinates["PC1"].abs(), [0, 0, 1.5, 1.5], atol=1e-5
    )


@pytest.mark.parametrize(
    ("names", "region", "words"),
    [
        (["a"], None, "Got 1 names for 3 maps"),
        (["a", "b", "a"], None, "'a' twice"),
        (["a", "b", "c"], np.ones((4, 4, 4)), r"region of shape \(4, 4, 4\)"),
        (["a", "b", "c"], np.zeros((2, 2, 2)), "without a voxel above 0"),
    ],
)
def test_what_does_not_fit_is_refused(names, region, words):
    function = getattr(reduce_volumes, "__wrapped__", reduce_volumes)
    with pytest.raises(ValueError, match=words):
        function(np.zeros((3, 2, 2, 2), np.float32), names, region=region)


def test_maps_that_are_not_finite_are_refused_by_name():
    maps = np.zeros((3, 2, 2, 2), np.float32)
    maps[1, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="map 'b' that is no finite number"):
        reduce_volumes(maps, list("abc"))
    with pytest.raises(ValueError, match="Got 1 maps"):
        reduce_volumes(maps[:1], ["a"])
