"""Candidates: the PIF cells that claim a keypoint, and how many of their neighbours support the same place.

The high-resolution confidence map of PifPaf is a sum of one small bump per confident cell. It is read at the places
that cells point to and nowhere else, so it is computed there and nowhere else: the bump of every confident cell of
the neighbourhood, evaluated at the candidate's own place. That makes it independent of the image's resolution.

Convention: lengths are in cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from graphpose.fields.decoding.cells import confident_cells
from graphpose.fields.decoding.compiled import compiled
from graphpose.fields.decoding.tables import Settings
from graphpose.fields.spec import PATCH_RADIUS, PIF

# Cells of one patch, which point to one keypoint, are at most so many cells from each other.
NEIGHBOURHOOD = 2 * PATCH_RADIUS - 1

# A log spread is taken for no more and no less: weights of e^±5 are already all or nothing, and stay finite in float32.
MAX_LOG_SPREAD = 5.0


class Candidates(NamedTuple):
    """PIF cells above the threshold that point into the image, ordered by keypoint type, then row, then column.

    Attributes:
        starts: (K + 1,) int64; candidates starts[k] … starts[k + 1] − 1 are of type k.
        x, y: (N,) float32 places they point to, cells.
        confidence: (N,) float32 in (0, 1].
        scale: (N,) float32, cells, at most the field's longer side; 0 where the field does not know it.
        support: (N,) float32; high-resolution confidence, the sum of confidences that agree on the place.
        precision: (N,) float32; weight of the place beside those of other cells.
        spread: (N,) float32; Laplace spread b of the place, cells; 0 where the field does not know it.
    """

    starts: np.ndarray
    x: np.ndarray
    y: np.ndarray
    confidence: np.ndarray
    scale: np.ndarray
    support: np.ndarray
    precision: np.ndarray
    spread: np.ndarray


@compiled
def find_candidates(pif: np.ndarray, settings: Settings) -> Candidates:
    """Candidates of one image.

    Args:
        pif: (K, 5, h, w) float32, confidences are probabilities; any value is allowed, NaN and infinity claim nothing.
        settings: of the decoder.
    """
    K, _, h, w = pif.shape
    cells = confident_cells(pif, settings.keypoint_threshold)
    N = len(cells.row)
    starts = np.zeros(K + 1, np.int64)
    x, y = np.empty(N, np.float32), np.empty(N, np.float32)
    confidence, scale = np.empty(N, np.float32), np.empty(N, np.float32)
    support, precision, spread = np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32)
    agreement = np.empty(N, np.float32)  # 1 / reach²
    column = np.empty(N, np.int64)
    begins = np.empty(h + 1, np.int64)  # first candidate of each row of the type at hand
    n = 0
    for k in range(K):
        starts[k] = n
        rows = 0  # so many have their first candidate
        for i in range(cells.starts[k], cells.starts[k + 1]):
            r, c = cells.row[i], cells.column[i]
            while rows <= r:
                begins[rows] = n
                rows += 1
            px, py = c + pif[k, PIF.X, r, c], r + pif[k, PIF.Y, r, c]
            # False for NaN and infinity, too.
            if not (px >= -0.5 and px <= w - 0.5 and py >= -0.5 and py <= h - 0.5):
                continue
            x[n], y[n] = px, py
            confidence[n] = min(pif[k, PIF.CONFIDENCE, r, c], np.float32(1.0))
            s = pif[k, PIF.SCALE, r, c]
            s = min(s, np.float32(max(h, w))) if s > 0 else np.float32(0.0)  # 0 for NaN, too
            scale[n] = s
            reach = max(settings.radius_min, settings.radius * s)
            agreement[n] = 1 / (reach * reach)
            b = pif[k, PIF.SPREAD, r, c]
            known = b == b
            b = min(max(b, -MAX_LOG_SPREAD), MAX_LOG_SPREAD)
            spread[n] = math.exp(b) if known else 0.0
            precision[n] = math.exp(-b) if settings.use_spread and known else 1.0
            support[n] = confidence[n]
            column[n] = c
            n += 1
        while rows <= h:
            begins[rows] = n
            rows += 1
        if n > starts[k]:
            so_far = Candidates(starts, x, y, confidence, scale, support, precision, spread)
            _add_support(begins, column, agreement, so_far)
    starts[K] = n
    return Candidates(starts, x[:n], y[:n], confidence[:n], scale[:n], support[:n], precision[:n], spread[:n])


@compiled
def _add_support(begins: np.ndarray, column: np.ndarray, agreement: np.ndarray, candidates: Candidates) -> None:
    """Adds to the support of each candidate of one type that of its neighbours; every pair of them is met once.

    Args:
        begins: (h + 1,) int64; candidates begins[r] … begins[r + 1] − 1 are of cells in row r.
        column: (N,) int64 of the candidates' cells.
        agreement: (N,) float32; 1 / reach².
        candidates: all so far.
    """
    x, y, confidence, support = candidates.x, candidates.y, candidates.confidence, candidates.support
    h = len(begins) - 1
    for r in range(h):
        for rr in range(max(0, r - NEIGHBOURHOOD), r + 1):
            first = begins[rr]
            for i in range(begins[r], begins[r + 1]):
                last = begins[rr + 1] if rr < r else i
                while first < last and column[first] < column[i] - NEIGHBOURHOOD:
                    first += 1
                total = np.float32(0.0)
                for j in range(first, last):
                    if column[j] > column[i] + NEIGHBOURHOOD:
                        break
                    dx, dy = x[j] - x[i], y[j] - y[i]
                    u = (dx * dx + dy * dy) * max(agreement[i], agreement[j])
                    if u < 1:
                        total += confidence[j] * (1 - u)
                        support[j] += confidence[i] * (1 - u)
                support[i] += total
