"""Draws of dynamic graphs (Eq. 7)."""

import math

import numpy as np
import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.graphs.keypoint_graph import (
    GraphPool,
    SampleEdges,
    keypoint_graph,
    sample_adjacency,
    soft_adjacency,
    to_dense,
)
from graphpose.graphs.statistics import shipped_statistics
from graphpose.skeleton import COCO, MPII, SKELETONS
from tests.graphs.same_graph import assert_same_graph

ALL = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)


def _assert_averages_to(mean: torch.Tensor, probability: torch.Tensor, draws: int) -> None:
    off_diagonal = ~torch.eye(len(probability), dtype=torch.bool)
    standard_error = (probability * (1 - probability) / draws).sqrt()
    assert ((mean - probability).abs() <= 4 * standard_error)[off_diagonal].all()
    assert (mean.diagonal() == 1).all()


@ALL
def test_a_hundred_thousand_draws_average_to_the_soft_adjacency(skeleton):
    A_s = soft_adjacency(shipped_statistics(skeleton))
    generator = torch.Generator().manual_seed(7)
    A_d = sample_adjacency(A_s.float(), 100_000, generator)
    assert ((A_d == 0) | (A_d == 1)).all()
    _assert_averages_to(A_d.sum(dim=0).double() / 100_000, A_s, 100_000)


def test_draws_of_the_transform_average_to_the_soft_adjacency():
    graph, draws = keypoint_graph(COCO, "dynamic"), 3000
    sample = SampleEdges(torch.Generator().manual_seed(3))
    mean = sum(to_dense(sample(graph)).double() for _ in range(draws)) / draws
    _assert_averages_to(mean, soft_adjacency(shipped_statistics(COCO)), draws)


def test_draws_of_one_batch_differ_and_are_independent():
    A_s = to_dense(keypoint_graph(COCO, "dynamic"))
    A_d = sample_adjacency(A_s, 4000, torch.Generator().manual_seed(1))
    assert len({graph.numpy().tobytes() for graph in A_d[:100]}) == 100
    # The two eyes' edges to the nose, and one edge in successive graphs, are uncorrelated.
    for a, b in ((A_d[:, 0, 1], A_d[:, 0, 2]), (A_d[:-1, 0, 1], A_d[1:, 0, 1])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(4000)


@pytest.mark.parametrize("batch", [None, 5])
def test_the_same_generator_seed_gives_the_same_graphs(batch):
    graph = keypoint_graph(MPII, "dynamic")
    A_s = to_dense(graph)
    first, second, other = (sample_adjacency(A_s, batch, torch.Generator().manual_seed(seed)) for seed in (11, 11, 12))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (16, 16) if batch is None else (5, 16, 16)
    a, b = (SampleEdges(torch.Generator().manual_seed(11))(graph) for _ in range(2))
    assert_same_graph(a, b)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_sampling_keeps_dtype_and_certain_edges(dtype):
    probability = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 1]], dtype=dtype)
    A_d = sample_adjacency(probability, 500)
    assert A_d.dtype == dtype
    assert torch.equal(A_d, probability.expand(500, 3, 3))


def test_sampling_sets_the_diagonal_whatever_the_probability():
    assert torch.equal(sample_adjacency(torch.zeros(4, 4)), torch.eye(4))
    assert torch.equal(sample_adjacency(torch.zeros(4, 4), 0), torch.zeros(0, 4, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_sampling_on_cuda_does_not_wait_for_the_device():
    A_s = to_dense(keypoint_graph(COCO, "dynamic")).cuda()
    pool = GraphPool(A_s, 4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        A_d = sample_adjacency(A_s, 8, torch.Generator("cuda").manual_seed(0))
        picked = pool(8)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert A_d.is_cuda
    assert picked.is_cuda


def test_a_pool_gives_only_its_own_graphs_and_all_of_them():
    A_s = to_dense(keypoint_graph(COCO, "dynamic"))
    pool = GraphPool(A_s, 6, torch.Generator().manual_seed(2))
    picked = pool(300, torch.Generator().manual_seed(4))
    which = (picked[:, None] == pool.graphs[None]).all(dim=(2, 3))  # (300, 6)
    assert (which.sum(dim=1) == 1).all()
    assert (which.sum(dim=0) > 20).all()
    assert pool().shape == (17, 17)
    again = GraphPool(A_s, 6)
    again.load_state_dict(pool.state_dict())
    assert torch.equal(again(5, torch.Generator().manual_seed(4)), pool(5, torch.Generator().manual_seed(4)))
    with pytest.raises(GraphposeError, match="graph_pool must be at least 1"):
        GraphPool(A_s, 0)
