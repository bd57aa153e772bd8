"""What a run is built from by its settings: data sets, loaders, network."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.configs.data import DataConfig
from experiments.configs.settings import Settings
from graphpose.checkpoint import (
    GRAPH_SETTINGS,
    baseline_with_graphs,
    find_checkpoint_file,
    is_checkpoint,
    network_from_checkpoint,
    statistics_of,
)
from graphpose.data.cache import CachedDataset
from graphpose.data.dataset import PoseDataset, Weighted
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.features import stored_view
from graphpose.data.loader import PoseLoader, make_loader
from graphpose.data.mix import open_mix
from graphpose.data.mosaic import CrowdTransform
from graphpose.data.open import open_dataset
from graphpose.data.transforms import EvalTransform, TrainTransform, Transform
from graphpose.device import resolve_device
from graphpose.distributed import SINGLE_PROCESS, Ranks
from graphpose.errors import GraphposeError
from graphpose.graphs.dataset_statistics import dataset_statistics
from graphpose.graphs.statistics import PoseStatistics, has_shipped_statistics
from graphpose.metrics.protocol import require_scorable
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.keypoint_graph import configured_statistics
from graphpose.nn.network import PoseNetwork
from graphpose.packed import is_packed

# What of a baseline a run does not have to name: left at their defaults, these are the baseline's.
INHERITED_SETTINGS = ("backbone_variant", "norm_eps", "scale_activation", "scale_factor", "spread_activation")

MOST_WORKERS = 16


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
    if data.train_sets:
        _require_sets(data)
        val = open_dataset(*find_files(data, "val"), category=data.category)
        _require_scorable(data, val, data.val_annotations)
        mix = open_mix(data.train_sets, val.skeleton, root=data.data_root, epoch_images=data.epoch_images or None)
        return mix, val
    train_files, val_files = find_files(data, "train"), find_files(data, "val")
    ids = list(data.image_ids) or None
    train = open_dataset(*train_files, image_ids=ids, require_persons=True, category=data.category)
    val = train if ids else open_dataset(*val_files, skeleton=train.skeleton, category=data.category)
    _require_scorable(data, val, data.train_annotations if ids else data.val_annotations)
    return train, val


def _require_scorable(data: DataConfig, val: PoseDataset, annotations: str) -> None:
    """GraphposeError naming the file that the evaluation would refuse."""
    try:
        require_scorable(val.ground_truth(), val.skeleton, data.protocol)
    except GraphposeError as error:
        raise GraphposeError(f"data={data.data}, {Path(data.data_root) / annotations}: {error}") from None


def find_files(data: DataConfig, part: Literal["train", "val"]) -> tuple[Path, Path]:
    """Annotation file and image folder of the training or the evaluation set.

    Raises:
        GraphposeError: one is not configured or does not exist; names the key.
    """
    for key in (f"{part}_annotations", f"{part}_images"):
        if not getattr(data, key):
            raise GraphposeError(
                f"data={data.data} needs {key}; set it, or use a named configuration: with coco, coco_local, "
                f"crowdpose, mpii"
            )
    annotations, images = (
        _existing_path(data, key, getattr(data, key)) for key in (f"{part}_annotations", f"{part}_images")
    )
    return annotations, images


def _existing_path(data: DataConfig, key: str, path: str) -> Path:
    """A configured file or folder; GraphposeError naming the key where it does not exist."""
    found = Path(data.data_root) / path
    if not found.exists():
        raise GraphposeError(f"{key}: '{found}' does not exist; set data_root, or GRAPHPOSE_DATA in the environment")
    return found


def _require_sets(data: DataConfig) -> None:
    """GraphposeError naming the first file or folder of ``train_sets`` that does not exist."""
    for number, one in enumerate(data.train_sets):
        for key in ("annotations", "images", "pseudo_labels"):
            if getattr(one, key):
                _existing_path(data, f"train_sets[{number}] {key}", getattr(one, key))


def without_unknown_mirror_images(settings: Settings) -> Settings:
    """The settings without mirror images in evaluation where it is not known what they show; a line says so."""
    skeleton = settings.network.skeleton
    if skeleton.mirrors or not settings.data.test_flip:
        return settings
    print(f"test_flip is switched off: skeleton '{skeleton.name}' has no flip pairs", flush=True)
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, test_flip=False))


def loader_workers(workers: int | None, device: torch.device) -> int:
    """Loader processes of one rank; None is as many as keep a GPU busy, of the cores that this process may use."""
    if workers is not None:
        return workers
    if device.type != "cuda":
        return 2  # more would take the cores that train
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(2, min(MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def build_loaders(
    settings: Settings, train: PoseDataset, val: PoseDataset, seed: int, ranks: Ranks = SINGLE_PROCESS
) -> tuple[PoseLoader, PoseLoader]:
    """This rank's loaders of both sets."""
    data, device = settings.data, resolve_device(settings.data.device)
    shared = {
        "seed": seed,
        "workers": loader_workers(data.workers, device),
        "pin_memory": device.type == "cuda",
        "rank": ranks.rank,
        "world_size": ranks.world_size,
    }
    evaluated: Transform = EvalTransform(data.long_edge)
    if settings.network.given_features:
        transform = evaluated = stored_view
    else:
        transform = training_transform(settings, train)
    length = train.epoch_images if isinstance(train, Weighted) else len(train)
    drop_last = length > data.batch_size * ranks.world_size
    return (
        make_loader(train, transform, data.batch_size, shuffle=True, drop_last=drop_last, **shared),
        make_loader(val, evaluated, data.evaluation_batch_size, shuffle=False, **shared),
    )


