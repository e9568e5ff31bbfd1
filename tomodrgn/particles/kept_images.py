"""Which images of whole particles belong to a set whose stacks cannot be cut by rlnTomoVisibleFrames: a small table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tomodrgn.io.atomic import replacing
from tomodrgn.particles.particle_set import ParticleSet

__all__ = ["IMAGES_FILE", "keep_listed_images", "write_kept_images"]

IMAGES_FILE = "images.csv"


def write_kept_images(particles: ParticleSet, path: Path) -> None:
    """Write columns particle_id and images: places among the particle's visible images, counted from 0, with spaces."""
    places = np.split(particles.source_slot.astype(str), particles.offsets[1:-1])
    table = pd.DataFrame({"particle_id": particles.particle_id, "images": [" ".join(each) for each in places]})
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def keep_listed_images(particles: ParticleSet, path: Path) -> ParticleSet:
    """The images that such a table names.

    Raises
    ------
    ValueError
        If it is no such table, lacks a particle, or names an image that the particle does not have.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("particle_id")
        listed = {name: np.array(text.split(), dtype=np.int64) for name, text in table["images"].items()}
        wanted = [listed[name] for name in particles.particle_id.tolist()]
    except (ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"Got {path}, expected columns particle_id and images with a row for each particle ({error}). Restore it."
        ) from error
    keep = np.zeros(particles.n_images, dtype=bool)
    for name, first, end, places in zip(
        particles.particle_id, particles.offsets[:-1], particles.offsets[1:], wanted, strict=True
    ):
        mine = np.isin(particles.source_slot[first:end], places)
        if mine.sum() != len(places) or not len(places):
            raise ValueError(
                f"Got {path} with images {places.tolist()[:8]} of particle {name!s}, expected some of its "
                f"{end - first}, each once. Restore it."
            )
        keep[first:end] = mine
    return particles.subset_images(keep)
