"""The training loop.

Source: DGCN, "Implement details" (SGD, learning rate 0.001, 100 epochs, batch size 8, backbone frozen in the first
epoch) and the baseline's settings where the paper is silent (momentum 0.95, warm-up, averaged weights).
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from graphpose.checkpoint import random_states, restore_random_states, save_checkpoint
from graphpose.data.batch import Batch
from graphpose.errors import GraphposeError
from graphpose.fields.encode import encode
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork

logger = logging.getLogger(__name__)

Log = Callable[[str, float, int], None]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; the defaults are the paper's, or the baseline's where the paper is silent.

    Attributes:
        epochs: passes over the training set.
        optimizer: "sgd" (Nesterov momentum) or "adamw".
        learning_rate: at the end of the warm-up.
        momentum: of SGD; AdamW's first beta is 0.9.
        weight_decay: of the optimiser; batch-norm and bias are exempt.
        schedule: "constant", "step" (a factor of ten at each milestone) or "cosine" (to zero at the end).
        milestones: epochs of the drops of "step".
        warmup_epochs: epochs, or a fraction of one, in which the learning rate rises linearly from a hundredth.
        frozen_backbone_epochs: first epochs in which the backbone does not learn.
        freeze_batch_norm: keep the backbone's batch-norm statistics as they were pretrained.
        ema_decay: of the averaged weights, 0 for none; early on it is min(decay, (1 + n) / (10 + n)) after n steps.
        clip_norm: largest norm of the gradient, 0 for no clipping.
        precision: "float32", "bfloat16" or "float16" autocast.
        channels_last: memory format of images and weights.
        evaluate_every: epochs between two evaluations; the last epoch is always evaluated.
    """

    epochs: int = 100
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 1e-3
    momentum: float = 0.95
    weight_decay: float = 0.0
    schedule: Literal["constant", "step", "cosine"] = "step"
    milestones: tuple[int, ...] = (75, 90)
    warmup_epochs: float = 1.0
    frozen_backbone_epochs: int = 1
    freeze_batch_norm: bool = True
    ema_decay: float = 0.999
    clip_norm: float = 0.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = True
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        def require(condition: bool, message: str) -> None:
            if not condition:
                raise GraphposeError(message)

        require(self.epochs >= 1, f"epochs={self.epochs} must be at least 1")
        require(self.optimizer in ("sgd", "adamw"), f"optimizer='{self.optimizer}' must be sgd or adamw")
        require(self.learning_rate > 0, f"learning_rate={self.learning_rate} must be positive")
        require(
            self.schedule in ("constant", "step", "cosine"),
            f"schedule='{self.schedule}' must be constant, step or cosine",
        )
        require(
            self.precision in ("float32", "bfloat16", "float16"),
            f"precision='{self.precision}' must be float32, bfloat16 or float16",
        )
        require(0 <= self.ema_decay < 1, f"ema_decay={self.ema_decay} must be in [0, 1)")
        require(self.evaluate_every >= 1, f"evaluate_every={self.evaluate_every} must be at least 1")
        require(self.warmup_epochs >= 0, f"warmup_epochs={self.warmup_epochs} must not be negative")
        require(
            self.frozen_backbone_epochs < self.epochs or self.frozen_backbone_epochs == 0,
            f"frozen_backbone_epochs={self.frozen_backbone_epochs} leaves nothing of epochs={self.epochs} to train the "
            "backbone; set frozen_backbone_epochs=0 for a run that short",
        )


