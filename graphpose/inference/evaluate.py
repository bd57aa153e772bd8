"""Evaluation: a network's poses for a data set, and its metrics."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from graphpose.data.batch import Batch
from graphpose.distributed import SINGLE_PROCESS, Ranks
from graphpose.fields.config import FusionConfig
from graphpose.fields.decode import Decoder
from graphpose.inference.batches import predict_batches
from graphpose.metrics.coco import Evaluator, coco_results
from graphpose.metrics.protocol import Protocol, evaluate_results, headline_names
from graphpose.metrics.results import category_of
from graphpose.nn.network import PoseNetwork

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: the figures of the data set's protocol; COCO's are AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL.
        results: poses of all images in COCO-results format.
        errors: one message per image that could not be read; such an image counts as one without a detection.
        seconds: {"network": …, "decode": …, "all": …}, over all images.
    """

    metrics: dict[str, float]
    results: list[dict[str, Any]]
    errors: list[str]
    seconds: dict[str, float]


def evaluate(
    network: PoseNetwork,
    decoder: Decoder,
    loader: Iterable[Batch],
    ground_truth: dict[str, Any],
    *,
    precision: str = "float32",
    max_detections: int = 20,
    ranks: Ranks = SINGLE_PROCESS,
    fusion: FusionConfig | None = None,
    protocol: Protocol | None = None,
    evaluator: Evaluator = "pycocotools",
) -> Evaluation:
    """Metrics of a network on a data set.

    Args:
        network: put into evaluation mode.
        decoder: made for ``network.spec``.
        loader: batches of the images of ``ground_truth``, each image once.
        ground_truth: COCO-format annotations, as a data set's ``ground_truth()`` gives them.
        precision: autocast type, "float32" for none.
        max_detections: detections per image that count.
        ranks: processes whose loaders share the images; rank 0 gets the evaluation of all of them, the others one
            without metrics.
        fusion: views that the network sees; None is the image alone.
        protocol: rules to score by; None takes those of the data set.
        evaluator: "pycocotools", or "fast" for faster-coco-eval.
    """
    network.eval()
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    results: list[dict[str, Any]] = []
    errors: list[str] = []
    category = category_of(ground_truth)
    progress = tqdm(loader, desc="evaluate", disable=None if ranks.is_first else True, leave=False)
    for batch, poses in predict_batches(
        network, decoder, progress, precision=precision, seconds=seconds, fusion=fusion
    ):
        for message in batch.errors:
            logger.warning("not evaluated, counts as an image without a detection: %s", message)
        errors += batch.errors
        for image_id, one in zip(batch.image_ids, poses, strict=True):
            results += coco_results(image_id, one, category)
    seconds["all"] = time.perf_counter() - started
    shares = ranks.gather((results, errors))
    if shares is None:
        return Evaluation({}, results, errors, seconds)
    if ranks.is_distributed:  # in the order in which one process would have found them
        position = {image["id"]: i for i, image in enumerate(ground_truth["images"])}
        results = sorted((r for share, _ in shares for r in share), key=lambda r: position[r["image_id"]])
        errors = [message for _, share in shares for message in share]
    metrics = evaluate_results(
        ground_truth,
        results,
        network.spec.skeleton,
        protocol=protocol,
        max_detections=max_detections,
        evaluator=evaluator,
    )
    return Evaluation(metrics, results, errors, seconds)


def metrics_line(metrics: Mapping[str, float], names: Sequence[str] | None = None) -> str:
    """One line for people: AP 0.512  AP50 0.801 …; "–" where the set has no such person."""
    chosen = headline_names(metrics) if names is None else names
    return "  ".join(f"{name} {figure(metrics[name], 3)}" for name in chosen)


def figure(value: float, decimals: int) -> str:
    """A metric for people; "–" where the set has no such person."""
    return f"{value:.{decimals}f}" if value >= 0 else "–"
