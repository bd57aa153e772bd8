"""Keypoint graphs (Eq. 6–7) as torch_geometric ``Data``, as composable transforms, as dense matrices and in networkx.

A keypoint graph is a ``Data`` object with

- ``num_nodes``: K; ``keypoints``: the K names; ``skeleton``: its name; ``adjacency``: which kind of graph it is;
- ``edge_index`` (2, E) sorted by source, then target, each pair at most once;
- ``edge_weight`` (E,) in [0, 1]: in a soft or dynamic graph the probability A_s of the edge, otherwise 1;
- ``pos`` (K, 2) where statistics are known: x right, y down, in units of the person's scale.

Convention: an edge leads from the keypoint j that gives (``edge_index[0]``) to the keypoint i that receives
(``edge_index[1]``); in a dense adjacency it is entry [i, j], and row i belongs to the keypoint that receives. A zero
entry is no edge.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.transforms import BaseTransform, Compose

from graphpose.errors import GraphposeError
from graphpose.graphs.layout import multidimensional_scaling
from graphpose.graphs.sampling import GraphPool, sample_adjacency
from graphpose.graphs.statistics import PoseStatistics, shipped_statistics
from graphpose.skeleton import SKELETONS, Skeleton

if TYPE_CHECKING:
    import networkx

__all__ = [
    "ADJACENCIES",
    "FullEdges",
    "GraphPool",
    "HandCraftedEdges",
    "SampleEdges",
    "SelfLoops",
    "SoftEdges",
    "SymmetricNormalization",
    "from_dense",
    "from_networkx",
    "keypoint_graph",
    "keypoint_nodes",
    "sample_adjacency",
    "soft_adjacency",
    "to_dense",
    "to_networkx",
]

ADJACENCIES = ("identity", "hand_crafted", "full", "soft", "dynamic")


def keypoint_graph(
    skeleton: Skeleton, adjacency: str, statistics: PoseStatistics | None = None, gamma: float = 0.5
) -> Data:
    """The keypoint graph of a skeleton.

    Args:
        skeleton: gives the keypoints and the limbs.
        adjacency: ``identity`` (A_I: self-loops only), ``hand_crafted`` (A_h: limbs and self-loops), ``full`` (every
            edge, so that W_d of Eq. 8 alone decides; not in the paper), ``soft`` (A_s of Eq. 6) or ``dynamic`` (the
            same A_s, meant as the probabilities of Eq. 7; :func:`sample_adjacency` and :class:`SampleEdges` draw from
            it).
        statistics: M_d; by default the statistics shipped for this skeleton. Identity, hand-crafted and full graphs
            take only node positions from them and do without.
        gamma: γ of Eq. 6.

    Returns:
        The graph as the module's docstring describes it. Every self-loop is there with weight 1; in a soft or dynamic
        graph the weights that lead to one keypoint from the others sum to 1.

    Raises:
        GraphposeError: when the adjacency is unknown, there are no statistics for the skeleton, or Eq. 6 is not
            defined by them (see :func:`soft_adjacency`).
    """
    if adjacency not in ADJACENCIES:
        raise GraphposeError(f"unknown adjacency '{adjacency}'; choose one of {', '.join(ADJACENCIES)}")
    transforms: list[BaseTransform] = [SelfLoops()]
    if adjacency == "hand_crafted":
        transforms.insert(0, HandCraftedEdges(skeleton))
    elif adjacency == "full":
        transforms.insert(0, FullEdges())
    elif adjacency in ("soft", "dynamic"):
        statistics = statistics or shipped_statistics(skeleton)
        transforms.insert(0, SoftEdges(statistics, gamma))
    data = Compose(transforms)(keypoint_nodes(skeleton, statistics))
    data.adjacency = adjacency
    return data


def keypoint_nodes(skeleton: Skeleton, statistics: PoseStatistics | None = None) -> Data:
    """A graph of the skeleton's keypoints without any edge: what the transforms of this module start from.

    Args:
        skeleton: gives the keypoints.
        statistics: places them by multidimensional scaling of M_d; by default the shipped ones. A skeleton without
            statistics gets no positions.
    """
    if statistics is None and SKELETONS.get(skeleton.name) == skeleton:
        statistics = shipped_statistics(skeleton)
    data = Data(edge_index=torch.zeros(2, 0, dtype=torch.long), edge_weight=torch.zeros(0))
    data.num_nodes = skeleton.num_keypoints
    data.keypoints = list(skeleton.keypoints)
    data.skeleton = skeleton.name
    data.adjacency = "none"
    if statistics is not None:
        data.pos = torch.from_numpy(multidimensional_scaling(statistics.require(skeleton))).to(
            torch.get_default_dtype()
        )
    return data


def soft_adjacency(statistics: PoseStatistics, gamma: float = 0.5) -> Tensor:
    """A_s of Eq. 6: over j ≠ i the softmax of γ / M_d[i, j], and 1 on the diagonal.

    Returns:
        (K, K) float64; off the diagonal every row sums to 1. It is not symmetric.

    Raises:
        GraphposeError: when γ is not positive and finite, or two keypoints were never labelled together or never
            apart, so that 1 / M_d is unknown or infinite; the message names them.
    """
    if not (math.isfinite(gamma) and gamma > 0):
        raise GraphposeError(f"gamma is {gamma}; Eq. 6 needs a positive finite number, such as the paper's 0.5")
    distance = torch.from_numpy(statistics.mean.copy()).fill_diagonal_(math.inf)
    for i, j in torch.nonzero(~(distance > 0)).tolist():
        what = "never labelled together" if math.isnan(distance[i, j]) else "always at the same place"
        raise GraphposeError(
            f"statistics of skeleton '{statistics.skeleton_name}': {statistics.keypoints[i]} and "
            f"{statistics.keypoints[j]} are {what}, so that Eq. 6 is not defined; use more annotations or a "
            "hand-crafted adjacency"
        )
    strength = (gamma / distance).fill_diagonal_(-math.inf)
    return strength.softmax(dim=1).fill_diagonal_(1)  # Eq. 6


class HandCraftedEdges(BaseTransform):
    """Add the skeleton's limbs, in both directions and with weight 1 (A_h)."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton

    def forward(self, data: Data) -> Data:
        _check_keypoints(data, self.skeleton.keypoints, f"skeleton '{self.skeleton.name}'")
        limbs = torch.tensor(self.skeleton.limbs, dtype=torch.long).reshape(-1, 2)
        A = to_dense(data)
        A[limbs[:, 0], limbs[:, 1]] = 1
        A[limbs[:, 1], limbs[:, 0]] = 1
        return _with_edges(data, A, "hand_crafted")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.skeleton.name})"


