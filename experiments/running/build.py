"""What a run is built from by its settings: data sets, loaders, device."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from experiments.configs.data import DataConfig
from experiments.configs.settings import Settings
from graphpose.data.cache import CachedDataset
from graphpose.data.dataset import PoseDataset
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import PoseLoader, make_loader
from graphpose.data.open import open_dataset
from graphpose.data.transforms import EvalTransform, TrainTransform
from graphpose.distributed import SINGLE_PROCESS, Ranks
from graphpose.errors import GraphposeError


def build_datasets(data: DataConfig, seed: int) -> tuple[PoseDataset, PoseDataset]:
    """Training and evaluation set of a configuration; with ``cache`` the training set keeps its samples."""
    train, val = _open_datasets(data, seed)
    kept = CachedDataset(train) if data.cache else train
    return kept, kept if val is train else val


def _open_datasets(data: DataConfig, seed: int) -> tuple[PoseDataset, PoseDataset]:
    if data.data == "demo":
        size, persons = data.image_size, data.demo_max_persons
        return (
            DemoDataset(data.demo_train_scenes, seed=seed, size=size, max_persons=persons),
            # held out whatever the seed: the evaluation scenes are the same in every run
            DemoDataset(data.demo_val_scenes, seed=2**31, size=size, max_persons=persons),
        )
    root = Path(data.data_root)
    for key in ("train_annotations", "train_images", "val_annotations", "val_images"):
        path = getattr(data, key)
        if not path:
            raise GraphposeError(
                f"data={data.data} needs {key}; set it, or use a named configuration: with coco, coco_local, "
                f"crowdpose, mpii"
            )
        if not (root / path).exists():
            raise GraphposeError(
                f"{key}: '{root / path}' does not exist; set data_root, or GRAPHPOSE_DATA in the environment"
            )
    ids = list(data.image_ids) or None
    train = open_dataset(
        root / data.train_annotations,
        root / data.train_images,
        image_ids=ids,
        require_persons=True,
        category=data.category,
    )
    if ids:
        return train, train
    return train, open_dataset(
        root / data.val_annotations, root / data.val_images, skeleton=train.skeleton, category=data.category
    )


def without_unknown_mirror_images(settings: Settings) -> Settings:
    """The settings without mirror images in evaluation where it is not known what they show; a line says so."""
    skeleton = settings.network.skeleton
    if skeleton.mirrors or not settings.data.test_flip:
        return settings
    print(f"test_flip is switched off: skeleton '{skeleton.name}' has no flip pairs", flush=True)
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, test_flip=False))


def build_loaders(
    settings: Settings, train: PoseDataset, val: PoseDataset, seed: int, ranks: Ranks = SINGLE_PROCESS
) -> tuple[PoseLoader, PoseLoader]:
    """This rank's loaders of both sets."""
    data, device = settings.data, resolve_device(settings.data.device)
    shared = {
        "seed": seed,
        "workers": data.workers,
        "pin_memory": device.type == "cuda",
        "rank": ranks.rank,
        "world_size": ranks.world_size,
    }
    transform = TrainTransform(data.image_size, train.skeleton, settings.augment)
    drop_last = len(train) > data.batch_size * ranks.world_size
    return (
        make_loader(train, transform, data.batch_size, shuffle=True, drop_last=drop_last, **shared),
        make_loader(val, EvalTransform(data.long_edge), data.evaluation_batch_size, shuffle=False, **shared),
    )


def resolve_device(name: str) -> torch.device:
    """The device of a name; "auto" takes CUDA where there is one, each rank its own."""
    if name == "auto" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if name == "auto":
        return torch.device("cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise GraphposeError(f"device='{name}', but this torch sees no CUDA device; use device=cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise GraphposeError(f"device='{name}' must be auto, cpu, cuda or cuda:<index>") from None
