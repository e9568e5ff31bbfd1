"""The whole fit of a linear subspace: average, noise, search on held-out tilts, components, coordinates.

Memory: statistics of images take about 80 bytes a Fourier coefficient, at their peak. If those of all particles exceed
`LinearConfig.memory_gib`, the search and the first iterations see a random part of the particles (at least 1,000 of
them, up to a radius that fits), and the last iterations and the coordinates come from passes over all particles, a
block of 4 million pixels (0.4 GB) at a time. Beside that, maps and grids take about 400 d^3 bytes at box d, 0.9 GB at
box 128, and each pair of components beyond the tenth (four have ten) 8 d^3 more if they reach Nyquist. Tables of the
particles (some 200 bytes an image) come on top, and nothing else grows with the number of particles: 20,000 of 41 tilts
and box 128 stay below 6 GB. `tests/benchmarks/linear_memory.py` measures all this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex64, Float32
from torch import Tensor

from tomodrgn.config import LinearConfig
from tomodrgn.imaging import grid
from tomodrgn.imaging.lattice import VoxelLattice
from tomodrgn.imaging.masks import density_mask
from tomodrgn.model.linear import LinearLatents, LinearSubspace, residual_matrices
from tomodrgn.model.slice_reader import SliceReader
from tomodrgn.model.slice_statistics import PARTS, SliceMatrices, SliceStatistics
from tomodrgn.model.subspace_em import SubspaceEm, canonical, evidence, size
from tomodrgn.model.subspace_search import SearchStage, SubspaceSearch, stage_radii
from tomodrgn.particles.preprocess import Preprocessor

__all__ = ["SubspaceFit", "fit_subspace", "remarks_on_components", "remarks_on_offsets"]

logger = logging.getLogger(__name__)
BYTES_PER_POINT = 80
FEWEST_PARTICLES = 1000
PASSES = 2  # over all particles, after a fit to a part of them
LAST_ITERATIONS = 5  # after the noise was found anew
REGULARISATION = 0.01  # of the mean denominator in a shell
OFFSET = 1.0  # of the spread of a coordinate: a larger mean is an offset
REFINEMENTS = 1  # of the average, by the average of residuals


@dataclass(frozen=True, kw_only=True)
class SubspaceFit:
    """A fitted subspace, the coordinates of all particles, and how the fit came about."""

    subspace: LinearSubspace
    latents: LinearLatents
    stages: list[SearchStage]
    suggested_components: int
    """Number of components that help to predict held-out tilts; 0 where there is nothing to be found."""
    remarks: list[str]
    """Where the fit is doubtful."""


@torch.no_grad()
def fit_subspace(
    preprocessor: Preprocessor,
    config: LinearConfig,
    *,
    seed: int = 0,
    on_stage: Callable[[SearchStage], None] = lambda stage: None,
) -> SubspaceFit:
    """Fit a linear subspace to all particles of a preprocessor's set.

    Parameters
    ----------
    on_stage
        Called after every stage of the search; an exception of its own ends the fit.

    Raises
    ------
    ValueError
        If fewer than two particles have images, or the memory does not hold the statistics of enough particles up to
        a `component_radius` that was given.
    """
    reader = SliceReader(preprocessor, seed=seed)
    chosen, limit = _affordable(reader, config, seed)
    everything = len(chosen) == len(reader.particles)
    whole = everything and limit == preprocessor.config.max_radius
    consensus, blocks = _average(reader, config.mask_radius, keep=whole)
    remarks = _remarks_on_images(reader)
    if not whole:
        blocks = [block for _, block in reader.limited(limit).blocks(chosen)]
        _subtract(reader.lattice, consensus, blocks)
    noise = _noise(reader, blocks)
    mask = _mask(consensus, config)
    search = SubspaceSearch(
        blocks=blocks,
        box_px=reader.particles.box_px,
        noise=noise,
        mask=mask,
        max_components=config.max_components,
        wanted=config.n_components,
        seed=seed,
    )
    given = config.component_radius
    for stage in search.run(stage_radii(reader.particles.box_px, limit) if given is None else [given]):
        on_stage(stage)
    best = search.best()

    lattice = VoxelLattice.within(reader.particles.box_px, best.radius, device=preprocessor.device)
    em = SubspaceEm(lattice, noise, mask)
    components = best.components[: config.n_components or max(best.n_components, 1)]
    matrices = SliceMatrices.of(blocks, best.radius, len(lattice))
    for _ in range(config.iterations):
        components = em.step([matrices], components)
    narrow = reader.limited(best.radius)
    drawn = evidence(matrices, components, em.noise).posterior().draw(seed)
    noise = _noise_beyond(noise, narrow, blocks, components=components, coordinates=drawn)
    em = SubspaceEm(lattice, noise, mask)
    for _ in range(LAST_ITERATIONS):
        components = em.step([matrices], components)
    if not everything:
        for _ in range(PASSES):
            components = em.step(residual_matrices(narrow, consensus), components)
    components = canonical(components)
    components = components * (best.sizes[: len(components)] / size(components).clamp(min=1e-30))[:, None]
    subspace = LinearSubspace.of_components(consensus, components, lattice=lattice, noise=noise, max_radius=best.radius)
    latents = subspace.encode_residuals([matrices] if everything else residual_matrices(narrow, consensus))
    remarks += _remarks_on_memory(reader, config, limit, best)
    remarks += remarks_on_components(subspace.z_dim, best.n_components) + remarks_on_offsets(latents)
    for remark in remarks:
        logger.warning(remark)
    return SubspaceFit(
        subspace=subspace,
        latents=latents,
        stages=search.stages,
        suggested_components=best.n_components,
        remarks=remarks,
    )


def _affordable(reader: SliceReader, config: LinearConfig, seed: int) -> tuple[np.ndarray, float]:
    """Positions of the particles whose statistics fit into the memory, and up to which radius."""
    k, images = len(reader.particles), reader.particles.n_images / len(reader.particles)
    highest = reader.preprocessor.config.max_radius

    def affordable(radius: float) -> int:
        return int(config.memory_gib * 2**30 / _statistics_bytes(reader, radius, 1))

    if affordable(highest) >= k:
        return np.arange(k), highest
    wanted, fewest = config.component_radius or highest, min(k, FEWEST_PARTICLES)
    if config.component_radius is not None and affordable(wanted) < fewest:
        raise ValueError(
            f"Got component_radius {wanted:g} and memory_gib {config.memory_gib:g}, which hold statistics of "
            f"{affordable(wanted)} particles of {images:.0f} images, expected at least {fewest}. Raise memory_gib to "
            f"{_gib_for(reader, wanted, fewest):.2g}, or lower component_radius."
        )
    n = max(fewest, affordable(wanted))
    radii = stage_radii(reader.particles.box_px, wanted)
    limit = max((r for r in radii if affordable(r) >= n), default=radii[0])
    n = max(min(n, affordable(limit)), min(k, 2))
    logger.info("the search sees %d of %d particles, up to %.3f cycles per pixel", n, k, limit)
    return np.sort(np.random.default_rng([seed, 1]).permutation(k)[:n]), limit


def _statistics_bytes(reader: SliceReader, radius: float, n_particles: int) -> float:
    """Memory of the statistics of so many particles of average size."""
    images = reader.particles.n_images / len(reader.particles)
    return BYTES_PER_POINT * images * max(reader.points_per_image(radius), 1) * n_particles


def _gib_for(reader: SliceReader, radius: float, n_particles: int) -> float:
    """Memory that is enough, also when it is told with two digits, which may round it down by 5 %."""
    return 1.06 * _statistics_bytes(reader, radius, n_particles) / 2**30


def _remarks_on_memory(reader: SliceReader, config: LinearConfig, limit: float, best: SearchStage) -> list[str]:
    """That memory, not the data, ended the search at a low radius."""
    highest = reader.preprocessor.config.max_radius
    if config.component_radius is not None or limit >= highest or (best.radius < limit and best.n_components):
        return []
    needed = _gib_for(reader, highest, min(len(reader.particles), FEWEST_PARTICLES))
    return [
        f"memory_gib {config.memory_gib:g} let components be looked for up to {limit:.3f} cycles per pixel only, of "
        f"{highest:g}: for finer ones raise it to {needed:.2g} (--memory-gib)"
    ]


def _average(
    reader: SliceReader, radius: float, *, keep: bool
) -> tuple[Float32[Tensor, "d d d"], list[SliceStatistics]]:
    """Weighted average of all images in a soft sphere; and their residuals, if they shall be kept.

    The quotient of gridded sums, masked, is not quite the map under which the images are likeliest, and what it misses
    is the same in all particles: along a component it would pass for one that all of them share. So the average of the
    residuals is added to it.
    """
    lattice = reader.lattice
    mask = grid.soft_spherical_mask(lattice.box_px, radius, device=lattice.index.device)
    consensus = torch.zeros_like(mask)
    kept: list[SliceStatistics] = []
    for done in range(1 + REFINEMENTS):
        sums = torch.zeros(3, len(lattice), device=lattice.index.device)
        gradient = lattice.with_gradient(consensus) if done else None
        blocks = kept if keep and done else (block for _, block in reader.blocks())
        for block in blocks:
            if gradient is not None and not keep:
                block.subtract(gradient)
            block.add_voxel_sums(sums)
            kept += [block] * (keep and not done)
        denominator = sums[2] + REGULARISATION * lattice.shell_mean(sums[2])
        values = torch.complex(sums[0], sums[1]) / denominator.clamp(min=1e-9)
        more = lattice.volumes(values[None], sharpen=True)[0] * mask
        consensus = consensus + more
        _subtract(lattice, more, kept)
    return consensus, kept


def _subtract(lattice: VoxelLattice, volume: Float32[Tensor, "d d d"], blocks: list[SliceStatistics]) -> None:
    """Take a map from statistics."""
    gradient = lattice.with_gradient(volume)
    for block in blocks:
        block.subtract(gradient)


def _noise(reader: SliceReader, blocks: Iterable[SliceStatistics]) -> Float32[Tensor, " s"]:
    """Variance of residuals in each shell."""
    power = torch.zeros(2, reader.particles.box_px // 2 + 1, device=reader.preprocessor.device)
    for block in blocks:
        block.add_shell_power(power, reader.particles.box_px)
    # The window took some of the noise, but nearly none of the signal: what counts is the noise before it.
    return power[0] / power[1].clamp(min=1e-9) / reader.preprocessor.window_power


def _noise_beyond(
    noise: Float32[Tensor, " s"],
    reader: SliceReader,
    blocks: Sequence[SliceStatistics],
    *,
    components: Complex64[Tensor, "c v"],
    coordinates: Float32[Tensor, "k c"],
) -> Float32[Tensor, " s"]:
    """Variance of what components leave of the residuals; beyond their radius as it was.

    The coordinates are a sample of their posterior: with its mean the noise would come out too small.
    """
    radius = reader.preprocessor.config.max_radius
    ends = np.cumsum([block.n_rows // PARTS for block in blocks])[:-1].tolist()
    parts = coordinates.tensor_split(ends)
    left = (block.less(components, part, radius) for block, part in zip(blocks, parts, strict=True))
    found = _noise(reader, left)
    return torch.where(found > 0, found, noise)


def _mask(consensus: Float32[Tensor, "d d d"], config: LinearConfig) -> Float32[Tensor, "d d d"]:
    if config.component_mask == "density":
        return density_mask(consensus, config.mask_radius)
    return grid.soft_spherical_mask(len(consensus), config.mask_radius, device=consensus.device)


def _remarks_on_images(reader: SliceReader) -> list[str]:
    """What is wrong with some particles; all too few of them are an error."""
    particles = reader.particles
    shown = np.add.reduceat(~reader.blank, particles.offsets[:-1])
    empty, single = (particles.particle_id[shown == n] for n in (0, 1))
    if len(empty) > len(particles) - 2:
        raise ValueError(
            f"Got images that are not constant of {len(particles) - len(empty)} of {len(particles)} particles in "
            f"{particles.source.path}, expected two or more. Check the extraction."
        )
    remarks = []
    if reader.blank.any():
        nothing = f"; particles of which nothing is known: {len(empty)}, first {empty[0]}" if len(empty) else ""
        blank = f"images of {particles.source.path} that hold one value everywhere are left out: {reader.blank.sum()}"
        remarks.append(blank + nothing)
    if len(single):
        remarks.append(
            f"particles with a single tilt image: {len(single)}, first {single[0]}; their coordinates are drawn to the "
            "average, and their standard deviations are large"
        )
    return remarks


def remarks_on_offsets(latents: LinearLatents) -> list[str]:
    """Components along which all particles are alike: what the average misses, not what particles differ in."""
    mean, spread = latents.mean.mean(axis=0), latents.mean.std(axis=0)
    alike = np.flatnonzero(np.abs(mean) > OFFSET * np.maximum(spread, 1e-6))
    return [
        f"along component {i + 1} all particles are about alike ({mean[i]:.2f} +- {spread[i]:.2f}): it shows in what "
        "the average and the images disagree, not in what particles differ; check the flags of the images and the box"
        for i in alike
    ]


def remarks_on_components(n_components: int, suggested: int) -> list[str]:
    """Components that held-out tilts do not vouch for."""
    if suggested >= n_components:
        return []
    if not suggested:
        return ["no component helps to predict tilts that were held out: what they show may be noise"]
    first = "the first" if suggested == 1 else f"the first {suggested}"
    verb = "helps" if suggested == 1 else "help"
    doubt = "to predict tilts that were held out; what the others show may be noise"
    return [f"only {first} of {n_components} components {verb} {doubt}"]
