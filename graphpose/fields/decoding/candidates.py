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
def count_confident_cells(field, threshold):  # type: ignore[no-untyped-def]
    """How many cells of each row have a confidence of at least ``threshold``, NaN having less.

    Args:
        field: (N, C, h, w) float32, channel 0 is the confidence.
        threshold: lowest confidence.

    Returns:
        (N, h) int64.
    """
    N, _, h, w = field.shape
    counts = np.zeros((N, h), np.int64)
    for n in range(N):
        for r in range(h):
            count = 0
            for c in range(w):
                count += field[n, 0, r, c] >= threshold
            counts[n, r] = count
    return counts


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
        Candidates.
    """
    K, _, h, w = pif.shape
    counts = count_confident_cells(pif, threshold)
    N = counts.sum()
    starts = np.zeros(K + 1, np.int64)
    x, y = np.empty(N, np.float32), np.empty(N, np.float32)
    confidence, scale = np.empty(N, np.float32), np.empty(N, np.float32)
    precision, support = np.empty(N, np.float32), np.empty(N, np.float32)
    agreement = np.empty(N, np.float32)  # 1 / reach²
    column = np.empty(N, np.int64)
    begins = np.empty(h + 1, np.int64)  # first candidate of each row of the type at hand
    n = 0
    for k in range(K):
        starts[k] = n
        for r in range(h):
            begins[r] = n
            if counts[k, r] == 0:
                continue
            for c in range(w):
                if not pif[k, 0, r, c] >= threshold:
                    continue
                px, py = c + pif[k, 1, r, c], r + pif[k, 2, r, c]
                # False for NaN and infinity, too.
                if not (px >= -0.5 and px <= w - 0.5 and py >= -0.5 and py <= h - 0.5):
                    continue
                x[n], y[n] = px, py
                confidence[n] = min(pif[k, 0, r, c], np.float32(1.0))
                s = pif[k, 4, r, c]
                s = min(s, np.float32(scale_max)) if s > 0 else np.float32(0.0)  # 0 for NaN, too
                scale[n] = s
                reach = max(radius_min, radius * s)
                agreement[n] = 1 / (reach * reach)
                b = pif[k, 3, r, c]
                precision[n] = math.exp(-min(max(b, -5.0), 5.0)) if use_spread and b == b else 1.0
                support[n] = confidence[n]
                column[n] = c
                n += 1
        begins[h] = n
        if n > starts[k]:
            _add_support(begins, column, x, y, confidence, agreement, support)
    starts[K] = n
    return Candidates(starts, x[:n], y[:n], confidence[:n], scale[:n], support[:n], precision[:n])


@njit(cache=True, nogil=True)
def _add_support(begins, column, x, y, confidence, agreement, support):  # type: ignore[no-untyped-def]
    """Adds to each candidate's support that of its neighbours; every pair of candidates is met once."""
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
