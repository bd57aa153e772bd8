"""Persons → field targets, for a whole batch at once.

Which cells a keypoint or limb covers:

- A keypoint covers the cells that lie less than 2 cells from it in x and in y: a patch of 4 × 4 cells, or 3 in a
  direction in which it falls exactly on a cell.
- A limb covers the cells that lie less than 1.5 cells beside its middle part, three cells across for each cell along.
  The middle part leaves out 2 cells at either end, so that the limb's field does not fire on the keypoints themselves,
  but at most 0.4 of the limb, so that a short limb keeps its centre.

A cell that several persons cover belongs to the nearest: the nearest keypoint, or the limb whose middle part is
nearest, the one with the nearer centre where both pass through; the lower person index where all is equal. Every
operation is elementwise or an exact minimum, so CPU and CUDA write the same bits.

Source: Kreiss, Bertoni, Alahi, "PifPaf: Composite Fields for Human Pose Estimation", CVPR 2019, sections 3.2 and 3.3.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.scatter import scatter_min

PATCH_RADIUS = 2  # cells; a keypoint's patch, 4 × 4
LIMB_RADIUS = 1.5  # cells; a limb is three cells wide
LIMB_MARGIN = 2.0  # cells left out at either end of a limb
LIMB_MARGIN_SHARE = 0.4  # of the limb's length, at most
CENTRE_WEIGHT = 0.05  # of the squared distance to a limb's centre, beside the squared distance to the limb itself


@dataclasses.dataclass
class Targets:
    """Field targets of B images; NaN is no target (see :class:`~graphpose.fields.spec.FieldSpec`).

    Attributes:
        pif: (B, K, 5, h, w) float32.
        paf: (B, M, 7, h, w) float32.
    """

    pif: Tensor
    paf: Tensor


@dataclasses.dataclass
class _Covers:
    """Which cell each of N (keypoint or limb, cell) pairs covers, and how near it is.

    Attributes:
        owner: (N,) row of the keypoint or limb.
        column, row: (N,) cell.
        cost: (N,) squared distance in cells²; the lowest owns the cell.
    """

    owner: Tensor
    column: Tensor
    row: Tensor
    cost: Tensor


@torch.no_grad()
def encode(
    keypoints: Tensor,
    scales: Tensor,
    spec: FieldSpec,
    image_size: tuple[int, int],
    ignore: Tensor | None = None,
) -> Targets:
    """Field targets of a batch of images.

    Args:
        keypoints: (B, P, K, 3); x, y in pixels and visibility; hidden (1) and visible (2) keypoints are targets,
            unlabelled ones (0), those of padding persons and those outside the image are not.
        scales: (B, P); sqrt(person area) in pixels; where it is 0 the scale channel has no target.
        spec: skeleton and stride.
        image_size: height and width of the images in pixels.
        ignore: (B, H, W) bool; pixels where nothing is known: no confidence target in their cells unless a keypoint or
            limb covers them.

    Returns:
        Targets on the device of ``keypoints``, the same bits on every device and for every split into batches.

    Raises:
        GraphposeError: when shapes do not fit the skeleton or the image size.

    Source: PifPaf (CVPR 2019), sections 3.2 and 3.3; H* and A* of DGCN's Eq. 2–3.
    """
    B, K = _check(keypoints, scales, spec, image_size, ignore)
    height, width = image_size
    h, w = spec.size(height, width)
    pif = keypoints.new_full((B, K, len(PIF), h, w), torch.nan, dtype=torch.float32)
    paf = keypoints.new_full((B, spec.skeleton.num_limbs, len(PAF), h, w), torch.nan, dtype=torch.float32)
    for field in (pif, paf):
        field[:, :, 0] = 0
        if ignore is not None:
            cells = ignore[:, :: spec.stride, :: spec.stride]
            field[:, :, 0].masked_fill_(cells[:, None], torch.nan)

    x, y, visibility = keypoints.float().unbind(-1)  # (B, P, K)
    labelled = (visibility > 0) & (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    x, y = x / spec.stride, y / spec.stride
    scales = scales.float() / spec.stride
    _write_keypoints(pif, x, y, labelled, scales, spec)
    _write_limbs(paf, x, y, labelled, spec)
    return Targets(pif, paf)


def perfect_fields(targets: Targets) -> tuple[Tensor, Tensor]:
    """The fields (with probabilities, not logits) of a network that predicts the targets exactly.

    Cells without a target get confidence 0, offset 0, spread 1 cell (log 0) and scale 1 cell.

    Returns:
        pif (B, K, 5, h, w), paf (B, M, 7, h, w), finite everywhere; the targets are not changed.
    """
    pif = torch.nan_to_num(targets.pif, nan=0.0)
    pif[:, :, PIF.SCALE].masked_fill_(targets.pif[:, :, PIF.SCALE].isnan(), 1.0)
    return pif, torch.nan_to_num(targets.paf, nan=0.0)


def _check(
    keypoints: Tensor, scales: Tensor, spec: FieldSpec, image_size: tuple[int, int], ignore: Tensor | None
) -> tuple[int, int]:
    K = spec.skeleton.num_keypoints
    if keypoints.ndim != 4 or keypoints.shape[2:] != (K, 3):
        raise GraphposeError(
            f"keypoints of shape {tuple(keypoints.shape)} do not fit the skeleton '{spec.skeleton.name}'; "
            f"(images, persons, {K}, 3) is needed"
        )
    B, P = keypoints.shape[:2]
    if scales.shape != (B, P):
        raise GraphposeError(f"scales of shape {tuple(scales.shape)} do not fit the keypoints; {(B, P)} is needed")
    if ignore is not None and (ignore.shape != (B, *image_size) or ignore.dtype != torch.bool):
        raise GraphposeError(
            f"ignore mask of shape {tuple(ignore.shape)} and type {ignore.dtype} does not fit; "
            f"{(B, *image_size)} of torch.bool is needed"
        )
    return B, K


def _write_keypoints(pif: Tensor, x: Tensor, y: Tensor, labelled: Tensor, scales: Tensor, spec: FieldSpec) -> None:
    # (n,) each; ordered by image, person, keypoint, so that the lower person index wins a tie
    image, person, keypoint = labelled.nonzero(as_tuple=True)
    x, y = x[image, person, keypoint], y[image, person, keypoint]
    sigmas = torch.tensor(spec.skeleton.sigmas, dtype=torch.float32, device=x.device)
    scale = scales[image, person]
    scale = torch.where(scale > 0, sigmas[keypoint] * scale, torch.nan)

    covers = _keypoint_covers(x, y)
    plane = image * pif.shape[1] + keypoint
    owner, cell, column, row = _contest(covers, plane, pif)
    pif = pif.view(-1, len(PIF), pif.shape[-2] * pif.shape[-1])
    plane = plane[owner]
    pif[plane, PIF.CONFIDENCE, cell] = 1.0
    pif[plane, PIF.X, cell] = x[owner] - column
    pif[plane, PIF.Y, cell] = y[owner] - row
    pif[plane, PIF.SCALE, cell] = scale[owner]


def _keypoint_covers(x: Tensor, y: Tensor) -> _Covers:
    steps = torch.arange(1 - PATCH_RADIUS, PATCH_RADIUS + 1, device=x.device)
    columns = x.floor()[:, None] + steps  # (n, 4)
    rows = y.floor()[:, None] + steps
    dx, dy = columns - x[:, None], rows - y[:, None]
    inside = (dx.abs() < PATCH_RADIUS)[:, None, :] & (dy.abs() < PATCH_RADIUS)[:, :, None]  # (n, 4, 4)
    owner, r, c = inside.nonzero(as_tuple=True)
    columns, rows, dx, dy = columns[owner, c], rows[owner, r], dx[owner, c], dy[owner, r]
    return _Covers(owner, columns.long(), rows.long(), dx * dx + dy * dy)


def _write_limbs(paf: Tensor, x: Tensor, y: Tensor, labelled: Tensor, spec: FieldSpec) -> None:
    if spec.skeleton.num_limbs == 0:
        return
    ends = torch.tensor(spec.skeleton.limbs, device=x.device)  # (M, 2)
    image, person, limb = (labelled[:, :, ends[:, 0]] & labelled[:, :, ends[:, 1]]).nonzero(as_tuple=True)
    first, second = ends[limb].unbind(-1)
    x1, y1 = x[image, person, first], y[image, person, first]
    x2, y2 = x[image, person, second], y[image, person, second]

    covers = _limb_covers(x1, y1, x2, y2)
    plane = image * paf.shape[1] + limb
    owner, cell, column, row = _contest(covers, plane, paf)
    paf = paf.view(-1, len(PAF), paf.shape[-2] * paf.shape[-1])
    plane = plane[owner]
    paf[plane, PAF.CONFIDENCE, cell] = 1.0
    paf[plane, PAF.X1, cell] = x1[owner] - column
    paf[plane, PAF.Y1, cell] = y1[owner] - row
    paf[plane, PAF.X2, cell] = x2[owner] - column
    paf[plane, PAF.Y2, cell] = y2[owner] - row


def _limb_covers(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> _Covers:
    dx, dy = x2 - x1, y2 - y1
    length = (dx * dx + dy * dy).sqrt()
    margin = torch.clamp(LIMB_MARGIN / length.clamp(min=1e-6), max=LIMB_MARGIN_SHARE)
    # The limb as a function of its longer direction u: v = v1 + (u − u1) · slope, |slope| ≤ 1.
    across = dx.abs() < dy.abs()
    u1, v1 = torch.where(across, y1, x1), torch.where(across, x1, y1)
    du, dv = torch.where(across, dy, dx), torch.where(across, dx, dy)
    slope = torch.where(du == 0, 0.0, dv / du)
    start, stop = u1 + margin * du, u1 + (1 - margin) * du
    low, high = torch.minimum(start, stop), torch.maximum(start, stop)

    # Cells along: the integers strictly between low − 1.5 and high + 1.5, every limb its own number of them.
    first = (low - LIMB_RADIUS).floor() + 1
    count = ((high + LIMB_RADIUS).ceil() - first).long()  # (n,)
    limb = torch.repeat_interleave(count)  # (steps,)
    step = torch.arange(len(limb), device=limb.device) - (count.cumsum(0) - count)[limb]
    u = first[limb] + step
    nearest = torch.minimum(torch.maximum(u, low[limb]), high[limb])
    v = v1[limb] + (nearest - u1[limb]) * slope[limb]  # the limb's own place beside that cell

    # Cells across: the three integers strictly within 1.5 of v.
    cells = ((v - LIMB_RADIUS).floor() + 1)[:, None] + torch.arange(3, device=v.device)  # (steps, 3)
    index, place = ((cells - v[:, None]).abs() < LIMB_RADIUS).nonzero(as_tuple=True)
    limb, u, v_cell = limb[index], u[index], cells[index, place]
    along, beside = u - nearest[index], v_cell - v[index]
    to_centre_u, to_centre_v = u - (u1 + 0.5 * du)[limb], v_cell - (v1 + 0.5 * dv)[limb]
    centre = to_centre_u * to_centre_u + to_centre_v * to_centre_v
    cost = along * along + beside * beside + CENTRE_WEIGHT * centre
    across = across[limb]
    column, row = torch.where(across, v_cell, u), torch.where(across, u, v_cell)
    return _Covers(limb, column.long(), row.long(), cost)


def _contest(covers: _Covers, plane: Tensor, field: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The cheapest cover of every covered cell: its owner, flat cell within the plane, column and row, (won,) each."""
    h, w = field.shape[-2:]
    planes = field.shape[0] * field.shape[1]
    inside = (covers.column >= 0) & (covers.column < w) & (covers.row >= 0) & (covers.row < h)
    # Covers outside the image all fall into one more segment that nobody reads.
    cell = covers.row * w + covers.column
    target = torch.where(inside, plane[covers.owner] * (h * w) + cell, planes * h * w)
    argmin = scatter_min(covers.cost, target, planes * h * w + 1)[1]
    won = ((argmin[target] == torch.arange(len(target), device=target.device)) & inside).nonzero(as_tuple=True)[0]
    return covers.owner[won], cell[won], covers.column[won], covers.row[won]
