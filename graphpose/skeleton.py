"""Skeletons: the one place that knows how many keypoints (K) and limbs (M) there are.

Graphs, targets, heads, decoder, metrics and drawing all read a :class:`Skeleton`; nothing else says 17.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from graphpose.errors import GraphposeError

ScaleRule = Literal["sqrt_area", "bbox_diagonal", "head"]

# Used for keypoints whose labelling spread nobody measured: the mean of COCO's seventeen.
DEFAULT_SIGMA = 0.061


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Keypoints of a body and the limbs that connect them.

    Attributes:
        name: short lower-case name ("coco", "mpii", "crowdpose" or that of a COCO-format category).
        keypoints: the K keypoint names in annotation order.
        limbs: the M limbs as pairs of 0-based keypoint indices.
        sigmas: K standard deviations of labelling, in units of sqrt(person area) (OKS uses k = 2σ).
        scale_rule: what s_n of Eq. 5 is for this data set.

    Raises:
        GraphposeError: when names repeat, a limb points outside the keypoints, connects a keypoint to itself or
            stands twice, or the number of sigmas is not K.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    scale_rule: ScaleRule = "sqrt_area"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keypoints", tuple(self.keypoints))
        object.__setattr__(self, "limbs", tuple((int(a), int(b)) for a, b in self.limbs))
        object.__setattr__(self, "sigmas", tuple(float(s) for s in self.sigmas))
        K = len(self.keypoints)
        if K == 0 or len(set(self.keypoints)) != K:
            raise GraphposeError(f"skeleton '{self.name}': keypoint names must be given and differ from each other")
        if len(self.sigmas) != K or not all(math.isfinite(s) and s > 0 for s in self.sigmas):
            raise GraphposeError(f"skeleton '{self.name}': {K} positive sigmas are needed, got {self.sigmas}")
        if self.scale_rule not in ("sqrt_area", "bbox_diagonal", "head"):
            raise GraphposeError(
                f"skeleton '{self.name}': scale_rule '{self.scale_rule}' is not sqrt_area, bbox_diagonal or head"
            )
        seen = set()
        for a, b in self.limbs:
            if not (0 <= a < K and 0 <= b < K) or a == b:
                raise GraphposeError(
                    f"skeleton '{self.name}': limb ({a}, {b}) must join two of the keypoints 0..{K - 1}"
                )
            if frozenset((a, b)) in seen:
                raise GraphposeError(f"skeleton '{self.name}': limb ({a}, {b}) stands twice")
            seen.add(frozenset((a, b)))

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoints)

    @property
    def num_limbs(self) -> int:
        """M."""
        return len(self.limbs)

    @cached_property
    def flip(self) -> tuple[int, ...]:
        """Permutation of a left–right mirrored person: keypoint k of the mirror image is keypoint flip[k] of the
        original. Found by exchanging "left" and "right" (or a leading/trailing l and r) in the names."""
        index = {name: i for i, name in enumerate(self.keypoints)}
        return tuple(index.get(_mirror_name(name), i) for i, name in enumerate(self.keypoints))

    @cached_property
    def flip_limbs(self) -> tuple[tuple[int, bool], ...]:
        """For each limb m its mirror image (limb index, whether its two ends change places). A limb whose mirror image
        is no limb of the skeleton maps to itself."""
        index = {limb: m for m, limb in enumerate(self.limbs)}
        mirrored = []
        for m, (a, b) in enumerate(self.limbs):
            a, b = self.flip[a], self.flip[b]
            if (a, b) in index:
                mirrored.append((index[a, b], False))
            elif (b, a) in index:
                mirrored.append((index[b, a], True))
            else:
                mirrored.append((m, False))
        return tuple(mirrored)

    def index(self, keypoint: str) -> int:
        """Index of a keypoint by name; GraphposeError lists the valid names otherwise."""
        try:
            return self.keypoints.index(keypoint)
        except ValueError:
            raise GraphposeError(
                f"skeleton '{self.name}' has no keypoint '{keypoint}'; it has {', '.join(self.keypoints)}"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and exported models; :meth:`from_dict` is the exact inverse."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "limbs": [list(limb) for limb in self.limbs],
            "sigmas": list(self.sigmas),
            "scale_rule": self.scale_rule,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Skeleton:
        """Inverse of :meth:`to_dict`."""
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})

    @classmethod
    def from_category(cls, category: Mapping[str, Any]) -> Skeleton:
        """Skeleton of a COCO-format category (1-based ``skeleton`` pairs, optional ``sigmas``).

        The categories of COCO and CrowdPose give the built-in skeletons with their official sigmas.

        Raises:
            GraphposeError: when the category has no ``keypoints``.
        """
        names = tuple(category.get("keypoints") or ())
        if not names:
            raise GraphposeError(
                f"category '{category.get('name', '?')}' has no 'keypoints'; this is not a COCO keypoint file"
            )
        for known in SKELETONS.values():
            if known.keypoints == names:
                return known
        limbs = dict.fromkeys(tuple(sorted((int(a) - 1, int(b) - 1))) for a, b in category.get("skeleton") or ())
        sigmas = tuple(category.get("sigmas") or (DEFAULT_SIGMA,) * len(names))
        return cls(str(category.get("name", "custom")), names, tuple(limbs), sigmas)  # type: ignore[arg-type]


def _mirror_name(name: str) -> str:
    for left, right in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
        if left in name:
            return name.replace(left, right)
        if right in name:
            return name.replace(right, left)
    for left, right in (("l_", "r_"), ("L_", "R_")):
        if name.startswith(left):
            return right + name[2:]
        if name.startswith(right):
            return left + name[2:]
    for left, right in (("_l", "_r"), ("_L", "_R")):
        if name.endswith(left):
            return name[:-2] + right
        if name.endswith(right):
            return name[:-2] + left
    return name


# fmt: off
COCO = Skeleton(
    name="coco",
    keypoints=(
        "nose",  # 0
        "left_eye",  # 1
        "right_eye",  # 2
        "left_ear",  # 3
        "right_ear",  # 4
        "left_shoulder",  # 5
        "right_shoulder",  # 6
        "left_elbow",  # 7
        "right_elbow",  # 8
        "left_wrist",  # 9
        "right_wrist",  # 10
        "left_hip",  # 11
        "right_hip",  # 12
        "left_knee",  # 13
        "right_knee",  # 14
        "left_ankle",  # 15
        "right_ankle",  # 16
    ),
    # The nineteen limbs of COCO's own category record, there 1-based.
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    # pycocotools, cocoeval.Params.setKpParams
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089,
    ),
)

CROWDPOSE = Skeleton(
    name="crowdpose",
    keypoints=(
        "left_shoulder",  # 0
        "right_shoulder",  # 1
        "left_elbow",  # 2
        "right_elbow",  # 3
        "left_wrist",  # 4
        "right_wrist",  # 5
        "left_hip",  # 6
        "right_hip",  # 7
        "left_knee",  # 8
        "right_knee",  # 9
        "left_ankle",  # 10
        "right_ankle",  # 11
        "head",  # 12
        "neck",  # 13
    ),
    limbs=(
        (12, 13), (13, 0), (13, 1), (0, 1), (0, 2), (2, 4), (1, 3), (3, 5), (0, 6), (1, 7), (6, 7), (6, 8), (8, 10),
        (7, 9), (9, 11),
    ),
    # crowdposetools, cocoeval.Params.setKpParams
    sigmas=(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
)

MPII = Skeleton(
    name="mpii",
    keypoints=(
        "right_ankle",  # 0
        "right_knee",  # 1
        "right_hip",  # 2
        "left_hip",  # 3
        "left_knee",  # 4
        "left_ankle",  # 5
        "pelvis",  # 6
        "thorax",  # 7
        "upper_neck",  # 8
        "head_top",  # 9
        "right_wrist",  # 10
        "right_elbow",  # 11
        "right_shoulder",  # 12
        "left_shoulder",  # 13
        "left_elbow",  # 14
        "left_wrist",  # 15
    ),
    limbs=(
        (0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (7, 12), (12, 11), (11, 10), (7, 13),
        (13, 14), (14, 15),
    ),
    # MPII has no sigmas of its own; these are COCO's for the same joints and 0.079 on the body axis, used for target
    # scales and instance scores, never for PCKh.
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.079, 0.079, 0.079, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062,
    ),
    scale_rule="head",
)
# fmt: on

SKELETONS: dict[str, Skeleton] = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE, MPII)}


def get_skeleton(name: str) -> Skeleton:
    """A built-in skeleton by name; GraphposeError lists the valid names otherwise."""
    try:
        return SKELETONS[name]
    except KeyError:
        raise GraphposeError(f"unknown skeleton '{name}'; choose one of {', '.join(SKELETONS)}") from None
