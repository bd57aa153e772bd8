"""Confident cells: where a field claims anything at all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpose.fields.decoding.compiled import compiled


class ConfidentCells(NamedTuple):
    """Cells of a field whose confidence reaches a threshold, ordered by plane, then row, then column.

    Attributes:
        starts: (P + 1,) int64; cells starts[p] … starts[p + 1] − 1 are of plane p (a keypoint's, or a limb's).
        row, column: (N,) int64.
    """

    starts: np.ndarray
    row: np.ndarray
    column: np.ndarray


@compiled
def confident_cells(field: np.ndarray, threshold: float) -> ConfidentCells:
    """Confident cells of one image.

    Args:
        field: (P, C, h, w) float32, channel 0 is the confidence; NaN is never confident.
        threshold: lowest confidence.
    """
    P, _, h, w = field.shape
    counts = np.zeros((P, h), np.int64)  # counted first, so that rows without any are passed over
    for p in range(P):
        for r in range(h):
            count = 0
            for c in range(w):
                count += field[p, 0, r, c] >= threshold
            counts[p, r] = count
    N = counts.sum()
    starts, row, column = np.zeros(P + 1, np.int64), np.empty(N, np.int64), np.empty(N, np.int64)
    n = 0
    for p in range(P):
        starts[p] = n
        for r in range(h):
            if counts[p, r] == 0:
                continue
            for c in range(w):
                if field[p, 0, r, c] >= threshold:
                    row[n], column[n] = r, c
                    n += 1
    starts[P] = n
    return ConfidentCells(starts, row, column)
