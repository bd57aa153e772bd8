"""Keypoint graphs: the laws of Eq. 6 and 7, exact conversions, and life inside PyG."""

import copy
import dataclasses
import math
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import DenseGCNConv, GCNConv
from torch_geometric.transforms import Compose
from torch_geometric.utils import to_dense_adj

from graphpose.errors import GraphposeError
from graphpose.graphs.keypoint_graph import (
    ADJACENCIES,
    HandCraftedEdges,
    SampleEdges,
    SelfLoops,
    SoftEdges,
    SymmetricNormalization,
    from_dense,
    from_networkx,
    keypoint_graph,
    keypoint_nodes,
    soft_adjacency,
    to_dense,
    to_networkx,
)
from graphpose.graphs.statistics import PoseStatistics, shipped_statistics
from graphpose.skeleton import COCO, CROWDPOSE, MPII, SKELETONS, Skeleton
from tests.graphs.same_graph import assert_same_graph

ALL = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)


def random_statistics(seed: int, K: int = 17, spread: float = 1.0) -> PoseStatistics:
    """Statistics with random symmetric positive distances."""
    rng = np.random.default_rng(seed)
    mean = np.exp(spread * rng.normal(size=(K, K)))
    mean = np.triu(mean, 1) + np.triu(mean, 1).T
    names = tuple(f"k{k}" for k in range(K))
    zeros = np.zeros((K, K, 2))
    return PoseStatistics("random", names, "sqrt_area", mean, 0 * mean, np.ones((K, K)), zeros, zeros)


@ALL
@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_graphs_carry_names_positions_and_sorted_edges(skeleton, adjacency):
    data = keypoint_graph(skeleton, adjacency)
    assert data.validate()
    assert data.num_nodes == skeleton.num_keypoints
    assert data.keypoints == list(skeleton.keypoints)
    assert (data.skeleton, data.adjacency) == (skeleton.name, adjacency)
    assert data.pos.shape == (skeleton.num_keypoints, 2)
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


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.integers(2, 30))
@settings(max_examples=50, deadline=None)
def test_rows_of_soft_adjacency_sum_to_one_off_the_diagonal(seed, gamma, K):
    A_s = soft_adjacency(random_statistics(seed, K), gamma)
    assert torch.equal(A_s.diagonal(), torch.ones(K, dtype=torch.float64))
    torch.testing.assert_close(A_s.sum(dim=1) - 1, torch.ones(K, dtype=torch.float64), rtol=0, atol=1e-12)
    assert A_s.min() >= 0


@ALL
def test_soft_adjacency_is_equation_6_written_out(skeleton):
    M_d, K = shipped_statistics(skeleton).mean, skeleton.num_keypoints
    expected = np.eye(K)
    for i in range(K):
        total = sum(math.exp(0.5 / M_d[i, j]) for j in range(K) if j != i)
        for j in range(K):
            if j != i:
                expected[i, j] = math.exp(0.5 / M_d[i, j]) / total
    np.testing.assert_allclose(soft_adjacency(shipped_statistics(skeleton)).numpy(), expected, rtol=1e-12)
    np.testing.assert_array_equal(to_dense(keypoint_graph(skeleton, "soft")).numpy(), expected.astype(np.float32))


def test_the_nose_relates_to_both_eyes_and_a_wrist_to_many():
    A_s = soft_adjacency(shipped_statistics(COCO))
    nose, wrist = A_s[COCO.index("nose")], A_s[COCO.index("left_wrist")]
    assert nose[1] == pytest.approx(0.47, abs=0.015)
    assert nose[2] == pytest.approx(0.47, abs=0.015)
    off_diagonal = wrist[torch.arange(17) != COCO.index("left_wrist")]
    assert off_diagonal.min() > 0.04
    assert off_diagonal.max() < 0.14


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10))
@settings(max_examples=30, deadline=None)
def test_nearer_keypoints_are_related_more_strongly(seed, gamma):
    statistics = random_statistics(seed, spread=0.5)
    A_s = soft_adjacency(statistics, gamma).numpy()
    for i in range(17):
        order = [j for j in np.argsort(statistics.mean[i]) if j != i]
        assert (np.diff(A_s[i, order]) <= 0).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_gamma_near_zero_gives_uniform_rows(seed):
    statistics = random_statistics(seed)
    off_diagonal = ~torch.eye(17, dtype=torch.bool)
    distance_from_uniform = [
        (soft_adjacency(statistics, gamma)[off_diagonal] - 1 / 16).abs().max() for gamma in (1e-1, 1e-4, 1e-9)
    ]
    assert distance_from_uniform[0] > distance_from_uniform[1] > distance_from_uniform[2]
    assert distance_from_uniform[2] < 1e-7


@given(st.integers(0, 2**32 - 1), st.permutations(range(17)))
@settings(max_examples=30, deadline=None)
def test_relabelling_keypoints_relabels_the_graph(seed, order):
    statistics = random_statistics(seed)
    relabelled = dataclasses.replace(
        statistics,
        keypoints=tuple(statistics.keypoints[k] for k in order),
        mean=statistics.mean[np.ix_(order, order)],
    )
    A_s = soft_adjacency(statistics)[order][:, order]
    torch.testing.assert_close(soft_adjacency(relabelled), A_s, rtol=1e-12, atol=0)


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
    original, relabelled = keypoint_graph(COCO, adjacency), keypoint_graph(skeleton, adjacency, statistics)
    torch.testing.assert_close(to_dense(relabelled), to_dense(original)[order][:, order])
    torch.testing.assert_close(relabelled.pos, original.pos[order], rtol=1e-5, atol=1e-5)


