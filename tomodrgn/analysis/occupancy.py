"""How much of a region each particle's map fills, as a share of the consensus; and how many particles have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Float64

from tomodrgn.analysis.landscape import check_names
from tomodrgn.imaging import masks

__all__ = ["occupied_shares", "region_occupancy"]

CHUNK = 256  # maps
LEAST_SEPARATION = 2.0  # Ashman's D
LEAST_BIC_GAIN = 10.0  # very strong evidence (Kass & Raftery 1995)
ONE_VALUE = 1e-9  # spread, over the largest value, of a column that has one value


def region_occupancy(
    maps: Float32[np.ndarray, "v d d d"],
    names: Iterable[str],
    regions: Mapping[str, Float[np.ndarray, "d d d"]],
    *,
    consensus: Float32[np.ndarray, "d d d"] | None = None,
) -> pd.DataFrame:
    """Density of each map in each region, divided by that of the consensus.

    Each map's own solvent level is taken off first: its median over the voxels outside of every region and of the
    consensus' density. Maps without a mean (decoded ones) need that.

    Parameters
    ----------
    maps
        Bright on dark, axes zyx, all on one scale: a map per particle, decoded.
    names
        Of the maps; particle ids.
    regions
        Weights from 0 to 1 by name: `tomodrgn.analysis.regions`.
    consensus
        Map that has the value 1; the mean of the maps if not given, and the mean of each column is 1 then.

    Returns
    -------
    Indexed by particle_id, one column a region. 0 is solvent. With a mean of all as consensus, mass that a share s of
    the particles has is 0 in some and 1 / s in the others.

    Raises
    ------
    ValueError
        If shapes or names do not fit, there is no region, or the consensus has no density in a region.
    """
    index = pd.Index([str(name) for name in names], name="particle_id")
    check_names(index, len(maps))
    if not regions or not len(maps):
        raise ValueError(f"Got {len(maps)} maps and {len(regions)} regions, expected at least one of each.")
    wrong = [name for name, region in regions.items() if region.shape != maps.shape[1:]]
    reference = maps.mean(axis=0, dtype=np.float64).astype(np.float32) if consensus is None else consensus
    if wrong or reference.shape != maps.shape[1:]:
        raise ValueError(
            f"Got maps of shape {maps.shape[1:]}, a consensus of {reference.shape} and regions {wrong} of another "
            "shape, expected one shape. Resample them to the box of the maps."
        )
    weights = np.stack([region.ravel() for region in regions.values()], axis=1).astype(np.float64)  # (voxels, r)
    solvent = _solvent(reference, weights)
    whole = _densities(reference[None], weights, solvent)[0]
    scale = np.abs(reference).max() * weights.sum(axis=0)
    empty = [name for name, value, most in zip(regions, whole, scale, strict=True) if value <= 1e-3 * most]
    if empty:
        raise ValueError(
            f"Got a consensus without density in the regions {empty}, expected some. Place them on density, or give a "
            "consensus of the same contrast (bright on dark) that has it."
        )
    chunks = [_densities(maps[i : i + CHUNK], weights, solvent) for i in range(0, len(maps), CHUNK)]
    return pd.DataFrame(np.concatenate(chunks) / whole, index=index, columns=[str(name) for name in regions])


def occupied_shares(occupancy: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Which share of the particles has the mass of each region: two normal distributions fitted to each column.

    Parameters
    ----------
    occupancy
        As `region_occupancy` gives it; any column of numbers serves.
    seed
        Of the starting points of the fit; the same seed gives the same table.

    Returns
    -------
    One row a region: `share` of the particles in the upper mode, `low` and `high` (means of the modes), `threshold`
    (where both modes are as likely), `separation` (Ashman's D, Ashman, Bird & Zepf 1994; two peaks are seen above 2)
    and `two_modes`: separation above 2, and a BIC better by more than 10 than that of one mode. Where it is False, the
    share means nothing: the mass is in all particles, or in none, or comes in degrees. A column of one value has the
    share 1 and the separation 0.

    Raises
    ------
    ValueError
        If there are fewer than 10 particles, or a column has what is no finite number.
    """
    if len(occupancy) < 10:
        raise ValueError(
            f"Got occupancies of {len(occupancy)} particles, expected at least 10 to find two modes. Take "
            "more particles."
        )
    rows = [_two_modes(_finite(occupancy.iloc[:, i]), seed) for i in range(occupancy.shape[1])]
    return pd.DataFrame(rows, index=pd.Index(occupancy.columns, name="region"))


def _finite(column: pd.Series) -> Float64[np.ndarray, " k"]:
    """The numbers of a column."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"Got an occupancy of {column.name!r} that is no finite number, of particle "
            f"{str(column.index[int(bad.argmax())])!r} ({int(bad.sum())} such particles), expected numbers. Leave "
            "these particles or that column out."
        )
    return values


def _two_modes(values: np.ndarray, seed: int) -> dict[str, float | bool]:
    from sklearn.mixture import GaussianMixture

    mean, spread = float(values.mean()), float(values.std())
    if spread <= ONE_VALUE * float(np.abs(values).max()):
        only = {"low": mean, "high": mean, "threshold": mean}
        return {"share": 1.0, **only, "separation": 0.0, "two_modes": False}
    scaled = ((values - mean) / spread)[:, None]
    one, two = (GaussianMixture(n, n_init=3, reg_covar=1e-4, random_state=seed).fit(scaled) for n in (1, 2))
    low, high = np.argsort(two.means_[:, 0])
    means, variances = two.means_[:, 0], two.covariances_[:, 0, 0]
    separation = float(abs(means[high] - means[low]) / np.sqrt(variances.mean()))
    grid = np.linspace(means[low], means[high], 1001)
    upper = two.predict_proba(grid[:, None])[:, high] >= 0.5
    threshold = float(grid[int(np.argmax(upper))] if upper.any() else means[high])
    better = float(one.bic(scaled) - two.bic(scaled))
    return {
        "share": float((scaled[:, 0] >= threshold).mean()),
        "low": float(mean + spread * means[low]),
        "high": float(mean + spread * means[high]),
        "threshold": float(mean + spread * threshold),
        "separation": separation,
        "two_modes": separation > LEAST_SEPARATION and better > LEAST_BIC_GAIN,
    }


def _solvent(reference: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Voxels (flat) outside of the density of the reference and of all regions; none where all is inside."""
    density = masks.density_mask(torch.from_numpy(reference)).numpy().ravel()
    return np.flatnonzero((density == 0) & (weights == 0).all(axis=1))


def _densities(maps: np.ndarray, weights: np.ndarray, solvent: np.ndarray) -> np.ndarray:
    """Weighted sum of each map above its solvent level in each region, (v, r)."""
    flat = np.asarray(maps, dtype=np.float64).reshape(len(maps), -1)
    level = np.median(flat[:, solvent], axis=1) if len(solvent) else np.zeros(len(flat))
    return flat @ weights - level[:, None] * weights.sum(axis=0)
