"""Dense adjacencies: the laws of Eq. 6, and draws of dynamic graphs (Eq. 7)."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import ADJACENCIES, adjacency_matrix, draw_edges, sample_adjacency, soft_adjacency
from graphpose.graphs.keypoint_graph import keypoint_graph, to_dense
from graphpose.graphs.statistics import PoseStatistics, shipped_statistics
from graphpose.graphs.transforms import SampleEdges
from graphpose.skeleton import COCO, MPII, SKELETONS
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


@ALL
def test_graph_of_mirrored_persons_is_the_flipped_graph(skeleton):
    flip = list(skeleton.flip)
    statistics = shipped_statistics(skeleton)
    mirrored = dataclasses.replace(statistics, mean=statistics.mean[np.ix_(flip, flip)])
    torch.testing.assert_close(soft_adjacency(mirrored), soft_adjacency(statistics)[flip][:, flip], rtol=1e-12, atol=0)
    A_h = to_dense(keypoint_graph(skeleton, "hand_crafted"))
    assert torch.equal(A_h[flip][:, flip], A_h)


@pytest.mark.parametrize("gamma", [0.0, -0.5, math.nan, math.inf])
def test_gamma_that_is_not_positive_is_refused(gamma):
    with pytest.raises(GraphposeError, match=f"gamma is {gamma}"):
        keypoint_graph(COCO, "soft", gamma=gamma)


def test_an_unknown_adjacency_names_the_choices():
    with pytest.raises(GraphposeError, match="'dense'; choose one of identity, hand_crafted, full, soft, dynamic"):
        keypoint_graph(COCO, "dense")


@pytest.mark.parametrize(("value", "what"), [(math.nan, "never labelled together"), (0.0, "always at the same place")])
def test_pairs_without_a_usable_distance_are_named(value, what):
    statistics = shipped_statistics(COCO)
    mean = statistics.mean.copy()
    mean[5, 16] = mean[16, 5] = value
    with pytest.raises(GraphposeError, match=f"left_shoulder and right_ankle are {what}"):
        soft_adjacency(dataclasses.replace(statistics, mean=mean))


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


def test_an_empty_batch_of_graphs_is_drawn():
    assert torch.equal(sample_adjacency(torch.eye(4), 0), torch.zeros(0, 4, 4))


def test_an_edge_is_there_where_its_number_lies_below_its_probability():
    probability = torch.tensor([[1.0, 0.25], [0.75, 1.0]])
    uniform = torch.tensor([[[0.99, 0.24], [0.75, 0.0]], [[0.0, 0.25], [0.74, 0.5]]])
    assert draw_edges(probability, uniform).tolist() == [[[1, 1], [0, 1]], [[1, 0], [1, 1]]]


def test_the_same_numbers_give_the_same_graph_dense_and_as_pyg_data():
    graph = keypoint_graph(COCO, "dynamic")
    A_s = to_dense(graph)
    assert graph.num_edges == A_s.numel()
    uniform = torch.rand(graph.num_edges, generator=torch.Generator().manual_seed(4))  # sorted by source, then target
    drawn = SampleEdges(torch.Generator().manual_seed(4))(graph)
    assert torch.equal(to_dense(drawn), draw_edges(A_s, uniform.view(17, 17).t()))


@ALL
@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_a_pyg_graph_holds_the_dense_matrix(skeleton, adjacency):
    A = adjacency_matrix(skeleton, adjacency)
    assert A.dtype == torch.float64
    assert torch.equal(to_dense(keypoint_graph(skeleton, adjacency)), A.float())


def test_a_matrix_has_values_also_while_a_network_is_built_without_any():
    with torch.device("meta"):
        matrices = [adjacency_matrix(COCO, adjacency) for adjacency in ADJACENCIES]
    assert all(A.device.type == "cpu" for A in matrices)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_sampling_on_cuda_does_not_wait_for_the_device():
    A_s = to_dense(keypoint_graph(COCO, "dynamic")).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        A_d = sample_adjacency(A_s, 8, torch.Generator("cuda").manual_seed(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert A_d.is_cuda
