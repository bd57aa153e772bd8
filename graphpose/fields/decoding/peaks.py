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


class _Groups(NamedTuple):
    """Candidates of one type that gather around their best supported one; arrays over at most ``max_peaks`` groups.

    Attributes:
        x, y, scale: (G,) float32 of the candidate that began the group.
        agreement: (G,) float32; 1 / reach² of that candidate.
        sums: (G, 6) float64 over the group: weight; weight times offset from (x, y), twice; confidence of the
            candidates that know their scale; that times the scale; confidence.
    """

    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    agreement: np.ndarray
    sums: np.ndarray


@njit(cache=True, nogil=True)
def find_peaks(candidates, h, w, threshold, radius, radius_min, max_peaks):  # type: ignore[no-untyped-def]
    """Peaks of one image: candidates in the order of their support, each joins the nearest peak in reach or begins one.

    Args:
        candidates: Candidates.
        h, w: cells of the field.
        threshold: lowest confidence of a peak.
        radius: reach in units of the scale (the smaller of the candidate's and the peak's).
        radius_min: reach in cells that the smallest persons keep.
        max_peaks: at most so many peaks of a type; the best supported stay.

    Returns:
        Peaks.
    """
    K, N = len(candidates.starts) - 1, len(candidates.x)
    starts = np.zeros(K + 1, np.int64)
    x, y = np.empty(N, np.float32), np.empty(N, np.float32)
    confidence, scale = np.empty(N, np.float32), np.empty(N, np.float32)
    groups = _Groups(
        np.empty(max_peaks, np.float32), np.empty(max_peaks, np.float32), np.empty(max_peaks, np.float32),
        np.empty(max_peaks, np.float32), np.empty((max_peaks, 6)),
    )  # fmt: skip
    order = np.empty(N, np.int64)
    heads = np.empty(_STEPS + 1, np.int64)
    total = 0
    for k in range(K):
        starts[k] = total
        low, high = candidates.starts[k], candidates.starts[k + 1]
        if low == high:
            continue
        _order_by_support(candidates.support, low, high, order, heads)
        n = _gather(candidates, order[low:high], radius, radius_min, groups)
        _drop_stragglers(groups, n, radius, radius_min)
        for g in range(n):
            cells = _patch(groups.x[g], w) * _patch(groups.y[g], h)
            c = groups.sums[g, 5] / max(cells, 4)  # 0 for stragglers
            if c < threshold:
                continue
            x[total] = groups.x[g] + groups.sums[g, 1] / groups.sums[g, 0]
            y[total] = groups.y[g] + groups.sums[g, 2] / groups.sums[g, 0]
            confidence[total] = min(c, 1.0)
            scale[total] = groups.sums[g, 4] / groups.sums[g, 3] if groups.sums[g, 3] > 0 else 0.0
            total += 1
        _sort_by_x(x, y, confidence, scale, starts[k], total)
    starts[K] = total
    return Peaks(starts, x[:total], y[:total], confidence[:total], scale[:total])


@njit(cache=True, nogil=True)
def _gather(candidates, order, radius, radius_min, groups):  # type: ignore[no-untyped-def]
    """Gathers the candidates of one type, in ``order``, into ``groups``; returns the number of groups."""
    x, y, scale, confidence = candidates.x, candidates.y, candidates.scale, candidates.confidence
    sums = groups.sums
    n = 0
    for i in order:
        nearest, best = -1, np.float32(1.0)
        reach = np.float32(max(radius_min, radius * scale[i]))
        mine = 1 / (reach * reach)
        for g in range(n):
            dx, dy = x[i] - groups.x[g], y[i] - groups.y[g]
            u = (dx * dx + dy * dy) * max(mine, groups.agreement[g])  # the smaller of both reaches
            if u < best:
                nearest, best = g, u
        if nearest < 0:
            if n == len(sums):
                continue
            groups.x[n], groups.y[n], groups.scale[n], groups.agreement[n] = x[i], y[i], scale[i], mine
            for column in range(6):
                sums[n, column] = 0
            nearest, best = n, np.float32(0.0)
            n += 1
        weight = confidence[i] * (1 - best) * candidates.precision[i]
        sums[nearest, 0] += weight
        sums[nearest, 1] += weight * (x[i] - groups.x[nearest])
        sums[nearest, 2] += weight * (y[i] - groups.y[nearest])
        if scale[i] > 0:
            sums[nearest, 3] += confidence[i]
            sums[nearest, 4] += confidence[i] * scale[i]
        sums[nearest, 5] += confidence[i]
    return n


@njit(cache=True, nogil=True)
def _patch(place, size):  # type: ignore[no-untyped-def]
    """Cells 0 … size − 1 in one direction that a keypoint at ``place`` covers: those less than 2 cells from it."""
    reach = 1.99  # a keypoint on a cell covers three, also when its place is not exact
    return min(int(np.floor(place + reach)), size - 1) - max(int(np.ceil(place - reach)), 0) + 1


@njit(cache=True, nogil=True)
def _drop_stragglers(groups, n, radius, radius_min):  # type: ignore[no-untyped-def]
    """Takes their cells from those of the first n groups that are a few stray cells of a much stronger one nearby."""
    x, y, scale, sums = groups.x, groups.y, groups.scale, groups.sums
    for p in range(n):
        for q in range(n):
            if sums[p, 5] < STRAGGLER_SHARE * sums[q, 5]:
                reach = STRAGGLER_REACH * max(radius_min, radius * min(scale[p], scale[q]))
                dx, dy = x[p] - x[q], y[p] - y[q]
                if dx * dx + dy * dy < reach * reach:
                    sums[p, 5] = 0
                    break


@njit(cache=True, nogil=True)
def _sort_by_x(x, y, confidence, scale, low, high):  # type: ignore[no-untyped-def]
    """Sorts the peaks low … high − 1 in place by x, equal ones as they were: insertion, as there are few."""
    for i in range(low + 1, high):
        at = i
        while at > low and x[at] < x[at - 1]:
            for values in (x, y, confidence, scale):
                values[at], values[at - 1] = values[at - 1], values[at]
            at -= 1


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
