"""Features of a frozen trunk in place of images: which store a run needs, and having it computed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.configs.settings import Settings
from experiments.running.build import find_files, loader_workers, pretrained_network, training_transform
from graphpose.checksum import file_sha256
from graphpose.data.dataset import PoseDataset, Weighted
from graphpose.data.features import FeatureDataset, FeatureLayout
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform, Transform
from graphpose.device import resolve_device
from graphpose.errors import GraphposeError
from graphpose.nn.backbone import Backbone
from graphpose.nn.network import trunk
from graphpose.training.features import BATCH_SIZE, compute_features, trunk_digest

VIEWS_SEED = 0  # of the training views, which all runs share


def with_features(settings: Settings, train: PoseDataset, val: PoseDataset) -> tuple[FeatureDataset, FeatureDataset]:
    """Training and evaluation set of a run with ``given_features``, computed where they are not there yet.

    Raises:
        GraphposeError: a setting that features cannot have; see :func:`compute_features` for the others.
    """
    store = FeatureStores(settings)
    annotations, _ = find_files(settings.data, "val")
    return store.training(train), store.evaluation(val, annotations)


class FeatureStores:
    """The stores of features that runs of the same trunk and views share, under the folder ``features``.

    Args:
        settings: of a run with ``given_features``.

    Raises:
        GraphposeError: settings that contradict features; names them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        data, network = settings.data, settings.network
        stride = network.strides[0]
        for key, size in (("image_size", data.image_size), ("long_edge", data.long_edge)):
            if size is None or size % stride:
                raise GraphposeError(f"given_features with {key}={size}: a multiple of the stride {stride} is needed")
        if data.data == "demo":
            raise GraphposeError("given_features with data=demo: its scenes are other ones for each seed; name files")
        if not data.fusion.is_plain:
            raise GraphposeError("given_features with test_flip or test_scales: features are of one view of an image")
        if network.pretrained is False or pretrained_network(network) is not None:
            raise GraphposeError(
                f"given_features with pretrained={network.pretrained}: the frozen trunk needs weights of a backbone, a "
                "file or True for timm's"
            )
        self._trunk: Backbone | None = None

    @property
    def trunk(self) -> Backbone:
        """The frozen trunk; built when it is first needed."""
        if self._trunk is None:
            whole = dataclasses.replace(self.settings.network, given_features=False)
            self._trunk = trunk(whole).to(resolve_device(self.settings.data.device)).eval()
        return self._trunk

    def training(self, dataset: PoseDataset) -> FeatureDataset:
        """Augmented views: ``feature_passes`` of what an epoch on the images would take."""
        data = self.settings.data
        views = dataset.epoch_images if isinstance(dataset, Weighted) else len(dataset)
        transform = training_transform(self.settings, dataset)
        settings = {
            "image_size": data.image_size,
            "augment": dataclasses.asdict(self.settings.augment),
            "crowd": dataclasses.asdict(self.settings.crowd),
            "seed": VIEWS_SEED,
            "sets": _training_files(self.settings),
        }
        return self._open("train", dataset, transform, settings, data.feature_passes, views, data.image_size)

    def evaluation(self, dataset: PoseDataset, annotations: Path) -> FeatureDataset:
        """One view of each image: resized, and padded to a square."""
        edge, enlarge = self.settings.data.long_edge, self.settings.data.enlarge
        assert edge is not None
        settings = {
            "long_edge": edge,
            **({} if enlarge else {"enlarge": False}),
            "annotations": file_sha256(annotations),
            "images": hashlib.sha256(np.array(dataset.image_ids, np.int64).tobytes()).hexdigest(),
        }
        name = annotations.name.split(".")[0]
        transform = EvalTransform(edge, enlarge=enlarge, square=True)
        return self._open(name, dataset, transform, settings, 1, len(dataset), edge)

    def _open(
        self,
        name: str,
        dataset: PoseDataset,
        transform: Transform,
        settings: Mapping[str, Any],
        passes: int,
        views: int,
        size: int,
    ) -> FeatureDataset:
        network, stride = self.settings.network, self.settings.network.strides[0]
        weights = {
            "backbone": network.backbone, "variant": self.trunk.variant, "stem_pool": network.stem_pool,
            "dilate": network.dilate, "norm_eps": network.norm_eps, "stride": stride,
            "sha256": trunk_digest(self.trunk),
        }  # fmt: skip
        layout = FeatureLayout(
            made_from={"trunk": weights, **settings},
            passes=passes,
            views=views,
            cells=(size // stride, size // stride),
            channels=self.trunk.channels[stride],
            image_size=(size, size),
            num_keypoints=dataset.skeleton.num_keypoints,
        )
        folder = layout.folder(Path(self.settings.data.features), name)
        loader = make_loader(
            dataset,
            transform,
            BATCH_SIZE,
            shuffle=name == "train",
            seed=VIEWS_SEED,
            workers=loader_workers(self.settings.data.workers, resolve_device(self.settings.data.device)),
        )
        compute_features(self.trunk, loader, layout, folder)
        loader.close()
        return FeatureDataset(folder, layout, dataset)


def _training_files(settings: Settings) -> list[dict[str, Any]]:
    """What the training sets are known by: their settings, and of each file its checksum."""
    data, root = settings.data, Path(settings.data.data_root)
    if not data.train_sets:
        annotations, _ = find_files(data, "train")
        return [{"annotations": file_sha256(annotations), "image_ids": list(data.image_ids)}]
    known = []
    for one in data.train_sets:
        values = dataclasses.asdict(one)
        for key in ("annotations", "pseudo_labels"):
            values[key] = file_sha256(root / values[key]) if values[key] else ""
        known.append({**values, "epoch_images": data.epoch_images, "images": Path(one.images).name})
    return known
