"""Adjacencies that users bring: every format gives the same matrix, names are matched, what does not fit is named."""

import hashlib
import json
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch

from graphpose.checkpoint import load_checkpoint, load_network, save_checkpoint
from graphpose.errors import GraphposeError
from graphpose.graphs.custom_adjacency import as_adjacency, custom_adjacency, read_adjacency
from graphpose.graphs.keypoint_graph import batch_graphs, from_dense, keypoint_graph, to_networkx
from graphpose.graphs.statistics import shipped_statistics
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.keypoint_graph import KeypointGraph
from graphpose.nn.network import PoseNetwork
from graphpose.packed import pack
from graphpose.skeleton import COCO, CROWDPOSE, Skeleton

FOX = Skeleton("fox", ("nose", "left_eye", "right_eye"), ((0, 1), (0, 2)), (0.1,) * 3)
A = torch.tensor([[1.0, 0.5, 0.0], [0.25, 1.0, 0.0], [0.0, 0.75, 1.0]], dtype=torch.float64)
NAMES = ("Nose", "LEye", "r_eye")  # as other sets write them
ORDER = [2, 0, 1]


def graph() -> nx.DiGraph:
    """A, its nodes in another order and under other names."""
    built = nx.DiGraph()
    built.add_nodes_from(NAMES[k] for k in ORDER)
    for i, j in A.nonzero().tolist():
        built.add_edge(NAMES[j], NAMES[i], weight=A[i, j].item())
    return built


def write(path: Path) -> Path:
    shuffled, names = A[ORDER][:, ORDER].numpy(), [NAMES[k] for k in ORDER]
    if path.suffix == ".npy":
        np.save(path, A.numpy())
    elif path.suffix == ".npz":
        np.savez(path, adjacency=shuffled, keypoints=np.array(names))
    elif path.suffix == ".csv" and "plain" in path.name:
        path.write_text("\n".join(",".join(map(str, row)) for row in A.tolist()))
    elif path.suffix == ".csv":
        rows = [",".join([name, *map(str, row)]) for name, row in zip(names, shuffled.tolist(), strict=True)]
        path.write_text("\n".join([",".join(["to/from", *names]), *rows]))
    elif path.suffix == ".graphml":
        numbered = nx.convert_node_labels_to_integers(graph(), label_attribute="label")
        nx.write_graphml(numbered, path)
    else:
        path.write_text(json.dumps(nx.node_link_data(graph(), edges="links" if "old" in path.name else "edges")))
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "plain.csv", "a.graphml", "a.json", "old.json"])
def test_every_file_gives_the_same_matrix(tmp_path, name):
    found = read_adjacency(write(tmp_path / name), FOX)
    assert found.dtype == torch.float64
    assert torch.equal(found, A)


def test_rows_and_columns_of_a_table_are_matched_each_by_its_names(tmp_path):
    rows = [f"{name},{','.join(map(str, row))}" for name, row in zip(NAMES, A[:, ORDER].tolist(), strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([",".join(["", *(NAMES[k] for k in ORDER)]), *rows]))
    assert torch.equal(read_adjacency(tmp_path / "a.csv", FOX), A)


def test_an_adjacency_list_has_edges_of_weight_one_both_ways_and_gets_self_loops(tmp_path):
    (tmp_path / "a.adjlist").write_text("# what networkx writes\nnose left_eye right_eye\n")
    expected = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 0, 1]], dtype=torch.float64)
    assert torch.equal(read_adjacency(tmp_path / "a.adjlist", FOX), expected)
    (tmp_path / "a.adjlist").write_text("0 1 2\n")  # numbers are the keypoints' own
    assert torch.equal(read_adjacency(tmp_path / "a.adjlist", FOX), expected)


@pytest.mark.parametrize("adjacency", ["hand_crafted", "soft"])
def test_graphs_of_pyg_and_of_networkx_give_their_matrix_back(adjacency):
    data = keypoint_graph(COCO, adjacency)
    expected = torch.zeros(17, 17, dtype=torch.float64)
    expected[data.edge_index[1], data.edge_index[0]] = data.edge_weight.double()
    assert torch.equal(as_adjacency(data, COCO), expected)
    assert torch.equal(as_adjacency(to_networkx(data), COCO), expected)
    subset = data.subgraph(torch.arange(16, -1, -1))  # subgraph keeps the nodes' order
    assert torch.equal(as_adjacency(subset, COCO), expected)
    del data.keypoints
    assert torch.equal(as_adjacency(data, COCO), expected)


