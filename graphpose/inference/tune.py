"""The decoder's thresholds for a network: coordinate ascent on the fields of a validation set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from graphpose.data.batch import Batch
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig, FusionConfig
from graphpose.fields.decode import Decoder, build_decoder, in_threads
from graphpose.fields.fusion import View
from graphpose.fields.merging import decode_image
from graphpose.fields.pose import Poses
from graphpose.fields.spec import FieldSpec
from graphpose.graphs.statistics import PoseStatistics
from graphpose.inference.batches import fields_of_batches, input_sizes
from graphpose.metrics.coco import Evaluator, coco_results
from graphpose.metrics.protocol import evaluate_results
from graphpose.metrics.results import category_of
from graphpose.nn.network import PoseNetwork

# What is worth trying around the defaults; the rest bounds time or is geometry. Names with a space between them are set
# together: where a network is unsure of everything, no threshold gains alone.
GRID: dict[str, tuple[float, ...]] = {
    "keypoint_threshold limb_threshold": (0.1, 0.2, 0.3, 0.4),
    "keypoint_threshold": (0.1, 0.2, 0.3, 0.4),
    "limb_threshold": (0.1, 0.2, 0.3, 0.4),
    "peak_threshold": (0.05, 0.1, 0.15, 0.2),
    "radius": (1.0, 1.25, 1.5, 2.0, 3.0),
    "radius_min": (0.2, 0.3, 0.5),
    "use_spread": (False, True),
    "expected_oks": (False, True),
    "limb_radius": (1.5, 2.0, 3.0, 4.0),
    "limb_slack": (0.05, 0.1, 0.2),
    "min_limb_weight": (0.25, 0.5, 1.0),
    "min_split_share": (0.15, 0.3, 1.0),
    "join_alone": (-7.0, -6.0, -4.0),
    "min_join_probability": (0.5, 0.7, 0.9),
}

JOINING = ("join_alone", "min_join_probability")  # where nothing is joined they change nothing


@dataclasses.dataclass
class ImageFields:
    """What a network predicts for one image.

    Attributes:
        image_id: id from the annotation file's record.
        views: its fields, of one size or of several whose poses are merged.
        size: height and width in pixels that the image covers of the network's input.
        to_original: (2, 3) float64 affine map from pixels of the input to those of the original image.
    """

    image_id: int
    views: list[View]
    size: tuple[int, int]
    to_original: np.ndarray


class Trial(NamedTuple):
    """One candidate of a search: the setting (or settings, with a space between them), their value, and its score."""

    setting: str
    value: float
    score: float


@dataclasses.dataclass
class TuningResult:
    """What :func:`choose_thresholds` found.

    Attributes:
        config: the best settings; says whether fragments were joined.
        score: AP (or what else was asked for) with them.
        before: the same with the settings that the search started from; never above ``score``.
        gains: the trials that were taken over, in order, each with the value before it.
        trials: how many settings were tried.
        images: images that they were tried on.
    """

    config: DecoderConfig
    score: float
    before: float
    gains: list[tuple[str, Trial]]
    trials: int
    images: int

    def lines(self) -> list[str]:
        """A table of the gains, for people."""
        lines = [f"{'setting':34s} {'from':>8s} {'to':>8s} {'score':>7s} {'gain':>7s}"]
        last = self.before
        for before, (setting, value, score) in self.gains:
            lines.append(f"{setting:34s} {before:>8s} {value!s:>8s} {score:7.4f} {score - last:+7.4f}")
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
        fusion: views that the network sees, None is the image alone; thresholds fit the fields they were chosen on.

    Returns:
        One ImageFields per readable image, in order, in the memory of the CPU: 6 MB each for COCO's skeleton at 641
        pixels and stride 8.
    """
    network.eval()
    collected = []
    batches = tqdm(loader, desc="fields", disable=None, leave=False)
    for batch, views in fields_of_batches(network, batches, precision=precision, fusion=fusion):
        if views is None:
            continue
        for i, (image_id, size) in enumerate(zip(batch.image_ids, input_sizes(batch), strict=True)):
            own = [View(view.pif[i], view.paf[i], view.factors) for view in views]
            collected.append(ImageFields(image_id, own, size, batch.to_original[i].numpy()))
    return collected


