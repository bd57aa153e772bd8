"""The field contract: what each channel means, its unit and where its cells lie.

Read by encoder, heads, losses and decoder.

Convention: field cell (row r, column c) lies at the image pixel (x, y) = (c · stride, r · stride); pixel centres are at
integers. An image of height H and width W has ceil(H / stride) × ceil(W / stride) cells. Offsets and scales are in
cells, i.e. in pixels divided by the stride; offsets point from the cell to the keypoint, x then y.

PIF (part intensity field): one field of five channels per keypoint, (B, K, 5, h, w).
PAF (part association field): one field of seven channels per limb, (B, M, 7, h, w).

Source: Kreiss, Bertoni, Alahi, "PifPaf: Composite Fields for Human Pose Estimation", CVPR 2019; DGCN, Eq. 1–3.
"""

from __future__ import annotations

import dataclasses
from enum import IntEnum

from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton

PATCH_RADIUS = 2  # cells; a keypoint covers the cells nearer than that in x and in y, as a rule 4 × 4


class PIF(IntEnum):
    """Channels of the part intensity field."""

    CONFIDENCE = 0  # probability that the keypoint's patch covers this cell; a logit in network outputs
    X = 1  # offset to the keypoint, cells
    Y = 2
    SPREAD = 3  # log of the Laplace spread b of the offset, b in cells; has no target
    SCALE = 4  # σ_k · sqrt(person area), cells; positive


class PAF(IntEnum):
    """Channels of the part association field; 1 is the limb's first keypoint, 2 its second."""

    CONFIDENCE = 0  # probability that the limb covers this cell; a logit in network outputs
    X1 = 1  # offset to the first keypoint, cells
    Y1 = 2
    SPREAD1 = 3  # log of the Laplace spread b of the first offset, b in cells; has no target
    X2 = 4  # offset to the second keypoint, cells
    Y2 = 5
    SPREAD2 = 6


@dataclasses.dataclass(frozen=True)
class FieldSpec:
    """Fields of one skeleton at one stride.

    In targets, NaN says "no target": a confidence cell that is ignored (crowd region, unlabelled keypoint's
    surroundings, outside of the valid image, a keypoint that the image's set never labels), and the regressions of
    every cell that no keypoint or limb owns. In network outputs the confidence channels are logits
    (:func:`probabilities` makes them probabilities) and every other channel is already in its unit.

    Attributes:
        skeleton: gives K and M.
        stride: pixels per cell.
    """

    skeleton: Skeleton
    stride: int

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise GraphposeError(f"field stride {self.stride} must be a positive number of pixels")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Cells (h, w) of an image of ``height`` × ``width`` pixels."""
        # Not -(-height // stride): in an exported network integer division truncates.
        return (height + self.stride - 1) // self.stride, (width + self.stride - 1) // self.stride


def probabilities(field: Tensor) -> Tensor:
    """Network output (B, N, C, h, w) with its confidence logits turned into probabilities; the input is not changed."""
    field = field.clone()
    field[:, :, 0] = field[:, :, 0].sigmoid()
    return field