def test_self_loops_are_added_where_there_are_none_and_kept_where_there_are():
    assert torch.equal(as_adjacency(torch.zeros(3, 3), FOX), torch.eye(3, dtype=torch.float64))
    own = torch.tensor([[0.5, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert torch.equal(as_adjacency(own, FOX), own.double())


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (np.ones((2, 3)), r"the graph is 2 × 3; skeleton 'fox' needs 3 × 3"),
        (np.ones(3), r"the graph is 3; skeleton 'fox' needs 3 × 3"),
        ([[1, 0, 2], [0, 1, 0], [0, 0, 1]], "the edge from right_eye to nose has weight 2; weights lie in"),
        (np.diag([1, np.nan, 1]), "the edge from left_eye to left_eye has weight nan"),
        ("soft", "the graph is a str and no adjacency"),
        (nx.Graph([("nose", "left_eye"), ("nose", "tail")]), "it lacks right_eye and has tail, which it does not have"),
        (nx.Graph([("nose", "left_eye"), ("nose", "leye"), ("nose", "reye")]), "it has leye, which it does not have"),
        (
            nx.Graph([("nose", "LEye"), ("nose", "leye")]),
            "the graph: 'LEye' and 'leye' both mean 'left_eye' of skeleton",
        ),
        (nx.Graph([(0, 1)]), r"the graph is 2 × 2; skeleton 'fox' needs 3 × 3"),
        (nx.MultiGraph([("nose", "left_eye"), ("nose", "left_eye")]), "the graph: the graph has several edges"),
        (batch_graphs([from_dense(torch.eye(3))] * 2), "the graph is a batch of graphs; one is needed"),
    ],
)
def test_what_is_no_adjacency_of_these_keypoints_is_named(graph, message):
    with pytest.raises(GraphposeError, match=message):
        as_adjacency(graph, FOX)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"a.txt' must end in one of .npy, .npz, .csv, .graphml, .json, .adjlist"),
        ("missing.npy", None, r"missing.npy' does not exist"),
        ("a.npy", b"no array", r"a.npy' cannot be read: \w+"),
        ("a.csv", b"1,2,x\n", r"a.csv' cannot be read: ValueError: could not convert string to float: 'x'"),
        (
            "a.csv",
            b",nose,left_eye\nnose,1,0\nleft_eye,0,1\n",
            r"a.csv' does not match skeleton 'fox': it lacks right_eye",
        ),
        ("a.csv", b"1,0\n0\n", r"a.csv' cannot be read"),
        ("a.graphml", b"<graphml", r"a.graphml' cannot be read: ParseError"),
        ("a.json", b"{}", r"a.json' cannot be read: KeyError"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(GraphposeError, match=message):
        read_adjacency(tmp_path / name, FOX)


def test_an_archive_with_two_matrices_says_which_is_meant(tmp_path):
    np.savez(tmp_path / "a.npz", first=A.numpy(), second=A.numpy())
    with pytest.raises(
        GraphposeError, match="has the arrays first, second; one matrix is needed, or one named adjacency"
    ):
        read_adjacency(tmp_path / "a.npz", FOX)
    np.savez(tmp_path / "a.npz", first=0 * A.numpy(), A=A.numpy())
    assert torch.equal(read_adjacency(tmp_path / "a.npz", FOX), A)


def test_a_function_gets_skeleton_and_statistics():
    fox = custom_adjacency("tests.nn.own_layers:function", FOX)  # nobody has statistics of it
    assert fox[0].tolist() == [0.25] * 3
    assert custom_adjacency("tests.nn.own_layers:function", COCO)[0, 1] == 0.5
    assert custom_adjacency("tests.nn.own_layers:function", FOX, shipped_statistics(COCO))[0, 1] == 0.5
    with pytest.raises(GraphposeError, match=r"adjacency 'tests.nn.own_layers:NOT_A_LAYER' is a int, no func"):
        custom_adjacency("tests.nn.own_layers:NOT_A_LAYER", FOX)
    with pytest.raises(GraphposeError, match="adjacency 'nowhere:function' cannot be imported"):
        custom_adjacency("nowhere:function", FOX)


def test_the_matrix_and_its_file_s_checksum_travel_and_the_file_is_needed_no_more(tmp_path, monkeypatch):
    path = write(tmp_path / "graph.csv")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    config = PoseNetworkConfig(skeleton=FOX, backbone="test_resnet", stem_pool=True, adjacency=str(path))
    network = PoseNetwork(config)
    save_checkpoint(tmp_path / "c.pt", network, network.config)
    pack(tmp_path / "c.safetensors", network, decoder={}, usage={})
    path.unlink()
    for file in (tmp_path / "c.pt", tmp_path / "c.safetensors"):
        loaded = load_network(file)
        assert torch.equal(loaded.keypoint_graph.matrix, A.float())
        assert loaded.graph_source == {"source": str(path), "sha256": digest}
    with pytest.raises(GraphposeError, match=rf"adjacency '{path}' with skeleton 'fox': .* does not exist"):
        PoseNetwork(config)


def test_a_checkpoint_of_a_function_s_graph_does_not_import_it(tmp_path, monkeypatch):
    (tmp_path / "my_graphs.py").write_text(
        "def mine(skeleton, statistics): return [[1.0] * skeleton.num_keypoints] * 3\n"
    )
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        network = PoseNetwork(
            PoseNetworkConfig(skeleton=FOX, backbone="test_resnet", stem_pool=True, adjacency="my_graphs:mine")
        )
        save_checkpoint(tmp_path / "c.pt", network, network.config)
        del sys.modules["my_graphs"]
        load_network(tmp_path / "c.pt")
        assert "my_graphs" not in sys.modules
    digest = hashlib.sha256(np.ones((3, 3)).tobytes()).hexdigest()
    assert load_checkpoint(tmp_path / "c.pt")["graph"] == {"source": "my_graphs:mine", "sha256": digest}


def test_weights_are_probabilities_where_the_graph_is_drawn():
    def built(**settings):
        return KeypointGraph(A.float(), PoseNetworkConfig(skeleton=FOX, adjacency="mine.csv", **settings))

    assert torch.equal(built()(1), A.float())
    drawn = built(sample=True, per_sample=True)(4000)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), A.float(), atol=0.04, rtol=0)
    # an edge that is never drawn is not there in evaluation, either
    assert torch.equal(built(sample=True).eval()(1), (A > 0).float())
    assert torch.equal(built(sample=True, evaluation_graph="expectation").eval()(1), A.float())


def test_a_graph_of_another_skeleton_is_refused_when_a_network_is_made(tmp_path):
    path = write(tmp_path / "graph.csv")
    with pytest.raises(GraphposeError, match=r"does not match skeleton 'crowdpose': it lacks left_shoulder, .*Nose"):
        PoseNetwork(PoseNetworkConfig(skeleton=CROWDPOSE, backbone="test_resnet", stem_pool=True, adjacency=str(path)))
