"""Which columns of the particles go with which latent axes or clusters, beyond chance: meaning and artefacts."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from tomodrgn.analysis.chance import against_chance
from tomodrgn.analysis.latent_space import points_of
from tomodrgn.particles.latents import Latents

__all__ = ["associate_columns", "nuisance_of"]

# Columns by which a structure should not differ; the first pattern that is found in a column's name names its kind.
NUISANCES = {
    "defocus": re.compile(r"defocus|phaseshift|ctf(max|figure|bfactor|scale)", re.IGNORECASE),
    "tilt count": re.compile(r"^n_tilts$|visibleframes|tiltcount|framecount", re.IGNORECASE),
    "tomogram": re.compile(
        r"^tomogram$|tomoname|micrographname|tomotiltseries|opticsgroup|groupname|groupnumber|imagename|wrpsource",
        re.IGNORECASE,
    ),
    "pose": re.compile(r"angle(rot|tilt|psi)|origin[xyz]|coordinate[xyz]|subtomogram(rot|tilt|psi)", re.IGNORECASE),
}
MOST_BINS = 16


def nuisance_of(column: str) -> str:
    """Kind of a column that must not go with the structure: defocus, tilt count, tomogram or pose; else empty.

    Examples
    --------
    >>> [nuisance_of(name) for name in ("rlnDefocusU", "n_tilts", "rlnMicrographName", "rlnAnglePsi", "rlnClassNumber")]
    ['defocus', 'tilt count', 'tomogram', 'pose', '']
    """
    return next((kind for kind, pattern in NUISANCES.items() if pattern.search(column)), "")


def associate_columns(
    latents: Latents | pd.DataFrame,
    columns: pd.DataFrame,
    *,
    clusters: pd.Series | None = None,
    n_permutations: int = 200,
    min_strength: float = 0.01,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Mutual information of every column with every latent axis and with the clusters, against chance.

    Numbers are cut into bins that hold as many particles each; names stay as they are, and a value that is missing is a
    name of its own. Chance is known by giving the latents to other particles at random, the same permutation for all
    columns and axes. `p_family` compares the excess of an association over its own chance, in standard deviations, with
    the largest of all associations in each permutation (Westfall & Young 1993, maximum statistic): below 0.05, the
    table holds a false alarm in at most one data set of twenty, however many columns there are.

    Parameters
    ----------
    latents
        Latents, or any table of numbers indexed by particle_id (such as principal components).
    columns
        What is known of the particles, indexed by particle_id, such as ``ParticleSet.frame()``. Left out are columns
        of one value only, and names that are mostly different for each particle.
    clusters
        Label of each particle, as one more thing for columns to go with.
    n_permutations
        How often chance is tried. At least 100 for a p of 0.01.
    min_strength
        A nuisance column weaker than this gets no warning, however significant.
    seed
        Of the permutations; the same seed gives the same table.
    progress
        Called with permutations done and all permutations.

    Returns
    -------
    One row a column and axis, the strongest first: `column`, `axis` (z1, z2 ... or the name of the clusters), `kind`
    (number or name), `n_values` (bins or names), `strength` (mutual information above chance, as a share of the largest
    possible: 0 is chance, 1 is one knowing the other), `mutual_information` (nats), `chance` (its mean by chance),
    `correlation_ratio` (share of the axis' variance that the bins or names explain; NaN for clusters), `p_value` (of
    this row alone), `p_family` (of all rows together), `nuisance` (`nuisance_of`) and `warning`: a nuisance column that
    passes 5 % of the family and `min_strength`.

    Raises
    ------
    KeyError
        If a particle of the latents has no row in the columns, or no cluster.
    ValueError
        If there are fewer than 10 particles, fewer than 1 permutation, or ids of the columns repeat.
    """
    axes = _axes(latents, clusters)
    if len(axes) < 10 or n_permutations < 1:
        raise ValueError(
            f"Got {len(axes)} particles and {n_permutations} permutations, expected at least 10 and 1. "
            "Associations of fewer particles cannot be told from chance."
        )
    n_bins = min(MOST_BINS, max(2, round(len(axes) ** (1 / 3))))
    known = {str(name): _codes(column, n_bins) for name, column in _joined(columns, axes.index).items()}
    known = {name: code for name, code in known.items() if 2 <= code.max() + 1 <= len(axes) / 2}
    targets = {str(name): _codes(axis, n_bins) for name, axis in axes.items()}
    found = _information(known, targets)  # (columns, axes)
    rng = np.random.default_rng(seed)
    chance = np.empty((n_permutations, *found.shape))
    for i in range(n_permutations):
        order = rng.permutation(len(axes))
        chance[i] = _information(known, {name: code[order] for name, code in targets.items()})
        if progress is not None:
            progress(i + 1, n_permutations)
    p_value, p_family = against_chance(found, chance)
    largest = np.minimum.outer([_entropy(c) for c in known.values()], [_entropy(c) for c in targets.values()])
    strength = (found - chance.mean(axis=0)) / np.maximum(largest - chance.mean(axis=0), 1e-12)
    rows = [
        {
            "column": name,
            "axis": axis,
            "kind": "number" if _is_number(columns[name]) else "name",
            "n_values": int(code.max()) + 1,
            "strength": strength[i, j],
            "mutual_information": found[i, j],
            "chance": chance[:, i, j].mean(),
            "correlation_ratio": _correlation_ratio(code, axes[axis]),
            "p_value": p_value[i, j],
            "p_family": p_family[i, j],
            "nuisance": nuisance_of(name),
        }
        for i, (name, code) in enumerate(known.items())
        for j, axis in enumerate(targets)
    ]
    return _ranked(pd.DataFrame(rows, columns=ROW), min_strength)


