"""Limb votes: every confident PAF cell votes for the pair of keypoints that its two ends point to.

Convention: lengths are in cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit


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
        the four arrays of LimbCells.
    """
    M, _, h, w = paf.shape
    counts = np.zeros((M, h), np.int64)  # cells above the threshold per row
    N = 0
    for m in range(M):
        for r in range(h):
            count = 0
            for c in range(w):
                count += paf[m, 0, r, c] >= threshold
            counts[m, r] = count
            N += count
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
    return starts, ends[:n], distance[:n], confidence[:n]


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
def count_votes(  # type: ignore[no-untyped-def]
    cell_starts, ends, distance, confidence, limbs, starts, x, y, scale, radius, radius_min, slack
):
    """Votes of one image.

    Args:
        cell_starts, ends, distance, confidence: arrays of LimbCells.
        limbs: (M, 2) int64 keypoint types.
        starts, x, y, scale: arrays of Peaks.
        radius: how far an end may miss a peak, in units of the peak's scale.
        radius_min: the same in cells, for the smallest persons.
        slack: the same as a share of the distance from the cell to the end.

    Returns:
        the six arrays of Votes.
    """
    M = len(limbs)
    K = len(starts) - 1
    widest = np.zeros(K, np.float32)
    largest = 1
    for k in range(K):
        largest = max(largest, starts[k + 1] - starts[k])
        for p in range(starts[k], starts[k + 1]):
            widest[k] = max(widest[k], scale[p])
    record = np.full((largest, largest), -1, np.int32)
    leaving = np.zeros((2, len(x)), np.float32)

    capacity = 1024
    limb, first, second = np.empty(capacity, np.int32), np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    weight, share = np.empty(capacity, np.float32), np.empty((capacity, 2), np.float32)
    places = np.empty((capacity, 4), np.float32)
    E = 0
    for m in range(M):
        a, b = limbs[m, 0], limbs[m, 1]
        low1, high1, low2, high2 = starts[a], starts[a + 1], starts[b], starts[b + 1]
        if low1 == high1 or low2 == high2:
            continue
        leaving[0, low1:high1] = 0
        leaving[1, low2:high2] = 0
        begin = E
        for i in range(cell_starts[m], cell_starts[m + 1]):
            x1, y1, x2, y2 = ends[i, 0], ends[i, 1], ends[i, 2], ends[i, 3]
            reach1, reach2 = max(radius_min, slack * distance[i, 0]), max(radius_min, slack * distance[i, 1])
            p, near1 = _nearest(x, y, scale, low1, high1, x1, y1, reach1, radius, widest[a])
            q, near2 = _nearest(x, y, scale, low2, high2, x2, y2, reach2, radius, widest[b])
            if p >= 0:
                leaving[0, p] += confidence[i] * near1
            if q >= 0:
                leaving[1, q] += confidence[i] * near2
            if p < 0 or q < 0:
                continue
            e = record[p - low1, q - low2]
            if e < 0:
                if E == capacity:
                    capacity *= 2
                    limb, first, second = _grown(limb, capacity), _grown(first, capacity), _grown(second, capacity)
                    weight, share = _grown(weight, capacity), _grown2(share, capacity)
                    places = _grown2(places, capacity)
                e = E
                record[p - low1, q - low2] = e
                limb[e], first[e], second[e], weight[e] = m, p, q, 0
                places[e] = 0
                E += 1
            v = confidence[i] * near1 * near2
            weight[e] += v
            places[e, 0] += v * x1
            places[e, 1] += v * y1
            places[e, 2] += v * x2
            places[e, 3] += v * y2
        for e in range(begin, E):
            record[first[e] - low1, second[e] - low2] = -1
            share[e, 0] = weight[e] / leaving[0, first[e]] if weight[e] > 0 else 0
            share[e, 1] = weight[e] / leaving[1, second[e]] if weight[e] > 0 else 0
            if weight[e] > 0:
                places[e] /= weight[e]
    return limb[:E], first[:E], second[:E], weight[:E], share[:E], places[:E]


@njit(cache=True, nogil=True)
def _grown(array, capacity):  # type: ignore[no-untyped-def]
    larger = np.empty(capacity, array.dtype)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True)
def _grown2(array, capacity):  # type: ignore[no-untyped-def]
    larger = np.empty((capacity, array.shape[1]), array.dtype)
    larger[: len(array)] = array
    return larger
