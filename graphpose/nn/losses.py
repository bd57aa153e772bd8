"""Eq. 1–3 and the intermediate supervision.

Convention: NaN in a target says "no target" (:mod:`graphpose.fields.spec`). Everything is computed in float32.

Normalisation. Eq. 2–3 sum over keypoints and limbs and leave open over how many cells. Here, as in the baseline
(PifPaf v0.8), a confidence term is the mean over all cells of all K (or M) maps that have a target, and a regression
term is the sum over the cells that have one, divided by 1000 and by the batch. Both are settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphpose.fields.spec import PAF, PIF
from graphpose.nn.config import LossConfig

if TYPE_CHECKING:
    from graphpose.nn.network import NetworkOutputs  # which imports timm, and a loss needs none of it


class PoseLoss(nn.Module):
    """ℓ = ℓ_H + ℓ_A (Eq. 1) and the intermediate supervision.

    Args:
        config: weights and normalisation.

    Source: DGCN, Eq. 1–3 and "Implement details"; Kreiss et al. 2019 for the scale and the Laplace loss.
    """

    def __init__(self, config: LossConfig | None = None) -> None:
        super().__init__()
        self.config = config or LossConfig()

    def counts(self, outputs: NetworkOutputs, pif_target: Tensor, paf_target: Tensor, images: int) -> dict[str, Tensor]:
        """What each term is divided by, for a batch that is spread over several forward passes or processes.

        Args:
            outputs: of a PoseNetwork for images of the same size; only the sizes of its fields are read.
            pif_target: of the whole batch, as for :meth:`forward`.
            paf_target: likewise.
            images: B.

        Returns:
            Numbers of cells and of images. Those of several batches add up to those of the batch that they make
            together.
        """
        c = self.config
        pif, paf = pif_target.unbind(2), paf_target.unbind(2)
        confidences = {"pif_confidence": pif[PIF.CONFIDENCE], "paf_confidence": paf[PAF.CONFIDENCE]}
        for i, logits in enumerate(outputs["intermediate"]):
            confidences[f"intermediate{i}"] = resample_confidence(pif[PIF.CONFIDENCE], logits.shape[-2:])
        over = () if c.confidence_reduction == "mean" else (0, 2, 3)
        counts = {name: (~target.isnan()).sum(over) for name, target in confidences.items()}
        if c.regression_reduction == "sum":
            # not torch.tensor, which waits for a CUDA device
            return counts | {"images": pif_target.new_full((), images, dtype=torch.int64)}
        terms = 2 if c.regression_loss == "smooth_l1" else 1
        for name, (x, y) in {
            "pif_offset": (pif[PIF.X], pif[PIF.Y]),
            "paf_offset1": (paf[PAF.X1], paf[PAF.Y1]),
            "paf_offset2": (paf[PAF.X2], paf[PAF.Y2]),
        }.items():
            counts[name] = terms * (~(x + y).isnan()).sum()
        return counts | {"pif_scale": (~pif[PIF.SCALE].isnan()).sum()}

    def forward(
        self,
        outputs: NetworkOutputs,
        pif_target: Tensor,
        paf_target: Tensor,
        counts: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The parts of the loss, weighted.

        Args:
            outputs: of a PoseNetwork.
            pif_target: (B, K, 5, h, w), NaN where there is no target.
            paf_target: (B, M, 7, h, w), likewise.
            counts: where these images are a part of a batch, the :meth:`counts` of all of it; the losses of the parts
                then add up to that of the batch.

        Returns:
            Scalars pif_confidence, pif_offset, pif_scale, paf_confidence, paf_offset, intermediate, and total, which is
            their sum. Finite, with finite gradients, also where there is no target at all.
        """
        c = self.config
        with torch.autocast(pif_target.device.type, enabled=False):
            # unbind, not slices: the gradient of a slice is a field full of zeros, one for each slice
            pif, paf = outputs["pif"].float().unbind(2), outputs["paf"].float().unbind(2)
            pif_to, paf_to = pif_target.float().unbind(2), paf_target.float().unbind(2)
            count = _Counts(counts)
            pif_confidence = self._confidence(pif[PIF.CONFIDENCE], pif_to[PIF.CONFIDENCE], count["pif_confidence"])
            paf_confidence = self._confidence(paf[PAF.CONFIDENCE], paf_to[PAF.CONFIDENCE], count["paf_confidence"])
            ends = (
                self._offset(paf, paf_to, PAF.X1, PAF.Y1, PAF.SPREAD1, count["paf_offset1"]),
                self._offset(paf, paf_to, PAF.X2, PAF.Y2, PAF.SPREAD2, count["paf_offset2"]),
            )
            parts: dict[str, Tensor] = {
                # Eq. 2
                "pif_confidence": c.pif_confidence * pif_confidence,
                "pif_offset": c.pif_offset * self._offset(pif, pif_to, PIF.X, PIF.Y, PIF.SPREAD, count["pif_offset"]),
                "pif_scale": c.pif_scale * self._scale(pif[PIF.SCALE], pif_to[PIF.SCALE], count["pif_scale"]),
                # Eq. 3
                "paf_confidence": c.paf_confidence * paf_confidence,
                "paf_offset": c.paf_offset * torch.stack(ends).sum(),
                "intermediate": c.intermediate
                * self._intermediate(outputs["intermediate"], pif_to[PIF.CONFIDENCE], count),
            }
            return {**parts, "total": torch.stack(list(parts.values())).sum()}  # Eq. 1

    def _confidence(self, logits: Tensor, target: Tensor, count: Tensor | None) -> Tensor:
        """φ: binary cross-entropy over the cells that have a target, (B, N, h, w)."""
        known = ~target.isnan()
        loss = F.binary_cross_entropy_with_logits(logits, target.nan_to_num(), reduction="none") * known
        over = () if self.config.confidence_reduction == "mean" else (0, 2, 3)
        count = known.sum(over).clamp(min=1) if count is None else count
        return (loss.sum(over) / count).sum()  # Σ_k, where there is one

    def _offset(
        self, field: Sequence[Tensor], target: Sequence[Tensor], x: int, y: int, spread: int, count: Tensor | None
    ) -> Tensor:
        """φ of the offsets in channels ``x`` and ``y``, over the cells that have a target."""
        known = ~(target[x] + target[y]).isnan()  # (B, N, h, w)
        # Unknown cells get their own prediction as target: no loss, and no NaN in the gradient.
        dx, dy = (torch.where(known, field[c] - target[c], 0.0) for c in (x, y))
        if self.config.regression_loss == "smooth_l1":
            zero = torch.zeros_like(dx)
            losses = [F.smooth_l1_loss(d, zero, reduction="none") for d in (dx, dy)]
            return self._reduce(losses[0] + losses[1], known, count, terms=2)
        # The bound keeps exp(-log b) in range; PifPaf clips there too.
        log_b = field[spread].clamp(min=-5.0)
        # not vector_norm, which is slow on a CPU; the bound keeps the gradient at 0 finite
        distance = (dx * dx + dy * dy).clamp(min=1e-12).sqrt()
        loss = (log_b + math.log(2) + distance * torch.exp(-log_b)) * known
        return self._reduce(loss, known, count)

    def _scale(self, scale: Tensor, target: Tensor, count: Tensor | None) -> Tensor:
        known = ~target.isnan()
        loss = F.smooth_l1_loss(scale, torch.where(known, target, scale.detach()), reduction="none") * known
        return self._reduce(loss, known, count)

    def _reduce(self, loss: Tensor, known: Tensor, count: Tensor | None, terms: int = 1) -> Tensor:
        """``loss`` of all cells as one number; each known cell's is the sum of so many ``terms``."""
        if self.config.regression_reduction == "mean":
            return loss.sum() / ((terms * known.sum()).clamp(min=1) if count is None else count)
        return loss.sum() / self.config.regression_divisor / (len(loss) if count is None else count)

    def _intermediate(self, logits: list[Tensor], target: Tensor, count: _Counts) -> Tensor:
        """Mean over the N DGCMs, so that each weighs α / N; ``target`` is the PIF's confidence, (B, K, h, w)."""
        if not logits:
            return target.new_zeros(())
        losses = [
            self._confidence(x.float(), resample_confidence(target, x.shape[-2:]), count[f"intermediate{i}"])
            for i, x in enumerate(logits)
        ]
        return torch.stack(losses).mean()


