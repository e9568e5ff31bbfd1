"""Expectation maximisation of a linear subspace of volumes: probabilistic PCA seen through tilt images.

V_i = V_0 + sum_j c_ij B_j with c_i ~ N(0, I), the model of 3D variability analysis (Punjani & Fleet 2021,
10.1016/j.jsb.2021.107702) and of probabilistic PCA (Tipping & Bishop 1999, 10.1111/1467-9868.00196). With the
numerators g and denominators h of an image's residual (see `SliceStatistics`) and the noise variance s of a shell, of
which half falls on the real part of a coefficient:

- E step: A_i = sum 2 h Re(B conj B) / s, b_i = sum 2 Re(conj B g) / s; covariance (I + A_i)^-1, mean (I + A_i)^-1 b_i.
- M step, at each voxel: (sum_i h_i E[c c^T] + ridge) B = sum_i g_i E[c], then a soft mask in real space.

After each M step the components are rescaled so that the coordinates have unit second moments (parameter expansion:
Liu, Rubin & Wu 1998, 10.1093/biomet/85.4.755), which saves most of the iterations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex64, Float32
from torch import Tensor

from tomodrgn.imaging.lattice import VoxelLattice
from tomodrgn.model.slice_statistics import PARTS, SliceMatrices

__all__ = [
    "Evidence",
    "MomentSums",
    "Posterior",
    "SubspaceEm",
    "canonical",
    "evidence",
    "held_out_gain",
    "posterior",
    "size",
    "solve_at_voxels",
    "spread",
]

ALL_PARTS = tuple(range(PARTS))
RIDGE = 1.0  # of the mean denominator in a shell, for coordinates of variance 1
VOXELS_PER_CHUNK = 1 << 16
SETTLED = 1e-3  # greatest change of a spread by an iteration, as a fraction


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Coordinates of k particles along c components."""

    mean: Float32[Tensor, "k c"]
    covariance: Float32[Tensor, "k c c"]
    gain: Float32[Tensor, " k"]
    """Log likelihood of the images over that under the consensus alone."""

    def draw(self, seed: int) -> Float32[Tensor, "k c"]:
        """One sample of the coordinates of every particle."""
        noise = torch.randn(self.mean.shape, generator=torch.Generator().manual_seed(seed)).to(self.mean.device)
        return self.mean + (torch.linalg.cholesky(self.covariance) @ noise[..., None])[..., 0]

    def divergence(self) -> Float32[Tensor, " k"]:
        """Kullback-Leibler divergence from the prior."""
        square = self.covariance.diagonal(dim1=-2, dim2=-1) + self.mean.square() - 1
        return (square.sum(dim=-1) - torch.logdet(self.covariance)) / 2


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What each part of the tilts of k particles says of the coordinates: precision A and linear term b."""

    precision: Float32[Tensor, "k t c c"]
    linear: Float32[Tensor, "k t c"]

    def of_part(self, part: int) -> Evidence:
        """Of one part of the tilts alone."""
        return Evidence(precision=self.precision[:, [part]], linear=self.linear[:, [part]])

    def posterior(self, parts: Sequence[int] = ALL_PARTS, n_components: int | None = None) -> Posterior:
        """Posterior given some parts of the tilts, under the first components."""
        c, chosen = n_components, list(parts)
        return posterior(self.precision[:, chosen, :c, :c].sum(dim=1), self.linear[:, chosen, :c].sum(dim=1))


def posterior(precision: Float32[Tensor, "k c c"], linear: Float32[Tensor, "k c"]) -> Posterior:
    """Posterior of coordinates with prior N(0, I)."""
    factor = torch.linalg.cholesky(precision + torch.eye(linear.shape[1], device=linear.device))
    covariance = torch.cholesky_inverse(factor)
    mean = (covariance @ linear[..., None])[..., 0]
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    return Posterior(mean=mean, covariance=covariance, gain=((linear * mean).sum(dim=-1) - log_determinant) / 2)


def evidence(matrices: SliceMatrices, components: Complex64[Tensor, "c v"], noise: Float32[Tensor, " v"]) -> Evidence:
    """What each part of the tilts says of the coordinates along components (the E step without the prior).

    Parameters
    ----------
    noise
        Variance of the noise at every voxel; 0 where it is unknown.
    """
    c = len(components)
    weight = torch.where(noise > 0, 2 / noise.clamp(min=1e-30), 0.0)
    real, imag = components.real.contiguous(), components.imag.contiguous()  # (c, v)
    i, j = torch.tril_indices(c, c, device=components.device)
    by_real, by_imag, by_precision = matrices.by_row
    linear = by_real @ (real * weight).T.contiguous() + by_imag @ (imag * weight).T.contiguous()
    products = torch.addcmul(real[i] * real[j], imag[i], imag[j]) * weight
    precision = _symmetric(by_precision @ products.T.contiguous(), c).unflatten(0, (-1, PARTS))
    return Evidence(precision=precision, linear=linear.unflatten(0, (-1, PARTS)))


@dataclass(frozen=True, kw_only=True)
class MomentSums:
    """What the M step needs of any number of particles: sums at each voxel v, and of the coordinates' moments."""

    normal: Float32[Tensor, "v n"]
    """Lower triangles of ``sum h E[c c^T]``, and ``sum h``."""
    right: Float32[Tensor, "v c 2"]
    """``sum g E[c]``."""
    second: Float32[Tensor, "c c"]
    """``sum E[c c^T]``."""
    n_particles: int

    @classmethod
    def of(
        cls,
        matrices: SliceMatrices,
        mean: Float32[Tensor, "k c"],
        second: Float32[Tensor, "k c c"],
        parts: Sequence[int],
    ) -> MomentSums:
        """Sums over the given parts of the tilts of some particles, of given moments."""
        i, j = torch.tril_indices(mean.shape[1], mean.shape[1], device=mean.device)
        used = torch.zeros(PARTS, 1, device=mean.device)
        used[list(parts)] = 1
        ones = torch.ones_like(mean[:, :1])
        moments = torch.cat([second[:, i, j], ones], dim=1)
        rows, means = ((values[:, None] * used).flatten(0, 1) for values in (moments, mean))
        by_real, by_imag, by_precision = matrices.by_voxel
        right = torch.stack([by_real @ means, by_imag @ means], dim=-1)
        return cls(normal=by_precision @ rows, right=right, second=second.sum(dim=0), n_particles=len(mean))

    def __add__(self, other: MomentSums) -> MomentSums:
        return MomentSums(
            normal=self.normal + other.normal,
            right=self.right + other.right,
            second=self.second + other.second,
            n_particles=self.n_particles + other.n_particles,
        )


