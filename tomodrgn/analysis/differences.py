"""Differences of reconstructions against their own noise: how much of a known difference they have, and if any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float, Float32
from torch import Tensor

from tomodrgn.imaging import fourier
from tomodrgn.volumes.backproject import Reconstruction

__all__ = ["DifferenceMap"]


@dataclass(frozen=True, kw_only=True)
class DifferenceMap:
    """One reconstruction minus another, in Fourier space, with the power of its noise in each shell.

    Parameters
    ----------
    values
        Transform of the masked difference, (d, d, d // 2 + 1).
    noise
        Power of its noise at each element, from the differences of the half maps.
    mask
        The mask, axes zyx.
    """

    values: Complex[Tensor, "d d h"]
    noise: Float[Tensor, "d d h"]
    mask: Float32[np.ndarray, "d d d"]

    @classmethod
    def of(cls, one: Reconstruction, other: Reconstruction) -> DifferenceMap:
        """The difference of the full maps of two reconstructions of one box from different particles."""
        mask = one.mask
        # A full map is the mean of its halves, and so is its noise: half the difference of the halves has its power.
        draws = [_transform(0.5 * (r.half_1 - r.half_2), mask).abs().square() for r in (one, other)]
        return cls(values=_transform(one.full - other.full, mask), noise=_shell_mean(draws[0] + draws[1]), mask=mask)

    def scale_of(self, expected: Float32[np.ndarray, "d d d"]) -> tuple[float, float]:
        """Least-squares scale of an expected difference in this one, each shell in units of its noise, and its error.

        With D the expected and R this transform and P the power of the noise, ``sum Re(D* R) / P`` over
        ``sum |D|^2 / P``; the error is ``1 / sqrt(sum |D|^2 / P)``, larger by what the mask makes voxels depend on each
        other.
        """
        wanted = _transform(expected, self.mask)
        weight = _multiplicity(self.values) / self.noise
        norm = float((wanted.abs().square() * weight).sum())
        if norm <= 0:
            return 0.0, np.inf
        found = float(((wanted.conj() * self.values).real * weight).sum())
        return found / norm, float(np.sqrt(1 / norm / self._independent_share()))

    def agreement_with(self, other: DifferenceMap, expected: Float32[np.ndarray, "d d d"]) -> float:
        """How far two differences agree, in standard errors of what noise alone gives.

        Products of both, each in units of its noise, are summed over shells, which count by the share of signal that
        the expected difference would have there: ``S / (S + P)`` of its power S.
        """
        signal = _shell_mean(_transform(expected, self.mask).abs().square())
        share = signal / (signal + 0.5 * (self.noise + other.noise))
        product = (self.values.conj() * other.values).real / torch.sqrt(self.noise * other.noise)
        twice = _multiplicity(self.values)
        spread = float((share.square() * twice).sum()) / self._independent_share()
        return float((share * product * twice).sum()) / max(spread, 1e-300) ** 0.5

    def _independent_share(self) -> float:
        """Number of independent values in the masked map over that of its voxels."""
        square = np.square(self.mask, dtype=np.float64)
        return float(square.sum() ** 2 / np.square(square).sum() / square.size)


def _transform(volume: Float32[np.ndarray, "d d d"], mask: np.ndarray) -> Complex[Tensor, "d d h"]:
    return fourier.rfft3_centred(torch.from_numpy(volume.astype(np.float64) * mask))


def _multiplicity(values: Tensor) -> Float[Tensor, "d d h"]:
    """How often each element of a half transform stands in the whole."""
    twice = torch.full(values.shape, 2.0, dtype=torch.float64)
    twice[..., 0] = twice[..., -1] = 1.0
    return twice


def _shell_mean(power: Float[Tensor, "d d h"]) -> Float[Tensor, "d d h"]:
    """Each element replaced by the mean of its shell; the corners beyond Nyquist count as one shell."""
    box = power.shape[0]
    shell = (fourier.half_frequencies_xyz(box).norm(dim=-1) * box).round().long().clamp(max=box // 2 + 1)
    twice = _multiplicity(power)
    total = torch.bincount(shell.flatten(), (power * twice).flatten())
    mean = total / torch.bincount(shell.flatten(), twice.flatten()).clamp(min=1)
    return mean.clamp(min=float(mean.max()) * 1e-12)[shell]
