"""Graph convolution by messages along the edges of a PyG graph, twin of :class:`~graphpose.nn.graph_conv.GraphConv`.

A module of its own, because importing PyG's layers takes seconds and the network needs none of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from graphpose.fields.scatter import scatter_min, scatter_sum
from graphpose.nn.graph_conv import GraphConv


class SparseGraphConv(MessagePassing):
    """The sparse twin of a :class:`GraphConv`: the same parameters, messages along the edges of a PyG graph.

    In "zero" mode of Eq. 8 an absent edge still has the weight exp(0) / Z. That part is the same for all absent edges
    of a row, so it is sent as one sum over the keypoints of the graph, and only present edges carry messages.

    Args:
        dense: the layer whose parameters are shared.
    """

    def __init__(self, dense: GraphConv) -> None:
        super().__init__(aggr="sum", node_dim=0)
        self.dense = dense

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """The same as the dense layer on the graph's :func:`~graphpose.graphs.keypoint_graph.to_dense` matrix.

        Args:
            x: (B·K, d, …) node features, the K keypoints of each graph in order, as in a PyG batch.
            edge_index: (2, E) sources j and targets i; no edge twice.
            edge_weight: (E,) entries A[i, j]; ones by default.

        Returns:
            (B·K, d', …).
        """
        if edge_weight is None:
            edge_weight = x.new_ones(edge_index.shape[1])
        present = edge_weight != 0
        edge_index, edge_weight = edge_index[:, present], edge_weight[present]
        weight, rest = self._edge_coefficients(edge_index, edge_weight, len(x))
        out = self.propagate(edge_index, x=x.flatten(1), weight=weight)  # (B·K, d·P)
        if rest is not None:
            K = self._num_keypoints()
            graph_sum = x.flatten(1).unflatten(0, (-1, K)).sum(1).repeat_interleave(K, 0)
            out = out + rest[:, None] * graph_sum
        out = out.view(len(x), x.shape[1], -1)  # (B·K, d, P)
        out = self.dense.weight @ out  # (B·K, d', P)
        if self.dense.bias is not None:
            out = out + self.dense.bias[:, None]
        return out.view(len(x), -1, *x.shape[2:])

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """Source features times the edge's coefficient."""
        return weight[:, None] * x_j

    def _num_keypoints(self) -> int:
        assert self.dense.W_d is not None
        return len(self.dense.W_d)

    def _edge_coefficients(self, edge_index: Tensor, A: Tensor, num_nodes: int) -> tuple[Tensor, Tensor | None]:
        """Coefficient of each edge (E,), and of the sum over the whole graph (B·K,) in "zero" mode."""
        source, target = edge_index
        if self.dense.W_d is None:
            degree = scatter_sum(A, target, num_nodes)
            scale = torch.where(degree > 0, degree, 1).rsqrt() * (degree > 0)
            return scale[target] * A * scale[source], None  # Eq. 4
        K = self._num_keypoints()
        logits = self.dense.W_d[target % K, source % K] * A  # W_d ⊙ A of Eq. 8
        if self.dense.absent_edges == "masked":
            return softmax(logits, target, num_nodes=num_nodes), None
        # β with K - n absent edges of logit 0 in the row: exp(l) / Z = (exp(l) - 1) / Z on the edge + 1 / Z everywhere.
        shift = -scatter_min(-logits.detach(), target, num_nodes)[0].clamp(max=0)  # the row's largest logit, or 0
        exponential, one = (logits - shift[target]).exp(), (-shift).exp()
        absent = K - scatter_sum(torch.ones_like(A), target, num_nodes)
        Z = scatter_sum(exponential, target, num_nodes) + absent * one
        return (exponential - one[target]) / Z[target], one / Z
