"""Where to draw the keypoints of a skeleton: plane positions made from statistics alone.

Convention: x to the right and y downwards, as in images, in units of the statistics' person scale.
"""

from __future__ import annotations

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.graphs.statistics import PoseStatistics


def mean_pose(statistics: PoseStatistics) -> np.ndarray:
    """Positions whose differences come nearest to the mean offsets, each pair counting as often as it was labelled.

    Returns:
        (K, 2) float64 with mean 0. Sides that face the camera and sides that face away cancel out, so it is narrow.

    Raises:
        GraphposeError: when some keypoints are never labelled together with the rest, not even through others.
    """
    count = statistics.count.astype(np.float64)
    np.fill_diagonal(count, 0)
    K = len(count)
    # The normal equations of Σ n_ij |p_j − p_i − o_ij|² are a graph Laplacian's.
    laplacian = np.diag(count.sum(axis=1)) - count
    if np.linalg.matrix_rank(laplacian) < K - 1:
        raise GraphposeError(
            f"statistics of skeleton '{statistics.skeleton_name}' have keypoints that are never labelled together with "
            "the others, so that they cannot be placed"
        )
    pull = np.nansum(count[:, :, None] * statistics.offset_mean, axis=0)
    position = np.linalg.lstsq(laplacian, pull, rcond=None)[0]
    return position - position.mean(axis=0)


def multidimensional_scaling(statistics: PoseStatistics) -> np.ndarray:
    """Positions whose distances come near to M_d (classical scaling), turned like the mean pose.

    A pair that was never labelled together takes the shortest way over pairs that were.

    Returns:
        (K, 2) float64 with mean 0.

    Raises:
        GraphposeError: as :func:`mean_pose`.
    """
    upright = mean_pose(statistics)
    distance = statistics.mean
    if np.isnan(distance).any():
        from scipy.sparse.csgraph import shortest_path  # here, since few statistics have such a pair

        ways = shortest_path(np.where(np.isnan(distance), 0, distance), directed=False)
        distance = np.where(np.isnan(distance), ways, distance)
    K = len(distance)
    centre = np.eye(K) - 1 / K
    values, vectors = np.linalg.eigh(-0.5 * centre @ distance**2 @ centre)
    position = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))
    # The rotation or reflection that brings it nearest to the mean pose (orthogonal Procrustes).
    left, _, right = np.linalg.svd(position.T @ upright)
    return position @ left @ right
