"""Clusters beyond k-means: mixtures, density, graph; and how many there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from tomodrgn.analysis.latent_space import number_by_size, points_of
from tomodrgn.analysis.options import is_whole, require_word
from tomodrgn.particles.latents import Latents

__all__ = ["cluster_stability", "density_clusters", "graph_clusters", "mixture_bic", "mixture_clusters"]

Covariance = Literal["full", "tied", "diag", "spherical"]


def mixture_clusters(
    latents: Latents | pd.DataFrame, n_clusters: int, *, covariance: Covariance = "full", seed: int = 0
) -> pd.DataFrame:
    """Clusters of a Gaussian mixture, numbered from 0 by falling size.

    Parameters
    ----------
    n_clusters
        Number of Gaussians, from 1 to the number of particles.
    covariance
        Shape of the Gaussians, as scikit-learn names them: ``"full"``, ``"tied"``, ``"diag"`` or ``"spherical"``.
    seed
        Seed of the starting points; the same seed gives the same labels.

    Returns
    -------
    Indexed by particle_id: `cluster`, and `probability`, with which the particle belongs to it.

    Raises
    ------
    ValueError
        If there are fewer particles than clusters, or fewer than two, the latents have no dimension, or `covariance` is
        another word.
    """
    points, index = points_of(latents)
    mixture = _fit_mixture(points, n_clusters, covariance, seed)
    membership = mixture.predict_proba(points)
    labels = number_by_size(membership.argmax(axis=1))
    return pd.DataFrame({"cluster": labels, "probability": membership.max(axis=1)}, index=index)


def mixture_bic(
    latents: Latents | pd.DataFrame,
    n_clusters: Iterable[int] = range(1, 11),
    *,
    covariance: Covariance = "full",
    seed: int = 0,
) -> pd.DataFrame:
    """Bayesian information criterion of Gaussian mixtures (Schwarz 1978): the smallest is the best number of clusters.

    Returns
    -------
    One row a number, index n_clusters: `bic`, `log_likelihood` (mean of a particle), and `best`, True in one row.

    Raises
    ------
    ValueError
        As by `mixture_clusters`, or if no number is given.
    """
    points, _ = points_of(latents)
    numbers = list(dict.fromkeys(n_clusters))
    if not numbers:
        raise ValueError("Got no number of clusters, expected at least one. Give a range such as range(1, 11).")
    fits = [_fit_mixture(points, n, covariance, seed) for n in numbers]
    bic = np.array([fit.bic(points) for fit in fits])
    return pd.DataFrame(
        {
            "bic": bic,
            "log_likelihood": [float(fit.score(points)) for fit in fits],
            "best": np.arange(len(bic)) == bic.argmin(),
        },
        index=pd.Index(numbers, name="n_clusters"),
    )


def cluster_stability(
    latents: Latents | pd.DataFrame,
    n_clusters: Iterable[int] = range(2, 11),
    *,
    n_repeats: int = 10,
    share: float = 0.5,
    seed: int = 0,
) -> pd.DataFrame:
    """How far k-means of random parts of the particles agrees: a number that the data has gives the same clusters.

    Two random parts of the particles are clustered each by itself; all particles are then given to the nearest centre
    of either, and the adjusted Rand index of the two labellings is taken (Ben-Hur, Elisseeff & Guyon 2002).

    Parameters
    ----------
    n_repeats
        Pairs of random parts.
    share
        Share of the particles in a part.

    Returns
    -------
    One row a number, index n_clusters: `stability` (mean index, 1 is perfect) and `stability_std`.

    Raises
    ------
    ValueError
        If a number is below 1, or a part has fewer particles than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    points, _ = points_of(latents)
    rng = np.random.default_rng(seed)
    size = round(share * len(points))
    numbers = list(dict.fromkeys(n_clusters))
    for n in numbers:
        if not is_whole(n) or not 1 <= n <= size <= len(points):
            raise ValueError(
                f"Got {n} clusters for parts of {size} of {len(points)} particles, expected 1 to {size}. Ask for "
                "fewer, or take larger parts (share, up to 1)."
            )
    rows = []
    for n in numbers:
        scores = []
        for _ in range(n_repeats):
            parts = [points[rng.choice(len(points), size, replace=False)] for _ in range(2)]
            fits = [KMeans(n, n_init=10, random_state=int(rng.integers(2**31))).fit(part) for part in parts]
            scores.append(adjusted_rand_score(*(fit.predict(points) for fit in fits)))
        rows.append({"stability": float(np.mean(scores)), "stability_std": float(np.std(scores))})
    return pd.DataFrame(rows, index=pd.Index(numbers, name="n_clusters"))


