"""Traversals of the latent space."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tomodrgn.particles.latents import Latents

__all__ = ["traverse_latents"]


def traverse_latents(
    latents: Latents, component: int = 1, *, n_points: int = 9, percentiles: tuple[float, float] = (5.0, 95.0)
) -> pd.DataFrame:
    """Evenly spaced points along a principal component, through the mean of the latents.

    Parameters
    ----------
    component
        Which component, from 1.
    n_points
        Number of points.
    percentiles
        Ends of the path, as percentiles of the particles' coordinates along the component.

    Returns
    -------
    One row a point, index ``pc1_000`` ..., columns pc (the coordinate), z1, z2 ...

    Raises
    ------
    ValueError
        If the latents have no such component.
    """
    from sklearn.decomposition import PCA

    limit = min(latents.z_dim, len(latents))
    if not 1 <= component <= limit:
        raise ValueError(
            f"Got principal component {component} of {latents.z_dim} latent dimensions and {len(latents)} particles, "
            f"expected 1 to {limit}."
        )
    pca = PCA(n_components=component, svd_solver="full").fit(latents.mu.astype(np.float64))
    coordinates = pca.transform(latents.mu.astype(np.float64))[:, component - 1]
    first, last = np.percentile(coordinates, percentiles)
    path = np.linspace(first, last, n_points)
    points = pca.mean_ + path[:, None] * pca.components_[component - 1]
    table = pd.DataFrame({"pc": path}, index=[f"pc{component}_{i:03d}" for i in range(n_points)])
    return table.assign(**{f"z{i + 1}": points[:, i] for i in range(latents.z_dim)})
