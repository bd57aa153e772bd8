"""CrowdPose metric: against a plain loop over the published rules, on the real annotations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpose.data.annotations.table import coco_category
from graphpose.data.coco import CocoDataset
from graphpose.errors import GraphposeError
from graphpose.metrics.crowdpose import METRICS, evaluate_crowdpose
from graphpose.skeleton import CROWDPOSE

SIGMAS = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10


def plain_similarity(pose: np.ndarray, person: dict[str, Any]) -> float:
    """OKS by the published formula; (K, 2) against one annotation."""
    truth = np.array(person["keypoints"], float).reshape(-1, 3)
    x, y, w, h = person["bbox"]
    labelled = truth[:, 2] > 0
    if labelled.any():
        offset = pose - truth[:, :2]
    else:  # distance to the doubled box
        low, high = np.array([x - w, y - h]), np.array([x + 2 * w, y + 2 * h])
        offset = np.maximum(0, low - pose) + np.maximum(0, pose - high)
        labelled[:] = True
    squared = (offset**2).sum(axis=1) / (2 * SIGMAS) ** 2 / (0.53 * w * h + np.spacing(1)) / 2
    return float(np.exp(-squared[labelled]).mean())


def plain_average_precision(truth: dict[str, Any], results: list[dict[str, Any]], image_ids: list[int]) -> float:
    """AP over thresholds and 101 recalls, one image and one detection after the other."""
    precisions = []
    records: dict[float, list[tuple[float, bool]]] = {t: [] for t in np.linspace(0.5, 0.95, 10)}
    positives = 0
    for image_id in sorted(image_ids):
        persons = [a for a in truth["annotations"] if a["image_id"] == image_id]
        ignored = [bool(a["iscrowd"] or a["num_keypoints"] == 0) for a in persons]
        positives += ignored.count(False)
        found = [r for r in results if r["image_id"] == image_id]
        found = sorted(found, key=lambda r: -r["score"])[:20]
        poses = [np.array(r["keypoints"]).reshape(-1, 3)[:, :2] for r in found]
        similarity = np.array([[plain_similarity(pose, a) for a in persons] for pose in poses])
        order = sorted(range(len(persons)), key=lambda g: ignored[g])
        for threshold in records:
            taken: set[int] = set()
            for d, result in enumerate(found):
                best, match = threshold, None
                for g in order:
                    if g in taken and not persons[g]["iscrowd"]:
                        continue
                    if match is not None and ignored[g] and not ignored[match]:
                        break
                    if similarity[d, g] >= best:
                        best, match = similarity[d, g], g
                if match is not None:
                    taken.add(match)
                if match is None or not ignored[match]:
                    records[threshold].append((result["score"], match is not None))
    for found_at in records.values():
        found_at.sort(key=lambda r: -r[0])
        hits = np.cumsum([hit for _, hit in found_at])
        precision = hits / np.arange(1, len(hits) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(hits / positives, np.linspace(0, 1, 101))
        precisions += [envelope[i] if i < len(envelope) else 0.0 for i in at]
    return float(np.mean(precisions))


def perturbed(truth: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    results = []
    for annotation in truth["annotations"]:
        keypoints = np.array(annotation["keypoints"], float).reshape(-1, 3)
        if not keypoints[:, 2].any() or rng.random() < 0.15:
            continue
        width, height = annotation["bbox"][2:]
        spread = np.sqrt(width * height) * rng.uniform(0, 0.12)
        keypoints[:, :2] += spread * rng.normal(size=(14, 2))
        results.append(
            {
                "image_id": annotation["image_id"],
                "category_id": 1,
                "keypoints": keypoints.ravel().tolist(),
                "score": float(rng.uniform(0.3, 1)),
            }
        )
    return results


@pytest.fixture(scope="module")
def crowdpose_truth(data_root: Path) -> dict[str, Any]:
    return CocoDataset(data_root / "crowdpose/crowdpose_val.json", data_root).ground_truth()


def every_nth_image(truth: dict[str, Any], n: int) -> dict[str, Any]:
    chosen = {image["id"] for image in truth["images"][::n]}
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in chosen],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in chosen],
    }


def test_figures_equal_a_plain_loop_over_the_published_rules(crowdpose_truth: dict[str, Any]) -> None:
    truth = every_nth_image(crowdpose_truth, 12)
    results = perturbed(truth, 0)
    figures = evaluate_crowdpose(truth, results)
    cuts = {"AP": (0, 9), "AP_easy": (0, 0.2), "AP_medium": (0.2, 0.8), "AP_hard": (0.8, 9)}
    for name, (low, high) in cuts.items():
        image_ids = [image["id"] for image in truth["images"] if low <= image["crowdIndex"] < high]
        assert len(image_ids) > 10
        assert figures[name] == pytest.approx(plain_average_precision(truth, results, image_ids), abs=1e-6), name
    assert 0.1 < figures["AP"] < 0.9


def test_perfect_poses_score_one_in_every_crowding(crowdpose_truth: dict[str, Any]) -> None:
    truth = every_nth_image(crowdpose_truth, 10)
    results = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 0.9}
        for a in truth["annotations"]
        if a["num_keypoints"] and not a["iscrowd"]
    ]
    assert evaluate_crowdpose(truth, results) == pytest.approx(dict.fromkeys(METRICS, 1.0))


def test_ground_truth_keeps_the_counts_and_crowding_that_the_file_states(crowdpose_truth: dict[str, Any]) -> None:
    only_head_or_neck = [
        a for a in crowdpose_truth["annotations"] if a["num_keypoints"] == 0 and any(a["keypoints"][2::3])
    ]
    assert len(only_head_or_neck) == 888 + 66
    for annotation in only_head_or_neck:
        assert not any(annotation["keypoints"][2:36:3])
    assert max(image["crowdIndex"] for image in crowdpose_truth["images"]) == 3.02


def small_truth(crowd_index: float | None = 0.5, **changes: Any) -> dict[str, Any]:
    keypoints = [value for k in range(14) for value in (10.0 * k, 5.0 * k, 2)]
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [0, 0, 130, 65],
        "area": 1e9,
        "keypoints": keypoints,
        "num_keypoints": 12,
    }
    image = {"id": 1, "file_name": "a.jpg", "height": 100, "width": 200}
    return {
        "images": [image | ({} if crowd_index is None else {"crowdIndex": crowd_index})],
        "annotations": [{**annotation, **changes}],
        "categories": [coco_category(CROWDPOSE)],
    }


@pytest.mark.parametrize(("oks", "passed"), [(0.88, 0.8), (0.52, 0.1), (0.49, 0.0)])
def test_a_shift_scores_by_the_area_of_the_box_whatever_area_the_file_states(oks: float, passed: float) -> None:
    truth = small_truth()
    shift = np.sqrt(-2 * np.log(oks) * 0.53 * 130 * 65) * 2 * SIGMAS
    keypoints = np.array(truth["annotations"][0]["keypoints"]).reshape(14, 3)
    keypoints[:, 1] += shift
    result = {"image_id": 1, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": 1.0}
    assert evaluate_crowdpose(truth, [result])["AP"] == pytest.approx(passed)


@pytest.mark.parametrize(
    ("crowd_index", "crowding"), [(0.0, "easy"), (0.19, "easy"), (0.2, "medium"), (0.79, "medium"), (0.8, "hard")]
)
def test_cuts_of_the_crowd_index_are_those_of_the_published_evaluator(crowd_index: float, crowding: str) -> None:
    truth = small_truth(crowd_index)
    result = {
        "image_id": 1,
        "category_id": 1,
        "keypoints": truth["annotations"][0]["keypoints"],
        "score": 1.0,
    }
    figures = evaluate_crowdpose(truth, [result])
    assert [name for name in METRICS if name.startswith("AP_") and figures[name] >= 0] == [f"AP_{crowding}"]
    assert figures[f"AP_{crowding}"] == pytest.approx(1.0)


def test_an_image_without_crowd_index_is_named() -> None:
    with pytest.raises(GraphposeError, match="image 1 has no crowdIndex"):
        evaluate_crowdpose(small_truth(None), [])
