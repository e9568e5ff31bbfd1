"""What the explorer draws: one row a particle, its columns, and the words that tell of a particle."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float64

from tomodrgn.analysis.latent_space import nearest_particles, reduce_latents
from tomodrgn.particles.latents import Latents
from tomodrgn.training.run import Run

__all__ = ["MAX_COMPONENTS", "explorer_table", "hover_texts", "path_on_axes", "same_signs", "varied_columns"]

MAX_COMPONENTS = 8
MANY_TEXTS = 100_000  # particles, from which on a text tells only the columns that were asked for


def explorer_table(
    run: Run, epoch: int | None, clusters: pd.Series | None, columns: pd.DataFrame | None
) -> pd.DataFrame:
    """Principal components and clusters first, then further columns, then those of the run.

    Raises
    ------
    ValueError
        If the run has no latents.
    KeyError
        If `clusters` or `columns` lack a particle.
    """
    latents = run.latents(epoch)
    if not latents.z_dim:
        raise ValueError(f"Got run {run.folder} with z_dim 0, expected one with latents. Train with a larger z_dim.")
    table = reduce_latents(latents, MAX_COMPONENTS)
    for part in (clusters, columns):
        if part is None:
            continue
        missing = table.index.difference(part.index)
        if len(missing):
            raise KeyError(f"Got columns without particle {missing[0]!r} ({len(missing)} such), expected all of them.")
        table = table.join(part.rename("cluster").astype(str) if isinstance(part, pd.Series) else part)
    own = run.table(epoch)
    return table.join(own.drop(columns=[c for c in own if c in table]))


def varied_columns(table: pd.DataFrame) -> list[str]:
    """Columns with more than one value; a missing one counts.

    Examples
    --------
    >>> varied_columns(pd.DataFrame({"a": [1, 1], "b": [1, None], "c": ["x", "y"], "d": [None, None]}))
    ['b', 'c']
    """

    def varies(column: pd.Series) -> bool:
        missing = column.isna()
        known = column[~missing]
        return bool(missing.any() != missing.all() or (len(known) and (known != known.iloc[0]).any()))

    return [str(name) for name in table if varies(table[name])]


def hover_texts(table: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """Of each particle its name, its latents with their standard deviations, and the columns asked for."""
    texts = table.index.astype(str).tolist()
    names = [f"z{i + 1}" for i in range(MAX_COMPONENTS) if f"z{i + 1}_std" in table]
    for name in names if len(table) <= MANY_TEXTS else ():
        pairs = zip(texts, table[name], table[f"{name}_std"], strict=True)
        texts = [f"{text}  {name} {mean:.2f} \N{PLUS-MINUS SIGN} {std:.2f}" for text, mean, std in pairs]
    for name in columns:
        texts = [f"{text}  {name} {_short(value)}" for text, value in zip(texts, table[name], strict=True)]
    return texts


def path_on_axes(
    places: pd.DataFrame, path: pd.DataFrame, latents: Latents, ends: tuple[str, ...]
) -> Float64[np.ndarray, "p 2"]:
    """Corners of a path in a picture: straight where both axes are straight in the latents, else along particles.

    Parameters
    ----------
    places
        Where each particle is in the picture: two columns, indexed by particle_id.
    path
        Points of the path as of `latent_path`.
    ends
        The particles it was asked to go through.
    """
    if "particle_id" in path:
        return places.loc[path["particle_id"]].to_numpy(np.float64)
    if all(re.fullmatch(r"(PC|z)\d+", str(name)) for name in places):
        return places.loc[list(ends)].to_numpy(np.float64)
    points = path[[f"z{i + 1}" for i in range(latents.z_dim)]].to_numpy(np.float64)
    return places.loc[latents.particle_id[nearest_particles(latents, points)]].to_numpy(np.float64)


def same_signs(points: pd.DataFrame, before: pd.DataFrame | None) -> pd.DataFrame:
    """Components whose signs agree with those of the epoch before, so that the picture does not flip."""
    if before is None or not before.index.equals(points.index) or before.shape != points.shape:
        return points
    signs = np.where((points.to_numpy() * before.to_numpy()).sum(axis=0) < 0, -1.0, 1.0)
    turned = points * signs
    turned.attrs = points.attrs
    return turned


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
