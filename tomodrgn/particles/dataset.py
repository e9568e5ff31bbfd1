"""Raw tilt images from disk to batches: sampling, grouping by particle, prefetch."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from tomodrgn.io import mrc
from tomodrgn.particles.particle_set import ParticleSet

__all__ = ["Choice", "RawBatch", "TiltBatch", "TiltDataset", "prefetch", "sample_batches"]

OPEN_STACKS = 256

Choice = tuple[np.ndarray, list[np.ndarray]]
"""What a batch is to hold: positions of particles, and of each particle the rows of its images."""


@dataclass(frozen=True, kw_only=True)
class TiltBatch:
    """Which tilt images of which particles a batch holds.

    Parameters
    ----------
    particles
        Positions of the particles in their ParticleSet, (b,).
    image_rows
        Rows of the images in the ParticleSet, particle after particle, (i,).
    owner
        For each image the position of its particle in `particles`, (i,).
    """

    particles: Int64[Tensor, " b"]
    image_rows: Int64[Tensor, " i"]
    owner: Int64[Tensor, " i"]

    def pinned(self: Batch) -> Batch:
        """The same in page-locked memory, from which a CUDA device copies while it computes."""
        return replace(self, **{field.name: getattr(self, field.name).pin_memory() for field in fields(self)})


Batch = TypeVar("Batch", bound=TiltBatch)


@dataclass(frozen=True, kw_only=True)
class RawBatch(TiltBatch):
    """Tilt images of a few particles as they are on disk.

    Parameters
    ----------
    images
        Raw contrast, (i, d, d) float32, with the side that they have on disk.
    """

    images: Float32[Tensor, "i d d"]


def index_tensors(particles: np.ndarray, image_rows: list[np.ndarray]) -> dict[str, Tensor]:
    """The fields of a TiltBatch."""
    return {
        "particles": torch.from_numpy(np.asarray(particles, dtype=np.int64)),
        "image_rows": torch.from_numpy(np.concatenate([np.empty(0, np.int64), *image_rows])),
        "owner": torch.from_numpy(np.repeat(np.arange(len(particles)), [len(r) for r in image_rows]).astype(np.int64)),
    }


class TiltDataset:
    """Reads the tilt images of a ParticleSet from their memory-mapped stacks."""

    def __init__(self, particles: ParticleSet) -> None:
        self.particles = particles
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()

    def read_images(self, image_rows: np.ndarray) -> Float32[np.ndarray, "i d d"]:
        """Raw pixels of the given images, converted to float32 before any arithmetic, (i, d, d).

        The side is `ParticleSet.stack_box_px`: cropping to `box_px` is left to the preprocessing.

        Raises
        ------
        FileNotFoundError, ValueError
            If a stack is gone or damaged, no longer holds the images that it held when the particles were read, or
            has pixels that are not finite.
        """
        box = self.particles.stack_box_px
        images = np.empty((len(image_rows), box, box), dtype=np.float32)
        stacks = self.particles.stack_index[image_rows]
        slices = self.particles.slice_index[image_rows]
        for stack in np.unique(stacks):
            wanted = stacks == stack
            found = self._stack(int(stack))
            last = int(slices[wanted].max())
            if found.shape[1] != box or last >= len(found):
                raise ValueError(
                    f"Got {self.particles.stack_paths[stack]} with {len(found)} images of {found.shape[1]} px, "
                    f"expected image {last + 1} of {box} px. The stack has changed: read the particles again."
                )
            images[wanted] = found[slices[wanted]]
        self._refuse_non_finite(images, image_rows)
        return images

    def _refuse_non_finite(self, images: np.ndarray, image_rows: np.ndarray) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # one sum tells of a batch; its images only if need be
            if np.isfinite(images.sum(dtype=np.float64)):
                return
        bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))
        row, p = int(image_rows[bad[0]]), self.particles
        raise ValueError(
            f"Got pixels that are not finite in image {p.slice_index[row] + 1} of {p.stack_paths[p.stack_index[row]]} "
            f"(particle {str(p.particle_id[p.image_particle[row]])!r}; {len(bad)} of {len(images)} images read), "
            "expected real micrograph contrast. Extract the image again, or leave the particle out."
        )

    def read_batch(self, particles: np.ndarray, image_rows: list[np.ndarray]) -> RawBatch:
        """The given images of the given particles (one array of image rows each)."""
        index = index_tensors(particles, image_rows)
        return RawBatch(**index, images=torch.from_numpy(self.read_images(index["image_rows"].numpy())))

    def _stack(self, stack: int) -> np.ndarray:
        if stack not in self._open:
            self._open[stack] = mrc.open_stack(self.particles.stack_paths[stack])
            if len(self._open) > OPEN_STACKS:
                self._open.popitem(last=False)
        self._open.move_to_end(stack)
        return self._open[stack]

    def batches(self, choices: Iterable[Choice], *, pin: bool = False) -> Iterator[RawBatch]:
        """Read batches a few ahead of their use; see `prefetch`."""
        return prefetch(self.read_batch, choices, pin=pin)


def prefetch(
    read_batch: Callable[[np.ndarray, list[np.ndarray]], Batch], choices: Iterable[Choice], *, pin: bool = False
) -> Iterator[Batch]:
    """Read batches a few ahead of their use, in a thread of its own, whose errors are raised here.

    Parameters
    ----------
    read_batch
        Reads one batch.
    choices
        For each batch the particle positions and, for each particle, its image rows; see `sample_batches`.
    pin
        Give batches in page-locked memory.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=2)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def read() -> None:
        try:
            for particles, rows in choices:
                if stop.is_set():
                    return
                batch = read_batch(particles, rows)
                put(batch.pinned() if pin else batch)
            put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            put(error)

    threading.Thread(target=read, name="read-tilt-images", daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()


def sample_batches(
    particles: ParticleSet,
    batch_size: int,
    *,
    tilts_per_particle: int | None = None,
    tilt_sampling: str = "random",
    generator: np.random.Generator | None = None,
) -> list[Choice]:
    """Which particles, and which of their images, form each batch of an epoch.

    Parameters
    ----------
    batch_size
        Number of particles in a batch; the last batch may be smaller.
    tilts_per_particle
        Number of images taken from each particle (all, if it has fewer); None takes all.
    tilt_sampling
        ``"random"`` draws them without replacement; ``"first"`` takes those of the lowest exposure.
    generator
        Draws the order of particles and the images; None keeps the order of the set and takes the first images.
    """
    at_random = generator if tilt_sampling == "random" else None
    order = np.arange(len(particles)) if generator is None else generator.permutation(len(particles))
    rows = []
    for particle in order:
        images = np.arange(particles.offsets[particle], particles.offsets[particle + 1])
        if tilts_per_particle is not None and len(images) > tilts_per_particle:
            by_exposure = np.argsort(particles.dose_e_per_angst2[images], kind="stable")
            keep = images[by_exposure] if at_random is None else at_random.permutation(images)
            images = np.sort(keep[:tilts_per_particle])
        rows.append(images)
    return [(order[i : i + batch_size], rows[i : i + batch_size]) for i in range(0, len(order), batch_size)]
