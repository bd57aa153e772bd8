"""Limbs for a category that states none: a tree over the keypoints that lie nearest to each other."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from graphpose.data.annotations.table import Annotations


def tree_of_nearest(annotations: Annotations) -> tuple[tuple[int, int], ...]:
    """The limbs of the spanning tree of least total M_d (Eq. 5), the mean distance in units of sqrt(area).

    Args:
        annotations: of which the labelled persons count.

    Returns:
        0-based limbs, the lower index first, ascending: K − 1, or fewer where keypoints are never labelled together
        (then several trees), and none where no person has two labelled keypoints.
    """
    persons = annotations.select(annotations.labelled)
    K = annotations.skeleton.num_keypoints
    labelled = persons.keypoints[:, :, 2] > 0  # (N, K)
    xy = persons.keypoints[:, :, :2] / np.sqrt(persons.area)[:, None, None]
    a, b = np.triu_indices(K, 1)
    mean = np.full(len(a), np.nan)
    for n, (i, j) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        both = labelled[:, i] & labelled[:, j]
        if both.any():
            mean[n] = np.linalg.norm(xy[both, i] - xy[both, j], axis=1).mean()
    known = ~np.isnan(mean)
    distance = mean[known] + 1e-9  # to scipy a weight of 0 is no edge
    tree = minimum_spanning_tree(coo_array((distance, (a[known], b[known])), shape=(K, K)).tocsr())
    return tuple(sorted((int(min(pair)), int(max(pair))) for pair in zip(*tree.nonzero(), strict=True)))


def with_tree(annotations: Annotations) -> Annotations:
    """The annotations, the tree of their nearest keypoints as the skeleton's limbs."""
    skeleton = dataclasses.replace(annotations.skeleton, limbs=tree_of_nearest(annotations))
    return dataclasses.replace(annotations, skeleton=skeleton)
