"""Error analysis: errors made on purpose are found as exactly what they are."""

from typing import Any

import numpy as np
import pytest

from graphpose.data.annotations.table import coco_category
from graphpose.metrics.error_analysis import (
    ERRORS,
    KEYPOINT_ERRORS,
    KEYPOINT_KINDS,
    ErrorAnalysis,
    analyse_errors,
    keypoint_similarity,
)
from graphpose.skeleton import COCO

AREA = 100.0**2
LEFT_WRIST, RIGHT_WRIST = COCO.index("left_wrist"), COCO.index("right_wrist")


def person(number: int, x: float = 0.0, image_id: int = 1) -> dict[str, Any]:
    """A person whose keypoints are 60 px apart: no similarity of one with another reaches 0.5."""
    xy = np.array([(x + 60 * (k % 5), 60 * (k // 5)) for k in range(17)], float)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": AREA,
        "bbox": [x, 0.0, 240.0, 180.0],
        "keypoints": np.column_stack([xy, np.full(17, 2)]).ravel().tolist(),
        "num_keypoints": 17,
    }


def truth_of(*persons: dict[str, Any]) -> dict[str, Any]:
    ids = sorted({p["image_id"] for p in persons} | {1})
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 400, "width": 900} for i in ids],
        "annotations": list(persons),
        "categories": [coco_category(COCO)],
    }


def points(record: dict[str, Any]) -> np.ndarray:
    return np.array(record["keypoints"], float).reshape(-1, 3)


def pose(of: dict[str, Any], score: float = 0.9, **moved: tuple[float, float]) -> dict[str, Any]:
    """The person's own pose, with some keypoints somewhere else."""
    keypoints = points(of)
    for name, place in moved.items():
        keypoints[COCO.index(name), :2] = place
    return {
        "image_id": of["image_id"],
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "score": score,
    }


def at_similarity(of: dict[str, Any], name: str, ks: float) -> tuple[float, float]:
    """A place beside a keypoint with a given similarity to it."""
    k = COCO.index(name)
    x, y, _ = points(of)[k]
    return x + np.sqrt(-2 * np.log(ks) * AREA) * 2 * COCO.sigmas[k], y


def kinds_of(analysis: ErrorAnalysis, number: int = 0) -> dict[str, str]:
    """Keypoints of a person that are not good, and what they are."""
    kinds = analysis.persons[number].kinds
    return {COCO.keypoints[k]: KEYPOINT_KINDS[i] for k, i in enumerate(kinds) if i > 0}


FIRST, SECOND = person(7), person(8, x=400.0)
TRUTH = truth_of(FIRST, SECOND)
WRIST = tuple(points(FIRST)[LEFT_WRIST, :2])


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (at_similarity(FIRST, "left_wrist", 0.86), None),
        (at_similarity(FIRST, "left_wrist", 0.84), "jitter"),
        (at_similarity(FIRST, "left_wrist", 0.51), "jitter"),
        (at_similarity(FIRST, "left_wrist", 0.49), "miss"),
        (tuple(points(FIRST)[RIGHT_WRIST, :2]), "inversion"),
        (at_similarity(FIRST, "right_wrist", 0.51), "inversion"),
        (tuple(points(SECOND)[LEFT_WRIST, :2]), "swap"),
        (tuple(points(SECOND)[RIGHT_WRIST, :2]), "swap"),
        (at_similarity(SECOND, "left_wrist", 0.49), "miss"),
        ((5000.0, 5000.0), "miss"),
        (tuple(points(FIRST)[COCO.index("nose"), :2]), "miss"),
    ],
)
def test_a_moved_wrist_is_exactly_this_kind_of_error(place: tuple[float, float], kind: str | None) -> None:
    analysis = analyse_errors(TRUTH, [pose(FIRST, left_wrist=place), pose(SECOND)], COCO)
    assert kinds_of(analysis) == ({} if kind is None else {"left_wrist": kind})
    assert kinds_of(analysis, 1) == {}
    counts = analysis.counts()
    assert counts["good"] == 34 - (kind is not None)
    assert all(counts[other] == (other == kind) for other in KEYPOINT_ERRORS)
    assert (counts["score"], counts["missed_person"], analysis.false_positives) == (0, 0, [])


