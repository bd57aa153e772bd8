"""COCO keypoint metrics: average precision and recall over object keypoint similarity (OKS), for any skeleton.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; https://cocodataset.org/#keypoints-eval.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.fields.pose import Poses
from graphpose.metrics.results import require_results
from graphpose.skeleton import Skeleton

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

Evaluator = Literal["pycocotools", "fast"]

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def coco_results(image_id: int, poses: Poses, category_id: int = 1) -> list[dict[str, Any]]:
    """Poses of one image in COCO's results format, as its evaluation server takes them.

    Args:
        image_id: id from the annotation file's record.
        poses: in pixels of the original image.
        category_id: id of the keypoint category in the annotation file.

    Returns:
        One record per pose, best first; keypoints flat as x, y, confidence, and 0, 0, 0 where not found.
    """
    return poses.to_coco(image_id, category_id)


def evaluate_coco(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    max_detections: int = 20,
    evaluator: Evaluator = "pycocotools",
) -> dict[str, float]:
    """AP and AR over OKS thresholds 0.50:0.05:0.95.

    Args:
        ground_truth: COCO-format dict of one category; only its images count, results of others are left out.
        results: COCO results format, of the same category.
        skeleton: gives K and the sigmas.
        max_detections: poses per image that count, best first.
        evaluator: "pycocotools" is the reference, "fast" is faster-coco-eval where that is installed.

    Returns:
        The ten figures of METRICS in [0, 1], 0 without results; −1, as pycocotools has it, for a size (medium, large)
        of which the ground truth has nobody.

    Raises:
        GraphposeError: when a result is none that can be scored (see
            :func:`graphpose.metrics.results.require_results`), or the evaluator is unknown or missing.
    """
    evaluation = run_coco_evaluation(
        ground_truth, results, skeleton, max_detections=max_detections, evaluator=evaluator
    )
    if evaluation is None:
        return _nothing_found(ground_truth)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    return summarise(evaluation.eval["precision"], evaluation.eval["recall"], evaluation.params.iouThrs)


def run_coco_evaluation(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    max_detections: int = 20,
    thresholds: Sequence[float] | None = None,
    evaluator: Evaluator = "pycocotools",
) -> COCOeval | None:
    """The evaluator itself after its matching, for those who need more than the ten figures.

    Args:
        ground_truth: COCO-format dict. Its annotations are numbered from 1 in their order, whatever their ids: to the
            evaluators a match with annotation 0 is none.
        results: COCO results format; results of images that ``ground_truth`` does not have are left out, the others are
            numbered from 1 in their order.
        skeleton: gives K and the sigmas.
        max_detections: poses per image that count, best first.
        thresholds: of OKS; None is 0.50:0.05:0.95.
        evaluator: see :func:`evaluate_coco`.

    Returns:
        A COCOeval on which ``evaluate()`` was called; None without results.

    Raises:
        GraphposeError: as evaluate_coco does.
    """
    require_results(results, skeleton.num_keypoints, ground_truth)
    known = {image["id"] for image in ground_truth["images"]}
    kept = [dict(result) for result in results if result["image_id"] in known]
    if not kept:
        return None
    coco_type, eval_type = _evaluator(evaluator)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_type()
        truth.dataset = {
            "info": {},
            "images": list(ground_truth["images"]),
            # pycocotools writes into the annotations it is given.
            "annotations": [{**a, "id": number} for number, a in enumerate(ground_truth["annotations"], start=1)],
            "categories": list(ground_truth["categories"]),
        }
        truth.createIndex()
        evaluation = eval_type(truth, truth.loadRes(kept), iouType="keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        evaluation.params.imgIds = sorted(known)
        evaluation.params.maxDets = [max_detections]
        if thresholds is not None:
            evaluation.params.iouThrs = np.array(thresholds)
        evaluation.evaluate()
    return evaluation


def _nothing_found(ground_truth: Mapping[str, Any]) -> dict[str, float]:
    """The ten figures without results: 0, and −1 for a size of which there is nobody."""
    areas = [a["area"] for a in ground_truth["annotations"] if a["num_keypoints"] and not a.get("iscrowd")]
    medium, large = (any(low <= area <= high for area in areas) for low, high in ((32**2, 96**2), (96**2, 1e10)))
    persons = {"APM": medium, "ARM": medium, "APL": large, "ARL": large}
    return {name: 0.0 if persons.get(name, bool(areas)) else -1.0 for name in METRICS}


def summarise(precision: np.ndarray, recall: np.ndarray, thresholds: np.ndarray) -> dict[str, float]:
    """The ten COCO figures.

    Args:
        precision: (T, R, classes, 3, 1) over thresholds, recalls, classes and sizes all / medium / large; −1 is none.
        recall: (T, classes, 3, 1).
        thresholds: (T,) OKS thresholds.
    """
    half, three_quarters = (int(np.abs(thresholds - t).argmin()) for t in (0.5, 0.75))

    def mean(values: np.ndarray) -> float:
        values = values[values > -1]
        return float(values.mean()) if values.size else -1.0

    figures = []
    for table in (precision, recall):
        everybody, medium, large = (table[..., size, :] for size in range(3))
        figures += [everybody, everybody[half], everybody[three_quarters], medium, large]
    return {name: mean(values) for name, values in zip(METRICS, figures, strict=True)}


def _evaluator(name: str) -> tuple[type[COCO], type[COCOeval]]:
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval
    if name == "fast":
        try:
            import faster_coco_eval
        except ImportError:
            raise GraphposeError(
                "evaluator 'fast' needs the package faster-coco-eval; install it or choose 'pycocotools'"
            ) from None
        return faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster
    raise GraphposeError(f"unknown evaluator '{name}'; choose pycocotools or fast")
