"""The sparse graph convolution equals the dense one that it shares its parameters with."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.graphs.keypoint_graph import from_dense, keypoint_graph, to_dense
from graphpose.nn.sparse_graph_conv import SparseGraphConv
from graphpose.skeleton import COCO, CROWDPOSE, MPII
from tests.nn.random_layer import random_graph, random_layer


@settings(max_examples=30, deadline=None)
@given(
    K=st.integers(1, 9),
    d=st.integers(1, 4),
    d_out=st.integers(1, 4),
    B=st.integers(1, 3),
    learned=st.booleans(),
    absent=st.sampled_from(["zero", "masked"]),
    batched=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_dense_and_sparse_layer_agree_in_outputs_and_gradients(K, d, d_out, B, learned, absent, batched, seed):
    generator = torch.Generator().manual_seed(seed)
    dense = random_layer(d, d_out, K, seed, learned=learned, absent_edges=absent)
    sparse = SparseGraphConv(dense)
    A = random_graph((B, K, K) if batched else (K, K), generator)
    x = torch.randn(B, K, d, 5, generator=generator, dtype=torch.float64)
    graphs = [from_dense(a) for a in (A if batched else A.expand(B, K, K))]
    edge_index = torch.cat([graph.edge_index + K * b for b, graph in enumerate(graphs)], 1)
    edge_weight = torch.cat([graph.edge_weight for graph in graphs])
    x_dense, x_sparse = x.clone().requires_grad_(), x.clone().requires_grad_()

    out = dense(x_dense, A)
    twin = sparse(x_sparse.flatten(0, 1), edge_index, edge_weight).view_as(out)
    torch.testing.assert_close(out, twin, atol=1e-10, rtol=1e-10)

    direction = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    names = [name for name, _ in dense.named_parameters()]
    ours = torch.autograd.grad((out * direction).sum(), [x_dense, *dense.parameters()])
    theirs = torch.autograd.grad((twin * direction).sum(), [x_sparse, *dense.parameters()])
    for name, a, b in zip(["x", *names], ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("skeleton", [COCO, MPII, CROWDPOSE], ids=lambda s: s.name)
def test_twins_agree_on_the_hand_crafted_graph_of_a_skeleton(skeleton):
    graph = keypoint_graph(skeleton, "hand_crafted")
    layer = random_layer(2, 3, skeleton.num_keypoints, seed=1)
    x = torch.randn(1, skeleton.num_keypoints, 2, dtype=torch.float64)
    out = layer(x, to_dense(graph).double())
    twin = SparseGraphConv(layer)(x[0], graph.edge_index, graph.edge_weight.double())
    torch.testing.assert_close(out[0], twin, atol=1e-10, rtol=1e-10)
