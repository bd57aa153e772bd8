"""Keypoints of one data set found in another's skeleton, by their names.

Sets write the same joint as right_ankle, "Right Ankle", RAnkle, r_ankle or rank; all are read as a side and a part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton

Side = Literal["left", "right", ""]

# Names of parts without side and separators, as COCO, CrowdPose, MPII, LSP, AI Challenger and Halpe write them.
PARTS = {
    "nose": ("nose",),
    "eye": ("eye",),
    "ear": ("ear",),
    "head_top": ("headtop", "tophead", "topofhead", "topofthehead", "head"),
    "neck": ("neck", "upperneck", "headbottom", "bottomhead"),
    "thorax": ("thorax", "thor", "chest"),
    "pelvis": ("pelvis", "pelv", "midhip", "root"),
    "shoulder": ("shoulder", "sho"),
    "elbow": ("elbow", "elb"),
    "wrist": ("wrist", "wri"),
    "hip": ("hip",),
    "knee": ("knee", "kne"),
    "ankle": ("ankle", "ank"),
    "big_toe": ("bigtoe",),
    "small_toe": ("smalltoe",),
    "heel": ("heel",),
}
_PART_OF = {name: part for part, names in PARTS.items() for name in names}
_SIDES: dict[str, Side] = {"left": "left", "right": "right", "l": "left", "r": "right"}


def body_part(name: str) -> tuple[Side, str] | None:
    """Side and part that a keypoint's name means; None for a name that no known set uses.

    A hip without a side is the pelvis (Halpe).
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    sides = [_SIDES[word] for word in words if word in _SIDES]
    joined = "".join(word for word in words if word not in _SIDES)
    if len(sides) == 1 and joined in _PART_OF:
        return sides[0], _PART_OF[joined]
    if sides:
        return None
    if joined == "hip":
        return "", "pelvis"
    if joined in _PART_OF:
        return "", _PART_OF[joined]
    for prefix, side in _SIDES.items():  # rankle, Lankle, leftankle
        if joined.startswith(prefix) and joined[len(prefix) :] in _PART_OF:
            return side, _PART_OF[joined[len(prefix) :]]
    return None


def match_keypoints(source: Skeleton, target: Skeleton) -> np.ndarray:
    """Where the keypoints of one skeleton are found in another.

    Args:
        source: the skeleton of a data set.
        target: the skeleton that it is read into.

    Returns:
        (K of ``target``,) int64; index into the keypoints of ``source``, the one of the same name or else of the same
        side and part; −1 where there is none.

    Raises:
        GraphposeError: when two keypoints of ``source`` mean the same, or none of them is found.
    """
    found = match_names(source.keypoints, target.keypoints, f"skeleton '{source.name}'", f"skeleton '{target.name}'")
    if max(found) < 0:
        raise GraphposeError(
            f"skeleton '{source.name}' has no keypoint of skeleton '{target.name}'; it has "
            + ", ".join(source.keypoints)
        )
    return np.array(found, np.int64)


def match_names(names: Sequence[str], keypoints: Sequence[str], source: str, target: str) -> list[int]:
    """Where each keypoint of one list is found among the names of another: the same name, or else the same side and
    part; −1 where there is none.

    Args:
        names: that are looked through.
        keypoints: that are looked for.
        source: what ``names`` are of, for messages.
        target: what ``keypoints`` are of, for messages.

    Raises:
        GraphposeError: when two names mean the same keypoint.
    """
    by_part: dict[tuple[Side, str], list[int]] = {}
    for index, name in enumerate(names):
        part = body_part(name)
        if part is not None:
            by_part.setdefault(part, []).append(index)
    found = []
    for name in keypoints:
        part = body_part(name)
        candidates = [names.index(name)] if name in names else by_part.get(part, []) if part else []
        if len(candidates) > 1:
            both = " and ".join(f"'{names[i]}'" for i in candidates)
            raise GraphposeError(f"{source}: {both} both mean '{name}' of {target}; rename the one that is something "
                                 "else")  # fmt: skip
        found.append(candidates[0] if candidates else -1)
    return found
