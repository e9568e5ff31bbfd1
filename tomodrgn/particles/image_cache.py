"""Finished Fourier coefficients of all images, in float16: made once, then all that an epoch reads.

An image takes 4 bytes for each kept frequency, about ``pi / 2 * d**2`` bytes at box d and all frequencies: 14 kB at box
96 and 63 kB at box 200, where the raw image in float32 has ``4 d**2`` bytes. 22,000 particles of 41 tilts (902,000
images) thus take 12.1 GiB at box 96 and 52.7 GiB at box 200. As a file they may be larger than the memory: the system
keeps of them what it has room for. Besides, a training holds poses, CTF, exposure and, at its start, the source table
as text. Measured (``tests/benchmarks/memory.py``) are 4 to 7 kB an image, 3.5 to 6 GiB for these, and 1.5 GiB at box 96
for networks, maps and two batches, which by the cube of the box is 10 GiB at box 200. So 16 GiB of memory serve box 96,
and 64 GiB box 200, with the cache in a file.

The coefficients' standard deviation is 1, so float16 keeps them to 0.05 %, far below their noise, up to 65,504 standard
deviations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float16, Int64
from torch import Tensor

from tomodrgn.particles.dataset import Choice, TiltBatch, index_tensors, prefetch

__all__ = ["CachedBatch", "ImageCache"]


@dataclass(frozen=True, kw_only=True)
class CachedBatch(TiltBatch):
    """Tilt images of a few particles as finished coefficients.

    Parameters
    ----------
    coefficients
        Real and imaginary parts of the kept frequencies, (i, p, 2).
    """

    coefficients: Float16[Tensor, "i p 2"]


@dataclass(frozen=True, kw_only=True)
class ImageCache:
    """Coefficients of the images of a ParticleSet, in memory or as a memory-mapped file.

    Parameters
    ----------
    coefficients
        Real and imaginary parts, as a Preprocessor of the whole set makes them, (n, p, 2).
    rows
        For each image of the set in use its row of `coefficients`; None if they are the same.
    """

    coefficients: Float16[np.ndarray, "n p 2"]
    rows: Int64[np.ndarray, " m"] | None = None

    def take_images(self, image_rows: Int64[np.ndarray, " m"]) -> ImageCache:
        """The cache of a subset of the images."""
        return replace(self, rows=image_rows if self.rows is None else self.rows[image_rows])

    def read_batch(self, particles: np.ndarray, image_rows: list[np.ndarray]) -> CachedBatch:
        """The given images of the given particles (one array of image rows each)."""
        index = index_tensors(particles, image_rows)
        rows = index["image_rows"].numpy()
        found = self.coefficients[rows if self.rows is None else self.rows[rows]]
        return CachedBatch(**index, coefficients=torch.from_numpy(np.asarray(found)))

    def batches(self, choices: Iterable[Choice], *, pin: bool = False) -> Iterator[CachedBatch]:
        """Read batches a few ahead of their use; see `dataset.prefetch`."""
        return prefetch(self.read_batch, choices, pin=pin)
