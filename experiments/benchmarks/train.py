"""How much of the speed of the bare network training keeps.

    python experiments/benchmark.py train                                # the demo's configuration, on a CPU
    python experiments/benchmark.py train coco_local image_size=641 precision=bfloat16 workers=12 data_root=FOLDER

prints one JSON object: images per second of training epochs, data loading, encoding, averaged weights and all, and of a
loop over random tensors that only goes forward, back and through the optimiser. They take turns.
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import torch

from experiments.configs.named import configured, typed_settings
from experiments.configs.settings import Settings, build_settings
from experiments.running.build import build_datasets, build_loaders
from graphpose.data.cache import CachedDataset
from graphpose.device import resolve_device
from graphpose.fields.encode import encode
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork
from graphpose.training.optimizer import make_optimizer
from graphpose.training.trainer import Trainer

SEED = 1


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns plain values for one JSON object. The first epoch and the first loop do not count.

    Raises:
        GraphposeError: an unknown setting, or a configuration that cannot be trained.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    trainer, settings = build(options.settings)
    random_loop = RandomLoop(trainer, settings)
    epochs, loops = [], []
    for _ in range(options.rounds + 1):
        epochs.append(trainer.train_epoch())
        loops.append(random_loop.images_per_second(trainer.steps_per_epoch))
    epochs, loops = epochs[1:], loops[1:]
    report: dict[str, Any] = {
        "device": str(trainer.device),
        "threads": torch.get_num_threads(),
        "steps_per_epoch": trainer.steps_per_epoch,
        "random_images_per_second": _median(loops),
    }
    report |= {name: _median([figures[name] for figures in epochs])
               for name in ("images_per_second", "outside_share", "waiting_share")}  # fmt: skip
    ratios = [figures["images_per_second"] / loop for figures, loop in zip(epochs, loops, strict=True)]
    return report | {"ratio": _median(ratios), "ratios": [round(ratio, 3) for ratio in ratios]}


def _median(values: list[float]) -> float:
    return round(float(torch.tensor(values, dtype=torch.float64).quantile(0.5)), 3)


def build(words: list[str]) -> tuple[Trainer, Settings]:
    """The trainer of a named configuration with some settings changed, as ``run.py`` builds it."""
    names, changes = [word for word in words if "=" not in word] or ["demo"], [word for word in words if "=" in word]
    config = configured(" ".join(names), typed_settings(changes))
    config["frozen_backbone_epochs"] = 0  # every epoch is alike
    train_set, val_set = build_datasets(build_settings(config).data, SEED)
    if isinstance(train_set, CachedDataset):
        for _ in train_set.fill(torch.get_num_threads(), progress=False):
            pass
    settings = build_settings(config, train_set.skeleton)
    torch.manual_seed(SEED)
    network = PoseNetwork(settings.network).to(resolve_device(settings.data.device))
    loader, _ = build_loaders(settings, train_set, val_set, SEED)
    return Trainer(network, PoseLoss(settings.loss), loader, settings.train), settings


class RandomLoop:
    """Steps of a copy of the trainer's network on the same random images, with the targets of one batch."""

    def __init__(self, trainer: Trainer, settings: Settings) -> None:
        self.device, self.config, self.loss = trainer.device, trainer.config, trainer.loss
        self.network = copy.deepcopy(trainer.network).train()
        self.network.freeze_backbone(weights=False, statistics=self.config.freeze_batch_norm)
        self.optimizer = make_optimizer(self.network, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # costs as much as any other, and noise teaches nothing
        size = settings.data.image_size
        batch = next(iter(trainer.loader)).to(self.device)
        memory = torch.channels_last if self.config.channels_last else torch.contiguous_format
        self.images = torch.randn(len(batch), 3, size, size, device=self.device).contiguous(memory_format=memory)
        targets = encode(batch.keypoints, batch.scales, trainer.network.spec, (size, size), batch.ignore)
        self.pif, self.paf = targets.pif, targets.paf
        self.model: Any = torch.compile(self.network) if self.config.compile else self.network
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.config.precision == "float16")

    def step(self) -> None:
        """Forward, backward, optimiser."""
        self.optimizer.zero_grad(set_to_none=True)
        precision = self.config.precision
        with torch.autocast(self.device.type, getattr(torch, precision), enabled=precision != "float32"):
            outputs = self.model(self.images)
        total = self.loss(outputs, self.pif, self.paf)["total"]
        self.scaler.scale(total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def images_per_second(self, steps: int) -> float:
        """Speed of so many steps."""
        self._wait()
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        self._wait()
        return steps * len(self.images) / (time.perf_counter() - started)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
