"""PCA, UMAP, t-SNE, k-means, and the particle nearest to a point; of latents, or of any table of coordinates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int, Int64

from tomodrgn.analysis.options import is_whole
from tomodrgn.particles.latents import Latents, require_finite

__all__ = [
    "adjusted_rand_index",
    "cluster_centres",
    "cluster_latents",
    "nearest_particles",
    "number_by_size",
    "reduce_latents",
    "tsne_latents",
    "umap_latents",
]

_UMAP_PROGRESS = threading.Lock()


def reduce_latents(latents: Latents | pd.DataFrame, n_components: int = 2) -> pd.DataFrame:
    """Principal components of the latent means.

    Parameters
    ----------
    latents
        Latents, or a table of coordinates indexed by particle_id. A table is also taken by `umap_latents`,
        `tsne_latents`, `cluster_latents`, `cluster_centres` and `nearest_particles`, by `mixture_clusters`,
        `mixture_bic`, `cluster_stability`, `density_clusters` and `graph_clusters`, and by `associate_columns`; other
        functions need Latents.
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

    points, index = points_of(latents)
    if not is_whole(n_components) or n_components < 1:
        raise ValueError(
            f"Got {n_components} components, expected 1 to {points.shape[1]}. Choose such a whole number "
            "(n_components)."
        )
    n = min(n_components, points.shape[1], len(points))
    solver = "covariance_eigh" if len(points) >= 10 * points.shape[1] else "full"
    pca = PCA(n_components=n, svd_solver=solver, copy=False)
    values = pca.fit_transform(np.array(points, order="F"))  # sums along columns are faster so
    table = pd.DataFrame(values, index=index, columns=[f"PC{i + 1}" for i in range(n)])
    table.attrs["explained_variance_ratio"] = pca.explained_variance_ratio_.tolist()
    return table


