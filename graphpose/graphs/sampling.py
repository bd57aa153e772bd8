"""Eq. 7: dynamic graphs drawn as dense tensors on the device of their probabilities, afresh or from a pool (Fig. 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphpose.errors import GraphposeError


def sample_adjacency(probability: Tensor, batch: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Draw dynamic graphs A_d[i, j] ~ Bernoulli(A_s[i, j]) (Eq. 7).

    Args:
        probability: A_s, (K, K) in [0, 1].
        batch: how many graphs B to draw; None draws one.
        generator: source of randomness on the device of ``probability``; the device's default one if None.

    Returns:
        (K, K), or (B, K, K) with a batch, of zeros and ones in the dtype and on the device of ``probability``, made
        without waiting for the device; the diagonal is 1. The same generator state gives the same graphs.
    """
    shape = probability.shape if batch is None else (batch, *probability.shape)
    # Drawn in float32 at least: half precision has too few steps below 1 for probabilities near 0 and 1.
    dtype = torch.promote_types(probability.dtype, torch.float32)
    draw = torch.rand(shape, generator=generator, device=probability.device, dtype=dtype)
    A_d = (draw < probability).to(probability.dtype)  # Eq. 7
    A_d.diagonal(dim1=-2, dim2=-1).fill_(1)
    return A_d


class GraphPool(nn.Module):
    """n dynamic graphs drawn once, of which each call picks some at random (A_d^0 … A_d^n of Fig. 2).

    The graphs are a buffer: they move with the module and are saved with it.

    Args:
        probability: A_s, (K, K) in [0, 1].
        size: n, at least 1.
        generator: source of randomness of the drawing.
    """

    graphs: Tensor

    def __init__(self, probability: Tensor, size: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if size < 1:
            raise GraphposeError(f"a pool of {size} graphs is empty; graph_pool must be at least 1")
        self.register_buffer("graphs", sample_adjacency(probability, size, generator))

    def forward(self, batch: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """One graph (K, K), or (B, K, K) picked independently; no waiting for the device."""
        pick = torch.randint(len(self.graphs), (batch or 1,), generator=generator, device=self.graphs.device)
        A_d = self.graphs[pick]
        return A_d[0] if batch is None else A_d

    def extra_repr(self) -> str:
        return f"size={len(self.graphs)}"
