"""Keypoint graphs (Eq. 6–7) as torch_geometric ``Data``, as dense matrices and in networkx.

A keypoint graph is a ``Data`` object with

- ``num_nodes``: K; ``keypoints``: the K names; ``skeleton``: its name; ``adjacency``: which kind of graph it is;
- ``edge_index`` (2, E) sorted by source, then target, each pair at most once;
- ``edge_weight`` (E,) in [0, 1]: in a soft or dynamic graph the probability A_s of the edge, otherwise 1;
- ``pos`` (K, 2) where a layout was asked for: x right, y down, in units of the person's scale.

Convention: an edge leads from the keypoint j that gives (``edge_index[0]``) to the keypoint i that receives
(``edge_index[1]``); in a dense adjacency it is entry [i, j], and row i belongs to the keypoint that receives. A zero
entry is no edge.

:mod:`graphpose.graphs.transforms` changes such graphs.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.data import Data

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import adjacency_matrix
from graphpose.graphs.layout import multidimensional_scaling
from graphpose.graphs.statistics import PoseStatistics, shipped_statistics
from graphpose.skeleton import Skeleton

if TYPE_CHECKING:
    import networkx


def keypoint_graph(
    skeleton: Skeleton,
    adjacency: str,
    statistics: PoseStatistics | None = None,
    gamma: float = 0.5,
    *,
    layout: bool = False,
) -> Data:
    """The keypoint graph of a skeleton.

    Args:
        skeleton: gives the keypoints and the limbs.
        adjacency: ``identity``, ``hand_crafted``, ``full``, ``soft`` or ``dynamic``, see
            :func:`~graphpose.graphs.adjacency.adjacency_matrix`; a dynamic graph holds the probabilities A_s, from
            which :class:`~graphpose.graphs.transforms.SampleEdges` draws.
        statistics: M_d; by default the statistics shipped for this skeleton.
        gamma: γ of Eq. 6.
        layout: also give ``pos``, for those who draw the graph.

    Returns:
        The graph as the module's docstring describes it. Every self-loop is there with weight 1; in a soft or dynamic
        graph the weights that lead to one keypoint from the others sum to 1.

    Raises:
        GraphposeError: when the adjacency is unknown, there are no statistics for the skeleton where they are needed,
            or Eq. 6 is not defined by them.
    """
    A = adjacency_matrix(skeleton, adjacency, statistics, gamma).to(torch.get_default_dtype())
    nodes = keypoint_nodes(skeleton, (statistics or shipped_statistics(skeleton)) if layout else None)
    data = from_dense(A, nodes)
    data.adjacency = adjacency
    return data


def keypoint_nodes(skeleton: Skeleton, layout: PoseStatistics | None = None) -> Data:
    """A graph of the skeleton's keypoints without any edge: what transforms start from.

    Args:
        skeleton: gives the keypoints.
        layout: statistics that place them, by multidimensional scaling of M_d; None for a graph without ``pos``.

    Raises:
        GraphposeError: when the statistics are another skeleton's or leave a keypoint without place.
    """
    data = Data(edge_index=torch.zeros(2, 0, dtype=torch.long), edge_weight=torch.zeros(0))
    data.num_nodes = skeleton.num_keypoints
    data.keypoints = list(skeleton.keypoints)
    data.skeleton = skeleton.name
    data.adjacency = "none"
    if layout is not None:
        data.pos = torch.from_numpy(multidimensional_scaling(layout.require(skeleton))).to(torch.get_default_dtype())
    return data


def edge_weights(data: Data) -> Tensor:
    """The weight of every edge (E,); ones for a graph that has none of its own."""
    weight = data.get("edge_weight")
    return torch.ones(data.num_edges, device=data.edge_index.device) if weight is None else weight


def to_dense(data: Data) -> Tensor:
    """The (K, K) adjacency of one graph: entry [i, j] is the weight of the edge from j to i, 0 where there is none."""
    weight = edge_weights(data)
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
    weight, pos = edge_weights(data), data.get("pos")
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
