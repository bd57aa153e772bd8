"""Splitting: a peak that is two persons' keypoints in one place becomes one peak for each.

Two keypoints of a type that lie nearer to each other than cells of one keypoint may point apart gather into one peak.
The limbs tell: from such a peak the same limb leads to two partners, of which neither has another partner to go to.

Convention: lengths are in cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpose.fields.decoding.compiled import compiled
from graphpose.fields.decoding.limbs import Votes
from graphpose.fields.decoding.peaks import Peaks
from graphpose.fields.decoding.tables import Settings

# A partner that gives this share of its votes to the peak has no other one to go to: none can have more of them.
MAJORITY = 0.5


class Nodes(NamedTuple):
    """Keypoints of one image of which each goes to one pose: peaks, then the copies of those that were split.

    Attributes:
        type: (P,) int64 keypoint types.
        x, y, confidence, scale: (P,) float32, as in Peaks.
    """

    type: np.ndarray
    x: np.ndarray
    y: np.ndarray
    confidence: np.ndarray
    scale: np.ndarray


class _Splits(NamedTuple):
    """How many keypoints each peak is, and how that was found out.

    Attributes:
        copies: (P,) int64; 1 where nothing is split.
        limb: (P,) int64; the limb along which they were counted.
        side: (P,) int64; whether the peak is its first (0) or second (1) end.
    """

    copies: np.ndarray
    limb: np.ndarray
    side: np.ndarray


@compiled
def split_peaks(peaks: Peaks, votes: Votes, settings: Settings) -> tuple[Nodes, Votes]:
    """Splits the peaks of one image; the arrays that it is given are not changed.

    Args:
        peaks: as found.
        votes: between them.
        settings: of the decoder.

    Returns:
        Nodes; Votes between them.
    """
    K, P = len(peaks.starts) - 1, len(peaks.x)
    splits = _count_copies(P, votes, settings)
    N = splits.copies.sum()
    nodes = Nodes(
        np.empty(N, np.int64), np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32),
        np.empty(N, np.float32),
    )  # fmt: skip
    for k in range(K):
        for p in range(peaks.starts[k], peaks.starts[k + 1]):
            nodes.type[p], nodes.x[p], nodes.y[p] = k, peaks.x[p], peaks.y[p]
            nodes.confidence[p], nodes.scale[p] = peaks.confidence[p], peaks.scale[p]
    split_votes = Votes(votes.limb, votes.nodes.copy(), votes.weight, votes.share.copy(), votes.places)
    n = P
    for p in range(P):
        if splits.copies[p] == 1:
            continue
        copies = np.empty(splits.copies[p], np.int64)
        copies[0] = p
        for i in range(1, len(copies)):
            copies[i] = n
            nodes.type[n], nodes.x[n], nodes.y[n] = nodes.type[p], nodes.x[p], nodes.y[p]
            nodes.confidence[n], nodes.scale[n] = nodes.confidence[p], nodes.scale[p]
            n += 1
        starts = _first_places(p, len(copies), splits, split_votes, settings)
        _share_out(copies, starts, nodes, split_votes)
    return nodes, split_votes


@compiled
def _is_reason(votes: Votes, e: int, side: int, settings: Settings) -> bool:
    """Whether the pair of keypoints e is one of those for which the keypoint on that side of it may be split."""
    return (
        votes.weight[e] >= settings.min_split_weight
        and votes.share[e, side] >= settings.min_split_share
        and votes.share[e, 1 - side] >= MAJORITY
    )


@compiled
def _count_copies(P: int, votes: Votes, settings: Settings) -> _Splits:
    """How to split P peaks: into as many as they have reasons along one limb."""
    reasons = np.zeros((P, 2), np.int64)  # of each peak along the limb at hand, as its first or second end
    splits = _Splits(np.ones(P, np.int64), np.full(P, -1, np.int64), np.full(P, -1, np.int64))
    E = len(votes.limb)
    begin = 0
    while begin < E:
        end = begin
        while end < E and votes.limb[end] == votes.limb[begin]:
            for side in range(2):
                if _is_reason(votes, end, side, settings):
                    reasons[votes.nodes[end, side], side] += 1
            end += 1
        for e in range(begin, end):
            for side in range(2):
                p = votes.nodes[e, side]
                if reasons[p, side] > splits.copies[p]:
                    splits.copies[p] = min(reasons[p, side], settings.max_copies)
                    splits.limb[p], splits.side[p] = votes.limb[e], side
        for e in range(begin, end):
            for side in range(2):
                reasons[votes.nodes[e, side], side] = 0
        begin = end
    return splits


@compiled
def _first_places(p: int, count: int, splits: _Splits, votes: Votes, settings: Settings) -> np.ndarray:
    """Where the first ``count`` reasons to split peak p put it, (count, 2) float64."""
    places = np.empty((count, 2))
    side = splits.side[p]
    n = 0
    for e in range(len(votes.limb)):
        if n == count:
            break
        if votes.limb[e] == splits.limb[p] and votes.nodes[e, side] == p and _is_reason(votes, e, side, settings):
            places[n, 0], places[n, 1] = votes.places[e, side, 0], votes.places[e, side, 1]
            n += 1
    return places[:n]


@compiled
def _share_out(copies: np.ndarray, starts: np.ndarray, nodes: Nodes, votes: Votes) -> None:
    """Gives every limb of a peak to the copy of it that is nearest to where the limb's cells put their end.

    Args:
        copies: (C,) int64 nodes; of the first one are all limbs.
        starts: (≤ C, 2) float64 places that the copies have at first.
        nodes: get the places that the limbs of each copy agree on.
        votes: get the copies as their nodes, and their shares of what leaves those.
    """
    C, E, p = len(copies), len(votes.limb), copies[0]
    mine, sides, chosen = np.empty(E, np.int64), np.empty(E, np.int64), np.empty(E, np.int64)
    weight, weighted_x, weighted_y = np.zeros(C), np.zeros(C), np.zeros(C)
    count = 0
    for e in range(E):
        if votes.nodes[e, 0] != p and votes.nodes[e, 1] != p:
            continue
        side = 0 if votes.nodes[e, 0] == p else 1
        x, y = votes.places[e, side, 0], votes.places[e, side, 1]
        nearest, closest = 0, np.inf
        for i in range(len(starts)):
            d = (starts[i, 0] - x) ** 2 + (starts[i, 1] - y) ** 2
            if d < closest:
                nearest, closest = i, d
        mine[count], sides[count], chosen[count] = e, side, nearest
        weight[nearest] += votes.weight[e]
        weighted_x[nearest] += votes.weight[e] * x
        weighted_y[nearest] += votes.weight[e] * y
        count += 1
    leaving = np.zeros(count)  # all that leaves the chosen copy along the same limb
    for i in range(count):
        for j in range(count):
            same_limb = votes.limb[mine[j]] == votes.limb[mine[i]] and sides[j] == sides[i]
            if same_limb and chosen[j] == chosen[i]:
                leaving[i] += votes.weight[mine[j]]
    for i in range(count):
        e, side = mine[i], sides[i]
        votes.share[e, side] = votes.weight[e] / leaving[i] if leaving[i] > 0 else 0
        votes.nodes[e, side] = copies[chosen[i]]
    for i in range(len(starts)):
        if weight[i] > 0:
            nodes.x[copies[i]], nodes.y[copies[i]] = weighted_x[i] / weight[i], weighted_y[i] / weight[i]
        else:
            nodes.x[copies[i]], nodes.y[copies[i]] = starts[i, 0], starts[i, 1]
