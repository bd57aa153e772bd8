"""The training loop.

Source: DGCN, "Implement details" (SGD, learning rate 0.001, 100 epochs, batch size 8, backbone frozen in the first
epoch) and the baseline's settings where the paper is silent (momentum 0.95, warm-up, averaged weights).
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from graphpose.checkpoint import save_checkpoint
from graphpose.data.batch import Batch
from graphpose.data.loader import PoseLoader, worker_failures_named
from graphpose.distributed import ALONE, Ranks
from graphpose.errors import GraphposeError
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork
from graphpose.training.averaging import AveragedNetwork
from graphpose.training.config import TrainConfig
from graphpose.training.optimizer import learning_rate_factor, make_optimizer
from graphpose.training.prepare import Preparation
from graphpose.training.state import restore_training, training_state
from graphpose.training.sums import EpochSums

logger = logging.getLogger(__name__)

Log = Callable[[str, float, int], None]


class Trainer:
    """Trains one network; owns optimiser, schedule, averaged weights and the position in the data.

    Args:
        network: on the device that it trains on.
        loss: Eq. 1–3.
        loader: yields this rank's batches.
        config: see :class:`TrainConfig`.
        log: called as log(name, value, epoch) for every figure.
        ranks: the processes that train together.

    Attributes:
        epoch: epochs that are complete.
        step: batches of the current epoch that are done.
        history: figures of every complete epoch.
        settled: between two steps, where everything that :meth:`save` writes belongs together.
    """

    def __init__(
        self,
        network: PoseNetwork,
        loss: PoseLoss,
        loader: PoseLoader,
        config: TrainConfig,
        log: Log = lambda *_: None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.network, self.loss, self.loader, self.config, self.log = network, loss, loader, config, log
        self.ranks = ranks
        self.device = next(network.parameters()).device
        if config.sync_batch_norm and ranks.several:
            _synchronise_batch_norms(network)
        if config.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prepare = Preparation(self.device, network.spec, config.channels_last)
        self.optimizer = make_optimizer(network, config)
        self.steps_per_epoch = loader.steps_per_epoch
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step / self.steps_per_epoch, config)
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.ema = AveragedNetwork(network, config.ema_decay) if config.ema_decay else None
        self.epoch = self.step = 0
        self.sums = EpochSums(self.device)
        self.history: list[dict[str, float]] = []
        self.settled = True
        self._model: nn.Module = network
        self._wrapped_for: bool | None = None

    @property
    def averaged(self) -> PoseNetwork:
        """The network to evaluate: averaged weights where they are kept."""
        return self.network if self.ema is None else self.ema.module  # type: ignore[return-value]

    def train_epoch(self, after_step: Callable[[], None] = lambda: None) -> dict[str, float]:
        """One pass over the loader, or the rest of one that was interrupted.

        Args:
            after_step: called between two steps; may save, or end the epoch by an exception.

        Returns:
            The mean of each part of the loss (loss.total, …), images_per_second, unreadable (images), learning_rate,
            waiting_share (of the time, for the loader) and outside_share (of the time, for everything but forward,
            backward and optimiser; the waiting is in it).

        Raises:
            GraphposeError: a loss that is not finite, a loader process that died, no readable image in all the epoch.
        """
        self._set_modes()
        self.loader.set_epoch(self.epoch, self.step)
        self.sums.start()
        with worker_failures_named():
            for batch in self._batches():
                for message in batch.errors:
                    logger.warning("left out of training: %s", message)
                self.sums.unreadable += len(batch.errors)
                if len(batch) or self.ranks.several:
                    self.train_step(batch)
                self.step += 1
                after_step()
        figures = self.sums.figures(self.ranks.total, self.ranks.world_size)
        figures["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        self.epoch, self.step, self.sums = self.epoch + 1, 0, EpochSums(self.device)
        self.history.append(figures)
        for name, value in figures.items():
            self.log(f"train.{name}", value, self.epoch)
        return figures

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """Forward, backward, update on one batch; returns the parts of the loss, as far as this rank's images go.

        Raises:
            GraphposeError: the loss is not finite; names its parts and the batch's image ids. On a CPU nothing is
                updated then; on a GPU a few steps may have been, see :class:`EpochSums`.
        """
        self.settled = False
        image_ids = batch.image_ids
        images, pif, paf = self.prepare(batch if len(batch) else _nothing_known(self.network))
        with self.sums.learning():
            self.optimizer.zero_grad(set_to_none=True)
            parts = self._gradients(images, pif, paf, image_ids)
            if self.config.clip_norm:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update()
        self.settled = True
        return parts

    def _gradients(self, images: Tensor, pif: Tensor, paf: Tensor, image_ids: list[int]) -> dict[str, Tensor]:
        """Gradients of the loss of the whole (global) batch, which may pass the network in several parts."""
        size = math.ceil(len(images) / self.config.accumulate)
        shared = self.ranks.several or size < len(images)
        counts: dict[str, Tensor] | None = None
        parts: dict[str, Tensor] = {}
        for begin in range(0, len(images), size):
            part = slice(begin, begin + size)
            last = begin + size >= len(images)
            with contextlib.nullcontext() if last or not self.ranks.several else self._model.no_sync():  # type: ignore[operator]
                with torch.autocast(
                    self.device.type, getattr(torch, self.config.precision), enabled=self.config.precision != "float32"
                ):
                    outputs = self._model(images[part])
                if shared and counts is None:
                    counts = self.ranks.share_counts(self.loss.counts(outputs, pif, paf, len(image_ids)))
                losses = self.loss(outputs, pif[part], paf[part], counts)
                parts = {name: parts.get(name, 0) + value.detach() for name, value in losses.items()}
                if last:
                    self.sums.add(parts, image_ids)  # before anything is updated
                self.scaler.scale(losses["total"]).backward()
        return parts

    def _batches(self) -> Iterator[Batch]:
        """Batches that are left of the epoch, as many on each rank; times the waiting for them."""
        progress = tqdm(
            total=self.steps_per_epoch, initial=self.step, desc=f"epoch {self.epoch + 1}", leave=False,
            disable=None if self.ranks.is_first else True,
        )  # fmt: skip
        batches = iter(self.loader)
        with progress:
            for _ in range(self.step, self.steps_per_epoch):
                since = time.perf_counter()
                batch = next(batches, None)
                self.sums.seconds_waiting += time.perf_counter() - since
                yield Batch.nothing() if batch is None else batch  # ranks may differ by one batch
                progress.update()

    def _set_modes(self) -> None:
        """Training mode, with the backbone frozen and its batch norm in evaluation mode where that is asked for."""
        self.network.train()
        frozen = self.epoch < self.config.frozen_backbone_epochs
        self.network.freeze_backbone(weights=frozen, statistics=frozen or self.config.freeze_batch_norm)
        if self._wrapped_for != frozen:  # gradients of other parameters are exchanged from here on
            self._model = self.ranks.wrap(self.network)
            if self.config.compile:
                self._model = torch.compile(self._model)  # type: ignore[assignment]
            self._wrapped_for = frozen

    def save(
        self,
        path: Path,
        decoder: Mapping[str, Any] | None = None,
        *,
        configuration: Mapping[str, Any] | None = None,
        keep_previous: bool = False,
    ) -> None:
        """Write a checkpoint from which :meth:`restore` trains on; to be called on all ranks, rank 0 writes.

        Args:
            path: the file.
            decoder: as in :func:`save_checkpoint`.
            configuration: plain values that the caller wants back when the run is resumed.
            keep_previous: as in :func:`save_checkpoint`.

        Raises:
            GraphposeError: the file cannot be written, or the weights are not finite and not worth keeping.
        """
        state = training_state(self)
        if state is None:
            return
        norms = torch.stack(torch._foreach_norm([p.detach() for p in self.network.parameters()]))
        if not torch.isfinite(norms).all():
            raise GraphposeError(
                f"the weights are not finite after epoch {self.epoch} and {self.step} steps, though the loss was; "
                "lower learning_rate or set clip_norm"
            )
        training = state | {"configuration": dict(configuration or {})}
        ema = None if self.ema is None else self.ema.module
        save_checkpoint(
            path, self.network, self.network.config, ema=ema, decoder=decoder, training=training,
            keep_previous=keep_previous,
        )  # fmt: skip

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take up training where the checkpoint ``content`` was saved; see :func:`restore_training`."""
        restore_training(self, content)


def _nothing_known(network: PoseNetwork) -> Batch:
    """A batch of one empty image of which nothing is known: no loss, for a rank that has no image in a step."""
    K, side = network.spec.skeleton.num_keypoints, 64
    return Batch(
        images=torch.zeros(1, 3, side, side),
        keypoints=torch.zeros(1, 0, K, 3),
        scales=torch.zeros(1, 0),
        ignore=torch.ones(1, side, side, dtype=torch.bool),
        to_original=torch.zeros(1, 2, 3, dtype=torch.float64),
        original_sizes=[],
        image_ids=[],
        file_names=[],
    )


def _synchronise_batch_norms(network: PoseNetwork) -> None:
    """Batch norms of all ranks as one; the parameters stay the same objects."""
    from timm.layers import convert_sync_batchnorm  # torch's own loses the activation in timm's batch norms

    if next(network.parameters()).device.type != "cuda":
        raise GraphposeError("sync_batch_norm=True needs CUDA devices; on CPUs leave it False")
    convert_sync_batchnorm(network)
