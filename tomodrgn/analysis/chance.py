"""What was found, against what chance gives: p values of one number, and of a whole table of numbers."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

__all__ = ["against_chance"]

TINY = 1e-12


def against_chance(
    found: Float[np.ndarray, "..."], chance: Float[np.ndarray, "..."], *, two_sided: bool = False
) -> tuple[Float64[np.ndarray, "..."], Float64[np.ndarray, "..."]]:
    """Permutation p of every number alone, and of all together.

    Together, each number's distance from its mean by chance, in standard deviations, is compared with the largest
    distance of all numbers in each permutation (Westfall & Young 1993, maximum statistic): the chance of even one
    number below p is p, whatever their dependence.

    Parameters
    ----------
    found
        Numbers of any shape.
    chance
        The same numbers in each of n permutations, (n, ...).
    two_sided
        Count small numbers as well as large ones; p alone is twice that of the rarer side.

    Returns
    -------
    p of each number alone and of all together, from 1 / (n + 1) to 1, both of the shape of `found`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> alone, together = against_chance(np.array([0.1, 9.0]), rng.normal(size=(99, 2)))
    >>> bool(alone[0] > 0.1), alone[1].item(), together[1].item()
    (True, 0.01, 0.01)
    """
    n = len(chance)
    together = np.concatenate([found[None], chance]).astype(np.float64)  # the order found is one of all: exact
    std = together.std(axis=0)
    scores = np.where(std > TINY, (together - together.mean(axis=0)) / np.maximum(std, TINY), 0.0)
    alone = (1 + (scores[1:] >= scores[0] - TINY).sum(axis=0)) / (1 + n)
    if two_sided:
        below = (1 + (scores[1:] <= scores[0] + TINY).sum(axis=0)) / (1 + n)
        alone, scores = np.minimum(1, 2 * np.minimum(alone, below)), np.abs(scores)
    if not found.size:
        return alone, alone
    largest = scores[1:].reshape(n, -1).max(axis=1).reshape(n, *(1,) * found.ndim)
    return alone, (1 + (largest >= scores[0] - TINY).sum(axis=0)) / (1 + n)
