"""Speed and accuracy of the fields alone: persons → targets, and perfect or noisy fields → poses.

    python experiments/benchmark.py encode --scenes scenes_n20.json
    python experiments/benchmark.py decode --scenes scenes_n20.json --noise 0.15 --threads 2

Scenes are a COCO-format file; its images need not exist. AP is COCO's over persons with enough labelled keypoints, with
as many detections per image as the fullest image has persons, and at least COCO's 20.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphpose.errors import GraphposeError
from graphpose.fields.decode import Decoder, DecoderConfig
from graphpose.fields.encode import Targets, encode, perfect_fields
from graphpose.fields.pose import Poses
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.metrics.coco import coco_results, evaluate_coco
from graphpose.skeleton import Skeleton
from graphpose.statistics import shipped_statistics

REPETITIONS = 5


@dataclasses.dataclass
class Scene:
    """Persons of one image, resized.

    Attributes:
        image_id: id of the image.
        size: height and width in pixels after resizing.
        factor: resized pixels per original pixel.
        keypoints: (1, P, K, 3) float32 in resized pixels.
        scales: (1, P) float32, sqrt(area) in resized pixels.
    """

    image_id: int
    size: tuple[int, int]
    factor: float
    keypoints: torch.Tensor
    scales: torch.Tensor


def add_parsers(subparsers: Any) -> None:
    """Adds ``encode`` and ``decode``."""
    for name, run, text in (
        ("encode", run_encode, "time persons → targets"),
        ("decode", run_decode, "time fields → poses and score the poses"),
    ):
        parser = subparsers.add_parser(name, help=text, description=text)
        parser.add_argument("--scenes", type=Path, required=True, help="COCO-format annotation file (.json)")
        parser.add_argument("--stride", type=int, default=8, help="pixels per field cell (default: %(default)s)")
        parser.add_argument(
            "--long-edge", type=int, default=641, help="images are resized to it, pixels; 0 keeps them (default: 641)"
        )
        parser.add_argument("--min-keypoints", type=int, default=1, help="persons with fewer labels are left out")
        parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
        parser.add_argument("--batch", type=int, default=1, help="images at once (default: 1)")
        parser.set_defaults(run=run)
        if name == "decode":
            parser.add_argument(
                "--noise", type=float, default=0.0, help="offset noise in keypoint scales: 0, 0.15, 0.3"
            )
            parser.add_argument("--seed", type=int, default=0, help="of the noise")
            parser.add_argument("--join", action=argparse.BooleanOptionalAction, default=True, help="join fragments")


def run_encode(options: argparse.Namespace) -> dict[str, Any]:
    """Times encoding; see the module's docstring."""
    torch.set_num_threads(options.threads)
    skeleton, scenes, _ = load_scenes(options.scenes, options.long_edge, options.min_keypoints)
    spec = FieldSpec(skeleton, options.stride)
    batches = [scenes[i : i + options.batch] for i in range(0, len(scenes), options.batch)]
    inputs = [_padded(batch) for batch in batches]
    times = []
    out: Targets | None = None

    def reusable(out: Targets | None, keypoints: torch.Tensor, size: tuple[int, int]) -> Targets | None:
        fits = out is not None and len(out.pif) == len(keypoints) and out.pif.shape[-2:] == spec.size(*size)
        return out if fits else None

    for _ in range(REPETITIONS + 1):
        for batch, (keypoints, scales, size) in zip(batches, inputs, strict=True):
            begin = time.perf_counter()
            out = encode(keypoints, scales, spec, size, out=reusable(out, keypoints, size))
            times.append((time.perf_counter() - begin) / len(batch))
    times = times[len(batches) :]  # the first round warms up
    return {**_describe(options, scenes), "ms_per_image": _milliseconds(times)}


def run_decode(options: argparse.Namespace) -> dict[str, Any]:
    """Times decoding and scores the poses; see the module's docstring."""
    torch.set_num_threads(options.threads)
    skeleton, scenes, annotations = load_scenes(options.scenes, options.long_edge, options.min_keypoints)
    spec = FieldSpec(skeleton, options.stride)
    decoder = Decoder(spec, DecoderConfig(), shipped_statistics(skeleton) if options.join else None)
    generator = torch.Generator().manual_seed(options.seed)
    fields = [scene_fields(scene, spec, options.noise, generator) for scene in scenes]
    begin = time.perf_counter()
    decoder(fields[0][0][0], fields[0][1][0])
    first = time.perf_counter() - begin

    batches = [range(i, min(i + options.batch, len(scenes))) for i in range(0, len(scenes), options.batch)]
    times: list[float] = []
    poses: list[Poses] = []
    for repetition in range(REPETITIONS):
        for batch in batches:
            pif = torch.cat([_pad(fields[i][0], fields[batch[0]][0]) for i in batch])
            paf = torch.cat([_pad(fields[i][1], fields[batch[0]][1]) for i in batch])
            begin = time.perf_counter()
            decoded = decoder.decode_batch(pif, paf, workers=options.threads)
            times.append((time.perf_counter() - begin) / len(batch))
            if repetition == 0:
                poses += decoded
    return {
        **_describe(options, scenes),
        "noise": options.noise,
        "join": options.join,
        "ms_per_image": _milliseconds(times),
        "ms_first_image": round(1000 * first, 3),
        **score(scenes, annotations, skeleton, poses),
        "limb_bound": limb_bound(scenes, annotations, skeleton),
        "poses": sum(len(p) for p in poses),
    }


