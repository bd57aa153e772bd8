"""Kinds of poses for networks that are not trained on any data."""

import dataclasses

import numpy as np

from graphpose.graphs.statistics import PoseStatistics, shipped_statistics
from graphpose.skeleton import COCO, Skeleton


def kinds_of(skeleton: Skeleton, count: int) -> tuple[PoseStatistics, ...]:
    """``count`` kinds of poses of a skeleton with made distances, of 30, 20, … persons."""
    rng = np.random.default_rng(3)
    N = skeleton.num_keypoints
    kinds = []
    for number in range(count):
        mean = rng.uniform(0.1, 2, (N, N))
        mean = (mean + mean.T) / 2
        np.fill_diagonal(mean, 0)
        zeros = np.zeros((N, N, 2))
        base = shipped_statistics(COCO)
        kinds.append(
            dataclasses.replace(
                base, skeleton_name=skeleton.name, keypoints=skeleton.keypoints, scale_rule=skeleton.scale_rule,
                mean=mean, std=0 * mean, count=np.full((N, N), 10 + number), offset_mean=zeros, offset_std=zeros,
                provenance={"kind": f"kind {number}", "persons": 30 - 10 * number},
            )
        )  # fmt: skip
    return tuple(kinds)
