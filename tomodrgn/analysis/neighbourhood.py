"""Neighbours in the tomogram: how far, which way, how turned; and which of it comes back more often than by chance.

A neighbour's place and turn are given in the particle's own frame, that of the reference: ``R_i^T (x_j - x_i)`` and
``R_i^T R_j``, with rotations that take the reference to the tomogram. Letters in shapes: k particles, m pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from tomodrgn.analysis.chance import against_chance
from tomodrgn.analysis.options import is_whole
from tomodrgn.particles.position_set import Positions

__all__ = ["nearest_neighbours", "pair_distances", "recurrent_pairs"]


def nearest_neighbours(
    positions: Positions, n_neighbours: int = 1, *, max_distance_angst: float = np.inf
) -> pd.DataFrame:
    """The nearest particles of every particle in its tomogram.

    Parameters
    ----------
    n_neighbours
        At most so many are given.
    max_distance_angst
        None beyond it is given.

    Returns
    -------
    One row a particle and neighbour: `particle_id`, `rank` (1 is the nearest), `neighbour_id`, `distance_angst`,
    `x_angst`, `y_angst`, `z_angst` (place of the neighbour in the particle's own frame) and `angle_deg` (of the
    rotation between the two, 0 to 180). Particles without a neighbour have no row.

    Raises
    ------
    ValueError
        If no neighbour or no distance is asked for.
    """
    from scipy.spatial import cKDTree

    if not is_whole(n_neighbours) or n_neighbours < 1 or not max_distance_angst > 0:
        raise ValueError(
            f"Got {n_neighbours} neighbours up to {max_distance_angst} A, expected 1 or more, a whole number, and more "
            "than 0 A. Raise n_neighbours or max_distance_angst."
        )
    found = []
    for rows in tomogram_rows(positions):
        if len(rows) < 2:
            continue
        places = positions.position_angst[rows]
        n = min(n_neighbours, len(rows) - 1)
        distance, other = cKDTree(places).query(places, k=n + 1, distance_upper_bound=max_distance_angst)
        own = np.arange(len(rows))
        ranks = np.where((other == own[:, None]) | ~np.isfinite(distance), -1, 0)
        first, at = np.nonzero(ranks == 0)
        rank = np.concatenate([np.arange(1, count + 1) for count in np.bincount(first, minlength=len(rows))])
        kept = rank <= n  # particles in one place may miss themselves among their neighbours
        found.append(np.stack([rows[first[kept]], rows[other[first[kept], at[kept]]], rank[kept]], axis=1))
    table = np.concatenate(found) if found else np.zeros((0, 3), dtype=np.int64)
    table = table[np.lexsort((table[:, 2], table[:, 0]))]
    pairs = _Pairs.of(positions, table[:, 0], table[:, 1])
    frame = pairs.frame(positions)
    frame.insert(1, "rank", table[:, 2])
    return frame


def recurrent_pairs(
    positions: Positions,
    *,
    max_distance_angst: float,
    distance_tolerance_angst: float = 30.0,
    angle_tolerance_deg: float = 30.0,
    n_permutations: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Neighbours whose place and turn come back in other pairs more often than by chance, as in chains and complexes.

    Two pairs are alike if ``(distance / distance_tolerance)^2 + (sin(angle / 2) / sin(angle_tolerance / 2))^2 <= 1``,
    with the distance between the places of the neighbours in the frames of their particles, and the angle between their
    turns. Chance is known by giving orientations to other particles of the same tomogram at random, so that places,
    crowding and a preferred orientation count as chance.

    Parameters
    ----------
    max_distance_angst
        Pairs at most so far apart, of one tomogram, in both directions.
    n_permutations
        How often chance is tried; at least 20 for a p of 0.05.
    seed
        Of the permutations; the same seed gives the same table.

    Returns
    -------
    One row an ordered pair, those that come back most first: the columns of `nearest_neighbours` without the rank,
    `n_alike` (other pairs alike), `p_family` (chance of any pair with so many) and `recurrent` (p_family < 0.05).
    `attrs["n_alike_by_chance"]` is the largest number of each permutation.

    Raises
    ------
    ValueError
        If a distance, a tolerance or the number of permutations is not positive.
    """
    if min(max_distance_angst, distance_tolerance_angst, angle_tolerance_deg, n_permutations) <= 0:
        raise ValueError(
            f"Got distance {max_distance_angst} A, tolerances {distance_tolerance_angst} A and {angle_tolerance_deg} "
            f"degrees and {n_permutations} permutations, expected more than 0."
        )
    first, second = ordered_pairs(positions, max_distance_angst)
    tolerances = distance_tolerance_angst, angle_tolerance_deg
    pairs = _Pairs.of(positions, first, second)
    n_alike = _count_alike(pairs, *tolerances)
    rng, tomograms = np.random.default_rng(seed), tomogram_rows(positions)
    largest = np.zeros(n_permutations, dtype=np.int64)
    for i in range(n_permutations):
        rotations = np.array(positions.rotations)
        for rows in tomograms:
            rotations[rows] = positions.rotations[rng.permutation(rows)]
        shuffled = _Pairs.of(positions, first, second, rotations=rotations)
        largest[i] = _count_alike(shuffled, *tolerances).max(initial=0)
    p_family = (1 + (largest[None] >= n_alike[:, None]).sum(axis=1)) / (1 + n_permutations)
    table = pairs.frame(positions).assign(n_alike=n_alike, p_family=p_family, recurrent=p_family < 0.05)
    table = table.sort_values("n_alike", ascending=False, kind="stable").reset_index(drop=True)
    table.attrs["n_alike_by_chance"] = largest.tolist()
    return table


