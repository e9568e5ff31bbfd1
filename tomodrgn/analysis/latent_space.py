"""PCA, k-means, and the particle nearest to a point."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from tomodrgn.particles.latents import Latents

__all__ = ["adjusted_rand_index", "cluster_centres", "cluster_latents", "nearest_particles", "reduce_latents"]


def reduce_latents(latents: Latents, n_components: int = 2) -> pd.DataFrame:
    """Principal components of the latent means.

    Parameters
    ----------
    n_components
        Number of components; at most the number of latent dimensions and of particles are returned.

    Returns
    -------
    Columns PC1, PC2 ... indexed by particle_id; `attrs["explained_variance_ratio"]` has the share of each.

    Raises
    ------
    ValueError
        If the latents have no dimension (a homogeneous model), or no component is asked for.
    """
    from sklearn.decomposition import PCA

    check_dimensions(latents)
    if n_components < 1:
        raise ValueError(f"Got {n_components} components, expected 1 to {latents.z_dim}.")
    n = min(n_components, latents.z_dim, len(latents))
    pca = PCA(n_components=n, svd_solver="full")
    values = pca.fit_transform(latents.mu.astype(np.float64))
    table = pd.DataFrame(values, index=_index(latents), columns=[f"PC{i + 1}" for i in range(n)])
    table.attrs["explained_variance_ratio"] = pca.explained_variance_ratio_.tolist()
    return table


def cluster_latents(latents: Latents, n_clusters: int, *, seed: int = 0) -> pd.Series:
    """k-means clusters of the latent means, numbered from 0 by falling size.

    Parameters
    ----------
    n_clusters
        Number of clusters, from 1 to the number of particles.
    seed
        Seed of the starting points; the same seed gives the same labels.

    Returns
    -------
    Series "cluster" indexed by particle_id.

    Raises
    ------
    ValueError
        If there are fewer particles than clusters, or the latents have no dimension (a homogeneous model).
    """
    from sklearn.cluster import KMeans

    check_dimensions(latents)
    if not 1 <= n_clusters <= len(latents):
        raise ValueError(f"Got {n_clusters} clusters for {len(latents)} particles, expected 1 to {len(latents)}.")
    labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(latents.mu.astype(np.float64))
    by_size = np.argsort(-np.bincount(labels, minlength=n_clusters), kind="stable")
    rank = np.empty(n_clusters, dtype=np.int64)
    rank[by_size] = np.arange(n_clusters)
    return pd.Series(rank[labels], index=_index(latents), name="cluster")


def cluster_centres(latents: Latents, clusters: pd.Series) -> pd.DataFrame:
    """The particle of each cluster that is nearest to the cluster's mean: a point that the data supports.

    Returns
    -------
    One row a cluster, index ``cluster_000`` ..., columns cluster, n_particles, particle_id, z1, z2 ...

    Raises
    ------
    KeyError
        If a particle of the clusters has no latent.
    ValueError
        If the latents have no dimension (a homogeneous model).
    """
    latents = latents.aligned_to(clusters.index.to_numpy())
    check_dimensions(latents)
    labels = np.unique(clusters.to_numpy())
    members = [np.flatnonzero(clusters.to_numpy() == label) for label in labels]
    nearest = np.array([rows[_nearest_to_mean(latents.mu[rows])] for rows in members])
    table = pd.DataFrame(
        {
            "cluster": labels,
            "n_particles": [len(rows) for rows in members],
            "particle_id": latents.particle_id[nearest],
        },
        index=[f"cluster_{label:03d}" for label in labels],
    )
    return table.assign(**{f"z{i + 1}": latents.mu[nearest, i] for i in range(latents.z_dim)})


def adjusted_rand_index(labels_a: pd.Series, labels_b: pd.Series) -> float:
    """Agreement of two labellings of the same particles: 1 is perfect, 0 is chance (Hubert & Arabie 1985).

    Raises
    ------
    ValueError
        If the two name different particles.

    Examples
    --------
    >>> a = pd.Series([0, 0, 1, 1], index=["p", "q", "r", "s"])
    >>> adjusted_rand_index(a, a.map({0: "x", 1: "y"}))
    1.0
    """
    from sklearn.metrics import adjusted_rand_score

    if len(labels_a) != len(labels_b) or not labels_a.index.isin(labels_b.index).all():
        raise ValueError(
            f"Got labels of {len(labels_a)} and of {len(labels_b)} particles, expected the same particle ids in both."
        )
    return float(adjusted_rand_score(labels_a, labels_b.loc[labels_a.index]))


def nearest_particles(latents: Latents, points: Float[np.ndarray, "v z"]) -> Int64[np.ndarray, " v"]:
    """Row of the particle whose latent mean is nearest to each point (Euclidean)."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=1).fit(latents.mu)
    return search.kneighbors(np.asarray(points), return_distance=False)[:, 0].astype(np.int64)


def check_dimensions(latents: Latents) -> None:
    """Refuse the latents of a homogeneous model.

    Raises
    ------
    ValueError
        If the latents have no dimension.
    """
    if not latents.z_dim:
        raise ValueError("Got latents of 0 dimensions, expected at least 1. Train a model with z_dim of 1 or more.")


def _nearest_to_mean(mu: np.ndarray) -> int:
    return int(np.square(mu - mu.mean(axis=0)).sum(axis=1).argmin())


def _index(latents: Latents) -> pd.Index:
    return pd.Index(latents.particle_id, name="particle_id")
