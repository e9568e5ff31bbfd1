"""The only Fourier transforms of the project, with one centring convention.

Images and volumes are real, square or cubic with an even side d, and centred at index ``d // 2`` on every axis
(RELION's and Warp's convention). Transforms are orthonormal, so white noise of variance 1 stays white with
variance 1, and keep only the Friedel half: the last axis holds the d // 2 + 1 frequencies from 0 to Nyquist and
DC is at index 0. Frequencies are in cycles per pixel.

A Fourier crop keeps pixel values: an image without detail beyond the new Nyquist has the same values on its larger
pixels. Orthonormal coefficients are therefore multiplied by new side / old side.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

__all__ = [
    "centre_first",
    "complete_friedel",
    "fast_side",
    "fourier_crop",
    "fourier_crop3",
    "half_frequencies_xy",
    "half_frequencies_xyz",
    "irfft2_centred",
    "irfft3_centred",
    "masked3",
    "pad_centred",
    "rfft2_centred",
    "rfft3_centred",
]


def rfft2_centred(images: Float[Tensor, "*b d d"]) -> Complex[Tensor, "*b d h"]:
    """Half transform of images centred at index d // 2; h = d // 2 + 1.

    Half-precision input is transformed in float32.
    """
    images = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
    return torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)), norm="ortho")


def irfft2_centred(half: Complex[Tensor, "*b d h"], box_px: int) -> Float[Tensor, "*b d d"]:
    """Images of half transforms: the inverse of `rfft2_centred`.

    Examples
    --------
    >>> image = torch.arange(16.0).reshape(4, 4)
    >>> torch.allclose(irfft2_centred(rfft2_centred(image), 4), image, atol=1e-5)
    True
    """
    return torch.fft.fftshift(torch.fft.irfft2(half, s=(box_px, box_px), norm="ortho"), dim=(-2, -1))


def rfft3_centred(volumes: Float[Tensor, "*v d d d"]) -> Complex[Tensor, "*v d d h"]:
    """Half transform of volumes (axes zyx) centred at index d // 2."""
    return torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=(-3, -2, -1)), dim=(-3, -2, -1), norm="ortho")


def irfft3_centred(half: Complex[Tensor, "*v d d h"], box_px: int) -> Float[Tensor, "*v d d d"]:
    """Volumes (axes zyx) of half transforms: the inverse of `rfft3_centred`."""
    volumes = torch.fft.irfftn(half, s=(box_px,) * 3, dim=(-3, -2, -1), norm="ortho")
    return torch.fft.fftshift(volumes, dim=(-3, -2, -1))


def centre_first(volumes: Float[Tensor, "*v d d d"]) -> Float[Tensor, "*v d d d"]:
    """Volumes whose centre lies at index 0 of every axis, as `masked3` takes a mask."""
    return torch.fft.ifftshift(volumes, dim=(-3, -2, -1))


def masked3(half: Complex[Tensor, "*v d d h"], mask: Float[Tensor, "d d d"]) -> Complex[Tensor, "*v d d h"]:
    """Half transforms of volumes times a real-space mask, of `centre_first`.

    Examples
    --------
    >>> volume, mask = torch.randn(4, 4, 4), torch.rand(4, 4, 4)
    >>> found = masked3(rfft3_centred(volume), centre_first(mask))
    >>> torch.allclose(found, rfft3_centred(volume * mask), atol=1e-5)
    True
    """
    axes = (-3, -2, -1)
    return torch.fft.rfftn(torch.fft.irfftn(half, s=mask.shape, dim=axes).mul_(mask), dim=axes)


def fast_side(at_least: int) -> int:
    """Smallest even side without a prime factor above 5: transforms of such sides are fast.

    Examples
    --------
    >>> [fast_side(n) for n in (31, 32, 33, 38, 46)]
    [32, 32, 36, 40, 48]
    """
    side = at_least + at_least % 2
    while True:
        rest = side
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return side
        side += 2


def half_frequencies_xy(box_px: int, *, device: torch.device | str = "cpu") -> Float[Tensor, "d h 2"]:
    """Frequency of every element of a half image transform, (d, d // 2 + 1, 2), order xy, in cycles per pixel."""
    ky = torch.fft.fftfreq(box_px, device=device)
    kx = torch.fft.rfftfreq(box_px, device=device)
    return torch.stack(torch.meshgrid(ky, kx, indexing="ij")[::-1], dim=-1)


