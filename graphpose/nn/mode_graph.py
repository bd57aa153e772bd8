"""The graphs of several kinds of poses as the network holds them: a gate weighs them for each image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import draw_edges
from graphpose.nn.autocast import in_float32
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.keypoint_graph import KeypointGraph, draw_uniform


class ModeGate(nn.Module):
    """Weights g of C kinds of poses for each image: global average of its features → linear → softmax.

    It starts at the kinds' shares of the training set's persons, whatever the image: what is known before looking.
    In float32 at least.

    Args:
        channels: of the features.
        shares: (C,) of the kinds, positive.
    """

    def __init__(self, channels: int, shares: Tensor) -> None:
        super().__init__()
        # Zeros take nothing from the random numbers that other weights start with.
        self.weight = nn.Parameter(torch.zeros(len(shares), channels, device=shares.device))
        self.bias = nn.Parameter(shares.log().float())

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, H, W) → (B, C), each row positive with sum 1."""
        return in_float32(_gate, features, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


def _gate(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return nn.functional.linear(features.mean((2, 3)), weight, bias).softmax(-1)


class ModeGraph(KeypointGraph):
    """A of Eq. 8 for each image: the mixture P = Σ_c g_c A_c of the kinds' A_s (Eq. 6), g of a :class:`ModeGate`.

    "soft_modes" has P itself as weights. "modes" draws from it in training, A_ij ~ Bernoulli(P_ij) as in Eq. 7, and has
    its expectation P in evaluation.

    Edges are drawn from the mixed probabilities, and not all of one drawn kind's: each edge is there as often either
    way, but P is a smooth function of the gate. Its gradient passes the drawing straight through: forward the drawn
    edge, backward dA_ij / dP_ij = 1. The derivative of the expected loss by P_ij is the difference of the losses with
    and without the edge; the estimator puts the loss's slope at the drawn edge in its place, which is exact where the
    loss is affine in each edge and biased otherwise. β of Eq. 8 bends it: over random layers of three keypoints, all
    of whose graphs can be counted, the cosine between the estimator's mean and the exact gradient has the median 0.994
    where W_d is about 1 (``tests/nn/test_mode_graph.py``). The alternative without bias multiplies whole losses by the
    score of what was drawn, whose noise grows with the K² edges.

    Without ``per_sample`` the images of a batch share the uniform numbers that they compare their own P with, as they
    share the graph of "dynamic", so that images with the same gate have the same graph; a ``graph_pool`` is one of such
    numbers.

    Args:
        matrix: (C, K, K) A_s of each kind.
        config: as of a :class:`~graphpose.nn.keypoint_graph.KeypointGraph`.
        channels: of the features that the gate reads.
        shares: (C,) of the kinds in the training set's persons; None for even ones, as when weights are loaded next.
        seed: of the draws.

    Source: DGCN, the conclusion's graphs of actions; Bengio, Léonard and Courville, "Estimating or propagating
    gradients through stochastic neurons for conditional computation", 2013 (straight-through).
    """

    def __init__(
        self,
        matrix: Tensor,
        config: PoseNetworkConfig,
        channels: int,
        shares: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(matrix, config, seed)
        count = len(matrix)
        if count != config.modes:
            raise GraphposeError(f"modes={config.modes} with graphs of {count} kinds of poses; set modes={count}")
        if shares is None:
            shares = torch.full((count,), 1 / count, device=matrix.device)
        self.shares: Tensor
        self.register_buffer("shares", shares.to(self.matrix).clone())
        self.gate = ModeGate(channels, self.shares)

    def _draw(self, count: int) -> Tensor:
        """Uniform numbers (count, K, K); graphs are made of them with an image's probabilities."""
        return draw_uniform(self.state, self.matrix, [count, *self.matrix.shape[1:]])

    def mixture(self, features: Tensor | None = None) -> Tensor:
        """P = Σ_c g_c A_c.

        Args:
            features: (B, channels, H, W); None weighs the kinds by their shares.

        Returns:
            (B, K, K) in [0, 1], or (K, K) without features; an edge that every kind has for certain is exactly 1.
        """
        weights = self.shares if features is None else self.gate(features)
        return in_float32(_mixture, weights, self.matrix)

    def forward(self, batch: int, features: Tensor | None = None) -> Tensor:
        """The graphs of this pass.

        Args:
            batch: number of images B.
            features: (B, channels, H, W) that the gate reads; None weighs the kinds by their shares.

        Returns:
            (B, K, K); (K, K) without features, unless each image has its own draw.
        """
        probability = self.mixture(features)
        if not (self.dynamic and self.training):
            return probability
        drawn = draw_edges(probability, self._next(batch, probability.ndim == 3))
        return drawn + (probability - probability.detach())  # straight through: the difference is 0, its gradient 1


def _mixture(weights: Tensor, matrix: Tensor) -> Tensor:
    mixed = (weights @ matrix.flatten(1)).unflatten(-1, matrix.shape[1:])  # (B, K, K)
    return torch.where(matrix.amin(0) == 1, matrix.new_ones(()), mixed)
