"""The spatial non-local block that follows the graph convolutions of a DGCM."""

from __future__ import annotations

import functools

from torch import Tensor, nn
from torch.nn import functional as F

from graphpose.nn.autocast import in_float32


class NonLocal(nn.Module):
    """Every position attends to every (pooled) position and adds what it finds; the identity before training.

    1×1 convolutions θ, φ, g to half the channels, the embedded-Gaussian relation softmax(θᵀφ) over positions, a 1×1
    convolution back whose batch norm starts at zero, and a residual. Keys and values are max-pooled ("sub-sampling" in
    the source), which keeps the cost linear in the image when the pooling grows with the resolution.

    Args:
        channels: C of the features.
        pool: factor by which keys and values are max-pooled in each direction.

    Source: Wang et al. 2018, "Non-local Neural Networks", Eq. 3–6; used by Zhao et al. 2019.
    """

    def __init__(self, channels: int, pool: int = 2) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels)
        self.pool = pool
        nn.init.zeros_(self.norm.weight)
        for conv in (self.theta, self.phi, self.g, self.out):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        for conv in (self.theta, self.phi, self.g):
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """x plus its context.

        Args:
            x: (B, C, H, W).

        Returns:
            (B, C, H, W).
        """
        H, W = x.shape[-2:]
        pooled = F.max_pool2d(x, self.pool, ceil_mode=True) if self.pool > 1 else x
        query, key, value = (  # one head: (B, 1, HW, C/2), (B, 1, hw, C/2), (B, 1, hw, C/2)
            conv(of).flatten(2).transpose(1, 2).unsqueeze(1)
            for conv, of in ((self.theta, x), (self.phi, pooled), (self.g, pooled))
        )
        context = _attend(query, key, value)  # (B, 1, HW, C/2)
        context = context.squeeze(1).transpose(1, 2).unflatten(2, (H, W))  # (B, C/2, H, W)
        return x + self.norm(self.out(context))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(θᵀφ) g, in float32: θᵀφ has no 1/√d in the source and overflows float16 long before its factors do."""
    return in_float32(functools.partial(F.scaled_dot_product_attention, scale=1.0), query, key, value)
