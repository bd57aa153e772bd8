"""DGCM, non-local block, pyramid and field heads."""

import pytest
import torch
from torch import nn

from graphpose.fields.spec import PAF, PIF
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.dgcm import DGCM, Downsample, GraphPyramid
from graphpose.nn.fold import FoldedDGCM
from graphpose.nn.heads import CONFIDENCE_PRIOR, FieldHead
from graphpose.nn.non_local import NonLocal
from graphpose.skeleton import MPII, Skeleton

THREE = Skeleton("three", ("a", "b", "c"), ((0, 1), (1, 2)), (0.1, 0.1, 0.1))


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and batch-norm statistics, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if name.endswith("running_var") or name.endswith("norm.weight"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.3, generator=generator)
    return module


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_non_local_block_equals_its_formula(pool):
    block = randomize(NonLocal(6, pool)).double().eval()
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    pooled = nn.functional.max_pool2d(x, pool, ceil_mode=True) if pool > 1 else x
    theta, phi, g = block.theta(x).flatten(2), block.phi(pooled).flatten(2), block.g(pooled).flatten(2)
    relation = (theta.transpose(1, 2) @ phi).softmax(-1)  # each position over the pooled ones
    y = (g @ relation.transpose(1, 2)).unflatten(2, (9, 7))
    torch.testing.assert_close(block(x), x + block.norm(block.out(y)))


