"""Statistics of tilt images read from disk, a block of particles at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int

from tomodrgn.imaging.lattice import VoxelLattice
from tomodrgn.model.slice_statistics import PARTS, SliceStatistics
from tomodrgn.particles.dataset import RawBatch, TiltDataset
from tomodrgn.particles.preprocess import Preprocessor

__all__ = ["SliceReader"]

PIXELS_PER_BLOCK = 1 << 22


class SliceReader:
    """Reads images of one ParticleSet; each particle's tilts are divided into `PARTS` parts at random.

    Images that are the same value everywhere say nothing and are left out; `blank` marks those that were met.

    Parameters
    ----------
    preprocessor
        Its highest frequency is that of the statistics.
    seed
        Draws the parts.
    """

    def __init__(self, preprocessor: Preprocessor, *, seed: int = 0) -> None:
        self.preprocessor, self.seed = preprocessor, seed
        self.particles = preprocessor.particles
        self.lattice = VoxelLattice.within(
            self.particles.box_px, preprocessor.config.max_radius, device=preprocessor.device
        )
        self._by_radius = torch.argsort(preprocessor.grid.radius)
        self._part = _parts(self.particles.tilt_counts, seed)
        self.blank = np.zeros(self.particles.n_images, dtype=bool)

    def limited(self, max_radius: float) -> SliceReader:
        """The same images below a lower radius, in cycles per pixel."""
        old = self.preprocessor
        config = old.config.model_copy(update={"max_radius": max_radius})
        return SliceReader(Preprocessor(old.particles, config, scale=old.scale, device=old.device), seed=self.seed)

    def points_per_image(self, max_radius: float) -> int:
        """Number of coefficients of an image below a radius in cycles per pixel."""
        return int((self.preprocessor.grid.radius < max_radius).sum())

    def blocks(self, chosen: Int[np.ndarray, " k"] | None = None) -> Iterator[tuple[np.ndarray, SliceStatistics]]:
        """Positions of the particles of each block, and their statistics; None reads all particles in their order."""
        particles = self.particles
        order = np.arange(len(particles)) if chosen is None else chosen
        ends = np.cumsum(particles.tilt_counts[order]) * particles.stack_box_px**2
        cuts = np.flatnonzero(np.diff(ends // PIXELS_PER_BLOCK)) + 1
        choices = [(block, [self._rows(i) for i in block.tolist()]) for block in np.split(order, cuts) if len(block)]
        for raw in TiltDataset(particles).batches(choices):
            yield raw.particles.numpy(), self.statistics(raw)

    def statistics(self, raw: RawBatch) -> SliceStatistics:
        """Statistics of a raw batch."""
        low, high = raw.images.amin(dim=(1, 2)), raw.images.amax(dim=(1, 2))
        shown = high > low
        self.blank[raw.image_rows[~shown].numpy()] = True
        row = raw.owner * PARTS + torch.from_numpy(self._part[raw.image_rows.numpy()])
        batch, device = self.preprocessor(raw), self.preprocessor.device
        return SliceStatistics(
            batch.take_images(shown.to(device)), row[shown].to(device), self.lattice, self._by_radius
        )

    def _rows(self, particle: int) -> np.ndarray:
        """Image rows of a particle, those of one part together."""
        rows = np.arange(self.particles.offsets[particle], self.particles.offsets[particle + 1])
        return rows[np.argsort(self._part[rows], kind="stable")]


def _parts(tilt_counts: np.ndarray, seed: int) -> np.ndarray:
    """Part of every image: equal numbers for each particle, as far as its tilt count allows."""
    generator = np.random.default_rng(seed)
    return np.concatenate([(generator.permutation(n) + generator.integers(PARTS)) % PARTS for n in tilt_counts])
