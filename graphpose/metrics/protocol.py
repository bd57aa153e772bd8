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
    """The protocol of a data set: head sizes are MPII's, crowd indices CrowdPose's, and one of them is enough; where
    others lack, :func:`require_scorable` names the first that does."""
    annotations, images = ground_truth["annotations"], ground_truth["images"]
    if skeleton.keypoints == MPII.keypoints and any("head_size" in annotation for annotation in annotations):
        return "mpii"
    if skeleton.keypoints == CROWDPOSE.keypoints and any("crowdIndex" in image for image in images):
        return "crowdpose"
    return "coco"


def require_scorable(ground_truth: Mapping[str, Any], skeleton: Skeleton, protocol: Protocol | None = None) -> Protocol:
    """The protocol by which a data set is scored, once it has all that its rules need: to be asked before the work.

    Args:
        ground_truth: COCO-format dict, as a data set's ``ground_truth()`` gives it.
        skeleton: of it.
        protocol: None takes :func:`protocol_of`.

    Raises:
        GraphposeError: an unknown protocol, another skeleton than MPII's for its rules, an annotation without
            ``head_size`` or an image without ``crowdIndex`` that they need, or nobody to score.
    """
    stated, protocol = protocol, protocol or protocol_of(ground_truth, skeleton)
    whose = f"{protocol}'s rules, which were asked for," if stated else f"{protocol}'s rules, which the data set has,"
    annotations, images = ground_truth["annotations"], ground_truth["images"]
    if protocol not in ("coco", "crowdpose", "mpii"):
        raise GraphposeError(f"unknown protocol '{protocol}'; choose coco, crowdpose or mpii")
    if protocol == "mpii" and skeleton.keypoints != MPII.keypoints:
        raise GraphposeError(f"{whose} are of MPII's own keypoints, not of skeleton '{skeleton.name}'")
    if protocol == "mpii":
        lacking = [annotation["id"] for annotation in annotations if "head_size" not in annotation]
        if lacking:
            raise GraphposeError(f"{whose} need a head size of every person; annotation {lacking[0]} has none "
                                 f"({len(lacking)} of {len(annotations)} lack it)")  # fmt: skip
    if protocol == "crowdpose":
        lacking = [image["id"] for image in images if not isinstance(image.get("crowdIndex"), (int, float))]
        if lacking:
            raise GraphposeError(f"{whose} need a crowdIndex of every image; image {lacking[0]} has none "
                                 f"({len(lacking)} of {len(images)} lack it)")  # fmt: skip
    if not any(_counts(annotation, protocol) for annotation in annotations):
        raise GraphposeError(
            f"nobody to score: none of {len(annotations)} annotations in {len(images)} images is a person that counts "
            f"by {protocol}'s rules (labelled keypoints, no crowd{', a head size' if protocol == 'mpii' else ''})"
        )
    return protocol


def _counts(annotation: Mapping[str, Any], protocol: Protocol) -> bool:
    if protocol == "mpii":
        size = annotation["head_size"]
        return bool(size) and size > 0 and annotation.get("group", 0) >= 0 and any(annotation["keypoints"][2::3])
    return bool(annotation["num_keypoints"]) and not annotation.get("iscrowd")


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
