"""Figures of a study's runs on photographs, with one set of thresholds that is chosen for all rows together."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.configs.named import configured, typed
from experiments.configs.settings import Settings, build_settings
from experiments.paper.runs import TableRun
from experiments.running.features import FeatureStores
from graphpose.checkpoint import load_checkpoint, network_from_checkpoint
from graphpose.data.dataset import PoseDataset
from graphpose.data.features import stored_view
from graphpose.data.loader import PoseLoader, make_loader
from graphpose.data.matching import match_keypoints
from graphpose.data.open import open_dataset
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import build_decoder
from graphpose.fields.pose import Poses
from graphpose.inference.batches import predict_batches
from graphpose.inference.tune import ImageFields, collect_fields
from graphpose.inference.unsure import UNSURE_GRID, ScoredPhotographs, choose_unsure_thresholds
from graphpose.metrics.coco import coco_results, evaluate_coco
from graphpose.metrics.intervals import CANDIDATES
from graphpose.metrics.joints import CROWDS, joint_table
from graphpose.metrics.results import category_of
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import Skeleton

BATCH_SIZE = 16
TUNING_ROUNDS = 1


@dataclasses.dataclass(frozen=True)
class PhotographSet:
    """Photographs that a study is scored or its thresholds are chosen on.

    Attributes:
        name: in the names of figures.
        annotations: file, relative to the folder of the data sets.
        images: folder of the images, likewise.
        complete: everybody is labelled, so that COCO's metric means something.
    """

    name: str
    annotations: str
    images: str
    complete: bool


SCORED = (
    PhotographSet("lspet", "lspet/lspet_val.json.gz", "lspet/val", complete=False),
    PhotographSet("coco", "coco/annotations/person_keypoints_val2017_local.json", "coco/val2017", complete=True),
)
TUNED_ON = (
    PhotographSet("lspet", "lspet/lspet_train.json.gz", "lspet/train", complete=False),
    PhotographSet("coco", "coco/annotations/person_keypoints_train2017_local.json", "coco/train2017", complete=True),
)


class StudyPhotographs:
    """Sets of photographs as the runs of a study take them: images, or a frozen trunk's features of them.

    Args:
        settings: of one of the runs; they share trunk and sizes.
        sets: what to open.
        limit: first images of each set; None for all.

    Raises:
        GraphposeError: a file is missing.
    """

    def __init__(self, settings: Settings, sets: Sequence[PhotographSet], limit: int | None = None) -> None:
        self.settings, self.sets, self.limit = settings, tuple(sets), limit
        root = Path(settings.data.data_root)
        for one in sets:
            if not (root / one.annotations).is_file():
                raise GraphposeError(
                    f"{root / one.annotations} does not exist; set GRAPHPOSE_DATA to the folder of the data sets"
                )
        self.datasets = {one.name: self._opened(root / one.annotations, root / one.images) for one in sets}
        stores = FeatureStores(settings) if settings.network.given_features else None
        self._loaders = {
            one.name: self._loader(self.datasets[one.name], root / one.annotations, stores) for one in sets
        }

    def _opened(self, annotations: Path, images: Path) -> PoseDataset:
        dataset = open_dataset(annotations, images)
        if self.limit is None:
            return dataset
        return open_dataset(annotations, images, image_ids=dataset.image_ids[: self.limit])

    def _loader(self, dataset: PoseDataset, annotations: Path, stores: FeatureStores | None) -> PoseLoader:
        if stores is None:
            data = self.settings.data
            transform = EvalTransform(data.long_edge, enlarge=data.enlarge)
            return make_loader(dataset, transform, BATCH_SIZE, shuffle=False)
        return make_loader(stores.evaluation(dataset, annotations), stored_view, BATCH_SIZE, shuffle=False)

    def fields(self, network: PoseNetwork) -> list[list[ImageFields]]:
        """Fields of each set's images."""
        return [collect_fields(network, self._loaders[one.name]) for one in self.sets]

    def figures(self, network: PoseNetwork, decoder: DecoderConfig) -> dict[str, float]:
        """All figures of a network, each with the name of its set before it."""
        decode = build_decoder(network.spec, decoder, network.pose_statistics)
        found = {}
        for one in self.sets:
            poses: dict[int, Poses] = {}
            for batch, of_batch in predict_batches(network.eval(), decode, self._loaders[one.name]):
                poses |= dict(zip(batch.image_ids, of_batch, strict=True))
            figures = set_figures(self.datasets[one.name], poses, network.spec.skeleton, one.complete)
            found |= {f"{one.name}, {name}": value for name, value in figures.items()}
        return found


