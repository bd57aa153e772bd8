"""Defaults of every key: the paper's settings, or the baseline's where the paper is silent.

Keys of the network, of training and of the data are flat (``adjacency=dynamic epochs=3``); those of the loss, the
augmentation, crowds, the decoder and the skeleton are grouped (``loss.pif_offset=2 augment.rotation=10``).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.configs.data import DataConfig, SkeletonConfig
from graphpose.data.config import AugmentConfig, CrowdConfig
from graphpose.fields.config import DecoderConfig
from graphpose.nn.config import LossConfig, PoseNetworkConfig
from graphpose.training.config import TrainConfig


def _values(config: Any) -> dict[str, Any]:
    """Plain values of a configuration, tuples as lists: Sacred writes JSON."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


GROUPS: dict[str, dict[str, Any]] = {
    "loss": _values(LossConfig()),
    "augment": _values(AugmentConfig()),
    "crowd": _values(CrowdConfig()),
    "decoder": _values(DecoderConfig(join_fragments=True)),
    "skeleton": _values(SkeletonConfig()),
}
PAPER: dict[str, Any] = _values(PoseNetworkConfig()) | _values(TrainConfig()) | _values(DataConfig()) | GROUPS
