"""Completing poses: what is hidden, baselines on worlds whose answer is known, networks, and the command."""

import pytest
import torch

from experiments.completion.baselines import (
    fit_gaussian,
    fit_ridge,
    mean_pose,
    predict_gaussian,
    predict_mean_pose,
    predict_ridge,
)
from experiments.completion.network import LAYERS, CompletionNetwork, predict
from experiments.completion.task import Poses, hide
from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import ADJACENCIES
from graphpose.skeleton import COCO


def made_poses(N=4000, K=4, noise=0.1, seed=0) -> Poses:
    """Gaussian shapes of which neighbours vary together, anywhere, with a third missing and some hidden."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 2]])[:K]
    walk = torch.randn(N, K, 2, generator=generator).cumsum(1) * noise
    pos = shape + walk + 3 * torch.randn(N, 1, 2, generator=generator)
    labelled = torch.rand(N, K, generator=generator) < 0.8
    labelled[:, :3] |= labelled.sum(1, keepdim=True) < 3
    hidden = hide(labelled, 0.3, 2, generator)
    return Poses(pos * labelled.unsqueeze(-1), labelled & ~hidden, hidden)


def test_hidden_are_labelled_keypoints_each_as_often_and_enough_stay():
    generator = torch.Generator().manual_seed(0)
    labelled = torch.rand(5000, 17, generator=generator) < 0.7
    labelled[:, :8] = True
    hidden = hide(labelled, 0.3, 3, generator)
    assert not (hidden & ~labelled).any()
    assert (hidden.sum(1) >= 1).all()
    assert ((labelled & ~hidden).sum(1) >= 3).all()
    share = hidden.sum(0) / labelled.sum(0)
    assert share.tolist() == pytest.approx([0.3] * 17, abs=0.03)
    everything = hide(labelled, 0.999, 3, generator)
    assert ((labelled & ~everything).sum(1) == 3).all()
    with pytest.raises(GraphposeError, match="person of 3 labelled keypoints cannot keep 3"):
        hide(torch.ones(1, 3, dtype=torch.bool), 0.3, 3, generator)


def test_features_tell_nothing_of_what_is_hidden():
    poses = made_poses()
    other = Poses(torch.where(poses.hidden.unsqueeze(-1), 99.0, poses.pos), poses.visible, poses.hidden)
    assert torch.equal(poses.features, other.features)
    moved = Poses(poses.pos + 7, poses.visible, poses.hidden)
    torch.testing.assert_close(moved.features, poses.features, atol=1e-5, rtol=0)
    middle = (poses.features[:, :, :2]).sum(1)
    torch.testing.assert_close(middle, torch.zeros_like(middle), atol=1e-4, rtol=0)


def test_the_gaussian_is_the_conditional_mean_of_the_shape_that_made_the_poses():
    poses = made_poses(N=6000)
    mean, covariance = fit_gaussian(poses, 30)
    # increments of a walk are independent with variance 0.01 each, whatever the origin
    for a, b, variance in ((0, 1, 0.01), (1, 3, 0.02), (0, 3, 0.03)):
        spread = covariance[2 * a, 2 * a] + covariance[2 * b, 2 * b] - 2 * covariance[2 * a, 2 * b]
        assert float(spread) == pytest.approx(variance, rel=0.1)
    difference = (mean.view(4, 2) - mean.view(4, 2)[0]).flatten().tolist()
    assert difference == pytest.approx([0, 0, 1, 0, 1, 1, 0, 2], abs=0.02)
    # keypoint 1 between 0 and 2, which are seen: their mean increments half each
    pos = torch.tensor([[[0.0, 0], [0, 0], [1.4, 1.2], [0, 0]]])
    seen = torch.tensor([[True, False, True, False]])
    told = predict_gaussian((mean, covariance), Poses(pos, seen, ~seen))[0] - predict_gaussian(
        (mean, covariance), Poses(pos, seen, ~seen)
    )[0, 0]  # fmt: skip
    assert told[1].tolist() == pytest.approx([1.2, 0.1], abs=0.03)
    assert (told[3] - told[2]).tolist() == pytest.approx([-1, 1], abs=0.03)


def test_baselines_do_not_depend_on_where_a_person_stands_and_the_better_model_wins():
    train, test = made_poses(seed=0), made_poses(seed=1)
    moved = Poses(test.pos + torch.tensor([5.0, -3]), test.visible, test.hidden)
    whole = Poses(train.pos, train.visible | train.hidden, torch.zeros_like(train.hidden))
    errors = []
    for told, told_moved in (
        (predict_mean_pose(mean_pose(whole), poses) for poses in (test, moved)),
        (predict_ridge(fit_ridge(train), poses) for poses in (test, moved)),
        (predict_gaussian(fit_gaussian(whole), poses) for poses in (test, moved)),
    ):
        torch.testing.assert_close(told, told_moved, atol=1e-3, rtol=0)
        errors.append(float(test.distances(told).sum() / test.hidden.sum()))
    assert errors[0] > errors[1] > errors[2]


def test_mean_pose_of_equal_shapes_is_that_shape():
    poses = made_poses(noise=0)
    mean = mean_pose(poses)
    assert (mean - mean[0]).flatten().tolist() == pytest.approx([0, 0, 1, 0, 1, 1, 0, 2], abs=1e-5)
    assert float(poses.distances(predict_mean_pose(mean, poses)).max()) < 1e-5


@pytest.mark.parametrize("layer", LAYERS)
def test_what_a_keypoint_is_told_came_along_edges(layer):
    """Within ``depth`` hops of the skeleton and no further; on its own alone with self-loops only."""
    torch.manual_seed(0)
    mean = torch.zeros(17, 2)
    wrist = COCO.index("left_wrist")
    features = torch.ones(1, 17, 3)
    features[:, :, :2] = 0
    changed = features.clone()
    changed[0, wrist, :2] = torch.tensor([0.4, -0.3])
    reached = {}
    for adjacency in ("identity", "hand_crafted", "full"):
        network = CompletionNetwork(layer, COCO, adjacency, mean, width=8, depth=2).eval()
        difference = (predict(network, _poses(changed)) - predict(network, _poses(features))).abs().amax(-1)[0]
        middle = difference.min()  # the mean of all moves with the wrist, which is no message
        reached[adjacency] = {COCO.keypoints[k] for k in torch.nonzero(difference > middle + 1e-6).flatten().tolist()}
    assert reached["identity"] <= {"left_wrist"}
    assert reached["hand_crafted"] == {"left_wrist", "left_elbow", "left_shoulder"}
    assert len(reached["full"]) >= 16


def _poses(features: torch.Tensor) -> Poses:
    class Given(Poses):
        features = property(lambda _: features)  # type: ignore[assignment]

    seen = features[:, :, 2] > 0
    return Given(features[:, :, :2], seen, ~seen)


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_graphs_are_drawn_in_training_alone_and_only_if_dynamic(adjacency):
    network = CompletionNetwork("GCN", COCO, adjacency, torch.zeros(17, 2), width=8)
    features = torch.rand(3, 17, 3)
    network.train()
    assert torch.equal(network(features), network(features)) == (adjacency != "dynamic")
    network.eval()
    assert torch.equal(network(features), network(features))


def test_gat_sees_the_same_in_soft_and_full_graphs():
    torch.manual_seed(0)
    full = CompletionNetwork("GAT", COCO, "full", torch.zeros(17, 2), width=8).eval()
    soft = CompletionNetwork("GAT", COCO, "soft", torch.zeros(17, 2), width=8).eval()
    state = {key: value for key, value in full.state_dict().items() if key != "A"}
    soft.load_state_dict(state, strict=False)
    features = torch.rand(3, 17, 3)
    assert torch.equal(full(features), soft(features))
