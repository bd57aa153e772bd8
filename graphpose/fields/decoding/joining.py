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
from numba import njit

from graphpose.errors import GraphposeError
from graphpose.graphs.statistics import PoseStatistics
from graphpose.skeleton import Skeleton

ALONE = -1  # a fragment without a partner


class PairTables(NamedTuple):
    """What the pose statistics say about keypoint j seen from keypoint i, in units of sqrt(person area).

    Attributes:
        mean: (K, K, 2) float64 mean offset of j from i.
        std: (K, K, 2) float64 its spread, floored.
        weight: (K, K) float64 of the pair beside others, the inverse of its area of spread; 0 for a pair never seen.
        peak: (K, K) float64 log-density at the mean.
    """

    mean: np.ndarray
    std: np.ndarray
    weight: np.ndarray
    peak: np.ndarray


# For compiled functions that join nothing but take tables.
NO_TABLES = PairTables(np.zeros((0, 0, 2)), np.zeros((0, 0, 2)), np.zeros((0, 0)), np.zeros((0, 0)))


def pair_tables(statistics: PoseStatistics, skeleton: Skeleton, spread_floor: float) -> PairTables:
    """Tables of one data set, with ``spread_floor`` (units of sqrt(person area)) added to every spread.

    Raises:
        GraphposeError: when the statistics are of another skeleton or not in units of sqrt(person area), the only
            scale that fields carry.
    """
    statistics.require(skeleton)
    if statistics.scale_rule != "sqrt_area":
        raise GraphposeError(
            f"statistics of skeleton '{skeleton.name}' are in units of '{statistics.scale_rule}'; joining needs "
            "'sqrt_area', the scale that fields carry"
        )
    seen = np.isfinite(statistics.offset_mean).all(-1) & np.isfinite(statistics.offset_std).all(-1)
    mean = np.where(seen[..., None], statistics.offset_mean, 0.0)
    std = np.where(seen[..., None], statistics.offset_std, 1.0) + spread_floor
    area = std.prod(-1)
    return PairTables(mean, std, np.where(seen, 1 / area, 0.0), -np.log(2 * np.pi * area))


@njit(cache=True, nogil=True)
def join_scores(keypoints, scales, sigmas, tables, scale_spread, max_scale_deviation):  # type: ignore[no-untyped-def]
    """How well pairs of fragments fit each other.

    Args:
        keypoints: (N, K, 3) float32; x, y, confidence; confidence 0 is not found.
        scales: (N, K) float32; σ_k · sqrt(area) in the unit of x and y; 0 is unknown.
        sigmas: (K,) float64.
        tables: PairTables.
        scale_spread: standard deviation of the logarithm of the ratio of the two fragments' own scales.
        max_scale_deviation: fragments whose scales differ by more such deviations do not fit.

    Returns:
        (N, N) float64, symmetric; log-likelihood of the offsets (per scale²; weighted mean over the pairs of
        keypoints) and of the ratio of scales; −inf where the fragments have a keypoint type in common, no scale or no
        pair with statistics, and on the diagonal.
    """
    N, K = scales.shape
    size = np.zeros(N)  # log sqrt(area)
    known = np.zeros(N, np.bool_)
    for n in range(N):
        total, certainty = 0.0, 0.0
        for k in range(K):
            if keypoints[n, k, 2] > 0 and scales[n, k] > 0:
                total += keypoints[n, k, 2] * np.log(scales[n, k] / sigmas[k])
                certainty += keypoints[n, k, 2]
        if certainty > 0:
            size[n], known[n] = total / certainty, True
    scores = np.full((N, N), -np.inf)
    for a in range(N):
        for b in range(a):
            ratio = (size[a] - size[b]) / scale_spread
            if not (known[a] and known[b]) or abs(ratio) > max_scale_deviation:
                continue
            clash = False
            for k in range(K):
                if keypoints[a, k, 2] > 0 and keypoints[b, k, 2] > 0:
                    clash = True
                    break
            if clash:
                continue
            fit = _offset_score(keypoints[a], keypoints[b], np.exp(-0.5 * (size[a] + size[b])), tables)
            scores[a, b] = scores[b, a] = fit - 0.5 * ratio * ratio
    return scores


@njit(cache=True, nogil=True)
def _offset_score(a, b, unit, tables):  # type: ignore[no-untyped-def]
    """Log-likelihood of the offsets between two fragments (K, 3), times ``unit``; −inf for no pair with statistics."""
    K = len(a)
    total, certainty = 0.0, 0.0
    for i in range(K):
        if not a[i, 2] > 0:
            continue
        for j in range(K):
            if not b[j, 2] > 0 or tables.weight[i, j] == 0:
                continue
            zx = ((b[j, 0] - a[i, 0]) * unit - tables.mean[i, j, 0]) / tables.std[i, j, 0]
            zy = ((b[j, 1] - a[i, 1]) * unit - tables.mean[i, j, 1]) / tables.std[i, j, 1]
            total += tables.weight[i, j] * (tables.peak[i, j] - 0.5 * (zx * zx + zy * zy))
            certainty += tables.weight[i, j]
    return total / certainty if certainty > 0 else -np.inf


