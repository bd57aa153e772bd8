"""Joining: fragments of one person that no chain of limbs connects, brought together by the data set's pose statistics.

An unlabelled or unseen shoulder cuts the face off the body, and limbs alone return the person in two pieces. Two
fragments without a common keypoint type may be one person when each keypoint of one lies, seen from each keypoint of
the other, about where it does in the data set (mean offset and spread per pair, in units of the person's scale), and
when both are of one size. Which of all fragments belong together is an assignment.

Source: the companion of M_d (DGCN, Eq. 5) taken up for grouping, as the paper's conclusion proposes.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.optimize import linear_sum_assignment

# Spread that is added to each pair's own, in units of the person's scale: rigid pairs (the eyes) would else ask for
# more precision than fields have.
SPREAD_FLOOR = 0.02


@njit(cache=True, nogil=True)
def join_scores(keypoints, scales, sigmas, offset_mean, offset_std, scale_spread):  # type: ignore[no-untyped-def]
    """How well pairs of fragments fit each other.

    Args:
        keypoints: (N, K, 3) float32; x, y, confidence; confidence 0 is not found.
        scales: (N, K) float32; σ_k · sqrt(area) in the unit of x and y; 0 is unknown.
        sigmas: (K,) float64.
        offset_mean, offset_std: (K, K, 2) float64 in units of sqrt(area), of keypoint j minus keypoint i; NaN for a
            pair that was never seen.
        scale_spread: standard deviation of the logarithm of the ratio of the two fragments' own scales.

    Returns:
        (N, N) float64, symmetric; log-likelihood of the offsets (per scale²; mean over the pairs of keypoints, each
        weighted by the inverse of its area of spread) and of the ratio of scales; −inf where the fragments have a
        keypoint type in common, no scale or no pair with statistics, and on the diagonal.
    """
    N, K = scales.shape
    size = np.zeros(N)  # sqrt(area)
    for n in range(N):
        total, weight = 0.0, 0.0
        for k in range(K):
            if keypoints[n, k, 2] > 0 and scales[n, k] > 0:
                total += keypoints[n, k, 2] * np.log(scales[n, k] / sigmas[k])
                weight += keypoints[n, k, 2]
        if weight > 0:
            size[n] = np.exp(total / weight)
    scores = np.full((N, N), -np.inf)
    for a in range(N):
        for b in range(a):
            if size[a] == 0 or size[b] == 0:
                continue
            clash = False
            for k in range(K):
                clash |= keypoints[a, k, 2] > 0 and keypoints[b, k, 2] > 0
            ratio = np.log(size[a] / size[b]) / scale_spread
            if clash or abs(ratio) > 5:
                continue
            unit = np.sqrt(size[a] * size[b])
            total, weight = 0.0, 0.0
            for i in range(K):
                if not keypoints[a, i, 2] > 0:
                    continue
                for j in range(K):
                    if not keypoints[b, j, 2] > 0 or not offset_std[i, j, 0] >= 0:
                        continue
                    sx, sy = offset_std[i, j, 0] + SPREAD_FLOOR, offset_std[i, j, 1] + SPREAD_FLOOR
                    zx = ((keypoints[b, j, 0] - keypoints[a, i, 0]) / unit - offset_mean[i, j, 0]) / sx
                    zy = ((keypoints[b, j, 1] - keypoints[a, i, 1]) / unit - offset_mean[i, j, 1]) / sy
                    area = sx * sy
                    total += (-0.5 * (zx * zx + zy * zy) - np.log(2 * np.pi * area)) / area
                    weight += 1 / area
            if weight > 0:
                scores[a, b] = scores[b, a] = total / weight - 0.5 * ratio * ratio
    return scores


def join_fragments(
    keypoints: np.ndarray,
    scales: np.ndarray,
    sigmas: np.ndarray,
    offset_mean: np.ndarray,
    offset_std: np.ndarray,
    *,
    scale_spread: float,
    alone: float,
    min_probability: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Joins fragments of one image until no pair is likely enough.

    A fragment's probability to belong to another one is the other's likelihood beside that of all its possible
    partners and of standing alone; a pair is joined when it is likely from both sides, the best pairs first. Two
    partners that fit equally well leave a fragment where it is.

    Args:
        keypoints, scales, sigmas, offset_mean, offset_std, scale_spread: see :func:`join_scores`.
        alone: log-likelihood of the nearest other fragment when the fragment has no partner.
        min_probability: lowest probability, from either side.

    Returns:
        keypoints and scales of the poses after joining, (N', K, 3) and (N', K): the union of what was given, no
        keypoint twice.
    """
    while len(keypoints) > 1:
        scores = join_scores(keypoints, scales, sigmas, offset_mean, offset_std, scale_spread)
        rows = np.flatnonzero((scores > alone).any(1))
        if len(rows) == 0:
            break
        scores = scores[np.ix_(rows, rows)]
        likelihood = np.exp(scores - alone)
        probability = likelihood / (1 + likelihood.sum(1, keepdims=True))
        probability = np.minimum(probability, probability.T)
        allowed = probability >= min_probability
        if not allowed.any():
            break
        gain = np.where(allowed, probability, 0.0)
        first, second = linear_sum_assignment(gain, maximize=True)
        order = np.argsort(-gain[first, second], kind="stable")
        gone = np.zeros(len(keypoints), bool)
        used = np.zeros(len(rows), bool)
        for i, j in zip(first[order], second[order], strict=True):
            if not allowed[i, j] or used[i] or used[j]:
                continue
            used[i] = used[j] = True
            a, b = min(rows[i], rows[j]), max(rows[i], rows[j])
            keypoints[a] += keypoints[b]
            scales[a] += scales[b]
            gone[b] = True
        keypoints, scales = keypoints[~gone], scales[~gone]
    return keypoints, scales
