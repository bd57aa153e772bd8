"""Limb votes: every confident PAF cell votes for the pair of keypoints that its two ends point to.

Convention: lengths are in cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from graphpose.fields.decoding.candidates import count_confident_cells


class LimbCells(NamedTuple):
    """PAF cells above the threshold whose ends are within one field size, ordered by limb, then row, then column.

    Attributes:
        starts: (M + 1,) int64; cells starts[m] … starts[m + 1] − 1 are of limb m.
        ends: (N, 4) float32; places that the two ends point to: x1, y1, x2, y2.
        distance: (N, 2) float32 from the cell to either end.
        confidence: (N,) float32 in (0, 1].
    """

    starts: np.ndarray
    ends: np.ndarray
    distance: np.ndarray
    confidence: np.ndarray


class Votes(NamedTuple):
    """Pairs of keypoints that limb cells connect, ordered by limb, then by their first cell.

    Attributes:
        limb: (E,) int32.
        first, second: (E,) int32 peaks, of the limb's first and second keypoint type.
        weight: (E,) float32; summed confidence of the cells, each weighted by how near its ends come to the peaks.
        share: (E, 2) float32; the weight beside all that leaves the first (second) peak along this limb.
        places: (E, 4) float32; where the cells put the two ends: x1, y1, x2, y2.
    """

    limb: np.ndarray
    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray
    share: np.ndarray
    places: np.ndarray


@njit(cache=True, nogil=True)
def find_limb_cells(paf, threshold):  # type: ignore[no-untyped-def]
    """Limb cells of one image.

    Args:
        paf: (M, 7, h, w) float32, confidences are probabilities; any value is allowed, NaN and infinity claim nothing.
        threshold: lowest confidence.

    Returns:
        LimbCells.
    """
    M, _, h, w = paf.shape
    counts = count_confident_cells(paf, threshold)
    N = counts.sum()
    starts = np.zeros(M + 1, np.int64)
    ends, distance, confidence = np.empty((N, 4), np.float32), np.empty((N, 2), np.float32), np.empty(N, np.float32)
    n = 0
    for m in range(M):
        starts[m] = n
        for r in range(h):
            if counts[m, r] == 0:
                continue
            for c in range(w):
                if not paf[m, 0, r, c] >= threshold:
                    continue
                dx1, dy1, dx2, dy2 = paf[m, 1, r, c], paf[m, 2, r, c], paf[m, 4, r, c], paf[m, 5, r, c]
                # False for NaN and infinity, too.
                if not (abs(dx1) < w and abs(dy1) < h and abs(dx2) < w and abs(dy2) < h):
                    continue
                ends[n, 0], ends[n, 1], ends[n, 2], ends[n, 3] = c + dx1, r + dy1, c + dx2, r + dy2
                distance[n, 0], distance[n, 1] = math.sqrt(dx1 * dx1 + dy1 * dy1), math.sqrt(dx2 * dx2 + dy2 * dy2)
                confidence[n] = min(paf[m, 0, r, c], np.float32(1.0))
                n += 1
    starts[M] = n
    return LimbCells(starts, ends[:n], distance[:n], confidence[:n])


@njit(cache=True, nogil=True)
def _nearest(x, y, scale, low, high, ex, ey, reach, radius, widest):  # type: ignore[no-untyped-def]
    """The peak (among low … high − 1, sorted by x) nearest to (ex, ey) in its reach, and 1 − (distance / reach)²."""
    window = max(reach, radius * widest)
    a, b = low, high
    while a < b:
        middle = (a + b) // 2
        if x[middle] < ex - window:
            a = middle + 1
        else:
            b = middle
    nearest, closest, weight = -1, np.float32(1e30), np.float32(0.0)
    while a < high and x[a] <= ex + window:
        dx, dy = x[a] - ex, y[a] - ey
        d = dx * dx + dy * dy
        if d < closest:
            r = max(reach, radius * scale[a])
            if d < r * r:
                nearest, closest, weight = a, d, 1 - d / (r * r)
        a += 1
    return nearest, weight


@njit(cache=True, nogil=True)
def count_votes(cells, limbs, peaks, radius, radius_min, slack):  # type: ignore[no-untyped-def]
    """Votes of one image.

    Args:
        cells: LimbCells.
        limbs: (M, 2) int64 keypoint types.
        peaks: Peaks.
        radius: how far an end may miss a peak, in units of the peak's scale.
        radius_min: the same in cells, for the smallest persons.
        slack: the same as a share of the distance from the cell to the end.

    Returns:
        Votes.
    """
    N = len(cells.confidence)
    most = 1
    for k in range(len(peaks.starts) - 1):
        most = max(most, peaks.starts[k + 1] - peaks.starts[k])
    record = np.full((most, most), -1, np.int32)  # where the votes for a pair of peaks are counted
    leaving = np.zeros((2, len(peaks.x)), np.float32)
    votes = Votes(  # every cell votes for one pair, at most
        np.empty(N, np.int32), np.empty(N, np.int32), np.empty(N, np.int32), np.empty(N, np.float32),
        np.empty((N, 2), np.float32), np.empty((N, 4), np.float32),
    )  # fmt: skip
    E = np.int64(0)  # not a literal, which would be a type of its own that steps are compiled for
    for m in range(len(limbs)):
        low1, high1 = peaks.starts[limbs[m, 0]], peaks.starts[limbs[m, 0] + 1]
        low2, high2 = peaks.starts[limbs[m, 1]], peaks.starts[limbs[m, 1] + 1]
        if low1 == high1 or low2 == high2:
            continue
        begin = E
        E = _count_limb(m, cells, peaks, low1, high1, low2, high2, radius, radius_min, slack, record, leaving, votes, E)
        for e in range(begin, E):
            first, second, weight = votes.first[e], votes.second[e], votes.weight[e]
            record[first - low1, second - low2] = -1
            votes.share[e, 0] = weight / leaving[0, first] if weight > 0 else 0
            votes.share[e, 1] = weight / leaving[1, second] if weight > 0 else 0
            if weight > 0:
                for end in range(4):
                    votes.places[e, end] /= weight
    return Votes(votes.limb[:E], votes.first[:E], votes.second[:E], votes.weight[:E], votes.share[:E], votes.places[:E])


@njit(cache=True, nogil=True)
def _count_limb(  # type: ignore[no-untyped-def]
    m, cells, peaks, low1, high1, low2, high2, radius, radius_min, slack, record, leaving, votes, E
):
    """Counts the votes of limb m's cells behind the E earlier ones.

    Args:
        low1 … high2: peaks low1 … high1 − 1 are of the limb's first keypoint type, low2 … high2 − 1 of its second.
        record: (≥ high1 − low1, ≥ high2 − low2) int32, −1 throughout; becomes the row of votes of each pair.
        leaving: (2, P) float32; becomes what leaves each first (second) peak along this limb.

    Returns:
        the number of votes, those of this limb included.
    """
    x, y, scale = peaks.x, peaks.y, peaks.scale
    leaving[0, low1:high1] = 0
    leaving[1, low2:high2] = 0
    widest1, widest2 = _largest(scale, low1, high1), _largest(scale, low2, high2)
    for i in range(cells.starts[m], cells.starts[m + 1]):
        x1, y1, x2, y2 = cells.ends[i, 0], cells.ends[i, 1], cells.ends[i, 2], cells.ends[i, 3]
        reach1 = max(radius_min, slack * cells.distance[i, 0])
        reach2 = max(radius_min, slack * cells.distance[i, 1])
        p, near1 = _nearest(x, y, scale, low1, high1, x1, y1, reach1, radius, widest1)
        q, near2 = _nearest(x, y, scale, low2, high2, x2, y2, reach2, radius, widest2)
        confidence = cells.confidence[i]
        if p >= 0:
            leaving[0, p] += confidence * near1
        if q >= 0:
            leaving[1, q] += confidence * near2
        if p < 0 or q < 0:
            continue
        e = record[p - low1, q - low2]
        if e < 0:
            e = E
            record[p - low1, q - low2] = e
            votes.limb[e], votes.first[e], votes.second[e], votes.weight[e] = m, p, q, 0
            votes.places[e, 0] = votes.places[e, 1] = votes.places[e, 2] = votes.places[e, 3] = 0
            E += 1
        v = confidence * near1 * near2
        votes.weight[e] += v
        votes.places[e, 0] += v * x1
        votes.places[e, 1] += v * y1
        votes.places[e, 2] += v * x2
        votes.places[e, 3] += v * y2
    return E


@njit(cache=True, nogil=True)
def _largest(values, low, high):  # type: ignore[no-untyped-def]
    largest = np.float32(0.0)
    for i in range(low, high):
        largest = max(largest, values[i])
    return largest
