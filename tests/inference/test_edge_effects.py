"""What an evaluation loses without an edge: nothing where nothing is taken, and the same as by hand where it is."""

import numpy as np
import pytest
import torch

from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.fields.decode import Decoder
from graphpose.fields.pose import Poses
from graphpose.inference import edge_effects as module
from graphpose.inference.edge_effects import edge_effects
from graphpose.metrics.coco import coco_results, evaluate_coco
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork


@pytest.fixture
def scenes():
    dataset = DemoDataset(4, seed=3, size=64)
    return dataset, make_loader(dataset, EvalTransform(64), 2, shuffle=False)


def test_each_edge_is_evaluated_on_the_same_images_and_the_backbone_runs_once(scenes, monkeypatch):
    dataset, loader = scenes
    torch.manual_seed(0)
    network = PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True))
    truth = dataset.ground_truth()
    persons = {i: [a for a in truth["annotations"] if a["image_id"] == i] for i in dataset.image_ids}
    backbones, forward = [], network.backbone.forward
    monkeypatch.setattr(network.backbone, "forward", lambda images: backbones.append(1) or forward(images))

    def predicted(network, decoder, batches):
        """The truth, but without edge (3, 5) every x is off by a third of the person."""
        conv = network.pif_pyramid.modules_at["16"].layers[0].conv
        whole = float(conv.relations(network.keypoint_graph(1)).detach().reshape(17, 17)[3, 5]) > 0
        for batch in batches:
            network(batch.images)
            yield batch, [_poses(persons[image_id], 0 if whole else 0.3) for image_id in batch.image_ids]

    monkeypatch.setattr(module, "predict_batches", predicted)
    edges = [(3, 5), (5, 3)]
    whole, effects = edge_effects(network, Decoder(network.spec), loader, truth, edges, resamples=20)
    assert whole["AP"][0] == pytest.approx(1, abs=0.01)
    assert len(backbones) == 2  # batches
    assert effects[5, 3] == {"AP": (0, 0, 0), "AP50": (0, 0, 0), "AR": (0, 0, 0)}
    off = [r for i, own in persons.items() for r in coco_results(i, _poses(own, 0.3), 1)]
    expected = evaluate_coco(truth, off, dataset.skeleton)["AP"] - whole["AP"][0]
    value, low, high = effects[3, 5]["AP"]
    assert value == pytest.approx(expected)
    assert value < -0.1
    assert low <= value <= high < 0


def _poses(annotations, shift: float) -> Poses:
    """The annotated persons, moved to the right by a share of their scale."""
    keypoints = np.array([a["keypoints"] for a in annotations], np.float32).reshape(-1, 17, 3)
    labelled = keypoints[:, :, 2:] > 0
    keypoints[:, :, 0] += shift * np.array([a["area"] ** 0.5 for a in annotations])[:, None]
    keypoints[:, :, 2] = 1
    scores = np.linspace(0.9, 0.5, len(keypoints), dtype=np.float32)
    return Poses(keypoints * labelled, scores, np.ones((len(keypoints), 17), np.float32))
