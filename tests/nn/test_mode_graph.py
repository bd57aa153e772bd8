"""Graphs of several kinds of poses: one kind is soft or dynamic to the bit, the gate, its gradient, and the network."""

import copy
import itertools

import numpy as np
import pytest
import torch

from graphpose.checkpoint import load_network, save_checkpoint
from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import adjacency_matrix
from graphpose.graphs.mode_statistics import mode_adjacencies
from graphpose.nn.config import PYG_LAYERS, PoseNetworkConfig
from graphpose.nn.graph_conv import GraphConv
from graphpose.nn.keypoint_graph import KeypointGraph
from graphpose.nn.mode_graph import ModeGraph
from graphpose.nn.network import PoseNetwork
from graphpose.nn.relations import learned_relations
from graphpose.packed import pack
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton
from tests.nn.made_modes import kinds_of
from tests.nn.made_weights import randomise

K = COCO.num_keypoints
SMALL = {"backbone": "test_resnet", "stem_pool": True}
IMAGES = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(0))


def network_of(kinds=(), *, skeleton=COCO, seed: int = 0, **settings) -> PoseNetwork:
    """A network whose relations, batch norms and ways back to the features are random, as if trained."""
    torch.manual_seed(seed)
    config = PoseNetworkConfig(**{**SMALL, "skeleton": skeleton, **settings})
    network = PoseNetwork(config, mode_statistics=kinds)
    generator = randomise(network)
    if isinstance(network.keypoint_graph, ModeGraph):
        torch.nn.init.normal_(network.keypoint_graph.gate.weight, generator=generator)
    return network


def trained_outputs(network: PoseNetwork):
    """Outputs of two passes in training, the graphs' state and all gradients; then the outputs of evaluation."""
    network.train().seed_graphs(7)
    network.freeze_backbone()
    outputs = [network(IMAGES) for _ in range(2)]
    sum(out[key].square().mean() for out in outputs for key in ("pif", "paf")).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    with torch.no_grad():
        outputs.append(network.eval()(IMAGES))
    tensors = [out[key] for out in outputs for key in ("pif", "paf")]
    return [*tensors, *(one for out in outputs for one in out["intermediate"])], gradients, network.graph_state()


