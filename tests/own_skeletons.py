"""Made data sets of skeletons that are nobody's: coloured sticks, for tests and for docs/own-data.md.

Three categories: a hand (21 keypoints), a body with feet (26) and one in two parts that no limb connects (7). Limbs
that change places in a mirror image have one colour, so that a mirror image shows what its labels say.
"""

from __future__ import annotations

import colorsys
import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from graphpose.skeleton import Skeleton

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
# x, y of a figure about 1 high, y downwards; the person looks at us, so that its left is on our right
SIDES = {
    "eye": (0.03, -0.03), "ear": (0.07, -0.01), "shoulder": (0.14, 0.16), "elbow": (0.2, 0.32), "wrist": (0.22, 0.47),
    "hip": (0.09, 0.48), "knee": (0.1, 0.7), "ankle": (0.1, 0.92), "big_toe": (0.13, 1.0), "small_toe": (0.18, 0.98),
    "heel": (0.08, 0.97),
}  # fmt: skip
MIDDLE = {"nose": (0.0, 0.0), "head": (0.0, -0.12), "neck": (0.0, 0.12), "hip": (0.0, 0.46)}
BODY_LIMBS = (
    ("nose", "l_eye"), ("l_eye", "l_ear"), ("nose", "neck"), ("nose", "head"), ("neck", "l_shoulder"),
    ("l_shoulder", "l_elbow"), ("l_elbow", "l_wrist"), ("neck", "hip"), ("hip", "l_hip"), ("l_hip", "l_knee"),
    ("l_knee", "l_ankle"), ("l_ankle", "l_heel"), ("l_ankle", "l_big_toe"), ("l_big_toe", "l_small_toe"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Made:
    """A category and how one of its kind looks.

    Attributes:
        category: of an annotation file.
        layout: (K, 2) of an upright figure about 1 high.
    """

    category: dict[str, Any]
    layout: np.ndarray


def hand() -> Made:
    """A wrist and five fingers of four joints; its mirror image is the other hand, so it has no flip pairs."""
    names, layout, limbs = ["wrist"], [(0.0, 1.0)], []
    for number, finger in enumerate(FINGERS):
        angle = np.radians(-55 + 27 * number)
        reach = (0.35, 0.5, 0.66, 0.8) if number == 0 else (0.5, 0.7, 0.85, 0.97)
        for joint, length in enumerate(reach, start=1):
            limbs.append(["wrist" if joint == 1 else names[-1], f"{finger}{joint}"])
            names.append(f"{finger}{joint}")
            layout.append((np.sin(angle) * length, 1 - np.cos(angle) * length))
    category = {"id": 1, "name": "hand", "keypoints": names, "skeleton": limbs, "flip_pairs": []}
    return Made(category, np.array(layout))


def body_with_feet() -> Made:
    """The 26 keypoints that Halpe has, its sides named l_ and r_."""
    places = dict(MIDDLE)
    for part, (x, y) in SIDES.items():
        places |= {f"l_{part}": (x, y), f"r_{part}": (-x, y)}
    limbs = [list(pair) for pair in BODY_LIMBS]
    limbs += [[name.replace("l_", "r_", 1) for name in pair] for pair in BODY_LIMBS if any("l_" in n for n in pair)]
    category = {"id": 7, "name": "person_with_feet", "keypoints": list(places), "skeleton": limbs}
    return Made(category, np.array(list(places.values())))


def two_parts() -> Made:
    """A kite and its tail: no limb joins the two."""
    places = {
        "top": (0.0, 0.0), "left_wing": (0.25, 0.25), "right_wing": (-0.25, 0.25), "bottom": (0.0, 0.6),
        "tail_start": (0.0, 0.72), "tail_middle": (0.0, 0.86), "tail_end": (0.0, 1.0),
    }  # fmt: skip
    limbs = [[1, 2], [1, 3], [2, 4], [3, 4], [5, 6], [6, 7]]
    category = {"id": 3, "name": "kite", "keypoints": list(places), "skeleton": limbs}
    return Made(category, np.array(list(places.values())))


KINDS = {"hand": hand, "feet": body_with_feet, "kite": two_parts}


def write_made(folder: Path, kind: str, images: int, *, seed: int = 0, size: tuple[int, int] = (160, 192)) -> Path:
    """Write FOLDER/annotations.json and FOLDER/images: one or two figures an image.

    Args:
        folder: made where it is missing.
        kind: of :data:`KINDS`.
        images: how many.
        seed: of everything that is drawn.
        size: height, width in pixels.

    Returns:
        The annotation file.
    """
    made, rng = KINDS[kind](), np.random.default_rng(seed)
    skeleton = Skeleton.from_category(made.category)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [made.category]}
    height, width = size
    for number in range(1, images + 1):
        image = _background(rng, height, width)
        count = int(rng.integers(1, 3))
        for place in range(count):
            pose = posed(made.layout, skeleton, rng)
            span = width / count
            extent = np.ptp(pose, axis=0)
            scale = min(0.9 * span / extent[0], 0.9 * height / extent[1]) * rng.uniform(0.7, 1)
            low, high = pose.min(axis=0) * scale, pose.max(axis=0) * scale
            x = place * span + (span - (high - low)[0]) * rng.uniform(0.1, 0.9)
            y = (height - (high - low)[1]) * rng.uniform(0.1, 0.9)
            keypoints = pose * scale + np.array([x, y]) - low
            inside = ((keypoints >= 0) & (keypoints <= (width - 1, height - 1))).all(axis=1)
            draw(image, keypoints, skeleton, scale)
            content["annotations"].append(_record(len(content["annotations"]) + 1, number, made, keypoints, inside))
        name = f"{kind}_{number:04d}.png"
        cv2.imwrite(str(folder / "images" / name), image)
        content["images"].append({"id": number, "file_name": name, "height": height, "width": width})
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def posed(layout: np.ndarray, skeleton: Skeleton, rng: np.random.Generator) -> np.ndarray:
    """(K, 2): the layout with its limbs turned about their nearer ends, and the whole turned a little."""
    pose = layout.copy()
    for part in skeleton.components:
        order, parent = [part[0]], {part[0]: part[0]}
        for k in order:
            for a, b in skeleton.limbs:
                for near, far in ((a, b), (b, a)):
                    if near == k and far not in parent:
                        parent[far] = k
                        order.append(far)
        turn = {part[0]: 0.0}
        for k in order[1:]:
            turn[k] = turn[parent[k]] + np.radians(rng.normal(0, 8))
            pose[k] = pose[parent[k]] + _rotation(turn[k]) @ (layout[k] - layout[parent[k]])
    return (pose - pose.mean(axis=0)) @ _rotation(np.radians(rng.uniform(-20, 20))).T


def draw(image: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, scale: float) -> None:
    """Limbs as sticks with a dot at each end, into a (H, W, 3) uint8 picture."""
    thick = max(2, round(scale * 0.03))
    for m, (a, b) in enumerate(skeleton.limbs):
        twin = min(m, skeleton.flip_limbs[m][0])  # limbs that change places look the same
        colour = [255 * c for c in colorsys.hsv_to_rgb(0.618 * twin % 1, 0.75, 0.9)]
        ends = [tuple(np.rint(keypoints[k]).astype(int).tolist()) for k in (a, b)]
        cv2.line(image, *ends, colour, thick, cv2.LINE_AA)
    for x, y in np.rint(keypoints).astype(int).tolist():
        cv2.circle(image, (x, y), max(1, thick // 2), (240, 240, 240), -1, cv2.LINE_AA)


def _record(number: int, image_id: int, made: Made, keypoints: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
    low, high = keypoints[inside].min(axis=0), keypoints[inside].max(axis=0)
    flat = [value for (x, y), seen in zip(keypoints.tolist(), inside.tolist(), strict=True)
            for value in ((round(x, 1), round(y, 1), 2) if seen else (0, 0, 0))]  # fmt: skip
    return {
        "id": number, "image_id": image_id, "category_id": made.category["id"], "iscrowd": 0, "keypoints": flat,
        "num_keypoints": int(inside.sum()), "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": float(np.prod(np.maximum(high - low, 4)) * 0.6),
    }  # fmt: skip


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = rng.integers(20, 120, (6, 7, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
