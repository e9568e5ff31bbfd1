"""Particles of a known linear model: six blobs whose heights change along one or two directions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.particles.hand_made import blob_images, particle_set
from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging.pose import euler_to_rotation
from tomodrgn.particles.preprocess import Preprocessor, estimate_scale

BOX, WIDTH = 32, 2.0
PLAIN = PreprocessConfig(exposure_weighting=False, tilt_weighting=False)


@dataclass
class LinearParticles:
    """Images of k particles with known coordinates (k, 2)."""

    folder: Path
    seed: int
    n_particles: int = 300
    n_tilts: int = 8
    noise: float = 4.0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.centres, self.heights = rng.uniform(-5, 5, (6, 3)), rng.uniform(60, 100, 6)
        directions, _ = np.linalg.qr(rng.normal(size=(6, 2)))
        self.modes = directions.T * np.array([[40], [30]])
        self.coordinates = rng.normal(size=(self.n_particles, 2))
        rotations = euler_to_rotation(*rng.uniform(-180, 180, (3, self.n_particles * self.n_tilts)))
        stacks = []
        for coordinates, posed in zip(self.coordinates, np.split(rotations, self.n_particles), strict=True):
            seen = np.einsum("icj,bj->ibc", posed[:, :2], self.centres)
            images = blob_images(seen, self.heights + coordinates @ self.modes, BOX, WIDTH)
            stacks.append((images + self.noise * rng.normal(size=images.shape)).astype(np.float32))
        particles = particle_set(self.folder, stacks, rotations=rotations)
        self.scale = estimate_scale(particles, PLAIN)
        self.preprocessor = Preprocessor(particles, PLAIN, scale=self.scale)

    def true_components(self) -> np.ndarray:
        """Maps (2, d^3) of the two directions in units of the scaled images, without their means."""
        z, y, x = np.mgrid[:BOX, :BOX, :BOX] - BOX // 2
        blobs = [
            np.exp(-((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * WIDTH**2)) / (2 * np.pi * WIDTH**2) ** 1.5
            for cx, cy, cz in self.centres
        ]
        maps = np.einsum("mb,bn->mn", self.modes, np.stack(blobs).reshape(6, -1)) / self.scale
        return maps - maps.mean(axis=1, keepdims=True)

    def coordinates_along(self, components: torch.Tensor) -> np.ndarray:
        """The true coordinates (k, z), from their mean, along fitted components (z, d, d, d)."""
        fitted = components.flatten(1).double().numpy()
        fitted = fitted - fitted.mean(axis=1, keepdims=True)
        change, *_ = np.linalg.lstsq(fitted.T, self.true_components().T)
        return (self.coordinates - self.coordinates.mean(axis=0)) @ change.T
