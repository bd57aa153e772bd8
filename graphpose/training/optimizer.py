"""Optimiser and learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from graphpose.nn.network import GRAPH_MODULES
from graphpose.training.config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser over all parameters; vectors (batch norm, biases) without weight decay. Fused on CUDA.

    Args:
        network: a :class:`~graphpose.nn.network.PoseNetwork`.
        config: of the run.

    Returns:
        Two parameter groups; with a ``baseline_learning_rate_factor`` two for the DGCMs, where there are any, and then
        two for trunk and heads.
    """
    factor = config.baseline_learning_rate_factor
    if factor == 1.0:
        groups = _decayed_and_not(network.parameters(), config)
    else:
        dgcms: list[nn.Parameter] = []
        baseline: list[nn.Parameter] = []
        for name, parameter in network.named_parameters():
            (dgcms if name.split(".")[0] in GRAPH_MODULES else baseline).append(parameter)
        groups = _decayed_and_not(dgcms, config) if dgcms else []
        groups += [group | {"lr": factor * config.learning_rate} for group in _decayed_and_not(baseline, config)]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    # One kernel for all tensors on CUDA; on a CPU torch's loop is as fast and its bits are those of earlier runs. With
    # float16 torch leaves the momentum uninitialised where the scaler skips the first step.
    fused = next(network.parameters()).device.type == "cuda" and config.precision != "float16"
    return torch.optim.SGD(
        groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0, fused=fused
    )


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """As ``optimizer.load_state_dict``, but for the kernel: that one stays which suits the device it is on now."""
    fused = [group["fused"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, fused, strict=True):
        group["fused"] = own


def _decayed_and_not(parameters: Iterable[nn.Parameter], config: TrainConfig) -> list[dict[str, Any]]:
    """Two parameter groups: matrices and convolutions, and what weight decay is not for."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def learning_rate_factor(epoch: float, config: TrainConfig) -> float:
    """Learning rate at a (fractional) epoch, as a fraction of ``config.learning_rate``."""
    if epoch < config.warmup_epochs:
        return 0.01 + 0.99 * epoch / config.warmup_epochs
    if config.schedule == "step":
        return 0.1 ** sum(epoch >= milestone for milestone in config.milestones)
    if config.schedule == "cosine":
        progress = (epoch - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return 1.0