def test_exchanged_sides_of_a_whole_person_are_inversions_of_every_paired_keypoint() -> None:
    turned = {**pose(FIRST), "keypoints": points(FIRST)[list(COCO.flip)].ravel().tolist()}
    kinds = [KEYPOINT_KINDS.index("inversion")] * 17
    kinds[COCO.index("nose")] = KEYPOINT_KINDS.index("good")
    # one keypoint of seventeen at its place is an OKS of 0.06: below 0.1 the pose belongs to nobody
    assert analyse_errors(truth_of(FIRST), [turned], COCO).false_positives == [0]
    turned["keypoints"][3 * 5 : 3 * 9] = FIRST["keypoints"][3 * 5 : 3 * 9]
    kinds[5:9] = [0] * 4
    assert analyse_errors(truth_of(FIRST), [turned], COCO).persons[0].kinds.tolist() == kinds


def test_a_keypoint_that_was_not_found_is_missed_and_an_unlabelled_one_is_nothing() -> None:
    lost = pose(FIRST)
    lost["keypoints"][3 * LEFT_WRIST : 3 * LEFT_WRIST + 3] = [0, 0, 0]
    assert kinds_of(analyse_errors(TRUTH, [lost], COCO)) == {"left_wrist": "miss"}
    unlabelled = {**FIRST, "keypoints": lost["keypoints"], "num_keypoints": 16}
    analysis = analyse_errors(truth_of(unlabelled), [pose(FIRST)], COCO)
    assert analysis.persons[0].kinds[LEFT_WRIST] == -1
    assert kinds_of(analysis) == {}


def test_a_pose_of_nobody_is_a_false_positive_and_a_person_without_pose_is_missed() -> None:
    stranger = pose(person(9, x=5000.0))
    analysis = analyse_errors(TRUTH, [pose(FIRST), stranger], COCO)
    assert analysis.false_positives == [1]
    assert [p.result for p in analysis.persons] == [0, None]
    assert analysis.counts()["missed_person"] == 1
    assert analysis.counts()["good"] == 17


def test_a_pose_on_a_crowd_region_is_no_false_positive() -> None:
    crowd = {
        **person(9, x=5000.0),
        "iscrowd": 1,
        "keypoints": [0] * 51,
        "num_keypoints": 0,
        "bbox": [4900, 0, 600, 400],
    }
    analysis = analyse_errors(truth_of(FIRST, crowd), [pose(FIRST), pose(person(9, x=5000.0))], COCO)
    assert analysis.false_positives == []
    assert len(analysis.persons) == 1


def test_a_better_pose_with_the_lower_score_is_a_score_error() -> None:
    worse = pose(FIRST, 0.9, left_wrist=(5000.0, 0.0))
    analysis = analyse_errors(truth_of(FIRST), [worse, pose(FIRST, 0.4)], COCO)
    assert analysis.counts()["score"] == 1
    assert analysis.false_positives == [1]  # the surer one takes the person
    assert analyse_errors(truth_of(FIRST), [{**worse, "score": 0.3}, pose(FIRST, 0.4)], COCO).counts()["score"] == 0


