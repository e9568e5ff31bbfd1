"""A model that begins where linear algebra ends: started from a linear run, or from two halves of the tilts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import save_file
from torch import Tensor

from tomodrgn.config import VaeConfig
from tomodrgn.imaging import grid, resolution
from tomodrgn.io import mrc
from tomodrgn.io.atomic import replacing
from tomodrgn.model.linear import LinearSubspace
from tomodrgn.model.pooling import mean_by_owner
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import sample_batches
from tomodrgn.particles.gridding import GriddingSums
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import FourierBatch, Preprocessor
from tomodrgn.training.linear_run import load_subspace
from tomodrgn.training.run import Run
from tomodrgn.training.step import split_tilts

__all__ = ["LinearStart", "read_start", "start_model"]

logger = logging.getLogger(__name__)
BATCH_PARTICLES = 16
MAX_PARTICLES = 2_000
MAX_COMPONENTS = 8


@torch.no_grad()
def start_model(run: Run, model: TiltSeriesVae, preprocessor: Preprocessor) -> None:
    """Start encoder and decoder.

    A model with a linear subspace (`read_start`) has its encoder and decoder from there: its networks start at zero, so
    that its first latents and maps are those of the linear model. Otherwise models with encoder frame "particle" are
    started as follows, and others from random weights.

    The encoder is started from the components in which two halves of the tilts agree. The decoder then gets, for each
    of the first latent coordinates, the map that it adds in proportion: regressed by weighted gridding of one half of
    the tilts on the latents encoded from the other half, and weighted by the FSC between the two ways to do so.
    """
    config = model.config
    if model.subspace_encoder is not None:
        _start_at_zero(model, preprocessor, run.train_config.seed)
        return
    if not config.z_dim or config.encoder_frame != "particle":
        return
    _start_encoder(model, preprocessor, run.train_config.seed)
    if config.consensus:
        components = _components(model, preprocessor, run.train_config.seed)
        box, pixel_size = model.box_px, run.settings["pixel_size_angst"]
        mrc.write_stack(run.component_path, components.reshape(-1, box, box), pixel_size, overwrite=True)
        model.set_components(torch.from_numpy(components).to(preprocessor.device))


@dataclass(frozen=True, kw_only=True)
class LinearStart:
    """What a new run takes from a linear one: scale of the images, and the subspace; None if it found nothing."""

    scale: float
    consensus: Float32[np.ndarray, "d d d"]
    subspace: LinearSubspace | None

    def write(self, run: Run) -> None:
        """Keep the subspace in the folder of the new run."""
        if self.subspace is not None:
            with replacing(run.subspace_path) as path:
                save_file({name: value.contiguous() for name, value in self.subspace.tensors().items()}, path)


def read_start(folder: Path | str, particles: ParticleSet, model: VaeConfig) -> LinearStart:
    """What a model takes from a linear run.

    Of its components those that held-out tilts suggest, or all if their number was asked for; at most as many as the
    model has latent dimensions.

    Raises
    ------
    FileNotFoundError
        If there is no such run.
    ValueError
        If it is not a finished linear run of images with the same box, pixel size and flags, or the model has no latent
        dimension or no consensus.
    """
    run = Run.open(folder)
    subspace = load_subspace(run)
    if not model.z_dim or not model.consensus:
        raise ValueError(
            f"Got a start from linear run {run.folder} for a model of z_dim {model.z_dim} with consensus "
            f"{model.consensus}, expected a latent dimension and the consensus. Leave --start-from out."
        )
    own = run.particles
    names = ("box_px", "ctf_premultiplied", "dose_weighted", "invert")
    other = [f"{n} {getattr(own, n)}" for n in names if getattr(own, n) != getattr(particles, n)]
    if abs(own.pixel_size_angst / particles.pixel_size_angst - 1) > 0.01:
        other.append(f"pixel size {own.pixel_size_angst:g} A")
    if other:
        raise ValueError(
            f"Got linear run {run.folder} of images with {', '.join(other)}, expected those of "
            f"{particles.source.path}. Fit one to these particles: tomodrgn train PARTICLES.star RUN --model linear"
        )
    n = subspace.z_dim if run.linear_config.n_components is not None else run.fit["suggested_components"]
    if not n:
        logger.warning("only the average is taken from linear run %s, which suggests no component", run.folder)
    n = min(n, subspace.z_dim, model.z_dim)
    return LinearStart(
        scale=run.settings["scale"],
        consensus=subspace.consensus.numpy(),
        subspace=subspace.leading(n) if n else None,
    )


def _start_at_zero(model: TiltSeriesVae, preprocessor: Preprocessor, seed: int) -> None:
    seen = [model.seen_by_encoder(batch) for batch in _some_batches(preprocessor, seed)]
    square = torch.stack([part.square().mean() for part in seen]).mean()
    mean = torch.stack([part.mean(dim=0) for part in seen]).mean(dim=0)
    model.start_encoder_at_zero(mean, float(square.sqrt()))


def _some_batches(preprocessor: Preprocessor, seed: int) -> Iterator[FourierBatch]:
    """All tilts of up to `MAX_PARTICLES` particles drawn at random."""
    order = np.random.default_rng([seed, 0])
    chosen = sample_batches(preprocessor.particles, BATCH_PARTICLES, generator=order)
    return preprocessor.batches(chosen[: MAX_PARTICLES // BATCH_PARTICLES])


def _start_encoder(model: TiltSeriesVae, preprocessor: Preprocessor, seed: int) -> None:
    generator = torch.Generator(device=preprocessor.device).manual_seed(seed)
    means: tuple[list[Tensor], list[Tensor]] = ([], [])
    squares = []
    for batch in _some_batches(preprocessor, seed):
        draws = torch.rand(len(batch.owner), generator=generator, device=generator.device)
        for half, collected in zip(split_tilts(batch, draws), means, strict=True):
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
    for batch in preprocessor.batches(sample_batches(particles, BATCH_PARTICLES)):
        draws = torch.rand(len(batch.owner), generator=generator, device=generator.device)
        first, second = split_tilts(batch, draws)
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
