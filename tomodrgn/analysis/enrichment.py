"""Classes that come together: more or fewer in a tomogram, or around each other, than by chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Int64

from tomodrgn.analysis.chance import against_chance
from tomodrgn.analysis.neighbourhood import ordered_pairs, tomogram_rows
from tomodrgn.particles.position_set import Positions

__all__ = ["enrich_around_classes", "enrich_around_particles", "enrich_in_tomograms"]


def enrich_in_tomograms(
    labels: pd.Series, tomogram: pd.Series, *, n_permutations: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Number of particles of each class in each tomogram, against labels given to other particles at random.

    Parameters
    ----------
    labels
        Class of each particle, indexed by particle_id.
    tomogram
        Tomogram of each particle, indexed by particle_id; more particles than have a label may be given.
    n_permutations
        How often chance is tried.
    seed
        The same seed gives the same table.

    Returns
    -------
    One row a tomogram and class: `tomogram`, `class`, `n_particles`, `expected`, `ratio` (1 is chance), `p_value`
    (two-sided) and `p_family` (that one row or more differs so much by chance).

    Raises
    ------
    KeyError
        If a particle with a label has no tomogram.
    ValueError
        If there is no particle or no permutation.
    """
    codes, classes = _codes(labels, n_permutations)
    missing = labels.index[~labels.index.isin(tomogram.index)]
    if len(missing):
        raise KeyError(f"Got {len(missing)} labelled particles without a tomogram, first {missing[:3].tolist()}.")
    places, names = pd.factorize(tomogram.loc[labels.index], sort=True)
    shape = (len(names), len(classes))

    def count(order: np.ndarray) -> np.ndarray:
        return np.bincount(places * shape[1] + codes[order], minlength=shape[0] * shape[1]).reshape(shape)

    rng = np.random.default_rng(seed)
    found = count(np.arange(len(codes)))
    chance = np.array([count(rng.permutation(len(codes))) for _ in range(n_permutations)])
    rows = {"tomogram": np.repeat(np.asarray(names), shape[1]), "class": np.tile(classes, shape[0])}
    return _table(rows, "n_particles", found, chance)


def enrich_around_classes(
    positions: Positions, labels: pd.Series, *, radius_angst: float, n_permutations: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Number of neighbours of each class around particles of each class, against chance.

    Chance is known by giving labels to other particles of the same tomogram at random, so that neither crowding nor a
    class that is frequent in some tomograms counts.

    Parameters
    ----------
    positions
        Of the particles; those without a label are left out.
    labels
        Class of each particle, indexed by particle_id.
    radius_angst
        Neighbours are at most so far.
    n_permutations, seed
        As in `enrich_in_tomograms`.

    Returns
    -------
    One row a pair of classes: `class`, `neighbour_class`, `n_pairs`, `expected`, `ratio`, `p_value` (two-sided) and
    `p_family`.

    Raises
    ------
    KeyError
        If a particle with a label has no position.
    ValueError
        If the radius is not positive, or there is no particle or no permutation.
    """
    positions = _labelled(positions, labels, radius_angst)
    codes, classes = _codes(labels.loc[positions.particle_id], n_permutations)
    first, second = ordered_pairs(positions, radius_angst)
    n = len(classes)

    def count(code: np.ndarray) -> np.ndarray:
        return np.bincount(code[first] * n + code[second], minlength=n * n).reshape(n, n)

    shuffled = _shuffled(codes, tomogram_rows(positions), n_permutations, seed)
    chance = np.array([count(code) for code in shuffled])
    rows = {"class": np.repeat(classes, n), "neighbour_class": np.tile(classes, n)}
    return _table(rows, "n_pairs", count(codes), chance)


def enrich_around_particles(
    positions: Positions, labels: pd.Series, *, radius_angst: float, n_permutations: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Neighbours of its own class around each particle, against chance; see `enrich_around_classes`.

    Returns
    -------
    Indexed by particle_id: `class`, `n_neighbours`, `n_same` (of its own class), `expected` and `p_value` (that so many
    or more are of its class by chance, for this particle alone).

    Raises
    ------
    KeyError, ValueError
        As by `enrich_around_classes`.
    """
    positions = _labelled(positions, labels, radius_angst)
    own = labels.loc[positions.particle_id]
    codes, _ = _codes(own, n_permutations)
    first, second = ordered_pairs(positions, radius_angst)

    def same(code: np.ndarray) -> np.ndarray:
        # The particle in the middle keeps its class: its neighbours' are those given at random.
        return np.bincount(first[code[second] == codes[first]], minlength=len(codes))

    found, total, at_least = same(codes), np.zeros(len(codes)), np.zeros(len(codes), dtype=np.int64)
    for code in _shuffled(codes, tomogram_rows(positions), n_permutations, seed):
        counts = same(code)
        total += counts
        at_least += counts >= found
    return pd.DataFrame(
        {
            "class": own.to_numpy(),
            "n_neighbours": np.bincount(first, minlength=len(codes)),
            "n_same": found,
            "expected": total / n_permutations,
            "p_value": (1 + at_least) / (1 + n_permutations),
        },
        index=pd.Index(positions.particle_id, name="particle_id"),
    )


def _codes(labels: pd.Series, n_permutations: int) -> tuple[Int64[np.ndarray, " k"], np.ndarray]:
    if not len(labels) or n_permutations < 1:
        raise ValueError(f"Got {len(labels)} labels and {n_permutations} permutations, expected at least one of each.")
    codes, classes = pd.factorize(labels, sort=True)
    if (codes < 0).any():
        raise ValueError(
            f"Got particle {str(labels.index[int(np.argmin(codes))])!r} with a missing label, expected one for each "
            "particle. Leave it out."
        )
    return codes.astype(np.int64), np.asarray(classes)


def _labelled(positions: Positions, labels: pd.Series, radius_angst: float) -> Positions:
    if radius_angst <= 0:
        raise ValueError(f"Got radius {radius_angst} A, expected more than 0.")
    missing = labels.index[~labels.index.isin(positions.particle_id)]
    if len(missing):
        raise KeyError(
            f"Got {len(missing)} labelled particles without a position in {positions.path}, first "
            f"{missing[:3].tolist()}. Give the positions of the same particles (`Positions.aligned_to`)."
        )
    return positions.take(np.flatnonzero(np.isin(positions.particle_id, labels.index)))


def _shuffled(codes: np.ndarray, tomograms: list[np.ndarray], n: int, seed: int) -> Iterator[np.ndarray]:
    """Labels given to other particles of the same tomogram at random, n times."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        code = codes.copy()
        for rows in tomograms:
            code[rows] = codes[rng.permutation(rows)]
        yield code


def _table(rows: dict[str, np.ndarray], counted: str, found: np.ndarray, chance: np.ndarray) -> pd.DataFrame:
    p_value, p_family = against_chance(found.astype(np.float64), chance.astype(np.float64), two_sided=True)
    expected = chance.mean(axis=0)
    ratio = found / np.maximum(expected, 1 / len(chance))
    numbers = {counted: found, "expected": expected, "ratio": ratio, "p_value": p_value, "p_family": p_family}
    return pd.DataFrame(rows | {name: values.ravel() for name, values in numbers.items()})
