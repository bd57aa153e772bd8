"""Joining: fragments of one person that no chain of limbs connects, brought together by the data set's pose statistics.

An unlabelled or unseen shoulder cuts the face off the body, and limbs alone return the person in two pieces. Two
fragments without a common keypoint type may be one person when each keypoint of one lies, seen from each keypoint of
the other, about where it does in the data set (mean offset and spread per pair, in units of the person's scale), and
when both are of one size. Which of all fragments belong together is an assignment.

Source: the companion of M_d (DGCN, Eq. 5) taken up for grouping, as the paper's conclusion proposes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpose.fields.decoding.compiled import compiled
from graphpose.fields.decoding.growth import Fragments
from graphpose.fields.decoding.tables import DecoderTables, PairTables, Settings

NO_PARTNER = -1


class Joined(NamedTuple):
    """What joining came to.

    Attributes:
        fragments: N after joining.
        probability: (N, N) float64 that two of them are one person; 0 for pairs that are not likely enough.
        disputed: whether one of them has more than one likely partner; if none has, no pair is left to be joined.
    """

    fragments: Fragments
    probability: np.ndarray
    disputed: bool


@compiled
def join_scores(fragments: Fragments, tables: DecoderTables) -> np.ndarray:
    """How well pairs of fragments fit each other.

    Returns:
        (N, N) float64, symmetric; log-likelihood of the offsets (per scale²; weighted mean over the pairs of
        keypoints) and of the ratio of scales; −inf where the fragments have a keypoint type in common, no scale or no
        pair with statistics, and on the diagonal.
    """
    keypoints, scales = fragments.keypoints, fragments.scales
    N, K = scales.shape
    size = np.zeros(N)  # log sqrt(area)
    known = np.zeros(N, np.bool_)
    for n in range(N):
        total, certainty = 0.0, 0.0
        for k in range(K):
            if keypoints[n, k, 2] > 0 and scales[n, k] > 0:
                total += keypoints[n, k, 2] * np.log(scales[n, k] / tables.sigmas[k])
                certainty += keypoints[n, k, 2]
        if certainty > 0:
            size[n], known[n] = total / certainty, True
    scores = np.full((N, N), -np.inf)
    for a in range(N):
        for b in range(a):
            ratio = (size[a] - size[b]) / tables.settings.join_scale_spread
            if not (known[a] and known[b]) or abs(ratio) > tables.settings.join_max_scale_deviation:
                continue
            clash = False
            for k in range(K):
                if keypoints[a, k, 2] > 0 and keypoints[b, k, 2] > 0:
                    clash = True
                    break
            if clash:
                continue
            fit = _offset_score(keypoints[a], keypoints[b], np.exp(-0.5 * (size[a] + size[b])), tables.pairs)
            scores[a, b] = scores[b, a] = fit - 0.5 * ratio * ratio
    return scores


@compiled
def _offset_score(a: np.ndarray, b: np.ndarray, unit: float, pairs: PairTables) -> float:
    """Log-likelihood of the offsets between two fragments (K, 3), times ``unit``; −inf for no pair with statistics."""
    K = len(a)
    total, certainty = 0.0, 0.0
    for i in range(K):
        if not a[i, 2] > 0:
            continue
        for j in range(K):
            if not b[j, 2] > 0 or pairs.weight[i, j] == 0:
                continue
            zx = ((b[j, 0] - a[i, 0]) * unit - pairs.mean[i, j, 0]) / pairs.std[i, j, 0]
            zy = ((b[j, 1] - a[i, 1]) * unit - pairs.mean[i, j, 1]) / pairs.std[i, j, 1]
            total += pairs.weight[i, j] * (pairs.peak[i, j] - 0.5 * (zx * zx + zy * zy))
            certainty += pairs.weight[i, j]
    return total / certainty if certainty > 0 else -np.inf


@compiled
def join_probabilities(scores: np.ndarray, settings: Settings) -> np.ndarray:
    """Probability (N, N) that two fragments are one person, the smaller of the two seen from either; 0 below
    ``min_join_probability``."""
    N = len(scores)
    evidence = np.ones(N)
    likelihood = np.zeros((N, N))
    for a in range(N):
        for b in range(N):
            if scores[a, b] > -np.inf:
                likelihood[a, b] = np.exp(scores[a, b] - settings.join_alone)
                evidence[a] += likelihood[a, b]
    probability = np.zeros((N, N))
    for a in range(N):
        for b in range(N):
            p = likelihood[a, b] / max(evidence[a], evidence[b])
            if p >= settings.min_join_probability:
                probability[a, b] = p
    return probability


@compiled
def join_undisputed(fragments: Fragments, tables: DecoderTables) -> Joined:
    """Joins fragments as long as every one has a single likely partner, which it always has where
    ``min_join_probability`` is 0.5 or more; see :func:`join_fragments`."""
    while True:
        N = len(fragments.scales)
        probability = join_probabilities(join_scores(fragments, tables), tables.settings)
        partner = np.full(N, NO_PARTNER, np.int64)
        likely, disputed = False, False
        for a in range(N):
            for b in range(N):
                if probability[a, b] > 0:
                    disputed |= partner[a] != NO_PARTNER
                    partner[a], likely = b, True
        if disputed or not likely:
            return Joined(fragments, probability, disputed)
        fragments = _with_partners(fragments, partner)


@compiled
def _with_partners(fragments: Fragments, partner: np.ndarray) -> Fragments:
    """The fragments after each is joined to its partner (N,), in the place of the first of the two."""
    N, K = fragments.scales.shape
    kept = 0
    for n in range(N):
        kept += partner[n] == NO_PARTNER or partner[n] > n
    joined = Fragments(np.empty((kept, K, 3), np.float32), np.empty((kept, K), np.float32))
    at = 0
    for n in range(N):
        other = partner[n]
        if other != NO_PARTNER and other < n:
            continue
        for k in range(K):
            joined.scales[at, k] = fragments.scales[n, k]
            if other != NO_PARTNER:
                joined.scales[at, k] += fragments.scales[other, k]
            for value in range(3):
                joined.keypoints[at, k, value] = fragments.keypoints[n, k, value]
                if other != NO_PARTNER:
                    joined.keypoints[at, k, value] += fragments.keypoints[other, k, value]
        at += 1
    return joined


def join_fragments(fragments: Fragments, tables: DecoderTables) -> Fragments:
    """Joins fragments of one image until no pair is likely enough.

    A fragment's probability to belong to another one is the other's likelihood beside that of all its possible
    partners and of standing alone; a pair is joined when it is likely from both sides, the best pairs first. Two
    partners that fit equally well leave a fragment where it is.

    Args:
        fragments: in any unit of length; the arrays are not changed.
        tables: of a decoder with pose statistics.

    Returns:
        the poses after joining: the union of what was given, no keypoint twice.
    """
    while True:
        joined = join_undisputed(fragments, tables)
        if not joined.disputed:
            return joined.fragments
        fragments = _with_partners(joined.fragments, _assign(joined.probability))


def _assign(probability: np.ndarray) -> np.ndarray:
    """The partner (N,) of each fragment in the assignment of the highest summed probability."""
    from scipy.optimize import linear_sum_assignment  # here, since most images need none and it takes a second to load

    partner = np.full(len(probability), NO_PARTNER)
    rows = np.flatnonzero(probability.any(1))
    probability = probability[rows[:, None], rows]
    first, second = linear_sum_assignment(probability, maximize=True)
    for at in np.argsort(-probability[first, second], kind="stable"):
        i, j = first[at], second[at]
        if probability[i, j] > 0 and partner[rows[i]] == partner[rows[j]] == NO_PARTNER:
            partner[rows[i]], partner[rows[j]] = rows[j], rows[i]
    return partner
