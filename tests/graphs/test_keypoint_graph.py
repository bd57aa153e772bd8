"""Keypoint graphs: the graphs of a skeleton, exact conversions, and life inside PyG."""

import dataclasses

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import DenseGCNConv, GCNConv
from torch_geometric.utils import to_dense_adj

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import ADJACENCIES, adjacency_matrix
from graphpose.graphs.keypoint_graph import (
    batch_graphs,
    from_dense,
    from_networkx,
    keypoint_graph,
    keypoint_nodes,
    to_dense,
    to_networkx,
)
from graphpose.graphs.layout import multidimensional_scaling
from graphpose.graphs.statistics import shipped_statistics
from graphpose.graphs.transforms import HandCraftedEdges, SoftEdges
from graphpose.skeleton import COCO, CROWDPOSE, MPII, SKELETONS, Skeleton
from tests.graphs.same_graph import assert_same_graph
from tests.new_process import modules_after

ALL = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)


@ALL
@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_graphs_carry_names_and_sorted_edges(skeleton, adjacency):
    data = keypoint_graph(skeleton, adjacency)
    assert data.validate()
    assert data.num_nodes == skeleton.num_keypoints
    assert data.keypoints == list(skeleton.keypoints)
    assert (data.skeleton, data.adjacency) == (skeleton.name, adjacency)
    assert "pos" not in data
    assert data.is_coalesced()
    assert data.edge_weight.shape == (data.num_edges,)
    assert torch.equal(to_dense(data).diagonal(), torch.ones(skeleton.num_keypoints))


@ALL
def test_identity_and_hand_crafted_graphs_are_the_skeleton(skeleton):
    K = skeleton.num_keypoints
    assert torch.equal(to_dense(keypoint_graph(skeleton, "identity")), torch.eye(K))
    A_h = to_dense(keypoint_graph(skeleton, "hand_crafted"))
    assert torch.equal(A_h, A_h.t())
    assert A_h.sum() == K + 2 * skeleton.num_limbs
    assert all(A_h[a, b] == 1 for a, b in skeleton.limbs)


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_relabelling_a_skeleton_relabels_its_graph(adjacency):
    order = torch.randperm(17).tolist()
    place = {k: n for n, k in enumerate(order)}
    skeleton = Skeleton(
        "relabelled",
        tuple(COCO.keypoints[k] for k in order),
        tuple((place[a], place[b]) for a, b in COCO.limbs),
        (0.1,) * 17,
    )
    shipped = shipped_statistics(COCO)
    changed = {
        name: getattr(shipped, name)[np.ix_(order, order)]
        for name in ("mean", "std", "count", "offset_mean", "offset_std")
    }
    statistics = dataclasses.replace(shipped, keypoints=skeleton.keypoints, **changed)
    original = keypoint_graph(COCO, adjacency, layout=True)
    relabelled = keypoint_graph(skeleton, adjacency, statistics, layout=True)
    torch.testing.assert_close(to_dense(relabelled), to_dense(original)[order][:, order])
    torch.testing.assert_close(relabelled.pos, original.pos[order], rtol=1e-5, atol=1e-5)


@ALL
@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_conversions_to_dense_and_networkx_and_back_are_exact(skeleton, adjacency):
    data = keypoint_graph(skeleton, adjacency, layout=True)
    assert_same_graph(from_dense(to_dense(data), data), data)
    assert_same_graph(from_networkx(to_networkx(data)), data)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=50, deadline=None)
def test_any_matrix_survives_the_round_trips(seed, K, dtype):
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(K, K, generator=generator, dtype=dtype) * (torch.rand(K, K, generator=generator) < 0.4)
    data = from_dense(A)
    assert torch.equal(to_dense(data), A)
    assert data.is_coalesced()
    assert torch.equal(to_dense(from_networkx(to_networkx(data))), A)
    # PyG's own dense form has rows that give.
    assert torch.equal(to_dense_adj(data.edge_index, edge_attr=data.edge_weight, max_num_nodes=K)[0], A.t())


@ALL
def test_a_layout_places_keypoints_by_multidimensional_scaling(skeleton, monkeypatch):
    expected = torch.from_numpy(multidimensional_scaling(shipped_statistics(skeleton))).float()
    assert torch.equal(keypoint_graph(skeleton, "identity", layout=True).pos, expected)
    monkeypatch.setattr("graphpose.graphs.keypoint_graph.multidimensional_scaling", None)
    assert "pos" not in keypoint_graph(skeleton, "soft")  # and it is computed for those who ask only