ROW = ["column", "axis", "kind", "n_values", "strength", "mutual_information", "chance", "correlation_ratio", "p_value",
       "p_family", "nuisance"]  # fmt: skip


def _ranked(table: pd.DataFrame, min_strength: float) -> pd.DataFrame:
    """Strongest first, those beyond chance before the others; with the column `warning`."""
    warning = (table["nuisance"] != "") & (table["p_family"] < 0.05) & (table["strength"] >= min_strength)
    by_chance = table["p_family"] >= 0.05
    order = np.lexsort((-table["strength"].to_numpy(dtype=float), by_chance.to_numpy()))
    return table.assign(warning=warning).iloc[order].reset_index(drop=True)


def _axes(latents: Latents | pd.DataFrame, clusters: pd.Series | None) -> pd.DataFrame:
    """Latent axes as numbers and clusters as names, by particle_id."""
    points, index = points_of(latents)
    names = [f"z{i + 1}" for i in range(points.shape[1])] if isinstance(latents, Latents) else latents.columns
    axes = pd.DataFrame(points, index=index, columns=names)
    if clusters is None:
        return axes
    missing = axes.index[~axes.index.isin(clusters.index)]
    if len(missing):
        raise KeyError(f"Got {len(missing)} particles without a cluster, first {missing[:3].tolist()}.")
    return axes.assign(**{str(clusters.name or "cluster"): clusters.loc[axes.index].astype(str)})


def _joined(columns: pd.DataFrame, names: pd.Index) -> pd.DataFrame:
    if columns.index.has_duplicates:
        twice = columns.index[columns.index.duplicated()][0]
        raise ValueError(f"Got columns of particle {str(twice)!r} twice, expected one row each. Remove the others.")
    missing = names[~names.isin(columns.index)]
    if len(missing):
        raise KeyError(
            f"Got {len(missing)} of {len(names)} particles without a row of columns, first {missing[:3].tolist()}. "
            "Give the columns of the same data set."
        )
    return columns.loc[names]


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _codes(column: pd.Series, n_bins: int) -> Int64[np.ndarray, " k"]:
    """Which bin or name each particle has, from 0 without gaps."""
    values = column
    if _is_number(column) and column.nunique() > n_bins:
        numbers = column.to_numpy(dtype=np.float64)
        finite = np.isfinite(numbers)
        edges = np.unique(np.quantile(numbers[finite], np.linspace(0, 1, n_bins + 1)[1:-1]))
        values = pd.Series(np.where(finite, np.searchsorted(edges, numbers, side="left"), -1))
    codes, _ = pd.factorize(values, sort=False, use_na_sentinel=False)
    return codes.astype(np.int64)


def _information(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> Float64[np.ndarray, "a b"]:
    """Mutual information of each of one set of codes with each of another, in nats."""
    return np.array([[_mutual_information(x, y) for y in b.values()] for x in a.values()]).reshape(len(a), len(b))


def _mutual_information(x: np.ndarray, y: np.ndarray) -> float:
    """Sum of p(x, y) log p(x, y) / (p(x) p(y)), in nats (Cover & Thomas 2006, eq. 2.28)."""
    shape = (int(x.max()) + 1, int(y.max()) + 1)
    joint = np.bincount(x * shape[1] + y, minlength=shape[0] * shape[1]).reshape(shape)
    counted = [_sum_log(counts) for counts in (joint, joint.sum(axis=0), joint.sum(axis=1))]
    return max(0.0, (counted[0] - counted[1] - counted[2]) / len(x) + np.log(len(x)))


def _sum_log(counts: np.ndarray) -> float:
    some = counts[counts > 0].astype(np.float64)
    return float((some * np.log(some)).sum())


def _entropy(code: np.ndarray) -> float:
    return float(np.log(len(code)) - _sum_log(np.bincount(code)) / len(code))


def _correlation_ratio(code: np.ndarray, axis: pd.Series) -> float:
    """Share of the variance of an axis between the groups of a code (Fisher's eta squared)."""
    if not _is_number(axis):
        return float("nan")
    values = axis.to_numpy(dtype=np.float64)
    values = values - values.mean()
    counts = np.bincount(code)
    means = np.bincount(code, weights=values) / counts
    total = float(np.square(values).sum())
    return float((counts * np.square(means)).sum() / total) if total > 0 else 0.0
