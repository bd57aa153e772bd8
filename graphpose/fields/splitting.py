"""Splitting: a peak that is two persons' keypoints in one place becomes one peak for each.

Two keypoints of a type that lie nearer to each other than cells of one keypoint may point apart gather into one peak.
The limbs tell: from such a peak the same limb leads to two partners, of which neither has another partner to go to.

Convention: lengths are in cells.
"""

from __future__ import annotations

import numpy as np
from numba import njit

MAX_COPIES = 4


@njit(cache=True, nogil=True)
def split_peaks(  # type: ignore[no-untyped-def]
    starts, x, y, confidence, scale, limb, first, second, weight, share, places, min_weight, min_share
):
    """Splits the peaks of one image; the arrays that it is given are not changed.

    Args:
        starts … scale: arrays of Peaks.
        limb … places: arrays of Votes.
        min_weight: lowest weight of a limb that is a reason to split.
        min_share: lowest share of the peak's votes of such a limb; of its partner's votes it has at least half.

    Returns:
        kind (N,) int64 keypoint type, x, y, confidence, scale of the peaks, the copies behind the others; first,
        second, share of the limbs that now lead to the copies.
    """
    K, P, E = len(starts) - 1, len(x), len(limb)
    ends = np.empty((2, E), np.int64)
    ends[0], ends[1] = first, second
    share = share.copy()
    strong = np.zeros((2, P), np.int64)  # reasons of each peak along the limb at hand
    copies = np.ones(P, np.int64)
    reference = np.full((P, 2), -1, np.int64)  # limb and side along which the copies are counted
    begin = 0
    while begin < E:
        end = begin
        while end < E and limb[end] == limb[begin]:
            for side in range(2):
                if weight[end] >= min_weight and share[end, side] >= min_share and share[end, 1 - side] >= 0.5:
                    strong[side, ends[side, end]] += 1
            end += 1
        for e in range(begin, end):
            for side in range(2):
                p = ends[side, e]
                if strong[side, p] > copies[p]:
                    copies[p] = min(strong[side, p], MAX_COPIES)
                    reference[p, 0], reference[p, 1] = limb[e], side
        for e in range(begin, end):
            strong[0, ends[0, e]] = 0
            strong[1, ends[1, e]] = 0
        begin = end

    N = P + copies.sum() - P
    out_x, out_y = np.empty(N, np.float32), np.empty(N, np.float32)
    out_confidence, out_scale = np.empty(N, np.float32), np.empty(N, np.float32)
    kind = np.empty(N, np.int64)
    out_x[:P], out_y[:P], out_confidence[:P], out_scale[:P] = x, y, confidence, scale
    for k in range(K):
        kind[starts[k] : starts[k + 1]] = k
    n = P
    for p in range(P):
        if copies[p] == 1:
            continue
        ids = np.empty(copies[p], np.int64)
        ids[0] = p
        for i in range(1, copies[p]):
            ids[i] = n
            kind[n], out_confidence[n], out_scale[n] = kind[p], confidence[p], scale[p]
            n += 1
        _share_out(p, ids, reference[p], limb, ends, weight, share, places, out_x, out_y, min_weight, min_share)
    return kind, out_x, out_y, out_confidence, out_scale, ends[0], ends[1], share


@njit(cache=True, nogil=True)
def _share_out(  # type: ignore[no-untyped-def]
    p, ids, reference, limb, ends, weight, share, places, out_x, out_y, min_weight, min_share
):
    """Gives every limb of peak p to the copy (among ``ids``) nearest to where the limb's cells put their end."""
    n = len(ids)
    at = np.empty((n, 2))
    mine = np.flatnonzero((ends[0] == p) | (ends[1] == p))
    count = 0
    side = reference[1]
    for e in mine:
        reason = weight[e] >= min_weight and share[e, side] >= min_share and share[e, 1 - side] >= 0.5
        if limb[e] == reference[0] and ends[side, e] == p and reason and count < n:
            at[count] = places[e, 2 * side : 2 * side + 2]
            count += 1
    sums = np.zeros((n, 3))
    chosen = np.empty(len(mine), np.int64)
    for i, e in enumerate(mine):
        side = 0 if ends[0, e] == p else 1
        px, py = places[e, 2 * side], places[e, 2 * side + 1]
        nearest = ((at[:, 0] - px) ** 2 + (at[:, 1] - py) ** 2).argmin()
        chosen[i] = nearest
        sums[nearest, 0] += weight[e]
        sums[nearest, 1] += weight[e] * px
        sums[nearest, 2] += weight[e] * py
    before = np.zeros(len(mine))
    for i, e in enumerate(mine):
        side = 0 if ends[0, e] == p else 1
        for j, other in enumerate(mine):
            if chosen[j] == chosen[i] and limb[other] == limb[e] and (0 if ends[0, other] == p else 1) == side:
                before[i] += weight[other]
    for i, e in enumerate(mine):
        side = 0 if ends[0, e] == p else 1
        share[e, side] = weight[e] / before[i] if before[i] > 0 else 0
        ends[side, e] = ids[chosen[i]]
    for i in range(n):
        if sums[i, 0] > 0:
            out_x[ids[i]], out_y[ids[i]] = sums[i, 1] / sums[i, 0], sums[i, 2] / sums[i, 0]
        else:
            out_x[ids[i]], out_y[ids[i]] = at[i, 0], at[i, 1]
