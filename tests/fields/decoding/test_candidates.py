"""Confident cells against plain loops over all cells of a field."""

import math

import numpy as np
import pytest

from graphpose.fields.config import DecoderConfig
from graphpose.fields.decoding.candidates import Candidates, find_candidates
from graphpose.fields.decoding.limbs import LimbCells, find_limb_cells
from graphpose.fields.decoding.tables import decoder_tables
from graphpose.fields.spec import PAF, PIF
from graphpose.skeleton import COCO


def settings(**changes):
    return decoder_tables(COCO, DecoderConfig(**changes)).settings


def noisy(channels, rng):
    """Three planes of 12 × 15 cells, of which a third are confident and some claim what no number says."""
    field = rng.normal(0, 1.5, (3, channels, 12, 15)).astype(np.float32)
    field[:, 0] = rng.uniform(-0.1, 1.3, field[:, 0].shape)
    field[0, :, 5:8, 5:8] = np.nan
    field[1, 1, 7] = np.inf
    return field


def claims(pif, threshold):
    """(plane, row, column, x, y) of every cell that points into the image."""
    _, _, h, w = pif.shape
    for k, r, c in np.ndindex(len(pif), h, w):
        x, y = c + pif[k, PIF.X, r, c], r + pif[k, PIF.Y, r, c]
        if pif[k, 0, r, c] >= threshold and -0.5 <= x <= w - 0.5 and -0.5 <= y <= h - 0.5:
            yield k, r, c, x, y


@pytest.mark.parametrize("use_spread", [False, True])
def test_candidates_and_their_support_are_those_of_plain_loops(use_spread):
    pif = noisy(5, np.random.default_rng(4))
    own = settings(use_spread=use_spread)
    found = list(claims(pif, own.keypoint_threshold))

    def weight(k, r, c):
        return min(pif[k, 0, r, c], 1.0)

    def scale(k, r, c):
        return min(pif[k, PIF.SCALE, r, c], 15.0) if pif[k, PIF.SCALE, r, c] > 0 else 0.0

    def reach(*cell):
        return max(own.radius_min, own.radius * scale(*cell))

    rows = []
    for k, r, c, x, y in found:
        support = 0.0
        for kk, rr, cc, xx, yy in found:
            if kk == k and abs(rr - r) <= 3 and abs(cc - c) <= 3:  # patches of 4 × 4 cells
                squared = ((xx - x) ** 2 + (yy - y) ** 2) / min(reach(k, r, c), reach(kk, rr, cc)) ** 2
                support += weight(kk, rr, cc) * max(0.0, 1 - squared)
        spread = math.exp(min(max(pif[k, PIF.SPREAD, r, c], -5.0), 5.0))  # 0 where it is NaN, as it is nowhere here
        precision = 1 / spread if use_spread else 1.0
        rows.append((x, y, weight(k, r, c), scale(k, r, c), support, precision, spread))
    starts = np.searchsorted([k for k, *_ in found], range(4))
    expected = Candidates(starts, *np.array(rows).T)
    for name, a, b in zip(Candidates._fields, find_candidates(pif, own), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)


def test_limb_cells_are_those_of_plain_loops():
    paf, own = noisy(7, np.random.default_rng(5)), settings()
    _, _, h, w = paf.shape
    planes, rows = [], []
    for m, r, c in np.ndindex(len(paf), h, w):
        x1, y1, x2, y2 = offsets = paf[m, [PAF.X1, PAF.Y1, PAF.X2, PAF.Y2], r, c]
        if paf[m, 0, r, c] >= own.limb_threshold and (np.abs(offsets) < [w, h, w, h]).all():
            planes.append(m)
            rows.append((c + x1, r + y1, c + x2, r + y2, math.hypot(x1, y1), math.hypot(x2, y2),
                         min(paf[m, 0, r, c], 1.0)))  # fmt: skip
    table = np.array(rows)
    starts = np.searchsorted(planes, range(4))
    expected = LimbCells(starts, table[:, :4].reshape(-1, 2, 2), table[:, 4:6], table[:, 6])
    for name, a, b in zip(LimbCells._fields, find_limb_cells(paf, own), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, err_msg=name)
