"""Graph convolution over keypoints: Eq. 4 and Eq. 8.

Convention: node features are (B, K, d, …) with any trailing dimensions, adjacency is (K, K) or (B, K, K), and row i is
the keypoint that receives: out_i = Σ_j M[i, j] · W x_j. With this orientation the row softmax β of Eq. 8 makes each
output a weighted mean over keypoints.

W is one d → d' map shared by all keypoints and positions, i.e. a 1×1 convolution over each keypoint's d channels.
"""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor, nn

from graphpose.errors import GraphposeError
from graphpose.nn.config import AbsentEdges


def normalize_adjacency(adjacency: Tensor) -> Tensor:
    """Symmetric normalisation D^-1/2 A D^-1/2 of Eq. 4, D the row sums.

    Args:
        adjacency: (K, K) or (B, K, K), not negative, with self loops.

    Returns:
        Same shape; a row without edges stays zero.

    Source: DGCN, Eq. 4; Kipf & Welling 2017.
    """
    degree = adjacency.sum(-1)
    scale = torch.where(degree > 0, degree, 1).rsqrt() * (degree > 0)
    return scale.unsqueeze(-1) * adjacency * scale.unsqueeze(-2)  # Eq. 4


def relation_weights(W_d: Tensor, adjacency: Tensor, absent_edges: AbsentEdges = "zero") -> Tensor:
    """β(W_d ⊙ A) of Eq. 8: the softmax of each row.

    Computed in float32 at least, since half precision neither resolves nor always holds the exponentials.

    Args:
        W_d: (K, K) learnable relation weights.
        adjacency: (K, K) or (B, K, K) in [0, 1]; zero is an absent edge.
        absent_edges: "zero" lets an absent edge enter the softmax as 0, as Eq. 8 is written; "masked" as −∞, so that it
            gets no weight.

    Returns:
        Shape of ``adjacency``; each row sums to 1 ("masked": to 0 where it has no edge at all).

    Source: DGCN, Eq. 8; "masked": Zhao et al. 2019 (SemGCN).
    """
    dtype = torch.promote_types(W_d.dtype, torch.float32)
    A = adjacency.to(dtype)
    logits = W_d.to(dtype) * A
    if absent_edges == "zero":
        return logits.softmax(-1)
    absent = A == 0
    weights = logits.masked_fill(absent, -torch.inf).softmax(-1)
    # A row without edges is 0/0 in the softmax; the fill makes it, and its gradient, zero.
    return weights.masked_fill(absent, 0.0)


class GraphConv(nn.Module):
    """Dense batched graph convolution over K keypoints, without its non-linearity.

    Args:
        in_width: channels d per keypoint.
        out_width: channels d' per keypoint.
        num_keypoints: K.
        learned: True for Eq. 8 (W_d ⊙ A and row softmax), False for Eq. 4 (symmetric normalisation, no W_d).
        absent_edges: see :func:`relation_weights`; only read when ``learned``.
        bias: add a bias per output channel; left out where batch norm follows.

    Raises:
        GraphposeError: on an unknown ``absent_edges``.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        num_keypoints: int,
        learned: bool = True,
        absent_edges: AbsentEdges = "zero",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if absent_edges not in get_args(AbsentEdges):
            raise GraphposeError(f"absent_edges '{absent_edges}' is unknown; choose one of zero, masked")
        self.absent_edges: AbsentEdges = absent_edges
        self.weight = nn.Parameter(torch.empty(out_width, in_width))  # W
        self.W_d = nn.Parameter(torch.empty(num_keypoints, num_keypoints)) if learned else None
        self.bias = nn.Parameter(torch.empty(out_width)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as a pure exchange between keypoints: W the identity, half of each row of β on the keypoint itself.

        W_d starts at 0 off the diagonal, so that a drawn edge weighs as much as an absent one and the graphs of
        training (A_d) and of evaluation (all ones) give the same network; what W_d learns makes the difference. The
        diagonal keeps the keypoints' maps from all beginning as one and the same mean.
        """
        nn.init.eye_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.W_d is not None:
            nn.init.zeros_(self.W_d)
            with torch.no_grad():
                self.W_d.diagonal().fill_(math.log(max(len(self.W_d) - 1, 1)))

    def relations(self, adjacency: Tensor) -> Tensor:
        """What multiplies the features: Ã of Eq. 4 or β(W_d ⊙ A) of Eq. 8, in the shape of ``adjacency``."""
        if self.W_d is None:
            return normalize_adjacency(adjacency)
        return relation_weights(self.W_d, adjacency, self.absent_edges)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """W X β(W_d ⊙ A).

        Args:
            x: (B, K, d, …) node features.
            adjacency: (K, K) or (B, K, K).

        Returns:
            (B, K, d', …).
        """
        relations = self.relations(adjacency).to(x.dtype)
        flat = x.flatten(3) if x.ndim > 3 else x.unsqueeze(-1)  # (B, K, d, N)
        B, K, d, N = flat.shape
        mixed = relations @ flat.reshape(B, K, d * N)  # Eq. 8: Σ_j β_ij x_j, (B, K, d·N)
        weight = self.weight.to(x.dtype)
        mixed = mixed.view(B, K, d, N)
        out = mixed * weight if weight.shape == (1, 1) else weight @ mixed  # (B, K, d', N)
        if self.bias is not None:
            out = out + self.bias.to(x.dtype)[:, None]
        return out.reshape(B, K, weight.shape[0], *x.shape[3:])

    def extra_repr(self) -> str:
        d_out, d = self.weight.shape
        kind = "normalized" if self.W_d is None else f"learned, absent_edges={self.absent_edges}"
        return f"{d}, {d_out}, {kind}"


class KeypointConv(nn.Module):
    """A plain 1×1 convolution of all K·d channels in place of a graph convolution: the control without a graph.

    It begins as the same function as a :class:`GraphConv` on the full graph and may become any linear map of the
    channels: no softmax, no W shared by keypoints. At d = d' = 1 it has K² weights, where Eq. 8 has K² + 1.

    Args:
        in_width: channels d per keypoint.
        out_width: channels d' per keypoint.
        num_keypoints: K.

    Attributes:
        W_d: None; there are no relations.
    """

    def __init__(self, in_width: int, out_width: int, num_keypoints: int) -> None:
        super().__init__()
        self.W_d = None
        self.num_keypoints = num_keypoints
        self.weight = nn.Parameter(torch.empty(num_keypoints * out_width, num_keypoints * in_width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start where :meth:`GraphConv.reset_parameters` does."""
        K = self.num_keypoints
        W = torch.eye(self.weight.shape[0] // K, self.weight.shape[1] // K)
        start = torch.full((K, K), 0.5 / max(K - 1, 1)).fill_diagonal_(0.5 if K > 1 else 1.0)
        with torch.no_grad():
            self.weight.copy_(torch.kron(start, W))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """(B, K, d, …) → (B, K, d', …); ``adjacency`` is not read."""
        mixed = self.weight.to(x.dtype) @ x.flatten(1, 2).flatten(2)  # (B, K·d', N)
        return mixed.reshape(len(x), self.num_keypoints, -1, *x.shape[3:])
