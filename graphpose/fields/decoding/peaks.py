"""Peaks: candidates of one keypoint type that agree on a place, as one keypoint with its confidence and scale.

Convention: lengths are in cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from graphpose.fields.decoding.candidates import Candidates
from graphpose.fields.decoding.compiled import compiled
from graphpose.fields.decoding.tables import Settings
from graphpose.fields.spec import PATCH_RADIUS

# Support is sorted into so many equal steps: enough to start every peak near its best candidate, in linear time.
SUPPORT_STEPS = 512


class Peaks(NamedTuple):
    """Keypoints found in one image, ordered by type, then by x.

    Attributes:
        starts: (K + 1,) int64; peaks starts[k] … starts[k + 1] − 1 are of type k.
        x, y: (N,) float32, cells.
        confidence: (N,) float32 in (0, 1]; summed confidence of the cells that agree, of those that can, times the
            similarity to expect of the place where ``expected_oks`` is set.
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
        weight: (G,) float64, summed over the group as all that follow.
        weighted_dx, weighted_dy: (G,) float64; weight times the offset from (x, y).
        spread_weight: (G,) float64; weight of the candidates that know their spread.
        weighted_spread: (G,) float64; that times the spread.
        scaled: (G,) float64; confidence of the candidates that know their scale.
        confident_scale: (G,) float64; that times the scale.
        confidence: (G,) float64; 0 for a group that is none.
    """

    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    agreement: np.ndarray
    weight: np.ndarray
    weighted_dx: np.ndarray
    weighted_dy: np.ndarray
    spread_weight: np.ndarray
    weighted_spread: np.ndarray
    scaled: np.ndarray
    confident_scale: np.ndarray
    confidence: np.ndarray


@compiled
def find_peaks(candidates: Candidates, h: int, w: int, settings: Settings) -> Peaks:
    """Peaks of one image: candidates in the order of their support, each joins the nearest peak in reach or begins one.

    Args:
        candidates: of all keypoint types.
        h, w: cells of the field.
        settings: of the decoder.
    """
    K, N = len(candidates.starts) - 1, len(candidates.x)
    peaks = Peaks(
        np.zeros(K + 1, np.int64), np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32),
        np.empty(N, np.float32),
    )  # fmt: skip
    G = settings.max_peaks
    groups = _Groups(
        np.empty(G, np.float32), np.empty(G, np.float32), np.empty(G, np.float32), np.empty(G, np.float32),
        np.empty(G), np.empty(G), np.empty(G), np.empty(G), np.empty(G), np.empty(G), np.empty(G), np.empty(G),
    )  # fmt: skip
    order = np.empty(N, np.int64)
    heads = np.empty(SUPPORT_STEPS + 1, np.int64)
    n = 0
    for k in range(K):
        peaks.starts[k] = n
        low, high = candidates.starts[k], candidates.starts[k + 1]
        if low == high:
            continue
        _order_by_support(candidates.support, low, high, order, heads)
        count = _gather(candidates, order[low:high], settings, groups)
        _drop_stragglers(groups, count, settings)
        for g in range(count):
            cells = max(_patch(groups.x[g], w) * _patch(groups.y[g], h), PATCH_RADIUS**2)  # as in an image's corner
            confidence = groups.confidence[g] / cells  # 0 for stragglers
            if confidence < settings.peak_threshold:
                continue
            peaks.x[n] = groups.x[g] + groups.weighted_dx[g] / groups.weight[g]
            peaks.y[n] = groups.y[g] + groups.weighted_dy[g] / groups.weight[g]
            peaks.confidence[n] = min(confidence, 1.0)
            peaks.scale[n] = groups.confident_scale[g] / groups.scaled[g] if groups.scaled[g] > 0 else 0.0
            if settings.expected_oks and peaks.scale[n] > 0 and groups.spread_weight[g] > 0:
                spread = groups.weighted_spread[g] / groups.spread_weight[g]
                peaks.confidence[n] *= expected_similarity(spread, peaks.scale[n])
            n += 1
        _sort_by_x(peaks, peaks.starts[k], n)
    peaks.starts[K] = n
    return Peaks(peaks.starts, peaks.x[:n], peaks.y[:n], peaks.confidence[:n], peaks.scale[:n])


@compiled
def _gather(candidates: Candidates, order: np.ndarray, settings: Settings, groups: _Groups) -> int:
    """Gathers the candidates of one type, in ``order``, into ``groups``; returns the number of groups."""
    x, y, scale, confidence = candidates.x, candidates.y, candidates.scale, candidates.confidence
    n = 0
    for i in order:
        nearest, best = -1, np.float32(1.0)
        reach = np.float32(max(settings.radius_min, settings.radius * scale[i]))
        mine = 1 / (reach * reach)
        for g in range(n):
            dx, dy = x[i] - groups.x[g], y[i] - groups.y[g]
            u = (dx * dx + dy * dy) * max(mine, groups.agreement[g])  # the smaller of both reaches
            if u < best:
                nearest, best = g, u
        if nearest < 0:
            if n == len(groups.x):
                continue
            groups.x[n], groups.y[n], groups.scale[n], groups.agreement[n] = x[i], y[i], scale[i], mine
            groups.weight[n] = groups.weighted_dx[n] = groups.weighted_dy[n] = 0
            groups.spread_weight[n] = groups.weighted_spread[n] = 0
            groups.scaled[n] = groups.confident_scale[n] = groups.confidence[n] = 0
            nearest, best = n, np.float32(0.0)
            n += 1
        weight = confidence[i] * (1 - best) * candidates.precision[i]
        groups.weight[nearest] += weight
        groups.weighted_dx[nearest] += weight * (x[i] - groups.x[nearest])
        groups.weighted_dy[nearest] += weight * (y[i] - groups.y[nearest])
        if candidates.spread[i] > 0:
            groups.spread_weight[nearest] += weight
            groups.weighted_spread[nearest] += weight * candidates.spread[i]
        if scale[i] > 0:
            groups.scaled[nearest] += confidence[i]
            groups.confident_scale[nearest] += confidence[i] * scale[i]
        groups.confidence[nearest] += confidence[i]
    return n


@compiled
def expected_similarity(spread: float, scale: float) -> float:
    """The OKS similarity E[exp(−d² / 2 κ²)] of a keypoint whose distance d from the truth is as its spread says.

    The regression loss makes the spread b the mean of d and takes d to be exponential, so that with t = b / κ the
    similarity is √(π / 2) / t · exp(1 / 2 t²) · erfc(1 / √2 t).

    Args:
        spread: b.
        scale: σ_k · sqrt(person area) in the same unit, positive; OKS has κ = 2 σ_k · sqrt(person area).
    """
    t = spread / (2 * scale)
    if t < 0.15:  # where exp and erfc leave the range of floats; the first terms of the series are as good
        return 1 - t**2 + 3 * t**4
    return math.sqrt(math.pi / 2) / t * math.exp(0.5 / t**2) * math.erfc(math.sqrt(0.5) / t)


@compiled
def _patch(place: float, size: int) -> int:
    """Cells 0 … size − 1 in one direction that a keypoint at ``place`` covers: those nearer than the patch's radius."""
    reach = PATCH_RADIUS - 0.01  # a keypoint on a cell covers three, also when its place is not exact
    return min(int(np.floor(place + reach)), size - 1) - max(int(np.ceil(place - reach)), 0) + 1