class FullEdges(BaseTransform):
    """Connect every keypoint with every other, with weight 1; self-loops stay as they are."""

    def forward(self, data: Data) -> Data:
        A = to_dense(data)
        loops = torch.eye(len(A), dtype=torch.bool, device=A.device)
        return _with_edges(data, torch.where(loops, A, torch.ones_like(A)), "full")


class SoftEdges(BaseTransform):
    """Replace all edges between different keypoints by A_s of Eq. 6; self-loops stay as they are."""

    def __init__(self, statistics: PoseStatistics, gamma: float = 0.5) -> None:
        self.statistics = statistics
        self.gamma = gamma
        self._A_s = soft_adjacency(statistics, gamma)

    def forward(self, data: Data) -> Data:
        _check_keypoints(data, self.statistics.keypoints, f"statistics of '{self.statistics.skeleton_name}'")
        A = to_dense(data)
        loops = torch.eye(len(A), dtype=torch.bool, device=A.device)
        return _with_edges(data, torch.where(loops, A, self._A_s.to(A)), "soft")

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
        weight = _edge_weight(data)
        draw = torch.rand(weight.shape, generator=self.generator, device=weight.device, dtype=weight.dtype)
        kept = draw < weight  # Eq. 7
        data.edge_index, data.edge_weight = data.edge_index[:, kept], torch.ones_like(weight[kept])
        data.adjacency = "dynamic"
        return data


class SelfLoops(BaseTransform):
    """Give every keypoint a self-loop of weight 1 (A[i, i] = 1), also where it had another."""

    def forward(self, data: Data) -> Data:
        A = to_dense(data).fill_diagonal_(1)
        return _with_edges(data, A, "identity" if data.get("adjacency") == "none" else data.get("adjacency"))


