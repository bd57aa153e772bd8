"""Adjacencies that users bring: files, functions, matrices, PyG and networkx graphs.

Convention: row i belongs to the keypoint that receives, as in :mod:`graphpose.graphs.adjacency`; a graph's edges lead
from the keypoint that gives. Weights lie in [0, 1]. An adjacency without any self-loop gets one of weight 1 for every
keypoint, as all graphs of the paper have; one that has some is taken as it is.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphpose.checksum import file_sha256
from graphpose.data.matching import match_names
from graphpose.errors import GraphposeError
from graphpose.graphs.keypoint_graph import from_networkx, to_dense
from graphpose.graphs.own_code import import_named
from graphpose.graphs.statistics import PoseStatistics, has_shipped_statistics, shipped_statistics
from graphpose.skeleton import Skeleton

# What an .npz may call its matrix and the names of its keypoints.
MATRIX_KEYS, NAME_KEYS = ("adjacency", "matrix", "A"), ("keypoints", "names")


def custom_adjacency(name: str, skeleton: Skeleton, statistics: PoseStatistics | None = None) -> Tensor:
    """The adjacency of a file, or that a function makes.

    Args:
        name: a file, see :func:`read_adjacency`, or ``package.module:function``: called with the skeleton and the
            statistics, it returns what :func:`as_adjacency` takes.
        skeleton: whose keypoints they are.
        statistics: that the function gets; None hands over those shipped, or None where there are none.

    Returns:
        (K, K) float64 in [0, 1] on the CPU.

    Raises:
        GraphposeError: the file cannot be read, there is no such function, or it is no adjacency of these keypoints.
    """
    if ":" not in name:
        return read_adjacency(name, skeleton)
    if statistics is None and has_shipped_statistics(skeleton):
        statistics = shipped_statistics(skeleton)
    function = import_named(name, "adjacency")
    if not callable(function):
        raise GraphposeError(
            f"adjacency '{name}' is a {type(function).__name__}, no function of skeleton and statistics"
        )
    return as_adjacency(function(skeleton, statistics), skeleton, f"what {name} returns")


def adjacency_source(name: str, matrix: Tensor) -> dict[str, str]:
    """What a checkpoint says of where its graph is from: ``source``, and ``sha256`` of the file, or for a function of
    the float64 numbers of its matrix."""
    digest = hashlib.sha256(matrix.double().numpy().tobytes()).hexdigest() if ":" in name else file_sha256(name)
    return {"source": name, "sha256": digest}


def as_adjacency(graph: Any, skeleton: Skeleton, what: str = "the graph") -> Tensor:
    """An adjacency of a skeleton's keypoints.

    Args:
        graph: (K, K) numbers in the order of the skeleton; or a PyG ``Data`` or networkx graph of K nodes, which have
            the keypoints' names (``keypoints`` of a ``Data``, else that order) or the numbers 0 … K − 1.
        skeleton: whose keypoints they are. Names are matched as those of data sets are.
        what: it is, for messages.

    Returns:
        (K, K) float64 in [0, 1] on the CPU.

    Raises:
        GraphposeError: other nodes, another size, or a weight outside of [0, 1]; names them.
    """
    names: Sequence[str] | None = None
    if isinstance(graph, Data):
        if hasattr(graph, "ptr"):
            raise GraphposeError(f"{what} is a batch of graphs; one is needed")
        matrix, names = to_dense(graph).detach().cpu().double(), graph.get("keypoints")
    elif hasattr(graph, "nodes") and hasattr(graph, "edges"):
        matrix, names = _of_networkx(graph, what)
    else:
        try:
            matrix = torch.as_tensor(graph).detach().cpu().double()
        except (TypeError, ValueError, RuntimeError) as error:
            raise GraphposeError(f"{what} is a {type(graph).__name__} and no adjacency: {error}") from error
    return _checked(matrix, names, names, skeleton, what)


def read_adjacency(path: str | Path, skeleton: Skeleton) -> Tensor:
    """The adjacency of a file, as :func:`as_adjacency` gives it.

    Args:
        path: a matrix: .npy; .npz, with the names of its keypoints under "keypoints" where they stand in another order;
            .csv, with names as its first row (who gives) and column (who receives) or without any. Or a graph that
            networkx wrote: .graphml, .json (node-link), .adjlist; nodes are named by their ids, or by ``label`` or
            ``name`` where all have it.
        skeleton: whose keypoints they are.

    Raises:
        GraphposeError: the file is missing, cannot be read or has another ending; or see there.
    """
    path = Path(path)
    if path.suffix not in _READERS:
        raise GraphposeError(f"adjacency file '{path}' must end in one of {', '.join(_READERS)}")
    if not path.is_file():
        raise GraphposeError(f"adjacency file '{path}' does not exist")
    try:
        matrix, rows, columns = _READERS[path.suffix](path)
    except GraphposeError:
        raise
    except Exception as error:  # what numpy, json, XML and networkx raise has no common class
        raise GraphposeError(f"adjacency file '{path}' cannot be read: {type(error).__name__}: {error}") from error
    return _checked(matrix, rows, columns, skeleton, f"adjacency file '{path}'")


Read = tuple[Tensor, "Sequence[str] | None", "Sequence[str] | None"]  # matrix, names of rows and of columns


def _read_npy(path: Path) -> Read:
    return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float64)), None, None


def _read_npz(path: Path) -> Read:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    known = [name for name in MATRIX_KEYS if name in arrays] or [n for n, array in arrays.items() if array.ndim == 2]
    if len(known) != 1:
        raise GraphposeError(
            f"adjacency file '{path}' has the arrays {', '.join(arrays)}; one matrix is needed, or one named "
            f"{' or '.join(MATRIX_KEYS)}"
        )
    names = next((arrays[name].astype(str).tolist() for name in NAME_KEYS if name in arrays), None)
    return torch.from_numpy(arrays[known[0]].astype(np.float64)), names, names


def _read_csv(path: Path) -> Read:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    if not table or _is_number(table[0][0]):
        return torch.tensor([[float(cell) for cell in row] for row in table], dtype=torch.float64), None, None
    columns, rows = table[0][1:], [row[0] for row in table[1:]]
    numbers = [[float(cell) for cell in row[1:]] for row in table[1:]]
    return torch.tensor(numbers, dtype=torch.float64), rows, columns


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_graphml(path: Path) -> Read:
    import networkx as nx

    return _named(nx.read_graphml(path), path)


def _read_node_link(path: Path) -> Read:
    import networkx as nx

    content = json.loads(path.read_text(encoding="utf-8"))
    return _named(nx.node_link_graph(content, edges="links" if "links" in content else "edges"), path)


def _read_adjlist(path: Path) -> Read:
    import networkx as nx

    return _named(nx.read_adjlist(path), path)


def _named(graph: Any, path: Path) -> Read:
    matrix, names = _of_networkx(graph, f"adjacency file '{path}'")
    return matrix, names, names


_READERS: dict[str, Callable[[Path], Read]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".graphml": _read_graphml,
    ".json": _read_node_link,
    ".adjlist": _read_adjlist,
}


def _of_networkx(graph: Any, what: str) -> tuple[Tensor, Sequence[str] | None]:
    """Matrix and names of a networkx graph; None for nodes that are the numbers 0 … K − 1, in their order."""
    import networkx as nx

    for key in ("label", "name"):
        labels = nx.get_node_attributes(graph, key)
        if len(labels) == len(graph) and all(isinstance(label, str) for label in labels.values()):
            graph = nx.relabel_nodes(graph, labels)
            break
    if all(isinstance(node, str) and node.isdecimal() for node in graph):  # as files have numbers
        graph = nx.relabel_nodes(graph, {node: int(node) for node in graph})
    graph = graph.copy()
    graph.graph = {"dtype": "float64"}  # the skeleton that it names is not needed, and may be another
    try:
        data = from_networkx(graph)
    except GraphposeError as error:
        raise GraphposeError(f"{what}: {error}") from None
    return to_dense(data), data.get("keypoints")


def _checked(
    matrix: Tensor, rows: Sequence[str] | None, columns: Sequence[str] | None, skeleton: Skeleton, what: str
) -> Tensor:
    """The matrix in the order of the skeleton, once it is an adjacency of it."""
    K = skeleton.num_keypoints
    if rows is not None and columns is not None:
        if matrix.shape != (len(rows), len(columns)):
            raise GraphposeError(f"{what} has {len(rows)} × {len(columns)} names for {tuple(matrix.shape)} numbers")
        matrix = matrix[_places(rows, skeleton, what)][:, _places(columns, skeleton, what)]
    if matrix.shape != (K, K):
        raise GraphposeError(
            f"{what} is {' × '.join(map(str, matrix.shape))}; skeleton '{skeleton.name}' needs {K} × {K}"
        )
    for i, j in torch.nonzero(~((matrix >= 0) & (matrix <= 1)))[:1].tolist():
        raise GraphposeError(
            f"{what}: the edge from {skeleton.keypoints[j]} to {skeleton.keypoints[i]} has weight "
            f"{matrix[i, j].item():g}; weights lie in [0, 1]"
        )
    return matrix if bool(matrix.diagonal().any()) else matrix.clone().fill_diagonal_(1)


def _places(names: Sequence[str], skeleton: Skeleton, what: str) -> list[int]:
    """Where each keypoint of the skeleton stands among names; GraphposeError for names that are not its keypoints'."""
    found = match_names(names, skeleton.keypoints, what, f"skeleton '{skeleton.name}'")
    missing = [keypoint for keypoint, place in zip(skeleton.keypoints, found, strict=True) if place < 0]
    odd = [str(name) for place, name in enumerate(names) if place not in found]
    if missing or odd:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has {', '.join(odd)}, which it does not have"] if odd else []
        raise GraphposeError(f"{what} does not match skeleton '{skeleton.name}': it {' and '.join(parts)}")
    return found
