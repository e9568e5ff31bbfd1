"""How the weight of the KL term and the learning rate change in the course of a training.

The course is a number from 0 to 1, counted in batches over all epochs asked for, so that a resumed training goes on
where it stopped (on a new course, if it gets more epochs).
"""

from __future__ import annotations

import math

from tomodrgn.config import TrainConfig

__all__ = ["beta_at", "full_beta", "full_learning_rate", "learning_rate_at", "rates_at"]

CYCLES = 4


def full_beta(config: TrainConfig, z_dim: int) -> float:
    """Weight of the KL divergence at its height: as given, or 0.1 / z_dim."""
    return config.beta if config.beta is not None else 0.1 / max(z_dim, 1)


def full_learning_rate(config: TrainConfig) -> float:
    """Highest learning rate: as given, or 6e-4 times the square root of the batch size."""
    return config.learning_rate if config.learning_rate is not None else 6e-4 * math.sqrt(config.batch_size)


def rates_at(course: float, config: TrainConfig, z_dim: int) -> dict[str, float]:
    """Beta and learning rate at a point of the training between 0 and 1, by their names in history.csv."""
    return {"beta": beta_at(course, config, z_dim), "learning_rate": learning_rate_at(course, config)}


def beta_at(course: float, config: TrainConfig, z_dim: int) -> float:
    """Weight of the KL divergence at a point of the training between 0 and 1.

    ``"linear"`` rises from 0 over the first half; ``"cyclical"`` does so in each of four equal parts (Fu et al. 2019,
    arXiv 1903.10145, equation 6).

    Examples
    --------
    >>> cyclical = TrainConfig(beta=1.0, beta_schedule="cyclical")
    >>> [beta_at(course, cyclical, 8) for course in (0.0, 0.0625, 0.125, 0.2, 0.25)]
    [0.0, 0.5, 1.0, 1.0, 0.0]
    """
    part = {"constant": 1.0, "linear": course, "cyclical": course * CYCLES % 1.0}[config.beta_schedule]
    return full_beta(config, z_dim) * min(1.0, 2 * part)


def learning_rate_at(course: float, config: TrainConfig) -> float:
    """Learning rate at a point of the training between 0 and 1.

    ``"linear"`` and ``"cosine"`` (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5) fall to a hundredth.
    """
    fall = {"constant": 0.0, "linear": course, "cosine": (1 - math.cos(math.pi * course)) / 2}
    return full_learning_rate(config) * (1 - 0.99 * fall[config.learning_rate_schedule])
