"""Keypoint graphs step by step: PyG transforms over the ``Data`` of :mod:`graphpose.graphs.keypoint_graph`.

Convention: what comes out keeps that module's invariants (edges sorted by source, then target, each pair once) and the
device and dtype of what went in.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import add_self_loops, coalesce, remove_self_loops, segregate_self_loops, to_undirected

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import sample_adjacency, soft_adjacency
from graphpose.graphs.keypoint_graph import edge_weights, from_dense
from graphpose.graphs.statistics import PoseStatistics
from graphpose.skeleton import Skeleton


class SelfLoops(BaseTransform):
    """Give every keypoint a self-loop of weight 1 (A[i, i] = 1), also where it had another."""

    def forward(self, data: Data) -> Data:
        edges, weight = remove_self_loops(data.edge_index, edge_weights(data))
        edges, weight = add_self_loops(edges, weight, fill_value=1.0, num_nodes=data.num_nodes)
        kind = data.get("adjacency")
        return _with_edges(data, edges, weight, "identity" if kind == "none" else kind)


class HandCraftedEdges(BaseTransform):
    """Add the skeleton's limbs, in both directions and with weight 1 (A_h).

    Args:
        skeleton: gives the limbs; GraphposeError for a graph over other keypoints.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton

    def forward(self, data: Data) -> Data:
        _check_keypoints(data, self.skeleton.keypoints, f"skeleton '{self.skeleton.name}'")
        limbs = torch.tensor(self.skeleton.limbs, dtype=torch.long, device=data.edge_index.device).view(-1, 2).t()
        limbs, weight = to_undirected(limbs, num_nodes=data.num_nodes), edge_weights(data)
        edges = torch.cat((data.edge_index, limbs), dim=1)
        return _with_edges(data, edges, torch.cat((weight, weight.new_ones(limbs.shape[1]))), "hand_crafted")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.skeleton.name})"


class FullEdges(BaseTransform):
    """Connect every keypoint with every other, with weight 1; self-loops stay as they are."""

    def forward(self, data: Data) -> Data:
        return _with_others(data, torch.ones(data.num_nodes, data.num_nodes), "full")


class SoftEdges(BaseTransform):
    """Replace all edges between different keypoints by A_s of Eq. 6; self-loops stay as they are.

    Args:
        statistics: M_d; GraphposeError for a graph over other keypoints.
        gamma: γ of Eq. 6.

    Raises:
        GraphposeError: Eq. 6 is not defined by the statistics.
    """

    def __init__(self, statistics: PoseStatistics, gamma: float = 0.5) -> None:
        self.statistics = statistics
        self.gamma = gamma
        self._A_s = soft_adjacency(statistics, gamma)

    def forward(self, data: Data) -> Data:
        _check_keypoints(data, self.statistics.keypoints, f"statistics of '{self.statistics.skeleton_name}'")
        return _with_others(data, self._A_s, "soft")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.statistics.skeleton_name}, gamma={self.gamma})"


class SampleEdges(BaseTransform):
    """Keep every edge with the probability that its weight states (Eq. 7); what stays has weight 1.

    Args:
        generator: source of randomness, on the device of the data. Workers of a data loader each copy it, so seed one
            for each of them.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def forward(self, data: Data) -> Data:
        drawn = sample_adjacency(edge_weights(data), generator=self.generator)  # (E,)
        kept = drawn > 0
        data.edge_index, data.edge_weight = data.edge_index[:, kept], drawn[kept]
        data.adjacency = "dynamic"
        return data


class SymmetricNormalization(BaseTransform):
    """Ã = D^-1/2 A D^-1/2 (Eq. 4) by PyG's ``gcn_norm``, D the row sums of A; adds no self-loops of its own."""

    def forward(self, data: Data) -> Data:
        data.edge_index, data.edge_weight = gcn_norm(
            data.edge_index, edge_weights(data), data.num_nodes, add_self_loops=False
        )
        return data


def _with_others(data: Data, A: Tensor, adjacency: str) -> Data:
    """The graph with its own self-loops, and A between different keypoints."""
    _, _, loops, weight = segregate_self_loops(data.edge_index, edge_weights(data))
    others = from_dense(A.to(weight, copy=True).fill_diagonal_(0))
    edges = torch.cat((loops, others.edge_index), dim=1)
    return _with_edges(data, edges, torch.cat((weight, others.edge_weight)), adjacency)


def _with_edges(data: Data, edges: Tensor, weight: Tensor, adjacency: str | None) -> Data:
    """The graph with other edges; of a pair that comes twice the larger weight stays."""
    data.edge_index, data.edge_weight = coalesce(edges, weight, data.num_nodes, reduce="max")
    data.adjacency = adjacency
    return data


def _check_keypoints(data: Data, keypoints: tuple[str, ...], owner: str) -> None:
    if data.num_nodes != len(keypoints) or tuple(data.get("keypoints") or keypoints) != keypoints:
        raise GraphposeError(
            f"a graph of {data.num_nodes} keypoints does not fit {owner} with {len(keypoints)}; names and order must "
            "agree"
        )
