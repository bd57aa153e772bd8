"""The decoder's thresholds for a network, chosen on the fields of a validation set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from graphpose.data.batch import Batch
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig, FusionConfig
from graphpose.fields.decode import build_decoder
from graphpose.fields.pose import Poses
from graphpose.inference.predict import input_sizes, predict_fields
from graphpose.inference.search import GRID, tune
from graphpose.metrics.coco import Evaluator, coco_results
from graphpose.metrics.protocol import evaluate_results
from graphpose.metrics.results import category_of
from graphpose.nn.network import PoseNetwork


@dataclasses.dataclass
class ImageFields:
    """What a network predicts for one image.

    Attributes:
        image_id: id from the annotation file's record.
        pif: (K, 5, h, w) float32, confidences are probabilities.
        paf: (M, 7, h, w) float32, likewise.
        size: height and width in pixels that the image covers of the network's input.
        to_original: (2, 3) float64 affine map from pixels of the input to those of the original image.
    """

    image_id: int
    pif: np.ndarray
    paf: np.ndarray
    size: tuple[int, int]
    to_original: np.ndarray


@dataclasses.dataclass
class Choice:
    """What a search for thresholds found.

    Attributes:
        config: the best settings; says whether fragments were joined.
        score: AP (or what else was asked for) with them.
        before: the same with the settings that the search started from; never above ``score``.
        gains: each change, in order: the name (or names) of what was changed, value before, value after, score after.
        trials: settings that were tried.
        images: images that they were tried on.
    """

    config: DecoderConfig
    score: float
    before: float
    gains: list[tuple[str, str, Any, float]]
    trials: int
    images: int

    def lines(self) -> list[str]:
        """A table of the gains, for people."""
        lines = [f"{'setting':34s} {'from':>8s} {'to':>8s} {'score':>7s} {'gain':>7s}"]
        last = self.before
        for name, old, new, score in self.gains:
            lines.append(f"{name:34s} {old:>8s} {new!s:>8s} {score:7.4f} {score - last:+7.4f}")
            last = score
        lines.append(f"{self.before:.4f} → {self.score:.4f} on {self.images} images, {self.trials} settings tried")
        return lines


def collect_fields(
    network: PoseNetwork, loader: Iterable[Batch], *, precision: str = "float32", fusion: FusionConfig | None = None
) -> list[ImageFields]:
    """The fields of every image of a loader.

    Args:
        network: put into evaluation mode, on the device that it runs on.
        loader: batches; images that cannot be read are left out.
        precision: autocast type, "float32" for none.
        fusion: views that are fused, None is the image alone; thresholds fit the fields that they were chosen on.

    Returns:
        One ImageFields per readable image, in order, in the memory of the CPU: 6 MB each for COCO's skeleton at 641
        pixels and stride 8.
    """
    network.eval()
    collected = []
    for batch in tqdm(loader, desc="fields", disable=None, leave=False):
        if len(batch) == 0:
            continue
        fields = predict_fields(network, batch.images, precision=precision, fusion=fusion)
        pif, paf = (field.numpy() for field in fields)
        for i, (image_id, size) in enumerate(zip(batch.image_ids, input_sizes(batch), strict=True)):
            collected.append(ImageFields(image_id, pif[i], paf[i], size, batch.to_original[i].numpy()))
    return collected


def choose_thresholds(
    network: PoseNetwork,
    fields: list[ImageFields],
    ground_truth: Mapping[str, Any],
    config: DecoderConfig | None = None,
    *,
    figure: str = "AP",
    grid: Mapping[str, Iterable[float]] = GRID,
    rounds: int = 2,
    max_detections: int = 20,
    evaluator: Evaluator = "pycocotools",
) -> Choice:
    """Thresholds with the highest figure on a validation set, which must not be the set that is reported on.

    Args:
        network: says skeleton and stride.
        fields: of the validation images, see :func:`collect_fields`.
        ground_truth: COCO-format annotations of these images; others are left out.
        config: where the search starts; None takes the defaults.
        figure: name of the metric.
        grid: values to try for each setting.
        rounds: passes over the grid, at most.
        max_detections: poses per image that count.
        evaluator: see :func:`~graphpose.metrics.protocol.evaluate_results`.

    Raises:
        GraphposeError: no fields, an unknown setting, or a figure that the data set's metric does not have.
    """
    spec = network.spec
    start = build_decoder(spec, config)
    ids = {image.image_id for image in fields}
    truth = {
        **ground_truth,
        "images": [image for image in ground_truth["images"] if image["id"] in ids],
        "annotations": [a for a in ground_truth["annotations"] if a["image_id"] in ids],
    }

    category = category_of(truth)

    def score(poses: list[Poses]) -> float:
        results = [
            result
            for image, found in zip(fields, poses, strict=True)
            for result in coco_results(image.image_id, found.mapped(image.to_original), category)
        ]
        metrics = evaluate_results(truth, results, spec.skeleton, max_detections=max_detections, evaluator=evaluator)
        if figure not in metrics:
            raise GraphposeError(f"the metric of this data set has no figure '{figure}'; it has {', '.join(metrics)}")
        return metrics[figure]

    arrays = [(image.pif, image.paf, image.size) for image in fields]
    chosen, best, trials = tune(arrays, score, spec, start.statistics, start.config, grid, rounds)
    before = score([start(*image) for image in arrays])
    gains, current, reached = [], dataclasses.asdict(start.config), before
    for names, value, found in trials:
        if found > reached:
            gains.append((names, "/".join(str(current[name]) for name in names.split()), value, found))
            current |= dict.fromkeys(names.split(), value)
            reached = found
    chosen = dataclasses.replace(chosen, join_fragments=start.statistics is not None)
    return Choice(chosen, best, before, gains, len(trials), len(fields))
