"""What a checkpoint holds to train on from, and how it is taken up again."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphpose.errors import GraphposeError
from graphpose.training.random_state import random_states, restore_random_states

if TYPE_CHECKING:
    from graphpose.training.trainer import Trainer

logger = logging.getLogger(__name__)


def training_state(trainer: Trainer) -> dict[str, Any] | None:
    """Plain values and tensors that :func:`restore_training` takes up, on rank 0; None on other ranks.

    Every rank must call it: random states differ from rank to rank.
    """
    trainer.sums.read()
    ranks = trainer.ranks.gather({"random": random_states(), "graphs": trainer.network.graph_state()})
    sums = trainer.ranks.gather(trainer.sums.state_dict())
    if ranks is None or sums is None:
        return None
    settings = dataclasses.asdict(trainer.config)
    return {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "steps_per_epoch": trainer.steps_per_epoch,
        "settings": settings | {"milestones": list(trainer.config.milestones)},
        "optimizer": trainer.optimizer.state_dict(),
        "updates": trainer.schedule.last_epoch,
        "scaler": trainer.scaler.state_dict(),
        "ema_steps": None if trainer.ema is None else trainer.ema.steps,
        "ranks": [own | {"sums": own_sums} for own, own_sums in zip(ranks, sums, strict=True)],
        "history": trainer.history,
    }


def restore_training(trainer: Trainer, content: Mapping[str, Any]) -> None:
    """Take up training where the checkpoint ``content`` was saved, between two epochs or in the middle of one.

    With as many ranks and images per batch as before, everything that follows is what would have followed. With others
    the position in the epoch is kept to the nearest step before it and the random states begin anew.

    Raises:
        GraphposeError: the checkpoint holds no state of a training run.
    """
    training = content["training"]
    if "optimizer" not in training:
        raise GraphposeError("this checkpoint holds weights only; it can be used, but not trained on")
    trainer.network.load_state_dict(content["network"])
    trainer.optimizer.load_state_dict(training["optimizer"])
    trainer.scaler.load_state_dict(training["scaler"])
    if trainer.ema is not None and content["ema"] is not None:
        trainer.ema.module.load_state_dict(content["ema"])
        trainer.ema.steps = training["ema_steps"]
    trainer.epoch = training["epoch"]
    trainer.history = [dict(figures) for figures in training["history"]]
    same = len(training["ranks"]) == trainer.ranks.world_size and training["steps_per_epoch"] == trainer.steps_per_epoch
    if same:
        trainer.step, trainer.schedule.last_epoch = training["step"], training["updates"]
        own = training["ranks"][trainer.ranks.rank]
        trainer.sums.load_state_dict(own["sums"])
        restore_random_states(own["random"])
        trainer.network.set_graph_state(own["graphs"])
    else:
        factor = trainer.steps_per_epoch / training["steps_per_epoch"]
        trainer.step = int(training["step"] * factor)
        trainer.schedule.last_epoch = int(training["updates"] * factor)
        logger.warning(
            "the checkpoint is of %d rank(s) and %d steps per epoch, this run has %d and %d: it goes on from the same "
            "place, but not bit for bit",
            len(training["ranks"]),
            training["steps_per_epoch"],
            trainer.ranks.world_size,
            trainer.steps_per_epoch,
        )