def umap_latents(
    latents: Latents | pd.DataFrame,
    n_components: int = 2,
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """UMAP of the latent means (McInnes, Healy & Melville 2018, arXiv 1802.03426).

    One thread is used, as the result would not be that of the seed otherwise.

    Parameters
    ----------
    n_neighbors
        Neighbours of each particle in the graph; at most all others are used.
    min_dist
        Smallest distance of points in the embedding.
    seed
        The same seed gives the same embedding.
    progress
        Called with epochs done and all epochs while the points are laid out, and with (0, 0) before, while neighbours
        are searched. What it raises ends the work.

    Returns
    -------
    Columns UMAP1, UMAP2 ... indexed by particle_id.

    Raises
    ------
    ValueError
        If the latents have no dimension (a homogeneous model), or there are fewer than n_components + 2 particles.
    """
    import umap

    points, index = points_of(latents)
    numbers = is_whole(n_components) and is_whole(n_neighbors)
    if not numbers or not 1 <= n_components <= len(points) - 2 or n_neighbors < 2:
        raise ValueError(
            f"Got {n_components} UMAP components and {n_neighbors} neighbours for {len(points)} particles, expected 1 "
            f"component or more, 2 neighbours or more and at least {n_components + 2} particles. Choose such whole "
            "numbers, or more particles."
        )
    model = umap.UMAP(
        n_components=n_components,
        n_neighbors=min(n_neighbors, len(points) - 1),
        min_dist=min_dist,
        random_state=seed,
        n_jobs=1,
    )
    with _umap_progress(progress):
        values = model.fit_transform(points.astype(np.float32))
    return pd.DataFrame(values, index=index, columns=[f"UMAP{i + 1}" for i in range(n_components)])


@contextmanager
def _umap_progress(progress: Callable[[int, int], None] | None) -> Iterator[None]:
    """While open, UMAP tells its epochs to `progress`: it has no callback, only the bar that it counts them with."""
    if progress is None:
        yield
        return
    import umap.layouts

    def told(epochs: Iterable[int], **_: object) -> Iterator[int]:
        listed = list(epochs)
        for epoch in listed:
            yield epoch
            progress(epoch + 1, len(listed))

    with _UMAP_PROGRESS:
        progress(0, 0)
        bar, umap.layouts.tqdm = umap.layouts.tqdm, told
        try:
            yield
        finally:
            umap.layouts.tqdm = bar


def tsne_latents(latents: Latents | pd.DataFrame, *, perplexity: float = 30.0, seed: int = 0) -> pd.DataFrame:
    """t-SNE of the latent means in two dimensions (van der Maaten & Hinton 2008).

    Parameters
    ----------
    perplexity
        Effective number of neighbours; less than the number of particles.
    seed
        The same seed gives the same embedding.

    Returns
    -------
    Columns tSNE1 and tSNE2 indexed by particle_id.

    Raises
    ------
    ValueError
        If the latents have no dimension (a homogeneous model), or the perplexity is not less than the particles.
    """
    from sklearn.manifold import TSNE

    points, index = points_of(latents)
    if not 0 < perplexity < len(points):
        raise ValueError(
            f"Got perplexity {perplexity} for {len(points)} particles, expected more than 0 and less than "
            f"{len(points)}. Choose a smaller one, or more particles."
        )
    start = "pca" if points.shape[1] > 1 else "random"
    values = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(points.astype(np.float32))
    return pd.DataFrame(values, index=index, columns=["tSNE1", "tSNE2"])


def cluster_latents(latents: Latents | pd.DataFrame, n_clusters: int, *, seed: int = 0) -> pd.Series:
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
        If the number is not whole or not from 1 to that of the particles, or the latents have no dimension (a
        homogeneous model).
    """
    from sklearn.cluster import KMeans

    points, index = points_of(latents)
    if not is_whole(n_clusters) or not 1 <= n_clusters <= len(points):
        raise ValueError(
            f"Got {n_clusters} clusters for {len(points)} particles, expected 1 to {len(points)}. Choose such a whole "
            "number (n_clusters, --kmeans)."
        )
    labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(points)
    return pd.Series(number_by_size(labels), index=index, name="cluster")


def number_by_size(labels: Int[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
    """Labels numbered anew from 0 by falling size; those below 0 (noise) become -1.

    Examples
    --------
    >>> number_by_size(np.array([7, 3, 3, -1, 3, 7])).tolist()
    [1, 0, 0, -1, 0, 1]
    """
    found, which, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(np.where(found < 0, 1, -sizes), kind="stable")
    rank = np.empty(len(found), dtype=np.int64)
    rank[order] = np.arange(len(found))
    rank[found < 0] = -1
    return rank[which]


def cluster_centres(latents: Latents | pd.DataFrame, clusters: pd.Series) -> pd.DataFrame:
    """The particle of each cluster that is nearest to the cluster's mean: a point that the data supports.

    Particles of label -1 (noise) are left out.

    Returns
    -------
    One row a cluster, index ``cluster_000`` ..., columns cluster, n_particles, particle_id, and the coordinates: z1,
    z2 ... of latents, or those of the table.

    Raises
    ------
    KeyError
        If a particle of the clusters has no latent.
    ValueError
        If the latents have no dimension (a homogeneous model).
    """
    coordinates = _coordinates(latents, clusters.index)
    labels = np.unique(clusters[clusters >= 0].to_numpy())
    members = [np.flatnonzero(clusters.to_numpy() == label) for label in labels]
    values = coordinates.to_numpy()
    nearest = np.array([rows[_nearest_to_mean(values[rows])] for rows in members], dtype=np.int64)
    table = pd.DataFrame(
        {
            "cluster": labels,
            "n_particles": [len(rows) for rows in members],
            "particle_id": coordinates.index.to_numpy()[nearest],
        },
        index=[f"cluster_{label:03d}" for label in labels],
    )
    return table.assign(**{str(name): values[nearest, i] for i, name in enumerate(coordinates)})


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


def nearest_particles(latents: Latents | pd.DataFrame, points: Float[np.ndarray, "v z"]) -> Int64[np.ndarray, " v"]:
    """Row of the particle whose latent mean is nearest to each point (Euclidean).

    Parameters
    ----------
    points
        One row a point, as many columns as the latents have dimensions.

    Returns
    -------
    Rows, counted from 0, in the order of the points, (v,).

    Raises
    ------
    ValueError
        If the points are not (v, z) of at least one point, a coordinate is no finite number, or the latents have no
        dimension (a homogeneous model).
    """
    from sklearn.neighbors import NearestNeighbors

    known, _ = points_of(latents)
    wanted = np.asarray(points, dtype=np.float64)
    if wanted.ndim != 2 or wanted.shape[1] != known.shape[1] or not len(wanted):
        raise ValueError(
            f"Got points of shape {wanted.shape}, expected (v, {known.shape[1]}): one row a point, one or more. Give a "
            "single point as point[None]."
        )
    if not np.isfinite(wanted).all():
        bad = int(np.argmin(np.isfinite(wanted).all(axis=1)))
        raise ValueError(f"Got point {bad} with a coordinate that is no finite number, expected numbers. Leave it out.")
    search = NearestNeighbors(n_neighbors=1).fit(known)
    return search.kneighbors(wanted, return_distance=False)[:, 0].astype(np.int64)


def points_of(latents: Latents | pd.DataFrame) -> tuple[Float64[np.ndarray, "k z"], pd.Index]:
    """Coordinates of the particles, (k, z), and their names.

    Raises
    ------
    ValueError
        If there is no particle or no dimension (a homogeneous model), or a coordinate is no finite number.
    """
    if isinstance(latents, Latents):
        points, names = latents.points, latents.index
    else:
        points, names = latents.to_numpy(dtype=np.float64), latents.index.rename("particle_id")
        require_finite(points, names)
    if not points.shape[1]:
        raise ValueError("Got latents of 0 dimensions, expected at least 1. Train a model with z_dim of 1 or more.")
    if not len(points):
        raise ValueError("Got latents of 0 particles, expected at least 1. Choose some particles.")
    return points, names


def _coordinates(latents: Latents | pd.DataFrame, names: pd.Index) -> pd.DataFrame:
    """Coordinates of the named particles, in that order; columns z1, z2 ... or those of the table."""
    if isinstance(latents, Latents):
        chosen = latents.aligned_to(names.to_numpy())
        points_of(chosen)
        columns = [f"z{i + 1}" for i in range(chosen.z_dim)]
        return pd.DataFrame(chosen.mu, index=names, columns=columns)
    missing = names[~names.isin(latents.index)]
    if len(missing):
        raise KeyError(f"Got {len(missing)} particle ids without coordinates, first {missing[:3].tolist()}.")
    points_of(latents)
    return latents.loc[names]


def _nearest_to_mean(mu: np.ndarray) -> int:
    return int(np.square(mu - mu.mean(axis=0)).sum(axis=1).argmin())
