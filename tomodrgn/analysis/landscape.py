"""The space of the maps themselves: components of an ensemble of volumes within a mask.

Coordinates are a table by name, which UMAP and every kind of cluster of this floor take as they take latents:
``umap_latents(components.coordinates)``, ``cluster_latents(components.coordinates, 5)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Float64

__all__ = ["VolumeComponents", "reduce_volumes"]


@dataclass(frozen=True, kw_only=True)
class VolumeComponents:
    """Principal components of v maps.

    Parameters
    ----------
    coordinates
        Columns PC1, PC2 ..., one row a map, indexed by its name.
    explained_variance_ratio
        Share of the variance within the mask, (c,).
    mean
        Mean map, (d, d, d), axes zyx.
    components
        The maps along which the ensemble differs, of unit norm within the mask and 0 outside, (c, d, d, d).
    """

    coordinates: pd.DataFrame
    explained_variance_ratio: Float64[np.ndarray, " c"]
    mean: Float32[np.ndarray, "d d d"]
    components: Float32[np.ndarray, "c d d d"]


def reduce_volumes(
    maps: Float32[np.ndarray, "v d d d"],
    names: Iterable[str],
    *,
    region: Float[np.ndarray, "d d d"] | None = None,
    n_components: int = 10,
    seed: int = 0,
) -> VolumeComponents:
    """Principal components of an ensemble of maps: what differs, where, and how much of it each map has.

    Parameters
    ----------
    maps
        Axes zyx. A stack of 20,000 maps of box 32 takes 2.6 GB; a memory map serves.
    names
        Of the maps: particle ids, or names of cluster centres.
    region
        Weights from 0 to 1, by which the maps are multiplied (`tomodrgn.analysis.regions`); all voxels if not given.
    n_components
        At most the number of maps and of voxels are returned.
    seed
        Of the randomised solver that is used for large ensembles.

    Raises
    ------
    ValueError
        If there are fewer than two maps, names do not fit or repeat, or the region has another box or no voxel.
    """
    from sklearn.decomposition import PCA

    index = pd.Index([str(name) for name in names], name="name")
    if len(maps) < 2 or n_components < 1:
        raise ValueError(f"Got {len(maps)} maps and {n_components} components, expected at least two maps and one.")
    check_names(index, len(maps))
    inside = _inside(region, maps.shape[1:])
    weights = None if region is None else region[inside].astype(np.float32)
    values = maps[:, inside] if weights is None else maps[:, inside] * weights  # (v, voxels)
    if not np.isfinite(values).all():
        bad = index[int(np.argmin(np.isfinite(values).all(axis=1)))]
        raise ValueError(f"Got a voxel of map {bad!r} that is no finite number. Leave that map out.")
    pca = PCA(n_components=min(n_components, *values.shape), random_state=seed)
    coordinates = pca.fit_transform(values).astype(np.float64)
    n = pca.n_components_
    components = np.zeros((n, *maps.shape[1:]), dtype=np.float32)
    components[:, inside] = pca.components_
    return VolumeComponents(
        coordinates=pd.DataFrame(coordinates, index=index, columns=[f"PC{i + 1}" for i in range(n)]),
        explained_variance_ratio=np.asarray(pca.explained_variance_ratio_, dtype=np.float64),
        mean=maps.mean(axis=0, dtype=np.float64).astype(np.float32),
        components=components,
    )


def check_names(index: pd.Index, n_maps: int) -> None:
    """Refuse names that do not fit the maps.

    Raises
    ------
    ValueError
        If there are more or fewer of them, or one repeats.
    """
    if len(index) != n_maps:
        raise ValueError(f"Got {len(index)} names for {n_maps} maps, expected one each.")
    if index.has_duplicates:
        raise ValueError(f"Got the map name {index[index.duplicated()][0]!r} twice, expected unique names. Rename one.")


def _inside(region: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    if region is None:
        return np.ones(shape, dtype=bool)
    if region.shape != shape:
        raise ValueError(f"Got a region of shape {region.shape}, expected that of the maps, {shape}. Resample it.")
    inside = region > 0
    if not inside.any():
        raise ValueError("Got a region without a voxel above 0, expected weights from 0 to 1. Choose another region.")
    return inside