def half_frequencies_xyz(box_px: int, *, device: torch.device | str = "cpu") -> Float[Tensor, "d d h 3"]:
    """Frequency of every element of a half volume transform, (d, d, d // 2 + 1, 3), order xyz, in cycles per pixel."""
    k = torch.fft.fftfreq(box_px, device=device)
    kx = torch.fft.rfftfreq(box_px, device=device)
    return torch.stack(torch.meshgrid(k, k, kx, indexing="ij")[::-1], dim=-1)


def pad_centred(arrays: Float[Tensor, "..."], box_px: int, *, ndim: int = 2) -> Float[Tensor, "..."]:
    """Zero-pad (or crop) the last `ndim` axes to `box_px` about the centre index d // 2."""
    before = box_px // 2 - arrays.shape[-1] // 2
    after = box_px - arrays.shape[-1] - before
    return torch.nn.functional.pad(arrays, (before, after) * ndim)


def fourier_crop(images: Float[Tensor, "*b d d"], box_px: int) -> Float[Tensor, "*b c c"]:
    """Images of the same field with `box_px` larger pixels: all frequencies below the new Nyquist, and no others.

    Coefficients are those of the images times ``box_px / d``, which keeps pixel values; those at the new Nyquist
    itself, where a pair of the larger image meets in one element, are set to zero.

    Parameters
    ----------
    images
        Half-precision input becomes float32.
    box_px
        New side: even, and at most that of the images, which are given back where it is theirs.

    Examples
    --------
    >>> y, x = torch.meshgrid(*[torch.arange(8) - 4.0] * 2, indexing="ij")
    >>> wave = torch.cos(2 * torch.pi * (x + y) / 8)
    >>> torch.allclose(fourier_crop(wave, 4), wave[::2, ::2], atol=1e-5)
    True
    """
    side, n = images.shape[-1], box_px // 2
    if side == box_px:
        return images
    half = rfft2_centred(images)
    cropped = half.new_zeros(*half.shape[:-2], box_px, n + 1)
    cropped[..., :n, :n] = half[..., :n, :n]
    cropped[..., n + 1 :, :n] = half[..., side - n + 1 :, :n]
    return irfft2_centred(cropped * (box_px / side), box_px)


def fourier_crop3(volumes: Float[Tensor, "*v d d d"], box_px: int) -> Float[Tensor, "*v c c c"]:
    """Volumes (axes zyx) of the same field with `box_px` larger voxels; see `fourier_crop`.

    Examples
    --------
    >>> z, y, x = torch.meshgrid(*[torch.arange(8) - 4.0] * 3, indexing="ij")
    >>> wave = torch.cos(2 * torch.pi * (x + y + z) / 8)
    >>> torch.allclose(fourier_crop3(wave, 4), wave[::2, ::2, ::2], atol=1e-5)
    True
    """
    side, n = volumes.shape[-1], box_px // 2
    if side == box_px:
        return volumes
    kept = torch.arange(box_px, device=volumes.device)
    kept = torch.where(kept < n, kept, kept + side - box_px)  # the new Nyquist is at n, and cleared
    half = rfft3_centred(volumes)[..., : n + 1].index_select(-2, kept).index_select(-3, kept)
    half[..., n], half[..., n, :], half[..., n, :, :] = 0, 0, 0
    return irfft3_centred(half * (box_px / side) ** 1.5, box_px)


def complete_friedel(half: Complex[Tensor, "..."], *, ndim: int) -> None:
    """Fill, in place, the empty members of the kx = 0 plane from their Friedel mates: value(-k) = conj value(k).

    Parameters
    ----------
    half
        Half transforms whose last `ndim` axes are those of an image (2) or a volume (3), holding one member of each
        pair on the kx = 0 plane and zero at the other.
    """
    plane = half[..., 0]
    axes = tuple(range(1 - ndim, 0))
    mates = torch.roll(plane.flip(axes), (1,) * len(axes), dims=axes).conj()
    half[..., 0] = torch.where(plane == 0, mates, plane)
