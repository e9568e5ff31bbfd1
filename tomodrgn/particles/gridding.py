"""Weighted average of tilt images in Fourier space: numerators and denominators of all particles on one grid."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64
from torch import Tensor

from tomodrgn.imaging import fourier, grid, gridding
from tomodrgn.particles.dataset import sample_batches
from tomodrgn.particles.preprocess import FourierBatch, Preprocessor

__all__ = ["GriddingSums", "grid_particles"]

BATCH_PARTICLES = 8


class GriddingSums:
    """Numerator ``ctf w F`` and denominator ``ctf^2 w`` of two half sets, spread trilinearly on padded half grids.

    Parameters
    ----------
    box_px
        Side of the images.
    padding
        Factor by which the grid is larger.
    """

    def __init__(self, box_px: int, padding: int, device: torch.device) -> None:
        self.box_px, self.size = box_px, box_px * padding
        self.voxels = self.size * self.size * (self.size // 2 + 2)
        self.sums = torch.zeros(2 * self.voxels, 3, device=device)  # real and imaginary part, denominator

    def add(
        self, batch: FourierBatch, half: Int64[Tensor, " i"], *, coefficients: Float32[Tensor, " i"] | None = None
    ) -> None:
        """Add all images of a batch.

        Parameters
        ----------
        half
            1 or 2 for each image.
        coefficients
            Where images show the volume times a known number, that number for each.
        """
        numerator, denominator = batch.gridding_terms()
        if coefficients is not None:
            numerator, denominator = numerator * coefficients[:, None], denominator * coefficients.square()[:, None]
        xyz = grid.slice_coordinates(batch.frequencies, batch.rotations).reshape(-1, 3) * self.size
        terms = torch.cat([torch.view_as_real(numerator), denominator[..., None]], dim=-1).reshape(-1, 3)
        first = ((half - 1) * self.voxels)[:, None].expand(numerator.shape).reshape(-1)
        gridding.spread(self.sums, xyz, terms, box_px=self.size, first=first)

    def volume(self, halves: tuple[int, ...] = (1, 2), *, regularisation: float = 0.1) -> Float32[np.ndarray, "d d d"]:
        """The map of one or both halves, in units of the scaled images.

        Parameters
        ----------
        halves
            Half sets to be used.
        regularisation
            Constant added to the denominator, as a fraction of its mean.
        """
        size = self.size
        both = self.sums.view(2, size, size, -1, 3)[[h - 1 for h in halves]].sum(dim=0)[:, :, : size // 2 + 1]
        numerator = torch.view_as_complex(both[..., :2].contiguous())
        denominator = both[..., 2].clone()
        # The plane kx = 0 received each Friedel pair on one side only: add the mates.
        numerator[:, :, 0] += torch.roll(numerator[:, :, 0].flip(0, 1), (1, 1), dims=(0, 1)).conj()
        denominator[:, :, 0] += torch.roll(denominator[:, :, 0].flip(0, 1), (1, 1), dims=(0, 1))
        radius = fourier.half_frequencies_xyz(size, device=both.device).norm(dim=-1)
        inside = (radius < 0.5) & (radius > 0)
        constant = regularisation * denominator[inside].mean()
        half = torch.where(inside, numerator / (denominator + constant).clamp(min=1e-12), 0)
        # Slices are orthonormal 2-D transforms of the unpadded projection.
        padded = fourier.irfft3_centred(half, size) * (self.box_px / size**1.5)
        unspread = padded / gridding.kernel_transform(size, device=both.device)
        return fourier.pad_centred(unspread, self.box_px, ndim=3).cpu().numpy()


def grid_particles(preprocessor: Preprocessor, half_sets: Int[np.ndarray, " k"]) -> GriddingSums:
    """Spread all images of a preprocessor's set.

    Parameters
    ----------
    preprocessor
        With the padding that the grid is to have.
    half_sets
        1 or 2 for each particle.
    """
    particles = preprocessor.particles
    sums = GriddingSums(particles.box_px, preprocessor.padding, preprocessor.device)
    half_of = torch.from_numpy(np.asarray(half_sets, dtype=np.int64)).to(preprocessor.device)
    for batch in preprocessor.batches(sample_batches(particles, BATCH_PARTICLES)):
        sums.add(batch, half_of[batch.particles][batch.owner])
    return sums
