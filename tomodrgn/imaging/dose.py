"""Exposure and tilt weights per frequency."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["critical_exposure", "exposure_mask", "exposure_weights", "tilt_weights"]

# Exposure, in units of the critical one, beyond which a frequency adds more noise than signal.
OPTIMAL_EXPOSURE = 2.51284


def critical_exposure(radius_per_angst: Float[Tensor, " p"], voltage_kv: Float[Tensor, " n"]) -> Float[Tensor, "n p"]:
    """Exposure in e/A^2 at which the signal at a frequency has fallen to 1/e.

    ``0.24499 k^-1.6649 + 2.8141`` at 300 kV, times 0.8 at 200 kV: Grant & Grigorieff 2015 (10.7554/eLife.06980),
    equation 3. Infinite at k = 0.
    """
    at_300_kv = 0.24499 * radius_per_angst.pow(-1.6649) + 2.8141
    factor = torch.where(voltage_kv > 250.0, 1.0, 0.8)
    return factor[:, None] * at_300_kv[None, :]


def exposure_weights(
    radius_per_angst: Float[Tensor, " p"], dose_e_per_angst2: Float[Tensor, " n"], voltage_kv: Float[Tensor, " n"]
) -> Float[Tensor, "n p"]:
    """Exposure filter ``exp(-dose / (2 Ne(k)))`` of every image (Grant & Grigorieff 2015, equation 5); 1 at k = 0.

    Examples
    --------
    >>> exposure_weights(torch.tensor([0.0]), torch.tensor([50.0]), torch.tensor([300.0])).tolist()
    [[1.0]]
    """
    return torch.exp(-dose_e_per_angst2[:, None] / (2 * critical_exposure(radius_per_angst, voltage_kv)))


def exposure_mask(
    radius_per_angst: Float[Tensor, " p"], dose_e_per_angst2: Float[Tensor, " n"], voltage_kv: Float[Tensor, " n"]
) -> Bool[Tensor, "n p"]:
    """True where a frequency is worth keeping: exposure at most 2.51284 times the critical one."""
    limit = OPTIMAL_EXPOSURE * critical_exposure(radius_per_angst, voltage_kv)
    return dose_e_per_angst2[:, None] <= limit


def tilt_weights(tilt_deg: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Weight of each tilt image, the cosine of its tilt angle; 1 where the angle is unknown (NaN).

    Examples
    --------
    >>> [round(w, 3) for w in tilt_weights(torch.tensor([0.0, -60.0, float("nan")])).tolist()]
    [1.0, 0.5, 1.0]
    """
    return torch.nan_to_num(torch.cos(torch.deg2rad(tilt_deg)), nan=1.0).clamp(min=0.0)