class SubspaceEm:
    """The steps that improve components, below one radius.

    Parameters
    ----------
    lattice
        Voxels below that radius.
    noise
        Variance of the noise in each Fourier shell of the box, (s,).
    mask
        Real-space mask of the components.
    parts
        Parts of the tilts that are used; the others are held out.
    """

    def __init__(
        self,
        lattice: VoxelLattice,
        noise: Float32[Tensor, " s"],
        mask: Float32[Tensor, "d d d"],
        parts: Sequence[int] = ALL_PARTS,
    ) -> None:
        self.lattice, self.parts = lattice, tuple(parts)
        self.noise = noise[lattice.shell.clamp(max=len(noise) - 1)]
        self._mask = lattice.mask_cube(mask)

    def random_start(self, matrices: SliceMatrices, n_components: int, seed: int) -> Complex64[Tensor, "c v"]:
        """Components regressed on random coordinates."""
        shape = (matrices.n_particles, n_components)
        mean = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.noise.device)
        return self._maximise(MomentSums.of(matrices, mean, mean[:, :, None] * mean[:, None], self.parts))

    def step(self, blocks: Iterable[SliceMatrices], components: Complex64[Tensor, "c v"]) -> Complex64[Tensor, "c v"]:
        """One iteration over blocks of particles; they may be made one after another, and forgotten."""
        sums: MomentSums | None = None
        for matrices in blocks:
            found = evidence(matrices, components, self.noise).posterior(self.parts)
            second = found.covariance + found.mean[:, :, None] * found.mean[:, None]
            added = MomentSums.of(matrices, found.mean, second, self.parts)
            sums = added if sums is None else sums + added
        if sums is None:
            return components
        expansion = torch.linalg.cholesky(sums.second / sums.n_particles)
        return expansion.T.to(components.dtype) @ self._maximise(sums)

    def _maximise(self, sums: MomentSums) -> Complex64[Tensor, "c v"]:
        """Components given the coordinates' moments (the M step)."""
        c = sums.right.shape[1]
        ridge = RIDGE * self.lattice.shell_mean(sums.normal[:, -1]) + 1e-9
        solved = torch.empty(c, len(ridge), dtype=torch.complex64, device=ridge.device)
        for first in range(0, len(ridge), VOXELS_PER_CHUNK):
            part = slice(first, first + VOXELS_PER_CHUNK)
            right = torch.view_as_complex(sums.right[part]).T.contiguous()
            solved[:, part] = solve_at_voxels(sums.normal[part, :-1].T.contiguous(), ridge[part], right)
        return self.lattice.masked(solved, self._mask)


