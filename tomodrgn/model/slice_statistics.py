"""All that tilt images say of linear volume models: numerators and denominators at voxels of Fourier space.

Each Fourier coefficient of each image is assigned to the voxel nearest to it (`VoxelLattice`) and enters by its
numerator and denominator (`FourierBatch.gridding_terms`). Sums over the voxels of a part of a particle's tilts, and
sums over particles at a voxel, are then products of sparse and small dense matrices.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import scipy.sparse
import torch
from jaxtyping import Complex64, Float32, Int64
from torch import Tensor

from tomodrgn.imaging import grid
from tomodrgn.imaging.lattice import VoxelLattice
from tomodrgn.particles.preprocess import FourierBatch

__all__ = ["PARTS", "SliceMatrices", "SliceStatistics"]

PARTS = 4
CHUNK_POINTS = 1 << 18
OFFSET_STEPS = 254  # of a spacing, so that half a spacing fits into a byte


class SliceStatistics:
    """Numerators and denominators of the images of some particles at frequencies of rising radius; 19 bytes a point.

    The tilts of a particle are divided into `PARTS` parts; row ``PARTS * particle + part`` is one part.

    Parameters
    ----------
    batch
        Images, those of one row one after another.
    row
        Row of every image, not falling, (i,).
    lattice
        Voxels, on the device of the batch.
    by_radius
        Order of the batch's frequencies.
    """

    def __init__(
        self, batch: FourierBatch, row: Int64[Tensor, " i"], lattice: VoxelLattice, by_radius: Int64[Tensor, " p"]
    ) -> None:
        self.n_rows = PARTS * batch.n_particles
        self.images_in_row = torch.bincount(row, minlength=self.n_rows)
        self.radius = batch.frequencies[by_radius].norm(dim=-1)  # (p,)
        numerator, denominator = (terms[:, by_radius] for terms in batch.gridding_terms())
        coordinates = grid.slice_coordinates(batch.frequencies[by_radius], batch.rotations)
        voxel, sign, offset = lattice.nearest(coordinates.reshape(-1, 3))
        voxel, sign = voxel.view(numerator.shape), sign.view(numerator.shape)
        kept = voxel >= 0
        self.voxel = voxel.clamp(min=0)  # (i, p) int32
        self.offset = (offset * OFFSET_STEPS).round().to(torch.int8).view(*numerator.shape, 3)
        self.real, self.imag = numerator.real * kept, numerator.imag * (sign * kept)
        self.precision = denominator * kept

    def cut(self, max_radius: float) -> SliceStatistics:
        """A copy with only the frequencies below a radius in cycles per pixel."""
        copy = object.__new__(SliceStatistics)
        copy.n_rows, copy.images_in_row = self.n_rows, self.images_in_row
        n = int((self.radius < max_radius).sum())
        copy.radius = self.radius[:n]
        for name in ("voxel", "offset", "real", "imag", "precision"):
            setattr(copy, name, getattr(self, name)[:, :n].contiguous())
        return copy

    def _chunks(self) -> Iterator[slice]:
        size = max(1, CHUNK_POINTS // len(self.radius))
        for first in range(0, len(self.voxel), size):
            yield slice(first, first + size)

    def add_voxel_sums(self, sums: Float32[Tensor, "3 v"]) -> None:
        """Add numerators (real, imaginary) and denominators of all images at every voxel, in place."""
        for chunk in self._chunks():
            voxel = self.voxel[chunk].flatten()
            for total, terms in zip(sums, (self.real, self.imag, self.precision), strict=True):
                total.index_add_(0, voxel, terms[chunk].flatten())

    def subtract(self, values: Complex64[Tensor, "4 v"]) -> None:
        """Take the projections of a volume from all images.

        Parameters
        ----------
        values
            Of `VoxelLattice.with_gradient`.
        """
        rows = torch.view_as_real(values.T.contiguous()).flatten(1)  # (v, 8)
        rows[:, 2:] /= OFFSET_STEPS
        for chunk in self._chunks():
            taken = rows.index_select(0, self.voxel[chunk].flatten()).unflatten(0, (-1, len(self.radius)))
            offset, precision = self.offset[chunk].float(), self.precision[chunk]
            for part, terms in enumerate((self.real, self.imag)):
                value = taken[..., part] + (taken[..., 2 + part :: 2] * offset).sum(dim=-1)
                terms[chunk] -= value * precision

    def less(
        self, components: Complex64[Tensor, "c v"], coordinates: Float32[Tensor, "k c"], max_radius: float
    ) -> SliceStatistics:
        """A copy below a radius, from which the part of every particle along components is taken.

        Parameters
        ----------
        components
            At the voxels within that radius.
        coordinates
            Of the particles along them.
        """
        copy = self.cut(max_radius)
        values = torch.view_as_real(components.T.contiguous()).flatten(1)  # (v, 2 c)
        row = torch.arange(self.n_rows, device=values.device).repeat_interleave(self.images_in_row)
        for chunk in copy._chunks():
            taken = values.index_select(0, copy.voxel[chunk].flatten()).view(*copy.voxel[chunk].shape, -1, 2)
            seen = torch.einsum("ipcr,ic->ipr", taken, coordinates[row[chunk] // PARTS])
            for part, terms in enumerate((copy.real, copy.imag)):
                terms[chunk] -= seen[..., part] * copy.precision[chunk]
        return copy

    def add_shell_power(self, power: Float32[Tensor, "2 s"], box_px: int) -> None:
        """Add squared numerators, and denominators, in each Fourier shell of the images, in place."""
        shell = (self.radius * box_px).round().long()
        for chunk in self._chunks():
            square = self.real[chunk].square() + self.imag[chunk].square()
            power[0].index_add_(0, shell, square.sum(dim=0))
            power[1].index_add_(0, shell, self.precision[chunk].sum(dim=0))


@dataclass(frozen=True, kw_only=True)
class SliceMatrices:
    """Statistics of images below a radius, as sparse matrices of rows r (see `SliceStatistics`) and voxels v.

    Each is held twice, once for products with vectors over voxels and, when first asked for, once for those with
    vectors over rows; 32 bytes a point.
    """

    by_row: tuple[Tensor, Tensor, Tensor]
    """Real and imaginary numerators, denominators; compressed by rows, (r, v)."""

    @classmethod
    def of(cls, blocks: Sequence[SliceStatistics], max_radius: float, n_voxels: int) -> SliceMatrices:
        """Matrices of several blocks of particles, one after another.

        Parameters
        ----------
        max_radius
            Only frequencies below this are taken, in cycles per pixel.
        n_voxels
            Number of voxels that are nearest to those.
        """
        n = int((blocks[0].radius < max_radius).sum())
        n_rows = sum(block.n_rows for block in blocks)
        voxel = torch.cat([block.voxel[:, :n].flatten() for block in blocks])
        counts = torch.cat([block.images_in_row for block in blocks]) * n
        names = ("real", "imag", "precision")
        terms = (torch.cat([getattr(block, name)[:, :n].flatten() for block in blocks]) for name in names)
        return cls(by_row=_sparse(_starts(counts), voxel, terms, (n_rows, n_voxels)))

    @property
    def n_particles(self) -> int:
        """Number of particles k; rows are ``PARTS * k``."""
        return self.by_row[0].shape[0] // PARTS

    @cached_property
    def by_voxel(self) -> tuple[Tensor, Tensor, Tensor]:
        """The transposes, (v, r)."""
        n_rows, n_voxels = self.by_row[0].shape
        starts, voxel = self.by_row[0].crow_indices(), self.by_row[0].col_indices()
        if not voxel.is_cuda:
            return _transposed(self.by_row)
        row = torch.repeat_interleave(torch.arange(n_rows, dtype=torch.int32, device=voxel.device), starts.diff())
        order = torch.argsort(voxel)
        values = (matrix.values()[order] for matrix in self.by_row)
        starts = _starts(torch.bincount(voxel, minlength=n_voxels))
        return _sparse(starts, row[order], values, (n_voxels, n_rows))


def _sparse(
    starts: Tensor, columns: Tensor, terms: Iterable[Tensor], shape: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")
        return tuple(torch.sparse_csr_tensor(starts, columns, values, shape) for values in terms)  # type: ignore[return-value]


def _starts(counts: Tensor) -> Tensor:
    ends = counts.cumsum(0)
    if len(ends) and int(ends[-1]) >= 2**31:
        raise ValueError(
            f"Got {int(ends[-1])} Fourier coefficients in one piece, expected fewer than 2^31. Give less memory "
            "(memory_gib), so that the fit begins with a part of the particles."
        )
    return torch.cat([counts.new_zeros(1), ends]).int()


def _transposed(matrices: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Transposes of matrices with the same places, on the CPU; compressed by their rows."""
    n_rows, n_columns = matrices[0].shape
    places = matrices[0].col_indices().numpy(), matrices[0].crow_indices().numpy()
    values = []
    for matrix in matrices:
        found = scipy.sparse.csr_matrix((matrix.values().numpy(), *places), shape=(n_rows, n_columns)).tocsc()
        values.append(torch.from_numpy(found.data))
    return _sparse(torch.from_numpy(found.indptr), torch.from_numpy(found.indices), values, (n_columns, n_rows))