class SymmetricNormalization(BaseTransform):
    """Ã = D^-1/2 A D^-1/2 (Eq. 4) by PyG's ``gcn_norm``, D the row sums of A; adds no self-loops of its own."""

    def forward(self, data: Data) -> Data:
        data.edge_index, data.edge_weight = gcn_norm(
            data.edge_index, _edge_weight(data), data.num_nodes, add_self_loops=False
        )
        return data


def to_dense(data: Data) -> Tensor:
    """The (K, K) adjacency of one graph: entry [i, j] is the weight of the edge from j to i, 0 where there is none."""
    weight = _edge_weight(data)
    source, target = data.edge_index
    A = weight.new_zeros(data.num_nodes, data.num_nodes)
    A[target, source] = weight
    return A


def from_dense(A: Tensor, nodes: Data | None = None) -> Data:
    """The graph whose :func:`to_dense` is ``A``.

    Args:
        A: (K, K); row i = the keypoint that receives.
        nodes: a graph over the same keypoints whose names and positions to take over.

    Returns:
        A graph with one edge for each entry other than 0, sorted by source and target.

    Raises:
        GraphposeError: when A is not square or has another size than ``nodes``.
    """
    K = len(A) if nodes is None else nodes.num_nodes
    if A.shape != (K, K):
        raise GraphposeError(f"an adjacency of shape {tuple(A.shape)} is no graph over {K} keypoints")
    data = Data(num_nodes=K) if nodes is None else copy.copy(nodes)
    data.edge_index = A.t().nonzero().t().contiguous()  # (2, E): source, target
    data.edge_weight = A[data.edge_index[1], data.edge_index[0]]
    return data


def to_networkx(data: Data) -> networkx.DiGraph:
    """The same graph in networkx: nodes are keypoint names with ``pos``, edges lead from j to i with ``weight``."""
    import networkx as nx

    names = data.get("keypoints") or list(range(data.num_nodes))
    weight, pos = _edge_weight(data), data.get("pos")
    dtype = str(weight.dtype).removeprefix("torch.")
    graph = nx.DiGraph(skeleton=data.get("skeleton"), adjacency=data.get("adjacency"), dtype=dtype)
    for i, name in enumerate(names):
        graph.add_node(name, **({} if pos is None else {"pos": tuple(pos[i].tolist())}))
    for source, target, value in zip(*data.edge_index.tolist(), weight.tolist(), strict=True):
        graph.add_edge(names[source], names[target], weight=value)
    return graph


def from_networkx(graph: networkx.Graph) -> Data:
    """Inverse of :func:`to_networkx`; undirected edges lead both ways, missing weights are 1."""
    names = list(graph.nodes)
    index = {name: i for i, name in enumerate(names)}
    dtype = getattr(torch, graph.graph.get("dtype", "float32"))
    A = torch.zeros(len(names), len(names), dtype=dtype)
    for source, target, value in graph.to_directed().edges(data="weight", default=1.0):
        A[index[target], index[source]] = value
    data = from_dense(A)
    if not all(isinstance(name, int) for name in names):
        data.keypoints = names
    for key in ("skeleton", "adjacency"):
        if graph.graph.get(key) is not None:
            data[key] = graph.graph[key]
    if names and all("pos" in graph.nodes[name] for name in names):
        data.pos = torch.tensor([graph.nodes[name]["pos"] for name in names], dtype=dtype)
    return data


def _edge_weight(data: Data) -> Tensor:
    weight = data.get("edge_weight")
    return torch.ones(data.num_edges, device=data.edge_index.device) if weight is None else weight


def _with_edges(data: Data, A: Tensor, adjacency: str | None) -> Data:
    data = from_dense(A, data)
    data.adjacency = adjacency
    return data


def _check_keypoints(data: Data, keypoints: tuple[str, ...], owner: str) -> None:
    if data.num_nodes != len(keypoints) or tuple(data.get("keypoints") or keypoints) != keypoints:
        raise GraphposeError(
            f"a graph of {data.num_nodes} keypoints does not fit {owner} with {len(keypoints)}; names and order must "
            "agree"
        )
