"""What a run is built from by its settings: data sets, loaders, network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.configs.data import DataConfig, SkeletonConfig
from experiments.configs.settings import Settings
from experiments.running.files import find_files, require_sets
from graphpose.checkpoint import (
    GRAPH_SETTINGS,
    baseline_with_graphs,
    modes_of,
    named_network,
    network_from_checkpoint,
    statistics_of,
    weights_of,
)
from graphpose.checksum import file_sha256
from graphpose.data.cache import CachedDataset
from graphpose.data.coco import CocoDataset
from graphpose.data.dataset import PoseDataset, Weighted
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.features import stored_view
from graphpose.data.loader import PoseLoader, make_loader
from graphpose.data.mix import open_mix
from graphpose.data.mosaic import CrowdTransform
from graphpose.data.open import open_dataset
from graphpose.data.split import split_images
from graphpose.data.transforms import EvalTransform, TrainTransform, Transform
from graphpose.device import resolve_device
from graphpose.distributed import SINGLE_PROCESS, Ranks
from graphpose.errors import GraphposeError
from graphpose.graphs.dataset_statistics import dataset_modes, dataset_statistics
from graphpose.graphs.mode_statistics import mode_lines, mode_name
from graphpose.graphs.statistics import PoseStatistics, has_shipped_statistics
from graphpose.metrics.protocol import require_scorable
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.keypoint_graph import configured_modes, configured_statistics
from graphpose.nn.network import PoseNetwork
from graphpose.nn.transfer import transfer, with_fresh_heads

# What of a baseline a run does not have to name: left at their defaults, these are the baseline's.
INHERITED_SETTINGS = ("backbone_variant", "norm_eps", "scale_activation", "scale_factor", "spread_activation")

# What may differ between two graphs of which one has the channels of the other.
OF_ANOTHER_GRAPH = (
    "adjacency", "gamma", "absent_edges", "graph_pool", "per_sample", "evaluation_graph", "statistics", "sample",
    "modes", "graph_layers", "graph_layer", "non_local",
)  # fmt: skip

MOST_WORKERS = 16

FlipPairs = Sequence[Sequence[str | int]]


def build_datasets(
    data: DataConfig, seed: int, skeleton: SkeletonConfig | None = None
) -> tuple[PoseDataset, PoseDataset]:
    """Training and evaluation set of a configuration; with ``cache`` the training set keeps its samples.

    Args:
        data: of the configuration.
        seed: of rendered scenes.
        skeleton: what the configuration says of the skeleton in place of the annotation file.
    """
    flip_pairs = None if skeleton is None else skeleton.flip_pairs
    if data.data == "demo" and flip_pairs is not None:
        raise GraphposeError("skeleton.flip_pairs with data=demo; rendered scenes have COCO's skeleton, which is known")
    train, val = _open_datasets(data, seed, flip_pairs)
    kept = CachedDataset(train) if data.cache else train
    return kept, kept if val is train else val


def _open_datasets(data: DataConfig, seed: int, flip_pairs: FlipPairs | None) -> tuple[PoseDataset, PoseDataset]:
    if data.data == "demo":
        size, persons = data.image_size, data.demo_max_persons
        return (
            DemoDataset(data.demo_train_scenes, seed=seed, size=size, max_persons=persons),
            # held out whatever the seed: the evaluation scenes are the same in every run
            DemoDataset(data.demo_val_scenes, seed=2**31, size=size, max_persons=persons),
        )
    if data.train_sets:
        require_sets(data)
        val = _open(*find_files(data, "val"), flip_pairs, category=data.category)
        _require_scorable(data, val, data.val_annotations)
        mix = open_mix(data.train_sets, val.skeleton, root=data.data_root, epoch_images=data.epoch_images or None)
        return mix, val
    train_files, val_files = find_files(data, "train"), find_files(data, "val")
    if data.divided:
        whole = _open(*train_files, flip_pairs, category=data.category)
        train_ids, val_ids = split_images(whole.annotations, data.val_share)
        train, val = whole.select(train_ids, require_persons=True), whole.select(val_ids)
        _require_scorable(data, val, data.annotations)
        return train, val
    ids = list(data.image_ids) or None
    train = _open(*train_files, flip_pairs, image_ids=ids, require_persons=True, category=data.category)
    val = train if ids else open_dataset(*val_files, skeleton=train.skeleton, category=data.category)
    _require_scorable(data, val, data.train_annotations if ids else data.val_annotations)
    return train, val


def _open(annotations: Path, images: Path, flip_pairs: FlipPairs | None, **options: Any) -> CocoDataset:
    """A data set with the flip pairs of the configuration, where it states them."""
    dataset = open_dataset(annotations, images, **options)
    if flip_pairs is None:
        return dataset
    return dataset.with_skeleton(dataset.skeleton.with_flip_pairs(flip_pairs, "skeleton.flip_pairs"))


def _require_scorable(data: DataConfig, val: PoseDataset, annotations: str) -> None:
    """GraphposeError naming the file that the evaluation would refuse."""
    try:
        require_scorable(val.ground_truth(), val.skeleton, data.protocol)
    except GraphposeError as error:
        raise GraphposeError(f"data={data.data}, {Path(data.data_root) / annotations}: {error}") from None


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
    evaluated: Transform = EvalTransform(data.long_edge, enlarge=data.enlarge)
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
    return named_network(config.pretrained) if isinstance(config.pretrained, str) else None


def run_statistics(config: PoseNetworkConfig, train: PoseDataset) -> PoseStatistics | None:
    """Pose statistics of a run: those of its training set where ``statistics`` says so, or says nothing and none are
    shipped for the skeleton, or nothing that several kinds of poses could be known by; those of a file, or of all kinds
    of a folder together; None for those shipped.

    Raises:
        GraphposeError: the training set was asked for, and no two keypoints of it are labelled together; or the file
            cannot be read.
    """
    asked_for = config.statistics == "train" or (config.weighs_modes and config.statistics is None)
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


def run_modes(
    config: PoseNetworkConfig, train: PoseDataset, pretrained: Mapping[str, Any] | None = None
) -> tuple[PoseStatistics, ...]:
    """Kinds of poses of a run, where its network weighs several: those of the pretrained network that weighs as many,
    of a folder, or of the training set; a line names each.

    Args:
        config: of the run.
        train: its training set.
        pretrained: content of the checkpoint that the network begins with.

    Raises:
        GraphposeError: the folder cannot be read or is not that of the pretrained network's kinds, or the training set
            has no such kinds.
    """
    if not config.weighs_modes:
        return ()
    own = modes_of(pretrained or {})
    if own and config.skeleton.keypoints == own[0].keypoints and len(own) == config.modes:
        for kind, named in zip(own, configured_modes(config), strict=False):
            if (kind.mean != named.mean).any():
                raise GraphposeError(
                    f"statistics '{config.statistics}': kind '{mode_name(named)}' is not that of the network in "
                    f"pretrained='{config.pretrained}', whose gate has learned to tell its own kinds; leave statistics "
                    "out, or train a new network on these"
                )
        print(f"kinds of poses of {config.pretrained}, whose gate knows them")
        kinds = own
    elif config.statistics in (None, "train"):
        try:
            kinds = dataset_modes(train, config.modes).statistics
        except GraphposeError as error:
            raise GraphposeError(f"modes={config.modes} with statistics=train: {error}") from None
    else:
        kinds = configured_modes(config)
    print("\n".join(mode_lines(kinds)), flush=True)
    return kinds


def build_network(
    config: PoseNetworkConfig,
    resumed: Mapping[str, Any] | None = None,
    pretrained: Mapping[str, Any] | None = None,
    statistics: PoseStatistics | None = None,
    modes: Sequence[PoseStatistics] = (),
) -> PoseNetwork:
    """The network of a run.

    Args:
        config: of the run.
        resumed: content of the checkpoint that the run goes on from; its network is that of the checkpoint, and the
            pretrained file from which the run once began is not needed.
        pretrained: content of the checkpoint in ``config.pretrained``: of a baseline, whose trunk and heads the network
            begins with, of a network with graphs, all of whose weights it begins with, or of one of another skeleton,
            which gives what both have in common; a line says what that is. Heads of another ``upsample`` begin anew.
        statistics: of the run, see :func:`run_statistics`; a network with graphs gets the graph that they make in place
            of its own. None takes those that travel with the checkpoint.
        modes: of the run, see :func:`run_modes`.

    Raises:
        GraphposeError: the checkpoint has another trunk than the run is configured for, or other graphs.
    """
    if resumed is not None:
        theirs = PoseNetworkConfig.from_dict(resumed["config"])
        network = PoseNetwork.from_state(
            theirs, resumed["network"], statistics_of(resumed), resumed.get("graph"), modes_of(resumed)
        )
        return _with_pretrained(network, config)
    if pretrained is None:
        return PoseNetwork(config, pose_statistics=statistics, mode_statistics=modes)
    path, theirs = Path(str(config.pretrained)), PoseNetworkConfig.from_dict(pretrained["config"])
    if config.upsample != theirs.upsample:
        pretrained = _with_fresh_heads(pretrained, theirs, config.upsample)
        theirs = PoseNetworkConfig.from_dict(pretrained["config"])
    if not config.skeleton.same_channels(theirs.skeleton):
        return _transferred(config, pretrained, path, theirs, statistics, modes)
    if theirs.adjacency == "none":
        graphs = {key: getattr(config, key) for key in GRAPH_SETTINGS}
        network = baseline_with_graphs(pretrained, path, pose_statistics=statistics, mode_statistics=modes, **graphs)
    else:
        network = network_from_checkpoint(pretrained, path).train()
        if statistics is not None:
            network.use_statistics(statistics)
        _require_same_graph(config, network.graph_source, path)
    _require_same_settings(config, network.config, path)
    network.use_skeleton(config.skeleton)  # sigmas and flip pairs are the data set's
    if config.statistics is not None:
        network.config = dataclasses.replace(network.config, statistics=config.statistics)
    return _with_pretrained(network, config)


def _with_pretrained(network: PoseNetwork, config: PoseNetworkConfig) -> PoseNetwork:
    """The network, whose record says where this run began."""
    network.config = dataclasses.replace(network.config, pretrained=config.pretrained)
    return network


def _with_fresh_heads(content: Mapping[str, Any], theirs: PoseNetworkConfig, upsample: int) -> dict[str, Any]:
    """The checkpoint of a network whose fields get another stride, for which its heads begin anew; a line says so."""
    changed = dataclasses.replace(theirs, upsample=upsample)
    print(
        f"the pretrained network's heads begin anew: fields at stride {changed.field_stride}, where its own are at "
        f"stride {theirs.field_stride}",
        flush=True,
    )
    return {
        **content,
        "config": changed.to_dict(),
        "network": with_fresh_heads(weights_of(content), changed),
        "ema": None,
    }


def _require_same_graph(config: PoseNetworkConfig, source: Mapping[str, str] | None, path: Path) -> None:
    """GraphposeError where the file of a graph is no longer the one that the pretrained network was made with."""
    if source is None or source["source"] != config.adjacency or not Path(config.adjacency).is_file():
        return
    if file_sha256(config.adjacency) != source["sha256"]:
        raise GraphposeError(
            f"adjacency '{config.adjacency}' has changed since the network in pretrained='{path}' was trained on it; "
            "give the new graph another name and train its network anew"
        )


def _transferred(
    config: PoseNetworkConfig,
    pretrained: Mapping[str, Any],
    path: Path,
    theirs: PoseNetworkConfig,
    statistics: PoseStatistics | None,
    modes: Sequence[PoseStatistics],
) -> PoseNetwork:
    """A network that begins with what it has in common with one of another skeleton."""
    _require_same_settings(config, theirs, path, GRAPH_SETTINGS if theirs.adjacency == "none" else OF_ANOTHER_GRAPH)
    settings = {key: getattr(theirs, key) for key in INHERITED_SETTINGS}
    network = PoseNetwork(
        dataclasses.replace(config, pretrained=False, **settings), pose_statistics=statistics, mode_statistics=modes
    )
    common = transfer(network, weights_of(pretrained), theirs.skeleton)
    print("\n".join([f"pretrained={path}: {common.lines()[0]}", *common.lines()[1:]]), flush=True)
    return _with_pretrained(network, config)


def _require_same_settings(
    config: PoseNetworkConfig, pretrained: PoseNetworkConfig, path: Path, left_open: Sequence[str] = ()
) -> None:
    """GraphposeError naming every setting that has to be the pretrained network's."""
    differing = []
    for field in dataclasses.fields(config):
        name, own = field.name, getattr(pretrained, field.name)
        chosen = getattr(config, name)
        inherited = name in INHERITED_SETTINGS and chosen == field.default
        if chosen != own and not inherited and name not in ("skeleton", "pretrained", "statistics", *left_open):
            differing.append((name, chosen, own))
    if differing:
        wanted = " ".join(f"{name}={list(own) if isinstance(own, tuple) else own}" for name, _, own in differing)
        found = ", ".join(f"{name}={chosen}" for name, chosen, _ in differing)
        raise GraphposeError(
            f"pretrained='{path}' is a network with {wanted}, but the run has {found}; set {wanted}, or name the "
            "checkpoint of another network"
        )
