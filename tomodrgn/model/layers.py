"""Residual MLP, Fourier features, density of images at points of the particle."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from tomodrgn.imaging import fourier, grid

__all__ = [
    "FixedNorm",
    "FourierFeatures",
    "ParticleFrame",
    "ResidualMlp",
    "draw_weights",
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
        """The network after its first linear layer, so that callers may add to that layer's output; overwrites `x`."""
        x = torch.relu_(x)
        for layer in self.residual:
            x = x + torch.relu_(layer(x))
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
    """Sine and cosine of ``2 pi k.f`` for fixed vectors f.

    A volume of side d has the Fourier transform ``sum v(x) exp(-2 pi i k.x)``: the vectors f are positions in pixels.
    Those of kind "gaussian" are drawn from a normal distribution of standard deviation `sigma` half boxes (Tancik et
    al. 2020, arXiv 2006.10739, equation 5). Those of kind "geometric" lie on the three axes, in geometric series from
    1 px to half a box (Zhong et al. 2021, 10.1038/s41592-020-01049-4, Methods).

    Parameters
    ----------
    n_frequencies
        Number of vectors (geometric: a multiple of 3, or the next lower one); twice as many features.
    box_px, sigma
        Side of the volume in pixels, and the spread of gaussian vectors in half boxes.
    """

    vectors: Tensor

    def __init__(
        self, n_frequencies: int, box_px: int, sigma: float, *, generator: torch.Generator, kind: str = "gaussian"
    ) -> None:
        super().__init__()
        if kind == "geometric":
            series = torch.logspace(0, math.log2(box_px / 2), max(n_frequencies // 3, 2), base=2)
            vectors = torch.kron(torch.eye(3), series)  # (3, 3 n)
        else:
            vectors = torch.randn(3, n_frequencies, generator=generator) * (sigma * box_px / 2)
        self.register_buffer("vectors", vectors)

    @property
    def out_dim(self) -> int:
        """Number of features."""
        return 2 * self.vectors.shape[1]

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


def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of all layers anew, from PyTorch's default distributions.

    Weights and biases of linear layers are uniform within ``1 / sqrt(inputs)``, those of embeddings standard normal.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = 1.0 / math.sqrt(max(layer.in_features, 1))
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, generator=generator)
