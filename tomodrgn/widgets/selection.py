"""Selection: the particle ids chosen now, shared by all views; with its past, and kept under names in a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import traitlets
from jaxtyping import Int64

from tomodrgn import __version__
from tomodrgn.analysis.query import query_particles
from tomodrgn.io.atomic import refuse_existing, replacing
from tomodrgn.io.fault import FaultError
from tomodrgn.training.run import Run

__all__ = ["Selection"]

MOST_STEPS = 100  # that can be undone


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
    made_by
        How the choice came about, in words, such as ``"query: z1 > 0"``.

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
    >>> selection.invert()
    >>> selection.particle_ids
    ('b',)
    >>> selection.undo()
    >>> selection.particle_ids
    ('a', 'c')
    """

    particle_ids = traitlets.Tuple()
    made_by = traitlets.Unicode("code")

    def __init__(self, known_ids: Iterable[str], particle_ids: Iterable[str] = ()) -> None:
        # Names as objects: pandas finds them several times faster than among its own strings.
        self._known = pd.Index([str(name) for name in known_ids], dtype=object)
        if self._known.has_duplicates:
            twice = self._known[self._known.duplicated()][0]
            raise ValueError(f"Got particle id {twice!r} twice, expected unique names. Rename one.")
        self._known_ids = tuple(self._known)
        self._past: list[tuple[tuple[str, ...], str]] = []
        self._undone: list[tuple[tuple[str, ...], str]] = []
        self._before: tuple[str, ...] = ()
        self._next_made_by, self._travelling = "code", False
        super().__init__()
        self.set(particle_ids)
        self._past.clear()

    @property
    def known_ids(self) -> tuple[str, ...]:
        """Names of all particles that can be chosen."""
        return self._known_ids

    # --- choosing ---

    def set(self, particle_ids: Iterable[str], *, made_by: str = "code") -> None:
        """Choose these particles and no others; `made_by` says how, for the record."""
        self._next_made_by = made_by
        try:
            self.particle_ids = (particle_ids,) if isinstance(particle_ids, str) else tuple(particle_ids)
        finally:
            self._next_made_by = "code"

    def add(self, particle_ids: Iterable[str], *, made_by: str = "code") -> None:
        """Choose these particles as well."""
        self.set((*self.particle_ids, *self._checked(particle_ids)), made_by=self._with(f"and {made_by}"))

    def remove(self, particle_ids: Iterable[str], *, made_by: str = "code") -> None:
        """Choose these particles no longer."""
        gone = set(self._checked(particle_ids))
        kept = [name for name in self.particle_ids if name not in gone]
        self.set(kept, made_by=self._with(f"without {made_by}"))

    def intersect(self, particle_ids: Iterable[str], *, made_by: str = "code") -> None:
        """Of the chosen particles, keep those that are among these."""
        kept = set(self._checked(particle_ids))
        self.set([name for name in self.particle_ids if name in kept], made_by=self._with(f"also in {made_by}"))

    def invert(self) -> None:
        """Choose all others."""
        chosen = set(self.particle_ids)
        self.set([name for name in self._known if name not in chosen], made_by=f"all but ({self.made_by})")

    def clear(self) -> None:
        """Choose nothing."""
        self.set((), made_by="cleared")

    def query(self, table: pd.DataFrame, condition: str) -> None:
        """Choose the particles of a table that fulfil a condition, such as ``rlnDefocusU > 2e4 and cluster in [1, 3]``.

        Raises
        ------
        ValueError
            If the condition is not understood; see `tomodrgn.analysis.query`.
        """
        self.set(query_particles(table, condition), made_by=f"query: {condition}")

    # --- going back ---

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier choice."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether a choice was undone."""
        return bool(self._undone)

    def undo(self) -> None:
        """The choice before; of up to 100."""
        if self._past:
            self._travel(self._past, self._undone)

    def redo(self) -> None:
        """The choice that was undone last."""
        if self._undone:
            self._travel(self._undone, self._past)

    def _travel(self, here: list[tuple[tuple[str, ...], str]], there: list[tuple[tuple[str, ...], str]]) -> None:
        names, made_by = here.pop()
        there.append((self.particle_ids, self.made_by))
        self._travelling = True
        try:
            self.set(names, made_by=made_by)
        finally:
            self._travelling = False

    @traitlets.observe("particle_ids")
    def _remember(self, change: dict) -> None:
        if not self._travelling:
            self._past.append((self._before, self.made_by))
            del self._past[:-MOST_STEPS]
            self._undone.clear()
        self._before, self.made_by = change["new"], self._next_made_by

    # --- keeping ---

    def save(self, run: Run | Path | str, name: str, *, epoch: int | None = None, overwrite: bool = False) -> Path:
        """Write the choice to ``RUN/selections/<name>.csv`` (column particle_id), and its story to ``<name>.json``.

        Parameters
        ----------
        name
            Letters, digits, dots, dashes and underscores; not beginning with a dot.
        epoch
            Epoch of the latents that were looked at; None is the last.

        Raises
        ------
        FileExistsError
            If there is one of that name and `overwrite` is False.
        KeyError
            If a particle is not in the run.
        ValueError
            If the name is none.
        """
        run = run if isinstance(run, Run) else Run.open(run)
        path = _path(run, name)
        refuse_existing(path, overwrite=overwrite)
        shown = run.latents(epoch)
        _rows(self.particle_ids, shown.particle_id, f"run {run.folder}")
        record = {
            "tomodrgn": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": str(run.folder),
            "epoch": int(run.epoch_folder(epoch).name),
            "made_by": self.made_by,
            "n_particles": len(self.particle_ids),
            "n_known": len(self._known),
        }
        path.parent.mkdir(exist_ok=True)
        with replacing(path.with_suffix(".json"), overwrite=True) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        with replacing(path, overwrite=overwrite) as temporary:
            pd.DataFrame({"particle_id": list(self.particle_ids)}).to_csv(temporary, index=False)
        return path

    def load(self, run: Run | Path | str, name: str) -> dict[str, Any]:
        """Choose what was saved under a name; returns how it was made (empty if that was not kept).

        Raises
        ------
        FileNotFoundError
            If the run has no selection of that name.
        KeyError
            If particles of it are not known here; the message says which.
        ValueError
            If the file has no column particle_id.
        """
        run = run if isinstance(run, Run) else Run.open(run)
        path = _path(run, name)
        if not path.is_file():
            names = ", ".join(sorted(p.stem for p in path.parent.glob("*.csv"))) or "none"
            raise FileNotFoundError(
                f"Got selection {name!r} of run {run.folder}, expected one that is there: {names}. Choose one of these."
            )
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except ValueError as error:  # those of pandas are of this kind
            raise ValueError(f"Got {path}, expected a CSV file ({error}). Save the selection again.") from error
        if "particle_id" not in table:
            raise ValueError(
                f"Got {path} with the columns {', '.join(map(str, table))}, expected particle_id. Rename one."
            )
        story = _story(path.with_suffix(".json"))
        _rows(table["particle_id"], self._known, f"this view, in selection {path}")
        self.set(table["particle_id"], made_by=f"selection {name} of {run.folder}")
        return story

    # --- looking ---

    def __len__(self) -> int:
        return len(self.particle_ids)

    def __contains__(self, name: object) -> bool:
        return name in self.particle_ids

    def positions(self) -> list[int]:
        """Rows of the chosen particles in `known_ids`, rising."""
        return [int(i) for i in _rows(self.particle_ids, self._known, "this view")]

    @traitlets.validate("particle_ids")
    def _in_order(self, proposal: dict) -> tuple[str, ...]:
        return self._checked(proposal["value"])

    def _with(self, words: str) -> str:
        return f"({self.made_by}) {words}" if self.particle_ids else words.removeprefix("and ")

    def _checked(self, names: Iterable[str]) -> tuple[str, ...]:
        wanted = [names] if isinstance(names, str) else [str(name) for name in names]
        rows = _rows(wanted, self._known, "this view")
        return tuple(self._known[np.unique(rows)])


def _story(path: Path) -> dict[str, Any]:
    """How a selection was made; empty if that was not kept."""
    if not path.is_file():
        return {}
    try:
        story = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(story, dict):
            raise FaultError(f"it holds a {type(story).__name__}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Got {path}, expected the story of a selection ({error}). Remove that file.") from error
    return story


def _rows(wanted: Iterable[str], known: Iterable[str], place: str) -> Int64[np.ndarray, " n"]:
    """Places of names among those known; a KeyError tells which are not."""
    names = list(wanted)
    index = known if isinstance(known, pd.Index) else pd.Index(list(known), dtype=object)
    rows = np.asarray(index.get_indexer(pd.Index(names, dtype=object)), dtype=np.int64)
    if (rows < 0).any():
        missing = [name for name, row in zip(names, rows, strict=True) if row < 0]
        raise KeyError(
            f"Got {len(missing)} of {len(names)} particle ids that are not among the {len(index)} of {place}, first "
            f"{missing[:3]}. Use ids of its data set."
        )
    return rows


def _path(run: Run, name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            f"Got the name {name!r} for a selection, expected letters, digits, dots, dashes, underscores. Change it."
        )
    return run.folder / "selections" / f"{name}.csv"