def set_figures(
    dataset: PoseDataset, poses: Mapping[int, Poses], skeleton: Skeleton, complete: bool
) -> dict[str, float]:
    """Figures of one set by name.

    Args:
        dataset: the photographs.
        poses: by image id.
        skeleton: of the poses.
        complete: everybody is labelled.

    Returns:
        Those of :meth:`~graphpose.metrics.joints.JointTable.shares`; of a complete set also AP, AP50 and AR, and AP of
        the images with so many persons.
    """
    truth, columns = dataset.ground_truth(), match_keypoints(dataset.skeleton, skeleton)
    arrays = {image_id: one.keypoints for image_id, one in poses.items()}
    table = joint_table(truth, arrays, columns, None if complete else CANDIDATES)
    if not complete:
        return table.shares(skeleton)
    category = category_of(truth)
    results = [result for image_id, one in poses.items() for result in coco_results(image_id, one, category)]
    all_images = evaluate_coco(truth, results, skeleton)
    figures = {name: all_images[name] for name in ("AP", "AP50", "AR")} | table.shares(skeleton)
    for name, (low, high) in CROWDS.items():
        ids = set(table.image[(low <= table.persons) & (table.persons <= high)].tolist())
        if ids:
            own = {**truth, "images": [image for image in truth["images"] if image["id"] in ids]}
            own["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
            some = [result for result in results if result["image_id"] in ids]
            figures[f"AP, {name}"] = evaluate_coco(own, some, skeleton)["AP"]
    return figures


def settings_of(run: TableRun) -> Settings:
    """The settings that a run is made with."""
    return build_settings(configured(run.named, {key: typed(value) for key, value in run.settings}))


def network_of(run: TableRun, changes: Mapping[str, Any] | None = None) -> PoseNetwork:
    """The averaged network of a run that is done, with some settings of its evaluation changed."""
    path = run.attempts[-1] / "checkpoint.pt"
    content = load_checkpoint(path)
    content["config"] |= changes or {}
    return network_from_checkpoint(content, path)


def chosen_thresholds(runs: Sequence[TableRun], root: Path, images: int) -> DecoderConfig:
    """Thresholds for all rows alike, chosen on training photographs and kept beside the runs.

    Args:
        runs: one of each row, all of one seed and done; the score is the mean over them.
        root: folder of all runs of tables.
        images: first ones of each training set.

    Raises:
        GraphposeError: a file of thresholds or of the data sets cannot be read.
    """
    known = json.dumps([sorted(run.folder.name for run in runs), images, TUNING_ROUNDS, sorted(UNSURE_GRID)])
    kept = root / f"thresholds-{hashlib.sha256(known.encode()).hexdigest()[:12]}.json"
    if kept.is_file():
        return DecoderConfig.read(kept)
    settings = settings_of(runs[0])
    photographs = StudyPhotographs(settings, TUNED_ON, images)
    fields, start = [], None
    for run in runs:
        network = network_of(run)
        start = start or build_decoder(network.spec, settings.decoder)
        fields.append(photographs.fields(network))
    assert start is not None
    sets = [ScoredPhotographs(photographs.datasets[one.name], one.complete) for one in TUNED_ON]
    found = choose_unsure_thresholds(fields, sets, start, TUNING_ROUNDS)
    found.config.write(kept)
    print(f"thresholds for {len(runs)} rows: mean score {found.score:.4f} after {found.trials} settings, in {kept}",
          flush=True)  # fmt: skip
    return found.config


def figures_of(
    run: TableRun, changes: Mapping[str, Any], decoder: DecoderConfig, photographs: StudyPhotographs
) -> dict[str, float]:
    """Figures of a run that is done, kept in its folder."""
    known = json.dumps([changes, decoder.to_dict(), photographs.limit], sort_keys=True)
    kept = run.folder / f"figures-{hashlib.sha256(known.encode()).hexdigest()[:12]}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    figures = photographs.figures(network_of(run, changes), decoder)
    temporary = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(figures, indent=1))
    os.replace(temporary, kept)
    return figures


def training_speed(run: TableRun) -> float:
    """Images per second of the median epoch of a run that is done."""
    figures = json.loads((run.attempts[-1] / "metrics.json").read_text())
    return float(np.median(figures["train.images_per_second"]["values"]))
