"""CrowdPose metrics: AP over all images and over easy, medium and hard ones by their CrowdIndex.

Three rules differ from COCO's and are easily missed: the area of a person is 0.53 of the box whatever the file says,
the sigmas are CrowdPose's own, and a person is left out by the file's own ``num_keypoints``, which does not count head
and neck.

Source: Li et al., "CrowdPose: Efficient Crowded Scenes Pose Estimation and A New Benchmark", CVPR 2019; the evaluator
published with it (crowdposetools, cocoeval). The paper cuts easy from medium at CrowdIndex 0.1, the evaluator at 0.2;
published tables come from the evaluator, so 0.2 it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from graphpose.data.annotations.subsets import CROWD_BANDS
from graphpose.data.annotations.table import AREA_OF_BOX
from graphpose.errors import GraphposeError
from graphpose.metrics.coco import evaluate_coco
from graphpose.skeleton import CROWDPOSE, Skeleton

METRICS = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard")


def evaluate_crowdpose(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton = CROWDPOSE,
    *,
    max_detections: int = 20,
    evaluator: Literal["pycocotools", "fast"] = "pycocotools",
) -> dict[str, float]:
    """CrowdPose's figures.

    Args:
        ground_truth: as CrowdPose's files have it: images with ``crowdIndex``, annotations with ``num_keypoints``.
        results: COCO results format; those of other images are left out.
        skeleton: gives K and the sigmas.
        max_detections: poses per image that count, best first.
        evaluator: see :func:`graphpose.metrics.coco.evaluate_coco`.

    Returns:
        The nine figures of METRICS in [0, 1]; −1 for a crowding of which there is nobody to find.

    Raises:
        GraphposeError: when an image has no ``crowdIndex``, or as evaluate_coco does.
    """
    for image in ground_truth["images"]:
        if not isinstance(image.get("crowdIndex"), (int, float)):
            raise GraphposeError(f"image {image['id']} has no crowdIndex; CrowdPose's own annotation files state it")
    truth = dict(ground_truth)
    truth["annotations"] = [
        {**annotation, "area": AREA_OF_BOX * annotation["bbox"][2] * annotation["bbox"][3]}
        for annotation in ground_truth["annotations"]
    ]
    # Sorting by score must not depend on what else is scored, so every crowding is evaluated as a set of its own.
    figures = evaluate_coco(truth, results, skeleton, max_detections=max_detections, evaluator=evaluator)
    values = {name: figures[name] for name in METRICS if name in figures}
    for crowding, (low, high) in CROWD_BANDS.items():
        ids = {i["id"] for i in truth["images"] if low <= i["crowdIndex"] < high}
        part, found = _restrict(truth, ids), [result for result in results if result["image_id"] in ids]
        if any(a["num_keypoints"] and not a.get("iscrowd") for a in part["annotations"]):
            figures = evaluate_coco(part, found, skeleton, max_detections=max_detections, evaluator=evaluator)
            values[f"AP_{crowding}"] = figures["AP"]
        else:
            values[f"AP_{crowding}"] = -1.0
    return values


def _restrict(truth: Mapping[str, Any], image_ids: set[int]) -> dict[str, Any]:
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in image_ids],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in image_ids],
    }
