"""Settings of a training run."""

import pytest

from graphpose.errors import GraphposeError
from graphpose.training.config import TrainConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"optimizer": "adam"}, "optimizer='adam' must be sgd or adamw"),
        ({"schedule": "linear"}, "schedule='linear'"),
        ({"precision": "fp8"}, "precision='fp8'"),
        ({"ema_decay": 1.0}, "ema_decay=1.0"),
        ({"epochs": 1, "frozen_backbone_epochs": 1}, "frozen_backbone_epochs=1 leaves nothing of epochs=1"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes, message):
    with pytest.raises(GraphposeError, match=message):
        TrainConfig(**changes)