@pytest.mark.parametrize(
    "settings",
    [
        {"adjacency": "soft"},
        {"adjacency": "soft", "strides": (16, 8), "gamma": 0.8},
        {"adjacency": "dynamic"},
        {"adjacency": "dynamic", "per_sample": True, "strides": (16, 8)},
        {"adjacency": "dynamic", "graph_pool": 3, "evaluation_graph": "expectation"},
        {"adjacency": "dynamic", "absent_edges": "masked"},
        {"adjacency": "dynamic", "graph_layer": "DenseGATConv", "node_width": 2},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_one_kind_is_the_soft_or_dynamic_graph_to_the_last_bit(settings):
    name = {"soft": "soft_modes", "dynamic": "modes"}[settings["adjacency"]]
    expected, gradients, state = trained_outputs(network_of(**settings))
    own, own_gradients, own_state = trained_outputs(network_of(**{**settings, "adjacency": name}, modes=1))
    assert all(torch.equal(a, b) for a, b in zip(own, expected, strict=True))
    assert own_gradients.keys() == gradients.keys()
    for parameter, gradient in gradients.items():
        assert (gradient is None) == (own_gradients[parameter] is None)
        assert gradient is None or torch.equal(own_gradients[parameter], gradient), parameter
    assert torch.equal(own_state, state)


def graph_of(matrix, channels: int = 3, shares=None, **settings) -> ModeGraph:
    config = PoseNetworkConfig(**{"adjacency": "modes", "modes": len(matrix), **settings})
    return ModeGraph(matrix, config, channels, shares)


@pytest.fixture(scope="module")
def matrices():
    return mode_adjacencies(kinds_of(COCO, 3)).float()


@pytest.mark.parametrize("settings", [{}, {"per_sample": True}, {"graph_pool": 4}])
def test_kinds_that_are_all_the_same_draw_the_graphs_of_dynamic(matrices, settings):
    """The general way, with a gate, and not the shortcut of a single kind."""
    same = matrices[:1].expand(3, K, K)
    graph = graph_of(same, **settings)
    dynamic = KeypointGraph(matrices[0], PoseNetworkConfig(**settings))
    torch.nn.init.normal_(graph.gate.weight)
    graph.seed(5)
    dynamic.seed(5)
    for _ in range(4):
        features = torch.randn(2, 3, 4, 5)
        expected = dynamic(2)
        assert torch.equal(graph(2, features), expected if settings.get("per_sample") else expected.expand(2, K, K))
    assert torch.equal(graph.state, dynamic.state)
    torch.testing.assert_close(graph.eval()(2, features), matrices[:1].expand(2, K, K))


def test_the_gate_starts_at_the_kinds_shares_whatever_the_image(matrices):
    shares = torch.tensor([0.5, 0.3, 0.2])
    graph = graph_of(matrices, shares=shares).eval()
    torch.testing.assert_close(graph.gate(torch.randn(4, 3, 5, 5)), shares.expand(4, 3))
    expected = (shares[:, None, None] * matrices).sum(0)
    torch.testing.assert_close(graph(4, torch.randn(4, 3, 5, 5)), expected.expand(4, K, K))
    torch.testing.assert_close(graph(1), expected)


def test_evaluation_is_the_mixture_of_each_image_and_self_loops_are_certain(matrices):
    graph = graph_of(matrices).double().eval()
    torch.nn.init.normal_(graph.gate.weight)
    features = torch.randn(5, 3, 4, 6, dtype=torch.float64)
    logits = features.mean((2, 3)) @ graph.gate.weight.T + graph.gate.bias
    weights = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = torch.einsum("bc,cij->bij", weights, matrices.double())
    torch.testing.assert_close(graph(5, features), expected, atol=1e-12, rtol=0)
    assert bool((graph(5, features).diagonal(dim1=1, dim2=2) == 1).all())


def test_training_draws_each_image_s_edges_with_its_mixed_probabilities(matrices):
    graph = graph_of(matrices, per_sample=True)
    torch.nn.init.normal_(graph.gate.weight, std=3)
    features = torch.randn(2, 3, 1, 1).repeat_interleave(3000, 0)
    with torch.no_grad():
        drawn, probability = graph(6000, features), graph.mixture(features)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    for rows in (slice(0, 3000), slice(3000, 6000)):
        P = probability[rows][0]
        deviation = (P * (1 - P) / 3000).clamp(min=0).sqrt()
        assert bool(((drawn[rows].mean(0) - P).abs() <= 5 * deviation + 1e-6).all())
    assert not torch.allclose(probability[0], probability[-1], atol=1e-2)


def test_images_of_a_batch_share_the_numbers_and_not_the_probabilities(matrices):
    graph = graph_of(matrices)
    torch.nn.init.normal_(graph.gate.weight, std=3)
    one, other = torch.randn(2, 3, 1, 1)
    drawn = graph(3, torch.stack([one, other, one]))
    assert torch.equal(drawn[0], drawn[2])
    probability = graph.mixture(torch.stack([one, other]))
    differing = drawn[0] != drawn[1]
    assert bool(differing.any())
    assert bool(((probability[0] > probability[1]) == (drawn[0] > drawn[1]))[differing].all())


THREE = Skeleton("three", ("a", "b", "c"), ((0, 1), (1, 2)), (0.1, 0.1, 0.1))


def drawn_gradients(P: torch.Tensor, loss) -> tuple[np.ndarray, np.ndarray]:
    """Gradient by P (3, 3) of the expected loss over all 64 graphs of three keypoints, exactly; and the expectation of
    the straight-through one."""
    off = [(i, j) for i in range(3) for j in range(3) if i != j]
    exact, through = torch.zeros(()), torch.zeros(())
    for edges in itertools.product((0.0, 1.0), repeat=6):
        A = torch.eye(3, dtype=torch.float64)
        for (i, j), there in zip(off, edges, strict=True):
            A[i, j] = there
        chance = torch.stack([P[i, j] if there else 1 - P[i, j] for (i, j), there in zip(off, edges, strict=True)])
        chance = chance.prod()
        exact = exact + chance * loss(A)
        through = through + chance.detach() * loss(A + P - P.detach())
    found = [torch.autograd.grad(one, P, retain_graph=True)[0].numpy() for one in (exact, through)]
    return tuple(np.array([gradient[edge] for edge in off]) for gradient in found)


@pytest.fixture
def probability() -> torch.Tensor:
    P = torch.rand(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return P.fill_diagonal_(1).requires_grad_()


def test_the_gradient_by_the_probabilities_is_exact_where_the_loss_is_affine_in_each_edge(probability):
    goal = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact, through = drawn_gradients(probability, lambda A: (goal * A).sum() + A[0, 1] * A[1, 2] * A[2, 0])
    np.testing.assert_allclose(through, exact, rtol=1e-10)


@pytest.mark.parametrize(("size", "least"), [(0.1, 0.999), (1.0, 0.95)])
def test_through_eq_8_the_gradient_by_the_probabilities_points_where_the_exact_one_does(probability, size, least):
    cosines = []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        conv = GraphConv(1, 1, 3, bias=False).double()
        torch.nn.init.normal_(conv.W_d, std=size, generator=generator)
        x, goal = torch.randn(2, 1, 3, 1, 5, generator=generator, dtype=torch.float64)
        exact, through = drawn_gradients(
            probability, lambda A, conv=conv, x=x, goal=goal: (conv(x, A) - goal).square().mean()
        )
        cosines.append((exact * through).sum() / np.linalg.norm(exact) / np.linalg.norm(through))
    assert np.median(cosines) > least, sorted(cosines)


def test_what_is_drawn_passes_its_gradient_straight_to_the_gate(matrices):
    graph = graph_of(matrices)
    torch.nn.init.normal_(graph.gate.weight)
    features, goal = torch.randn(2, 3, 4, 4), torch.randn(2, K, K)
    (found,) = torch.autograd.grad((graph(2, features) * goal).sum(), graph.gate.weight)
    (expected,) = torch.autograd.grad((graph.mixture(features) * goal).sum(), graph.gate.weight)
    torch.testing.assert_close(found, expected)


def test_the_network_passes_gradients_to_its_gate_and_the_gate_s_weights_are_the_only_ones_more():
    kinds = kinds_of(COCO, 3)
    for adjacency in ("modes", "soft_modes"):
        network = network_of(kinds, adjacency=adjacency, modes=3).train()
        out = network(IMAGES)
        (out["pif"].square().mean() + out["paf"].square().mean()).backward()
        gate = network.keypoint_graph.gate
        assert bool((gate.weight.grad != 0).any())
        assert bool(gate.weight.grad.isfinite().all())
        soft = network_of(adjacency="soft")
        own, plain = (dict(one.named_parameters()) for one in (network, soft))
        assert own.keys() - plain.keys() == {"keypoint_graph.gate.weight", "keypoint_graph.gate.bias"}
        assert gate.weight.shape == (3, network.backbone.channels[16])


@pytest.mark.parametrize("skeleton", [MPII, CROWDPOSE, THREE], ids=lambda one: one.name)
@pytest.mark.parametrize("adjacency", ["modes", "soft_modes"])
def test_every_skeleton_and_pyramid_runs_with_kinds_of_its_own(skeleton, adjacency):
    network = network_of(
        kinds_of(skeleton, 2), skeleton=skeleton, adjacency=adjacency, modes=2, strides=(16, 8), node_width=2
    )
    out = network.train()(IMAGES)
    assert out["pif"].shape == (2, skeleton.num_keypoints, 5, 9, 9)
    assert len(out["intermediate"]) == 4
    assert network.pose_statistics.keypoints == skeleton.keypoints  # of all kinds, for the decoder
    with torch.no_grad():
        together = network.eval()(IMAGES)
        apart = [network(image[None]) for image in IMAGES]
    torch.testing.assert_close(together["paf"], torch.cat([one["paf"] for one in apart]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", ["dgcn", *(name for name in PYG_LAYERS if name != "DenseGATConv")])
def test_every_layer_that_reads_weights_teaches_the_gate_and_folds(layer, tmp_path):
    network = network_of(kinds_of(COCO, 3), adjacency="modes", modes=3, graph_layer=layer, node_width=2)
    out = network.train()(IMAGES)
    out["pif"].square().mean().backward()
    assert bool((network.keypoint_graph.gate.weight.grad != 0).any())
    network.eval()
    with torch.no_grad():
        expected, folded = network(IMAGES), network.fold()(IMAGES)
    for key in ("pif", "paf"):
        torch.testing.assert_close(folded[key], expected[key], atol=1e-4, rtol=1e-4)


def test_what_would_leave_the_gate_untaught_is_refused():
    for settings, message in (
        ({"graph_layer": "DenseGATConv"}, r"'DenseGATConv' with adjacency 'modes' and modes=4: attention"),
        ({"absent_edges": "masked"}, r"'masked' with adjacency 'modes' and modes=4: .* absent_edges=zero"),
        ({"statistics": "shipped"}, r"statistics=shipped with modes=4: .* statistics=train"),
        ({"graph_layer": "convolution"}, r"'convolution' with adjacency 'modes'"),
        ({"modes": 0}, r"modes 0 must be at least 1"),
        ({"adjacency": "soft_modes", "per_sample": True}, r"per_sample=True with adjacency 'soft_modes'"),
        ({"adjacency": "dynamic", "modes": 2}, r"modes=2 with adjacency 'dynamic': only 'modes' and 'soft_modes'"),
    ):
        with pytest.raises(GraphposeError, match=message):
            PoseNetworkConfig(**{"adjacency": "modes", **settings})
    assert PoseNetworkConfig(adjacency="modes").evaluation_graph == "expectation"
    assert PoseNetworkConfig(adjacency="modes", modes=1).evaluation_graph == "ones"


def test_kinds_come_from_a_folder_and_what_does_not_fit_is_named(tmp_path):
    for number, kind in enumerate(kinds_of(COCO, 3), start=1):
        kind.save(tmp_path / f"kind-{number}.json")
    settings = {**SMALL, "adjacency": "modes", "statistics": str(tmp_path)}
    network = PoseNetwork(PoseNetworkConfig(**settings, modes=3))
    torch.testing.assert_close(network.keypoint_graph.matrix, mode_adjacencies(kinds_of(COCO, 3)).float())
    torch.testing.assert_close(network.keypoint_graph.shares, torch.tensor([30, 20, 10]) / 60)
    for changed, message in (
        ({}, r"modes=4 with statistics '.*': that folder has 3 kinds of poses; set modes=3"),
        ({"statistics": str(tmp_path / "kind-1.json")}, r"a file is one kind of poses; name the folder"),
        ({"modes": 3, "skeleton": MPII}, r"skeleton 'coco' .* do not fit skeleton 'mpii'"),
        ({"statistics": "train"}, r"adjacency 'modes' .*kinds of poses are those of a run's training set"),
        ({"statistics": None}, r"mode_statistics, or name a folder"),
    ):
        with pytest.raises(GraphposeError, match=message):
            PoseNetwork(PoseNetworkConfig(**{**settings, **changed}))
    with pytest.raises(GraphposeError, match=r"modes=4 with graphs of 3 kinds of poses; set modes=3"):
        PoseNetwork(PoseNetworkConfig(**settings), mode_adjacencies(kinds_of(COCO, 3)).float())


def test_a_checkpoint_and_a_packed_network_bring_gate_kinds_and_graphs(tmp_path):
    network = network_of(kinds_of(COCO, 3), adjacency="modes", modes=3, graph_pool=4, statistics="train").eval()
    save_checkpoint(tmp_path / "c.pt", network, network.config)
    pack(tmp_path / "c.safetensors", network, decoder={}, usage={}, weights="float32")
    with torch.no_grad():
        expected = network(IMAGES)["pif"]
    for name in ("c.pt", "c.safetensors"):
        loaded = load_network(tmp_path / name)
        with torch.no_grad():
            assert torch.equal(loaded(IMAGES)["pif"], expected)
        assert [kind.provenance for kind in loaded.mode_statistics] == [
            kind.provenance for kind in network.mode_statistics
        ]
        assert torch.equal(loaded.keypoint_graph.pool, network.keypoint_graph.pool)


def test_copies_draw_on_and_relations_are_those_of_the_kinds_shares():
    network = network_of(kinds_of(COCO, 2), adjacency="modes", modes=2)
    other = copy.deepcopy(network)
    features = torch.randn(2, network.backbone.channels[16], 3, 3)
    assert torch.equal(network.keypoint_graph(2, features), other.keypoint_graph(2, features))
    relations = learned_relations(network)["PIF F16 layer 1"]
    conv = network.pif_pyramid.modules_at["16"].layers[0].conv
    matrix = (network.keypoint_graph.matrix * torch.tensor([3 / 5, 2 / 5])[:, None, None]).sum(0)
    np.testing.assert_allclose(relations, conv.relations(matrix).detach().numpy(), atol=1e-6)
    assert adjacency_matrix(COCO, "soft").shape == matrix.shape


def test_bfloat16_weighs_in_float32():
    network = network_of(kinds_of(COCO, 3), adjacency="modes", modes=3).eval()
    with torch.no_grad():
        exact = network(IMAGES)["pif"]
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(IMAGES)["pif"]
            features = torch.randn(2, network.backbone.channels[16], 3, 3)
            assert network.keypoint_graph(2, features).dtype == torch.float32
    assert (rough - exact).abs().mean() / exact.std() < 0.05


@pytest.mark.slow
def test_a_network_of_kinds_compiles_without_graph_breaks():
    torch._dynamo.reset()
    network = network_of(kinds_of(COCO, 3), adjacency="modes", modes=3).train()
    network.freeze_backbone()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    network.seed_graphs(0)
    plain = copy.deepcopy(network)(IMAGES)["pif"]
    network.seed_graphs(0)
    out = compiled(IMAGES)["pif"]
    torch.testing.assert_close(out, plain, atol=1e-4, rtol=1e-4)
    out.sum().backward()
    assert bool((network.keypoint_graph.gate.weight.grad != 0).any())


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["dgcn", "DenseGCNConv"])
def test_a_network_of_kinds_is_exported_with_its_gate_and_any_batch(layer):
    from graphpose.inference.export import export_program

    network = network_of(kinds_of(COCO, 3), adjacency="modes", modes=3, graph_layer=layer, graph_layers=1).eval()
    program = export_program(network).module()
    for batch in (1, 3):
        images = torch.randn(batch, 3, 97, 65)
        with torch.no_grad():
            torch.testing.assert_close(program(images)[0], network(images)["pif"], atol=1e-4, rtol=1e-4)
