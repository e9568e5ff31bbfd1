"""Which particles and which images of a set to keep: by tomogram, label, half set, exposure, order or list."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int8

from tomodrgn.particles.particle_set import ParticleSet

__all__ = [
    "half_sets",
    "image_list",
    "in_tomograms",
    "listed_images",
    "particle_list",
    "up_to_dose",
    "with_label",
    "within_order",
]


logger = logging.getLogger(__name__)


def half_sets(particles: ParticleSet, *, seed: int = 0) -> Int8[np.ndarray, " k"]:
    """Half set, 1 or 2, of every particle: the source's where both are there, else an even random split."""
    known = particles.half_set
    if (known > 0).all() and len(np.unique(known)) == 2:
        return np.array(known)
    order = np.random.default_rng(seed).permutation(len(particles))
    return (1 + (order % 2)).astype(np.int8)


def in_tomograms(particles: ParticleSet, names: Iterable[str]) -> Bool[np.ndarray, " k"]:
    """Particles of the named tomograms.

    Raises
    ------
    KeyError
        If the set has no particle of one of them.
    """
    wanted, known = list(dict.fromkeys(names)), sorted(set(particles.tomogram.tolist()) - {""})
    missing = [name for name in wanted if name not in known]
    if missing:
        first = ", ".join(known[:6]) or "no named one"
        raise KeyError(
            f"Got tomogram {missing[0]!r}, expected one of the {len(known)} tomograms of {particles.source.path}: "
            f"{first}{', ...' if len(known) > 6 else ''}. Give a name as it stands there."
        )
    return np.isin(particles.tomogram, wanted)


def with_label(particles: ParticleSet, labels: pd.Series, keep: Iterable[object]) -> Bool[np.ndarray, " k"]:
    """Particles that bear one of some labels.

    Parameters
    ----------
    labels
        Label of particles, indexed by particle_id; those of other particles do not matter. A particle without a label
        bears none of those to keep; how many there are is logged as a warning.
    keep
        Labels to keep; they are compared as text.

    Raises
    ------
    ValueError
        If no particle of the set has a label, no particle of `labels` bears one of the labels, or a particle has two.
    """
    texts, wanted = labels.astype(str), [str(label) for label in keep]
    unknown = [label for label in wanted if label not in set(texts)]
    if unknown:
        found = ", ".join(sorted(set(texts))[:10])
        raise ValueError(f"Got label {unknown[0]!r}, expected one of those given to particles: {found}. Choose one.")
    index = pd.Index(labels.index.astype(str))
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise ValueError(f"Got several labels of particle {twice!r}, expected one. Remove the others.")
    at = index.get_indexer(pd.Index(particles.particle_id))
    unlabelled = at < 0
    if unlabelled.all():
        raise ValueError(
            f"Got labels of {len(index)} particles, first {index[:3].tolist()}, expected some of "
            f"{particles.source.path}, first {particles.particle_id[:3].tolist()}. Give labels by particle_id."
        )
    if unlabelled.any():
        logger.warning(
            "Got no label of %s of %s particles of %s, first %s: they count as particles without the labels to keep.",
            int(unlabelled.sum()), len(particles), particles.source.path,
            particles.particle_id[unlabelled][:3].tolist(),
        )  # fmt: skip
    return texts.isin(wanted).to_numpy()[at] & ~unlabelled


def up_to_dose(particles: ParticleSet, max_dose_e_per_angst2: float) -> Bool[np.ndarray, " n"]:
    """Images whose exposure is at most this, as the source counts it (before, amid or after the image)."""
    return particles.dose_e_per_angst2 <= max_dose_e_per_angst2


def within_order(particles: ParticleSet, first: int | None, end: int | None) -> Bool[np.ndarray, " n"]:
    """Images `first` up to, not including, `end` of each particle in order of exposure, counted from 0 as by a slice.

    Images of one exposure stand in the order of the set.
    """
    particle = particles.image_particle
    order = np.lexsort((particles.dose_e_per_angst2, particle))
    rank = np.empty(particles.n_images, dtype=np.int64)
    rank[order] = np.arange(particles.n_images) - particles.offsets[particle]
    start, stop, _ = slice(first, end).indices(int(particles.tilt_counts.max()))
    return (rank >= start) & (rank < stop)


def particle_list(particles: ParticleSet) -> pd.DataFrame:
    """One row a particle, in the order of the set: columns particle_id, tomogram, half_set and n_tilts."""
    return pd.DataFrame(
        {
            "particle_id": particles.particle_id,
            "tomogram": particles.tomogram,
            "half_set": particles.half_set,
            "n_tilts": particles.tilt_counts,
        }
    )


def image_list(particles: ParticleSet) -> pd.DataFrame:
    """One row an image, in the order of the set.

    Returns
    -------
    Columns particle_id, tilt (number of the image among those of its particle, from 0), dose_e_per_angst2, tilt_deg,
    stack (path) and slice (place in the stack, from 0).
    """
    image = particles.image_particle
    stacks = np.array([str(path) for path in particles.stack_paths], dtype=object)
    return pd.DataFrame(
        {
            "particle_id": particles.particle_id[image],
            "tilt": np.arange(particles.n_images) - particles.offsets[image],
            "dose_e_per_angst2": particles.dose_e_per_angst2,
            "tilt_deg": particles.tilt_deg,
            "stack": stacks[particles.stack_index],
            "slice": particles.slice_index,
        }
    )


def listed_images(particles: ParticleSet, images: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Images of a list with the columns particle_id and tilt, as `image_list` has them.

    Raises
    ------
    KeyError
        If a particle is unknown.
    ValueError
        If a column is missing, or a particle has no such tilt.
    """
    missing = [column for column in ("particle_id", "tilt") if column not in images]
    if missing:
        raise ValueError(
            f"Got a list of images without {' and '.join(missing)}, expected the columns particle_id and tilt. "
            "Take rows of what `tomodrgn info FILE --images OUT.csv` writes."
        )
    particle = particles.positions_of(images["particle_id"])
    tilt = pd.to_numeric(images["tilt"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = np.flatnonzero(~((tilt >= 0) & (tilt < particles.tilt_counts[particle]) & (tilt % 1 == 0)))
    if len(bad):
        row, name = images.iloc[bad[0]], str(particles.particle_id[particle[bad[0]]])
        raise ValueError(
            f"Got tilt {row['tilt']!r} of particle {name!r}, expected a whole number from 0 to "
            f"{particles.tilt_counts[particle[bad[0]]] - 1}, its images in the order of {particles.source.path}. "
            "Take rows of what `tomodrgn info FILE --images OUT.csv` writes."
        )
    chosen = np.zeros(particles.n_images, dtype=bool)
    chosen[particles.offsets[particle] + tilt.astype(np.int64)] = True
    return chosen
