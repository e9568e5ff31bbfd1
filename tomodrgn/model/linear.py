"""LinearSubspace: volumes as an average and components, and what tilt images say of the coordinates along them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Complex64, Float, Float32
from torch import Tensor

from tomodrgn.imaging.lattice import VoxelLattice
from tomodrgn.model.slice_reader import SliceReader
from tomodrgn.model.slice_statistics import SliceMatrices
from tomodrgn.model.subspace_em import Posterior, canonical, evidence, size

__all__ = ["LinearLatents", "LinearSubspace", "residual_matrices"]

SMALLEST_STD = 1e-3  # of a component, where that of the first is 1


@dataclass(frozen=True, kw_only=True)
class LinearLatents:
    """Coordinates of k particles along z components, as normal distributions."""

    mean: Float32[np.ndarray, "k z"]
    covariance: Float32[np.ndarray, "k z z"]
    gain: Float32[np.ndarray, " k"]
    """Log likelihood of each particle's images over that under the average."""
    divergence: Float32[np.ndarray, " k"]
    """Kullback-Leibler divergence from the prior."""


@dataclass(frozen=True, kw_only=True)
class LinearSubspace:
    """Probabilistic PCA of volumes: V = consensus + sum_j z_j components_j, z_j ~ N(0, prior_std_j^2).

    Components are orthogonal, all of one norm, by falling prior_std; that of the first is 1.

    Parameters
    ----------
    consensus
        Average map, axes zyx, in units of the scaled images.
    components
        Maps that are added in proportion to the coordinates.
    prior_std
        Standard deviation of each coordinate over particles.
    noise
        Variance of the noise in each Fourier shell of the images; 0 where it is unknown.
    max_radius
        Radius up to which components were fitted, in cycles per pixel.
    """

    consensus: Float32[Tensor, "d d d"]
    components: Float32[Tensor, "z d d d"]
    prior_std: Float32[Tensor, " z"]
    noise: Float32[Tensor, " s"]
    max_radius: float

    @classmethod
    def of_components(
        cls,
        consensus: Float32[Tensor, "d d d"],
        components: Complex64[Tensor, "z v"],
        *,
        lattice: VoxelLattice,
        noise: Float32[Tensor, " s"],
        max_radius: float,
    ) -> LinearSubspace:
        """The subspace of fitted components, each a standard deviation of the volumes."""
        components = canonical(components)
        sizes = size(components)
        std = (sizes / sizes[0].clamp(min=1e-30)).clamp(min=SMALLEST_STD)
        maps = lattice.volumes(components / std[:, None], sharpen=True)
        return cls(consensus=consensus, components=maps, prior_std=std, noise=noise, max_radius=max_radius)

    @property
    def box_px(self) -> int:
        """Side d of the maps and images."""
        return self.consensus.shape[-1]

    @property
    def z_dim(self) -> int:
        """Number of components."""
        return len(self.components)

    @cached_property
    def lattice(self) -> VoxelLattice:
        """Voxels of the components."""
        return VoxelLattice.within(self.box_px, self.max_radius, device=self.consensus.device)

    @cached_property
    def values(self) -> Complex64[Tensor, "z v"]:
        """Transforms of the components, each a standard deviation of the volumes."""
        return self.lattice.values(self.components, blur=True) * self.prior_std[:, None]

    def decode(self, z: Float[Tensor, "v z"]) -> Float32[Tensor, "v d d d"]:
        """Maps at given coordinates, in units of the scaled images."""
        return self.consensus + torch.einsum("vz,zabc->vabc", z.float(), self.components)

    def encode(self, reader: SliceReader) -> LinearLatents:
        """Coordinates of all particles of a reader, whose highest radius is that of the components."""
        return self.encode_residuals(residual_matrices(reader, self.consensus))

    @torch.no_grad()
    def encode_residuals(self, blocks: Iterable[SliceMatrices]) -> LinearLatents:
        """Coordinates of the particles of statistics from which the consensus was subtracted."""
        noise = self.noise[self.lattice.shell.clamp(max=len(self.noise) - 1)]
        found = [self._scaled(evidence(matrices, self.values, noise).posterior()) for matrices in blocks]
        names = ("mean", "covariance", "gain", "divergence")
        return LinearLatents(**{n: np.concatenate([getattr(f, n) for f in found]) for n in names})

    def _scaled(self, found: Posterior) -> LinearLatents:
        std = self.prior_std
        return LinearLatents(
            mean=(found.mean * std).cpu().numpy(),
            covariance=(found.covariance * std[:, None] * std).cpu().numpy(),
            gain=found.gain.cpu().numpy(),
            divergence=found.divergence().cpu().numpy(),
        )

    def leading(self, n: int) -> LinearSubspace:
        """The subspace of the first n components."""
        return replace(self, components=self.components[:n], prior_std=self.prior_std[:n])

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors, for a file."""
        names = ("consensus", "components", "prior_std", "noise")
        return {n: getattr(self, n) for n in names} | {"max_radius": torch.tensor(self.max_radius, dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> LinearSubspace:
        """What `tensors` gave."""
        rest = {name: value for name, value in tensors.items() if name != "max_radius"}
        return cls(max_radius=float(tensors["max_radius"]), **rest)

    def to(self, device: torch.device | str) -> LinearSubspace:
        """The same subspace on another device."""
        tensors = {n: getattr(self, n).to(device) for n in ("consensus", "components", "prior_std", "noise")}
        return LinearSubspace(max_radius=self.max_radius, **tensors)


@torch.no_grad()
def residual_matrices(reader: SliceReader, consensus: Float32[Tensor, "d d d"]) -> Iterator[SliceMatrices]:
    """Statistics of all particles of a reader minus those of the consensus, a block at a time."""
    gradient = reader.lattice.with_gradient(consensus)
    for _, block in reader.blocks():
        block.subtract(gradient)
        yield SliceMatrices.of([block], reader.preprocessor.config.max_radius, len(reader.lattice))
