"""Figures of a study's runs on photographs."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from experiments.paper.evaluation import set_figures
from graphpose.fields.pose import Poses
from graphpose.skeleton import COCO


class Labels(NamedTuple):
    """A data set without pictures: two images, the second with five persons."""

    skeleton: Any = COCO

    def ground_truth(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        annotations = []
        for number, image_id in enumerate([1, 2, 2, 2, 2, 2], start=1):
            keypoints = np.concatenate([rng.uniform(0, 100, (17, 2)), np.full((17, 1), 2)], 1)
            keypoints[0, 2] = 1
            annotations.append(
                {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "area": 5000.0,
                 "bbox": [0, 0, 100, 100], "keypoints": keypoints.ravel().tolist(), "num_keypoints": 17}
            )  # fmt: skip
        images = [{"id": image_id, "width": 100, "height": 100} for image_id in (1, 2)]
        return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def poses_of(labels: Labels, *image_ids: int) -> dict[int, Poses]:
    """The labels of some images, as if a network had found them."""
    found = {}
    for image_id in image_ids:
        own = [a["keypoints"] for a in labels.ground_truth()["annotations"] if a["image_id"] == image_id]
        keypoints = np.array(own, np.float32).reshape(-1, 17, 3)
        keypoints[:, :, 2] = 0.75
        found[image_id] = Poses(
            keypoints, np.linspace(1, 0.5, len(own), dtype=np.float32), np.ones((len(own), 17), np.float32)
        )
    return found


def test_what_is_labelled_is_found_by_every_figure():
    labels = Labels()
    figures = set_figures(labels, poses_of(labels, 1, 2), COCO, complete=True)
    confidences = {name: value for name, value in figures.items() if name.startswith("confidence")}
    assert confidences == pytest.approx({"confidence, hidden": 0.75, "confidence, visible": 0.75})
    assert [value for name, value in figures.items() if name not in confidences] == pytest.approx([1.0] * 18)
    assert {
        "AP",
        "AR",
        "AP, 1 person",
        "AP, 5 or more persons",
        "within 0.1, hidden",
        "within 0.1, wrist",
    } <= figures.keys()
    assert "AP, 2 to 4 persons" not in figures


def test_of_an_image_without_poses_nothing_is_found():
    labels = Labels()
    figures = set_figures(labels, poses_of(labels, 1), COCO, complete=True)
    assert (figures["AP, 1 person"], figures["AP, 5 or more persons"]) == pytest.approx((1.0, 0.0))
    assert figures["within 0.1"] == pytest.approx(1 / 6)
    alone = set_figures(labels, poses_of(labels, 1), COCO, complete=False)
    assert "AP" not in alone
    assert alone["within 0.1"] == pytest.approx(1 / 6)