def choose_thresholds(
    network: PoseNetwork,
    fields: list[ImageFields],
    ground_truth: Mapping[str, Any],
    config: DecoderConfig | None = None,
    *,
    metric: str = "AP",
    grid: Mapping[str, Iterable[float]] = GRID,
    rounds: int = 2,
    max_detections: int = 20,
    evaluator: Evaluator = "pycocotools",
) -> TuningResult:
    """Thresholds with the highest metric on a validation set, which must not be the set that is reported on.

    Args:
        network: says skeleton and stride, and has the statistics that fragments are joined by.
        fields: of the validation images, see :func:`collect_fields`.
        ground_truth: COCO-format annotations of these images; others are left out.
        config: where the search starts; None takes the defaults.
        metric: name of the figure to raise.
        grid: values to try for each setting.
        rounds: passes over the grid, at most.
        max_detections: poses per image that count.
        evaluator: see :func:`~graphpose.metrics.protocol.evaluate_results`.

    Raises:
        GraphposeError: no fields, an unknown setting, or a metric that the data set's protocol does not have.
    """
    spec = network.spec
    start = build_decoder(spec, config, network.pose_statistics)
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
        if metric not in metrics:
            raise GraphposeError(f"this data set's protocol has no metric '{metric}'; it has {', '.join(metrics)}")
        return metrics[metric]

    images = [(image.views, image.size) for image in fields]
    chosen, best, trials = coordinate_ascent(images, score, spec, start.statistics, start.config, grid, rounds)
    before = score([decode_image(start, *image) for image in images])
    gains, current, reached = [], dataclasses.asdict(start.config), before
    for trial in trials:
        if trial.score > reached:
            names = trial.setting.split()
            gains.append(("/".join(str(current[name]) for name in names), trial))
            current |= dict.fromkeys(names, trial.value)
            reached = trial.score
    chosen = dataclasses.replace(chosen, join_fragments=start.joins)
    return TuningResult(chosen, best, before, gains, len(trials), len(fields))


def coordinate_ascent(
    fields: Sequence[tuple],
    score: Callable[[list[Poses]], float],
    spec: FieldSpec,
    statistics: PoseStatistics | None = None,
    config: DecoderConfig | None = None,
    grid: Mapping[str, Iterable[float]] = GRID,
    rounds: int = 2,
) -> tuple[DecoderConfig, float, list[Trial]]:
    """Best thresholds found one setting at a time, its values in order, until nothing gains.

    Args:
        fields: of each validation image: its views, confidences are probabilities, and where it does not fill them
            the image's height and width in pixels.
        score: of the poses of all images, in the order of ``fields``; larger is better (AP, as a rule).
        spec: skeleton and stride.
        statistics: for joining and completing; None leaves fragments apart.
        config: where the search starts.
        grid: names of settings and the values to try; names with a space between them are set together.
        rounds: passes over the grid, at most.

    Returns:
        the best configuration, its score (never below that of ``config``), and every trial in order.

    Raises:
        GraphposeError: when there are no fields or the grid names no setting of DecoderConfig.
    """
    names = {field.name for field in dataclasses.fields(DecoderConfig)}
    if not fields:
        raise GraphposeError("tuning needs the fields of at least one image")
    for name in " ".join(grid).split():
        if name not in names:
            raise GraphposeError(f"'{name}' is no setting of the decoder; choose among {', '.join(sorted(names))}")

    def evaluate(candidate: DecoderConfig) -> float:
        decoder = Decoder(spec, candidate, statistics)
        return score(in_threads(lambda i: decode_image(decoder, *fields[i]), len(fields)))

    best = config if config is not None else DecoderConfig()
    best_score = evaluate(best)
    trials: list[Trial] = []
    idle: tuple[str, ...] = JOINING if statistics is None or best.join_fragments is False else ()
    idle += ("complete_poses",) if statistics is None else ()
    for _ in range(rounds):
        before = best_score
        for name, values in grid.items():
            if name in idle:
                continue
            for value in values:
                candidate = dataclasses.replace(best, **dict.fromkeys(name.split(), value))  # type: ignore[arg-type]
                if candidate == best:
                    continue
                found = evaluate(candidate)
                trials.append(Trial(name, value, found))
                if found > best_score:
                    best, best_score = candidate, found
        if best_score == before:
            break
    return best, best_score, trials
