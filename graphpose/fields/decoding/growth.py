"""Growth: keypoints become poses along the best limbs, all poses at once from one queue.

Convention: lengths are in cells.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NO_PEAK = -1  # the pose has no such keypoint


@njit(cache=True, nogil=True)
def grow(nodes, votes, sigmas, full, min_weight, min_bridge_share):  # type: ignore[no-untyped-def]
    """Poses of one image.

    Args:
        nodes: Nodes.
        votes: Votes between them.
        sigmas: (K,) float64.
        full: weight from which on more votes do not make a limb more certain.
        min_weight: lowest weight of a limb.
        min_bridge_share: share of a peak's votes that a limb to an already taken keypoint needs to put a keypoint of
            its own there.

    Returns:
        keypoints (N, K, 3) float32: x, y in cells and confidence; scales (N, K) float32 in cells; a keypoint that was
        not found is 0 throughout. Every peak is in exactly one pose; no pose has two keypoints of a type.
    """
    pose, member, refused = _merge(nodes.kind, votes, len(sigmas), full, min_weight)
    row, keypoints, scales = _place(nodes, pose, member)
    _bridge(nodes, votes, sigmas, pose, row, refused, full, min_bridge_share, keypoints, scales)
    return keypoints, scales


@njit(cache=True, nogil=True)
def _merge(kind, votes, K, full, min_weight):  # type: ignore[no-untyped-def]
    """Merges poses of one peak each along the limbs, the best first.

    Returns:
        pose (P,): one of the peaks of the pose that each peak is in, the same for all of them; member (P, K): the peaks
        of the pose named by each row, NO_PEAK where it has none; refused: limbs between poses that have a keypoint type
        in common, the best first.
    """
    P, E = len(kind), len(votes.weight)
    score = np.empty(E, np.float32)
    for e in range(E):
        score[e] = -min(votes.weight[e] / full, 1.0) * votes.share[e, 0] * votes.share[e, 1]
    pose = np.arange(P)
    member = np.full((P, K), NO_PEAK, np.int64)
    size = np.ones(P, np.int64)
    for p in range(P):
        member[p, kind[p]] = p
    refused = np.empty(E, np.int64)
    refusals = 0
    for e in np.argsort(score, kind="mergesort"):
        if votes.weight[e] < min_weight:
            continue
        p, q = pose[votes.first[e]], pose[votes.second[e]]
        if p == q:
            continue
        clash = False
        for k in range(K):
            clash |= member[p, k] != NO_PEAK and member[q, k] != NO_PEAK
        if clash:
            refused[refusals] = e
            refusals += 1
            continue
        if size[p] < size[q]:
            p, q = q, p
        for k in range(K):
            if member[q, k] != NO_PEAK:
                member[p, k] = member[q, k]
                pose[member[q, k]] = p
        size[p] += size[q]
    return pose, member, refused[:refusals]


@njit(cache=True, nogil=True)
def _place(nodes, pose, member):  # type: ignore[no-untyped-def]
    """Writes the poses' peaks side by side: the row (P,) of each pose, keypoints (N, K, 3) and scales (N, K)."""
    P, K = member.shape
    N = 0
    row = np.full(P, -1, np.int64)
    for p in range(P):
        if pose[p] == p:
            row[p] = N
            N += 1
    keypoints, scales = np.zeros((N, K, 3), np.float32), np.zeros((N, K), np.float32)
    for i in range(P):
        n, k = row[pose[i]], nodes.kind[i]
        keypoints[n, k, 0], keypoints[n, k, 1], keypoints[n, k, 2] = nodes.x[i], nodes.y[i], nodes.confidence[i]
        scales[n, k] = nodes.scale[i]
    return row, keypoints, scales


@njit(cache=True, nogil=True)
def _bridge(  # type: ignore[no-untyped-def]
    nodes, votes, sigmas, pose, row, refused, full, min_bridge_share, keypoints, scales
):
    """Puts keypoints where a limb says that they are although another pose has the peak.

    Two persons' keypoints in one place are one peak, which the better limb took: the other pose's limb still says where
    its own is.
    """
    for e in refused:
        for side in range(2):
            source = votes.first[e] if side == 0 else votes.second[e]
            target = votes.second[e] if side == 0 else votes.first[e]
            n, k = row[pose[source]], nodes.kind[target]
            if keypoints[n, k, 2] > 0 or votes.share[e, side] < min_bridge_share:
                continue
            keypoints[n, k, 0] = votes.places[e, 2 - 2 * side]
            keypoints[n, k, 1] = votes.places[e, 3 - 2 * side]
            keypoints[n, k, 2] = nodes.confidence[target] * min(votes.weight[e] / full, 1.0) * votes.share[e, side]
            scales[n, k] = nodes.scale[source] * sigmas[k] / sigmas[nodes.kind[source]]


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
    negative = np.empty(N, np.float32)
    for n in range(N):
        negative[n] = -_score(keypoints[n])
    order = np.argsort(negative, kind="mergesort")
    kept = 0
    while kept < min(N, max_poses) and -negative[order[kept]] >= min_score:
        kept += 1
    best_keypoints, best_scales = np.empty((kept, K, 3), np.float32), np.empty((kept, K), np.float32)
    scores = np.empty(kept, np.float32)
    for n in range(kept):
        best = order[n]
        scores[n] = -negative[best]
        for k in range(K):
            best_scales[n, k] = scales[best, k]
            for value in range(3):
                best_keypoints[n, k, value] = keypoints[best, k, value]
    return best_keypoints, best_scales, scores


@njit(cache=True, nogil=True)
def _score(pose):  # type: ignore[no-untyped-def]
    """Instance score of a pose (K, 3)."""
    K = len(pose)
    confidence = np.empty(K, np.float32)  # rising
    for k in range(K):
        at = k
        while at > 0 and confidence[at - 1] > pose[k, 2]:
            confidence[at] = confidence[at - 1]
            at -= 1
        confidence[at] = pose[k, 2]
    total, best = np.float32(0.0), np.float32(0.0)
    for k in range(K):
        total += confidence[k]
        if k >= K - 3:
            best += confidence[k]
    return (total + 2 * best) / (K + 2 * min(3, K))
