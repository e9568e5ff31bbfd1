"""Courses of beta and learning rate, by hand."""

from __future__ import annotations

import pytest

from tomodrgn.config import TrainConfig
from tomodrgn.training.schedules import beta_at, full_beta, full_learning_rate, learning_rate_at, rates_at


def test_options_that_are_not_given_follow_others():
    assert full_learning_rate(TrainConfig(batch_size=16)) == pytest.approx(24e-4)
    assert full_learning_rate(TrainConfig(learning_rate=0.1)) == 0.1
    assert (full_beta(TrainConfig(), 8), full_beta(TrainConfig(), 0)) == (0.1 / 8, 0.1)
    assert full_beta(TrainConfig(beta=0.0), 8) == 0.0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [2.0] * 6),
        ("linear", [0.0, 0.4, 1.0, 1.6, 2.0, 2.0]),
        ("cyclical", [0.0, 1.6, 0.0, 2.0, 0.0, 1.6]),
    ],
)
def test_beta(schedule, expected):
    config = TrainConfig(beta=2.0, beta_schedule=schedule)
    assert [beta_at(course, config, 8) for course in (0.0, 0.1, 0.25, 0.4, 0.5, 0.6)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1.0, 1.0, 1.0]), ("linear", [1.0, 0.505, 0.01]), ("cosine", [1.0, 0.505, 0.01])],
)
def test_learning_rate(schedule, expected):
    config = TrainConfig(learning_rate=1.0, learning_rate_schedule=schedule)
    assert [learning_rate_at(course, config) for course in (0.0, 0.5, 1.0)] == pytest.approx(expected)


def test_names_are_those_of_the_history():
    assert rates_at(0.5, TrainConfig(beta=1.0, learning_rate=0.1), 8) == {"beta": 1.0, "learning_rate": 0.1}
