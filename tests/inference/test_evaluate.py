"""Evaluation and prediction: fields that are right give poses that are right, in pixels of the original image."""

import json

import numpy as np
import pytest

from graphpose.data.coco import CocoDataset
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.fields.decode import build_decoder
from graphpose.fields.pose import Poses
from graphpose.fields.spec import FieldSpec
from graphpose.inference.evaluate import evaluate, metrics_line
from graphpose.metrics.coco import evaluate_coco
from graphpose.skeleton import COCO
from tests.oracle import Oracle


def at_least_three(ground_truth: dict) -> dict:
    """Persons with fewer than three labelled keypoints become regions that the metric ignores."""
    annotations = [
        {**a, "ignore": 1, "iscrowd": 1} if a["num_keypoints"] < 3 else a for a in ground_truth["annotations"]
    ]
    return {**ground_truth, "annotations": annotations}


def test_perfect_fields_of_demo_scenes_score_almost_one():
    dataset = DemoDataset(12, seed=2, size=160)
    network = Oracle(FieldSpec(COCO, 4))
    loader = make_loader(dataset, EvalTransform(None), 4, shuffle=False)
    found = evaluate(network, build_decoder(network.spec), network.watch(loader), dataset.ground_truth())
    assert found.metrics["AP"] >= 0.95
    assert {result["image_id"] for result in found.results} <= set(dataset.image_ids)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_perfect_fields_of_the_photographs_score_at_least_nine_tenths(data_root, split):
    """At 641 px and stride 8, through the resizing and back, over persons with at least three labelled keypoints."""
    coco = data_root / "coco"
    dataset = CocoDataset(coco / f"annotations/person_keypoints_{split}_local.json", coco / split)
    network = Oracle(FieldSpec(COCO, 8))
    loader = make_loader(dataset, EvalTransform(641), 4, shuffle=False)
    found = evaluate(
        network, build_decoder(network.spec), network.watch(loader), at_least_three(dataset.ground_truth())
    )
    assert found.metrics["AP"] >= 0.90
    assert not found.errors


def test_an_image_that_cannot_be_read_is_reported_and_counts_as_missed():
    class Damaged(DemoDataset):
        def __getitem__(self, index):
            if index == 1:
                raise GraphposeError("image 'scene_000002.png' is truncated")
            return super().__getitem__(index)

    dataset = Damaged(3, seed=2, size=160)
    network = Oracle(FieldSpec(COCO, 4))
    loader = make_loader(dataset, EvalTransform(None), 1, shuffle=False)
    truth = DemoDataset(3, seed=2, size=160).ground_truth()
    found = evaluate(network, build_decoder(network.spec), network.watch(loader), truth)
    assert found.errors == ["image 'scene_000002.png' is truncated"]
    assert 0 < found.metrics["AR"] < 0.9


def test_poses_map_to_the_original_image_and_missing_keypoints_stay_zero():
    poses = Poses(
        np.array([[[10.0, 20.0, 0.9], [0.0, 0.0, 0.0]]], np.float32), np.ones(1, np.float32), np.full((1, 2), 3.0)
    )
    mapped = poses.mapped(np.array([[2.0, 0.0, 0.5], [0.0, 2.0, -1.0]]))
    assert mapped.keypoints.tolist() == [[[20.5, 39.0, pytest.approx(0.9)], [0, 0, 0]]]
    assert mapped.scales.tolist() == [[6.0, 6.0]]


def test_metrics_are_written_for_people():
    metrics = evaluate_coco(json.loads(json.dumps(DemoDataset(2, size=64).ground_truth())), [], COCO)
    assert metrics_line(metrics, ("AP", "AR", "APL")) == "AP 0.000  AR 0.000  APL –"
