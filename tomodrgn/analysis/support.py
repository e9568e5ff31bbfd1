"""What supports a path: how many particles lie about each of its points, and how crowded it is there."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float64

from tomodrgn.analysis.latent_space import points_of
from tomodrgn.particles.latents import Latents

__all__ = ["path_support"]

REFERENCE_PARTICLES = 1000


def path_support(latents: Latents, path: pd.DataFrame, *, radius: float | None = None) -> pd.DataFrame:
    """How many particles lie about each point of a path, and how crowded it is there.

    Parameters
    ----------
    path
        Points with columns z1, z2 ..., as `traverse_latents`, `straight_path`, `graph_path`, `latent_path` and
        `cluster_tour` give them.
    radius
        Particles at most this far count, more than 0; the data's own scale if not given: the median distance of a
        particle to its k-th neighbour, k being a hundredth of the particles, at least 5.

    Returns
    -------
    With the index of the path: `n_particles` within the radius, `density` (Gaussian kernels, as wide on
    every axis as the data's own scale over the root of the number of dimensions; divided by that at a typical
    particle: 1 is as crowded as there, 0 is empty), `nearest_particle_id` and its
    `nearest_distance`. `attrs["radius"]` is the radius.

    Raises
    ------
    KeyError
        If the path lacks a column of the latents.
    ValueError
        If the radius is not positive.
    """
    from scipy.spatial import cKDTree

    if radius is not None and not 0 < radius < np.inf:
        raise ValueError(f"Got radius {radius}, expected more than 0. It is a distance in the latent space.")
    values, index = points_of(latents)
    names = [f"z{i + 1}" for i in range(latents.z_dim)]
    missing = [name for name in names if name not in path]
    if missing:
        raise KeyError(f"Got a path without the columns {missing}, expected {names}. Give one of these latents.")
    points = path[names].to_numpy(dtype=np.float64)
    tree = cKDTree(values)
    reference = values[:: max(1, len(values) // REFERENCE_PARTICLES)]
    scale = float(np.median(tree.query(reference, k=[min(len(values), max(5, len(values) // 100) + 1)])[0]))
    radius, bandwidth = scale if radius is None else radius, max(scale, 1e-12) / latents.z_dim**0.5
    nearest_distance, nearest = tree.query(points)
    typical = float(np.median(_kernel_density(values, reference, bandwidth)))
    table = pd.DataFrame(
        {
            "n_particles": tree.query_ball_point(points, radius * (1 + 1e-9), return_length=True),
            "density": _kernel_density(values, points, bandwidth) / max(typical, 1e-300),
            "nearest_particle_id": index.to_numpy()[nearest],
            "nearest_distance": nearest_distance,
        },
        index=path.index,
    )
    table.attrs["radius"] = radius
    return table


def _kernel_density(values: np.ndarray, points: np.ndarray, bandwidth: float) -> Float64[np.ndarray, " v"]:
    """Density of the particles at points, up to a factor."""
    density = [np.exp(-0.5 * np.square((values - point) / bandwidth).sum(axis=1)).mean() for point in points]
    return np.array(density)
