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
import functools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.fields.scatter import scatter_min
from graphpose.fields.spec import PAF, PATCH_RADIUS, PIF, FieldSpec
from graphpose.skeleton import Skeleton

LIMB_RADIUS = 1.5  # cells; a limb is three cells wide
LIMB_MARGIN = 2.0  # cells left out at either end of a limb
LIMB_MARGIN_SHARE = 0.4  # of the limb's length, at most
CPU_CELLS = 4 * 81 * 81  # cells of a plane, over the images that are encoded at once on a CPU
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
    """Which cells keypoints or limbs cover and how near they are, on a grid that the arrays broadcast to.

    Attributes:
        owner: row of the keypoint or limb.
        column, row: cell, possibly outside the image.
        cost: squared distance in cells²; the lowest owns the cell.
        within: whether the cell is covered; the grid has a few that are not.
    """

    owner: Tensor
    column: Tensor
    row: Tensor
    cost: Tensor
    within: Tensor


@dataclasses.dataclass
class _Known:
    """What is known where: N keypoints, or limbs.

    Attributes:
        table: (B, R, N) bool.
        regions: (B, H, W) uint8, or None where R is 1.
    """

    table: Tensor
    regions: Tensor | None

    def cells(self, stride: int) -> Tensor:
        """(B, N, h, w) bool, or (B, N, 1, 1) where it is the same everywhere."""
        if self.regions is None:
            return self.table[:, 0, :, None, None]
        regions = self.regions[:, ::stride, ::stride].long()  # (B, h, w)
        image = torch.arange(len(regions), device=regions.device)[:, None, None]
        return self.table[image, regions].permute(0, 3, 1, 2)

    def at(self, x: Tensor, y: Tensor, image_size: tuple[int, int]) -> Tensor:
        """(B, P, N) bool: whether keypoints at pixels ``x``, ``y`` (B, P, N) are known where they are."""
        if self.regions is None:
            return self.table
        column, row = (v.round().long().clamp(0, size - 1) for v, size in zip((x, y), image_size[::-1], strict=True))
        image, _, keypoint = (torch.arange(size, device=x.device) for size in x.shape)
        regions = self.regions[image[:, None, None], row, column].long()
        return self.table[image[:, None, None], regions, keypoint]


