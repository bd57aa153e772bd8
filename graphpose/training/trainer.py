"""The training loop.

Source: DGCN, "Implement details" (SGD, learning rate 0.001, 100 epochs, batch size 8, backbone frozen in the first
epoch) and the baseline's settings where the paper is silent (momentum 0.95, warm-up, averaged weights).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from graphpose.checkpoint import save_checkpoint
from graphpose.data.batch import Batch
from graphpose.data.loader import PoseLoader
from graphpose.distributed import SINGLE_PROCESS, Ranks
from graphpose.errors import GraphposeError
from graphpose.nn.compilation import compiled, compiler_failures_named
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import NetworkOutputs, PoseNetwork
from graphpose.training.backends import backends
from graphpose.training.config import TrainConfig
from graphpose.training.ema import ModelEma
from graphpose.training.meter import EpochMeter
from graphpose.training.optimizer import learning_rate_factor, load_optimizer_state, make_optimizer
from graphpose.training.random_state import random_states, restore_random_states
from graphpose.training.target_encoder import TargetEncoder

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
        in_step: a step has begun and is not complete; weights, optimiser and schedule then do not belong together.

    Raises:
        GraphposeError: batch norms are to be synchronised on CPUs.

    Source: DGCN, "Implement details"; the baseline where the paper is silent.
    """

    def __init__(
        self,
        network: PoseNetwork,
        loss: PoseLoss,
        loader: PoseLoader,
        config: TrainConfig,
        log: Log = lambda *_: None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self.network, self.loss, self.loader, self.config, self.log = network, loss, loader, config, log
        self.ranks = ranks
        self.device = next(network.parameters()).device
        if config.sync_batch_norm and ranks.is_distributed:
            _synchronise_batch_norms(network)
        if config.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.target_encoder = TargetEncoder(self.device, network.spec, config.channels_last)
        self.optimizer = make_optimizer(network, config)
        self.steps_per_epoch = loader.steps_per_epoch
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step / self.steps_per_epoch, config)
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.ema = ModelEma(network, config.ema_decay) if config.ema_decay else None
        self.epoch = self.step = 0
        self.meter = EpochMeter(self.device)
        self.history: list[dict[str, float]] = []
        self.in_step = False
        self._model: nn.Module = network
        self._wrapped_for: bool | None = None

    @property
    def averaged(self) -> PoseNetwork:
        """The network to evaluate: averaged weights where they are kept."""
        return self.network if self.ema is None else self.ema.module  # type: ignore[return-value]

    @property
    def finished(self) -> bool:
        """Whether all epochs are complete."""
        return self.epoch >= self.config.epochs

    @property
    def evaluation_due(self) -> bool:
        """Whether the epoch that ended is to be evaluated and was not yet."""
        return (
            bool(self.history)
            and self.step == 0
            and (self.finished or self.epoch % self.config.evaluate_every == 0)
            and not any(name.startswith("val.") for name in self.history[-1])
        )

    def record_evaluation(self, metrics: Mapping[str, float]) -> None:
        """Metrics of the last complete epoch into its figures, under "val." and their names, and to the log."""
        figures = {f"val.{name}": value for name, value in metrics.items()}
        self.history[-1] |= figures
        for name, value in figures.items():
            self.log(name, value, self.epoch)

    def is_best(self, metric: str) -> bool:
        """Whether the last evaluation's ``metric`` (such as "AP") is higher than that of every one before it."""
        *before, last = (figures[f"val.{metric}"] for figures in self.history if f"val.{metric}" in figures)
        return last > max(before, default=-1.0)

    def train_epoch(self, after_step: Callable[[], None] = lambda: None) -> dict[str, float]:
        """One pass over the loader, or the rest of one that was interrupted.

        Args:
            after_step: called between two steps; may save, or end the epoch by an exception.

        Returns:
            The mean of each part of the loss (loss.total, …), images_per_second, unreadable (images), learning_rate,
            waiting_share (of the time, for the loader) and outside_share (of the time, for everything but forward,
            backward and optimiser; the waiting is in it). Of a mix also <set>.images and <set>.loss for each set.

        Raises:
            GraphposeError: a loss that is not finite, a loader process that died, no readable image in all the epoch,
                nothing to compile with where that is asked for.
        """
        self._set_modes()
        self.loader.set_epoch(self.epoch, self.step)
        self.meter.start()
        with compiler_failures_named(), backends(self.config, self.device):
            for batch in self._batches():
                for message in batch.errors:
                    logger.warning("left out of training: %s", message)
                self.meter.unreadable += len(batch.errors)
                if len(batch) or self.ranks.is_distributed:
                    self.train_step(batch)
                self.step += 1
                after_step()
        figures = self.meter.compute(self.ranks)
        figures["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        self.epoch, self.step, self.meter = self.epoch + 1, 0, EpochMeter(self.device)
        self.history.append(figures)
        for name, value in figures.items():
            self.log(f"train.{name}", value, self.epoch)
        return figures

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """Forward, backward, update on one batch; returns the parts of the loss, as far as this rank's images go.

        Raises:
            GraphposeError: the loss is not finite; names its parts and the batch's image ids. On a CPU nothing is
                updated then; on a GPU a few steps may have been, see :class:`EpochMeter`.
        """
        self.in_step = True
        image_ids = batch.image_ids
        images, pif, paf = self.target_encoder(batch if len(batch) else _dummy_batch(self.network))
        with self.meter.learning():
            self.optimizer.zero_grad(set_to_none=True)
            parts = self._gradients(images, pif, paf, image_ids, batch.sources)
            if self.config.clip_norm:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
            updated = self._update()
        if updated:
            self.schedule.step()
            if self.ema is not None:
                self.ema.update(self.network)
        self.in_step = False
        return parts

    def _update(self) -> bool:
        """The optimiser's step; False where float16 overflowed, which leaves the weights and lowers the scale."""
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before  # with float16 alone the device is waited for; else both are 1

    def _gradients(
        self, images: Tensor, pif: Tensor, paf: Tensor, image_ids: list[int], sources: Sequence[str]
    ) -> dict[str, Tensor]:
        """Gradients of the loss of the whole (global) batch, which may pass the network in several parts."""
        slices = self._slices(len(images))
        shared = self.ranks.is_distributed or len(slices) > 1
        counts: dict[str, Tensor] | None = None
        parts: dict[str, Tensor] = {}
        for part in slices:
            last = part is slices[-1]
            some, some_pif, some_paf = images[part], pif[part], paf[part]
            if not len(some):  # an image of which nothing is known: no loss, but a pass like those of the others
                some = torch.zeros_like(images[:1])
                some_pif, some_paf = (torch.full_like(target[:1], torch.nan) for target in (pif, paf))
            with contextlib.nullcontext() if last or not self.ranks.is_distributed else self._model.no_sync():  # type: ignore[operator]
                with torch.autocast(
                    self.device.type, getattr(torch, self.config.precision), enabled=self.config.precision != "float32"
                ):
                    outputs = self._model(some)
                if shared and counts is None:
                    counts = self.ranks.share_counts(self.loss.counts(outputs, pif, paf, len(image_ids)))
                losses = self.loss(outputs, some_pif, some_paf, counts)
                self._update_sets(outputs, some_pif, some_paf, sources[part])
                parts = {name: parts.get(name, 0) + value.detach() for name, value in losses.items()}
                if last:
                    self.meter.update(parts, image_ids)  # before anything is updated
                self.scaler.scale(losses["total"]).backward()
        return parts

    @torch.no_grad()
    def _update_sets(self, outputs: NetworkOutputs, pif: Tensor, paf: Tensor, sources: Sequence[str]) -> None:
        """The loss of each data set's images, as if they were a batch of their own; nothing without names of sets."""
        for name in sorted(set(sources) - {""}):
            own = [i for i, source in enumerate(sources) if source == name]

            def rows(tensor: Tensor, own: list[int] = own) -> Tensor:
                return torch.stack([tensor[i] for i in own])  # an index would wait for a CUDA device

            of_set: NetworkOutputs = {
                "pif": rows(outputs["pif"]),
                "paf": rows(outputs["paf"]),
                "intermediate": [rows(logits) for logits in outputs["intermediate"]],
            }
            self.meter.update_set(name, len(own), self.loss(of_set, rows(pif), rows(paf))["total"])

    def _slices(self, count: int) -> list[slice]:
        """The parts in which so many images pass the network; empty ones may be among those of several ranks.

        Ranks make as many passes as each other, however many of their images could be read: synchronised batch norms
        meet in every one.
        """
        parts = self.config.accumulate
        if self.ranks.is_distributed:
            return [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]
        size = math.ceil(count / parts)
        return [slice(begin, begin + size) for begin in range(0, count, size)]

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
                self.meter.seconds_waiting += time.perf_counter() - since
                yield Batch.empty() if batch is None else batch  # ranks may differ by one batch
                progress.update()

    def _set_modes(self) -> None:
        """Training mode, with the backbone frozen and its batch norm in evaluation mode where that is asked for."""
        self.network.train()
        frozen = self.epoch < self.config.frozen_backbone_epochs
        self.network.freeze_backbone(
            weights=frozen, statistics=frozen or self.config.freeze_batch_norm, up_to=self.config.frozen_stride
        )
        if self._wrapped_for != frozen:  # gradients of other parameters are exchanged from here on
            self._model = self.ranks.wrap(self.network)
            if self.config.compile:
                self._model = compiled(self._model)
            self._wrapped_for = frozen

    def save(
        self,
        path: Path,
        decoder: Mapping[str, Any] | None = None,
        *,
        configuration: Mapping[str, Any] | None = None,
        card: Mapping[str, str] | None = None,
        keep_previous: bool = False,
    ) -> None:
        """Write a checkpoint from which :meth:`restore` trains on; to be called on all ranks, rank 0 writes.

        Args:
            path: the file.
            decoder: as in :func:`save_checkpoint`.
            configuration: plain values that the caller wants back when the run is resumed.
            card: as in :func:`save_checkpoint`.
            keep_previous: as in :func:`save_checkpoint`.

        Raises:
            GraphposeError: the file cannot be written, or the weights are not finite and not worth keeping.
        """
        state = self.state_dict()
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
            path, self.network, self.network.config, ema=ema, decoder=decoder, training=training, card=card,
            keep_previous=keep_previous,
        )  # fmt: skip

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take up training where the checkpoint ``content`` was saved, between two epochs or in the middle of one.

        Raises:
            GraphposeError: see :meth:`load_state_dict`.
        """
        self.load_state_dict(content["training"])
        self.network.load_state_dict(content["network"])
        if self.ema is not None and content["ema"] is not None:
            self.ema.module.load_state_dict(content["ema"])

    def state_dict(self) -> dict[str, Any] | None:
        """Everything but the weights, as plain values and tensors, on rank 0; None on other ranks.

        Every rank must call it: random states and sums differ from rank to rank.

        Raises:
            GraphposeError: a loss of the last steps is not finite.
        """
        ranks = self.ranks.gather(
            {
                "random": random_states(self.device),
                "graphs": self.network.graph_state(),
                "sums": self.meter.state_dict(),
            }
        )
        if ranks is None:
            return None
        settings = dataclasses.asdict(self.config)
        return {
            "epoch": self.epoch,
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "settings": settings | {"milestones": list(self.config.milestones)},
            "optimizer": self.optimizer.state_dict(),
            "updates": self.schedule.last_epoch,
            "scaler": self.scaler.state_dict(),
            "ema_steps": None if self.ema is None else self.ema.steps,
            "ranks": ranks,
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`; the weights are the caller's to load, see :meth:`restore`.

        With as many ranks and steps per epoch as before, everything that follows is what would have followed: on a CPU
        with as many threads bit for bit, on CUDA as far as the device adds in the same order, which it does with
        ``deterministic``. With others the position in the epoch is kept to the nearest step before it and the random
        states begin anew.

        Args:
            state: what rank 0 got, on every rank.

        Raises:
            GraphposeError: the state is not that of a training run.
        """
        if "optimizer" not in state:
            raise GraphposeError("this checkpoint holds weights only; it can be used, but not trained on")
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None and state["ema_steps"] is not None:
            self.ema.steps = state["ema_steps"]
        self.epoch = state["epoch"]
        self.history = [dict(figures) for figures in state["history"]]
        if len(state["ranks"]) == self.ranks.world_size and state["steps_per_epoch"] == self.steps_per_epoch:
            self.step, self.schedule.last_epoch = state["step"], state["updates"]
            own = state["ranks"][self.ranks.rank]
            self.meter.load_state_dict(own["sums"])
            restore_random_states(own["random"], self.device)
            self.network.set_graph_state(own["graphs"])
            return
        factor = self.steps_per_epoch / state["steps_per_epoch"]
        self.step = int(state["step"] * factor)
        self.schedule.last_epoch = int(state["updates"] * factor)
        logger.warning(
            "the checkpoint is of %d rank(s) and %d steps per epoch, this run has %d and %d: it goes on from the same "
            "place, but not bit for bit",
            len(state["ranks"]),
            state["steps_per_epoch"],
            self.ranks.world_size,
            self.steps_per_epoch,
        )


def _dummy_batch(network: PoseNetwork) -> Batch:
    """A batch of one empty image of which nothing is known: no loss, for a rank that has no image in a step."""
    K, side = network.spec.skeleton.num_keypoints, 64
    cells = side // network.backbone.input_stride
    return Batch(
        images=torch.zeros(1, network.backbone.input_channels, cells, cells),
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
