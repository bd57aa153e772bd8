"""Peak memory of a training step, counted without computing and without a GPU.

    python experiments/benchmark.py memory --table docs/memory.md

A step of the paper's settings (SGD with momentum, averaged weights, 8 images) runs on torch's fake tensors, which have
sizes and no numbers; every storage counts from its making until it is freed. What CUDA takes beside that is not in it:
about 0.5 GiB for the context, workspaces of cuDNN, and what the allocator cannot use.
"""

from __future__ import annotations

import argparse
import itertools
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork
from graphpose.training.config import TrainConfig
from graphpose.training.ema import ModelEma
from graphpose.training.optimizer import make_optimizer

BATCH = 8
CARDS = (16, 24, 80)  # GiB
NETWORKS: dict[str, dict[str, Any]] = {
    "baseline, ResNet-50": {"adjacency": "none"},
    "DGCN-50": {},
    "DGCN-50, F16 & F8 & F4": {"strides": (16, 8, 4)},
    "DGCN-101": {"backbone": "resnet101"},
    "DGCN-152": {"backbone": "resnet152"},
}


class PeakMemory(TorchDispatchMode):
    """Bytes of all storages that operations make while it is entered.

    Attributes:
        held: now.
        peak: at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.held += self._sizes[key]
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.held -= self._sizes.pop(key)


def training_peak(config: PoseNetworkConfig, size: int, precision: str, batch: int = BATCH) -> int:
    """Peak bytes of a training step.

    Args:
        config: of the network.
        size: side of the images, pixels.
        precision: autocast type, "float32" for none.
        batch: images.
    """
    network, train = PoseNetwork(config), TrainConfig()
    ema = ModelEma(network, train.ema_decay)
    counter = PeakMemory()
    with FakeTensorMode(allow_non_fake_inputs=True), counter:
        for module in (*network.modules(), *ema.module.modules()):  # in place of the real ones
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(torch.empty(parameter.shape))
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
        network.train()
        network.freeze_backbone(weights=False, statistics=True)
        optimizer, loss = make_optimizer(network, train), PoseLoss()
        images = torch.empty(batch, 3, size, size)
        cells = network.spec.size(size, size)
        pif = torch.empty(batch, config.skeleton.num_keypoints, 5, *cells)
        paf = torch.empty(batch, config.skeleton.num_limbs, 7, *cells)
        for _ in range(2):  # momentum is made by the first step
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", getattr(torch, precision), enabled=precision != "float32"):
                outputs = network(images)
            loss(outputs, pif, paf)["total"].backward()
            del outputs
            optimizer.step()
            ema.update(network)
    return counter.peak


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Peaks of every network in GiB by size and precision; writes them as a table where that is asked for."""
    kinds = list(itertools.product(options.sizes, ("float32", "bfloat16")))
    peaks = {
        name: {
            f"{size} px, {precision}": round(training_peak(PoseNetworkConfig(**settings), size, precision) / 2**30, 1)
            for size, precision in kinds
        }
        for name, settings in NETWORKS.items()
        if not options.networks or name in options.networks
    }
    if options.table:
        options.table.write_text(table(peaks))
    return {"batch": BATCH, "GiB": peaks}


def table(peaks: dict[str, dict[str, float]]) -> str:
    """Markdown: peaks, and the most images that a card of some sizes takes."""
    kinds = list(next(iter(peaks.values())))
    lines = [
        "# Memory of a training step",
        "",
        f"Estimated peak in GiB with the settings of `coco` and {BATCH} images (`batch_size=8`): weights, gradients, "
        "momentum, averaged",
        "weights, images, targets and activations, counted on torch's fake tensors. CUDA's context (about 0.5 GiB), "
        "workspaces of cuDNN",
        "and the allocator's leftovers come on top; no GPU has confirmed these figures. In brackets the smallest card "
        "that takes it with",
        f"an eighth to spare, of {', '.join(map(str, CARDS))} GB. Where it does not fit, `accumulate` passes the "
        "batch in parts.",
        "",
        "| network | " + " | ".join(kinds) + " |",
        "|---" * (1 + len(kinds)) + "|",
    ]
    for name, values in peaks.items():
        lines.append(f"| {name} | " + " | ".join(f"{value} ({_cards(value)})" for value in values.values()) + " |")
    return "\n".join([*lines, "", "`python experiments/benchmark.py memory --table docs/memory.md`", ""])


def _cards(gib: float) -> str:
    """The smallest card that takes so much."""
    fitting = [card for card in CARDS if gib * 2**30 <= card * 1e9 * 7 / 8]
    return f"{fitting[0]} GB" if fitting else "none"