def messy_results() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Six persons in three images with errors of every kind."""
    persons = [person(i, x=400.0 * (i % 2), image_id=1 + i // 2) for i in range(2, 8)]
    swapped = tuple(points(persons[1])[LEFT_WRIST, :2])
    results = [
        pose(persons[0], 0.9, left_wrist=swapped, left_knee=at_similarity(persons[0], "left_knee", 0.6)),
        pose(persons[1], 0.5, left_ankle=tuple(points(persons[1])[COCO.index("right_ankle"), :2])),
        pose(persons[2], 0.8, nose=(4000.0, 0.0), left_hip=(4000.0, 0.0)),
        pose(persons[2], 0.6),
        pose(person(9, x=5000.0, image_id=persons[3]["image_id"]), 0.95),
        pose(persons[3], 0.7),
        pose(persons[4], 0.85),
    ]
    return truth_of(*persons), results


def test_correcting_everything_scores_one_and_no_correction_costs_anything() -> None:
    truth, results = messy_results()
    analysis = analyse_errors(truth, results, COCO)
    counts = analysis.counts()
    assert {kind: counts[kind] for kind in KEYPOINT_ERRORS} == {"jitter": 1, "inversion": 1, "swap": 1, "miss": 2}
    assert (counts["score"], counts["missed_person"], len(analysis.false_positives)) == (1, 1, 2)
    gains = analysis.gains()
    assert set(gains) == {"AP", *ERRORS}
    assert 0 < gains["AP"] < 1
    assert all(gains[kind] >= 0 for kind in ERRORS)
    assert gains["missed_person"] > 0
    corrected = analyse_errors(*analysis.corrected(ERRORS), COCO)
    assert corrected.gains()["AP"] == pytest.approx(1.0)
    assert sum(corrected.counts()[kind] for kind in KEYPOINT_ERRORS) == 0


@pytest.mark.parametrize("kind", KEYPOINT_ERRORS)
def test_a_corrected_kind_is_gone_and_the_others_stay(kind: str) -> None:
    truth, results = messy_results()
    analysis = analyse_errors(truth, results, COCO)
    before, after = analysis.counts(), analyse_errors(*analysis.corrected([kind]), COCO).counts()
    assert after[kind] == 0
    assert all(after[other] == before[other] for other in KEYPOINT_ERRORS if other != kind)


def test_perfect_results_have_no_errors_and_nothing_to_gain() -> None:
    analysis = analyse_errors(TRUTH, [pose(FIRST), pose(SECOND)], COCO)
    assert analysis.counts()["good"] == 34
    assert analysis.gains() == pytest.approx({"AP": 1.0, **dict.fromkeys(ERRORS, 0.0)})
    assert set(analysis.image_costs().values()) == {0.0}


def test_without_results_everybody_is_missed() -> None:
    analysis = analyse_errors(TRUTH, [], COCO)
    assert analysis.counts()["missed_person"] == analysis.counts()["persons"] == 2
    assert analysis.image_costs() == {1: 2.0}


def test_images_cost_what_is_wrong_in_them() -> None:
    truth, results = messy_results()
    costs = analyse_errors(truth, results, COCO).image_costs()
    assert costs[4] == pytest.approx(1.0)  # of two persons one is missed, the other is perfect
    assert costs[3] == pytest.approx(2 / 17 + 0.6 + 0.95)  # two keypoints missed, two poses of nobody


def test_only_the_surest_poses_of_an_image_count() -> None:
    results = [pose(person(9, x=5000.0 + 900 * i), 0.1 * i) for i in range(1, 6)]
    analysis = analyse_errors(TRUTH, results, COCO, max_detections=2)
    assert [result["score"] for result in analysis.results] == pytest.approx([0.4, 0.5])
    assert analysis.false_positives == [0, 1]


def test_overlapping_boxes_are_counted_at_an_iou_above_a_tenth() -> None:
    near, far = person(8, x=180.0), person(9, x=230.0)  # IoU with the first 60 / 420 and 10 / 470
    analysis = analyse_errors(truth_of(FIRST, near, far), [], COCO)
    assert [p.overlaps for p in analysis.persons] == [1, 2, 1]


def test_similarity_is_the_published_formula() -> None:
    truth = points(FIRST)[None]
    moved = truth.copy()
    moved[:, :, 0] += 8.0
    expected = [np.exp(-(8.0**2) / (2 * AREA * (2 * sigma) ** 2)) for sigma in COCO.sigmas]
    assert keypoint_similarity(moved, truth, np.array([AREA]), COCO)[0, 0] == pytest.approx(expected)


def test_counts_by_keypoint_add_up() -> None:
    truth, results = messy_results()
    analysis = analyse_errors(truth, results, COCO)
    by_keypoint = analysis.by_keypoint()
    assert by_keypoint["nose"] == {"good": 4, "jitter": 0, "inversion": 0, "swap": 0, "miss": 1}
    for kind in KEYPOINT_KINDS:
        assert sum(counts[kind] for counts in by_keypoint.values()) == analysis.counts()[kind]
