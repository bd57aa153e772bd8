"""Eq. 5 over what a network is trained on: the persons of a data set, of a mix of several, or of rendered scenes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose import __version__
from graphpose.checksum import file_sha256
from graphpose.data.annotations.table import SCALE_OF_HEAD
from graphpose.data.cache import CachedDataset
from graphpose.data.coco import CocoDataset
from graphpose.data.dataset import PoseDataset
from graphpose.data.features import FeatureDataset
from graphpose.data.matched import MatchedDataset
from graphpose.data.mix import MixedDataset
from graphpose.errors import GraphposeError
from graphpose.graphs.modes import PoseModes, pose_modes
from graphpose.graphs.statistics import PoseStatistics, StatisticsAccumulator
from graphpose.skeleton import ScaleRule, Skeleton


@dataclasses.dataclass
class _Persons:
    """Labelled persons of one source: (N, K, 3) keypoints, (N,) scales in pixels, and where they come from."""

    keypoints: np.ndarray
    scale: np.ndarray
    file: Path | None = None


def dataset_statistics(dataset: PoseDataset) -> PoseStatistics:
    """Statistics of all labelled persons of a data set, in the unit of its skeleton.

    Args:
        dataset: as a run trains on it: of files only the chosen images, of a mix the persons of all its sets, each as
            often as it is labelled and with the keypoints that its set labels.

    Returns:
        Statistics whose provenance names the files with their SHA-256, the persons, and of how many the size is unknown
        or 0, which are left out.

    Raises:
        GraphposeError: no two keypoints are labelled in the same person of known size.
    """
    skeleton = dataset.skeleton
    accumulator = StatisticsAccumulator(skeleton)
    files: dict[str, str] = {}
    without_size = 0
    for source in _sources(dataset, skeleton):
        usable = np.isfinite(source.scale) & (source.scale > 0)
        without_size += int((~usable).sum())
        accumulator.update(source.keypoints[usable], source.scale[usable])
        if source.file is not None:
            files[source.file.name] = file_sha256(source.file)
    provenance: dict[str, object] = {"files": files} if files else {"scenes": len(dataset)}
    provenance |= {"images": len(dataset), "without_size": without_size}
    return accumulator.result(provenance | {"computed_by": f"the run that trained on them, graphpose {__version__}"})


def dataset_modes(dataset: PoseDataset, count: int) -> PoseModes:
    """Kinds of poses of all labelled persons of a data set: the same of the same persons, whatever a run's seed.

    Args:
        dataset: as in :func:`dataset_statistics`.
        count: how many kinds.

    Raises:
        GraphposeError: see :func:`~graphpose.graphs.modes.pose_modes`.
    """
    sources = list(_sources(dataset, dataset.skeleton))
    keypoints = np.concatenate([source.keypoints for source in sources])
    scale = np.concatenate([source.scale for source in sources])
    usable = np.isfinite(scale) & (scale > 0)
    return pose_modes(keypoints[usable], scale[usable], dataset.skeleton, count)


def _sources(dataset: PoseDataset, skeleton: Skeleton) -> Iterator[_Persons]:
    """Every source of a data set, its keypoints in the order of ``skeleton``."""
    if isinstance(dataset, (CachedDataset, FeatureDataset)):
        yield from _sources(dataset.dataset, skeleton)
    elif isinstance(dataset, MixedDataset):
        for one in dataset.datasets:
            yield from _sources(one, skeleton)
    elif isinstance(dataset, MatchedDataset):
        for source in _sources(dataset.dataset, skeleton):
            keypoints = source.keypoints[:, dataset.source]
            keypoints[:, ~dataset.labelled] = 0
            yield dataclasses.replace(source, keypoints=keypoints)
    elif isinstance(dataset, CocoDataset):
        annotations = dataset.annotations
        rows = np.flatnonzero(annotations.labelled)
        scale = annotations.stated_scales(skeleton.scale_rule)
        yield _Persons(annotations.keypoints[rows], scale[rows], annotations.path)
    else:
        yield _of_records(dataset, skeleton)


def _of_records(dataset: PoseDataset, skeleton: Skeleton) -> _Persons:
    """The persons of a data set that has no file, from its ground truth.

    Raises:
        GraphposeError: the skeleton is measured in head sizes, which such records do not have.
    """
    if skeleton.scale_rule == "head":
        raise GraphposeError(
            f"skeleton '{skeleton.name}' is measured in head sizes, which {type(dataset).__name__} does not have; name "
            "a file of statistics"
        )
    records = [record for record in dataset.ground_truth()["annotations"] if not record["iscrowd"]]
    keypoints = np.array([record["keypoints"] for record in records], np.float64)
    keypoints = keypoints.reshape(len(records), dataset.skeleton.num_keypoints, 3)
    labelled = (keypoints[:, :, 2] > 0).any(axis=1)
    return _Persons(keypoints[labelled], record_scales(records, skeleton.scale_rule)[labelled])


def record_scales(records: Sequence[Mapping[str, Any]], rule: ScaleRule) -> np.ndarray:
    """(N,) float64 s_n of Eq. 5 in pixels of annotations in COCO's format.

    Args:
        records: of a data set's ground truth, in which the area of a person measured in head sizes is (3.6 head
            sizes)², see :mod:`graphpose.data.mpii`.
        rule: how the skeleton measures persons.
    """
    if rule == "bbox_diagonal":
        return np.array([np.hypot(*record["bbox"][2:]) for record in records], np.float64)
    scale = np.sqrt(np.array([record["area"] for record in records], np.float64))
    return scale / SCALE_OF_HEAD if rule == "head" else scale
