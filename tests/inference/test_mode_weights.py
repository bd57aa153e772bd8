"""A gate's weights by the persons in its images: made weights, and those of a network."""

import numpy as np
import pytest
import torch

from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.graphs.dataset_statistics import dataset_modes
from graphpose.inference.mode_weights import mode_weights, modes_of_persons, read_gate
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork

SMALL = {"backbone": "test_resnet", "stem_pool": True}


@pytest.fixture(scope="module")
def dataset() -> DemoDataset:
    return DemoDataset(12, seed=3, size=96)


def test_a_gate_that_sees_its_persons_is_told_from_one_that_does_not():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 40)
    image_ids = np.arange(40)
    seeing = {n: np.array([0.7, 0.3]) if one == 0 else np.array([0.3, 0.7]) for n, one in enumerate(kind.tolist())}
    reading = read_gate(seeing, image_ids, kind)
    np.testing.assert_allclose(reading.by_kind, [[0.7, 0.3], [0.3, 0.7]])
    np.testing.assert_array_equal(reading.persons, np.bincount(kind))
    mean = np.mean(list(seeing.values()), axis=0)
    assert reading.excess == pytest.approx(np.mean([seeing[n][one] - mean[one] for n, one in enumerate(kind)]))
    assert reading.p == 0.001
    blind = {n: np.array([one, 1 - one]) for n, one in enumerate(rng.random(40).tolist())}
    assert read_gate(blind, image_ids, kind).p > 0.02
    alike = read_gate({n: np.array([0.6, 0.4]) for n in range(40)}, image_ids, kind)
    assert (alike.excess, alike.p) == (pytest.approx(0), 1.0)
    alone = read_gate(seeing, image_ids[kind == 0], kind[kind == 0])
    assert np.isnan(alone.by_kind[1]).all()


def test_persons_of_a_data_set_are_of_the_kinds_that_were_found_in_it(dataset):
    modes = dataset_modes(dataset, 3)
    image_ids, kind = modes_of_persons(dataset.ground_truth(), dataset.skeleton, modes.statistics)
    np.testing.assert_array_equal(kind, modes.kind)
    assert set(image_ids.tolist()) <= set(dataset.image_ids)
    again = dataset_modes(dataset, 3)
    np.testing.assert_array_equal(again.kind, modes.kind)


def test_weights_of_every_image_are_the_gate_s_and_a_network_without_is_refused(dataset):
    kinds = dataset_modes(dataset, 2).statistics
    network = PoseNetwork(PoseNetworkConfig(**SMALL, adjacency="soft_modes", modes=2), mode_statistics=kinds)
    loader = make_loader(dataset, EvalTransform(None), 4, shuffle=False, seed=0)
    weights = mode_weights(network, loader)
    assert list(weights) == list(dataset.image_ids)
    for row in weights.values():
        np.testing.assert_allclose(row, network.keypoint_graph.shares.numpy(), atol=1e-6)
    torch.nn.init.normal_(network.keypoint_graph.gate.weight, std=0.3)
    assert len({tuple(row.round(6)) for row in mode_weights(network, loader).values()}) > 6
    with pytest.raises(GraphposeError, match=r"adjacency 'dynamic' and modes=4 has no gate; train one with"):
        mode_weights(PoseNetwork(PoseNetworkConfig(**SMALL)), loader)
    del kinds[0].provenance["centre"]
    with pytest.raises(GraphposeError, match="were not found by shape"):
        modes_of_persons(dataset.ground_truth(), dataset.skeleton, kinds)
