"""Evaluation: a network's poses for a data set, and its metrics."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from graphpose.data.batch import Batch
from graphpose.distributed import ALONE, Ranks
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig, FusionConfig
from graphpose.fields.decode import Decoder
from graphpose.fields.fusion import fused_fields
from graphpose.fields.pose import Poses
from graphpose.fields.spec import FieldSpec, probabilities
from graphpose.graphs.statistics import shipped_statistics
from graphpose.metrics.coco import Evaluator, coco_results
from graphpose.metrics.protocol import Protocol, evaluate_results, headline_names
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import SKELETONS

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


def build_decoder(spec: FieldSpec, settings: Mapping[str, Any] | None = None) -> Decoder:
    """The decoder of a configuration or of a checkpoint's "decoder" entry.

    Args:
        spec: of the network.
        settings: fields of :class:`DecoderConfig`, and ``join_fragments``: join the fragments of a person by the
            statistics shipped for the skeleton. Without it they are joined where there are such statistics.

    Raises:
        GraphposeError: an unknown setting, or no statistics where ``join_fragments`` asks for them.
    """
    values = dict(settings or {})
    # joining reads distances in units of sqrt(person area), which is all that the fields know of a person's size
    joinable = SKELETONS.get(spec.skeleton.name) == spec.skeleton and spec.skeleton.scale_rule == "sqrt_area"
    join = values.pop("join_fragments", joinable)
    if join and not joinable:
        raise GraphposeError(
            f"join_fragments=True needs statistics in units of sqrt(person area), and skeleton '{spec.skeleton.name}' "
            "has none; set join_fragments=False"
        )
    unknown = values.keys() - {field.name for field in dataclasses.fields(DecoderConfig)}
    if unknown:
        raise GraphposeError(f"unknown decoder setting {', '.join(sorted(unknown))}")
    return Decoder(spec, DecoderConfig(**values), shipped_statistics(spec.skeleton) if join else None)


def input_sizes(batch: Batch) -> list[tuple[int, int]]:
    """Height and width in pixels that each image of a batch covers of the network's input, without its padding."""
    H, W = batch.images.shape[-2:]
    scales = torch.linalg.det(batch.to_original[:, :, :2]).abs().sqrt().tolist()  # original pixels per input pixel
    return [
        (min(H, round(height / scale)), min(W, round(width / scale)))
        for (height, width), scale in zip(batch.original_sizes, scales, strict=True)
    ]


@torch.inference_mode()
def predict_batches(
    network: PoseNetwork,
    decoder: Decoder,
    batches: Iterable[Batch],
    *,
    precision: str = "float32",
    seconds: dict[str, float] | None = None,
    fusion: FusionConfig | None = None,
) -> Iterator[tuple[Batch, list[Poses]]]:
    """Poses of every batch, in pixels of the original images.

    Args:
        network: in evaluation mode, on the device that it runs on.
        decoder: made for ``network.spec``.
        batches: from a loader.
        precision: autocast type, "float32" for none.
        seconds: if given, the time of network and decoder is added to it.
        fusion: views that are fused before decoding; None is the image alone.
    """
    device = next(network.parameters()).device

    def fields(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
            outputs = network(images)
        return probabilities(outputs["pif"].float()), probabilities(outputs["paf"].float())

    for batch in batches:
        if len(batch) == 0:
            yield batch, []
            continue
        started = time.perf_counter()
        images = batch.images.to(device, non_blocking=True)
        pif, paf = fused_fields(fields, images, network.spec, fusion or FusionConfig())
        pif, paf = pif.cpu(), paf.cpu()
        decoding = time.perf_counter()
        poses = decoder.decode_batch(pif, paf, image_sizes=input_sizes(batch))
        if seconds is not None:
            seconds["network"] = seconds.get("network", 0.0) + decoding - started
            seconds["decode"] = seconds.get("decode", 0.0) + time.perf_counter() - decoding
        yield batch, [one.mapped(affine.numpy()) for one, affine in zip(poses, batch.to_original, strict=True)]


def evaluate(
    network: PoseNetwork,
    decoder: Decoder,
    loader: Iterable[Batch],
    ground_truth: dict[str, Any],
    *,
    precision: str = "float32",
    max_detections: int = 20,
    ranks: Ranks = ALONE,
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
        fusion: views that are fused before decoding; None is the image alone.
        protocol: rules to score by; None takes those of the data set.
        evaluator: "pycocotools", or "fast" for faster-coco-eval.
    """
    network.eval()
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    results: list[dict[str, Any]] = []
    errors: list[str] = []
    progress = tqdm(loader, desc="evaluate", disable=None if ranks.is_first else True, leave=False)
    for batch, poses in predict_batches(
        network, decoder, progress, precision=precision, seconds=seconds, fusion=fusion
    ):
        for message in batch.errors:
            logger.warning("not evaluated, counts as an image without a detection: %s", message)
        errors += batch.errors
        for image_id, one in zip(batch.image_ids, poses, strict=True):
            results += coco_results(image_id, one)
    seconds["all"] = time.perf_counter() - started
    shares = ranks.gather((results, errors))
    if shares is None:
        return Evaluation({}, results, errors, seconds)
    if ranks.several:  # in the order in which one process would have found them
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
    return "  ".join(f"{name} {metrics[name]:.3f}" if metrics[name] >= 0 else f"{name} –" for name in chosen)
