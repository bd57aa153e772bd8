"""The whole network: output contract, training behaviour, folding, checkpoints."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.errors import GraphposeError
from graphpose.graphs.statistics import shipped_statistics
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton
from tests.nn.made_weights import randomise

SMALL = {"backbone": "resnet10t", "stem_pool": True}
ALL = ["none", "identity", "hand_crafted", "full", "soft", "dynamic"]


def small(**options) -> PoseNetwork:
    torch.manual_seed(0)
    return PoseNetwork(PoseNetworkConfig(**{**SMALL, **options}))


def trained(**options) -> PoseNetwork:
    """Random batch-norm statistics and relation weights, as if trained."""
    network = small(**options)
    randomise(network)
    return network.eval()


@pytest.fixture(scope="module")
def pyramid() -> PoseNetwork:
    return trained(strides=(16, 8, 4))


@settings(max_examples=6, deadline=None)
@given(height=st.integers(1, 150), width=st.integers(1, 150))
def test_fields_have_exactly_the_size_of_the_spec(pyramid, height, width):
    with torch.no_grad():
        out = pyramid(torch.zeros(1, 3, height, width))
    cells = pyramid.spec.size(height, width)
    assert cells == (-(-height // 8), -(-width // 8))
    assert out["pif"].shape == (1, 17, 5, *cells)
    assert out["paf"].shape == (1, 19, 7, *cells)
    sizes = [tuple(x.shape[2:]) for x in out["intermediate"]]
    assert sizes == 2 * [(-(-height // s), -(-width // s)) for s in (4, 8, 16)]


@pytest.mark.parametrize("adjacency", ALL)
@pytest.mark.parametrize("skeleton", [COCO, MPII, CROWDPOSE], ids=lambda s: s.name)
def test_every_graph_runs_for_every_skeleton(adjacency, skeleton):
    if skeleton is not COCO and adjacency in ("soft", "dynamic"):
        network = PoseNetwork(
            PoseNetworkConfig(**SMALL, skeleton=skeleton, adjacency=adjacency), torch.eye(skeleton.num_keypoints)
        )
    else:
        network = small(skeleton=skeleton, adjacency=adjacency)
    out = network(torch.randn(2, 3, 65, 65))
    assert out["pif"].shape == (2, skeleton.num_keypoints, 5, 9, 9)
    assert out["paf"].shape == (2, skeleton.num_limbs, 7, 9, 9)
    assert len(out["intermediate"]) == (0 if adjacency == "none" else 2)
    assert bool((out["pif"][:, :, 4] > 0).all())


def test_a_batch_of_two_equals_two_batches_of_one(pyramid):
    images = torch.randn(2, 3, 97, 129)
    with torch.no_grad():
        together, apart = pyramid(images), [pyramid(image[None]) for image in images]
    for key in ("pif", "paf"):
        torch.testing.assert_close(together[key], torch.cat([out[key] for out in apart]), atol=1e-4, rtol=1e-4)


def test_evaluation_is_deterministic_and_uses_the_complete_graph():
    network = trained()
    images = torch.randn(1, 3, 65, 65)
    state = network.graph_state()
    with torch.no_grad():
        first, second = network(images), network(images)
        network.keypoint_graph.matrix.fill_(1)  # probability 1: every edge is there in training too
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        complete = network(images)
    assert torch.equal(first["pif"], second["pif"])
    assert not torch.equal(network.graph_state(), state)
    torch.testing.assert_close(complete["pif"], first["pif"])


def test_training_outputs_follow_the_seed_of_the_graphs():
    network = trained().train()
    network.freeze_backbone()
    images = torch.randn(2, 3, 65, 65)

    def run(seed):
        network.seed_graphs(seed)
        return [network(images)["pif"] for _ in range(2)]

    a, b, c = run(0), run(0), run(1)
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    assert not torch.equal(a[0], a[1])
    assert not torch.equal(a[0], c[0])


def test_training_goes_on_exactly_where_the_state_of_the_graphs_was_saved():
    network = trained().train()
    network.seed_graphs(5)
    network.keypoint_graph(1)
    state = network.graph_state()
    expected = [network.keypoint_graph(1) for _ in range(3)]
    other = trained().train()
    other.set_graph_state(state)
    assert all(torch.equal(other.keypoint_graph(1), graph) for graph in expected)


def test_every_w_d_of_a_pyramid_learns_and_is_saved_and_restored():
    network = small(strides=(16, 8))
    goal = {"pif": torch.zeros(2, 17, 5, 9, 9), "paf": torch.zeros(2, 19, 7, 9, 9)}
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        PoseLoss()(network(torch.randn(2, 3, 65, 65)), goal["pif"], goal["paf"])["total"].backward()
        optimizer.step()
    W_d = [name for name in before if name.endswith("W_d")]
    assert len(W_d) == 8  # at two strides two DGCMs of two layers
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if name in W_d:
            assert not torch.equal(parameter, before[name]), name
    restored = PoseNetwork.from_state(network.config, network.state_dict())
    for name in W_d:
        assert torch.equal(restored.state_dict()[name], network.state_dict()[name])


@pytest.mark.parametrize("options", [{"adjacency": name} for name in ALL] + [{"strides": (16, 8), "node_width": 2}])
def test_folding_changes_nothing_and_leaves_the_network_as_it_was(options):
    network = trained(**options)
    state = copy.deepcopy(network.state_dict())
    folded = network.fold()
    images = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        before, after = network(images), folded(images)
    for key in ("pif", "paf"):
        torch.testing.assert_close(after[key], before[key], atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    with pytest.raises(GraphposeError, match="folded network has no graph to learn"):
        folded.train()


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_network_compiles_without_graph_breaks(training):
    torch._dynamo.reset()
    network = trained().train(training)
    images = torch.randn(2, 3, 65, 65)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    with torch.autocast("cpu", torch.bfloat16, enabled=not training):
        network.seed_graphs(0)
        plain = copy.deepcopy(network)(images)
        network.seed_graphs(0)
        out = compiled(images)
    torch.testing.assert_close(out["pif"], plain["pif"], atol=1e-4, rtol=1e-4)
    if training:
        out["pif"].sum().backward()
        assert not torch.equal(compiled(images)["pif"], out["pif"])  # the next draw


def test_bfloat16_autocast_gives_finite_float32_fields_near_those_of_float32():
    network = trained()
    images = torch.randn(1, 3, 97, 97)
    with torch.no_grad():
        exact = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(images)
    assert rough["pif"].dtype == rough["intermediate"][0].dtype == torch.float32
    error = (rough["pif"] - exact["pif"]).abs().mean() / exact["pif"].std()
    assert error < 0.05


def test_channels_last_changes_nothing():
    network = trained()
    images = torch.randn(2, 3, 97, 65)
    with torch.no_grad():
        expected = network(images)
        network.to(memory_format=torch.channels_last)
        out = network(images.to(memory_format=torch.channels_last))
    for key in ("pif", "paf"):
        torch.testing.assert_close(out[key], expected[key], atol=1e-4, rtol=1e-4)


def test_freezing_the_backbone_stops_its_gradients_and_statistics():
    network = small().train()
    network.freeze_backbone()
    before = copy.deepcopy(network.backbone.state_dict())
    network(torch.randn(2, 3, 65, 65))["pif"].sum().backward()
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.backbone.state_dict().items())
    network.train()
    network.freeze_backbone(weights=False, statistics=False)
    network(torch.randn(2, 3, 65, 65))["pif"].sum().backward()
    assert all(parameter.grad is not None for parameter in network.backbone.parameters())
    assert not torch.equal(
        network.backbone.state_dict()["features.model.bn1.running_mean"], before["features.model.bn1.running_mean"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("adjacency", ["none", "dynamic"])
def test_network_and_loss_learn_one_scene(adjacency):
    network = small(adjacency=adjacency).train()
    pif, paf = torch.full((2, 17, 5, 9, 9), float("nan")), torch.full((2, 19, 7, 9, 9), float("nan"))
    pif[:, :, 0], paf[:, :, 0] = 0, 0
    for image, cell in enumerate((2, 6)):
        pif[image, :, :, cell, 3] = torch.tensor([1, 0.3, -0.2, float("nan"), 1.0])
        paf[image, :, :, cell, 4] = torch.tensor([1, 0.5, 0.1, float("nan"), -0.5, 1.0, float("nan")])
    images = torch.randn(2, 3, 65, 65)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    totals = []
    for _ in range(40):
        parts = PoseLoss()(network(images), pif, paf)
        optimizer.zero_grad()
        parts["total"].backward()
        optimizer.step()
        totals.append(parts["total"].item())
    assert totals[-1] < 0.1 * totals[0]


def test_a_checkpoint_needs_no_statistics_file(tmp_path):
    statistics = tmp_path / "none.json"
    network = PoseNetwork(PoseNetworkConfig(**SMALL, skeleton=MPII, statistics=str(statistics)), torch.eye(16))
    restored = PoseNetwork.from_state(network.config, network.state_dict())
    assert torch.equal(restored.keypoint_graph.matrix, torch.eye(16))
    with pytest.raises(GraphposeError, match=r"adjacency 'dynamic' with skeleton 'mpii': .*none.json"):
        PoseNetwork(network.config)


def test_adjacency_without_statistics_for_the_skeleton_is_refused_naming_both():
    skeleton = Skeleton("robot", ("a", "b"), ((0, 1),), (0.1, 0.1))
    with pytest.raises(GraphposeError, match=r"adjacency 'soft' with skeleton 'robot'"):
        small(skeleton=skeleton, adjacency="soft")


def test_statistics_of_a_training_set_are_handed_over_and_change_the_graph():
    config = PoseNetworkConfig(**SMALL, adjacency="soft", statistics="train")
    with pytest.raises(GraphposeError, match=r"statistics=train are those of a run's training set"):
        PoseNetwork(config)
    with pytest.raises(GraphposeError, match=r"statistics of skeleton 'mpii' .* do not fit skeleton 'coco'"):
        PoseNetwork(config, pose_statistics=shipped_statistics(MPII))
    far = dataclasses.replace(shipped_statistics(COCO), mean=9 * shipped_statistics(COCO).mean)
    network = PoseNetwork(config, pose_statistics=shipped_statistics(COCO))
    assert torch.equal(network.keypoint_graph.matrix, small(adjacency="soft").keypoint_graph.matrix)
    network.use_statistics(far)
    assert network.keypoint_graph.matrix.fill_diagonal_(0).max() < 0.1  # nearly an even share of all sixteen others
    assert network.statistics() is far


def test_a_file_of_statistics_travels_with_its_network(tmp_path):
    shipped_statistics(CROWDPOSE).save(tmp_path / "own.json")
    network = small(skeleton=CROWDPOSE, adjacency="hand_crafted", statistics=str(tmp_path / "own.json"))
    assert network.pose_statistics is not None
    assert small(skeleton=CROWDPOSE, statistics="shipped").pose_statistics is None


def test_weights_of_another_skeleton_are_refused_naming_both_counts():
    with pytest.raises(
        GraphposeError, match=r"skeleton 'mpii': the weights' field head has 17 keypoints .* skeleton has 16"
    ):
        small(adjacency="none", skeleton=MPII).load_state_dict(small(adjacency="none").state_dict())


def test_a_checkpoint_of_another_skeleton_is_refused_naming_both_counts():
    network = small()
    with pytest.raises(GraphposeError, match=r"skeleton 'mpii': the weights' field head has 17 keypoints"):
        PoseNetwork.from_state(PoseNetworkConfig(**SMALL, skeleton=MPII), network.state_dict())


def test_averaging_and_copying_keep_the_graphs_of_the_original():
    network = trained().train()
    average = torch.optim.swa_utils.AveragedModel(network, use_buffers=True)
    state = network.graph_state()
    average.module.train().keypoint_graph(1)
    assert torch.equal(network.graph_state(), state)
    average.update_parameters(network)
    assert torch.equal(average.module.keypoint_graph.matrix, network.keypoint_graph.matrix)


def test_loss_of_a_batch_without_persons_has_finite_gradients():
    network = small()
    pif, paf = torch.full((1, 17, 5, 9, 9), float("nan")), torch.full((1, 19, 7, 9, 9), float("nan"))
    pif[:, :, 0], paf[:, :, 0] = 0, 0
    PoseLoss()(network(torch.randn(1, 3, 65, 65)), pif, paf)["total"].backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)
