"""Which rules a data set is scored by: COCO's, CrowdPose's or MPII's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from graphpose.errors import GraphposeError
from graphpose.metrics.coco import Evaluator, evaluate_coco
from graphpose.metrics.crowdpose import evaluate_crowdpose
from graphpose.metrics.mpii import evaluate_mpii
from graphpose.skeleton import CROWDPOSE, MPII, Skeleton

Protocol = Literal["coco", "crowdpose", "mpii"]

# The figures of a protocol that are printed on one line, the one that stands for all first.
HEADLINES: dict[str, tuple[str, ...]] = {
    "coco": ("AP", "AP50", "AP75", "APM", "APL", "AR"),
    "crowdpose": ("AP", "AP50", "AP75", "AP_easy", "AP_medium", "AP_hard"),
    "mpii": ("mAP", "PCKh", "AP_head", "AP_shoulder", "AP_elbow", "AP_wrist", "AP_hip", "AP_knee", "AP_ankle"),
}


def protocol_of(ground_truth: Mapping[str, Any], skeleton: Skeleton) -> Protocol:
    """The protocol that a data set states everything for: head sizes are MPII's, crowd indices CrowdPose's."""
    annotations, images = ground_truth["annotations"], ground_truth["images"]
    if skeleton.keypoints == MPII.keypoints and all("head_size" in annotation for annotation in annotations):
        return "mpii"
    if skeleton.keypoints == CROWDPOSE.keypoints and all("crowdIndex" in image for image in images):
        return "crowdpose"
    return "coco"


def evaluate_results(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    protocol: Protocol | None = None,
    max_detections: int = 20,
    evaluator: Evaluator = "pycocotools",
) -> dict[str, float]:
    """Score results by the rules of one protocol.

    Args:
        ground_truth: COCO-format dict, as a data set's ``ground_truth()`` gives it.
        results: COCO results format.
        skeleton: of both.
        protocol: None takes :func:`protocol_of`.
        max_detections: poses per image that count, best first; MPII counts all.
        evaluator: of COCO and CrowdPose, see :func:`graphpose.metrics.coco.evaluate_coco`.

    Raises:
        GraphposeError: an unknown protocol, or as its evaluator does.
    """
    protocol = protocol or protocol_of(ground_truth, skeleton)
    if protocol == "mpii":
        return evaluate_mpii(ground_truth, results, skeleton)
    if protocol not in ("coco", "crowdpose"):
        raise GraphposeError(f"unknown protocol '{protocol}'; choose coco, crowdpose or mpii")
    score = evaluate_crowdpose if protocol == "crowdpose" else evaluate_coco
    return score(ground_truth, results, skeleton, max_detections=max_detections, evaluator=evaluator)


def headline_names(metrics: Mapping[str, float]) -> tuple[str, ...]:
    """The figures of HEADLINES for whatever protocol ``metrics`` come from."""
    protocol = "mpii" if "PCKh" in metrics else "crowdpose" if "AP_easy" in metrics else "coco"
    return HEADLINES[protocol]
