"""Test-time fusion of fields: a mirror image and other scales of an image speak about the same cells before decoding.

Poses of several views cannot be averaged before they are matched; fields can, for every view says about the same cell
how surely a keypoint is near and where it lies. Where each size sees persons that the others do not see, the mean of
them is sure of nobody: then each is decoded alone, and :mod:`graphpose.fields.merging` chooses among the poses.

Views are made so that no cell falls between cells: the image is padded at the right and bottom to one pixel more than
a multiple of the stride, whose mirror image has its cells at the same places, and it is scaled to such a size with
corner pixels on corner pixels, so that cell c of a view is cell c / f of the image with one factor f.

Convention: confidences are probabilities; cells, offsets and pixels as in :mod:`graphpose.fields.spec`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.fields.config import FusionConfig
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.skeleton import Skeleton

# Two views that point farther apart than a keypoint's patch reaches mean two keypoints, and the surer one is right: the
# middle between two persons is nobody's. Along a limb errors grow with the distance to its end.
AGREEMENT = 2.0  # cells
AGREEMENT_SHARE = 0.1  # of the offset's length

Fields = tuple[Tensor, Tensor]


class View(NamedTuple):
    """What is decoded at once: the fields of one size of an image (or of a batch of them), mirror images fused.

    Attributes:
        pif: (K, 5, h, w), of a batch (B, K, 5, h, w); confidences are probabilities.
        paf: (M, 7, h, w) or (B, M, 7, h, w), likewise.
        factors: pixels of this size per pixel of the network's input, along y and x.
    """

    pif: Tensor
    paf: Tensor
    factors: tuple[float, float] = (1.0, 1.0)


# Regressed vectors of each field: x, y, and log-spread channel.
_PIF_VECTORS = ((PIF.X, PIF.Y, PIF.SPREAD),)
_PAF_VECTORS = ((PAF.X1, PAF.Y1, PAF.SPREAD1), (PAF.X2, PAF.Y2, PAF.SPREAD2))


def views_to_decode(
    network: Callable[[Tensor], Fields], images: Tensor, spec: FieldSpec, config: FusionConfig
) -> list[View]:
    """What is decoded of a batch of images.

    Args, raises: see :func:`fused_fields`.

    Returns:
        One view for all sizes, or one for each of ``config.scales`` where poses are merged. Pixel 0 of a size is pixel
        0 of the input, pixel n is pixel n / factor.
    """
    if config.merge == "fields" or len(config.scales) == 1:
        return [View(*fused_fields(network, images, spec, config))]
    images = _aligned(images, spec.stride)
    views = []
    for scale in config.scales:
        view = resize_aligned(images, scale, spec.stride)
        fields = fused_fields(network, view, spec, FusionConfig(config.flip))
        fy, fx = ((n - 1) / max(1, m - 1) for n, m in zip(view.shape[-2:], images.shape[-2:], strict=True))
        views.append(View(*fields, (fy or 1.0, fx or 1.0)))
    return views


def fused_fields(network: Callable[[Tensor], Fields], images: Tensor, spec: FieldSpec, config: FusionConfig) -> Fields:
    """Fields of a batch of images, fused over all views, whatever ``config.merge`` is.

    Args:
        network: images (B, 3, H, W) → PIF and PAF with probabilities, (B, K, 5, h, w) and (B, M, 7, h, w).
        images: (B, 3, H, W) in ImageNet normalisation.
        spec: of the network.
        config: the views.

    Returns:
        PIF and PAF of the image padded to ``aligned_size``: the same cells as those of ``images``, with at most one
        more row and column.

    Raises:
        GraphposeError: mirror images of a skeleton of which it is not known what they show.
    """
    if config.is_plain:
        return network(images)
    if config.flip and not spec.skeleton.mirrors:
        raise GraphposeError(
            f"skeleton '{spec.skeleton.name}' states no flip pairs and none are found in its names; its mirror images "
            f"cannot be fused, leave out flip"
        )
    images = _aligned(images, spec.stride)
    size = spec.size(images.shape[-2], images.shape[-1])
    views: list[Fields] = []
    mirrored: list[bool] = []
    for scale in config.scales:
        view = resize_aligned(images, scale, spec.stride)
        for flip in (False, True) if config.flip else (False,):
            fields = network(view.flip(-1) if flip else view)
            if flip:
                fields = flip_fields(*fields, spec.skeleton)
            views.append(resample_fields(*fields, size))
            mirrored.append(flip)
    return fuse_fields(views, mirrored, spec.skeleton)


def _aligned(images: Tensor, stride: int) -> Tensor:
    """Images padded to their aligned size with 0, which is the mean colour."""
    H, W = aligned_size(images.shape[-2], images.shape[-1], stride)
    return F.pad(images, (0, W - images.shape[-1], 0, H - images.shape[-2]))


def aligned_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """The smallest size, not smaller than the given one, that is one pixel more than a multiple of the stride."""
    return tuple(-(-(n - 1) // stride) * stride + 1 for n in (height, width))  # type: ignore[return-value]


def resize_aligned(images: Tensor, scale: float, stride: int) -> Tensor:
    """Images of an aligned size at another aligned size, corner pixels on corner pixels.

    Sampled bilinearly: torch's antialiasing moves aligned corners by up to a quarter of a pixel. Below half size pixels
    are skipped.
    """
    if scale == 1:
        return images
    size = [max(1, round((n - 1) * scale / stride)) * stride + 1 for n in images.shape[-2:]]
    return F.interpolate(images, size, mode="bilinear", align_corners=True)


def flip_fields(pif: Tensor, paf: Tensor, skeleton: Skeleton) -> Fields:
    """The fields of an image from those of its mirror image, whose cells are the mirror images of its cells.

    Args:
        pif: (B, K, 5, h, w).
        paf: (B, M, 7, h, w).
        skeleton: says which keypoints and limbs change places, and which limbs change their direction.

    Returns:
        New tensors: columns reversed, left and right exchanged, x offsets negated. Applied twice it gives back what it
        was given.
    """
    pif = pif[:, list(skeleton.flip)].flip(-1)
    pif[:, :, PIF.X].neg_()
    limbs = skeleton.flip_limbs
    paf = paf[:, [m for m, _ in limbs]].flip(-1)
    paf[:, :, [PAF.X1, PAF.X2]] = -paf[:, :, [PAF.X1, PAF.X2]]
    reversed_limbs = [m for m, (_, exchanged) in enumerate(limbs) if exchanged]
    if reversed_limbs:
        ends = [PAF.CONFIDENCE, PAF.X2, PAF.Y2, PAF.SPREAD2, PAF.X1, PAF.Y1, PAF.SPREAD1]
        paf[:, reversed_limbs] = paf[:, reversed_limbs][:, :, ends]
    return pif, paf


def mirrored_limbs(skeleton: Skeleton) -> Tensor:
    """(M,) bool: the limb's mirror image is a limb too. Of the others a mirror image says nothing."""
    limbs = [{*limb} for limb in skeleton.limbs]
    return torch.tensor(
        [
            {skeleton.flip[a] for a in limb} == limbs[other]
            for limb, (other, _) in zip(limbs, skeleton.flip_limbs, strict=True)
        ],
        dtype=torch.bool,
    )


