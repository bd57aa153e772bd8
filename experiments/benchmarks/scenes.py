"""Scenes of annotated persons, and the fields that a network would predict for them: perfect or with noise.

Scenes are a COCO-format file; its images need not exist.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphpose.errors import GraphposeError
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.skeleton import Skeleton


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


def load_scenes(path: Path, long_edge: int, min_keypoints: int) -> tuple[Skeleton, list[Scene], dict[str, Any]]:
    """Skeleton, resized scenes, and the annotations (at original size) of the persons in them.

    Args:
        path: COCO-format file; its images are not read.
        long_edge: of the resized scenes, pixels; 0 keeps their size.
        min_keypoints: persons with fewer labels are left out.

    Raises:
        GraphposeError: the file is of another form, or has no such person.
    """
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
        for offset in channels:
            jitter = noise * 4 / 3 * scale * normal(1, M, h, w)
            noisy_paf[:, :, offset] = torch.where(positive, paf[:, :, offset] + jitter, 3 * normal(1, M, h, w))
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
