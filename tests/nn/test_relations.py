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
    relations_of,
    strongest_relations,
    without_edges,
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


def test_relations_of_earlier_weights_are_those_a_network_with_them_has():
    network, other = network_with(adjacency="soft"), network_with(adjacency="soft")
    with torch.no_grad():
        for conv in (layer.conv for layer in network.paf_pyramid.modules_at["16"].layers):
            conv.W_d.normal_()
    expected = learned_relations(network)
    found = relations_of(other, learned_weights(network))
    assert found.keys() == expected.keys()
    for name, beta in expected.items():
        np.testing.assert_array_equal(found[name], beta)


def test_without_an_edge_the_rest_of_its_row_takes_its_place():
    network = network_with().eval()
    with torch.no_grad():
        for module in (network.pif_pyramid, network.paf_pyramid):
            for layer in module.modules_at["16"].layers:
                layer.conv.W_d.normal_()
    before = learned_relations(network)["PIF F16 layer 1"]
    conv = network.pif_pyramid.modules_at["16"].layers[0].conv
    x, A = torch.randn(2, 17, 1, 4, 4), network.keypoint_graph(1)
    mixed = conv(x, A)
    with without_edges(network, [(3, 5), (3, 6), (8, 0)]):
        beta = conv.relations(A).detach().numpy().reshape(17, 17)
        without = conv(x, A)
    assert beta[3, 5] == beta[3, 6] == beta[8, 0] == 0
    np.testing.assert_allclose(beta.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(beta[3, 7] / beta[3, 3], before[3, 7] / before[3, 3], rtol=1e-4)
    np.testing.assert_allclose(np.delete(beta, (3, 8), 0), np.delete(before, (3, 8), 0), rtol=1e-5)
    changed = (without - mixed).abs().amax((0, 2, 3, 4)) > 1e-5
    assert torch.nonzero(changed).flatten().tolist() == [3, 8]
    assert torch.equal(conv(x, A), mixed)  # as it was
    with without_edges(network, []):
        torch.testing.assert_close(conv(x, A), mixed)


def test_edges_that_are_none_are_named():
    with pytest.raises(GraphposeError, match=r"edge \(4, 4\) is none between two of the keypoints 0\.\.16"):
        without_edges(network_with(), [(4, 4)]).__enter__()
    with pytest.raises(GraphposeError, match="no layer with a W_d"):
        without_edges(network_with(adjacency="identity"), []).__enter__()
