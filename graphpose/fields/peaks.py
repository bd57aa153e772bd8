"""Peaks: candidates of one keypoint type that agree on a place, as one keypoint with its confidence and scale.

Convention: lengths are in cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

# Support is sorted into this many equal steps: enough to start every peak near its best candidate.
_STEPS = 512

# A peak with less than this share of the cells of another one within so many times its reach is that peak's fringe:
# two keypoints that share a neighbourhood divide its cells about evenly.
STRAGGLER_SHARE = 0.2
STRAGGLER_REACH = 2.0


class Peaks(NamedTuple):
    """Keypoints found in one image, ordered by type, then by x.

    Attributes:
        starts: (K + 1,) int64; peaks starts[k] … starts[k + 1] − 1 are of type k.
        x, y: (N,) float32, cells.
        confidence: (N,) float32 in (0, 1]; summed confidence of the cells that agree, of those that can.
        scale: (N,) float32, cells; 0 where no cell knows it.
    """

    starts: np.ndarray
    x: np.ndarray
    y: np.ndarray
    confidence: np.ndarray
    scale: np.ndarray


@njit(cache=True, nogil=True)
def find_peaks(  # type: ignore[no-untyped-def]
    starts, x, y, confidence, scale, support, precision, h, w, threshold, radius, radius_min, max_peaks
):
    """Peaks of one image: candidates in the order of their support, each joins the nearest peak in reach or begins one.

    Args:
        starts … precision: the arrays of Candidates.
        h, w: cells of the field.
        threshold: lowest confidence of a peak.
        radius: reach in units of the scale (the smaller of the candidate's and the peak's).
        radius_min: reach in cells that the smallest persons keep.
        max_peaks: at most so many peaks of a type; the best supported stay.

    Returns:
        the five arrays of Peaks.
    """
    K = len(starts) - 1
    N = len(x)
    out_starts = np.zeros(K + 1, np.int64)
    px, py = np.empty(N, np.float32), np.empty(N, np.float32)
    pc, ps = np.empty(N, np.float32), np.empty(N, np.float32)
    total = 0
    order = np.empty(N, np.int64)
    heads = np.empty(_STEPS + 1, np.int64)
    bx, by, bs = np.empty(max_peaks, np.float32), np.empty(max_peaks, np.float32), np.empty(max_peaks, np.float32)
    agreement = np.empty(max_peaks, np.float32)  # 1 / reach²
    sums = np.empty((max_peaks, 6))
    for k in range(K):
        low, high = starts[k], starts[k + 1]
        if low < high:
            _order_by_support(support, low, high, order, heads)
        n = 0
        for at in range(low, high):
            i = order[at]
            nearest, best = -1, np.float32(1.0)
            reach = np.float32(max(radius_min, radius * scale[i]))
            mine = 1 / (reach * reach)
            for p in range(n):
                dx, dy = x[i] - bx[p], y[i] - by[p]
                u = (dx * dx + dy * dy) * max(mine, agreement[p])  # the smaller of both reaches
                if u < best:
                    nearest, best = p, u
            if nearest < 0:
                if n == max_peaks:
                    continue
                bx[n], by[n], bs[n], agreement[n] = x[i], y[i], scale[i], mine
                sums[n] = 0
                nearest, best = n, np.float32(0.0)
                n += 1
            weight = confidence[i] * (1 - best) * precision[i]
            sums[nearest, 0] += weight
            sums[nearest, 1] += weight * (x[i] - bx[nearest])
            sums[nearest, 2] += weight * (y[i] - by[nearest])
            if scale[i] > 0:
                sums[nearest, 3] += confidence[i]
                sums[nearest, 4] += confidence[i] * scale[i]
            sums[nearest, 5] += confidence[i]
        out_starts[k] = total
        _drop_stragglers(bx[:n], by[:n], bs[:n], sums[:n], radius, radius_min)
        for p in range(n):
            cells = _patch(bx[p], w) * _patch(by[p], h)
            c = sums[p, 5] / max(cells, 4)  # 0 for stragglers
            if c < threshold:
                continue
            px[total] = bx[p] + sums[p, 1] / sums[p, 0]
            py[total] = by[p] + sums[p, 2] / sums[p, 0]
            pc[total] = min(c, 1.0)
            ps[total] = sums[p, 4] / sums[p, 3] if sums[p, 3] > 0 else 0.0
            total += 1
        rank = np.argsort(px[out_starts[k] : total], kind="mergesort") + out_starts[k]
        for field in (px, py, pc, ps):
            field[out_starts[k] : total] = field[rank]
    out_starts[K] = total
    return out_starts, px[:total], py[:total], pc[:total], ps[:total]


@njit(cache=True, nogil=True)
def _patch(place, size):  # type: ignore[no-untyped-def]
    """Cells 0 … size − 1 in one direction that a keypoint at ``place`` covers: those less than 2 cells from it."""
    reach = 1.99  # a keypoint on a cell covers three, also when its place is not exact
    return min(int(np.floor(place + reach)), size - 1) - max(int(np.ceil(place - reach)), 0) + 1


@njit(cache=True, nogil=True)
def _drop_stragglers(x, y, scale, sums, radius, radius_min):  # type: ignore[no-untyped-def]
    """Takes their cells from the peaks that are a few stray cells of a much stronger one nearby."""
    for p in range(len(x)):
        for q in range(len(x)):
            if sums[p, 5] < STRAGGLER_SHARE * sums[q, 5]:
                reach = STRAGGLER_REACH * max(radius_min, radius * min(scale[p], scale[q]))
                dx, dy = x[p] - x[q], y[p] - y[q]
                if dx * dx + dy * dy < reach * reach:
                    sums[p, 5] = 0
                    break


@njit(cache=True, nogil=True)
def _order_by_support(support, low, high, order, heads):  # type: ignore[no-untyped-def]
    """Indices low … high − 1 by falling support (in steps), the lower index first among equals: a counting sort."""
    largest = support[low]
    for i in range(low, high):
        largest = max(largest, support[i])
    heads[:] = 0
    factor = (_STEPS - 1) / largest
    for i in range(low, high):
        heads[_STEPS - int(support[i] * factor)] += 1
    position = low
    for step in range(_STEPS + 1):
        count = heads[step]
        heads[step] = position
        position += count
    for i in range(low, high):
        step = _STEPS - int(support[i] * factor)
        order[heads[step]] = i
        heads[step] += 1
