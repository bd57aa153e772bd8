"""The decoder's thresholds for a network: chosen on the fields of a validation set, written to and read from a file."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from graphpose.data.batch import Batch
from graphpose.errors import GraphposeError
from graphpose.fields.config import FusionConfig
from graphpose.fields.decode import SETTING_TYPES
from graphpose.fields.fusion import fused_fields
from graphpose.fields.pose import Poses
from graphpose.fields.spec import probabilities
from graphpose.inference.evaluate import build_decoder, input_sizes
from graphpose.inference.search import GRID, tune
from graphpose.metrics.coco import Evaluator, coco_results
from graphpose.metrics.protocol import evaluate_results
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
        settings: the best ones, as :func:`~graphpose.inference.evaluate.build_decoder` takes them.
        score: AP (or what else was asked for) with them.
        before: the same with the settings that the search started from; never above ``score``.
        gains: each change, in order: the name (or names) of what was changed, value before, value after, score after.
        trials: settings that were tried.
        images: images that they were tried on.
    """

    settings: dict[str, Any]
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


@torch.inference_mode()
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
    device = next(network.parameters()).device

    def predict(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
            outputs = network(images)
        return probabilities(outputs["pif"].float()), probabilities(outputs["paf"].float())

    network.eval()
    collected = []
    for batch in tqdm(loader, desc="fields", disable=None, leave=False):
        if len(batch) == 0:
            continue
        images = batch.images.to(device, non_blocking=True)
        pif, paf = (f.cpu().numpy() for f in fused_fields(predict, images, network.spec, fusion or FusionConfig()))
        for i, (image_id, size) in enumerate(zip(batch.image_ids, input_sizes(batch), strict=True)):
            collected.append(ImageFields(image_id, pif[i], paf[i], size, batch.to_original[i].numpy()))
    return collected


def choose_thresholds(
    network: PoseNetwork,
    fields: list[ImageFields],
    ground_truth: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
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
        settings: where the search starts, as :func:`~graphpose.inference.evaluate.build_decoder` takes them.
        figure: name of the metric.
        grid: values to try for each setting.
        rounds: passes over the grid, at most.
        max_detections: poses per image that count.
        evaluator: see :func:`~graphpose.metrics.protocol.evaluate_results`.

    Raises:
        GraphposeError: no fields, an unknown setting, or a figure that the data set's metric does not have.
    """
    spec = network.spec
    start = build_decoder(spec, settings)
    ids = {image.image_id for image in fields}
    truth = {
        **ground_truth,
        "images": [image for image in ground_truth["images"] if image["id"] in ids],
        "annotations": [a for a in ground_truth["annotations"] if a["image_id"] in ids],
    }

    def score(poses: list[Poses]) -> float:
        results = [
            result
            for image, found in zip(fields, poses, strict=True)
            for result in coco_results(image.image_id, found.mapped(image.to_original))
        ]
        metrics = evaluate_results(truth, results, spec.skeleton, max_detections=max_detections, evaluator=evaluator)
        if figure not in metrics:
            raise GraphposeError(f"the metric of this data set has no figure '{figure}'; it has {', '.join(metrics)}")
        return metrics[figure]

    arrays = [(image.pif, image.paf, image.size) for image in fields]
    config, best, trials = tune(arrays, score, spec, start.statistics, start.config, grid, rounds)
    before = score([start(*image) for image in arrays])
    gains, current, reached = [], dataclasses.asdict(start.config), before
    for names, value, found in trials:
        if found > reached:
            gains.append((names, "/".join(str(current[name]) for name in names.split()), value, found))
            current |= dict.fromkeys(names.split(), value)
            reached = found
    chosen = {"join_fragments": start.statistics is not None, **dataclasses.asdict(config)}
    return Choice(chosen, best, before, gains, len(trials), len(fields))


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes decoder settings as JSON, for :func:`read_settings`."""
    try:
        path.write_text(json.dumps(dict(settings), indent=1) + "\n")
    except OSError as error:
        raise GraphposeError(f"'{path}' could not be written: {error.strerror or error}") from error


def read_settings(path: Path) -> dict[str, Any]:
    """Decoder settings from a JSON file: any of DecoderConfig's, and join_fragments.

    Raises:
        GraphposeError: the file is missing or no JSON object, or a setting is unknown or no number.
    """
    try:
        settings = json.loads(path.read_text())
    except OSError as error:
        raise GraphposeError(f"decoder settings '{path}' cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise GraphposeError(f"decoder settings '{path}' are not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise GraphposeError(f"decoder settings '{path}' must be a JSON object of names and values")
    kinds = SETTING_TYPES | {"join_fragments": bool}
    for name, value in settings.items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1, cutoff=0.0)
            raise GraphposeError(f"'{path}': unknown decoder setting '{name}'; did you mean '{near[0]}'?")
        wanted = (int, float) if kinds[name] is float else kinds[name]
        if not isinstance(value, wanted) or (isinstance(value, bool) and kinds[name] is not bool):
            raise GraphposeError(f"'{path}': {name}={value!r} must be of type {kinds[name].__name__}")
    return settings
