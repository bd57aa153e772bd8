"""Limb votes: every confident PAF cell votes for the pair of keypoints that its two ends point to.

Convention: lengths are in cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from graphpose.fields.decoding.cells import confident_cells
from graphpose.fields.decoding.compiled import compiled
from graphpose.fields.decoding.peaks import Peaks
from graphpose.fields.decoding.tables import DecoderTables, Settings
from graphpose.fields.spec import PAF


class LimbCells(NamedTuple):
    """PAF cells above the threshold whose ends are within one field size, ordered by limb, then row, then column.

    Attributes:
        starts: (M + 1,) int64; cells starts[m] … starts[m + 1] − 1 are of limb m.
        ends: (N, 2, 2) float32; places that the two ends point to, x and y of each.
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
        nodes: (E, 2) int64 peaks (after splitting: nodes) of the limb's first and second keypoint type.
        weight: (E,) float32; summed confidence of the cells, each weighted by how near its ends come to the peaks.
        share: (E, 2) float32; the weight beside all that leaves the first (second) peak along this limb.
        places: (E, 2, 2) float32; where the cells put the two ends, x and y of each.
    """

    limb: np.ndarray
    nodes: np.ndarray
    weight: np.ndarray
    share: np.ndarray
    places: np.ndarray


class _EndPeaks(NamedTuple):
    """The peaks, all of one keypoint type, that one end of a limb can lead to, in the order of x.

    Attributes:
        start: number of the first of them among all peaks.
        x, y, scale: (n,) float32, as in Peaks.
        largest: of their scales.
        leaving: (n,) float32; summed confidence of the limb's cells that lead to each.
    """

    start: int
    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    largest: float
    leaving: np.ndarray


@compiled
def find_limb_cells(paf: np.ndarray, settings: Settings) -> LimbCells:
    """Limb cells of one image.

    Args:
        paf: (M, 7, h, w) float32, confidences are probabilities; any value is allowed, NaN and infinity claim nothing.
        settings: of the decoder, for the threshold.
    """
    M, _, h, w = paf.shape
    cells = confident_cells(paf, settings.limb_threshold)
    N = len(cells.row)
    starts = np.zeros(M + 1, np.int64)
    ends, distance = np.empty((N, 2, 2), np.float32), np.empty((N, 2), np.float32)
    confidence = np.empty(N, np.float32)
    n = 0
    for m in range(M):
        starts[m] = n
        for i in range(cells.starts[m], cells.starts[m + 1]):
            r, c = cells.row[i], cells.column[i]
            dx1, dy1 = paf[m, PAF.X1, r, c], paf[m, PAF.Y1, r, c]
            dx2, dy2 = paf[m, PAF.X2, r, c], paf[m, PAF.Y2, r, c]
            # False for NaN and infinity, too.
            if not (abs(dx1) < w and abs(dy1) < h and abs(dx2) < w and abs(dy2) < h):
                continue
            ends[n, 0, 0], ends[n, 0, 1], ends[n, 1, 0], ends[n, 1, 1] = c + dx1, r + dy1, c + dx2, r + dy2
            distance[n, 0], distance[n, 1] = math.sqrt(dx1 * dx1 + dy1 * dy1), math.sqrt(dx2 * dx2 + dy2 * dy2)
            confidence[n] = min(paf[m, PAF.CONFIDENCE, r, c], np.float32(1.0))
            n += 1
    starts[M] = n
    return LimbCells(starts, ends[:n], distance[:n], confidence[:n])


@compiled
def count_votes(cells: LimbCells, peaks: Peaks, tables: DecoderTables) -> Votes:
    """Votes of one image.

    Args:
        cells: of its PAF.
        peaks: of its PIF.
        tables: of the decoder.
    """
    N = len(cells.confidence)  # every cell votes for one pair, at most
    votes = Votes(
        np.empty(N, np.int32), np.empty((N, 2), np.int64), np.empty(N, np.float32), np.empty((N, 2), np.float32),
        np.empty((N, 2, 2), np.float32),
    )  # fmt: skip
    E = np.int64(0)  # not a literal, which would be a type of its own that functions are compiled for
    for m in range(len(tables.limbs)):
        first, second = _end_peaks(peaks, tables.limbs[m, 0]), _end_peaks(peaks, tables.limbs[m, 1])
        if len(first.x) > 0 and len(second.x) > 0:
            E += _count_limb(m, cells, first, second, _rows(votes, E, N), tables.settings)
    return _rows(votes, np.int64(0), E)


@compiled
def _rows(votes: Votes, begin: int | np.int64, end: int | np.int64) -> Votes:
    """Rows begin … end − 1, in the same memory."""
    return Votes(
        votes.limb[begin:end], votes.nodes[begin:end], votes.weight[begin:end], votes.share[begin:end],
        votes.places[begin:end],
    )  # fmt: skip


@compiled
def _end_peaks(peaks: Peaks, k: int) -> _EndPeaks:
    """Peaks of keypoint type k."""
    start, stop = peaks.starts[k], peaks.starts[k + 1]
    scale = peaks.scale[start:stop]
    largest = np.float32(0.0)
    for s in scale:
        largest = max(largest, s)
    leaving = np.zeros(stop - start, np.float32)
    return _EndPeaks(start, peaks.x[start:stop], peaks.y[start:stop], scale, float(largest), leaving)


@compiled
def _count_limb(m: int, cells: LimbCells, first: _EndPeaks, second: _EndPeaks, votes: Votes, settings: Settings) -> int:
    """Counts the votes of limb m's cells.

    Args:
        m: number of the limb.
        cells: LimbCells.
        first, second: peaks that its ends can lead to; what leaves them is counted, too.
        votes: rows that are written to, from the first one on.
        settings: of the decoder.

    Returns:
        how many rows were written.
    """
    row = np.full((len(first.x), len(second.x)), -1, np.int32)  # of the votes for each pair
    E = 0
    for i in range(cells.starts[m], cells.starts[m + 1]):
        x1, y1, x2, y2 = cells.ends[i, 0, 0], cells.ends[i, 0, 1], cells.ends[i, 1, 0], cells.ends[i, 1, 1]
        reach1 = max(settings.limb_radius_min, settings.limb_slack * cells.distance[i, 0])
        reach2 = max(settings.limb_radius_min, settings.limb_slack * cells.distance[i, 1])
        p, near1 = _nearest(first, x1, y1, reach1, settings.limb_radius)
        q, near2 = _nearest(second, x2, y2, reach2, settings.limb_radius)
        confidence = cells.confidence[i]
        if p >= 0:
            first.leaving[p] += confidence * near1
        if q >= 0:
            second.leaving[q] += confidence * near2
        if p < 0 or q < 0:
            continue
        e = row[p, q]
        if e < 0:
            e = E
            row[p, q] = e
            votes.limb[e], votes.nodes[e, 0], votes.nodes[e, 1] = m, first.start + p, second.start + q
            votes.weight[e] = 0
            votes.places[e, 0, 0] = votes.places[e, 0, 1] = votes.places[e, 1, 0] = votes.places[e, 1, 1] = 0
            E += 1
        v = confidence * near1 * near2
        votes.weight[e] += v
        votes.places[e, 0, 0] += v * x1
        votes.places[e, 0, 1] += v * y1
        votes.places[e, 1, 0] += v * x2
        votes.places[e, 1, 1] += v * y2
    for e in range(E):
        weight = votes.weight[e]
        votes.share[e, 0] = weight / first.leaving[votes.nodes[e, 0] - first.start] if weight > 0 else 0
        votes.share[e, 1] = weight / second.leaving[votes.nodes[e, 1] - second.start] if weight > 0 else 0
        if weight > 0:
            for end in range(2):
                votes.places[e, end, 0] /= weight
                votes.places[e, end, 1] /= weight
    return E


@compiled
def _nearest(end: _EndPeaks, x: float, y: float, reach: float, radius: float) -> tuple[int, np.floating]:
    """The peak nearest to (x, y) in its reach, −1 for none, and 1 − (distance / reach)².

    Args:
        end: the peaks.
        x, y: where a cell puts the limb's end.
        reach: of every peak, at least.
        radius: the same in units of the peak's scale.
    """
    window = max(reach, radius * end.largest)
    a, b = 0, len(end.x)
    while a < b:
        middle = (a + b) // 2
        if end.x[middle] < x - window:
            a = middle + 1
        else:
            b = middle
    nearest, closest, weight = -1, np.float32(1e30), np.float32(0.0)
    while a < len(end.x) and end.x[a] <= x + window:
        dx, dy = end.x[a] - x, end.y[a] - y
        d = dx * dx + dy * dy
        if d < closest:
            r = max(reach, radius * end.scale[a])
            if d < r * r:
                nearest, closest, weight = a, d, 1 - d / (r * r)
        a += 1
    return nearest, weight