def test_rows_receive():
    data = from_dense(torch.tensor([[0.0, 0.7], [0.0, 0.0]]))
    assert data.edge_index.tolist() == [[1], [0]]
    graph = to_networkx(data)
    assert list(graph.edges(data="weight")) == [(1, 0, pytest.approx(0.7))]


@pytest.mark.parametrize("rows", ["receive", "give"])
def test_a_batch_is_dense_graph_by_graph_as_pyg_has_it_but_for_the_transpose(rows):
    graphs = [keypoint_graph(COCO, "soft"), keypoint_graph(CROWDPOSE, "soft"), keypoint_graph(MPII, "hand_crafted")]
    batch = batch_graphs(graphs)
    dense = to_dense(batch, rows=rows)
    assert dense.shape == (3, 17, 17)
    pyg = to_dense_adj(batch.edge_index, batch.batch, batch.edge_weight)
    assert torch.equal(dense, pyg if rows == "give" else pyg.mT)
    for A, graph in zip(dense, graphs, strict=True):
        K = graph.num_nodes
        assert torch.equal(A[:K, :K], to_dense(graph, rows=rows))
        assert A[K:].count_nonzero() == A[:, K:].count_nonzero() == 0
    with pytest.raises(GraphposeError, match="rows='send' must be 'receive' or 'give'"):
        to_dense(graphs[0], rows="send")


def test_networkx_graphs_speak_in_names():
    soft = keypoint_graph(COCO, "soft", layout=True)
    graph = to_networkx(soft)
    assert list(graph.nodes) == list(COCO.keypoints)
    # What the nose receives from its left eye; the soft graph is not symmetric.
    assert graph.edges["left_eye", "nose"]["weight"] == pytest.approx(0.47, abs=0.015)
    assert graph.nodes["nose"]["pos"] == pytest.approx(soft.pos[0].tolist())
    body = nx.Graph(to_networkx(keypoint_graph(COCO, "hand_crafted")))
    body.remove_edges_from(nx.selfloop_edges(body))
    assert nx.is_connected(body)
    assert nx.shortest_path_length(body, "left_wrist", "left_elbow") == 1


