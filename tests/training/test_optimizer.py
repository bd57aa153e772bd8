"""The learning rate."""

import pytest

from graphpose.training.config import TrainConfig
from graphpose.training.optimizer import learning_rate_factor


def test_learning_rate_rises_then_steps_or_follows_the_cosine():
    step = TrainConfig(epochs=100, warmup_epochs=1, schedule="step", milestones=(75, 90))
    assert learning_rate_factor(0, step) == pytest.approx(0.01)
    assert learning_rate_factor(0.5, step) == pytest.approx(0.505)
    assert [learning_rate_factor(e, step) for e in (1, 74.9, 75, 90)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = TrainConfig(epochs=11, warmup_epochs=1, schedule="cosine")
    assert [learning_rate_factor(e, cosine) for e in (1, 6, 11)] == pytest.approx([1, 0.5, 0])
