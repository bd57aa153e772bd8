"""MPII metrics: PCKh of every annotated person, and average precision per joint of groups of persons.

A joint is found when it lies within half a head size of the annotated one; the head size is 0.6 times the diagonal of
the annotated head rectangle (SC_BIAS). Hidden joints count, joints that are not labelled do not. Of the sixteen joints
pelvis and thorax are not scored.

- PCKh: share of the labelled joints that are found. The single-person protocol says where each person roughly is; a
  bottom-up method gets the pose that :func:`match_poses` assigns to the person, and a person without one is missed
  whole. That is stricter than scoring a crop around the person and must not be mixed with such figures.
- AP: as the multi-person protocol has it. Within each group the predicted persons are assigned to annotated ones by
  PCKh, one to one; a joint of an assigned person is right or wrong by its distance, all joints of the others are wrong;
  the joints of all groups are ranked by their own confidence, and AP is the area under the made-monotone
  precision-recall curve.

Groups are what the toolkit's ``groups_v12.mat`` lists; without them all annotated persons of an image are one.

Source: Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR 2014;
Pishchulin et al., "DeepCut", CVPR 2016; evaluation toolkit evalMPII (evaluatePCKh.m, evaluateAP.m, assignGTmulti.m,
getHeadSize.m); the mean over joints is that of HRNet's lib/dataset/mpii.py, which equals evaluatePCKh.m's total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.metrics.mpii_groups import groups_of
from graphpose.skeleton import MPII, Skeleton

# Joints of each row of the published tables. The toolkit's head is upper neck and head top; HRNet's table prints the
# head top alone, which is here as "head_top".
JOINT_GROUPS: dict[str, tuple[str, ...]] = {
    "head": ("upper_neck", "head_top"),
    "shoulder": ("left_shoulder", "right_shoulder"),
    "elbow": ("left_elbow", "right_elbow"),
    "wrist": ("left_wrist", "right_wrist"),
    "hip": ("left_hip", "right_hip"),
    "knee": ("left_knee", "right_knee"),
    "ankle": ("left_ankle", "right_ankle"),
}
SCORED = tuple(sorted(MPII.index(joint) for joints in JOINT_GROUPS.values() for joint in joints))  # 14 of 16
THRESHOLD = 0.5  # of the head size
METRICS = (
    "PCKh", *(f"PCKh_{name}" for name in JOINT_GROUPS), "PCKh_head_top", "mAP", *(f"AP_{name}" for name in JOINT_GROUPS)
)  # fmt: skip


def pckh(
    predictions: np.ndarray, truth: np.ndarray, head_sizes: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, float]:
    """PCKh of N persons with one predicted pose each.

    Args:
        predictions: (N, 16, 2) pixels; NaN where a joint was not found, which counts as wrong.
        truth: (N, 16, 3) pixels and visibility; hidden joints (1) count, unlabelled ones (0) do not.
        head_sizes: (N,) pixels, positive; 0.6 times the diagonal of the head rectangle.
        threshold: largest distance in head sizes, itself included.

    Returns:
        "PCKh" over all labelled joints of the fourteen, "PCKh_<group>" of JOINT_GROUPS as the mean of its joints, and
        "PCKh_head_top", in [0, 1]; −1 where no such joint is labelled.

    Raises:
        GraphposeError: when shapes do not fit or a head size is not positive.
    """
    N, K = len(truth), MPII.num_keypoints
    if predictions.shape != (N, K, 2) or truth.shape != (N, K, 3) or head_sizes.shape != (N,):
        raise GraphposeError(
            f"PCKh needs predictions (N, {K}, 2), truth (N, {K}, 3) and head sizes (N,), not {predictions.shape}, "
            f"{truth.shape} and {head_sizes.shape}"
        )
    if not (head_sizes > 0).all():
        raise GraphposeError(f"person {int((~(head_sizes > 0)).argmax())} has no positive head size; PCKh needs one")
    labelled = truth[:, :, 2] > 0
    distance = np.linalg.norm(predictions - truth[:, :, :2], axis=2) / head_sizes[:, None]
    found = (distance <= threshold) & labelled  # NaN is not ≤
    values = {"PCKh": _share(int(found[:, SCORED].sum()), int(labelled[:, SCORED].sum()))}
    each = [_share(*counts) for counts in zip(found.sum(axis=0).tolist(), labelled.sum(axis=0).tolist(), strict=True)]
    return values | {f"PCKh_{name}": value for name, value in _by_group(each).items()} | {
        "PCKh_head_top": each[MPII.index("head_top")]
    }  # fmt: skip


def average_precision(scores: np.ndarray, correct: np.ndarray, positives: int) -> float:
    """Area under the precision-recall curve, precision made monotone from the right (VOC 2010).

    Args:
        scores: (n,) of the detections.
        correct: (n,) bool.
        positives: how many there are to find.

    Returns:
        AP in [0, 1]; −1 where there is nothing to find. Equal scores rank in the order given.
    """
    if positives == 0:
        return -1.0
    hits = np.cumsum(correct[np.argsort(-scores, kind="stable")])
    precision = hits / np.arange(1, len(hits) + 1)
    recall = hits / positives
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum())


def match_poses(
    predictions: np.ndarray, truth: np.ndarray, head_sizes: np.ndarray, threshold: float = THRESHOLD
) -> tuple[np.ndarray, np.ndarray]:
    """Assign the predicted persons of one group to its annotated ones.

    Every prediction stands for the person of whom it finds the largest share of labelled joints; every person takes
    the best of the predictions that stand for it.

    Args:
        predictions: (n, J, 2) pixels; NaN where not found.
        truth: (P, J, 3) pixels and visibility.
        head_sizes: (P,) pixels.
        threshold: in head sizes.

    Returns:
        person: (n,) index of the assigned person, −1 for none; no person stands twice.
        within: (n, P, J) bool; joint J of prediction n lies at that of person P.

    Source: evalMPII, assignGTmulti.m.
    """
    labelled = truth[:, :, 2] > 0
    distance = np.linalg.norm(predictions[:, None] - truth[None, :, :, :2], axis=3)  # (n, P, J)
    within = (distance <= threshold * head_sizes[None, :, None]) & labelled
    share = within.sum(axis=2) / np.maximum(labelled.sum(axis=1), 1)  # (n, P)
    person = np.full(len(predictions), -1)
    if share.size == 0:
        return person, within
    best = share.argmax(axis=1)
    own = np.zeros_like(share)
    own[np.arange(len(share)), best] = share[np.arange(len(share)), best]
    for p, n in enumerate(own.argmax(axis=0)):
        if own[n, p] > 0:
            person[n] = p
    return person, within


def evaluate_mpii(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton = MPII,
    *,
    threshold: float = THRESHOLD,
) -> dict[str, float]:
    """MPII's figures of a bottom-up method on whole images.

    A pose counts in the group whose box of labelled joints is nearest to the middle of the pose. One that lies farther
    than the group's mean head size from every such box is left out: the protocol shows a method the groups' regions
    only, and who stands elsewhere may be annotated or not.

    Args:
        ground_truth: COCO-format dict whose annotations have ``head_size`` in pixels and, where known, ``group``,
            negative for persons in none; annotations without group, labelled keypoint or head size are nobody to find.
        results: COCO results format; those of other images are left out.
        skeleton: must be MPII's.
        threshold: in head sizes.

    Returns:
        The figures of METRICS in [0, 1]; −1 for joints that nobody has.

    Raises:
        GraphposeError: another skeleton, an annotation that lacks ``head_size``, or a result of another length.
    """
    groups = groups_of(ground_truth, results, skeleton)
    J = len(SCORED)
    scores: list[list[np.ndarray]] = [[] for _ in range(J)]
    correct: list[list[np.ndarray]] = [[] for _ in range(J)]
    positives = np.zeros(J, np.int64)
    assigned: list[np.ndarray] = []
    for group in groups:
        poses, truth = group.poses[:, SCORED], group.truth[:, SCORED]
        person, within = match_poses(poses[:, :, :2], truth, group.head_sizes, threshold)
        positives += (truth[:, :, 2] > 0).sum(axis=0)
        chosen = np.full((len(group.truth), MPII.num_keypoints, 2), np.nan)
        chosen[person[person >= 0]] = group.poses[person >= 0, :, :2]
        assigned.append(chosen)
        for n, pose in enumerate(poses):
            found = ~np.isnan(pose[:, 0])
            right = within[n, person[n]] if person[n] >= 0 else np.zeros(J, bool)
            for j in np.flatnonzero(found).tolist():
                scores[j].append(pose[j, 2])
                correct[j].append(right[j])
    each = np.full(MPII.num_keypoints, -1.0)
    for j, k in enumerate(SCORED):
        each[k] = average_precision(np.array(scores[j]), np.array(correct[j], bool), int(positives[j]))
    values = pckh(
        np.concatenate(assigned or [np.zeros((0, MPII.num_keypoints, 2))]),
        np.concatenate([group.truth for group in groups] or [np.zeros((0, MPII.num_keypoints, 3))]),
        np.concatenate([group.head_sizes for group in groups] or [np.zeros(0)]),
        threshold,
    )
    values["mAP"] = _mean([each[k] for k in SCORED])
    values |= {f"AP_{name}": value for name, value in _by_group(each.tolist()).items()}
    return {name: values[name] for name in METRICS}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else -1.0


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value >= 0]
    return float(np.mean(known)) if known else -1.0


def _by_group(each: Sequence[float]) -> dict[str, float]:
    """Means over the joints of every group of JOINT_GROUPS."""
    return {name: _mean([each[MPII.index(joint)] for joint in joints]) for name, joints in JOINT_GROUPS.items()}
