"""The posterior of a linear subspace as a part of a network: exact, and without anything to be learned."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from tomodrgn.imaging import grid, gridding
from tomodrgn.model.subspace_em import Posterior, posterior
from tomodrgn.particles.preprocess import FourierBatch

__all__ = ["SubspaceEncoder"]


class SubspaceEncoder(nn.Module):
    """Coordinates of particles along components of their volumes, whose prior is standard normal.

    The E step of `subspace_em`, with slices interpolated trilinearly.

    Parameters
    ----------
    noise
        Variance of the noise in each Fourier shell of the images, (s,); 0 where it is unknown.
    max_radius
        Radius below which images are compared with the components, in cycles per pixel.
    box_px
        Side of the images.
    """

    noise: Tensor

    def __init__(self, noise: Float32[Tensor, " s"], *, max_radius: float, box_px: int) -> None:
        super().__init__()
        self.max_radius, self.box_px = max_radius, box_px
        self.register_buffer("noise", noise, persistent=False)

    @torch.no_grad()
    def forward(self, residual: FourierBatch, prepared: Float32[Tensor, "c 2 e e h"]) -> Posterior:
        """Posterior of each particle of a batch.

        Parameters
        ----------
        residual
            Images minus the projections of the average.
        prepared
            The components, each a standard deviation of the volumes; of `gridding.prepare_sampling`.
        """
        radius = residual.frequencies.norm(dim=-1)
        inside = radius < self.max_radius
        shell = (radius[inside] * self.box_px).round().long().clamp(max=len(self.noise) - 1)
        noise = self.noise[shell]
        weight = torch.where(noise > 0, 2 / noise.clamp(min=1e-30), 0.0)  # (p,)
        numerator, denominator = (terms[:, inside] for terms in residual.gridding_terms())
        slices = _slices(prepared, residual.frequencies[inside], residual.rotations)  # (i, c, p, 2)
        linear = torch.einsum("icpr,ipr,p->ic", slices, torch.view_as_real(numerator), weight)
        scaled = (slices * (denominator * weight).sqrt()[:, None, :, None]).flatten(2)
        n, c = residual.n_particles, slices.shape[1]
        precision = scaled.new_zeros(n, c, c).index_add_(0, residual.owner, scaled @ scaled.transpose(1, 2))
        return posterior(precision, linear.new_zeros(n, c).index_add_(0, residual.owner, linear))


def _slices(prepared: Tensor, frequencies: Tensor, rotations: Tensor) -> Float[Tensor, "i c p 2"]:
    """Slices of volumes under the poses of images."""
    coordinates, sign = grid.fold_into_half(grid.slice_coordinates(frequencies, rotations))
    sampled = gridding.sample_half_volume(prepared, coordinates.reshape(-1, 3))  # (i p, c, 2)
    sampled = sampled.view(*sign.shape, -1, 2)
    return torch.stack([sampled[..., 0], sampled[..., 1] * sign[..., None]], dim=-1).transpose(1, 2)
