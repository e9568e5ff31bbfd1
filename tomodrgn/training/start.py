"""A model that begins where linear algebra ends: encoder and decoder started from two halves of the tilts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tomodrgn.imaging import grid, resolution
from tomodrgn.io import mrc
from tomodrgn.model.pooling import mean_by_owner
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.gridding import GriddingSums
from tomodrgn.particles.preprocess import Preprocessor
from tomodrgn.training.run import Run
from tomodrgn.training.step import split_tilts

__all__ = ["start_model"]

BATCH_PARTICLES = 16
MAX_PARTICLES = 2_000
MAX_COMPONENTS = 8


@torch.no_grad()
def start_model(run: Run, model: TiltSeriesVae, preprocessor: Preprocessor) -> None:
    """Start encoder and decoder of a model with encoder frame "particle"; others start from random weights.

    The encoder is started from the components in which two halves of the tilts agree. The decoder then gets, for each
    of the first latent coordinates, the map that it adds in proportion: regressed by weighted gridding of one half of
    the tilts on the latents encoded from the other half, and weighted by the FSC between the two ways to do so.
    """
    config = model.config
    if not config.z_dim or config.encoder_frame != "particle":
        return
    _start_encoder(model, preprocessor, run.train_config.seed)
    if config.consensus:
        components = _components(model, preprocessor, run.train_config.seed)
        box, pixel_size = model.box_px, run.settings["pixel_size_angst"]
        mrc.write_stack(run.component_path, components.reshape(-1, box, box), pixel_size, overwrite=True)
        model.set_components(torch.from_numpy(components).to(preprocessor.device))


def _start_encoder(model: TiltSeriesVae, preprocessor: Preprocessor, seed: int) -> None:
    dataset = TiltDataset(preprocessor.particles)
    order = np.random.default_rng([seed, 0])
    chosen = sample_batches(dataset.particles, BATCH_PARTICLES, generator=order)[: MAX_PARTICLES // BATCH_PARTICLES]
    generator = torch.Generator(device=preprocessor.device).manual_seed(seed)
    means: tuple[list[Tensor], list[Tensor]] = ([], [])
    squares = []
    for raw in dataset.batches(chosen):
        for half, collected in zip(split_tilts(preprocessor(raw), generator), means, strict=True):
            seen = model.seen_by_encoder(half)
            collected.append(mean_by_owner(seen, half.owner, half.n_particles))
            squares.append(seen.square().mean())
    model.start_encoder(torch.cat(means[0]), torch.cat(means[1]), float(torch.stack(squares).mean().sqrt()))


def _components(model: TiltSeriesVae, preprocessor: Preprocessor, seed: int) -> np.ndarray:
    """Maps (c, d, d, d) of the first latent coordinates."""
    particles, device = preprocessor.particles, preprocessor.device
    n = min(model.config.z_dim, MAX_COMPONENTS)
    sums = [GriddingSums(particles.box_px, preprocessor.padding, device) for _ in range(n)]
    generator = torch.Generator(device=device).manual_seed(seed + 1)
    for raw in TiltDataset(particles).batches(sample_batches(particles, BATCH_PARTICLES)):
        first, second = split_tilts(preprocessor(raw), generator)
        for number, (encoded, shown) in enumerate(((first, second), (second, first)), start=1):
            latent = model.encode(encoded)[0][shown.owner]  # (i, z)
            residual = model.residual(shown)
            half = torch.full_like(shown.owner, number)
            for component, accumulated in enumerate(sums):
                accumulated.add(residual, half, coefficients=latent[:, component])
    mask = grid.soft_spherical_mask(particles.box_px, model.config.particle_radius).numpy()
    maps = []
    for accumulated in sums:
        one, two = accumulated.volume((1,)), accumulated.volume((2,))
        agreement = resolution.fourier_shell_correlation(one, two, mask)
        maps.append(resolution.fsc_weighted(accumulated.volume(), agreement) * mask)
    return np.stack(maps).astype(np.float32)
