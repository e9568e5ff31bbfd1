"""Expectation maximisation of a linear subspace of volumes: probabilistic PCA seen through tilt images.

V_i = V_0 + sum_j c_ij B_j with c_i ~ N(0, I), the model of 3D variability analysis (Punjani & Fleet 2021,
10.1016/j.jsb.2021.107702) and of probabilistic PCA (Tipping & Bishop 1999, 10.1111/1467-9868.00196). With the
numerators g and denominators h of an image's residual (see `SliceStatistics`) and the noise variance s of a shell, of
which half falls on the real part of a coefficient:

- E step: A_i = sum 2 h Re(B conj B) / s, b_i = sum 2 Re(conj B g) / s; covariance (I + A_i)^-1, mean (I + A_i)^-1 b_i.
- M step, at each voxel: (sum_i h_i E[c c^T] + ridge) B = sum_i g_i E[c], then a soft mask in real space.

After each M step the components are rescaled so that the coordinates have unit second moments (parameter expansion: Liu,
Rubin & Wu 1998, 10.1093/biomet/85.4.755), which saves most of the iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex64, Float32
from torch import Tensor

from tomodrgn.imaging.lattice import VoxelLattice
from tomodrgn.model.slice_statistics import PARTS, SliceMatrices

__all__ = [
    "Evidence",
    "Posterior",
    "SubspaceEm",
    "canonical",
    "evidence",
    "held_out_gain",
    "posterior",
    "precision_of",
]

RIDGE = 1.0  # of the mean denominator in a shell, for coordinates of variance 1


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Coordinates of k particles along c components."""

    mean: Float32[Tensor, "k c"]
    covariance: Float32[Tensor, "k c c"]
    gain: Float32[Tensor, " k"]
    """Log likelihood of the images over that under the consensus alone."""

    def divergence(self) -> Float32[Tensor, " k"]:
        """Kullback-Leibler divergence from the prior."""
        square = self.covariance.diagonal(dim1=-2, dim2=-1) + self.mean.square() - 1
        return (square.sum(dim=-1) - torch.logdet(self.covariance)) / 2


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What each part of the tilts of k particles says of the coordinates: precision A and linear term b."""

    precision: Float32[Tensor, "k t c c"]
    linear: Float32[Tensor, "k t c"]

    def posterior(self, parts: Sequence[int] = range(PARTS), n_components: int | None = None) -> Posterior:
        """Posterior given some parts of the tilts, under the first components."""
        c = n_components
        chosen = list(parts)
        return posterior(
            self.precision[:, chosen, :c, :c].sum(dim=1), self.linear[:, chosen, :c].sum(dim=1)
        )


def posterior(precision: Float32[Tensor, "k c c"], linear: Float32[Tensor, "k c"]) -> Posterior:
    """Posterior of coordinates with prior N(0, I)."""
    eye = torch.eye(linear.shape[1], device=linear.device)
    factor = torch.linalg.cholesky(precision + eye)
    covariance = torch.cholesky_inverse(factor)
    mean = (covariance @ linear[..., None])[..., 0]
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    return Posterior(mean=mean, covariance=covariance, gain=((linear * mean).sum(dim=-1) - log_determinant) / 2)


def precision_of(noise: Float32[Tensor, " s"], lattice: VoxelLattice) -> Float32[Tensor, " v"]:
    """Precision of the real part of a coefficient at every voxel, by the noise variance of its shell; 0 without noise."""
    shell = lattice.shell.clamp(max=len(noise) - 1)
    return torch.where(noise > 0, 2 / noise.clamp(min=1e-30), 0.0)[shell]


def evidence(matrices: SliceMatrices, components: Complex64[Tensor, "c v"], weight: Float32[Tensor, " v"]) -> Evidence:
    """What each part of the tilts says of the coordinates along components.

    Parameters
    ----------
    weight
        Of `precision_of`.
    """
    c = len(components)
    real, imag = components.real.T, components.imag.T
    i, j = torch.tril_indices(c, c, device=components.device)
    by_real, by_imag, by_precision = matrices.by_row
    linear = by_real @ (weight[:, None] * real) + by_imag @ (weight[:, None] * imag)
    products = by_precision @ (weight[:, None] * (real[:, i] * real[:, j] + imag[:, i] * imag[:, j]))
    precision = _symmetric(products, c).unflatten(0, (-1, PARTS))
    return Evidence(precision=precision, linear=linear.unflatten(0, (-1, PARTS)))


class SubspaceEm:
    """Components and the steps that improve them, below one radius.

    Parameters
    ----------
    matrices
        Statistics of the residuals of all images.
    lattice
        Voxels of the matrices.
    noise
        Variance of the noise in each Fourier shell of the box, (s,).
    mask
        Real-space mask of the components.
    parts
        Parts of the tilts that are used; the others are held out.
    """

    def __init__(
        self,
        matrices: SliceMatrices,
        lattice: VoxelLattice,
        noise: Float32[Tensor, " s"],
        *,
        mask: Float32[Tensor, "d d d"],
        parts: Sequence[int] = range(PARTS),
    ) -> None:
        self.matrices, self.lattice, self.parts = matrices, lattice, tuple(parts)
        self._mask = lattice.mask_cube(mask)
        self.weight = precision_of(noise, lattice)
        n_rows = matrices.by_row[0].shape[0]
        self._used = torch.zeros(PARTS, 1, device=noise.device)
        self._used[list(parts)] = 1
        ones = self._spread_over_parts(torch.ones(n_rows // PARTS, 1, device=noise.device))
        self._ridge = RIDGE * lattice.shell_mean((matrices.by_voxel[2] @ ones)[:, 0])

    def _spread_over_parts(self, values: Tensor) -> Tensor:
        return (values[:, None] * self._used).flatten(0, 1)

    def evidence(self, components: Complex64[Tensor, "c v"]) -> Evidence:
        """What each part of the tilts says of the coordinates (the E step without the prior)."""
        return evidence(self.matrices, components, self.weight)

    def random_start(self, n_components: int, seed: int) -> Complex64[Tensor, "c v"]:
        """Components regressed on random coordinates."""
        shape = (self.matrices.by_row[0].shape[0] // PARTS, n_components)
        mean = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.weight.device)
        return self.maximise(mean, mean[:, :, None] * mean[:, None])

    def maximise(
        self, mean: Float32[Tensor, "k c"], second: Float32[Tensor, "k c c"]
    ) -> Complex64[Tensor, "c v"]:
        """Components given the coordinates' first and second moments (the M step)."""
        c = mean.shape[1]
        i, j = torch.tril_indices(c, c, device=mean.device)
        by_real, by_imag, by_precision = self.matrices.by_voxel
        means = self._spread_over_parts(mean)
        normal = _symmetric(by_precision @ self._spread_over_parts(second[:, i, j]), c)
        normal = normal + torch.diag_embed((self._ridge + 1e-9)[:, None].expand(-1, c))
        right = torch.stack([by_real @ means, by_imag @ means], dim=-1)
        solved = torch.linalg.solve(normal, right)  # (v, c, 2)
        return self.lattice.masked(torch.view_as_complex(solved.contiguous()).T, self._mask)

    def step(self, components: Complex64[Tensor, "c v"]) -> tuple[Complex64[Tensor, "c v"], Posterior]:
        """One iteration: better components, and the posterior under those before."""
        found = self.evidence(components).posterior(self.parts)
        second = found.covariance + found.mean[:, :, None] * found.mean[:, None]
        expansion = torch.linalg.cholesky(second.mean(dim=0))
        components = expansion.T.to(components.dtype) @ self.maximise(found.mean, second)
        return components, found


def canonical(components: Complex64[Tensor, "c v"]) -> Complex64[Tensor, "c v"]:
    """The same subspace by orthogonal components of falling size, each a standard deviation of the volumes."""
    gram = (components.conj() @ components.T).real
    _, axes = torch.linalg.eigh(gram)
    return axes.flip(1).T.to(components.dtype) @ components


def held_out_gain(evidence: Evidence, parts: Sequence[int]) -> Float32[Tensor, "n k"]:
    """Log likelihood of tilts that were not used, given those that were, for 0, 1 ... c components, over that for 0."""
    n = evidence.linear.shape[2]
    everything = [evidence.posterior(range(PARTS), c).gain for c in range(1, n + 1)]
    used = [evidence.posterior(parts, c).gain for c in range(1, n + 1)]
    return torch.stack([torch.zeros_like(everything[0]), *(a - u for a, u in zip(everything, used, strict=True))])


def _symmetric(lower: Tensor, size: int) -> Tensor:
    """Symmetric matrices (n, size, size) of their lower triangles (n, size (size + 1) / 2)."""
    i, j = torch.tril_indices(size, size, device=lower.device)
    full = lower.new_zeros(len(lower), size, size)
    full[:, i, j] = lower
    full[:, j, i] = lower
    return full
