"""Splitting: a peak that is two persons' keypoints in one place becomes one peak for each.

Two keypoints of a type that lie nearer to each other than cells of one keypoint may point apart gather into one peak.
The limbs tell: from such a peak the same limb leads to two partners, of which neither has another partner to go to.

Convention: lengths are in cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from graphpose.fields.decoding.limbs import Votes

MAX_COPIES = 4


class Nodes(NamedTuple):
    """Keypoints of one image of which each goes to one pose: peaks, then the copies of those that were split.

    Attributes:
        kind: (P,) int64 keypoint types.
        x, y, confidence, scale: (P,) float32, as in Peaks.
    """

    kind: np.ndarray
    x: np.ndarray
    y: np.ndarray
    confidence: np.ndarray
    scale: np.ndarray


@njit(cache=True, nogil=True)
def split_peaks(peaks, votes, min_weight, min_share):  # type: ignore[no-untyped-def]
    """Splits the peaks of one image; the arrays that it is given are not changed.

    Args:
        peaks: Peaks.
        votes: Votes.
        min_weight: lowest weight of a limb that is a reason to split.
        min_share: lowest share of the peak's votes of such a limb; of its partner's votes it has at least half.

    Returns:
        Nodes; Votes between them, first and second int64.
    """
    K, P, E = len(peaks.starts) - 1, len(peaks.x), len(votes.limb)
    ends = np.empty((2, E), np.int64)
    for e in range(E):
        ends[0, e], ends[1, e] = votes.first[e], votes.second[e]
    share = votes.share.copy()
    copies, reference = _count_copies(P, ends, votes.limb, votes.weight, share, min_weight, min_share)

    N = 0
    for p in range(P):
        N += copies[p]
    nodes = Nodes(
        np.empty(N, np.int64), np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32),
        np.empty(N, np.float32),
    )  # fmt: skip
    for k in range(K):
        for p in range(peaks.starts[k], peaks.starts[k + 1]):
            nodes.kind[p], nodes.x[p], nodes.y[p] = k, peaks.x[p], peaks.y[p]
            nodes.confidence[p], nodes.scale[p] = peaks.confidence[p], peaks.scale[p]
    n = P
    for p in range(P):
        if copies[p] == 1:
            continue
        ids = np.empty(copies[p], np.int64)
        ids[0] = p
        for i in range(1, copies[p]):
            ids[i] = n
            nodes.kind[n], nodes.confidence[n], nodes.scale[n] = nodes.kind[p], nodes.confidence[p], nodes.scale[p]
            n += 1
        _share_out(
            p, ids, reference[p], votes.limb, ends, votes.weight, share, votes.places, nodes.x, nodes.y,
            min_weight, min_share,
        )  # fmt: skip
    return nodes, Votes(votes.limb, ends[0], ends[1], votes.weight, share, votes.places)


@njit(cache=True, nogil=True)
def _count_copies(P, ends, limb, weight, share, min_weight, min_share):  # type: ignore[no-untyped-def]
    """How many keypoints each peak is, (P,), and along which limb and on which side of it they were counted, (P, 2)."""
    strong = np.zeros((2, P), np.int64)  # reasons of each peak along the limb at hand
    copies = np.ones(P, np.int64)
    reference = np.full((P, 2), -1, np.int64)
    E = len(limb)
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
    return copies, reference


@njit(cache=True, nogil=True)
def _share_out(  # type: ignore[no-untyped-def]
    p, ids, reference, limb, ends, weight, share, places, out_x, out_y, min_weight, min_share
):
    """Gives every limb of peak p to the copy (among ``ids``) nearest to where the limb's cells put their end."""
    n, E = len(ids), len(limb)
    at = np.empty((n, 2))
    count = 0
    side = reference[1]
    for e in range(E):
        reason = weight[e] >= min_weight and share[e, side] >= min_share and share[e, 1 - side] >= 0.5
        if limb[e] == reference[0] and ends[side, e] == p and reason and count < n:
            at[count, 0], at[count, 1] = places[e, 2 * side], places[e, 2 * side + 1]
            count += 1
    mine, sides, chosen = np.empty(E, np.int64), np.empty(E, np.int64), np.empty(E, np.int64)
    sums = np.zeros((n, 3))
    found = 0
    for e in range(E):
        if ends[0, e] != p and ends[1, e] != p:
            continue
        side = 0 if ends[0, e] == p else 1
        px, py = places[e, 2 * side], places[e, 2 * side + 1]
        nearest, closest = 0, np.inf
        for i in range(n):
            d = (at[i, 0] - px) ** 2 + (at[i, 1] - py) ** 2
            if d < closest:
                nearest, closest = i, d
        mine[found], sides[found], chosen[found] = e, side, nearest
        sums[nearest, 0] += weight[e]
        sums[nearest, 1] += weight[e] * px
        sums[nearest, 2] += weight[e] * py
        found += 1
    before = np.zeros(found)
    for i in range(found):
        for j in range(found):
            if chosen[j] == chosen[i] and limb[mine[j]] == limb[mine[i]] and sides[j] == sides[i]:
                before[i] += weight[mine[j]]
    for i in range(found):
        e, side = mine[i], sides[i]
        share[e, side] = weight[e] / before[i] if before[i] > 0 else 0
        ends[side, e] = ids[chosen[i]]
    for i in range(n):
        if sums[i, 0] > 0:
            out_x[ids[i]], out_y[ids[i]] = sums[i, 1] / sums[i, 0], sums[i, 2] / sums[i, 0]
        else:
            out_x[ids[i]], out_y[ids[i]] = at[i, 0], at[i, 1]
