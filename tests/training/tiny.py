"""A trainer small enough for tests of training: rendered scenes of 64 pixels, a network of 500 thousand weights."""

import dataclasses

import torch

from graphpose.data.config import AugmentConfig
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import TrainTransform
from graphpose.distributed import SINGLE_PROCESS, Ranks
from graphpose.nn.config import LossConfig, PoseNetworkConfig
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO
from graphpose.training.config import TrainConfig
from graphpose.training.random_state import derived_seed
from graphpose.training.trainer import Trainer
from tests.nn.made_modes import kinds_of

CONFIG = TrainConfig(
    epochs=3,
    optimizer="adamw",
    learning_rate=2e-3,
    schedule="cosine",
    warmup_epochs=0.5,
    frozen_backbone_epochs=1,
    freeze_batch_norm=False,
    ema_decay=0.9,
)
AUGMENT = TrainTransform(64, COCO, AugmentConfig(long_edge=64))


def tiny_trainer(
    scenes: int = 8,
    batch_size: int = 2,
    ranks: Ranks = SINGLE_PROCESS,
    loss: LossConfig | None = None,
    adjacency: str = "dynamic",
    dataset=None,
    workers: int = 0,
    drop_last: bool = False,
    strides: tuple[int, ...] = (16,),
    device: str = "cpu",
    network: dict | None = None,
    **changes,
) -> Trainer:
    """A trainer whose first weights are always the same."""
    torch.manual_seed(3)
    settings = {"backbone": "test_resnet", "stem_pool": True, "adjacency": adjacency, "strides": strides, "upsample": 2}
    config = PoseNetworkConfig(**settings | (network or {}))
    network = PoseNetwork(config, mode_statistics=kinds_of(COCO, config.modes)).to(device)
    network.seed_graphs(derived_seed(3, ranks.rank))
    loader = make_loader(
        DemoDataset(scenes, seed=4, size=64) if dataset is None else dataset,
        AUGMENT, batch_size, shuffle=True, seed=5, workers=workers, drop_last=drop_last,
        rank=ranks.rank, world_size=ranks.world_size,
    )  # fmt: skip
    return Trainer(network, PoseLoss(loss), loader, dataclasses.replace(CONFIG, **changes), ranks=ranks)


def states_equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two networks hold the same bits."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