class _Counts:
    """Counts by the name of their term; those of regressions are the images' where they are divided by that.

    None for every name where the batch is complete and counts itself.
    """

    def __init__(self, counts: Mapping[str, Tensor] | None) -> None:
        self.counts = counts

    def __getitem__(self, name: str) -> Tensor | None:
        if self.counts is None:
            return None
        # the mean over ranks of a count may lie below 1; without any cell the sum is 0 whatever it is divided by
        return (self.counts[name] if name in self.counts else self.counts["images"]).clamp(min=1e-6)


def resample_confidence(target: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """The confidence target as a map of another stride sees it: each cell takes the target cell nearest to its pixel.

    Cell i of a map of stride s lies at pixel i · s and so at i · s / S of a target of stride S. A map's patches keep
    their size in pixels, NaN stays NaN.

    Args:
        target: (B, K, h, w).
        size: cells (h', w') of the other map, whose stride is the target's times a power of two.

    Returns:
        (B, K, h', w').
    """
    (h, w), (H, W) = target.shape[-2:], size
    if (h, w) == (H, W):
        return target
    # Sizes are rounded up, so their ratio is near the strides' ratio; the longer side tells it best.
    ratio = 2.0 ** round(math.log2(max(h, w) / max(H, W)))
    rows = (torch.arange(H, device=target.device) * ratio + 0.5).long().clamp(max=h - 1)
    columns = (torch.arange(W, device=target.device) * ratio + 0.5).long().clamp(max=w - 1)
    return target[..., rows[:, None], columns]
