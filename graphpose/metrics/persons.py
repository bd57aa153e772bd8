"""Persons found, missed and invented: what somebody who looks at drawn pictures counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpose.metrics.error_analysis import keypoint_similarity
from graphpose.skeleton import Skeleton

FOUND_OKS = 0.3  # a pose that is less like a person is nobody's


class PersonCounts(NamedTuple):
    """Numbers of labelled persons that a pose belongs to, of those that none does, and of poses that are nobody's."""

    found: int
    missed: int
    invented: int


def count_persons(
    poses: np.ndarray, truth: np.ndarray, areas: np.ndarray, skeleton: Skeleton, least: float = FOUND_OKS
) -> PersonCounts:
    """Give each pose, best first, the person left that it is most like by OKS.

    Args:
        poses: (N, K, 3) x, y in pixels and confidence, best first; a keypoint of confidence 0 is like none.
        truth: (P, K, 3) x, y and visibility of persons with a labelled keypoint.
        areas: (P,) square pixels.
        skeleton: its sigmas.
        least: OKS that a pose must have with a person.
    """
    labelled = truth[:, :, 2] > 0  # (P, K)
    similarity = keypoint_similarity(poses, truth, areas, skeleton) * (poses[:, None, :, 2] > 0) * labelled
    oks = similarity.sum(axis=2) / labelled.sum(axis=1)  # (N, P)
    free, found = np.ones(len(truth), bool), 0
    for row in oks:
        best = int(np.where(free, row, -1).argmax()) if free.any() else -1
        if best >= 0 and row[best] >= least:
            free[best] = False
            found += 1
    return PersonCounts(found, len(truth) - found, len(poses) - found)
