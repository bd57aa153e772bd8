"""Optimiser and learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from graphpose.training.config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser over all parameters; vectors (batch norm, biases) without weight decay."""
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)


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
