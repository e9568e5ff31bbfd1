"""Components in which two halves of each particle's tilts agree: signal, as noise differs between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["SplitComponents", "find_split_components"]

RIDGES = (1.0, 10.0, 100.0)
FOLDS = 4


@dataclass(frozen=True, kw_only=True)
class SplitComponents:
    """Linear coordinates of particles, from the most to the least reliable.

    Parameters
    ----------
    centre
        Mean of the particles, (s,).
    weight
        Coordinates are ``(x - centre) @ weight.T``, (z, s); their variance over the particles is `reliability`.
    reliability
        Share of signal in the variance of each coordinate, between 0 and 1, (z,), estimated on particles that were
        left out when the component was found.
    """

    centre: Float64[Tensor, " s"]
    weight: Float64[Tensor, "z s"]
    reliability: Float64[Tensor, " z"]


def find_split_components(
    first: Float64[Tensor, "k s"], second: Float64[Tensor, "k s"], n_components: int
) -> SplitComponents:
    """Directions of largest signal over noise.

    They are the generalised eigenvectors of the covariance of the mean of both halves over that of half their
    difference, which is noise alone, plus a ridge. The ridge is the one under which halves of particles left out
    agree best. Reliability of the mean of both halves follows from their correlation by the Spearman-Brown formula
    (Brown 1910).

    Parameters
    ----------
    first, second
        The same quantities of each particle, measured on either half of its tilts.
    n_components
        Number z of components. Those beyond what s quantities or k particles can tell have weight and reliability 0.
    """
    found = min(n_components, first.shape[1], len(first) - math.ceil(len(first) / FOLDS) - 1)
    if found < n_components:
        return _with_empty_components(first, second, max(found, 0), n_components)
    best: tuple[Tensor, float] | None = None
    for ridge in RIDGES:
        reliability = _reliability(first, second, n_components, ridge)
        if best is None or reliability.sum() > best[0].sum():
            best = reliability, ridge
    reliability, ridge = best  # type: ignore[misc]
    directions, centre = _directions(first, second, n_components, ridge)
    spread = ((first + second) / 2 - centre).matmul(directions.T).std(dim=0).clamp(min=1e-12)
    return SplitComponents(
        centre=centre, weight=directions * (reliability.sqrt() / spread)[:, None], reliability=reliability
    )


def _with_empty_components(first: Tensor, second: Tensor, n_found: int, n_components: int) -> SplitComponents:
    """The first `n_found` components, and empty ones after them."""
    weight, reliability = first.new_zeros(n_components, first.shape[1]), first.new_zeros(n_components)
    if n_found:
        found = find_split_components(first, second, n_found)
        weight[:n_found], reliability[:n_found] = found.weight, found.reliability
    return SplitComponents(centre=((first + second) / 2).mean(dim=0), weight=weight, reliability=reliability)


def _directions(first: Tensor, second: Tensor, n_components: int, ridge: float) -> tuple[Tensor, Tensor]:
    mean = (first + second) / 2
    centre = mean.mean(dim=0)
    total, noise = torch.cov((mean - centre).T), torch.cov(((first - second) / 2).T)
    eye = torch.eye(len(noise), dtype=noise.dtype, device=noise.device)
    added = (ridge * noise.diagonal().mean()).clamp(min=1e-12) * eye
    whiten = torch.linalg.inv(torch.linalg.cholesky(noise + added))
    _, vectors = torch.linalg.eigh(whiten @ (total + added) @ whiten.T)
    return (vectors[:, -n_components:].T @ whiten).flip(0), centre


def _reliability(first: Tensor, second: Tensor, n_components: int, ridge: float) -> Tensor:
    """Reliability of the components by rank, on particles left out, pooled over folds."""
    fold = torch.arange(len(first), device=first.device) % FOLDS
    covariance = variance = torch.zeros(n_components, dtype=first.dtype, device=first.device)
    for left_out in range(FOLDS):
        inside = fold != left_out
        directions, centre = _directions(first[inside], second[inside], n_components, ridge)
        a, b = ((half[~inside] - centre) @ directions.T for half in (first, second))
        covariance = covariance + (a * b).sum(dim=0)
        variance = variance + (a.square() + b.square()).sum(dim=0) / 2
    correlation = (covariance / variance.clamp(min=1e-12)).clamp(0.0, 0.98)
    return (2 * correlation / (1 + correlation)).clamp(min=0.01)