class Trainer:
    """Trains one network; owns optimiser, schedule, averaged weights and the checkpoint.

    Args:
        network: on the device that it trains on.
        loss: Eq. 1–3.
        loader: yields :class:`Batch`; its length is the steps of an epoch.
        config: see :class:`TrainConfig`.
        log: called as log(name, value, epoch) for every figure.
    """

    def __init__(
        self, network: PoseNetwork, loss: PoseLoss, loader: DataLoader, config: TrainConfig, log: Log = lambda *_: None
    ) -> None:
        self.network, self.loss, self.loader, self.config, self.log = network, loss, loader, config, log
        self.device = next(network.parameters()).device
        if config.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(network, config)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step / max(len(loader), 1), config)
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.ema: AveragedModel | None = None
        if config.ema_decay:
            self.ema = AveragedModel(network, multi_avg_fn=_warm_ema(config.ema_decay), use_buffers=True)
        self.epoch = 0

    @property
    def averaged(self) -> PoseNetwork:
        """The network to evaluate: averaged weights where they are kept."""
        return self.network if self.ema is None else self.ema.module  # type: ignore[return-value]

    def train_epoch(self) -> dict[str, float]:
        """One pass over the loader; returns the mean of each part of the loss and the time shares."""
        self._set_modes()
        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(self.epoch)
        sums: dict[str, float] = defaultdict(float)
        steps = images = 0
        started = waiting_since = time.perf_counter()
        for batch in tqdm(self.loader, desc=f"epoch {self.epoch + 1}", disable=None, leave=False):
            sums["seconds_waiting"] += time.perf_counter() - waiting_since
            for message in batch.errors:
                logger.warning("left out of training: %s", message)
            sums["unreadable"] += len(batch.errors)
            if len(batch):
                for name, value in self.train_step(batch).items():
                    sums[name] += value
                steps, images = steps + 1, images + len(batch)
            waiting_since = time.perf_counter()
        if steps == 0:
            raise GraphposeError("the training set gave no readable image in a whole epoch; see the messages above")
        seconds = time.perf_counter() - started
        counts = ("unreadable", "seconds_waiting")
        figures = {f"loss.{name}": value / steps for name, value in sums.items() if name not in counts}
        figures |= {
            "unreadable": sums["unreadable"],
            "waiting_share": sums["seconds_waiting"] / seconds,
            "images_per_second": images / seconds,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }
        self.epoch += 1
        for name, value in figures.items():
            self.log(f"train.{name}", value, self.epoch)
        return figures

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Forward, backward, update on one batch; returns the parts of the loss.

        Raises:
            GraphposeError: the loss is not finite; names its parts and the batch's image ids. Nothing is updated.
        """
        batch = batch.to(self.device, non_blocking=True)
        height, width = batch.images.shape[-2:]
        targets = encode(batch.keypoints, batch.scales, self.network.spec, (height, width), batch.ignore)
        images = batch.images
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(
            self.device.type, getattr(torch, self.config.precision), enabled=self.config.precision != "float32"
        ):
            outputs = self.network(images)
        parts: dict[str, Tensor] = self.loss(outputs, targets.pif, targets.paf)
        if not torch.isfinite(parts["total"]):
            values = ", ".join(f"{name} {value.item():.4g}" for name, value in parts.items())
            raise GraphposeError(
                f"the loss of epoch {self.epoch + 1} is not finite ({values}) on image ids {batch.image_ids}; look at "
                "these images, lower learning_rate or set clip_norm"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(parts["total"]).backward()
        if self.config.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        return {name: value.item() for name, value in parts.items()}

    def _set_modes(self) -> None:
        """Training mode, with the backbone frozen and its batch norm in evaluation mode where that is asked for."""
        self.network.train()
        frozen = self.epoch < self.config.frozen_backbone_epochs
        self.network.freeze_backbone(weights=frozen, statistics=frozen or self.config.freeze_batch_norm)

    def save(self, path: Path, decoder: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint from which :meth:`restore` trains on; ``decoder`` as in :func:`save_checkpoint`."""
        training = {
            "epoch": self.epoch,
            "settings": dataclasses.asdict(self.config) | {"milestones": list(self.config.milestones)},
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "scaler": self.scaler.state_dict(),
            "ema_steps": None if self.ema is None else int(self.ema.n_averaged),
            "random": random_states(),
            "graphs": self.network.graph_state(),
        }
        ema = None if self.ema is None else self.ema.module
        save_checkpoint(path, self.network, self.network.config, ema=ema, decoder=decoder, training=training)

    def restore(self, content: dict[str, Any]) -> None:
        """Take up training where the checkpoint ``content`` was saved (at the end of an epoch).

        Raises:
            GraphposeError: the checkpoint holds no state of a training run.
        """
        training = content["training"]
        if "optimizer" not in training:
            raise GraphposeError("this checkpoint holds weights only; it can be used, but not trained on")
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.last_epoch = training["schedule"]["last_epoch"]
        self.scaler.load_state_dict(training["scaler"])
        if self.ema is not None and content["ema"] is not None:
            self.ema.module.load_state_dict(content["ema"])
            self.ema.n_averaged.fill_(training["ema_steps"])
        restore_random_states(training["random"])
        self.network.set_graph_state(training["graphs"])
        self.epoch = training["epoch"]


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


def _warm_ema(decay: float) -> Callable[..., None]:
    """Average for :class:`AveragedModel` whose decay grows to ``decay``, so that the first steps are soon forgotten."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        if averaged[0].is_floating_point():  # the lists are of one type each
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + int(steps)) / (10 + int(steps))))
        else:
            torch._foreach_copy_(averaged, current)

    return update