def pair_distances(
    positions: Positions,
    *,
    max_distance_angst: float,
    n_bins: int = 20,
    jitter_angst: float | None = None,
    n_permutations: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """How many pairs lie at each distance, against particles that were moved at random by a little.

    Moved particles keep to the crowded and the empty parts of their tomogram, and stay within the box of all its
    particles (they are reflected at its faces), so that neither counts as clustering.

    Parameters
    ----------
    max_distance_angst
        End of the last bin.
    n_bins
        Number of bins from 0.
    jitter_angst
        Standard deviation of the moves along each axis; `max_distance_angst` if not given.
    n_permutations
        How often particles are moved.
    seed
        Of the moves; the same seed gives the same table.

    Returns
    -------
    One row a bin: `from_angst`, `to_angst`, `n_pairs`, `expected` (mean by chance), `ratio` (1 is chance), `p_value`
    and `p_family` (that one bin or more has such an excess by chance).

    Raises
    ------
    ValueError
        If the distance, the moves, the bins or the permutations are not positive.
    """
    jitter = max_distance_angst if jitter_angst is None else jitter_angst
    if min(max_distance_angst, jitter, n_bins, n_permutations) <= 0:
        raise ValueError(
            f"Got distance {max_distance_angst} A, moves of {jitter} A, {n_bins} bins and {n_permutations} "
            "permutations, expected more than 0."
        )
    edges = np.linspace(0, max_distance_angst, n_bins + 1)
    rng = np.random.default_rng(seed)
    tomograms = [positions.position_angst[rows] for rows in tomogram_rows(positions)]
    found = sum((_distance_counts(places, edges) for places in tomograms), np.zeros(n_bins))
    chance = np.zeros((n_permutations, n_bins))
    for i in range(n_permutations):
        for places in tomograms:
            moved = _reflected(places + rng.normal(size=places.shape) * jitter, places.min(axis=0), places.max(axis=0))
            chance[i] += _distance_counts(moved, edges)
    p_value, p_family = against_chance(found, chance)
    expected = chance.mean(axis=0)
    return pd.DataFrame(
        {
            "from_angst": edges[:-1],
            "to_angst": edges[1:],
            "n_pairs": found.astype(np.int64),
            "expected": expected,
            "ratio": found / np.maximum(expected, 1 / n_permutations),
            "p_value": p_value,
            "p_family": p_family,
        }
    )


def tomogram_rows(positions: Positions) -> list[Int64[np.ndarray, " r"]]:
    """Rows of the particles of each tomogram, in the order of its name."""
    codes, names = pd.factorize(positions.tomogram, sort=True)
    return [np.flatnonzero(codes == code) for code in range(len(names))]


def ordered_pairs(
    positions: Positions, max_distance_angst: float
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Rows of the two particles of every pair of one tomogram, both ways round."""
    from scipy.spatial import cKDTree

    found = [np.zeros((0, 2), dtype=np.int64)]
    for rows in tomogram_rows(positions):
        pairs = cKDTree(positions.position_angst[rows]).query_pairs(max_distance_angst, output_type="ndarray")
        found.append(rows[pairs.reshape(-1, 2)])
    half = np.concatenate(found)
    both = np.concatenate([half, half[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    return both[:, 0], both[:, 1]


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Neighbours as seen by particles: their rows (m,), place (m, 3) and turn (m, 3, 3) in the particle's frame."""

    first: Int64[np.ndarray, " m"]
    second: Int64[np.ndarray, " m"]
    place_angst: Float64[np.ndarray, "m 3"]
    turn: Float64[np.ndarray, "m 3 3"]

    @classmethod
    def of(
        cls, positions: Positions, first: np.ndarray, second: np.ndarray, *, rotations: np.ndarray | None = None
    ) -> _Pairs:
        rotations = positions.rotations if rotations is None else rotations
        to_own = rotations[first].transpose(0, 2, 1)
        step = positions.position_angst[second] - positions.position_angst[first]
        place = np.einsum("mij,mj->mi", to_own, step)
        return cls(first=first, second=second, place_angst=place, turn=to_own @ rotations[second])

    def frame(self, positions: Positions) -> pd.DataFrame:
        cosine = (np.trace(self.turn, axis1=1, axis2=2) - 1) / 2
        return pd.DataFrame(
            {
                "particle_id": positions.particle_id[self.first],
                "neighbour_id": positions.particle_id[self.second],
                "distance_angst": np.linalg.norm(self.place_angst, axis=1),
                **{f"{axis}_angst": self.place_angst[:, i] for i, axis in enumerate("xyz")},
                "angle_deg": np.rad2deg(np.arccos(np.clip(cosine, -1, 1))),
            }
        )


def _count_alike(pairs: _Pairs, distance_tolerance_angst: float, angle_tolerance_deg: float) -> np.ndarray:
    """Number of other pairs that are alike, (m,): |A - B| = 2 sqrt(2) sin(angle / 2) for rotations A and B."""
    from scipy.spatial import cKDTree

    m = len(pairs.first)
    if not m:
        return np.zeros(0, dtype=np.int64)
    chord = 2 * np.sqrt(2) * np.sin(np.deg2rad(min(angle_tolerance_deg, 180.0)) / 2)
    features = np.concatenate([pairs.place_angst / distance_tolerance_angst, pairs.turn.reshape(m, 9) / chord], axis=1)
    return cKDTree(features).query_ball_point(features, 1.0, return_length=True) - 1


def _distance_counts(places: np.ndarray, edges: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    tree = cKDTree(places)
    pairs = tree.query_pairs(edges[-1], output_type="ndarray").reshape(-1, 2)
    return np.histogram(np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1), bins=edges)[0].astype(float)


def _reflected(places: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Places folded back into a box at its faces."""
    width = np.maximum(high - low, 1e-9)
    folded = np.mod(places - low, 2 * width)
    return low + np.where(folded > width, 2 * width - folded, folded)
