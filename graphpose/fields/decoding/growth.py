"""Growth: keypoints become poses along the best limbs, all poses at once from one queue.

Convention: lengths are in cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpose.fields.decoding.compiled import compiled
from graphpose.fields.decoding.limbs import Votes
from graphpose.fields.decoding.splitting import Nodes
from graphpose.fields.decoding.tables import DecoderTables, Settings

NO_NODE = -1  # the pose has no such keypoint


class Fragments(NamedTuple):
    """Poses of one image under construction, arrays over N of them: whole persons, and pieces that may yet be joined.

    Attributes:
        keypoints: (N, K, 3) float32; x, y in cells and confidence; a keypoint that was not found is 0, 0, 0.
        scales: (N, K) float32; σ_k · sqrt(person area) in cells; 0 where it was not found or is unknown.
    """

    keypoints: np.ndarray
    scales: np.ndarray


class _Growth(NamedTuple):
    """Which keypoints go together.

    Attributes:
        fragment: (P,) int64; number 0 … N − 1 of the fragment that each node is in.
        total: N.
        refused: (R,) int64; pairs of nodes in fragments with a keypoint type in common, the best first.
    """

    fragment: np.ndarray
    total: int
    refused: np.ndarray


@compiled
def grow(nodes: Nodes, votes: Votes, tables: DecoderTables) -> Fragments:
    """Poses of one image: every node is in exactly one, no pose has two keypoints of a type.

    Args:
        nodes: keypoints.
        votes: between them.
        tables: of the decoder.
    """
    growth = _merge(nodes.type, votes, len(tables.sigmas), tables.settings)
    fragments = _place(nodes, growth, len(tables.sigmas))
    _bridge(nodes, votes, growth, tables, fragments)
    return fragments


@compiled
def _certainty(weight: float, settings: Settings) -> float:
    """How certain a limb is by its weight, 0 … 1."""
    return min(weight / settings.full_limb_weight, 1.0)


@compiled
def _merge(types: np.ndarray, votes: Votes, K: int, settings: Settings) -> _Growth:
    """Merges fragments of one node each along the limbs, the best first.

    Args:
        types: (P,) int64 keypoint types of the nodes.
        votes: between them.
        K: number of keypoint types.
        settings: of the decoder.
    """
    P, E = len(types), len(votes.limb)
    negative_score = np.empty(E, np.float32)
    for e in range(E):
        negative_score[e] = -_certainty(votes.weight[e], settings) * votes.share[e, 0] * votes.share[e, 1]
    root = np.arange(P)  # one of the nodes of the fragment that each node is in, the same for all of them
    member = np.full((P, K), NO_NODE, np.int64)  # the nodes of the fragment of each root
    size = np.ones(P, np.int64)
    for p in range(P):
        member[p, types[p]] = p
    refused = np.empty(E, np.int64)
    refusals = 0
    for e in np.argsort(negative_score, kind="mergesort"):
        if votes.weight[e] < settings.min_limb_weight:
            continue
        p, q = root[votes.nodes[e, 0]], root[votes.nodes[e, 1]]
        if p == q:
            continue
        clash = False
        for k in range(K):
            clash |= member[p, k] != NO_NODE and member[q, k] != NO_NODE
        if clash:
            refused[refusals] = e
            refusals += 1
            continue
        if size[p] < size[q]:
            p, q = q, p
        for k in range(K):
            if member[q, k] != NO_NODE:
                member[p, k] = member[q, k]
                root[member[q, k]] = p
        size[p] += size[q]
    number, count = np.empty(P, np.int64), 0
    for p in range(P):
        if root[p] == p:
            number[p] = count
            count += 1
    return _Growth(number[root], count, refused[:refusals])


@compiled
def _place(nodes: Nodes, growth: _Growth, K: int) -> Fragments:
    """Writes the nodes of each fragment side by side."""
    fragments = Fragments(np.zeros((growth.total, K, 3), np.float32), np.zeros((growth.total, K), np.float32))
    for p in range(len(nodes.type)):
        n, k = growth.fragment[p], nodes.type[p]
        fragments.keypoints[n, k, 0], fragments.keypoints[n, k, 1] = nodes.x[p], nodes.y[p]
        fragments.keypoints[n, k, 2], fragments.scales[n, k] = nodes.confidence[p], nodes.scale[p]
    return fragments


@compiled
def _bridge(nodes: Nodes, votes: Votes, growth: _Growth, tables: DecoderTables, fragments: Fragments) -> None:
    """Puts keypoints where a limb says that they are although another pose has the peak.

    Two persons' keypoints in one place are one peak, which the better limb took: the other pose's limb still says where
    its own is.
    """
    keypoints, sigmas = fragments.keypoints, tables.sigmas
    for e in growth.refused:
        for side in range(2):
            source, target = votes.nodes[e, side], votes.nodes[e, 1 - side]
            n, k = growth.fragment[source], nodes.type[target]
            if keypoints[n, k, 2] > 0 or votes.share[e, side] < tables.settings.min_bridge_share:
                continue
            keypoints[n, k, 0] = votes.places[e, 1 - side, 0]
            keypoints[n, k, 1] = votes.places[e, 1 - side, 1]
            certainty = _certainty(votes.weight[e], tables.settings)
            keypoints[n, k, 2] = nodes.confidence[target] * certainty * votes.share[e, side]
            fragments.scales[n, k] = nodes.scale[source] * sigmas[k] / sigmas[nodes.type[source]]


@compiled
def best_poses(fragments: Fragments, settings: Settings) -> tuple[Fragments, np.ndarray]:
    """The poses with an instance score of at least ``min_score``, best first, at most ``max_poses``.

    The score is the mean keypoint confidence over all K, the best three counting threefold; a keypoint that was not
    found counts as 0, so a fragment scores below a whole person.

    Returns:
        the poses; their scores (N,) float32, not increasing.

    Source: PifPaf (CVPR 2019), section 3.4.
    """
    N, K = fragments.scales.shape
    negative = np.empty(N, np.float32)
    for n in range(N):
        negative[n] = -_score(fragments.keypoints[n])
    order = np.argsort(negative, kind="mergesort")
    kept = 0
    while kept < min(N, settings.max_poses) and -negative[order[kept]] >= settings.min_score:
        kept += 1
    best = Fragments(np.empty((kept, K, 3), np.float32), np.empty((kept, K), np.float32))
    scores = np.empty(kept, np.float32)
    for n in range(kept):
        scores[n] = -negative[order[n]]
        for k in range(K):
            best.scales[n, k] = fragments.scales[order[n], k]
            for value in range(3):
                best.keypoints[n, k, value] = fragments.keypoints[order[n], k, value]
    return best, scores


@compiled
def _score(pose: np.ndarray) -> np.floating:
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