@njit(cache=True, nogil=True)
def join_probabilities(scores, alone, min_probability):  # type: ignore[no-untyped-def]
    """Probability (N, N) that two fragments are one person, the smaller of the two seen from either; 0 below
    ``min_probability``. ``alone`` is the log-likelihood of standing alone."""
    N = len(scores)
    evidence = np.ones(N)
    likelihood = np.zeros((N, N))
    for a in range(N):
        for b in range(N):
            if scores[a, b] > -np.inf:
                likelihood[a, b] = np.exp(scores[a, b] - alone)
                evidence[a] += likelihood[a, b]
    probability = np.zeros((N, N))
    for a in range(N):
        for b in range(N):
            p = likelihood[a, b] / max(evidence[a], evidence[b])
            if p >= min_probability:
                probability[a, b] = p
    return probability


@njit(cache=True, nogil=True)
def join_undisputed(  # type: ignore[no-untyped-def]
    keypoints, scales, sigmas, tables, scale_spread, max_scale_deviation, alone, min_probability
):
    """Joins fragments as long as every one has a single likely partner, which it always has where
    ``min_probability`` is 0.5 or more.

    Args: see :func:`join_fragments`.

    Returns:
        keypoints and scales; the probabilities between them; whether one of them has more than one likely partner.
        If none has, no pair is left to be joined.
    """
    while True:
        N = len(keypoints)
        probability = join_probabilities(
            join_scores(keypoints, scales, sigmas, tables, scale_spread, max_scale_deviation), alone, min_probability
        )
        partner = np.full(N, ALONE, np.int64)
        likely, disputed = False, False
        for a in range(N):
            for b in range(N):
                if probability[a, b] > 0:
                    disputed |= partner[a] != ALONE
                    partner[a], likely = b, True
        if disputed or not likely:
            return keypoints, scales, probability, disputed
        keypoints, scales = _joined(keypoints, scales, partner)


@njit(cache=True, nogil=True)
def _joined(keypoints, scales, partner):  # type: ignore[no-untyped-def]
    """The fragments after each is joined to its partner (N,), in the place of the first of the two."""
    N, K = scales.shape
    kept = 0
    for n in range(N):
        kept += partner[n] == ALONE or partner[n] > n
    joined_keypoints, joined_scales = np.empty((kept, K, 3), np.float32), np.empty((kept, K), np.float32)
    at = 0
    for n in range(N):
        other = partner[n]
        if other != ALONE and other < n:
            continue
        for k in range(K):
            joined_scales[at, k] = scales[n, k]
            if other != ALONE:
                joined_scales[at, k] += scales[other, k]
            for value in range(3):
                joined_keypoints[at, k, value] = keypoints[n, k, value]
                if other != ALONE:
                    joined_keypoints[at, k, value] += keypoints[other, k, value]
        at += 1
    return joined_keypoints, joined_scales


def join_fragments(
    keypoints: np.ndarray,
    scales: np.ndarray,
    sigmas: np.ndarray,
    tables: PairTables,
    *,
    scale_spread: float,
    max_scale_deviation: float,
    alone: float,
    min_probability: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Joins fragments of one image until no pair is likely enough.

    A fragment's probability to belong to another one is the other's likelihood beside that of all its possible
    partners and of standing alone; a pair is joined when it is likely from both sides, the best pairs first. Two
    partners that fit equally well leave a fragment where it is.

    Args:
        keypoints, scales, sigmas, tables, scale_spread, max_scale_deviation: see :func:`join_scores`; the arrays are
            not changed.
        alone: log-likelihood (per scale²) of the nearest other fragment when the fragment has no partner.
        min_probability: lowest probability, from either side.

    Returns:
        keypoints and scales of the poses after joining, (N', K, 3) and (N', K): the union of what was given, no
        keypoint twice.
    """
    while True:
        keypoints, scales, probability, disputed = join_undisputed(
            keypoints, scales, sigmas, tables, scale_spread, max_scale_deviation, alone, min_probability
        )
        if not disputed:
            return keypoints, scales
        keypoints, scales = _joined(keypoints, scales, _assign(probability))


def _assign(probability: np.ndarray) -> np.ndarray:
    """The partner (N,) of each fragment in the assignment of the highest summed probability, ALONE for none."""
    from scipy.optimize import linear_sum_assignment  # here, since most images need none and it takes a second to load

    partner = np.full(len(probability), ALONE)
    rows = np.flatnonzero(probability.any(1))
    probability = probability[rows[:, None], rows]
    first, second = linear_sum_assignment(probability, maximize=True)
    for at in np.argsort(-probability[first, second], kind="stable"):
        i, j = first[at], second[at]
        if probability[i, j] > 0 and partner[rows[i]] == partner[rows[j]] == ALONE:
            partner[rows[i]], partner[rows[j]] = rows[j], rows[i]
    return partner
