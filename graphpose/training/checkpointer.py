"""When checkpoints are written: after an epoch, every so often within one, and before a run stops."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from graphpose.training.stop import Interrupted, StopRequest
from graphpose.training.trainer import Trainer

T = TypeVar("T")
LEAST_SECONDS = 10.0  # between the checkpoints of two epochs
NOTHING, SAVE, STOP = range(3)  # what the ranks agree on; the largest wins


class Checkpointer:
    """Writes a trainer's checkpoint when it is due.

    Args:
        trainer: whose state is written; its configuration says how often.
        path: of the checkpoint; the one before the last is kept beside it.
        decoder: see :func:`graphpose.checkpoint.save_checkpoint`.
        configuration: of the run, to be taken from the checkpoint where it is resumed.
        stop: asks for a checkpoint and the end of the run.
        card: of the weights that training began from, see :func:`graphpose.checkpoint.save_checkpoint`.
    """

    def __init__(
        self,
        trainer: Trainer,
        path: Path,
        decoder: Mapping[str, Any],
        configuration: Mapping[str, Any],
        stop: StopRequest,
        card: Mapping[str, str] | None = None,
    ) -> None:
        self.trainer, self.path, self.stop = trainer, path, stop
        self.decoder, self.configuration, self.card = decoder, configuration, card
        self._saved = time.monotonic()

    def save(self, path: Path | None = None) -> None:
        """Write the checkpoint now, or one of the same state to another ``path``."""
        self.trainer.save(
            path or self.path, self.decoder, configuration=self.configuration, card=self.card,
            keep_previous=path is None,
        )  # fmt: skip
        self._saved = time.monotonic()

    def after_step(self) -> None:
        """To be called between two steps, on all ranks.

        Raises:
            Interrupted: the run was told to stop; its checkpoint is written.
        """
        config = self.trainer.config
        due = 0 < config.checkpoint_every <= time.monotonic() - self._saved or (
            config.checkpoint_every_steps and self.trainer.step % config.checkpoint_every_steps == 0
        )
        action = self.trainer.ranks.agree(STOP if self.stop.signal_number else SAVE if due else NOTHING)
        if action != NOTHING:
            self.save()
        if action == STOP:
            self._interrupt()

    def after_epoch(self) -> None:
        """To be called when an epoch is complete, on all ranks; epochs of a moment do not get a checkpoint each."""
        due = time.monotonic() - self._saved >= LEAST_SECONDS
        if self.trainer.ranks.agree(SAVE if due else NOTHING) == SAVE:
            self.save()

    def after_failure(self) -> None:
        """To be called where an epoch failed: writes the last good state, if it is whole.

        It is not within a step, nor where other ranks, which may be gone, have to give their part of it.
        """
        if not self.trainer.in_step and not self.trainer.ranks.is_distributed:
            self.save()

    def guard(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches of an evaluation, for which a checkpoint was written before, until the run is told to stop."""
        for batch in batches:
            if self.stop.signal_number:
                self._interrupt()
            yield batch

    def _interrupt(self) -> None:
        number = self.stop.signal_number or signal.SIGTERM  # another rank may have got it first
        raise Interrupted(
            f"stopped by {signal.Signals(number).name} after epoch {self.trainer.epoch} and {self.trainer.step} steps; "
            f"the checkpoint is '{self.path}'",
            number,
        )
