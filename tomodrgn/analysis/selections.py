"""Choices of particles put together: union, intersection, inversion; by particle id, in the order of the data set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

__all__ = ["intersect_selections", "invert_selection", "unite_selections"]


def unite_selections(known_ids: Iterable[str], *selections: Iterable[str] | object) -> np.ndarray:
    """Particles that are in any of the selections.

    Parameters
    ----------
    known_ids
        Names of all particles, which give the order.
    selections
        Names, or anything with an attribute `particle_ids` that holds names, such as a Selection.

    Returns
    -------
    Names, each once, in the order of `known_ids`.

    Raises
    ------
    KeyError
        If a selected name is not known.

    Examples
    --------
    >>> unite_selections("abcd", ["d", "a"], ["a", "b"]).tolist()
    ['a', 'b', 'd']
    """
    known = _known(known_ids)
    return known[np.flatnonzero(_chosen(known, selections).any(axis=0))].to_numpy()


def intersect_selections(known_ids: Iterable[str], *selections: Iterable[str] | object) -> np.ndarray:
    """Particles that are in each of the selections (all, if there is no selection); see `unite_selections`.

    Examples
    --------
    >>> intersect_selections("abcd", ["d", "a"], ["a", "b"]).tolist()
    ['a']
    """
    known = _known(known_ids)
    return known[np.flatnonzero(_chosen(known, selections).all(axis=0))].to_numpy()


def invert_selection(known_ids: Iterable[str], selection: Iterable[str] | object) -> np.ndarray:
    """Particles that are not in the selection; see `unite_selections`.

    Examples
    --------
    >>> invert_selection("abcd", ["d", "a"]).tolist()
    ['b', 'c']
    """
    known = _known(known_ids)
    return known[~_chosen(known, (selection,))[0]].to_numpy()


def _known(known_ids: Iterable[str]) -> pd.Index:
    known = pd.Index([str(name) for name in known_ids], dtype=object)
    if known.has_duplicates:
        raise ValueError(f"Got particle id {known[known.duplicated()][0]!r} twice, expected unique names. Rename one.")
    return known


def _chosen(known: pd.Index, selections: tuple[Iterable[str] | object, ...]) -> np.ndarray:
    """Which known particles each selection holds, (selections, k)."""
    chosen = np.zeros((len(selections), len(known)), dtype=bool)
    for row, selection in zip(chosen, selections, strict=True):
        wanted = [str(name) for name in getattr(selection, "particle_ids", selection)]  # type: ignore[attr-defined]
        at = known.get_indexer(pd.Index(wanted, dtype=object))
        missing = [name for name, i in zip(wanted, at, strict=True) if i < 0]
        if missing:
            raise KeyError(
                f"Got {len(missing)} of {len(wanted)} particle ids that are not among the {len(known)} of the data "
                f"set, first {missing[:3]}. Use ids of this data set."
            )
        row[at] = True
    return chosen