def test_an_undirected_networkx_graph_without_weights_leads_both_ways():
    data = from_networkx(nx.path_graph(["hip", "knee", "ankle"]))
    assert data.keypoints == ["hip", "knee", "ankle"]
    assert torch.equal(to_dense(data), torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_pyg_s_dense_and_sparse_layers_agree_on_our_graphs(adjacency):
    data = keypoint_graph(COCO, adjacency)
    sparse, dense = GCNConv(8, 5), DenseGCNConv(8, 5)
    dense.load_state_dict({"lin.weight": sparse.lin.weight, "bias": sparse.bias + 1})
    sparse.bias.data += 1
    x = torch.randn(17, 8)
    expected = dense(x, to_dense(data), add_loop=False)[0]
    torch.testing.assert_close(sparse(x, data.edge_index, data.edge_weight), expected)


def test_graphs_batch_move_and_take_subgraphs_like_any_pyg_data():
    graphs = [keypoint_graph(COCO, "soft"), keypoint_graph(MPII, "hand_crafted"), keypoint_graph(CROWDPOSE, "identity")]
    batch = next(iter(DataLoader(graphs, batch_size=3)))
    assert isinstance(batch, Batch)
    assert batch.num_nodes == 17 + 16 + 14
    assert batch.skeleton == ["coco", "mpii", "crowdpose"]
    for original, unpacked in zip(graphs, batch.to_data_list(), strict=True):
        assert_same_graph(original, unpacked)
    assert keypoint_graph(COCO, "soft").to("cpu").keypoints == list(COCO.keypoints)
    face = keypoint_graph(COCO, "soft").subgraph(torch.arange(5))
    assert face.keypoints == list(COCO.keypoints[:5])
    assert torch.equal(to_dense(face), to_dense(graphs[0])[:5, :5])
    with_features = keypoint_graph(COCO, "soft")
    with_features.x = torch.randn(17, 4)
    assert GCNConv(4, 2)(with_features.x, with_features.edge_index, with_features.edge_weight).shape == (17, 2)


def test_edges_that_soft_weights_cannot_hold_are_no_edges():
    # γ / M_d differs by more than float32's exponents reach: the weight is 0, and 0 is no edge.
    data = keypoint_graph(COCO, "soft", gamma=100.0)
    assert 17 < data.num_edges < 17 * 17
    assert (data.edge_weight > 0).all()
    torch.testing.assert_close(to_dense(data).sum(dim=1), torch.full((17,), 2.0))


def test_a_full_graph_has_every_edge_and_needs_no_statistics():
    skeleton = Skeleton("hand", ("wrist", "thumb", "index"), ((0, 1), (0, 2)), (0.1,) * 3)
    graph = keypoint_graph(skeleton, "full")
    assert torch.equal(to_dense(graph), torch.ones(3, 3))
    assert graph.adjacency == "full"


def test_a_skeleton_without_statistics_has_hand_crafted_graphs_only():
    skeleton = Skeleton("hand", ("wrist", "thumb", "index"), ((0, 1), (0, 2)), (0.1,) * 3)
    graph = keypoint_graph(skeleton, "hand_crafted")
    assert graph.num_edges == 3 + 4
    assert "pos" not in graph
    with pytest.raises(GraphposeError, match="no statistics are shipped for skeleton 'hand'"):
        keypoint_graph(skeleton, "hand_crafted", layout=True)
    assert from_networkx(to_networkx(graph)).keypoints == ["wrist", "thumb", "index"]
    for adjacency in ("soft", "dynamic"):
        with pytest.raises(GraphposeError, match="no statistics are shipped for skeleton 'hand'"):
            keypoint_graph(skeleton, adjacency)


def test_statistics_of_another_skeleton_are_refused():
    for adjacency in ("soft", "hand_crafted"):
        with pytest.raises(GraphposeError, match=r"statistics of skeleton 'mpii' .* do not fit skeleton 'coco'"):
            keypoint_graph(COCO, adjacency, shipped_statistics(MPII))
    with pytest.raises(GraphposeError, match="graph of 17 keypoints does not fit skeleton 'mpii' with 16"):
        HandCraftedEdges(MPII)(keypoint_nodes(COCO))
    with pytest.raises(GraphposeError, match="graph of 17 keypoints does not fit statistics of 'mpii' with 16"):
        SoftEdges(shipped_statistics(MPII))(keypoint_nodes(COCO))


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(GraphposeError, match=r"shape \(3, 4\) is no graph"):
        from_dense(torch.ones(3, 4))
    with pytest.raises(GraphposeError, match=r"shape \(3, 3\) is no graph over 17 keypoints"):
        from_dense(torch.ones(3, 3), keypoint_nodes(COCO))


@pytest.mark.parametrize("seed", range(4))
def test_nodes_that_are_numbers_are_the_keypoints_own_in_whatever_order_they_were_added(seed):
    A = adjacency_matrix(COCO, "hand_crafted").float()
    order = torch.randperm(17, generator=torch.Generator().manual_seed(seed)).tolist()
    graph = nx.Graph()
    graph.add_edges_from((a, b) for a in order for b in order if A[a, b])
    assert torch.equal(to_dense(from_networkx(graph)), A)
    numpy_nodes = nx.relabel_nodes(graph, {k: np.int64(k) for k in range(17)})
    assert torch.equal(to_dense(from_networkx(numpy_nodes)), A)


def test_nodes_that_are_names_stand_in_the_skeletons_order():
    A = adjacency_matrix(COCO, "hand_crafted").float()
    edges = [(COCO.keypoints[a], COCO.keypoints[b]) for a in range(17) for b in range(17) if A[a, b]]
    for graph in (nx.Graph(edges[::-1]), nx.Graph(edges[::-1], skeleton="coco")):
        assert torch.equal(to_dense(from_networkx(graph, COCO)), A)
    assert torch.equal(to_dense(from_networkx(graph)), A)  # the graph names its skeleton
    assert from_networkx(nx.path_graph(["c", "a", "b"])).keypoints == ["c", "a", "b"]  # there is nothing to go by


@pytest.mark.parametrize(
    ("graph", "options", "message"),
    [
        (nx.Graph([(1, 2)]), {}, r"numbers \[1, 2\]; 0 … 1 are needed"),
        (nx.Graph([(0, 1), (1, 3)]), {}, r"numbers \[0, 1, 3\]; 0 … 2 are needed"),
        (nx.Graph([(0, 1)]), {"skeleton": COCO}, "has 2 nodes, skeleton 'coco' 17 keypoints"),
        (nx.Graph([(0, "a")]), {}, "some of the graph's nodes are numbers and some are not"),
        (nx.Graph([("a", "b")]), {"skeleton": COCO}, "'a' is in one of both alone"),
        (nx.Graph([("a", "b", {"w": 0.5})]), {}, r"from 'a' to 'b' has no 'weight' but \['w'\]; a finite number"),
        (nx.Graph([("a", "b", {"probability": 1}), ("b", "c")]), {}, r"no 'weight' but \['probability'\]"),
        (nx.Graph([("a", "b", {"weight": 1}), ("b", "c")]), {}, r"from 'b' to 'c' has no 'weight' but \[\]"),
        (nx.Graph([("a", "b", {"weight": "1"})]), {}, "has weight '1'; a finite number is needed"),
        (nx.Graph([("a", "b", {"weight": float("nan")})]), {}, "has weight nan"),
        (nx.Graph([("a", "b", {"weight": True})]), {}, "has weight True"),
        (nx.MultiGraph([("a", "b"), ("a", "b")]), {}, "several edges between the same two nodes"),
        (nx.MultiDiGraph([("a", "b"), ("b", "a"), ("b", "a")]), {}, "several edges between the same two nodes"),
    ],
)
def test_a_networkx_graph_that_would_lose_something_is_refused(graph, options, message):
    with pytest.raises(GraphposeError, match=message):
        from_networkx(graph, **options)


def test_the_attribute_that_is_the_weight_can_be_named():
    graph = nx.DiGraph([("a", "b", {"w": 0.5, "colour": "red"}), ("b", "a", {"w": np.float32(2)})])
    assert to_dense(from_networkx(graph, weight="w")).tolist() == [[0, 2], [0.5, 0]]
    assert to_dense(from_networkx(nx.MultiGraph([("a", "b")]))).tolist() == [[0, 1], [1, 0]]


def test_node_features_and_labels_go_to_networkx_and_back():
    data = keypoint_graph(COCO, "soft", layout=True)
    data.x, data.y = torch.randn(17, 4), torch.arange(17)
    graph = to_networkx(data)
    assert graph.nodes["left_hip"]["y"] == 11
    assert graph.nodes["left_hip"]["x"] == tuple(data.x[11].tolist())
    back = from_networkx(graph)
    assert torch.equal(back.x, data.x)
    assert torch.equal(back.y, data.y)
    assert torch.equal(back.pos, data.pos)
    data.x, data.y = torch.randn(17), torch.tensor([1.0])  # one number a node; one label for the graph is no node's
    assert torch.equal(from_networkx(to_networkx(data)).x, data.x)
    assert "y" not in to_networkx(data).nodes["nose"]


def test_a_batch_is_no_one_graph_and_its_graphs_have_the_same_entries():
    graphs = [keypoint_graph(COCO, "soft", layout=True), keypoint_graph(MPII, "soft")]
    with pytest.raises(GraphposeError, match="graph 1 of the batch has no 'pos', which graph 0 has"):
        batch_graphs(graphs)
    with pytest.raises(GraphposeError, match="graph 0 of the batch has no 'pos', which graph 1 has"):
        batch_graphs(graphs[::-1])
    with pytest.raises(GraphposeError, match="a batch of no graphs"):
        batch_graphs([])
    batch = batch_graphs([keypoint_graph(COCO, "soft"), keypoint_graph(MPII, "soft")])
    assert batch.num_graphs == 2
    with pytest.raises(GraphposeError, match="a batch of 2 graphs is no one graph"):
        to_networkx(batch)


@pytest.mark.parametrize("skeleton", ["coco", None, 17])
def test_what_is_no_skeleton_is_named(skeleton):
    with pytest.raises(GraphposeError, match=r"a Skeleton is needed, as COCO or get_skeleton\('coco'\)"):
        keypoint_graph(skeleton, "hand_crafted")


def test_own_limbs_between_cocos_keypoints_have_cocos_distances():
    climber = dataclasses.replace(COCO, name="climber", limbs=((0, 1),))
    assert torch.equal(adjacency_matrix(climber, "soft"), adjacency_matrix(COCO, "soft"))


@pytest.mark.slow
def test_graphs_import_without_torch_scatter_and_without_drawing():
    loaded = modules_after(
        "import sys; sys.modules['torch_scatter'] = sys.modules['torch_sparse'] = None\n"
        "from graphpose.graphs.keypoint_graph import keypoint_graph\n"
        "from graphpose.graphs.transforms import SymmetricNormalization\n"
        "from graphpose.skeleton import COCO\n"
        "SymmetricNormalization()(keypoint_graph(COCO, 'dynamic'))"
    )
    assert not {"matplotlib", "sacred", "cv2"} & loaded