def load_scenes(path: Path, long_edge: int, min_keypoints: int) -> tuple[Skeleton, list[Scene], dict[str, Any]]:
    """Skeleton, resized scenes, and the annotations (at original size) of the persons in them."""
    try:
        annotations = json.loads(path.read_text())
        category = next(c for c in annotations["categories"] if c.get("keypoints"))
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise GraphposeError(f"{path} is not a readable COCO-format keypoint file ({error!r})") from None
    skeleton = Skeleton.from_category(category)
    persons = [
        a for a in annotations["annotations"]
        if not a.get("iscrowd") and sum(v > 0 for v in a["keypoints"][2::3]) >= max(1, min_keypoints)
    ]  # fmt: skip
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in annotations["images"]}
    for person in persons:
        by_image[person["image_id"]].append(person)
    scenes = []
    for image in annotations["images"]:
        if not by_image[image["id"]]:
            continue
        longest = max(image["width"], image["height"])
        factor = (long_edge - 1) / (longest - 1) if long_edge and longest > 1 else 1.0
        keypoints = torch.tensor([a["keypoints"] for a in by_image[image["id"]]], dtype=torch.float32)
        keypoints = keypoints.reshape(1, -1, skeleton.num_keypoints, 3)
        keypoints[..., :2] *= factor
        scales = torch.tensor([[a["area"] for a in by_image[image["id"]]]], dtype=torch.float32).sqrt() * factor
        size = tuple(round((edge - 1) * factor) + 1 for edge in (image["height"], image["width"]))
        scenes.append(Scene(image["id"], size, factor, keypoints, scales))
    if not scenes:
        raise GraphposeError(f"{path} has no person with at least {max(1, min_keypoints)} labelled keypoints")
    kept = {scene.image_id for scene in scenes}
    annotations = {
        "images": [image for image in annotations["images"] if image["id"] in kept],
        "annotations": [{"iscrowd": 0, **person} for person in persons],
        "categories": annotations["categories"],
    }
    return skeleton, scenes, annotations


