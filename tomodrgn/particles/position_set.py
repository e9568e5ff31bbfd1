"""Positions: where each particle sits in its tomogram, and how it is turned; joined to a ParticleSet by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from tomodrgn.particles.particle_set import ParticleSet

__all__ = ["PositionMatch", "Positions", "tilt_series_of", "tomogram_root"]

logger = logging.getLogger(__name__)
NAME_COLUMNS = ("tomodrgnParticleId", "rlnTomoParticleName", "rlnGroupName")
WARP_NAME = re.compile(r"(.+)_(\d{7})")
WARP_TOMOGRAM = re.compile(r"(.+)(?:_\d+(?:\.\d+)?Apx\.mrc|\.tomostar)")
VOLUME_SUFFIX = re.compile(r"\.(?:mrc|rec|em|st|ali)$", re.IGNORECASE)


def tomogram_root(name: str) -> str:
    """Name of a tilt series, from that of one of its files: folder, pixel size and suffix left out.

    Examples
    --------
    >>> [tomogram_root(name) for name in ("TS_01", "TS_01.tomostar", "/data/TS_01_15.00Apx.mrc", "rec/TS_01.mrc")]
    ['TS_01', 'TS_01', 'TS_01', 'TS_01']
    """
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    warp = WARP_TOMOGRAM.fullmatch(last)
    return warp[1] if warp else VOLUME_SUFFIX.sub("", last)


def tilt_series_of(name: str) -> str:
    """Tilt series of a tomogram under any of its names.

    Examples
    --------
    >>> [tilt_series_of(name) for name in ("rec_TS_01.mrc", "TS_01.mrc.tomostar", "TS_01")]
    ['TS_01', 'TS_01', 'TS_01']
    """
    return tomogram_root(tomogram_root(name)).removeprefix("rec_")


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Positions and orientations of k particles in their tomograms.

    Parameters
    ----------
    particle_id
        Names, (k,) text; unique. Made from the source's own columns as `read_positions` says.
    tomogram
        Name of the tomogram as the source writes it, (k,) text.
    position_angst
        Particle centres, xyz, from the corner of the tomogram (the centre of its first voxel), (k, 3).
    rotations
        Reference to tomogram, acting on xyz columns, (k, 3, 3): a map is placed by
        ``x_tomogram = rotation @ x_reference + position``.
    kind
        What wrote the file: ``"relion5"``, ``"relion4"``, ``"warptools"``, ``"nextpyp"``, ``"volume_series"``, ``"m"``,
        ``"cryosrpnt"``, ``"stopgap"``, ``"av3"``, ``"dynamo"`` or ``"pytom"``.
    path
        The file that has the rows (of an optimisation set: its particles file).
    source
        Its columns as text, one row a particle.

    Raises
    ------
    ValueError
        If shapes do not agree, a particle id repeats, or a number is not finite.
    """

    particle_id: np.ndarray
    tomogram: np.ndarray
    position_angst: Float64[np.ndarray, "k 3"]
    rotations: Float64[np.ndarray, "k 3 3"]
    kind: str
    path: Path
    source: pd.DataFrame

    def __post_init__(self) -> None:
        k = len(self.particle_id)
        shapes = {name: getattr(self, name).shape for name in ("tomogram", "position_angst", "rotations")}
        if shapes != {"tomogram": (k,), "position_angst": (k, 3), "rotations": (k, 3, 3)} or len(self.source) != k:
            raise ValueError(
                f"Got {k} particle ids with arrays of shapes {shapes} and {len(self.source)} source rows, expected "
                "(k,), (k, 3), (k, 3, 3) and k rows. Give one of each for each particle."
            )
        finite = np.isfinite(self.position_angst).all(axis=1) & np.isfinite(self.rotations).all(axis=(1, 2))
        if not finite.all():
            name = self.particle_id[int(np.argmin(finite))]
            raise ValueError(
                f"Got a position or angle of particle {name!r} of {self.path} that is no finite number "
                f"({int((~finite).sum())} such particles). Correct or remove it."
            )
        twice = pd.Series(self.particle_id).duplicated().to_numpy()
        if twice.any():
            raise ValueError(
                f"Got particle {self.particle_id[int(np.argmax(twice))]!r} twice in {self.path} ({int(twice.sum())} "
                "such rows), expected unique names. Rename or remove the repeated rows."
            )
        for name in ("particle_id", "tomogram", "position_angst", "rotations"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.particle_id)

    def take(self, rows: np.ndarray) -> Positions:
        """The given rows (integer or boolean index)."""
        return replace(
            self,
            particle_id=self.particle_id[rows],
            tomogram=self.tomogram[rows],
            position_angst=self.position_angst[rows],
            rotations=self.rotations[rows],
            source=self.source.iloc[rows].reset_index(drop=True),
        )

    def aligned_to(self, particles: ParticleSet) -> PositionMatch:
        """The positions of the particles of a set, joined by name, never by row.

        Compared are the ids of both sides and their columns tomodrgnParticleId, rlnTomoParticleName and rlnGroupName;
        particle n of a tilt series in an M species is ``<series>_<n, 7 digits from 0>`` for Warp and M and
        ``<series>/<n from 1>`` for WarpTools. The pair of columns with the most names in common is used. A name alone
        does not do: the tomograms must be of one tilt series as well (`tilt_series_of`), as many programs name
        particles by bare numbers. Where one side numbers its tomograms and the other names them, or has none, they
        cannot be compared. A match of some particles only is logged as a warning.

        Raises
        ------
        ValueError
            If no name is common to both, or only those of particles in other tomograms, or names are bare numbers and
            tomograms cannot be compared.
        """
        best = np.full(len(particles), -1)
        for theirs in _names_of_set(particles):
            for ours in self._names():
                index = pd.Index(ours).get_indexer(pd.Index(theirs))
                best = index if (index >= 0).sum() > (best >= 0).sum() else best
        elsewhere = self._in_other_tomograms(best, particles)
        matched = (best >= 0) & ~elsewhere
        if elsewhere.any() and not matched.any():
            first = int(np.argmax(elsewhere))
            raise ValueError(
                f"Got positions of {self.path} in which {int(elsewhere.sum())} of {len(particles)} particles of "
                f"{particles.source.path} are found by name, but all in other tomograms: "
                f"{str(particles.particle_id[first])!r} is in {str(self.tomogram[best[first]])!r} there and in "
                f"{str(particles.tomogram[first])!r} here. Use the positions that these particles were extracted "
                "from, or name the tomograms as they are here (tomogram_names)."
            )
        if not matched.any():
            raise ValueError(
                f"Got positions of {self.path} named {self.particle_id[:3].tolist()} ... ({len(self)}) and particles "
                f"of {particles.source.path} named {particles.particle_id[:3].tolist()} ... ({len(particles)}), "
                "expected names in common. Use the positions that these particles were extracted from."
            )
        found = self.take(best[matched])
        found = replace(found, particle_id=particles.particle_id[matched])
        match = PositionMatch(positions=found, matched=matched, n_positions=len(self))
        if not matched.all():
            others = f"; {int(elsewhere.sum())} more names are those of particles in other tomograms"
            logger.warning("%s of %s%s", match, self.path, others if elsewhere.any() else "")
        return match

    def _in_other_tomograms(self, rows: np.ndarray, particles: ParticleSet) -> np.ndarray:
        """Which particles, found by name in the given rows (-1: not found), are in a tomogram of another name."""
        found = rows >= 0
        ours = np.array([tilt_series_of(str(name)) for name in self.tomogram[rows]], dtype=object)
        theirs = np.array([tilt_series_of(str(name)) for name in particles.tomogram], dtype=object)
        named = bool(ours[found].all() and theirs[found].all())  # a file may have no tomograms, such as cryoSRPNT's
        if named and _are_numbers(ours[found]) == _are_numbers(theirs[found]):
            return found & (ours != theirs)
        if _are_numbers(particles.particle_id[found]):
            raise ValueError(
                f"Got particles of {particles.source.path} named by bare numbers, first "
                f"{particles.particle_id[found][:3].tolist()}, in tomograms {sorted(set(theirs[found]))[:3]}, and "
                f"positions of {self.path} in tomograms {sorted(set(ours[found]))[:3]}, expected tomograms of the same "
                "names: the numbers alone do not tell that they are the same particles. Name the tomograms "
                "(tomogram_names)."
            )
        return np.zeros(len(rows), dtype=bool)

    def _names(self) -> Iterator[np.ndarray]:
        """Columns of names by which a particle of this list may be known elsewhere."""
        yield self.particle_id
        yield from _unique_columns(self.source)
        numbers = [WARP_NAME.fullmatch(str(name)) for name in self.particle_id] if self.kind == "m" else [None]
        if all(numbers):
            yield np.array([f"{found[1]}/{int(found[2]) + 1}" for found in numbers if found], dtype=object)


def _are_numbers(names: np.ndarray) -> bool:
    return all(str(name).isdecimal() for name in names)


def _names_of_set(particles: ParticleSet) -> Iterator[np.ndarray]:
    yield particles.particle_id
    yield from _unique_columns(particles.source.rows.iloc[particles.source_row[particles.offsets[:-1]]])


def _unique_columns(frame: pd.DataFrame) -> Iterator[np.ndarray]:
    for column in NAME_COLUMNS:
        if column in frame and frame[column].is_unique:
            yield frame[column].to_numpy(dtype=object)


@dataclass(frozen=True, kw_only=True)
class PositionMatch:
    """Which particles of a set have a position.

    Parameters
    ----------
    positions
        Those of the particles that were found, under the ids and in the order of the set.
    matched
        Whether each particle of the set has a position, (k,).
    n_positions
        Number of positions in the list that was joined.
    """

    positions: Positions
    matched: Bool[np.ndarray, " k"]
    n_positions: int

    def __str__(self) -> str:
        return f"{len(self.positions)} of {len(self.matched)} particles have one of {self.n_positions} positions"
