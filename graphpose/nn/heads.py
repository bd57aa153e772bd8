"""Composite field heads: features → PIF or PAF at a finer stride by sub-pixel convolution."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphpose.fields.spec import PAF, PIF
from graphpose.nn.autocast import in_float32
from graphpose.nn.config import PoseNetworkConfig

# Share of cells that a keypoint or limb covers, about. The bias of every confidence starts at its logit, so that
# training from scratch does not spend its first steps on unlearning "everything is a keypoint".
CONFIDENCE_PRIOR = 0.01
CONFIDENCE_BIAS = -math.log((1 - CONFIDENCE_PRIOR) / CONFIDENCE_PRIOR)


class FieldHead(nn.Module):
    """1×1 convolution and pixel shuffle to N fields of some channels each.

    Cell (r, c) of the features lies at pixel (r, c) · stride, and so does cell (r, c) · upsample of the fields, whose
    stride is that of the features / ``upsample``.

    Args:
        in_channels: C of the features.
        num_fields: N, keypoints or limbs.
        channels: PIF or PAF.
        config: gives the sub-pixel factor u and the activations of scale and spread.
    """

    def __init__(
        self, in_channels: int, num_fields: int, channels: type[PIF] | type[PAF], config: PoseNetworkConfig
    ) -> None:
        super().__init__()
        self.shape = (num_fields, len(channels))
        self.has_scale = channels is PIF
        self.spreads = (PIF.SPREAD,) if channels is PIF else (PAF.SPREAD1, PAF.SPREAD2)
        self.upsample = config.upsample
        self.scale_activation = config.scale_activation
        self.scale_factor = config.scale_factor
        self.spread_activation = config.spread_activation
        self.conv = nn.Conv2d(in_channels, num_fields * len(channels) * self.upsample**2, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small weights; biases 0, except that confidences begin at a probability of ``CONFIDENCE_PRIOR``."""
        nn.init.normal_(self.conv.weight, std=0.01)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)
        bias = self.conv.bias.data.view(*self.shape, -1)  # (N, C, u²)
        bias[:, 0] = CONFIDENCE_BIAS

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Fields as :mod:`graphpose.fields.spec` defines them.

        Args:
            features: (B, C, H, W).
            size: cells (h, w) to keep, at most (H · u, W · u).

        Returns:
            (B, N, channels, h, w) float32; confidences are logits, the PIF's scale is positive (with "relu", or 0).
        """
        B, _, H, W = features.shape
        u = self.upsample
        # In channels last the shuffle would gather single numbers; this way, it copies rows. (The weight of a 1×1
        # convolution can be in both formats, and its strides choose the output's.)
        weight = self.conv.weight.flatten(1)[:, :, None, None]
        # In float32 whatever the precision: bfloat16 knows an offset of 32 cells to 1/8 cell.
        fields = in_float32(lambda features: F.conv2d(features.contiguous(), weight, self.conv.bias), features).float()
        fields = fields.reshape(B, *self.shape, u, u, H, W).permute(0, 1, 2, 5, 3, 6, 4)  # (B, N, channels, H, u, W, u)
        fields = fields.reshape(B, *self.shape, H * u, W * u)[..., : size[0], : size[1]]
        if self.spread_activation == "leaky_relu":
            planes = list(fields.unbind(2))
            for spread in self.spreads:
                planes[spread] = F.leaky_relu(planes[spread] + 2.0) - 2.0
            fields = torch.stack(planes, 2)
        if self.has_scale:
            rest, scale = fields.split((PIF.SCALE, len(PIF) - PIF.SCALE), 2)
            scale = F.softplus(scale) if self.scale_activation == "softplus" else scale.relu()
            return torch.cat((rest, scale if self.scale_factor == 1.0 else scale * self.scale_factor), 2)
        return fields.contiguous()
