"""Residual MLP, Fourier features, tilt pooling."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor, nn

from tomodrgn.imaging import fourier, grid

__all__ = [
    "FixedNorm",
    "FourierFeatures",
    "ParticleFrame",
    "ResidualMlp",
    "TiltPooling",
    "draw_weights",
    "mean_by_owner",
]


class ResidualMlp(nn.Module):
    """Linear layer, `n_layers` residual layers ``x + relu(W x)``, linear layer."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, n_layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(in_dim, hidden_dim)
        self.residual = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(n_layers))
        self.last = nn.Linear(hidden_dim, out_dim)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Output of the network for each row."""
        return self.after_first(self.first(x))

    def after_first(self, x: Float[Tensor, "*b h"]) -> Float[Tensor, "*b o"]:
        """The network after its first linear layer, so that callers may add to that layer's output."""
        x = torch.relu(x)
        for layer in self.residual:
            x = x + torch.relu(layer(x))
        return self.last(x)


class FixedNorm(nn.Module):
    """Subtract a mean and divide by a standard deviation that are set once and kept with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b i"]:
        """Rows centred and scaled."""
        return (x - self.mean) / self.std


class FourierFeatures(nn.Module):
    """Sine and cosine of ``2 pi k.f`` for fixed random vectors f (Tancik et al. 2020, equation 5).

    A volume of side d has the Fourier transform ``sum v(x) exp(-2 pi i k.x)``: the vectors f are positions in
    pixels, drawn from a normal distribution of standard deviation `sigma` half boxes.

    Parameters
    ----------
    n_frequencies
        Number of vectors; twice as many features.
    box_px, sigma
        Side of the volume in pixels, and the spread of the vectors in half boxes.
    """

    vectors: Tensor

    def __init__(self, n_frequencies: int, box_px: int, sigma: float, *, generator: torch.Generator) -> None:
        super().__init__()
        vectors = torch.randn(3, n_frequencies, generator=generator) * (sigma * box_px / 2)
        self.register_buffer("vectors", vectors)

    def forward(self, coordinates: Float[Tensor, "m 3"]) -> Float[Tensor, "m f"]:
        """Features of frequencies in cycles per pixel; phases of many turns, so never in half precision."""
        with torch.autocast(coordinates.device.type, enabled=False):
            phase = coordinates.float() @ (2 * math.pi * self.vectors)
        return torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)


class ParticleFrame(nn.Module):
    """Density of tilt images at points fixed to the particle: a coarse backprojection of each image.

    An image, low-passed to what the points can hold, is read where each point projects to under the image's pose. All
    particles and tilts are thus seen in one frame, and the same part of the molecule is always the same input.

    Parameters
    ----------
    box_px, max_radius
        Side of the images, and the radius of their kept frequencies in cycles per pixel.
    n_across
        Number of points across the diameter of the particle.
    radius
        Radius of the particle, as a fraction of the half box.
    """

    points: Tensor
    lowpass: Tensor
    index: Tensor

    def __init__(self, box_px: int, max_radius: float, *, n_across: int, radius: float) -> None:
        super().__init__()
        self.box_px = box_px
        radius_px = radius * box_px / 2
        axis = torch.linspace(-radius_px, radius_px, n_across)
        points = torch.cartesian_prod(axis, axis, axis)  # (s, 3) xyz
        kept = grid.HalfGrid.of_image(box_px, max_radius=max_radius)
        cutoff = min(max_radius, 0.45 * (n_across - 1) / (2 * radius_px))
        edge = ((kept.radius - 0.7 * cutoff) / (0.3 * cutoff)).clamp(0, 1)
        self.register_buffer("points", points[points.norm(dim=-1) <= 1.01 * radius_px], persistent=False)
        self.register_buffer("lowpass", 0.5 + 0.5 * torch.cos(torch.pi * edge), persistent=False)
        self.register_buffer("index", kept.index, persistent=False)

    def __len__(self) -> int:
        return len(self.points)

    def forward(self, values: Complex[Tensor, "i p"], rotations: Float[Tensor, "i 3 3"]) -> Float[Tensor, "i s"]:
        """Densities at the s points, in units in which the noise of an unweighted image has standard deviation ~1.

        Parameters
        ----------
        values
            Fourier coefficients times CTF and weights: the numerators of a backprojection.
        rotations
            Particle frame to image frame.
        """
        box = self.box_px
        half = values.new_zeros(len(values), box * (box // 2 + 1))
        half[:, self.index] = values * self.lowpass
        half = half.view(len(values), box, -1)
        fourier.complete_friedel(half, ndim=2)
        # Each kept coefficient stands for two of the box^2 whose squares sum to the variance.
        images = fourier.irfft2_centred(half, box) * (box / (2 * self.lowpass.square().sum()).sqrt())
        with torch.autocast(values.device.type, enabled=False):  # bfloat16 would move points by half a pixel
            xy = torch.einsum("icj,sj->isc", rotations[:, :2], self.points)  # pixels from the centre
        # grid_sample's corners are -1 and 1 at the outer edges of the outer pixels; index d // 2 is the centre.
        corners = (2 * xy + 1) / box
        return nn.functional.grid_sample(images[:, None], corners[:, :, None], align_corners=False)[:, 0, :, 0]


class TiltPooling(nn.Module):
    """Features of a particle's tilt images, combined over the tilts.

    Parameters
    ----------
    kind
        ``"mean"``, ``"max"`` or ``"concatenate"``.
    n_tilts
        Number of tilts of every particle; used by concatenate only.
    """

    def __init__(self, kind: str, feature_dim: int, n_tilts: int) -> None:
        super().__init__()
        self.kind, self.n_tilts = kind, n_tilts
        self.out_dim = feature_dim * n_tilts if kind == "concatenate" else feature_dim

    def forward(self, features: Float[Tensor, "i f"], owner: Int64[Tensor, " i"], n_particles: int) -> Tensor:
        """Pooled features (b, f), or (b, t f) for concatenate.

        Raises
        ------
        ValueError
            If concatenate meets a particle with another number of tilts.
        """
        if self.kind == "concatenate":
            counts = torch.bincount(owner, minlength=n_particles)
            if (counts != self.n_tilts).any():
                raise ValueError(
                    f"Got particles with {int(counts.min())} to {int(counts.max())} tilt images, expected "
                    f"{self.n_tilts} of each, as pooling 'concatenate' needs. Use pooling 'mean' or 'max', or a fixed "
                    "tilts_per_particle."
                )
            return features.view(n_particles, self.out_dim)
        shape = (n_particles, features.shape[-1])
        if self.kind == "max":
            index = owner[:, None].expand_as(features)
            empty = features.new_full(shape, -torch.inf)
            return empty.scatter_reduce(0, index, features, reduce="amax")
        return mean_by_owner(features, owner, n_particles)


def mean_by_owner(rows: Float[Tensor, "i f"], owner: Int64[Tensor, " i"], n_owners: int) -> Float[Tensor, "b f"]:
    """Mean of the rows of each owner."""
    total = rows.new_zeros(n_owners, rows.shape[-1]).index_add(0, owner, rows)
    count = torch.bincount(owner, minlength=n_owners)
    return total / count[:, None]


def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw weights and biases of all linear layers anew, uniform within ``1 / sqrt(inputs)`` (PyTorch's default)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = 1.0 / math.sqrt(max(layer.in_features, 1))
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