def resample_fields(pif: Tensor, paf: Tensor, size: tuple[int, int]) -> Fields:
    """Fields of a scaled image on the grid of the image.

    Confidences are interpolated. Regressions are those of the one cell of the four around that counts most, for cells
    side by side may belong to two persons; offsets, scales and spreads are converted to the new cells.

    Args:
        pif: (B, K, 5, h', w').
        paf: (B, M, 7, h', w').
        size: (h, w); corner cells lie on corner cells.

    Returns:
        PIF (B, K, 5, h, w) and PAF (B, M, 7, h, w); the same tensors where the size is the same.
    """
    if tuple(pif.shape[-2:]) == size:
        return pif, paf
    return _resample(pif, size, _PIF_VECTORS, PIF.SCALE), _resample(paf, size, _PAF_VECTORS, None)


def _resample(
    field: Tensor, size: tuple[int, int], vectors: Sequence[tuple[int, int, int]], scale: int | None
) -> Tensor:
    B, N, C, height, width = field.shape
    h, w = size
    fy, fx = ((a - 1) / (b - 1) if a > 1 and b > 1 else 1.0 for a, b in ((height, h), (width, w)))
    y, x = (torch.arange(n, device=field.device, dtype=field.dtype) * f for n, f in ((h, fy), (w, fx)))
    confidence = field[:, :, 0]
    best_weight = best_cell = None
    total = torch.zeros(B, N, h, w, dtype=field.dtype, device=field.device)
    for row in (y.floor(), y.floor() + 1):
        for column in (x.floor(), x.floor() + 1):
            weight = (1 - (y - row).abs())[:, None] * (1 - (x - column).abs())  # (h, w)
            cell = row.clamp(0, height - 1).long()[:, None] * width + column.clamp(0, width - 1).long()  # (h, w)
            weighted = weight * confidence.flatten(2)[:, :, cell]  # (B, N, h, w)
            total += weighted
            # beside the confidence the nearness decides, so that cells of confidence 0 are read next door
            rank = weighted + 1e-6 * weight
            better = torch.ones_like(rank, dtype=torch.bool) if best_weight is None else rank > best_weight
            best_weight = rank if best_weight is None else torch.where(better, rank, best_weight)
            best_cell = torch.where(better, cell, cell if best_cell is None else best_cell)
    assert best_cell is not None
    index = best_cell.flatten(2)[:, :, None].expand(B, N, C, h * w)
    result = field.flatten(3).gather(3, index).unflatten(3, (h, w))
    result[:, :, 0] = total
    row, column = (best_cell // width).to(field.dtype), (best_cell % width).to(field.dtype)
    own_row, own_column = (torch.arange(n, device=field.device, dtype=field.dtype) for n in (h, w))
    mean_factor = (fx * fy) ** 0.5
    for i, j, spread in vectors:
        result[:, :, i] = (column + result[:, :, i]) / fx - own_column
        result[:, :, j] = (row + result[:, :, j]) / fy - own_row[:, None]
        result[:, :, spread] -= math.log(mean_factor)  # the spread is a length, in logarithm
    if scale is not None:
        result[:, :, scale] /= mean_factor
    return result


def fuse_fields(views: Sequence[Fields], mirrored: Sequence[bool], skeleton: Skeleton) -> Fields:
    """One field of several views of an image on the same grid.

    Args:
        views: PIF (B, K, 5, h, w) and PAF (B, M, 7, h, w) of each.
        mirrored: which views come from a mirror image; they do not count for limbs without a mirror image.
        skeleton: of the fields.

    Returns:
        Confidence: the mean. Regressions: the mean weighted by confidence over the views that point near to where the
        surest points. One view, or several equal ones, are their own fusion.

    Raises:
        GraphposeError: views of different shapes.
    """
    if len({tuple(field.shape) for pif, _ in views for field in (pif,)}) != 1 or len(views) != len(mirrored):
        raise GraphposeError("views to be fused must be on one grid, each with a word on whether it is mirrored")
    if len(views) == 1:
        return views[0]
    pifs, pafs = (torch.stack(fields) for fields in zip(*views, strict=True))  # (V, B, N, C, h, w)
    known = torch.ones(len(views), skeleton.num_limbs, dtype=torch.bool)
    known[torch.tensor(list(mirrored))] = mirrored_limbs(skeleton)
    if not known.any(dim=0).all():
        raise GraphposeError("of a limb without a mirror image mirrored views alone say nothing; add the image itself")
    weight = known.to(pafs.device, pafs.dtype, non_blocking=True)[:, None, :, None, None]
    ones = torch.ones_like(weight[:, :, :1])
    return _fuse(pifs, ones, _PIF_VECTORS), _fuse(pafs, weight, _PAF_VECTORS)


def _fuse(fields: Tensor, weight: Tensor, vectors: Sequence[tuple[int, int, int]]) -> Tensor:
    """(V, B, N, C, h, w) with view weights (V, 1, N, 1, 1) → (B, N, C, h, w)."""
    confidence = fields[:, :, :, 0] * weight
    sure = confidence.argmax(dim=0, keepdim=True)
    near = torch.ones_like(confidence, dtype=torch.bool)
    for i, j, _ in vectors:
        squared, length = torch.zeros_like(confidence), torch.zeros_like(confidence[:1])
        for channel in (i, j):
            values = fields[:, :, :, channel]
            surest = values.gather(0, sure)
            squared += (values - surest).square()
            length += surest.square()
        near &= squared <= (AGREEMENT + AGREEMENT_SHARE * length.sqrt()).square()
    share = torch.where(near, confidence, 0)
    # where every view has confidence 0 the first one speaks
    share[0] += (share.sum(dim=0) <= 0).to(share)
    share = share / share.sum(dim=0)
    fused = (fields * share[:, :, :, None]).sum(dim=0)
    fused[:, :, 0] = confidence.sum(dim=0) / weight.sum(dim=0)
    return fused
