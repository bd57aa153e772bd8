"""Compact lists from fields on any device: thresholds and the high-resolution confidence as batched tensor operations.

Does for a batch on a GPU what :func:`~graphpose.fields.decoding.candidates.find_candidates` and
:func:`~graphpose.fields.decoding.limbs.find_limb_cells` do for an image on a CPU core, so that of the fields only the
few confident cells cross over: two transfers each for PIF and PAF, whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from graphpose.fields.decoding.candidates import MAX_LOG_SPREAD, NEIGHBOURHOOD, Candidates
from graphpose.fields.decoding.limbs import LimbCells
from graphpose.fields.decoding.tables import Settings
from graphpose.fields.spec import PAF, PIF


@torch.no_grad()
def batched_candidates(pif: Tensor, settings: Settings) -> list[Candidates]:
    """Candidates of B images.

    Args:
        pif: (B, K, 5, h, w) float32 on any device.
        settings: of the decoder.

    Returns:
        Candidates for each image, equal to those of ``find_candidates`` up to the order of summation of the support.
    """
    h, w = pif.shape[-2:]
    column = torch.arange(w, device=pif.device, dtype=pif.dtype)
    row = torch.arange(h, device=pif.device, dtype=pif.dtype)[:, None]
    x, y = column + pif[:, :, PIF.X], row + pif[:, :, PIF.Y]
    inside = (x >= -0.5) & (x <= w - 0.5) & (y >= -0.5) & (y <= h - 0.5)  # False for NaN and infinity, too
    confident = pif[:, :, PIF.CONFIDENCE] >= settings.keypoint_threshold
    cells = (confident & inside).nonzero()  # (N, 4): image, keypoint, row, column
    image, keypoint, r, c = cells.unbind(1)
    values = pif[image, keypoint, :, r, c]  # (N, 5)
    x, y = c + values[:, PIF.X], r + values[:, PIF.Y]
    confidence = values[:, PIF.CONFIDENCE].clamp(max=1)
    scale = values[:, PIF.SCALE]
    scale = torch.where(scale > 0, scale, 0.0).clamp(max=float(max(h, w)))
    spread = values[:, PIF.SPREAD]
    weigh = settings.use_spread & ~spread.isnan()
    precision = torch.where(weigh, torch.exp(-spread.clamp(-MAX_LOG_SPREAD, MAX_LOG_SPREAD)), 1.0)
    reach = (scale * settings.radius).clamp(min=settings.radius_min)
    support = _support(pif[:, :, 0].shape, cells, x, y, confidence, reach)

    table = torch.stack([x, y, confidence, scale, support, precision], 1)  # (N, 6)
    return [Candidates(starts, *np.ascontiguousarray(rows.T)) for starts, rows in _lists(pif, cells, table)]


def _support(shape: tuple[int, ...], cells: Tensor, x: Tensor, y: Tensor, confidence: Tensor, reach: Tensor) -> Tensor:
    """Summed confidence (N,) of the neighbours that point to the same place, a candidate's own included.

    Args:
        shape: B, K, h, w.
        cells: (N, 4) int64 of the candidates: image, keypoint, row, column.
        x, y, confidence: (N,) of the candidates.
        reach: (N,) in cells; candidates agree within the smaller one of both.
    """
    B, K, h, w = shape
    N = len(cells)
    image, keypoint, row, column = cells.unbind(1)
    # Which candidate each cell holds, N where none, with a frame wide enough for every neighbourhood.
    place = torch.full((B, K, h + 2 * NEIGHBOURHOOD, w + 2 * NEIGHBOURHOOD), N, device=x.device)
    place[image, keypoint, row + NEIGHBOURHOOD, column + NEIGHBOURHOOD] = torch.arange(N, device=x.device)
    padded_x, padded_y, padded_confidence = (torch.cat([v, v.new_zeros(1)]) for v in (x, y, confidence))
    agreement = reach.square().reciprocal()
    padded_agreement = torch.cat([agreement, agreement.new_ones(1)])  # the empty cell has confidence 0
    support = confidence.clone()
    for dr in range(2 * NEIGHBOURHOOD + 1):
        for dc in range(2 * NEIGHBOURHOOD + 1):
            if dr == dc == NEIGHBOURHOOD:
                continue
            j = place[image, keypoint, row + dr, column + dc]
            dx, dy = padded_x[j] - x, padded_y[j] - y
            u = (dx * dx + dy * dy) * torch.maximum(agreement, padded_agreement[j])
            support += padded_confidence[j] * (1 - u).clamp(min=0)
    return support


@torch.no_grad()
def batched_limb_cells(paf: Tensor, settings: Settings) -> list[LimbCells]:
    """Limb cells of B images.

    Args:
        paf: (B, M, 7, h, w) float32 on any device.
        settings: of the decoder.

    Returns:
        LimbCells for each image, equal to those of ``find_limb_cells``.
    """
    h, w = paf.shape[-2:]
    near = (paf[:, :, (PAF.X1, PAF.X2)].abs() < w) & (paf[:, :, (PAF.Y1, PAF.Y2)].abs() < h)  # False for NaN, too
    confident = paf[:, :, PAF.CONFIDENCE] >= settings.limb_threshold
    cells = (confident & near.all(2)).nonzero()  # (N, 4): image, limb, row, column
    image, limb, r, c = cells.unbind(1)
    values = paf[image, limb, :, r, c]  # (N, 7)
    dx1, dy1, dx2, dy2 = (values[:, channel] for channel in (PAF.X1, PAF.Y1, PAF.X2, PAF.Y2))
    distance1, distance2 = (dx1 * dx1 + dy1 * dy1).sqrt(), (dx2 * dx2 + dy2 * dy2).sqrt()
    confidence = values[:, PAF.CONFIDENCE].clamp(max=1)

    table = torch.stack([c + dx1, r + dy1, c + dx2, r + dy2, distance1, distance2, confidence], 1)  # (N, 7)
    lists = []
    for starts, rows in _lists(paf, cells, table):
        ends, distance, confidences = (np.ascontiguousarray(part) for part in np.split(rows, (4, 6), 1))
        lists.append(LimbCells(starts, ends.reshape(-1, 2, 2), distance, confidences.ravel()))
    return lists


def _lists(field: Tensor, cells: Tensor, table: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cells of all images, on the CPU, image by image.

    Args:
        field: (B, P, C, h, w).
        cells: (N, 4) int64; image, plane, row and column, in order.
        table: (N, V) float32 values of the cells.

    Yields:
        starts (P + 1,) int64, rows starts[p] … starts[p + 1] − 1 are of plane p; rows (n, V) float32.
    """
    B, P = field.shape[:2]
    counts = torch.bincount(cells[:, 0] * P + cells[:, 1], minlength=B * P).cpu().reshape(B, P)
    for image_counts, rows in zip(counts, table.cpu().split(counts.sum(1).tolist()), strict=True):
        yield torch.cat([image_counts.new_zeros(1), image_counts.cumsum(0)]).numpy(), rows.numpy()