def training_transform(settings: Settings, train: PoseDataset) -> Transform:
    """Random views of the training set's images, now and then composed of several."""
    transform = TrainTransform(settings.data.image_size, train.skeleton, settings.augment)
    if settings.crowd.mosaic or settings.crowd.paste:
        return CrowdTransform(transform, train, settings.crowd)
    return transform


def pretrained_network(config: PoseNetworkConfig) -> Path | None:
    """The checkpoint or packed network that ``pretrained`` names; None where it names weights of a backbone, if any."""
    if not isinstance(config.pretrained, str):
        return None
    path = find_checkpoint_file(config.pretrained)
    return path if is_checkpoint(path) or is_packed(path) else None


def run_statistics(config: PoseNetworkConfig, train: PoseDataset) -> PoseStatistics | None:
    """Pose statistics of a run: those of its training set where ``statistics`` says so, or says nothing and none are
    shipped for the skeleton; those of a file; None for those shipped.

    Raises:
        GraphposeError: the training set was asked for, and no two keypoints of it are labelled together; or the file
            cannot be read.
    """
    asked_for = config.statistics == "train"
    if asked_for or (config.statistics is None and not has_shipped_statistics(config.skeleton)):
        try:
            statistics = dataset_statistics(train)
        except GraphposeError as error:
            if asked_for:
                raise GraphposeError(f"statistics=train: {error}") from None
            print(f"no pose statistics: {error}", flush=True)
            return None
        print(f"pose statistics of {statistics.line()}", flush=True)
        return statistics
    return None if config.statistics == "shipped" else configured_statistics(config)


def build_network(
    config: PoseNetworkConfig,
    resumed: Mapping[str, Any] | None = None,
    pretrained: Mapping[str, Any] | None = None,
    statistics: PoseStatistics | None = None,
) -> PoseNetwork:
    """The network of a run.

    Args:
        config: of the run.
        resumed: content of the checkpoint that the run goes on from; its network is that of the checkpoint, and the
            pretrained file from which the run once began is not needed.
        pretrained: content of the checkpoint in ``config.pretrained``: of a baseline, whose trunk and heads the network
            begins with, or of a network with graphs, all of whose weights it begins with.
        statistics: of the run, see :func:`run_statistics`; a network with graphs gets the graph that they make in place
            of its own. None takes those that travel with the checkpoint.

    Raises:
        GraphposeError: the checkpoint has another skeleton or another trunk than the run is configured for, or other
            graphs.
    """
    if resumed is not None:
        theirs = PoseNetworkConfig.from_dict(resumed["config"])
        network = PoseNetwork.from_state(theirs, resumed["network"], statistics_of(resumed), resumed.get("graph"))
    elif pretrained is not None:
        path, theirs = Path(str(config.pretrained)), PoseNetworkConfig.from_dict(pretrained["config"])
        if theirs.adjacency == "none":
            graphs = {key: getattr(config, key) for key in GRAPH_SETTINGS}
            network = baseline_with_graphs(
                pretrained, path, skeleton=config.skeleton, pose_statistics=statistics, **graphs
            )
        else:
            network = network_from_checkpoint(pretrained, path, skeleton=config.skeleton).train()
            if statistics is not None:
                network.use_statistics(statistics)
            _require_same_graph(config, network.graph_source, path)
        _require_same_settings(config, network.config, path)
        if config.statistics is not None:
            network.config = dataclasses.replace(network.config, statistics=config.statistics)
    else:
        return PoseNetwork(config, pose_statistics=statistics)
    network.config = dataclasses.replace(network.config, pretrained=config.pretrained)
    return network


def _require_same_graph(config: PoseNetworkConfig, source: Mapping[str, str] | None, path: Path) -> None:
    """GraphposeError where the file of a graph is no longer the one that the pretrained network was made with."""
    if source is None or source["source"] != config.adjacency or not Path(config.adjacency).is_file():
        return
    if hashlib.sha256(Path(config.adjacency).read_bytes()).hexdigest() != source["sha256"]:
        raise GraphposeError(
            f"adjacency '{config.adjacency}' has changed since the network in pretrained='{path}' was trained on it; "
            "give the new graph another name and train its network anew"
        )


def _require_same_settings(config: PoseNetworkConfig, pretrained: PoseNetworkConfig, path: Path) -> None:
    """GraphposeError naming every setting that has to be the pretrained network's."""
    differing = []
    for field in dataclasses.fields(config):
        name, own = field.name, getattr(pretrained, field.name)
        chosen = getattr(config, name)
        left_open = name in ("skeleton", "pretrained", "statistics") or (
            name in INHERITED_SETTINGS and chosen == field.default
        )
        if chosen != own and not left_open:
            differing.append((name, chosen, own))
    if differing:
        wanted = " ".join(f"{name}={list(own) if isinstance(own, tuple) else own}" for name, _, own in differing)
        found = ", ".join(f"{name}={chosen}" for name, chosen, _ in differing)
        raise GraphposeError(
            f"pretrained='{path}' is a network with {wanted}, but the run has {found}; set {wanted}, or name the "
            "checkpoint of another network"
        )
