"""What a network learned about keypoints: W_d and its softmax."""

import numpy as np
import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.nn.relations import (
    append_weights,
    learned_relations,
    learned_weights,
    rank_correlation,
    rank_correlations,
    read_weights,
    strongest_relations,
)
from graphpose.skeleton import COCO


def network_with(**settings) -> PoseNetwork:
    torch.manual_seed(0)
    return PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True, **settings))


def test_every_layer_of_every_dgcm_is_named():
    names = set(learned_weights(network_with(strides=(16, 8))))
    assert names == {f"{head} F{s} layer {n}" for head in ("PIF", "PAF") for s in (8, 16) for n in (1, 2)}
    assert learned_weights(network_with(adjacency="identity")) == {}
    assert learned_relations(network_with(adjacency="none")) == {}


def test_relations_are_the_row_softmax_of_w_d_in_evaluation():
    network = network_with()
    network.train()
    weight = network.pif_pyramid.modules_at["16"].layers[0].conv.W_d
    with torch.no_grad():
        weight.normal_()
    relations = learned_relations(network)
    expected = np.exp(weight.detach().numpy().astype(float))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(relations["PIF F16 layer 1"], expected, rtol=1e-5)
    assert network.keypoint_graph.training  # left as it was
    np.testing.assert_array_equal(learned_weights(network)["PIF F16 layer 1"], weight.detach().numpy())


def test_weights_over_training_are_read_back_and_a_resumed_run_replaces_its_tail(tmp_path):
    network, path = network_with(), tmp_path / "relations.npz"
    weight = network.paf_pyramid.modules_at["16"].layers[1].conv.W_d
    for epoch in (0, 1, 2, 1):  # the last one is a run that was taken up again
        with torch.no_grad():
            weight.fill_(epoch + 0.5)
        append_weights(path, network, epoch)
    history = read_weights(path)
    assert list(history) == [0, 1]
    assert float(history[1]["PAF F16 layer 2"][0, 0]) == 1.5
    append_weights(tmp_path / "none.npz", network_with(adjacency="none"), 1)
    assert not (tmp_path / "none.npz").exists()
    (tmp_path / "other.npz").write_bytes(b"no")
    with pytest.raises(GraphposeError, match=r"other\.npz' holds no W_d over training"):
        read_weights(tmp_path / "other.npz")


def test_rank_correlation_sees_order_off_the_diagonal_only():
    a = np.arange(9.0).reshape(3, 3)
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a + 100 * np.eye(3), a) == pytest.approx(1)
    assert np.isnan(rank_correlation(a, np.ones((3, 3))))
    # ranks 1 2 3 4 5 6 against 2 1 4 3 6 5: ρ = 1 − 6 · 6 / (6 · 35)
    swapped = a.copy()
    off = ~np.eye(3, dtype=bool)
    swapped[off] = [1, 0, 3, 2, 5, 4]
    assert rank_correlation(a, swapped) == pytest.approx(1 - 36 / 210)
    assert set(rank_correlations({"a": a, "b": -a, "c": a})) == {("a", "b"), ("a", "c"), ("b", "c")}


def test_the_strongest_relation_beyond_anatomy_is_named():
    relation = np.zeros((17, 17))
    relation[COCO.index("left_wrist"), COCO.index("right_wrist")] = 0.4
    relation[COCO.index("left_wrist"), COCO.index("left_elbow")] = 0.9
    np.fill_diagonal(relation, 1.0)
    assert strongest_relations(relation, COCO, 1) == [("left_wrist", "right_wrist", 0.4)]
    assert strongest_relations(relation, COCO, 1, limbs=True) == [("left_wrist", "left_elbow", 0.9)]
    with pytest.raises(GraphposeError, match="17 keypoints of coco"):
        strongest_relations(np.zeros((16, 16)), COCO)
