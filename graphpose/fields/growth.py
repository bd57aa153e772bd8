"""Growth: keypoints become poses along the best limbs, all poses at once from one queue.

Convention: lengths are in cells.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NO_PEAK = -1  # the pose has no such keypoint
BRIDGED = -2  # the keypoint was put where limbs point, not where a peak is


@njit(cache=True, nogil=True)
def grow(  # type: ignore[no-untyped-def]
    kind, x, y, confidence, scale, sigmas, limb, first, second, weight, share, places,
    full, min_weight, min_bridge_share,
):  # fmt: skip
    """Poses of one image.

    Args:
        kind: (P,) int64 keypoint types.
        x, y, confidence, scale: (P,) float32 peaks.
        sigmas: (K,) float64.
        limb … places: arrays of Votes.
        full: weight from which on more votes do not make a limb more certain.
        min_weight: lowest weight of a limb.
        min_bridge_share: share of a peak's votes that a limb to an already taken keypoint needs to put a keypoint of
            its own there.

    Returns:
        keypoints (N, K, 3) float32: x, y in cells and confidence; scales (N, K) float32 in cells; a keypoint that was
        not found is 0 throughout. Every peak is in exactly one pose; no pose has two keypoints of a type.
    """
    K, P, E = len(sigmas), len(x), len(limb)
    score = np.empty(E, np.float32)
    for e in range(E):
        score[e] = -min(weight[e] / full, 1.0) * share[e, 0] * share[e, 1]
    queue = np.argsort(score, kind="mergesort")
    pose = np.arange(P)
    member = np.full((P, K), NO_PEAK, np.int64)
    size = np.ones(P, np.int64)
    for p in range(P):
        member[p, kind[p]] = p
    for e in queue:
        if weight[e] < min_weight:
            continue
        p, q = pose[first[e]], pose[second[e]]
        if p == q:
            continue
        clash = False
        for k in range(K):
            clash |= member[p, k] != NO_PEAK and member[q, k] != NO_PEAK
        if clash:
            continue
        if size[p] < size[q]:
            p, q = q, p
        for k in range(K):
            if member[q, k] != NO_PEAK:
                member[p, k] = member[q, k]
                pose[member[q, k]] = p
        size[p] += size[q]
        size[q] = 0

    N = 0
    row = np.full(P, -1, np.int64)
    for p in range(P):
        if size[p] > 0:
            row[p] = N
            N += 1
    keypoints, scales = np.zeros((N, K, 3), np.float32), np.zeros((N, K), np.float32)
    for p in range(P):
        if size[p] == 0:
            continue
        for k in range(K):
            i = member[p, k]
            if i >= 0:
                keypoints[row[p], k, 0], keypoints[row[p], k, 1] = x[i], y[i]
                keypoints[row[p], k, 2], scales[row[p], k] = confidence[i], scale[i]
    # Two persons' keypoints in one place are one peak, which the better limb took: the other pose's limb still says
    # where its own is.
    for e in queue:
        if weight[e] < min_weight:
            continue
        p, q = pose[first[e]], pose[second[e]]
        if p == q:
            continue
        for side in range(2):
            source, target = (first[e], second[e]) if side == 0 else (second[e], first[e])
            owner, k = pose[source], kind[target]
            if keypoints[row[owner], k, 2] > 0 or share[e, side] < min_bridge_share:
                continue
            keypoints[row[owner], k, 0] = places[e, 2 - 2 * side]
            keypoints[row[owner], k, 1] = places[e, 3 - 2 * side]
            keypoints[row[owner], k, 2] = confidence[target] * min(weight[e] / full, 1.0) * share[e, side]
            scales[row[owner], k] = scale[source] * sigmas[k] / sigmas[kind[source]]
    return keypoints, scales


@njit(cache=True, nogil=True)
def best_poses(keypoints, scales, min_score, max_poses):  # type: ignore[no-untyped-def]
    """The poses with an instance score of at least ``min_score``, best first, at most ``max_poses``.

    The score is the mean keypoint confidence over all K, the best three counting threefold; a keypoint that was not
    found counts as 0, so a fragment scores below a whole person.

    Returns:
        keypoints (N', K, 3), scales (N', K), scores (N',) float32, not increasing.

    Source: PifPaf (CVPR 2019), section 3.4.
    """
    N, K = scales.shape
    scores = np.empty(N, np.float32)
    for n in range(N):
        confidence = np.sort(keypoints[n, :, 2])
        best = confidence[max(0, K - 3) :].sum()
        scores[n] = (confidence.sum() + 2 * best) / (K + 2 * min(3, K))
    order = np.argsort(-scores, kind="mergesort")
    kept = 0
    while kept < min(N, max_poses) and scores[order[kept]] >= min_score:
        kept += 1
    order = order[:kept]
    return keypoints[order], scales[order], scores[order]
