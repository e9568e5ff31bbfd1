"""Traversals of the latent space: along components, between two points, through the graph of neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from tomodrgn.analysis.clusters import neighbour_graph
from tomodrgn.analysis.latent_space import nearest_particles, points_of
from tomodrgn.analysis.options import is_whole, require_word
from tomodrgn.particles.latents import Latents

__all__ = ["graph_path", "latent_path", "straight_path", "traverse_latents"]

Spacing = Literal["even", "percentiles"]


def traverse_latents(
    latents: Latents,
    component: int = 1,
    *,
    n_points: int = 9,
    percentiles: tuple[float, float] = (5.0, 95.0),
    spacing: Spacing = "even",
    on_data: bool = False,
) -> pd.DataFrame:
    """Points along a principal component, through the mean of the latents.

    Parameters
    ----------
    component
        Which component, from 1.
    n_points
        Number of points.
    percentiles
        Ends of the path, as percentiles of the particles' coordinates along the component.
    spacing
        ``"even"``: at one distance from each other. ``"percentiles"``: as many particles between any two.
    on_data
        Give the particle nearest to each point instead of the point; points that have the same one become one.

    Returns
    -------
    One row a point, index ``pc1_000`` ..., columns pc (the coordinate), z1, z2 ..., and particle_id if `on_data`.

    Raises
    ------
    ValueError
        If the latents have no such component, there is no point, percentiles are not in rising order from 0 to 100, or
        `spacing` is another word.
    """
    from sklearn.decomposition import PCA

    require_word(spacing, get_args(Spacing), "spacing")
    limit = min(latents.z_dim, len(latents))
    if not is_whole(component) or not 1 <= component <= limit:
        raise ValueError(
            f"Got principal component {component} of {latents.z_dim} latent dimensions and {len(latents)} particles, "
            f"expected 1 to {limit}. Choose such a whole number."
        )
    if not is_whole(n_points) or n_points < 1 or not 0 <= percentiles[0] <= percentiles[1] <= 100:
        raise ValueError(
            f"Got {n_points} points between percentiles {percentiles}, expected 1 or more between 0 and 100, rising. "
            "Choose such n_points, a whole number, and percentiles."
        )
    values, _ = points_of(latents)
    pca = PCA(n_components=component, svd_solver="full").fit(values)
    coordinates = pca.transform(values)[:, component - 1]
    if spacing == "percentiles":
        path = np.percentile(coordinates, np.linspace(*percentiles, n_points))
    else:
        first, last = np.percentile(coordinates, percentiles)
        path = np.linspace(first, last, n_points)
    points = pca.mean_ + path[:, None] * pca.components_[component - 1]
    if not on_data:
        table = path_table(f"pc{component}", points)
        table.insert(0, "pc", path)
        return table
    rows = _without_repeats(nearest_particles(latents, points))
    table = path_table(f"pc{component}", latents.mu[rows], latents.particle_id[rows])
    table.insert(0, "pc", coordinates[rows])
    return table


def straight_path(
    latents: Latents,
    start: str | Float[np.ndarray, " z"],
    end: str | Float[np.ndarray, " z"],
    *,
    n_points: int = 9,
    on_data: bool = False,
) -> pd.DataFrame:
    """Evenly spaced points on the straight line between two particles or two points.

    Parameters
    ----------
    start, end
        A particle id, or a latent.
    n_points
        Number of points, both ends included.
    on_data
        Give the particle nearest to each point instead of the point; points that have the same one become one.

    Returns
    -------
    One row a point, index ``line_000`` ..., columns z1, z2 ..., and particle_id if `on_data`.

    Raises
    ------
    KeyError
        If a particle has no latent.
    ValueError
        If a latent has another number of dimensions, or fewer than two points are asked for.
    """
    points_of(latents)
    _require_points(n_points)
    ends = [_end(latents, end) for end in (start, end)]
    points = ends[0] + np.linspace(0, 1, n_points)[:, None] * (ends[1] - ends[0])
    if not on_data:
        return path_table("line", points)
    rows = _without_repeats(nearest_particles(latents, points))
    return path_table("line", latents.mu[rows], latents.particle_id[rows])


def graph_path(
    latents: Latents, anchors: Iterable[str], *, n_neighbors: int = 15, n_points: int | None = None
) -> pd.DataFrame:
    """Shortest path through the neighbour graph that visits particles in the order given: it stays where data is.

    Steps lead from a particle to one of its nearest neighbours; the sum of their lengths is the least possible
    (Dijkstra 1959; geodesics as in Isomap, Tenenbaum, de Silva & Langford 2000).

    Parameters
    ----------
    anchors
        Ids of two or more particles.
    n_neighbors
        Neighbours of each particle in the graph.
    n_points
        Thin the path to about this many particles, evenly spaced along it; anchors always stay. All if not given.

    Returns
    -------
    One row a particle, index ``path_000`` ..., columns particle_id, z1, z2 ..., `length` (along the path from its
    start) and `anchor` (True where the particle is one of them).

    Raises
    ------
    KeyError
        If an anchor has no latent.
    ValueError
        If there are fewer than two anchors, or two of them lie in parts of the graph that are not connected.
    """
    from scipy.sparse.csgraph import dijkstra

    points, index = points_of(latents)
    stops = _rows_of(index, anchors)
    if len(stops) < 2:
        raise ValueError(
            f"Got {len(stops)} anchors of a path, expected at least two particle ids. Name where it begins and ends."
        )
    graph = neighbour_graph(points, n_neighbors)
    rows, is_anchor = [stops[0]], [True]
    for begin, end in pairwise(stops):
        distance, previous = dijkstra(graph, indices=begin, return_predecessors=True)
        if not np.isfinite(distance[end]):
            raise ValueError(
                f"Got particles {index[begin]!r} and {index[end]!r} with no chain of neighbours between them "
                f"({n_neighbors} neighbours a particle), expected one connected crowd. Raise n_neighbors, or go "
                "straight: straight_path."
            )
        leg = [end]
        while leg[-1] != begin:
            leg.append(int(previous[leg[-1]]))
        rows += leg[::-1][1:]
        is_anchor += [False] * (len(leg) - 2) + [True] if len(leg) > 1 else []
    length = np.concatenate([[0.0], np.linalg.norm(np.diff(points[rows], axis=0), axis=1).cumsum()])
    kept = _thinned(length, np.array(is_anchor), n_points)
    chosen = np.array(rows)[kept]
    table = path_table("path", latents.mu[chosen], latents.particle_id[chosen])
    return table.assign(length=length[kept], anchor=np.array(is_anchor)[kept])


def latent_path(
    latents: Latents, anchors: Iterable[str], *, through_particles: bool = False, n_points: int = 12
) -> pd.DataFrame:
    """A path from particle to particle: straight from each to the next, or through the graph of neighbours.

    Parameters
    ----------
    anchors
        Ids of two or more particles.
    through_particles
        Take `graph_path`; else `straight_path`.
    n_points
        Number of points of each straight piece; of a path through particles about that of all.

    Returns
    -------
    One row a point, index ``path_000`` ..., columns z1, z2 ..., and particle_id where it goes through particles.

    Raises
    ------
    KeyError
        If a particle has no latent.
    ValueError
        If there are fewer than two anchors or points, or no way through the graph.
    """
    ends = list(anchors)
    if len(ends) < 2:
        raise ValueError(f"Got {len(ends)} particles for a path, expected two or more. Name where it begins and ends.")
    if through_particles:
        path = graph_path(latents, ends, n_points=n_points)
        return path.set_axis([f"path_{i:03d}" for i in range(len(path))])
    pieces = [straight_path(latents, start, end, n_points=n_points).iloc[1:] for start, end in pairwise(ends)]
    path = pd.concat([straight_path(latents, ends[0], ends[1], n_points=n_points).iloc[:1], *pieces])
    return path.set_axis([f"path_{i:03d}" for i in range(len(path))])


def _thinned(length: np.ndarray, is_anchor: np.ndarray, n_points: int | None) -> Int64[np.ndarray, " p"]:
    """Positions on a path of about `n_points` points, evenly spaced along it, and of all anchors."""
    if n_points is None or n_points >= len(length):
        return np.arange(len(length))
    _require_points(n_points)
    wanted = np.linspace(0, length[-1], n_points)
    nearest = np.abs(length[None] - wanted[:, None]).argmin(axis=1)
    return np.unique(np.concatenate([nearest, np.flatnonzero(is_anchor)]))


def _require_points(n_points: int) -> None:
    if not is_whole(n_points) or n_points < 2:
        raise ValueError(
            f"Got {n_points} points of a path, expected at least its two ends. Choose a whole number from 2 on."
        )


def _end(latents: Latents, end: str | np.ndarray) -> np.ndarray:
    if isinstance(end, str):
        return latents.aligned_to(np.array([end])).mu[0].astype(np.float64)
    if np.shape(end) != (latents.z_dim,):
        raise ValueError(
            f"Got an end of shape {np.shape(end)}, expected ({latents.z_dim},), a point of the latents. Give one of "
            "them, or a particle id."
        )
    return np.asarray(end, dtype=np.float64)


def _rows_of(index: pd.Index, names: Iterable[str]) -> list[int]:
    wanted = list(names)
    rows = index.get_indexer(pd.Index(wanted))
    missing = [name for name, row in zip(wanted, rows, strict=True) if row < 0]
    if missing:
        raise KeyError(
            f"Got anchors without a latent, {missing[:3]}, expected ids of the {len(index)} particles, such as "
            f"{str(index[0])!r}. Choose them from latents.particle_id."
        )
    return [int(row) for row in rows]


def _without_repeats(rows: np.ndarray) -> Int64[np.ndarray, " p"]:
    """Each row once, in the order of its first place."""
    return np.array(list(dict.fromkeys(rows.tolist())), dtype=np.int64)


def path_table(kind: str, points: np.ndarray, particle_ids: np.ndarray | None = None) -> pd.DataFrame:
    """Columns z1, z2 ... (after particle_id, where points are particles), index ``<kind>_000`` ..."""
    columns: dict[str, np.ndarray] = {} if particle_ids is None else {"particle_id": particle_ids}
    columns |= {f"z{i + 1}": points[:, i] for i in range(points.shape[1])}
    return pd.DataFrame(columns, index=[f"{kind}_{i:03d}" for i in range(len(points))])
