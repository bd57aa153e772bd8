"""Groups of persons, which MPII's multi-person protocol is scored by, and the predicted poses that count in each.

Source: evalMPII, README: a method is shown the region of a group, the box of its persons' places.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.metrics.results import require_results
from graphpose.skeleton import MPII, Skeleton


@dataclasses.dataclass
class Group:
    """One group of annotated persons with the poses that count in it."""

    truth: np.ndarray  # (P, K, 3)
    head_sizes: np.ndarray  # (P,)
    poses: np.ndarray  # (n, K, 3), x and y NaN where not found


def groups_of(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> list[Group]:
    """Annotated groups, image after image, with the poses that count in each; arguments and errors as evaluate_mpii."""
    if skeleton.keypoints != MPII.keypoints:
        raise GraphposeError(f"MPII's metrics are those of its own skeleton, not of skeleton '{skeleton.name}'")
    members: dict[int, dict[Any, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for annotation in ground_truth["annotations"]:
        if "head_size" not in annotation:
            raise GraphposeError(
                f"annotation {annotation['id']} has no head_size; MPII's metrics need ground truth from MpiiDataset"
            )
        size, group = annotation["head_size"], annotation.get("group", 0)
        if size and size > 0 and group >= 0 and any(annotation["keypoints"][2::3]):
            members[annotation["image_id"]][group].append(annotation)
    require_results(results, MPII.num_keypoints, ground_truth)
    poses = poses_by_image(results)
    groups = []
    for image in ground_truth["images"]:
        of_image = [
            Group(
                np.array([a["keypoints"] for a in persons], np.float64).reshape(len(persons), -1, 3),
                np.array([a["head_size"] for a in persons], np.float64),
                np.zeros((0, MPII.num_keypoints, 3)),
            )
            for persons in members[image["id"]].values()
        ]
        _share_out(of_image, poses.get(image["id"], []))
        groups += of_image
    return groups


def poses_by_image(results: Sequence[Mapping[str, Any]]) -> dict[int, list[np.ndarray]]:
    """Image id → poses (16, 3) in the order of the results, x and y NaN where not found; none without any joint.

    Raises:
        GraphposeError: as :func:`graphpose.metrics.results.require_results`.
    """
    require_results(results, MPII.num_keypoints)
    poses: dict[int, list[np.ndarray]] = defaultdict(list)
    for result in results:
        pose = np.array(result["keypoints"], np.float64).reshape(-1, 3)
        pose[pose[:, 2] <= 0, :2] = np.nan
        if not np.isnan(pose[:, 0]).all():
            poses[result["image_id"]].append(pose)
    return dict(poses)


def _share_out(groups: Sequence[Group], poses: Sequence[np.ndarray]) -> None:
    """Give every pose of an image to the nearest of its groups."""
    boxes = [group.truth[group.truth[:, :, 2] > 0, :2] for group in groups]
    corners = np.array([(box.min(axis=0), box.max(axis=0)) for box in boxes]).reshape(-1, 4)
    chosen = nearest_groups(poses, corners, np.array([group.head_sizes.mean() for group in groups]))
    for g, group in enumerate(groups):
        own = [pose for pose, choice in zip(poses, chosen, strict=True) if choice == g]
        group.poses = np.array(own).reshape(len(own), MPII.num_keypoints, 3)


def nearest_groups(poses: Sequence[np.ndarray], boxes: np.ndarray, margins: np.ndarray) -> list[int]:
    """The group that each pose counts in.

    Args:
        poses: (K, 3) each, x and y NaN where not found, some joint found.
        boxes: (G, 4) left, top, right, bottom of the groups' persons.
        margins: (G,) how far from its box a group takes poses, pixels.

    Returns:
        For each pose the group whose box is nearest to the pose's middle, of several the one with the nearer centre; −1
        where it is farther than the margin.
    """
    chosen = []
    for pose in poses if len(boxes) else ():
        middle = (np.nanmin(pose[:, :2], axis=0) + np.nanmax(pose[:, :2], axis=0)) / 2
        outside = np.maximum(0, np.maximum(boxes[:, :2] - middle, middle - boxes[:, 2:]))
        distance = np.linalg.norm(outside, axis=1)
        to_centre = np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - middle, axis=1)
        g = int(np.lexsort((to_centre, distance))[0])
        chosen.append(g if distance[g] <= margins[g] else -1)
    return chosen if len(boxes) else [-1] * len(poses)