def density_clusters(
    latents: Latents | pd.DataFrame, *, min_cluster_size: int | None = None, min_samples: int | None = None
) -> pd.DataFrame:
    """Clusters of crowded regions, whatever their shape, and -1 for particles in none (HDBSCAN, Campello et al. 2015).

    The result does not depend on chance. Time rises with the square of the particles: about 10 s for 20,000 of 8
    dimensions.

    Parameters
    ----------
    min_cluster_size
        Smallest cluster; a hundredth of the particles, at least 10, if not given.
    min_samples
        Neighbours that make a region crowded; `min_cluster_size`, at most 25, if not given.

    Returns
    -------
    Indexed by particle_id: `cluster`, numbered from 0 by falling size, and `probability`, 1 in the midst of the
    cluster and 0 for noise.

    Raises
    ------
    ValueError
        If there are not at least as many particles as `min_cluster_size` and `min_samples`, or those are too small.
    """
    from sklearn.cluster import HDBSCAN

    points, index = points_of(latents)
    size = min(len(points), max(10, len(points) // 100)) if min_cluster_size is None else min_cluster_size
    samples = min(size, 25) if min_samples is None else min_samples
    if size < 2 or samples < 1 or max(size, samples) > len(points):
        raise ValueError(
            f"Got min_cluster_size {size} and min_samples {samples} for {len(points)} particles, "
            f"expected 2 and 1 or more, and at most {len(points)}."
        )
    fit = HDBSCAN(min_cluster_size=size, min_samples=samples, copy=True).fit(points)
    return pd.DataFrame({"cluster": number_by_size(fit.labels_), "probability": fit.probabilities_}, index=index)


def graph_clusters(
    latents: Latents | pd.DataFrame, *, n_neighbors: int = 15, resolution: float = 1.0, seed: int = 0
) -> pd.Series:
    """Communities of the neighbour graph, found by Leiden's algorithm (Traag, Waltman & van Eck 2019).

    Parameters
    ----------
    n_neighbors
        Neighbours of each particle; two particles are joined if either is among the other's.
    resolution
        Of the modularity: more gives more and smaller clusters.
    seed
        The same seed gives the same labels.

    Returns
    -------
    Series "cluster" indexed by particle_id, numbered from 0 by falling size.

    Raises
    ------
    ValueError
        If there are fewer than 3 particles, no neighbour is asked for, or the resolution is not positive.
    """
    from sknetwork.clustering import Leiden

    points, index = points_of(latents)
    if resolution <= 0:
        raise ValueError(f"Got resolution {resolution}, expected more than 0. The usual one is 1.")
    graph = neighbour_graph(points, n_neighbors)
    graph.data[:] = 1.0
    labels = Leiden(resolution=resolution, random_state=seed).fit_predict(graph)
    return pd.Series(number_by_size(np.asarray(labels)), index=index, name="cluster")


def neighbour_graph(points: np.ndarray, n_neighbors: int) -> Any:
    """Symmetric graph of the distances to the nearest neighbours, a scipy.sparse.csr_matrix (k, k).

    Raises
    ------
    ValueError
        If there are fewer than 3 particles, or no neighbour is asked for.
    """
    from sklearn.neighbors import kneighbors_graph

    if n_neighbors < 1 or len(points) < 3:
        raise ValueError(
            f"Got {n_neighbors} neighbours in a graph of {len(points)} particles, expected at least 1 and 3. "
            "Choose more neighbours (n_neighbors), or more particles."
        )
    graph = kneighbors_graph(points, min(n_neighbors, len(points) - 1), mode="distance")
    graph.data = np.maximum(graph.data, 1e-12)  # particles in one place are neighbours too
    return graph.maximum(graph.T).tocsr()


def _fit_mixture(points: np.ndarray, n_clusters: int, covariance: Covariance, seed: int) -> Any:
    from sklearn.mixture import GaussianMixture

    require_word(covariance, get_args(Covariance), "covariance")
    if not is_whole(n_clusters) or not 1 <= n_clusters <= len(points) or len(points) < 2:
        raise ValueError(
            f"Got {n_clusters} Gaussians for {len(points)} particles, expected 1 to {len(points)} and 2 particles. "
            "Choose such a whole number (n_clusters)."
        )
    scale = max(float(points.var(axis=0).mean()), 1e-12)
    return GaussianMixture(
        n_clusters, covariance_type=covariance, n_init=3, max_iter=300, reg_covar=1e-6 * scale, random_state=seed
    ).fit(points)
