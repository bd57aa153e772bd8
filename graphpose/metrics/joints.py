"""Labelled joints one by one: which are found, by kind of joint, hidden or visible, alone or among others.

A labelled joint is found within a share of the long side of its person's box where that person's pose has it so near.
Which pose is the person's is not known where one person of several is labelled, nor are poses and persons matched one
to one elsewhere: it is the one that finds most of the person's joints, among the highest five of the image in a set of
single persons and among all of them in a set in which everybody is labelled. Joints of a person whom no pose meets
count as not found, with confidence 0.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.metrics.intervals import FACE, SHARES, joints_near
from graphpose.skeleton import Skeleton

CROWDS = {"1 person": (1, 1), "2 to 4 persons": (2, 4), "5 or more persons": (5, 10**9)}  # labelled in the image
OCCLUSIONS = {"hidden": 1, "visible": 2}  # COCO's flags of a labelled keypoint


@dataclasses.dataclass(frozen=True)
class JointTable:
    """N labelled joints of a data set.

    Attributes:
        image: (N,) int64; id of the image.
        persons: (N,) int64; labelled persons in that image.
        keypoint: (N,) int64; in the network's skeleton.
        visibility: (N,) int64; 1 labelled but hidden, 2 visible.
        found: (N, len(SHARES)) bool; within each of the shares.
        confidence: (N,) float64; of the joint in the person's pose, 0 where that lacks it or there is none.
    """

    image: np.ndarray
    persons: np.ndarray
    keypoint: np.ndarray
    visibility: np.ndarray
    found: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def where(self, rows: np.ndarray) -> JointTable:
        """Some rows of the table, by a mask or by index."""
        return JointTable(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def shares(self, skeleton: Skeleton) -> dict[str, float]:
        """Shares of the joints that are found, and mean confidences, by name; groups without a joint are left out.

        Args:
            skeleton: of the network.

        Returns:
            "within 0.1" and "within 0.05"; "within 0.1" of each part ("wrist"; nose, eyes and ears are "face"), of
            hidden and of visible joints where there are both, and by the number of labelled persons where that varies;
            "confidence", of hidden and of visible ones.
        """
        figures = {f"within {share}": float(self.found[:, i].mean()) for i, share in enumerate(SHARES)}
        parts = np.array([part_of(name) for name in skeleton.keypoints])[self.keypoint]
        groups: dict[str, np.ndarray] = {
            part: parts == part for part in dict.fromkeys(map(part_of, skeleton.keypoints))
        }
        occlusions = {name: self.visibility == flag for name, flag in OCCLUSIONS.items()}
        crowds = {name: (low <= self.persons) & (self.persons <= high) for name, (low, high) in CROWDS.items()}
        for of_kind in (occlusions, crowds):
            if sum(bool(rows.any()) for rows in of_kind.values()) > 1:
                groups |= of_kind
        for name, rows in groups.items():
            if rows.any():
                figures[f"within {SHARES[0]}, {name}"] = float(self.found[rows, 0].mean())
        for name in (name for name in OCCLUSIONS if name in groups):
            figures[f"confidence, {name}"] = float(self.confidence[groups[name]].mean())
        return figures


def part_of(keypoint: str) -> str:
    """Name of a keypoint without its side; "face" for nose, eyes and ears."""
    part = keypoint.removeprefix("left_").removeprefix("right_")
    return "face" if part in FACE else part


def joint_table(
    ground_truth: Mapping[str, Any],
    poses: Mapping[int, np.ndarray],
    columns: np.ndarray,
    candidates: int | None = None,
) -> JointTable:
    """All labelled joints of a set and what a network makes of them.

    Args:
        ground_truth: COCO-format dict; crowd regions do not count.
        poses: image id → (N, K, 3) x, y, confidence in the network's skeleton, best first; confidence 0 is not found.
            An image without an entry has none.
        columns: (K,) where the network's keypoints are found in the set's, −1 for nowhere.
        candidates: so many of the highest poses of an image may be a person's; None for all.

    Raises:
        GraphposeError: nobody has a labelled joint that the network knows.
    """
    columns_of_parts: list[tuple[np.ndarray, ...]] = []
    persons: collections.Counter[int] = collections.Counter()
    nobody = np.zeros((0, len(columns), 3))
    for annotation in ground_truth["annotations"]:
        truth = np.array(annotation["keypoints"], np.float64).reshape(-1, 3)[columns]
        truth[columns < 0] = 0
        labelled = truth[:, 2] > 0
        if annotation.get("iscrowd") or not labelled.any():
            continue
        image_id = annotation["image_id"]
        persons[image_id] += 1
        near, confidence = _found(truth, annotation["bbox"], poses.get(image_id, nobody)[:candidates])
        count = int(labelled.sum())
        columns_of_parts.append(
            (
                np.full(count, image_id, np.int64),
                np.flatnonzero(labelled),
                truth[labelled, 2].astype(np.int64),
                near[labelled],
                confidence[labelled],
            )
        )
    if not columns_of_parts:
        raise GraphposeError("no image of the set has a person with a labelled joint that the network knows")
    image, keypoint, visibility, found, confidences = map(np.concatenate, zip(*columns_of_parts, strict=True))
    in_image = np.array([persons[image_id] for image_id in image.tolist()], np.int64)
    return JointTable(image, in_image, keypoint, visibility, found, confidences)


def _found(truth: np.ndarray, box: Any, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, len(SHARES)) bool which joints of one person are found, and (K,) their confidences."""
    if not len(poses):
        return np.zeros((len(truth), len(SHARES)), bool), np.zeros(len(truth))
    near = joints_near(truth, box, poses)  # (len(SHARES), N, K)
    best = near.sum(axis=2).argmax(axis=1)  # (len(SHARES),), the highest of equals
    found = near[np.arange(len(SHARES)), best]
    confidence = poses[best[0], :, 2] if found[0].any() else np.zeros(len(truth))
    return found.T, confidence.astype(np.float64)
