"""Particles that are unlike the others: far from the origin of the latent space, or of uncertain place in it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tomodrgn.analysis.latent_space import points_of
from tomodrgn.particles.latents import Latents

__all__ = ["score_outliers"]

MAD_TO_STD = 1.4826  # of a normal distribution


def score_outliers(latents: Latents, *, threshold: float = 3.0) -> pd.DataFrame:
    """How far each particle's |z| and posterior width lie above those of most particles.

    A score is the distance above the median in units of the standard deviation, estimated from the median absolute
    deviation times 1.4826, so that outliers do not hide themselves (Iglewicz & Hoaglin 1993).

    Parameters
    ----------
    threshold
        Scores above it make an outlier. Small values are none: only what is far away or uncertain.

    Returns
    -------
    Indexed by particle_id: `z_norm` (|z|, Euclidean), `z_norm_score`, `width` (geometric mean of the posterior's
    standard deviations along its axes, from the full covariance where there is one), `width_score`, and `outlier`.

    Raises
    ------
    ValueError
        If the latents have no dimension (a homogeneous model).

    Examples
    --------
    >>> mu = np.array([[1.0], [-1.1], [0.9], [9.0]], dtype=np.float32)
    >>> latents = Latents(particle_id=np.array(list("abcd")), mu=mu, logvar=np.zeros_like(mu))
    >>> score_outliers(latents)["outlier"].tolist()
    [False, False, False, True]
    """
    points, index = points_of(latents)
    norm, width = np.linalg.norm(points, axis=1), _posterior_width(latents)
    scores = {"z_norm": _robust_score(norm), "width": _robust_score(width)}
    return pd.DataFrame(
        {
            "z_norm": norm,
            "z_norm_score": scores["z_norm"],
            "width": width,
            "width_score": scores["width"],
            "outlier": (scores["z_norm"] > threshold) | (scores["width"] > threshold),
        },
        index=index,
    )


def _posterior_width(latents: Latents) -> np.ndarray:
    if latents.covariance is None:
        return np.exp(0.5 * latents.logvar.astype(np.float64).mean(axis=1))
    _, logdet = np.linalg.slogdet(latents.covariance.astype(np.float64))
    return np.exp(0.5 * logdet / latents.z_dim)


def _robust_score(values: np.ndarray) -> np.ndarray:
    """Distance from the median in robust standard deviations; 0 where more than half the values are the same."""
    distance = values - np.median(values)
    spread = MAD_TO_STD * float(np.median(np.abs(distance)))
    tiny = 1e-6 * max(float(np.abs(values).max()), 1e-12)
    if spread > tiny:
        return distance / spread
    return np.select([distance > tiny, distance < -tiny], [np.inf, -np.inf], 0.0)