def test_non_local_block_starts_as_the_identity_and_learns():
    block = NonLocal(5)
    x = torch.randn(2, 5, 8, 8)
    out = block(x)
    assert torch.equal(out, x)
    out.square().sum().backward()
    assert bool((block.norm.weight.grad != 0).any())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_non_local_block_does_not_overflow_in_half_precision(dtype):
    block = NonLocal(8).eval()
    for conv in (block.theta, block.phi, block.g, block.out):
        nn.init.ones_(conv.weight)
    nn.init.ones_(block.norm.weight)
    x = torch.full((1, 8, 16, 16), 50.0)  # θ = φ = 400 and θᵀφ = 640,000, ten times float16's largest number
    with torch.no_grad(), torch.autocast("cpu", dtype):
        out = block(x)
    torch.testing.assert_close(out.float(), torch.full_like(x, 50.0 + 4 * 400), rtol=1e-2, atol=0)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize(
    "graph",
    [
        *({"adjacency": adjacency, "absent_edges": absent} for adjacency in ("identity", "soft", "dynamic")
          for absent in ("zero", "masked")),
        {"adjacency": "full", "graph_layer": "convolution"},
    ],
)  # fmt: skip
def test_folded_dgcm_equals_the_module(width, graph):
    config = PoseNetworkConfig(skeleton=MPII, node_width=width, **graph)
    dgcm = randomize(DGCM(24, 16, config)).double().eval()
    A = torch.rand(16, 16, dtype=torch.float64).fill_diagonal_(1)
    x = torch.randn(2, 24, 9, 11, dtype=torch.float64)
    expected, confidence = dgcm(x, A)
    folded, folded_confidence = FoldedDGCM(dgcm, A)(x)
    torch.testing.assert_close(folded, expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(folded_confidence, confidence, atol=1e-10, rtol=1e-10)


def test_folded_dgcm_runs_as_plain_convolutions():
    folded = FoldedDGCM(DGCM(8, 16, PoseNetworkConfig(skeleton=THREE)).eval(), torch.ones(3, 3))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert [type(layer) for layer in folded.layers] == [nn.Conv2d, nn.Conv2d]
    assert all(layer.kernel_size == (1, 1) for layer in folded.layers)


@pytest.mark.parametrize("width", [1, 2])
def test_relabelling_the_keypoints_of_a_dgcm_relabels_its_confidences(width):
    """Reordered reduce, graph, batch norms and expand: the same features come out."""
    config = PoseNetworkConfig(skeleton=THREE, node_width=width, non_local=False)
    one = randomize(DGCM(6, 16, config)).double().eval()
    two = DGCM(6, 16, config).double().eval()
    order = torch.tensor([2, 0, 1])
    channels = (order[:, None] * width + torch.arange(width)).flatten()
    state = {}
    for name, value in one.state_dict().items():
        if name.endswith("W_d"):
            value = value[order][:, order]
        elif name.startswith("read"):
            value = value[order]
        elif name.startswith("reduce") or ("norm" in name and value.ndim):
            value = value[channels]
        elif name == "expand.weight":
            value = value[:, channels]
        state[name] = value
    two.load_state_dict(state)
    A, x = torch.rand(3, 3, dtype=torch.float64).fill_diagonal_(1), torch.randn(1, 6, 5, 5, dtype=torch.float64)
    features, confidence = one(x, A)
    features_two, confidence_two = two(x, A[order][:, order])
    torch.testing.assert_close(features_two, features)
    torch.testing.assert_close(confidence_two, confidence[:, order])


def test_gradients_reach_w_d_through_the_whole_module():
    config = PoseNetworkConfig(skeleton=THREE, node_width=2)
    dgcm = randomize(DGCM(4, 16, config)).double().eval()
    names = [name for name, _ in dgcm.named_parameters() if name.endswith("W_d")]
    parameters = dict(dgcm.named_parameters())
    A, x = torch.rand(3, 3, dtype=torch.float64).fill_diagonal_(1), torch.randn(1, 4, 4, 4, dtype=torch.float64)

    def run(*W_d):
        replaced = {**parameters, **dict(zip(names, W_d, strict=True))}
        return torch.func.functional_call(dgcm, replaced, (x, A))[0]

    assert len(names) == 2
    assert torch.autograd.gradcheck(run, tuple(parameters[name] for name in names))


def test_intermediate_confidence_is_read_before_the_graph():
    dgcm = randomize(DGCM(6, 16, PoseNetworkConfig(skeleton=THREE))).eval()
    x = torch.randn(1, 6, 5, 5)
    assert torch.equal(dgcm(x, torch.eye(3))[1], dgcm(x, torch.ones(3, 3))[1])
    assert not torch.allclose(dgcm(x, torch.eye(3))[0], dgcm(x, torch.ones(3, 3))[0])


@pytest.mark.parametrize("size", [(16, 16), (17, 19), (33, 5)])
@pytest.mark.parametrize("ratio", [2, 4])
def test_downsampling_rounds_sizes_up(size, ratio):
    out = Downsample(3, 5, ratio)(torch.randn(2, 3, *size))
    assert out.shape == (2, 5, *(-(-side // ratio) for side in size))


def test_pyramid_is_the_sum_of_eq_9():
    config = PoseNetworkConfig(skeleton=THREE, strides=(16, 8, 4))
    pyramid = randomize(GraphPyramid({16: 8, 8: 6, 4: 4}, config)).double().eval()
    features = {s: torch.randn(1, c, 64 // s, 48 // s, dtype=torch.float64) for s, c in ((16, 8), (8, 6), (4, 4))}
    A = torch.ones(3, 3, dtype=torch.float64)
    total, confidences = pyramid(features, A)
    psi = {s: pyramid.modules_at[str(s)](features[s], A)[0] for s in features}
    down4, down8 = pyramid.down["4"], pyramid.down["8"]
    torch.testing.assert_close(total, psi[16] + down8(psi[8] + down4(psi[4])))
    assert [tuple(c.shape) for c in confidences] == [(1, 3, 16, 12), (1, 3, 8, 6), (1, 3, 4, 3)]


def test_a_pyramid_may_skip_a_stride():
    config = PoseNetworkConfig(skeleton=THREE, strides=(16, 4))
    pyramid = GraphPyramid({16: 8, 4: 4}, config)
    total, _ = pyramid({16: torch.randn(2, 8, 3, 4), 4: torch.randn(2, 4, 11, 14)}, torch.ones(3, 3))
    assert total.shape == (2, 8, 3, 4)


@pytest.mark.parametrize("upsample", [1, 2, 4])
@pytest.mark.parametrize(("channels", "count"), [(PIF, 5), (PAF, 7)])
def test_a_lit_feature_cell_reaches_only_the_field_cells_inside_it(upsample, channels, count):
    head = FieldHead(4, 3, channels, PoseNetworkConfig(upsample=upsample))
    features = torch.zeros(1, 4, 5, 6)
    dark = head(features, (5 * upsample, 6 * upsample))
    features[0, :, 2, 3] = 1
    changed = (head(features, (5 * upsample, 6 * upsample)) != dark).any(2).any(1)[0]
    assert dark.shape == (1, 3, count, 5 * upsample, 6 * upsample)
    rows, columns = changed.nonzero().unbind(1)
    assert (rows.min(), rows.max()) == (2 * upsample, 2 * upsample + upsample - 1)
    assert (columns.min(), columns.max()) == (3 * upsample, 3 * upsample + upsample - 1)


def test_heads_start_with_the_prior_confidence_and_a_positive_scale():
    head = FieldHead(8, 4, PIF, PoseNetworkConfig())
    fields = head(torch.randn(1, 8, 6, 6) * 0.1, (12, 12))
    confidence = fields[:, :, PIF.CONFIDENCE].sigmoid()
    torch.testing.assert_close(confidence, torch.full_like(confidence, CONFIDENCE_PRIOR), atol=2e-3, rtol=0)
    assert bool((fields[:, :, PIF.SCALE] > 0).all())


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_fields_are_not_rounded_to_the_precision_of_the_network(precision):
    """bfloat16 knows an offset of 32 to 60 cells to 1/8 cell: a pixel at stride 8."""
    head = FieldHead(64, 3, PAF, PoseNetworkConfig())
    torch.nn.init.normal_(head.conv.weight, std=4.0)
    features = torch.randn(1, 64, 6, 6).to(precision)
    with torch.autocast("cpu", precision):
        found = head(features, (12, 12))
    assert ((found.abs() > 32) & (found.abs() < 60)).any()
    assert torch.equal(found, head(features.float(), (12, 12)))
