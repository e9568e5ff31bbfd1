"""A short walk through the centres of the clusters."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from tomodrgn.analysis.latent_space import cluster_centres, cluster_latents
from tomodrgn.analysis.paths import path_table
from tomodrgn.particles.latents import Latents

__all__ = ["cluster_tour"]


def cluster_tour(latents: Latents, n_clusters: int = 10, *, seed: int = 0) -> pd.DataFrame:
    """Centres of k-means clusters, on data, in the order of a short walk through all of them.

    The walk begins at one end: of the nearest-neighbour walks from each centre, improved by reversing stretches while
    that shortens them (2-opt, Croes 1958), the shortest.

    Returns
    -------
    One row a centre, index ``tour_000`` ..., columns particle_id, z1, z2 ..., cluster, n_particles, and `length`
    (along the walk from its start).

    Raises
    ------
    ValueError
        If there are fewer particles than clusters, or the latents have no dimension (a homogeneous model).
    """
    centres = cluster_centres(latents, cluster_latents(latents, n_clusters, seed=seed))
    names = [f"z{i + 1}" for i in range(latents.z_dim)]
    points = centres[names].to_numpy(dtype=np.float64)
    order = _short_walk(np.linalg.norm(points[:, None] - points[None], axis=-1))
    walk = centres.iloc[order]
    steps = np.linalg.norm(np.diff(points[order], axis=0), axis=1)
    table = path_table("tour", walk[names].to_numpy(), walk["particle_id"].to_numpy())
    return table.assign(
        cluster=walk["cluster"].to_numpy(),
        n_particles=walk["n_particles"].to_numpy(),
        length=np.concatenate([[0.0], steps.cumsum()]),
    )


def _short_walk(distance: np.ndarray) -> list[int]:
    """Order of a short open walk through all points of a distance matrix; it begins at its end of lower number."""
    walks = [_improved(_greedy_walk(distance, start), distance) for start in range(len(distance))]
    best = min(walks, key=lambda walk: (round(_walk_length(walk, distance), 9), walk))
    return best if best[0] <= best[-1] else best[::-1]


def _greedy_walk(distance: np.ndarray, start: int) -> list[int]:
    walk, left = [start], set(range(len(distance))) - {start}
    while left:
        walk.append(min(left, key=lambda i: (distance[walk[-1], i], i)))
        left.remove(walk[-1])
    return walk


def _improved(walk: list[int], distance: np.ndarray) -> list[int]:
    """The walk with stretches reversed while that shortens it."""
    shorter = True
    while shorter:
        shorter = False
        for i in range(len(walk) - 1):
            for j in range(i + 1, len(walk)):
                before = distance[walk[i - 1], walk[i]] if i else 0.0
                after = distance[walk[j], walk[j + 1]] if j + 1 < len(walk) else 0.0
                new_before = distance[walk[i - 1], walk[j]] if i else 0.0
                new_after = distance[walk[i], walk[j + 1]] if j + 1 < len(walk) else 0.0
                if new_before + new_after < before + after - 1e-12:
                    walk = walk[:i] + walk[i : j + 1][::-1] + walk[j + 1 :]
                    shorter = True
    return walk


def _walk_length(walk: list[int], distance: np.ndarray) -> float:
    return float(sum(distance[a, b] for a, b in pairwise(walk)))
