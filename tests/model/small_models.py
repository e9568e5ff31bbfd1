"""Small models and batches of four particles with 3, 1, 4 and 2 tilts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.particles.hand_made import ctf_parameters, particle_set
from tomodrgn.config import PreprocessConfig, VaeConfig
from tomodrgn.imaging.pose import euler_to_rotation
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import TiltDataset
from tomodrgn.particles.preprocess import FourierBatch, Preprocessor

BOX, COUNTS = 16, [3, 1, 4, 2]
SMALL = VaeConfig(
    z_dim=3, encoder_dim=16, encoder_layers=2, tilt_feature_dim=8, encoder_grid=5, decoder_dim=24, decoder_layers=2
)


def model(seed: int = 0, *, n_tilts: int = 1, **changes: object) -> TiltSeriesVae:
    """A small model whose layers all matter: those that start at zero get random numbers."""
    found = TiltSeriesVae(SMALL.model_copy(update=changes), BOX, n_tilts=n_tilts, seed=seed)
    generator = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        for parameter in found.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3, generator=generator)
    return found.eval()


def batch_of(preprocessor: Preprocessor, particles: list[int], *, backwards: bool = False) -> FourierBatch:
    offsets = preprocessor.particles.offsets
    rows = [np.arange(offsets[i], offsets[i + 1]) for i in particles]
    rows = [r[::-1].copy() for r in rows] if backwards else rows
    return preprocessor(TiltDataset(preprocessor.particles).read_batch(np.array(particles), rows))


def noise_images(folder: Path) -> Preprocessor:
    """Images of noise with random poses, CTFs and rising exposure."""
    rng, n = np.random.default_rng(0), sum(COUNTS)
    particles = particle_set(
        folder,
        [rng.normal(size=(c, BOX, BOX)).astype(np.float32) for c in COUNTS],
        rotations=euler_to_rotation(*rng.uniform(-180, 180, (3, n))),
        ctf=ctf_parameters(n),
        dose_e_per_angst2=np.linspace(0, 20, n),
    )
    return Preprocessor(particles, PreprocessConfig(), scale=1.0)
