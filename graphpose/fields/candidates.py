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
from numba import njit

# Cells that point to one keypoint lie in its patch of 4 × 4, at most 3 cells from each other.
NEIGHBOURHOOD = 3


class Candidates(NamedTuple):
    """PIF cells above the threshold that point into the image, ordered by keypoint type, then row, then column.

    Attributes:
        starts: (K + 1,) int64; candidates starts[k] … starts[k + 1] − 1 are of type k.
        x, y: (N,) float32 places they point to, cells.
        confidence: (N,) float32 in (0, 1].
        scale: (N,) float32, cells, positive.
        support: (N,) float32; high-resolution confidence, the sum of confidences that agree on the place.
        precision: (N,) float32; weight of the place beside those of other cells.
    """

    starts: np.ndarray
    x: np.ndarray
    y: np.ndarray
    confidence: np.ndarray
    scale: np.ndarray
    support: np.ndarray
    precision: np.ndarray


@njit(cache=True, nogil=True)
def find_candidates(pif, threshold, radius, radius_min, scale_max, use_spread):  # type: ignore[no-untyped-def]
    """Candidates of one image.

    Args:
        pif: (K, 5, h, w) float32, confidences are probabilities; any value is allowed, NaN and infinity claim nothing.
        threshold: lowest confidence.
        radius: agreement in units of the keypoint's scale.
        radius_min: agreement in cells that the smallest persons keep.
        scale_max: largest scale in cells.
        use_spread: whether the spread channel weighs places by 1/b.

    Returns:
        the seven arrays of Candidates.
    """
    K, _, h, w = pif.shape
    starts = np.zeros(K + 1, np.int64)
    for k in range(K):
        plane = pif[k, 0].ravel()
        count = 0
        for i in range(h * w):
            count += plane[i] >= threshold
        starts[k + 1] = starts[k] + count
    N = starts[K]
    x, y = np.empty(N, np.float32), np.empty(N, np.float32)
    confidence, scale = np.empty(N, np.float32), np.empty(N, np.float32)
    precision = np.empty(N, np.float32)
    support = np.zeros(N, np.float32)
    cell = np.empty(N, np.int32)
    place = np.full((h, w), -1, np.int32)  # candidate of each cell of the type at hand
    n = 0
    for k in range(K):
        count = starts[k + 1] - starts[k]
        first = n
        starts[k] = first
        if count == 0:
            continue
        for r in range(h):
            for c in range(w):
                if not pif[k, 0, r, c] >= threshold:
                    continue
                px, py = c + pif[k, 1, r, c], r + pif[k, 2, r, c]
                # False for NaN and infinity, too.
                if not (px >= -0.5 and px <= w - 0.5 and py >= -0.5 and py <= h - 0.5):
                    continue
                s = pif[k, 4, r, c]
                x[n], y[n] = px, py
                confidence[n] = min(pif[k, 0, r, c], np.float32(1.0))
                # False for NaN, too.
                scale[n] = min(s, scale_max) if s > 0 else np.float32(0.0)
                b = pif[k, 3, r, c]
                precision[n] = math.exp(-min(max(b, -5.0), 5.0)) if use_spread and b == b else 1.0
                cell[n] = r * w + c
                place[r, c] = n
                n += 1
        for i in range(first, n):
            r, c = cell[i] // w, cell[i] % w
            total = confidence[i]
            for rr in range(max(0, r - NEIGHBOURHOOD), min(h, r + NEIGHBOURHOOD + 1)):
                for cc in range(max(0, c - NEIGHBOURHOOD), min(w, c + NEIGHBOURHOOD + 1)):
                    j = place[rr, cc]
                    if j < 0 or j == i:
                        continue
                    reach = max(radius_min, radius * min(scale[i], scale[j]))
                    dx, dy = x[j] - x[i], y[j] - y[i]
                    u = (dx * dx + dy * dy) / (reach * reach)
                    if u < 1:
                        total += confidence[j] * (1 - u)
            support[i] = total
        for i in range(first, n):
            place[cell[i] // w, cell[i] % w] = -1
    starts[K] = n
    return starts, x[:n], y[:n], confidence[:n], scale[:n], support[:n], precision[:n]
