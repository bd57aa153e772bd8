"""Compact lists from fields on any device: thresholds and the high-resolution confidence as batched tensor operations.

Does for a batch on a GPU what :func:`~graphpose.fields.decoding.candidates.find_candidates` and
:func:`~graphpose.fields.decoding.limbs.find_limb_cells` do for an image on a CPU core, so that of the fields only the
few confident cells cross over: two transfers each for PIF and PAF, whatever the batch size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphpose.fields.decoding.candidates import NEIGHBOURHOOD, Candidates
from graphpose.fields.decoding.limbs import LimbCells
from graphpose.fields.spec import PAF, PIF


@torch.no_grad()
def batched_candidates(
    pif: Tensor, threshold: float, radius: float, radius_min: float, scale_max: float, use_spread: bool
) -> list[Candidates]:
    """Candidates of B images.

    Args:
        pif: (B, K, 5, h, w) float32 on any device; the other arguments are those of ``find_candidates``.

    Returns:
        Candidates for each image, equal to those of ``find_candidates`` up to the order of summation of the support.
    """
    B, K, _, h, w = pif.shape
    column = torch.arange(w, device=pif.device, dtype=pif.dtype)
    row = torch.arange(h, device=pif.device, dtype=pif.dtype)[:, None]
    x, y = column + pif[:, :, PIF.X], row + pif[:, :, PIF.Y]
    inside = (x >= -0.5) & (x <= w - 0.5) & (y >= -0.5) & (y <= h - 0.5)  # False for NaN and infinity, too
    cells = ((pif[:, :, PIF.CONFIDENCE] >= threshold) & inside).nonzero()  # (N, 4): image, keypoint, row, column
    image, keypoint, r, c = cells.unbind(1)
    values = pif[image, keypoint, :, r, c]  # (N, 5)
    x, y = c + values[:, PIF.X], r + values[:, PIF.Y]
    confidence = values[:, PIF.CONFIDENCE].clamp(max=1)
    scale = values[:, PIF.SCALE]
    scale = torch.where(scale > 0, scale, 0.0).clamp(max=scale_max)
    spread = values[:, PIF.SPREAD]
    weigh = use_spread & ~spread.isnan()
    precision = torch.where(weigh, torch.exp(-spread.clamp(-5, 5)), 1.0)
    support = _support(image * K + keypoint, r, c, (B * K, h, w), x, y, confidence, scale, radius, radius_min)

    counts = torch.bincount(image * K + keypoint, minlength=B * K).cpu().reshape(B, K)
    table = torch.stack([x, y, confidence, scale, support, precision]).cpu()  # (6, N)
    lists = []
    for image_counts, columns in zip(counts, table.split(counts.sum(1).tolist(), 1), strict=True):
        starts = torch.cat([image_counts.new_zeros(1), image_counts.cumsum(0)])
        lists.append(Candidates(starts.numpy(), *columns.contiguous().numpy()))
    return lists


def _support(
    plane: Tensor,
    row: Tensor,
    column: Tensor,
    shape: tuple[int, int, int],
    x: Tensor,
    y: Tensor,
    confidence: Tensor,
    scale: Tensor,
    radius: float,
    radius_min: float,
) -> Tensor:
    """Summed confidence (N,) of the neighbours that point to the same place, a candidate's own included."""
    planes, h, w = shape
    N = len(x)
    # Which candidate each cell holds, N where none, with a frame wide enough for every neighbourhood.
    place = torch.full((planes, h + 2 * NEIGHBOURHOOD, w + 2 * NEIGHBOURHOOD), N, device=x.device)
    place[plane, row + NEIGHBOURHOOD, column + NEIGHBOURHOOD] = torch.arange(N, device=x.device)
    padded = [torch.cat([v, v.new_zeros(1)]) for v in (x, y, confidence)]  # the empty cell has confidence 0
    agreement = (scale * radius).clamp(min=radius_min).square().reciprocal()
    agreement_padded = torch.cat([agreement, agreement.new_ones(1)])
    support = confidence.clone()
    for dr in range(2 * NEIGHBOURHOOD + 1):
        for dc in range(2 * NEIGHBOURHOOD + 1):
            if dr == dc == NEIGHBOURHOOD:
                continue
            j = place[plane, row + dr, column + dc]
            dx, dy = padded[0][j] - x, padded[1][j] - y
            u = (dx * dx + dy * dy) * torch.maximum(agreement, agreement_padded[j])
            support += padded[2][j] * (1 - u).clamp(min=0)
    return support


@torch.no_grad()
def batched_limb_cells(paf: Tensor, threshold: float) -> list[LimbCells]:
    """Limb cells of B images.

    Args:
        paf: (B, M, 7, h, w) float32 on any device.
        threshold: lowest confidence.

    Returns:
        LimbCells for each image, equal to those of ``find_limb_cells``.
    """
    B, M, _, h, w = paf.shape
    near = (paf[:, :, (PAF.X1, PAF.X2)].abs() < w) & (paf[:, :, (PAF.Y1, PAF.Y2)].abs() < h)  # False for NaN, too
    cells = ((paf[:, :, PAF.CONFIDENCE] >= threshold) & near.all(2)).nonzero()  # (N, 4): image, limb, row, column
    image, limb, r, c = cells.unbind(1)
    values = paf[image, limb, :, r, c]  # (N, 7)
    dx1, dy1, dx2, dy2 = (values[:, channel] for channel in (PAF.X1, PAF.Y1, PAF.X2, PAF.Y2))
    distance1, distance2 = (dx1 * dx1 + dy1 * dy1).sqrt(), (dx2 * dx2 + dy2 * dy2).sqrt()
    confidence = values[:, PAF.CONFIDENCE].clamp(max=1)

    counts = torch.bincount(image * M + limb, minlength=B * M).cpu().reshape(B, M)
    table = torch.stack([c + dx1, r + dy1, c + dx2, r + dy2, distance1, distance2, confidence], 1).cpu()  # (N, 7)
    lists = []
    for image_counts, rows in zip(counts, table.split(counts.sum(1).tolist()), strict=True):
        starts = torch.cat([image_counts.new_zeros(1), image_counts.cumsum(0)])
        ends, distance, last = (part.contiguous().numpy() for part in rows.split((4, 2, 1), 1))
        lists.append(LimbCells(starts.numpy(), ends, distance, last.ravel()))
    return lists