def spread(found: Evidence, parts: Sequence[int], iterations: int = 100) -> Float32[Tensor, " c"]:
    """Standard deviations of the coordinates under which some parts of the tilts are likeliest.

    The ridge of the M step leaves components too small, and noise that was fitted leaves them too large, so that their
    spread is 1 on the tilts that they were fitted to, but not on others.
    """
    chosen = list(parts)
    precision, linear = found.precision[:, chosen].sum(dim=1), found.linear[:, chosen].sum(dim=1)
    known = precision.diagonal(dim1=-2, dim2=-1).mean(dim=0)
    scale = torch.diag(torch.where(known > 1e-6, known.clamp(min=1e-6).rsqrt(), 0.0))  # weak components start strong
    for _ in range(iterations):
        now = posterior(scale.T @ precision @ scale, linear @ scale)
        second = now.covariance + now.mean[:, :, None] * now.mean[:, None]
        change = torch.linalg.cholesky(second.mean(dim=0))
        scale = scale @ change
        if float((change - torch.eye(len(change), device=change.device)).abs().max()) < SETTLED:
            break
    return scale.norm(dim=1)


def canonical(components: Complex64[Tensor, "c v"]) -> Complex64[Tensor, "c v"]:
    """The same subspace by orthogonal components of falling size, each a standard deviation of the volumes."""
    gram = (components.conj() @ components.T).real
    _, axes = torch.linalg.eigh(gram)
    return axes.flip(1).T.to(components.dtype) @ components


def size(components: Complex64[Tensor, "c v"]) -> Float32[Tensor, " c"]:
    """Norm of each component."""
    return components.abs().square().sum(dim=1).sqrt()


def held_out_gain(found: Evidence, parts: Sequence[int]) -> Float32[Tensor, "n k"]:
    """Log likelihood of tilts that were not used, given those that were, for 0, 1 ... c components, over that for 0."""
    n = found.linear.shape[2]
    gains = [found.posterior(n_components=c).gain - found.posterior(parts, c).gain for c in range(1, n + 1)]
    return torch.stack([torch.zeros_like(gains[0]), *gains])


def solve_at_voxels(
    lower: Float32[Tensor, "n v"], ridge: Float32[Tensor, " v"], right: Complex64[Tensor, "c v"]
) -> Complex64[Tensor, "c v"]:
    """Solutions of small positive definite systems, one a voxel, given by their lower triangles and a ridge.

    A factorisation L D L^T of all systems at once, an element at a time: their sizes are far below what a library's
    solver is made for.
    """
    c = len(right)
    factor: list[list[Tensor]] = []
    pivots: list[Tensor] = []
    solved: list[Tensor] = []
    for i in range(c):
        row = list(lower[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2].unbind(0))
        for j in range(i):  # row[j] becomes L_ij D_j
            for k in range(j):
                row[j] = torch.addcmul(row[j], row[k], factor[j][k], value=-1)
        scaled = [row[j] / pivots[j] for j in range(i)]
        pivot, value = row[i] + ridge, right[i]
        for j in range(i):
            pivot = torch.addcmul(pivot, row[j], scaled[j], value=-1)
            value = value - scaled[j] * solved[j]
        factor.append(scaled)
        pivots.append(torch.maximum(pivot, ridge))  # of which rounding may take a part
        solved.append(value)
    for i in reversed(range(c)):
        solved[i] = solved[i] / pivots[i]
        for j in range(i + 1, c):
            solved[i] = solved[i] - factor[j][i] * solved[j]
    return torch.stack(solved)


def _symmetric(lower: Tensor, size: int) -> Tensor:
    """Symmetric matrices (n, size, size) of their lower triangles (n, size (size + 1) / 2)."""
    i, j = torch.tril_indices(size, size, device=lower.device)
    place = torch.empty(size, size, dtype=torch.long, device=lower.device)
    place[i, j] = place[j, i] = torch.arange(len(i), device=lower.device)
    return lower.index_select(1, place.flatten()).unflatten(1, (size, size))
