"""COCO metric: the hand-worked values, agreement of both evaluators, and what does not count."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpose.data.annotations.table import coco_category
from graphpose.data.coco import CocoDataset
from graphpose.errors import GraphposeError
from graphpose.fields.pose import Poses
from graphpose.metrics.coco import METRICS, coco_results, evaluate_coco
from graphpose.skeleton import COCO, CROWDPOSE, Skeleton

EVALUATORS = [
    "pycocotools",
    pytest.param(
        "fast",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("faster_coco_eval") is None, reason="faster-coco-eval is not installed"
        ),
    ),
]


def truth_of(keypoints: np.ndarray, skeleton: Skeleton, area: float = 20000.0) -> dict[str, Any]:
    """One image per person; keypoints (N, K, 3) with visibility."""
    flat = keypoints.reshape(len(keypoints), -1).astype(float).tolist()
    return {
        "images": [{"id": i + 1, "file_name": f"{i}.jpg", "height": 500, "width": 500} for i in range(len(flat))],
        "annotations": [
            {
                "id": i + 1,
                "image_id": i + 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": area,
                "bbox": [0, 0, 200, 200],
                "keypoints": values,
                "num_keypoints": int((keypoints[i, :, 2] > 0).sum()),
            }
            for i, values in enumerate(flat)
        ],
        "categories": [coco_category(skeleton)],
    }


def results_of(truth: dict[str, Any], shift: np.ndarray | float = 0.0, score: float = 0.9) -> list[dict[str, Any]]:
    """Every labelled person of the truth, its keypoints moved along x by ``shift`` (K,) pixels."""
    results = []
    for annotation in truth["annotations"]:
        if annotation["num_keypoints"] and not annotation["iscrowd"]:
            keypoints = np.array(annotation["keypoints"], float).reshape(-1, 3)
            keypoints[:, 0] += shift
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": 1,
                    "keypoints": keypoints.ravel().tolist(),
                    "score": score,
                }
            )
    return results


def persons(count: int, K: int = 17) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(50, 250, (count, K, 2)), np.full((count, K, 1), 2)], axis=2)


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda s: s.name)
def test_perfect_poses_score_one(evaluator: Any, skeleton: Skeleton) -> None:
    truth = truth_of(persons(4, skeleton.num_keypoints), skeleton)
    figures = evaluate_coco(truth, results_of(truth), skeleton, evaluator=evaluator)
    assert figures["AP"] == figures["AR"] == figures["APL"] == 1.0
    assert figures["APM"] == -1.0  # nobody of medium size


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("first", [0, -1, -3, 1, 10**12])
def test_every_annotation_id_can_be_matched(evaluator: Any, first: int) -> None:
    """To pycocotools a match with annotation 0 is none."""
    for count in (1, 4):
        truth = truth_of(persons(count), COCO)
        for annotation in truth["annotations"]:
            annotation["id"] += first - 1
        figures = evaluate_coco(truth, results_of(truth), COCO, evaluator=evaluator)
        assert (figures["AP"], figures["AR"]) == pytest.approx((1, 1))


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("category", [0, 7, -1, 2**40])
def test_every_category_id_is_scored(evaluator: Any, category: int) -> None:
    truth = truth_of(persons(3), COCO)
    results = results_of(truth)
    for record in (*truth["annotations"], *results):
        record["category_id"] = category
    truth["categories"][0]["id"] = category
    assert evaluate_coco(truth, results, COCO, evaluator=evaluator)["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("oks", [0.97, 0.83, 0.62, 0.51, 0.3])
def test_a_shift_of_every_keypoint_scores_the_share_of_thresholds_below_its_oks(evaluator: Any, oks: float) -> None:
    area = 20000.0
    # oks = exp(−d² / (2 · area · (2σ)²)) for every keypoint
    shift = np.sqrt(-2 * np.log(oks) * area) * 2 * np.array(COCO.sigmas)
    truth = truth_of(persons(5), COCO, area)
    figures = evaluate_coco(truth, results_of(truth, shift), COCO, evaluator=evaluator)
    passed = np.mean(np.linspace(0.5, 0.95, 10) <= oks)
    assert figures["AP"] == pytest.approx(passed)
    assert figures["AR"] == pytest.approx(passed)
    assert figures["AP50"] == float(oks >= 0.5)
    assert figures["AP75"] == float(oks >= 0.75)


def test_exchanged_sides_score_the_similarity_of_what_stays() -> None:
    keypoints = persons(3)
    keypoints[:, :, 0] = np.where(np.arange(17) % 2 == 1, 100, 3000)  # the sides are far apart
    keypoints[:, 0, 0] = 1500
    truth = truth_of(keypoints, COCO)
    swapped = results_of(truth)
    for result in swapped:
        flat = np.array(result["keypoints"]).reshape(17, 3)
        result["keypoints"] = flat[list(COCO.flip)].ravel().tolist()
    assert evaluate_coco(truth, swapped, COCO)["AP"] == 0.0  # only the nose is right: OKS = 1/17


def test_no_results_score_zero() -> None:
    large = truth_of(persons(2), COCO)
    assert evaluate_coco(large, [], COCO) == dict.fromkeys(METRICS, 0.0) | {"APM": -1.0, "ARM": -1.0}
    medium = truth_of(persons(2), COCO, area=40.0**2)
    assert evaluate_coco(medium, [], COCO) == dict.fromkeys(METRICS, 0.0) | {"APL": -1.0, "ARL": -1.0}


@pytest.mark.parametrize("area", [0.5, 32.0**2, 50.0**2, 96.0**2, 1e5])
@pytest.mark.parametrize("change", [{}, {"iscrowd": 1}, {"num_keypoints": 0}])
def test_without_results_there_are_no_figures_of_the_same_sizes_as_with_wrong_ones(
    area: float, change: dict[str, int]
) -> None:
    truth = truth_of(persons(3), COCO, area)
    for annotation in truth["annotations"]:
        annotation |= change
    wrong = results_of(truth_of(persons(3), COCO, area), 1e4)
    assert evaluate_coco(truth, [], COCO) == evaluate_coco(truth, wrong, COCO)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_results_of_other_images_do_not_count(evaluator: Any) -> None:
    truth = truth_of(persons(3), COCO)
    other = [{**result, "image_id": 999, "score": 1.0} for result in results_of(truth, 50.0)]
    assert evaluate_coco(truth, results_of(truth) + other, COCO, evaluator=evaluator)["AP"] == 1.0


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_only_the_best_detections_of_an_image_count(evaluator: Any) -> None:
    truth = truth_of(persons(2), COCO)
    false = [{**result, "score": 0.99} for result in results_of(truth, 400.0) for _ in range(5)]
    kept = evaluate_coco(truth, results_of(truth) + false, COCO, max_detections=6, evaluator=evaluator)
    lost = evaluate_coco(truth, results_of(truth) + false, COCO, max_detections=5, evaluator=evaluator)
    assert kept["AR"] == 1.0
    assert 0.1 < kept["AP"] < 0.2  # two right among twelve, ranked last
    assert lost["AP"] == lost["AR"] == 0.0


def test_a_missing_person_costs_recall_and_a_crowd_costs_nothing() -> None:
    truth = truth_of(persons(4), COCO)
    truth["annotations"][3].update(iscrowd=1)
    assert evaluate_coco(truth, results_of(truth), COCO)["AR"] == 1.0
    assert evaluate_coco(truth, results_of(truth)[:2], COCO)["AR"] == pytest.approx(2 / 3)


def test_the_ground_truth_is_left_as_it_was() -> None:
    truth = truth_of(persons(2), COCO)
    before = [dict(annotation) for annotation in truth["annotations"]]
    evaluate_coco(truth, results_of(truth), COCO)
    assert truth["annotations"] == before


def test_evaluation_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    truth = truth_of(persons(2), COCO)
    evaluate_coco(truth, results_of(truth), COCO)
    assert capfd.readouterr().out == ""


def test_poses_become_results_with_their_scores() -> None:
    keypoints = np.zeros((2, 17, 3), np.float32)
    keypoints[0, 3] = [12.3456, 7.5, 0.875]
    results = coco_results(42, Poses(keypoints, np.float32([0.75, 0.5]), np.zeros((2, 17), np.float32)), category_id=3)
    assert [(r["image_id"], r["category_id"], r["score"]) for r in results] == [(42, 3, 0.75), (42, 3, 0.5)]
    assert len(results[0]["keypoints"]) == 51
    np.testing.assert_allclose(results[0]["keypoints"][9:12], [12.346, 7.5, 0.875], atol=1e-5)
    assert coco_results(1, Poses.empty(17)) == []


def test_results_with_the_wrong_number_of_keypoints_and_unknown_evaluators_are_refused() -> None:
    truth = truth_of(persons(1), COCO)
    with pytest.raises(GraphposeError, match="image 1 has 51 keypoint values; 42 are needed"):
        evaluate_coco(truth, results_of(truth), CROWDPOSE)
    with pytest.raises(GraphposeError, match="unknown evaluator 'slow'; choose pycocotools or fast"):
        evaluate_coco(truth, results_of(truth), COCO, evaluator="slow")  # type: ignore[arg-type]


def perturbed(truth: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Detections as a network makes them: jittered, some missing, some false, some keypoints not found."""
    results = []
    for annotation in truth["annotations"]:
        if rng.random() < 0.2 or not annotation["num_keypoints"]:
            continue
        for _ in range(1 + (rng.random() < 0.2)):
            keypoints = np.array(annotation["keypoints"], float).reshape(-1, 3)
            spread = np.sqrt(annotation["area"]) * rng.uniform(0.005, 0.1)
            keypoints[:, :2] += rng.normal(size=(len(keypoints), 2)) * spread
            keypoints[rng.random(len(keypoints)) < 0.1] = 0
            record = {"image_id": annotation["image_id"], "category_id": 1, "keypoints": keypoints.ravel().tolist()}
            results.append({**record, "score": float(np.exp(-spread / 10) * rng.uniform(0.5, 1))})
    return results


