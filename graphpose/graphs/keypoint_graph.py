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
import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import to_dense_adj

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import adjacency_matrix
from graphpose.graphs.layout import multidimensional_scaling
from graphpose.graphs.statistics import PoseStatistics, shipped_statistics
from graphpose.skeleton import SKELETONS, Skeleton

if TYPE_CHECKING:
    import networkx

NODE_ENTRIES = ("pos", "x", "y")  # what PyG keeps for every node


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
    if not isinstance(skeleton, Skeleton):
        raise GraphposeError(f"skeleton {skeleton!r} is a {type(skeleton).__name__}; a Skeleton is needed, as COCO or "
                             f"get_skeleton('coco')")  # fmt: skip
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


def to_dense(data: Data, *, rows: Literal["receive", "give"] = "receive") -> Tensor:
    """The transpose of PyG's ``to_dense_adj``: entry [i, j] is the weight of the edge from j to i, so rows receive.

    That is how this package, and PyG's dense layers, which multiply it with the nodes, read an adjacency.

    Args:
        data: one graph, or a PyG ``Batch`` of several.
        rows: "give" has entry [i, j] for the edge from i to j, as ``to_dense_adj`` itself.

    Returns:
        (K, K); of a batch (B, N, N), N the most nodes of a graph in it. 0 where there is no edge.

    Raises:
        GraphposeError: ``rows`` is something else.
    """
    if rows not in ("receive", "give"):
        raise GraphposeError(f"rows={rows!r} must be 'receive' or 'give'")
    weight = edge_weights(data)
    if isinstance(data, Batch):
        A = to_dense_adj(data.edge_index, data.batch, weight, batch_size=data.num_graphs)  # rows give
        return A.mT if rows == "receive" else A
    source, target = data.edge_index
    A = weight.new_zeros(data.num_nodes, data.num_nodes)
    A[target, source] = weight
    return A if rows == "receive" else A.t()


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


def batch_graphs(graphs: Sequence[Data]) -> Batch:
    """The graphs as one PyG batch.

    Raises:
        GraphposeError: there is none, or they do not all have the same entries (as ``pos`` of a layout).
    """
    if not graphs:
        raise GraphposeError("a batch of no graphs was asked for; at least one is needed")
    keys = [set(data.keys()) for data in graphs]
    for n, own in enumerate(keys):
        if own != keys[0]:
            lacking, where = (keys[0] - own, n) if keys[0] - own else (own - keys[0], 0)
            raise GraphposeError(
                f"graph {where} of the batch has no '{min(lacking)}', which graph {0 if where else n} has; give all of "
                f"them the same entries (layout=True for all or for none)"
            )
    return Batch.from_data_list(list(graphs))


def to_networkx(data: Data) -> networkx.DiGraph:
    """The same graph in networkx.

    Nodes are keypoint names with the entries of a node (``pos``, ``x``, ``y`` where they are per node), edges lead from
    j to i with ``weight``.

    Raises:
        GraphposeError: several graphs in a batch.
    """
    import networkx as nx

    if isinstance(data, Batch):
        raise GraphposeError(f"a batch of {data.num_graphs} graphs is no one graph; convert each of its to_data_list()")
    names = data.get("keypoints") or list(range(data.num_nodes))
    weight = edge_weights(data)
    dtype = str(weight.dtype).removeprefix("torch.")
    graph = nx.DiGraph(skeleton=data.get("skeleton"), adjacency=data.get("adjacency"), dtype=dtype)
    entries = {key: data[key].tolist() for key in NODE_ENTRIES if _is_per_node(data, key)}
    for i, name in enumerate(names):
        values = {key: tuple(value[i]) if isinstance(value[i], list) else value[i] for key, value in entries.items()}
        graph.add_node(name, **values)
    for source, target, value in zip(*data.edge_index.tolist(), weight.tolist(), strict=True):
        graph.add_edge(names[source], names[target], weight=value)
    return graph


def from_networkx(graph: networkx.Graph, skeleton: Skeleton | None = None, *, weight: str = "weight") -> Data:
    """Inverse of :func:`to_networkx`; undirected edges lead both ways.

    Args:
        graph: nodes are keypoint names, or the numbers 0 … K − 1. Names stand in the order of the skeleton; of a graph
            that names no built-in one, in the order in which they were added. Numbers are the keypoints' own.
        skeleton: whose keypoints the nodes are; None takes the built-in one that the graph names.
        weight: the edges' attribute that is their weight; edges without any attribute have weight 1.

    Raises:
        GraphposeError: other nodes than these, an edge that has attributes but not this one or a weight that is no
            finite number, or several edges between the same two nodes in one direction.
    """
    names = _ordered(list(graph.nodes), skeleton or SKELETONS.get(str(graph.graph.get("skeleton"))), skeleton is None)
    index = {name: i for i, name in enumerate(names)}
    dtype = getattr(torch, graph.graph.get("dtype", "float32"))
    A = torch.zeros(len(names), len(names), dtype=dtype)
    edges = list(graph.to_directed().edges(data=True))
    if len({(source, target) for source, target, _ in edges}) < len(edges):
        raise GraphposeError("the graph has several edges between the same two nodes; one with a weight is needed")
    weighted = any(attributes for _, _, attributes in edges)
    for source, target, attributes in edges:
        value = attributes.get(weight) if weighted else 1.0
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            found = f"has {weight} {value!r}" if weight in attributes else f"has no '{weight}' but {sorted(attributes)}"
            raise GraphposeError(
                f"the edge from {source!r} to {target!r} {found}; a finite number is needed (weight= names another "
                f"attribute)"
            )
        A[index[target], index[source]] = float(value)
    data = from_dense(A)
    if not all(isinstance(name, int) for name in names):
        data.keypoints = names
    for key in ("skeleton", "adjacency"):
        if graph.graph.get(key) is not None:
            data[key] = graph.graph[key]
    for key in NODE_ENTRIES:
        values = [graph.nodes[name].get(key) for name in names]
        if names and all(value is not None for value in values):
            data[key] = torch.tensor(values) if key == "y" else torch.tensor(values, dtype=dtype)
    return data


def _is_per_node(data: Data, key: str) -> bool:
    value = data.get(key)
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == data.num_nodes


def _ordered(nodes: list[Any], skeleton: Skeleton | None, by_graph: bool) -> list[Any]:
    """The nodes in the order of the keypoints that they are."""
    numbers = [isinstance(node, Integral) and not isinstance(node, bool) for node in nodes]
    if nodes and all(numbers):
        if sorted(nodes) != list(range(len(nodes))):
            raise GraphposeError(f"the graph's nodes are the numbers {sorted(nodes)}; 0 … {len(nodes) - 1} are needed")
        if skeleton is not None and skeleton.num_keypoints != len(nodes):
            raise GraphposeError(f"the graph has {len(nodes)} nodes, skeleton '{skeleton.name}' "
                                 f"{skeleton.num_keypoints} keypoints")  # fmt: skip
        return [int(node) for node in sorted(nodes)]
    if any(numbers):
        raise GraphposeError("some of the graph's nodes are numbers and some are not; names or numbers are needed")
    if skeleton is None or set(nodes) == set(skeleton.keypoints):
        return nodes if skeleton is None else list(skeleton.keypoints)
    if by_graph:
        return nodes
    odd = set(nodes) ^ set(skeleton.keypoints)
    raise GraphposeError(f"the graph's nodes are not the keypoints of skeleton '{skeleton.name}'; "
                         f"{min(map(str, odd))!r} is in one of both alone")  # fmt: skip
