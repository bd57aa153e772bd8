"""Transforms of keypoint graphs: they compose to the graphs of a skeleton and keep their invariants."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data
from torch_geometric.transforms import Compose

from graphpose.graphs.adjacency import ADJACENCIES, soft_adjacency
from graphpose.graphs.keypoint_graph import from_dense, keypoint_graph, keypoint_nodes, to_dense
from graphpose.graphs.statistics import shipped_statistics
from graphpose.graphs.transforms import (
    FullEdges,
    HandCraftedEdges,
    SampleEdges,
    SelfLoops,
    SoftEdges,
    SymmetricNormalization,
)
from graphpose.skeleton import COCO
from tests.graphs.same_graph import assert_same_graph


def _assert_averages_to(mean: torch.Tensor, probability: torch.Tensor, draws: int) -> None:
    off_diagonal = ~torch.eye(len(probability), dtype=torch.bool)
    standard_error = (probability * (1 - probability) / draws).sqrt()
    assert ((mean - probability).abs() <= 4 * standard_error)[off_diagonal].all()
    assert (mean.diagonal() == 1).all()


def test_draws_of_the_transform_average_to_the_soft_adjacency():
    graph, draws = keypoint_graph(COCO, "dynamic"), 3000
    sample = SampleEdges(torch.Generator().manual_seed(3))
    mean = sum(to_dense(sample(graph)).double() for _ in range(draws)) / draws
    _assert_averages_to(mean, soft_adjacency(shipped_statistics(COCO)), draws)


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


def test_full_edges_compose_to_the_full_graph():
    full = Compose([FullEdges(), SelfLoops()])(keypoint_nodes(COCO))
    assert_same_graph(full, keypoint_graph(COCO, "full"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_transforms_equal_their_dense_definitions_and_keep_sorting_and_dtype(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(17, 17, generator=generator, dtype=dtype) * (torch.rand(17, 17, generator=generator) < 0.3)
    graph, loops = from_dense(A, keypoint_nodes(COCO)), torch.eye(17, dtype=torch.bool)
    limbs = to_dense(keypoint_graph(COCO, "hand_crafted")).bool() & ~loops
    A_s = soft_adjacency(shipped_statistics(COCO)).to(dtype)
    for transform, expected in (
        (SelfLoops(), A.masked_fill(loops, 1)),
        (HandCraftedEdges(COCO), A.masked_fill(limbs, 1)),
        (FullEdges(), A.masked_fill(~loops, 1)),
        (SoftEdges(shipped_statistics(COCO)), torch.where(loops, A, A_s)),
    ):
        out = transform(graph)
        assert torch.equal(to_dense(out), expected)
        assert out.is_coalesced()
        assert out.edge_weight.dtype == dtype
    assert torch.equal(to_dense(graph), A)


def test_a_plain_pyg_graph_without_weights_or_names_takes_every_transform():
    plain = Data(edge_index=torch.tensor([[0, 3], [1, 3]]), num_nodes=17)
    out = Compose([HandCraftedEdges(COCO), SelfLoops()])(plain)
    A = to_dense(keypoint_graph(COCO, "hand_crafted"))
    A[1, 0] = 1
    assert torch.equal(to_dense(out), A)