@torch.no_grad()
def encode(
    keypoints: Tensor,
    scales: Tensor,
    spec: FieldSpec,
    image_size: tuple[int, int],
    ignore: Tensor | None = None,
    known: Tensor | None = None,
    regions: Tensor | None = None,
    out: Targets | None = None,
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
        known: (B, R, K) bool; keypoints that are not known have no target in their region of the image, nor has a limb
            that ends in one. None is all.
        regions: (B, H, W) uint8; which of the R regions a pixel belongs to; None where R is 1.
        out: targets of the same shape to write into, whatever they hold; new memory costs up to a quarter more.

    Returns:
        Targets on the device of ``keypoints``, the same bits on every device and for every split into batches.

    Raises:
        GraphposeError: when shapes do not fit the skeleton or the image size.

    Source: PifPaf (CVPR 2019), sections 3.2 and 3.3; H* and A* of DGCN's Eq. 2–3.
    """
    B, K = _check(keypoints, scales, spec, image_size, ignore)
    _check_known(known, regions, B, K, image_size)
    h, w = spec.size(*image_size)
    shapes = ((B, K, len(PIF), h, w), (B, spec.skeleton.num_limbs, len(PAF), h, w))
    if out is None:
        out = Targets(*(_empty(shape, keypoints.device) for shape in shapes))
    elif (out.pif.shape, out.paf.shape) != shapes or out.pif.dtype != torch.float32 or not out.pif.is_contiguous():
        raise GraphposeError(
            f"'out' holds targets of shape {tuple(out.pif.shape)} and {tuple(out.paf.shape)}; "
            f"contiguous float32 of {shapes[0]} and {shapes[1]} is needed"
        )
    # On a CPU a few images at a time keep the intermediate tensors in its cache; small ones go together.
    chunk = max(1, CPU_CELLS // (h * w)) if keypoints.device.type == "cpu" else max(B, 1)
    for begin in range(0, B, chunk):
        images = slice(begin, begin + chunk)
        cells = None if ignore is None else ignore[images, :: spec.stride, :: spec.stride]
        areas = None if known is None else _Known(known[images], None if regions is None else regions[images])
        _encode(keypoints[images], scales[images], spec, image_size, cells, areas, out.pif[images], out.paf[images])
    return out


def _empty(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """New float32 memory, whatever it holds."""
    if device.type == "cpu":
        # numpy asks the system for huge pages, which makes a batch half as dear as page by page
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, dtype=torch.float32, device=device)


def _encode(
    keypoints: Tensor,
    scales: Tensor,
    spec: FieldSpec,
    image_size: tuple[int, int],
    ignored_cells: Tensor | None,
    known: _Known | None,
    pif: Tensor,
    paf: Tensor,
) -> None:
    """Writes the targets of some images into ``pif`` and ``paf``."""
    for field in (pif, paf):
        field.fill_(torch.nan)
        field[:, :, 0] = 0
        if ignored_cells is not None:
            field[:, :, 0].masked_fill_(ignored_cells[:, None], torch.nan)

    height, width = image_size
    x, y, visibility = keypoints.float().unbind(-1)  # (B, P, K)
    labelled = (visibility > 0) & (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    if known is not None:
        labelled &= known.at(x, y, image_size)
        ends, _ = _constants(spec.skeleton, x.device)
        limbs = _Known(known.table[:, :, ends].all(-1), known.regions)
        for field, planes in ((pif, known), (paf, limbs)):
            field[:, :, 0].masked_fill_(~planes.cells(spec.stride), torch.nan)
    x, y = x / spec.stride, y / spec.stride
    scales = scales.float() / spec.stride
    _write_keypoints(pif, x, y, labelled, scales, spec)
    _write_limbs(paf, x, y, labelled, spec)


@functools.cache
def _constants(skeleton: Skeleton, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ends of the limbs (M, 2) int64 and sigmas (K,) float32; copied once, for the host waits for such a copy."""
    ends = torch.tensor(skeleton.limbs, dtype=torch.long, device=device).reshape(-1, 2)
    return ends, torch.tensor(skeleton.sigmas, dtype=torch.float32, device=device)


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
    keypoints: Tensor,
    scales: Tensor,
    spec: FieldSpec,
    image_size: tuple[int, int],
    ignore: Tensor | None,
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


def _check_known(known: Tensor | None, regions: Tensor | None, B: int, K: int, image_size: tuple[int, int]) -> None:
    if known is not None and (known.ndim != 3 or known.shape[::2] != (B, K) or known.dtype != torch.bool):
        raise GraphposeError(
            f"known keypoints of shape {tuple(known.shape)} and type {known.dtype} do not fit; ({B}, regions, {K}) of "
            "torch.bool is needed"
        )
    if regions is not None and (regions.shape != (B, *image_size) or regions.dtype != torch.uint8):
        raise GraphposeError(
            f"regions of shape {tuple(regions.shape)} and type {regions.dtype} do not fit; {(B, *image_size)} of "
            "torch.uint8 is needed"
        )
    if known is not None and regions is None and known.shape[1] != 1:
        raise GraphposeError(
            f"known keypoints of {known.shape[1]} regions need 'regions', which pixel belongs to which"
        )


def _write_keypoints(pif: Tensor, x: Tensor, y: Tensor, labelled: Tensor, scales: Tensor, spec: FieldSpec) -> None:
    # (n,) each; ordered by image, person, keypoint, so that the lower person index wins a tie
    image, person, keypoint = labelled.nonzero(as_tuple=True)
    x, y = x[image, person, keypoint], y[image, person, keypoint]
    _, sigmas = _constants(spec.skeleton, x.device)
    scale = scales[image, person]
    scale = torch.where(scale > 0, sigmas[keypoint] * scale, torch.nan)

    covers = _keypoint_covers(x, y)
    plane = image * pif.shape[1] + keypoint
    owner, cell, column, row = _contest(covers, plane, pif)
    x, y, scale = (values.index_select(0, owner) for values in (x, y, scale))
    channels: dict[int, Tensor] = {
        PIF.CONFIDENCE: torch.ones_like(x),
        PIF.X: x - column,
        PIF.Y: y - row,
        PIF.SCALE: scale,
    }
    _write(pif, plane.index_select(0, owner), cell, channels)


def _keypoint_covers(x: Tensor, y: Tensor) -> _Covers:
    steps = torch.arange(1 - PATCH_RADIUS, PATCH_RADIUS + 1, device=x.device)
    column = (x.floor()[:, None] + steps)[:, None, :]  # (n, 1, 4)
    row = (y.floor()[:, None] + steps)[:, :, None]  # (n, 4, 1)
    dx, dy = column - x[:, None, None], row - y[:, None, None]
    within = (dx.abs() < PATCH_RADIUS) & (dy.abs() < PATCH_RADIUS)  # (n, 4, 4)
    owner = torch.arange(len(x), device=x.device)[:, None, None]
    return _Covers(owner, column.long(), row.long(), dx * dx + dy * dy, within)


def _write_limbs(paf: Tensor, x: Tensor, y: Tensor, labelled: Tensor, spec: FieldSpec) -> None:
    if spec.skeleton.num_limbs == 0:
        return
    ends, _ = _constants(spec.skeleton, x.device)
    image, person, limb = (labelled[:, :, ends[:, 0]] & labelled[:, :, ends[:, 1]]).nonzero(as_tuple=True)
    first, second = ends[limb].unbind(-1)
    x1, y1 = x[image, person, first], y[image, person, first]
    x2, y2 = x[image, person, second], y[image, person, second]

    covers = _limb_covers(x1, y1, x2, y2)
    plane = image * paf.shape[1] + limb
    owner, cell, column, row = _contest(covers, plane, paf)
    x1, y1, x2, y2 = (values.index_select(0, owner) for values in (x1, y1, x2, y2))
    channels: dict[int, Tensor] = {
        PAF.CONFIDENCE: torch.ones_like(x1),
        PAF.X1: x1 - column,
        PAF.Y1: y1 - row,
        PAF.X2: x2 - column,
        PAF.Y2: y2 - row,
    }
    _write(paf, plane.index_select(0, owner), cell, channels)


def _limb_covers(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> _Covers:
    dx, dy = x2 - x1, y2 - y1
    length = (dx * dx + dy * dy).sqrt()
    margin = torch.clamp(LIMB_MARGIN / length.clamp(min=1e-6), max=LIMB_MARGIN_SHARE)
    # The limb as a function of its longer direction u: v = v1 + (u − u1) · slope, |slope| ≤ 1.
    steep = dx.abs() < dy.abs()
    u1, v1 = torch.where(steep, y1, x1), torch.where(steep, x1, y1)
    du, dv = torch.where(steep, dy, dx), torch.where(steep, dx, dy)
    slope = torch.where(du == 0, 0.0, dv / du)
    start, stop = u1 + margin * du, u1 + (1 - margin) * du
    low, high = torch.minimum(start, stop), torch.maximum(start, stop)

    # Cells along: the integers strictly between low − 1.5 and high + 1.5, every limb its own number of them.
    first = (low - LIMB_RADIUS).floor() + 1
    count = ((high + LIMB_RADIUS).ceil() - first).long()  # (n,)
    owner = torch.repeat_interleave(count)  # (steps,)
    step = torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count).index_select(0, owner)
    table = torch.stack([first, low, high, u1, v1, slope, u1 + 0.5 * du, v1 + 0.5 * dv])  # (8, n)
    first, low, high, u1, v1, slope, centre_u, centre_v = table.index_select(1, owner)
    u = first + step
    nearest = torch.minimum(torch.maximum(u, low), high)
    v = v1 + (nearest - u1) * slope  # the limb's own place beside that cell

    # Cells across: the three integers strictly within 1.5 of v.
    u, along, to_centre_u = u[:, None], (u - nearest)[:, None], (u - centre_u)[:, None]
    across = ((v - LIMB_RADIUS).floor() + 1)[:, None] + torch.arange(3, device=v.device)  # (steps, 3)
    beside, to_centre_v = across - v[:, None], across - centre_v[:, None]
    to_centre = to_centre_u * to_centre_u + to_centre_v * to_centre_v
    cost = along * along + beside * beside + CENTRE_WEIGHT * to_centre
    steep = steep.index_select(0, owner)[:, None]
    column, row = torch.where(steep, across, u), torch.where(steep, u, across)
    return _Covers(owner[:, None], column.long(), row.long(), cost, beside.abs() < LIMB_RADIUS)


def _contest(covers: _Covers, plane: Tensor, field: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The cheapest cover of every covered cell: its owner, flat cell within the plane, column and row, (won,) each."""
    h, w = field.shape[-2:]
    nobody = field.shape[0] * field.shape[1] * h * w
    column, row = covers.column, covers.row
    valid = covers.within & (column >= 0) & (column < w) & (row >= 0) & (row < h)
    # Covers outside the image all fall into one more segment that nobody reads.
    target = torch.where(valid, (plane * (h * w))[covers.owner] + row * w + column, nobody).reshape(-1)
    argmin = scatter_min(covers.cost.reshape(-1), target, nobody + 1)[1]
    winner = argmin.index_select(0, target) == torch.arange(len(target), device=target.device)
    won = (winner & valid.reshape(-1)).nonzero().squeeze(1)
    owner, column, row = (
        part.expand(valid.shape).reshape(-1).index_select(0, won) for part in (covers.owner, column, row)
    )
    return owner, row * w + column, column, row


def _write(field: Tensor, plane: Tensor, cell: Tensor, channels: Mapping[int, Tensor]) -> None:
    """Writes values (won,) of each channel into the cells (won,) of the planes (won,) of a field."""
    size = field.shape[-2] * field.shape[-1]
    first = plane * (field.shape[2] * size) + cell
    for channel, values in channels.items():
        field.view(-1).scatter_(0, first + channel * size, values)
