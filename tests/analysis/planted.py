"""Latents with a known answer: planted groups, arcs and columns, by seed."""

from __future__ import annotations

import numpy as np

from tomodrgn.particles.latents import Latents

SEEDS = (0, 1, 2)


def as_latents(mu: np.ndarray, names: list[str] | None = None, std: np.ndarray | float = 1.0) -> Latents:
    """Latents named p0, p1 ... with the given posterior standard deviations."""
    mu = np.asarray(mu, dtype=np.float32)
    ids = np.array(names if names is not None else [f"p{i}" for i in range(len(mu))])
    logvar = np.broadcast_to(2 * np.log(np.asarray(std, dtype=np.float32)), mu.shape).astype(np.float32)
    return Latents(particle_id=ids, mu=mu, logvar=logvar)


def planted_groups(
    seed: int, sizes: tuple[int, ...] = (300, 200, 120, 80), z_dim: int = 4, apart: float = 7.0
) -> tuple[Latents, np.ndarray]:
    """Round groups of unit spread, centres at least `apart` from each other, in mixed order; and their labels."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((0, z_dim))
    while len(centres) < len(sizes):
        centre = rng.normal(size=z_dim) * apart
        if len(centres) == 0 or np.linalg.norm(centres - centre, axis=1).min() >= apart:
            centres = np.vstack([centres, centre])
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return as_latents(centres[labels] + rng.normal(size=(len(labels), z_dim))), labels