@ALL
def test_graph_of_mirrored_persons_is_the_flipped_graph(skeleton):
    flip = list(skeleton.flip)
    statistics = shipped_statistics(skeleton)
    mirrored = dataclasses.replace(statistics, mean=statistics.mean[np.ix_(flip, flip)])
    torch.testing.assert_close(soft_adjacency(mirrored), soft_adjacency(statistics)[flip][:, flip], rtol=1e-12, atol=0)
    A_h = to_dense(keypoint_graph(skeleton, "hand_crafted"))
    assert torch.equal(A_h[flip][:, flip], A_h)


@ALL
@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_conversions_to_dense_and_networkx_and_back_are_exact(skeleton, adjacency):
    data = keypoint_graph(skeleton, adjacency)
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


def test_rows_receive():
    data = from_dense(torch.tensor([[0.0, 0.7], [0.0, 0.0]]))
    assert data.edge_index.tolist() == [[1], [0]]
    graph = to_networkx(data)
    assert list(graph.edges(data="weight")) == [(1, 0, pytest.approx(0.7))]


def test_networkx_graphs_speak_in_names():
    graph = to_networkx(keypoint_graph(COCO, "soft"))
    assert list(graph.nodes) == list(COCO.keypoints)
    # What the nose receives from its left eye; the soft graph is not symmetric.
    assert graph.edges["left_eye", "nose"]["weight"] == pytest.approx(0.47, abs=0.015)
    assert graph.nodes["nose"]["pos"] == pytest.approx(keypoint_graph(COCO, "soft").pos[0].tolist())
    body = nx.Graph(to_networkx(keypoint_graph(COCO, "hand_crafted")))
    body.remove_edges_from(nx.selfloop_edges(body))
    assert nx.is_connected(body)
    assert nx.shortest_path_length(body, "left_wrist", "left_elbow") == 1


def test_an_undirected_networkx_graph_without_weights_leads_both_ways():
    data = from_networkx(nx.path_graph(["hip", "knee", "ankle"]))
    assert data.keypoints == ["hip", "knee", "ankle"]
    assert torch.equal(to_dense(data), torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))


def test_transforms_compose_to_the_graphs():
    statistics = shipped_statistics(COCO)
    nodes = keypoint_nodes(COCO)
    assert nodes.num_edges == 0
    before = copy.copy(nodes)
    assert_same_graph(SelfLoops()(nodes), keypoint_graph(COCO, "identity"))
    assert_same_graph(Compose([HandCraftedEdges(COCO), SelfLoops()])(nodes), keypoint_graph(COCO, "hand_crafted"))
    assert_same_graph(Compose([SelfLoops(), SoftEdges(statistics)])(nodes), keypoint_graph(COCO, "soft"))
    assert_same_graph(nodes, before)
    drawn = Compose([SoftEdges(statistics), SampleEdges(torch.Generator().manual_seed(0)), SelfLoops()])(nodes)
    assert drawn.adjacency == "dynamic"
    assert set(drawn.edge_weight.tolist()) == {1.0}
    assert repr(SoftEdges(statistics)) == "SoftEdges(coco, gamma=0.5)"
    assert repr(HandCraftedEdges(COCO)) == "HandCraftedEdges(coco)"


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_symmetric_normalization_is_d_to_the_minus_half_on_both_sides(adjacency):
    data = keypoint_graph(COCO, adjacency)
    A = to_dense(data)
    D = A.sum(dim=1)
    expected = D[:, None].rsqrt() * A * D[None].rsqrt()
    torch.testing.assert_close(to_dense(SymmetricNormalization()(data)), expected)


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


@pytest.mark.parametrize("gamma", [0.0, -0.5, math.nan, math.inf])
def test_gamma_that_is_not_positive_is_refused(gamma):
    with pytest.raises(GraphposeError, match=f"gamma is {gamma}"):
        keypoint_graph(COCO, "soft", gamma=gamma)


def test_an_unknown_adjacency_names_the_choices():
    with pytest.raises(GraphposeError, match="'dense'; choose one of identity, hand_crafted, full, soft, dynamic"):
        keypoint_graph(COCO, "dense")


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


@pytest.mark.parametrize(("value", "what"), [(math.nan, "never labelled together"), (0.0, "always at the same place")])
def test_pairs_without_a_usable_distance_are_named(value, what):
    statistics = shipped_statistics(COCO)
    mean = statistics.mean.copy()
    mean[5, 16] = mean[16, 5] = value
    with pytest.raises(GraphposeError, match=f"left_shoulder and right_ankle are {what}"):
        soft_adjacency(dataclasses.replace(statistics, mean=mean))


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(GraphposeError, match=r"shape \(3, 4\) is no graph"):
        from_dense(torch.ones(3, 4))
    with pytest.raises(GraphposeError, match=r"shape \(3, 3\) is no graph over 17 keypoints"):
        from_dense(torch.ones(3, 3), keypoint_nodes(COCO))


def test_graphs_import_without_torch_scatter_and_without_drawing():
    code = (
        "import sys; sys.modules['torch_scatter'] = sys.modules['torch_sparse'] = None\n"
        "import graphpose.graphs.keypoint_graph as g; from graphpose.skeleton import COCO\n"
        "g.SymmetricNormalization()(g.keypoint_graph(COCO, 'dynamic'))\n"
        "assert not {'matplotlib', 'sacred', 'cv2'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
