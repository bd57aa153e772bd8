"""Graph convolution over keypoints: Eq. 4 and Eq. 8."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import DenseGCNConv

from graphpose.errors import GraphposeError
from graphpose.nn.graph_conv import GraphConv, KeypointConv, normalize_adjacency, relation_weights
from tests.nn.random_layer import random_graph, random_layer


def test_eq_8_worked_by_hand_on_three_keypoints():
    layer = GraphConv(1, 1, 3, bias=True).double()
    ln2, ln3 = math.log(2), math.log(3)
    layer.W_d.data = torch.tensor([[ln2, ln3, 5.0], [ln3, 0.0, ln2], [7.0, 2 * ln2, ln3]], dtype=torch.float64)
    layer.weight.data.fill_(2.0)
    layer.bias.data.fill_(1.0)
    A = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.5, 1.0]], dtype=torch.float64)
    # W_d ⊙ A:   [ln2, ln3, 0]   → exp: 2 3 1, sum 6
    #            [ln3, 0, ln2]   → exp: 3 1 2, sum 6
    #            [0, ln2, ln3]   → exp: 1 2 3, sum 6
    x = torch.tensor([6.0, 12.0, 18.0], dtype=torch.float64).view(1, 3, 1)
    # β·x: (12 + 36 + 18) / 6 = 11, (18 + 12 + 36) / 6 = 11, (6 + 24 + 54) / 6 = 14; then 2 · that + 1
    assert layer(x, A).flatten().tolist() == pytest.approx([23.0, 23.0, 29.0])
    layer.absent_edges = "masked"
    # rows 0 and 2 lose their absent edge: (12 + 36) / 5 = 9.6 and (24 + 54) / 5 = 15.6
    assert layer(x, A).flatten().tolist() == pytest.approx([20.2, 23.0, 32.2])


def test_eq_4_equals_pyg_dense_gcn_on_binary_graphs():
    generator = torch.Generator().manual_seed(0)
    A = (random_graph((3, 7, 7), generator) > 0).double()
    layer = random_layer(2, 4, 7, seed=0, learned=False)
    reference = DenseGCNConv(2, 4).double()
    reference.lin.weight.data, reference.bias.data = layer.weight.data, layer.bias.data
    x = torch.randn(3, 7, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(layer(x, A), reference(x, A), atol=1e-12, rtol=1e-12)


def test_identity_graph_normalizes_to_the_identity():
    torch.testing.assert_close(normalize_adjacency(torch.eye(5)), torch.eye(5))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), learned=st.booleans(), absent=st.sampled_from(["zero", "masked"]))
def test_relabelling_the_keypoints_relabels_the_output(seed, learned, absent):
    generator = torch.Generator().manual_seed(seed)
    K = 6
    layer = random_layer(2, 3, K, seed, learned=learned, absent_edges=absent)
    relabelled = random_layer(2, 3, K, seed, learned=learned, absent_edges=absent)
    A, x = random_graph((K, K), generator), torch.randn(2, K, 2, generator=generator, dtype=torch.float64)
    order = torch.randperm(K, generator=generator)
    if learned:
        relabelled.W_d.data = layer.W_d.data[order][:, order]
    torch.testing.assert_close(relabelled(x[:, order], A[order][:, order]), layer(x, A)[:, order])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), absent=st.sampled_from(["zero", "masked"]), scale=st.sampled_from([0.1, 1.0, 1e4]))
def test_rows_of_relation_weights_are_distributions(seed, absent, scale):
    generator = torch.Generator().manual_seed(seed)
    A = random_graph((2, 5, 5), generator)
    weights = relation_weights(scale * torch.randn(5, 5, generator=generator, dtype=torch.float64), A, absent)
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    if absent == "masked":
        assert not weights[A == 0].any()


def test_a_masked_row_without_edges_gives_zero_and_finite_gradients():
    W_d = torch.randn(3, 3, requires_grad=True)
    A = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    weights = relation_weights(W_d, A, "masked")
    assert weights[1].tolist() == [0.0, 0.0, 0.0]
    (weights * torch.randn(3, 3)).sum().backward()
    assert bool(torch.isfinite(W_d.grad).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("absent", ["zero", "masked"])
def test_relation_weights_of_half_precision_parameters_do_not_overflow(dtype, absent):
    W_d = torch.full((4, 4), 30_000.0, dtype=dtype)
    weights = relation_weights(W_d, torch.eye(4, dtype=dtype), absent)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, torch.eye(4))


@pytest.mark.parametrize("absent", ["zero", "masked"])
def test_gradients_reach_w_d_and_every_other_input(absent):
    layer = random_layer(2, 2, 4, seed=3, absent_edges=absent)
    generator = torch.Generator().manual_seed(3)
    A = random_graph((4, 4), generator)
    x = torch.randn(2, 4, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)

    def run(x, W, W_d, b):
        parameters = {"weight": W, "W_d": W_d, "bias": b}
        return torch.func.functional_call(layer, parameters, (x, A))

    assert torch.autograd.gradcheck(run, (x, layer.weight, layer.W_d, layer.bias))
    layer(x, A).square().sum().backward()
    # an edge that is absent has no gradient, a present one has
    assert torch.equal(layer.W_d.grad != 0, A != 0)


def test_a_batch_of_graphs_equals_the_graphs_one_by_one():
    generator = torch.Generator().manual_seed(5)
    layer, A = random_layer(1, 1, 5, seed=5), random_graph((3, 5, 5), generator)
    x = torch.randn(3, 5, 1, 4, 6, generator=generator, dtype=torch.float64)
    single = torch.cat([layer(x[b : b + 1], A[b]) for b in range(3)])
    torch.testing.assert_close(layer(x, A), single)


def test_width_acts_like_a_1x1_convolution_on_each_keypoint():
    layer = random_layer(3, 2, 4, seed=6, learned=False)
    x = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    out = layer(x, torch.eye(4, dtype=torch.float64))
    conv = torch.nn.functional.conv2d(x.flatten(0, 1), layer.weight[:, :, None, None], layer.bias)
    torch.testing.assert_close(out.flatten(0, 1), conv)


def test_training_starts_with_half_of_each_row_on_the_keypoint_itself():
    layer = GraphConv(1, 1, 17)
    weights = layer.relations(torch.ones(17, 17))
    torch.testing.assert_close(weights.diagonal(), torch.full((17,), 0.5))


def test_unknown_absent_edges_is_refused():
    with pytest.raises(GraphposeError, match=r"absent_edges 'drop'.*zero, masked"):
        GraphConv(1, 1, 3, absent_edges="drop")


@pytest.mark.parametrize(("d", "d_out"), [(1, 1), (3, 3), (2, 4)])
def test_the_control_begins_as_the_graph_convolution_on_the_full_graph(d, d_out):
    x = torch.randn(2, 5, d, 4, 3)
    graph, control = GraphConv(d, d_out, 5, bias=False), KeypointConv(d, d_out, 5)
    torch.testing.assert_close(control(x, torch.eye(5)), graph(x, torch.ones(5, 5)))


def test_the_control_is_a_plain_1x1_convolution_of_all_channels():
    control = KeypointConv(3, 2, 4)
    torch.nn.init.normal_(control.weight)
    x = torch.randn(2, 4, 3, 5, 6)
    plain = torch.nn.functional.conv2d(x.flatten(1, 2), control.weight[:, :, None, None])
    torch.testing.assert_close(control(x, torch.ones(4, 4)).flatten(1, 2), plain)


def test_the_control_has_the_parameters_of_eq_8_but_one():
    graph, control = GraphConv(1, 1, 17, bias=False), KeypointConv(1, 1, 17)
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (graph, control)]
    assert counts == [17 * 17 + 1, 17 * 17]
