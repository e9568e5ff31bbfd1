"""Reconstruction and KL terms."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tomodrgn.particles.preprocess import DecodePoints

__all__ = ["kl_divergence", "weighted_squared_error"]


def weighted_squared_error(predicted: Float[Tensor, "m 2"], points: DecodePoints) -> Float[Tensor, ""]:
    """Sum over points of ``weight |transfer * predicted - target|^2``."""
    error = points.transfer[:, None] * predicted - points.target
    return torch.dot(points.weights, error.square().sum(dim=-1))


def kl_divergence(mean: Float[Tensor, "b z"], log_variance: Float[Tensor, "b z"]) -> Float[Tensor, " b"]:
    """Divergence of each normal posterior from the standard normal prior (Kingma & Welling 2014, appendix B).

    Examples
    --------
    >>> kl_divergence(torch.zeros(1, 4), torch.zeros(1, 4)).tolist()
    [0.0]
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)
