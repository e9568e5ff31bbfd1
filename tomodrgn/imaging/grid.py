"""Coordinates, radii and masks of Fourier slices and volumes.

Frequencies are in cycles per pixel, so Nyquist is 0.5. One Friedel half carries everything: of each pair of
frequencies (k, -k) only one is kept, and frequencies at or beyond Nyquist, and the mean (DC), are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor

from tomodrgn.imaging import fourier

__all__ = [
    "HalfGrid",
    "fold_into_half",
    "image_window",
    "in_canonical_half",
    "radii",
    "slice_coordinates",
    "soft_spherical_mask",
]


@dataclass(frozen=True)
class HalfGrid:
    """The kept frequencies of a half transform: one of each Friedel pair, without DC, below a maximum radius.

    Parameters
    ----------
    index
        Positions in the flattened half transform, (p,).
    frequencies
        Their frequencies in cycles per pixel, (p, 2) order xy or (p, 3) order xyz.
    box_px
        Side of the image or volume.

    Raises
    ------
    ValueError
        By `of_image` and `of_volume`, if no frequency lies below the maximum radius.
    """

    index: Int64[Tensor, " p"]
    frequencies: Float[Tensor, "p c"]
    box_px: int

    @classmethod
    def of_image(cls, box_px: int, *, max_radius: float = 0.5) -> HalfGrid:
        """Kept frequencies of an image of side `box_px`, radius below `max_radius` cycles per pixel.

        Examples
        --------
        >>> HalfGrid.of_image(4).frequencies.tolist()
        [[0.25, 0.0], [0.0, 0.25], [0.25, 0.25], [0.25, -0.25]]
        """
        return cls._keep(fourier.half_frequencies_xy(box_px).reshape(-1, 2), box_px, max_radius)

    @classmethod
    def of_volume(cls, box_px: int, *, max_radius: float = 0.5) -> HalfGrid:
        """Kept frequencies of a volume of side `box_px`, radius below `max_radius` cycles per pixel."""
        return cls._keep(fourier.half_frequencies_xyz(box_px).reshape(-1, 3), box_px, max_radius)

    @classmethod
    def _keep(cls, frequencies: Tensor, box_px: int, max_radius: float) -> HalfGrid:
        radius = frequencies.norm(dim=-1)
        keep = in_canonical_half(frequencies) & (radius < min(max_radius, 0.5)) & (radius > 0)
        index = keep.nonzero().squeeze(-1)
        if not len(index):
            raise ValueError(
                f"Got max_radius {max_radius:g} cycles per pixel for box {box_px}, below which there is no frequency, "
                f"expected more than {1 / box_px:g}. Raise max_radius (Nyquist is 0.5)."
            )
        return cls(index, frequencies[index], box_px)

    @cached_property
    def radius(self) -> Float[Tensor, " p"]:
        """Radius of every kept frequency, in cycles per pixel."""
        return self.frequencies.norm(dim=-1)

    def __len__(self) -> int:
        return len(self.index)

    def images(self, values: Complex[Tensor, "i p"]) -> Float[Tensor, "i d d"]:
        """Real images of side `box_px` of coefficients at the kept frequencies; all others are zero.

        Examples
        --------
        >>> kept = HalfGrid.of_image(8, max_radius=0.3)
        >>> wave = torch.cos(2 * torch.pi * (torch.arange(8.0) - 4) / 8).expand(8, 8)
        >>> values = fourier.rfft2_centred(wave[None]).flatten(1)[:, kept.index]
        >>> torch.allclose(kept.images(values)[0], wave, atol=1e-5)
        True
        """
        half = values.new_zeros(len(values), self.box_px * (self.box_px // 2 + 1))
        half[:, self.index] = values
        half = half.view(len(values), self.box_px, -1)
        fourier.complete_friedel(half, ndim=2)
        return fourier.irfft2_centred(half, self.box_px)

    def to(self, device: torch.device | str) -> HalfGrid:
        """The same grid on another device."""
        return HalfGrid(self.index.to(device), self.frequencies.to(device), self.box_px)


def in_canonical_half(frequencies: Float[Tensor, "*m c"]) -> Bool[Tensor, "*m"]:
    """True for one frequency of each Friedel pair: x > 0, or x = 0 and y > 0, or x = y = 0 and z >= 0."""
    keep = frequencies[..., -1] >= 0
    for axis in range(frequencies.shape[-1] - 2, -1, -1):
        value = frequencies[..., axis]
        keep = (value > 0) | ((value == 0) & keep)
    return keep


def fold_into_half(frequencies: Float[Tensor, "*m c"]) -> tuple[Float[Tensor, "*m c"], Float[Tensor, "*m"]]:
    """Frequencies of the canonical half: (k, 1) where k lies in it, else (-k, -1); conjugate values where -1."""
    sign = torch.where(in_canonical_half(frequencies), 1.0, -1.0)
    return frequencies * sign[..., None], sign


def slice_coordinates(
    frequencies_xy: Float[Tensor, "p 2"], rotations: Float[Tensor, "i 3 3"]
) -> Float[Tensor, "i p 3"]:
    """Volume coordinates xyz of the central slices seen by images of the given rotations.

    A slice is ``lattice_xyz @ R`` with z = 0 on the lattice (Fourier slice theorem; rotations as in pose.py).
    """
    return torch.einsum("pc,icj->ipj", frequencies_xy, rotations[:, :2, :])


def radii(box_px: int, ndim: int, *, device: torch.device | str = "cpu") -> Float[Tensor, "..."]:
    """Distance in pixels of every element of an image or volume from the centre index d // 2."""
    axis = torch.arange(box_px, device=device, dtype=torch.float32) - box_px // 2
    square = sum(a.square() for a in torch.meshgrid(*[axis] * ndim, indexing="ij"))
    return torch.sqrt(square)  # type: ignore[arg-type]


def image_window(box_px: int, inner: float = 0.8, outer: float = 0.9) -> Float[Tensor, "d d"]:
    """Real-space window: 1 up to `inner`, 0 beyond `outer` (fractions of the half box), cosine between."""
    return _cosine_edge(radii(box_px, 2) / (box_px / 2), inner, outer)


def soft_spherical_mask(
    box_px: int, radius: float = 0.7, edge: float = 0.1, *, device: torch.device | str = "cpu"
) -> Float[Tensor, "d d d"]:
    """Soft sphere: 1/2 at `radius`, with a cosine edge of width `edge` about it (fractions of the half box)."""
    return _cosine_edge(radii(box_px, 3, device=device) / (box_px / 2), radius - edge / 2, radius + edge / 2)


def _cosine_edge(distance: Tensor, inner: float, outer: float) -> Tensor:
    ramp = ((distance - inner) / max(outer - inner, 1e-6)).clamp(0, 1)
    return 0.5 + 0.5 * torch.cos(torch.pi * ramp)
