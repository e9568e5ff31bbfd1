"""Selection: the particle ids chosen now, shared by all views."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import traitlets

__all__ = ["Selection"]


class Selection(traitlets.HasTraits):
    """The particles that are chosen now. Views that share a Selection show, and change, the same choice.

    Parameters
    ----------
    known_ids
        Names of all particles that can be chosen; they must be unique.
    particle_ids
        Those chosen at first.

    Attributes
    ----------
    particle_ids
        The chosen names, each once, in the order of `known_ids`. Set it, or observe it.

    Raises
    ------
    KeyError
        If a name is set that is not known.

    Examples
    --------
    >>> selection = Selection(["a", "b", "c"])
    >>> selection.set(["c", "a"])
    >>> selection.particle_ids
    ('a', 'c')
    """

    particle_ids = traitlets.Tuple()

    def __init__(self, known_ids: Iterable[str], particle_ids: Iterable[str] = ()) -> None:
        self._known = pd.Index([str(name) for name in known_ids])
        if self._known.has_duplicates:
            twice = self._known[self._known.duplicated()][0]
            raise ValueError(f"Got particle id {twice!r} twice, expected unique names. Rename one.")
        super().__init__()
        self.set(particle_ids)

    @property
    def known_ids(self) -> tuple[str, ...]:
        """Names of all particles that can be chosen."""
        return tuple(self._known)

    @traitlets.validate("particle_ids")
    def _in_order(self, proposal: dict) -> tuple[str, ...]:
        return self._checked(proposal["value"])

    def set(self, particle_ids: Iterable[str]) -> None:
        """Choose these particles and no others."""
        self.particle_ids = self._checked(particle_ids)

    def add(self, particle_ids: Iterable[str]) -> None:
        """Choose these particles as well."""
        self.particle_ids = (*self.particle_ids, *self._checked(particle_ids))

    def clear(self) -> None:
        """Choose nothing."""
        self.particle_ids = ()

    def __len__(self) -> int:
        return len(self.particle_ids)

    def __contains__(self, name: object) -> bool:
        return name in self.particle_ids

    def positions(self) -> list[int]:
        """Rows of the chosen particles in `known_ids`, rising."""
        return [int(i) for i in self._known.get_indexer(pd.Index(self.particle_ids))]

    def _checked(self, names: Iterable[str]) -> tuple[str, ...]:
        wanted = [names] if isinstance(names, str) else [str(name) for name in names]
        rows = self._known.get_indexer(pd.Index(wanted))
        missing = [name for name, row in zip(wanted, rows, strict=True) if row < 0]
        if missing:
            raise KeyError(
                f"Got {len(missing)} of {len(wanted)} particle ids that are not among the {len(self._known)} of this "
                f"view, first {missing[:3]}. Use ids of its data set."
            )
        return tuple(self._known[sorted(set(rows.tolist()))])
