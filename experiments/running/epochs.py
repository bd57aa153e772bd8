"""One epoch after the other: training, figures, checkpoints."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

from sacred.run import Run

from experiments.running.records import require_observers
from graphpose.errors import GraphposeError
from graphpose.inference.evaluate import Evaluation, metrics_line
from graphpose.metrics.protocol import headline_names
from graphpose.nn.relations import append_weights
from graphpose.training.checkpointer import Checkpointer
from graphpose.training.trainer import Trainer

RELATIONS = "relations.npz"


def train_epoch(trainer: Trainer, checkpointer: Checkpointer, run: Run) -> None:
    """One epoch and its checkpoint; where it fails between two steps, a checkpoint of the last good one."""

    def after_step() -> None:
        require_observers(run)
        checkpointer.after_step()

    try:
        trainer.train_epoch(after_step)
        run.info["history"] = copy.deepcopy(trainer.history)
        checkpointer.after_epoch()
    except GraphposeError:
        checkpointer.after_failure()
        raise


def append_relations(trainer: Trainer, folder: Path) -> None:
    """W_d of every graph layer after each epoch, for analysis/learned_relations.ipynb."""
    if trainer.ranks.is_first and trainer.step == 0:
        append_weights(folder / RELATIONS, trainer.averaged, trainer.epoch)


def copy_relations(trainer: Trainer, before: Path, folder: Path) -> None:
    """W_d of the epochs that a resumed run made in another folder."""
    if trainer.ranks.is_first and before != folder and (before / RELATIONS).exists():
        shutil.copy(before / RELATIONS, folder / RELATIONS)


def log_evaluation(evaluation: Evaluation, trainer: Trainer, checkpointer: Checkpointer, folder: Path) -> None:
    """Figures of an evaluation into the history and the run's record; the best network so far into best.pt."""
    metrics = trainer.ranks.broadcast(evaluation.metrics)
    best = headline_names(metrics)[0]  # AP, or MPII's mAP
    trainer.record_evaluation(metrics)
    checkpointer.save()
    if trainer.is_best(best):
        checkpointer.save(folder / "best.pt")


def print_epoch(trainer: Trainer) -> None:
    """One line for the last complete epoch."""
    figures = trainer.history[-1]
    line = (
        f"epoch {trainer.epoch}/{trainer.config.epochs}  loss {figures['loss.total']:.3f}  "
        f"{figures['images_per_second']:.1f} images/s  waiting {100 * figures['waiting_share']:.0f} %  "
        f"{figures['seconds']:.0f} s"
    )
    metrics = {name.removeprefix("val."): value for name, value in figures.items() if name.startswith("val.")}
    if metrics:
        line += f"  |  {metrics_line(metrics)}"
    print(line, flush=True)
