"""The graph of each pass: fixed kinds, draws of Eq. 7, pools and the generator's state."""

from typing import get_args

import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import ADJACENCIES, adjacency_matrix, sample_adjacency
from graphpose.nn.config import Adjacency, PoseNetworkConfig
from graphpose.nn.keypoint_graph import KeypointGraph, configured_adjacency
from graphpose.skeleton import COCO
from tests.new_process import modules_after

K = COCO.num_keypoints


@pytest.fixture(scope="module")
def soft() -> torch.Tensor:
    return adjacency_matrix(COCO, "soft").float()


def graph_of(matrix, **settings) -> KeypointGraph:
    return KeypointGraph(matrix, PoseNetworkConfig(**settings))


def test_training_graphs_are_binary_have_self_loops_and_change_every_pass(soft):
    graph = graph_of(soft)
    draws = [graph(2) for _ in range(8)]
    for draw in draws:
        assert draw.shape == (K, K)
        assert set(draw.unique().tolist()) == {0.0, 1.0}
        assert bool((draw.diagonal() == 1).all())
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == len(draws)


def test_draws_follow_eq_7_probabilities(soft):
    graph = graph_of(soft, per_sample=True)
    frequency = graph(4000).mean(0)
    deviation = (soft * (1 - soft) / 4000).sqrt()
    assert bool(((frequency - soft).abs() <= 5 * deviation + 1e-9).all())


def test_evaluation_uses_all_ones_and_draws_nothing(soft):
    graph = graph_of(soft).eval()
    before = graph.state.clone()
    assert torch.equal(graph(3), torch.ones(K, K))
    assert torch.equal(graph.state, before)


def test_evaluation_can_use_the_expectation_of_the_draws(soft):
    graph = graph_of(soft, evaluation_graph="expectation")
    drawn = graph(1)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(graph.eval()(3), soft)


@pytest.mark.parametrize("adjacency", ["identity", "hand_crafted", "full", "soft"])
def test_fixed_graphs_are_the_same_in_training_and_evaluation(adjacency):
    matrix = adjacency_matrix(COCO, adjacency).float()
    graph = graph_of(matrix, adjacency=adjacency)
    assert torch.equal(graph(2), matrix)
    assert torch.equal(graph.eval()(2), matrix)


def test_one_seed_gives_one_sequence_and_another_seed_another(soft):
    first, second = graph_of(soft), graph_of(soft)
    first.seed(3)
    second.seed(3)
    a, b = [first(1) for _ in range(3)], [second(1) for _ in range(3)]
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    second.seed(4)
    assert not torch.equal(a[0], second(1))


def test_the_global_random_state_neither_changes_nor_matters(soft):
    graph = graph_of(soft)
    graph.seed(0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    draw = graph(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    graph.seed(0)
    assert torch.equal(graph(1), draw)


def test_per_sample_draws_one_graph_per_image(soft):
    graph = graph_of(soft, per_sample=True)
    draws = graph(4)
    assert draws.shape == (4, K, K)
    assert not torch.equal(draws[0], draws[1])


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_pool_is_drawn_once_and_every_graph_of_it_is_used(soft, per_sample):
    graph = graph_of(soft, graph_pool=3, per_sample=per_sample)
    members = {tuple(member.flatten().tolist()) for member in graph.pool}
    used = set()
    for _ in range(40):
        used |= {tuple(draw.flatten().tolist()) for draw in graph(2).view(-1, K, K)}
    assert used == members


def test_pool_and_matrix_are_saved_with_the_module(soft):
    graph = graph_of(soft, graph_pool=3)
    other = graph_of(torch.eye(K), graph_pool=3)
    other.load_state_dict(graph.state_dict())
    assert torch.equal(other.pool, graph.pool)
    assert torch.equal(other.matrix, soft)


def test_a_matrix_of_another_size_is_refused_naming_statistics_and_skeleton():
    with pytest.raises(GraphposeError, match=r"statistics 'shipped' with skeleton 'coco': .*\(16, 16\).* 17 keypoints"):
        graph_of(torch.eye(16))


@pytest.mark.parametrize("matrix", [torch.zeros(K, K), 2 * torch.ones(K, K), torch.full((K, K), float("nan"))])
def test_a_matrix_that_is_no_adjacency_is_refused(matrix):
    with pytest.raises(GraphposeError, match=r"\[0, 1\]"):
        graph_of(matrix)


@pytest.mark.parametrize("per_sample", [False, True])
def test_network_pool_and_function_draw_the_same_graphs_from_one_seed(soft, per_sample):
    expected = sample_adjacency(soft, 4, torch.Generator().manual_seed(9))
    graph = graph_of(soft, per_sample=per_sample)
    graph.seed(9)
    assert torch.equal(graph(4), expected if per_sample else expected[0])
    pool = graph_of(soft, graph_pool=4)
    pool.seed(9)
    assert torch.equal(pool.pool, expected)


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_the_network_s_matrix_is_that_of_the_graphs_room(adjacency):
    matrix = configured_adjacency(PoseNetworkConfig(adjacency=adjacency, gamma=0.7))
    assert torch.equal(matrix, adjacency_matrix(COCO, adjacency, gamma=0.7).float())


def test_a_network_can_have_every_graph_or_none():
    assert get_args(Adjacency) == ("none", *ADJACENCIES, "soft_modes", "modes")


@pytest.mark.slow
def test_the_network_s_graph_needs_neither_pyg_nor_what_draws_it():
    loaded = modules_after(
        "from graphpose.nn.config import PoseNetworkConfig\n"
        "from graphpose.nn.network import KeypointGraph, configured_adjacency\n"
        "config = PoseNetworkConfig(); KeypointGraph(configured_adjacency(config), config)(1)"
    )
    assert not {"torch_geometric", "networkx", "scipy", "matplotlib", "numba"} & loaded