@compiled
def _drop_stragglers(groups: _Groups, count: int, settings: Settings) -> None:
    """Takes their cells from those of the first ``count`` groups that are the fringe of a much stronger one nearby."""
    x, y, scale, confidence = groups.x, groups.y, groups.scale, groups.confidence
    for p in range(count):
        for q in range(count):
            if confidence[p] < settings.straggler_share * confidence[q]:
                reach = max(settings.radius_min, settings.radius * min(scale[p], scale[q]))
                reach *= settings.straggler_reach
                dx, dy = x[p] - x[q], y[p] - y[q]
                if dx * dx + dy * dy < reach * reach:
                    confidence[p] = 0
                    break


@compiled
def _sort_by_x(peaks: Peaks, low: int, high: int) -> None:
    """Sorts the peaks low … high − 1 in place by x, equal ones as they were: insertion, as there are few."""
    for i in range(low + 1, high):
        at = i
        while at > low and peaks.x[at] < peaks.x[at - 1]:
            for values in (peaks.x, peaks.y, peaks.confidence, peaks.scale):
                values[at], values[at - 1] = values[at - 1], values[at]
            at -= 1


@compiled
def _order_by_support(support: np.ndarray, low: int, high: int, order: np.ndarray, heads: np.ndarray) -> None:
    """Sorts the candidates low … high − 1 by falling support (in steps), the lower number first among equals.

    Args:
        support: (N,) float32 of all candidates.
        low, high: those of one type.
        order: (N,) int64; of it low … high − 1 become their numbers in order.
        heads: (SUPPORT_STEPS + 1,) int64, whatever it holds.
    """
    largest = support[low]
    for i in range(low, high):
        largest = max(largest, support[i])
    heads[:] = 0
    factor = (SUPPORT_STEPS - 1) / largest
    for i in range(low, high):
        heads[SUPPORT_STEPS - int(support[i] * factor)] += 1
    position = low
    for step in range(SUPPORT_STEPS + 1):
        count = heads[step]
        heads[step] = position
        position += count
    for i in range(low, high):
        step = SUPPORT_STEPS - int(support[i] * factor)
        order[heads[step]] = i
        heads[step] += 1