@pytest.mark.skipif(importlib.util.find_spec("faster_coco_eval") is None, reason="faster-coco-eval is not installed")
@pytest.mark.parametrize("max_detections", [3, 20])
def test_both_evaluators_agree_on_real_annotations(data_root: Path, max_detections: int) -> None:
    truth = CocoDataset(data_root / "coco/annotations/person_keypoints_val2017_local.json", data_root).ground_truth()
    results = perturbed(truth, np.random.default_rng(0))
    ours, fast = (
        evaluate_coco(truth, results, COCO, evaluator=evaluator, max_detections=max_detections)
        for evaluator in ("pycocotools", "fast")
    )
    assert 0.2 < ours["AP"] < 0.8
    for name in METRICS:
        assert fast[name] == pytest.approx(ours[name], abs=1e-6), name


def test_figures_are_those_that_pycocotools_prints(data_root: Path) -> None:
    import pycocotools.coco
    from pycocotools.cocoeval import COCOeval

    path = data_root / "coco/annotations/person_keypoints_val2017_local.json"
    truth = CocoDataset(path, data_root).ground_truth()
    results = perturbed(truth, np.random.default_rng(1))
    reference = pycocotools.coco.COCO(str(path))
    evaluation = COCOeval(reference, reference.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ours = evaluate_coco(truth, results, COCO)
    np.testing.assert_allclose([ours[name] for name in METRICS], evaluation.stats, atol=1e-12)
