"""Running figures of an epoch: the parts of the loss, images and seconds."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpose.distributed import SINGLE_PROCESS, Ranks
from graphpose.errors import GraphposeError

READ_EVERY = 20  # steps on a device whose results must be waited for


class EpochMeter:
    """Sums over the steps of one epoch, and the figures that come of them.

    Reading a number from a CUDA device stops it until all work before is done. So parts of the loss stay on the device
    and are read once in :data:`READ_EVERY` steps, which is when a loss that is not finite is found; on a CPU at once.

    Args:
        device: that the losses come from.

    Attributes:
        parts: sum of each part of the loss that was read.
        steps: updates.
        images: that trained this rank's network.
        unreadable: images that were left out.
        seconds: since :meth:`start`, over all stretches of the epoch.
        seconds_waiting: of them, for the loader.
        seconds_learning: of them, in forward, backward and optimiser.
        sets: of each data set of a mix that was named, its images and the sum of their losses.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.parts: dict[str, float] = {}
        self.steps = self.images = self.unreadable = 0
        self.seconds = self.seconds_waiting = self.seconds_learning = 0.0
        self.sets: dict[str, tuple[int, Tensor | float]] = {}
        self._unread: list[tuple[tuple[str, ...], Tensor, list[int]]] = []
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._since: float | None = None  # the clock stands

    def update(self, parts: Mapping[str, Tensor], image_ids: Sequence[int]) -> None:
        """Add the parts of one step's loss.

        Args:
            parts: scalars on the device, under the same names in every step.
            image_ids: of the batch.

        Raises:
            GraphposeError: a loss is not finite, of this step or of one that was not read yet.
        """
        values = torch.stack([value.detach() for value in parts.values()])
        self._unread.append((tuple(parts), values, list(image_ids)))
        self.steps += 1
        self.images += len(image_ids)
        if self.device.type == "cpu" or len(self._unread) >= READ_EVERY:
            self.flush()

    def update_set(self, name: str, images: int, loss: Tensor) -> None:
        """Add the loss of those images of one step that are of the data set ``name``, a scalar on the device."""
        before = self.sets.get(name, (0, 0.0))
        self.sets[name] = before[0] + images, before[1] + images * loss.detach().double()

    def flush(self) -> None:
        """Read what is still on the device.

        Raises:
            GraphposeError: a loss is not finite; names its parts and the image ids of its batch. So does every later
                reading: the state is not one to go on from.
        """
        if self._unread:
            rows = torch.stack([values for _, values, _ in self._unread]).double().tolist()
            for (names, _, image_ids), row in zip(self._unread, rows, strict=True):
                if not all(map(math.isfinite, row)):
                    values = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, row, strict=True))
                    raise GraphposeError(
                        f"the loss is not finite ({values}) on image ids {image_ids}; look at these images, lower "
                        "learning_rate or set clip_norm"
                    )
            for (names, _, _), row in zip(self._unread, rows, strict=True):
                for name, value in zip(names, row, strict=True):
                    self.parts[name] = self.parts.get(name, 0.0) + value
            self._unread.clear()
        for begin, end in self._events:
            end.synchronize()
            self.seconds_learning += begin.elapsed_time(end) / 1000
        self._events.clear()

    def start(self) -> None:
        """Start the clock, at the begin of an epoch or where it is resumed."""
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def learning(self) -> Iterator[None]:
        """Times forward, backward and optimiser."""
        if self.device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            stream = torch.cuda.current_stream(self.device)  # the current device may be another
            begin.record(stream)
            yield
            end.record(stream)
            self._events.append((begin, end))
        else:
            started = time.perf_counter()
            yield
            self.seconds_learning += time.perf_counter() - started

    def state_dict(self) -> dict[str, Any]:
        """Everything summed so far, as plain values."""
        self.flush()
        if self._since is not None:
            now = time.perf_counter()
            self.seconds, self._since = self.seconds + now - self._since, now
        names = ("parts", "steps", "images", "unreadable", "seconds", "seconds_waiting", "seconds_learning")
        sets = {name: [images, float(loss)] for name, (images, loss) in self.sets.items()}
        return {name: getattr(self, name) for name in names} | {"sets": sets}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        for name, value in state.items():
            setattr(self, name, dict(value) if isinstance(value, Mapping) else value)

    def compute(self, ranks: Ranks = SINGLE_PROCESS) -> dict[str, float]:
        """Figures of the epoch over all ranks, each of which must call this; see :meth:`Trainer.train_epoch`.

        Raises:
            GraphposeError: there was no readable image on any rank.
        """
        state = self.state_dict()
        names = sorted(self.parts) or ["total"]
        waiting, learning = (
            state[key] / max(state["seconds"], 1e-9) for key in ("seconds_waiting", "seconds_learning")
        )
        mine = [float(state["steps"]), float(state["images"]), float(state["unreadable"]), waiting, learning]
        steps, images, unreadable, waiting, learning, *parts = ranks.total(
            mine + [self.parts.get(n, 0.0) for n in names]
        )
        if images == 0:
            raise GraphposeError("the training set gave no readable image in a whole epoch; see the messages above")
        return (
            {f"loss.{name}": value / steps for name, value in zip(names, parts, strict=True)}
            | self._by_set(ranks)
            | {
                "unreadable": unreadable,
                "waiting_share": waiting / ranks.world_size,
                "outside_share": 1 - learning / ranks.world_size,
                "images_per_second": images / state["seconds"],
                "seconds": state["seconds"],
            }
        )

    def _by_set(self, ranks: Ranks) -> dict[str, float]:
        """Images and mean loss of each data set of a mix, under <name>.images and <name>.loss."""
        gathered = ranks.gather(self.state_dict()["sets"])
        figures: dict[str, float] = {}
        for name in sorted({name for sets in gathered or () for name in sets}):
            images, loss = np.sum([sets.get(name, (0, 0.0)) for sets in gathered or ()], axis=0).tolist()
            figures |= {f"{name}.images": images, f"{name}.loss": loss / images}
        return ranks.broadcast(figures)