def scene_fields(
    scene: Scene, spec: FieldSpec, noise: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fields (1, K, 5, h, w) and (1, M, 7, h, w) that a network would predict, perfect or with noise."""
    targets = encode(scene.keypoints, scene.scales, spec, scene.size)
    pif, paf = perfect_fields(targets)
    return add_noise(pif, paf, scene, spec, noise, generator) if noise > 0 else (pif, paf)


def add_noise(
    pif: torch.Tensor, paf: torch.Tensor, scene: Scene, spec: FieldSpec, noise: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Perfect fields with independent noise in each cell.

    Confidences are the sigmoid of a normal with standard deviation 1 around logit 0.9 on positive cells and logit 0.02
    on the others; 5 % of the positive cells become background. Offsets of positive cells get a normal with standard
    deviation ``noise`` (PIF) or 4/3 ``noise`` (PAF) times the keypoint's scale, background cells point to a random
    place with standard deviation 1 cell (PIF) or 3 cells (PAF). Scales are multiplied by exp(N(0, 0.2)).
    """

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    def confidence(positive: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        positive = positive & (torch.rand(positive.shape, generator=generator) >= 0.05)
        mean = torch.where(positive, 0.9, 0.02).logit()
        return positive, (mean + normal(*positive.shape)).sigmoid()

    _, K, _, h, w = pif.shape
    noisy_pif, noisy_paf = pif.clone(), paf.clone()
    positive, noisy_pif[:, :, PIF.CONFIDENCE] = confidence(pif[:, :, PIF.CONFIDENCE] == 1)
    for channel in (PIF.X, PIF.Y):
        jitter = noise * pif[:, :, PIF.SCALE] * normal(1, K, h, w)
        noisy_pif[:, :, channel] = torch.where(positive, pif[:, :, channel] + jitter, normal(1, K, h, w))
    noisy_pif[:, :, PIF.SCALE] *= (0.2 * normal(1, K, h, w)).exp()
    M = spec.skeleton.num_limbs
    positive, noisy_paf[:, :, PAF.CONFIDENCE] = confidence(paf[:, :, PAF.CONFIDENCE] == 1)
    for end, channels in enumerate(((PAF.X1, PAF.Y1), (PAF.X2, PAF.Y2))):
        scale = _limb_scales(paf, scene, spec, end)
        for channel in channels:
            jitter = noise * 4 / 3 * scale * normal(1, M, h, w)
            noisy_paf[:, :, channel] = torch.where(positive, paf[:, :, channel] + jitter, 3 * normal(1, M, h, w))
    return noisy_pif, noisy_paf


def _limb_scales(paf: torch.Tensor, scene: Scene, spec: FieldSpec, end: int) -> torch.Tensor:
    """Scale (1, M, h, w) in cells of the keypoint that each limb cell's first (0) or second (1) end points to."""
    h, w = paf.shape[-2:]
    scales = torch.zeros(1, spec.skeleton.num_limbs, h, w)
    channel_x, channel_y = ((PAF.X1, PAF.Y1), (PAF.X2, PAF.Y2))[end]
    for m, limb in enumerate(spec.skeleton.limbs):
        rows, columns = (paf[0, m, PAF.CONFIDENCE] == 1).nonzero(as_tuple=True)
        x = columns + paf[0, m, channel_x, rows, columns]
        y = rows + paf[0, m, channel_y, rows, columns]
        labelled = scene.keypoints[0, :, limb[end], 2] > 0
        ends = scene.keypoints[0, labelled, limb[end], :2] / spec.stride
        if len(ends) == 0:
            continue
        nearest = torch.cdist(torch.stack([x, y], 1), ends, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        sigma = spec.skeleton.sigmas[limb[end]]
        scales[0, m, rows, columns] = sigma * scene.scales[0, labelled][nearest] / spec.stride
    return scales


def score(scenes: list[Scene], annotations: dict[str, Any], skeleton: Skeleton, poses: list[Poses]) -> dict[str, float]:
    """COCO's AP and AR (all areas) of the poses, with detections per image not capped below the persons there."""
    category = annotations["annotations"][0].get("category_id", 1)
    results = []
    for scene, found in zip(scenes, poses, strict=True):
        keypoints = found.keypoints / np.array([scene.factor, scene.factor, 1.0])  # float64, so that rounding is exact
        results += coco_results(scene.image_id, dataclasses.replace(found, keypoints=keypoints), category)
    limit = max(20, *(scene.scales.shape[1] for scene in scenes))
    metrics = evaluate_coco(annotations, results, skeleton, max_detections=limit)
    return {"ap": round(metrics["AP"], 4), "ar": round(metrics["AR"], 4)}


def limb_bound(scenes: list[Scene], annotations: dict[str, Any], skeleton: Skeleton) -> float:
    """Average recall when of each person exactly the largest part that its limbs connect is found."""
    shares = []
    for scene in scenes:
        for person in scene.keypoints[0].numpy():
            labelled = person[:, 2] > 0
            part = np.arange(len(labelled))
            for a, b in skeleton.limbs * len(labelled):
                if labelled[a] and labelled[b]:
                    part[a] = part[b] = min(part[a], part[b])
            shares.append(np.bincount(part[labelled]).max() / labelled.sum())
    thresholds = np.linspace(0.5, 0.95, 10)
    return round(float((np.array(shares)[:, None] >= thresholds - 1e-9).mean()), 4)


def _padded(scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Keypoints (B, P, K, 3), scales (B, P) and the common image size of a batch."""
    P = max(scene.keypoints.shape[1] for scene in scenes)
    keypoints = torch.zeros(len(scenes), P, *scenes[0].keypoints.shape[2:])
    scales = torch.zeros(len(scenes), P)
    for i, scene in enumerate(scenes):
        keypoints[i, : scene.keypoints.shape[1]] = scene.keypoints[0]
        scales[i, : scene.scales.shape[1]] = scene.scales[0]
    size = (max(scene.size[0] for scene in scenes), max(scene.size[1] for scene in scenes))
    return keypoints, scales, size


def _pad(field: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A field with as many cells as ``like``, for a batch of images of different sizes."""
    h, w = like.shape[-2:]
    if field.shape[-2:] == (h, w):
        return field
    raise GraphposeError("a batch needs images of one size; use --batch 1")


def _describe(options: argparse.Namespace, scenes: list[Scene]) -> dict[str, Any]:
    return {
        "scenes": options.scenes.name,
        "images": len(scenes),
        "persons": sum(scene.scales.shape[1] for scene in scenes),
        "stride": options.stride,
        "threads": options.threads,
        "batch": options.batch,
    }


def _milliseconds(times: list[float]) -> float:
    return round(1000 * float(np.median(times)), 3)
