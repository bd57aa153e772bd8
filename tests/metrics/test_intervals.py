"""Figures on photographs: what is found, by which pose, and how sure that is."""

from typing import Any

import numpy as np
import pytest

from graphpose.data.demo.dataset import DemoDataset
from graphpose.metrics.coco import evaluate_coco
from graphpose.metrics.intervals import (
    bootstrap,
    coco_differences,
    coco_intervals,
    face_interval,
    joints_found,
    single_intervals,
)
from graphpose.skeleton import COCO


def test_joints_within_a_tenth_and_a_twentieth_of_the_long_side() -> None:
    truth = np.array([[0, 0, 2], [100, 0, 2], [0, 50, 1], [9, 9, 0]], float)
    # 10 px and 5 px of a box of 100 × 40; the first pose has distances 5, 10, 10.5, the second 5.5, none, 0
    poses = np.array(
        [
            [[0, 5, 0.9], [110, 0, 0.9], [10.5, 50, 0.9], [9, 9, 0.9]],
            [[5.5, 0, 0.9], [100, 0, 0.0], [0, 50, 0.9], [0, 0, 0]],
        ]
    )
    assert joints_found(truth, [0, 0, 100, 40], poses).tolist() == [[2, 2], [1, 1]]
    assert joints_found(truth, [0, 0, 100, 40], poses[::-1]).tolist() == [[2, 2], [1, 1]]
    assert joints_found(truth, [0, 0, 40, 110], poses).tolist() == [[3, 3], [2, 1]]


def test_the_best_of_the_five_highest_poses_counts_and_not_the_sixth() -> None:
    truth = np.array([[0, 0, 2], [50, 0, 2]], float)
    wrong, right = np.array([[40, 40, 1], [90, 90, 1]]), np.array([[0, 0, 1], [50, 0, 1]])
    box = [0, 0, 100, 100]
    assert joints_found(truth, box, np.array([wrong] * 4 + [right])).tolist() == [[2, 0], [2, 0]]
    assert joints_found(truth, box, np.array([wrong] * 5 + [right])).tolist() == [[0, 0], [0, 0]]
    assert joints_found(truth, box, np.zeros((0, 2, 3))).tolist() == [[0, 0], [0, 0]]


def test_the_face_is_found_by_any_pose_within_a_tenth_of_the_persons_box() -> None:
    keypoints = np.zeros((17, 3))
    keypoints[:3] = [50, 50, 2], [55, 45, 1], [45, 45, 2]  # nose, left and right eye; ears are not labelled
    keypoints[9] = [0, 0, 2]  # a wrist is no face
    person = {"image_id": 1, "bbox": [0, 0, 40, 100], "keypoints": keypoints.ravel().tolist(), "iscrowd": 0}
    truth = {"images": [{"id": 1}, {"id": 2}], "annotations": [person, person | {"image_id": 2, "iscrowd": 1}]}
    poses = np.zeros((2, 17, 3))
    poses[0, 0] = 60, 50, 0.9  # 10 of 100 pixels
    poses[1, 1] = 55, 55.5, 0.9  # 10.5
    poses[1, 2] = 45, 45, 0.0  # not found
    assert face_interval(truth, {1: poses}, COCO, 0)[0] == pytest.approx(1 / 3)
    poses[1, 1, 1] = 54
    assert face_interval(truth, {1: poses}, COCO, 0)[0] == pytest.approx(2 / 3)
    assert face_interval(truth, {}, COCO, 0)[0] == 0


def single_truth(images: int) -> dict[str, Any]:
    annotations = [
        {"id": i, "image_id": i, "area": 40.0, "iscrowd": 0, "bbox": [0, 0, 100, 50], "keypoints": [0, 0, 2, 50, 0, 2]}
        for i in range(images)
    ]
    return {"annotations": annotations, "images": [{"id": i} for i in range(images)], "categories": []}


def test_shares_are_of_all_labelled_joints_and_images_without_a_pose_count() -> None:
    truth = single_truth(4)
    truth["annotations"][3]["keypoints"] = [0, 0, 2, 0, 0, 0]
    perfect = np.array([[[50, 0, 1], [0, 0, 1], [7, 7, 1]]], float)  # the network's order, and a joint of its own
    columns = np.array([1, 0, -1])
    shares, joints = single_intervals(truth, {0: perfect, 1: perfect[:0], 3: perfect}, columns, 200)
    assert joints == 7
    assert shares["within 0.1 of the box, best of five"][0] == pytest.approx(3 / 7)
    assert shares["within 0.05 of the box, highest"][0] == pytest.approx(3 / 7)


def test_of_several_labelled_persons_the_largest_counts() -> None:
    truth = single_truth(1)
    larger = {**truth["annotations"][0], "id": 9, "area": 90.0, "keypoints": [20, 40, 2, 0, 0, 0]}
    truth["annotations"] = [larger, *truth["annotations"]]
    pose = np.array([[[20, 40, 1], [0, 0, 0]]], float)
    shares, joints = single_intervals(truth, {0: pose}, np.array([0, 1]), 0)
    assert joints == 1
    assert shares["within 0.1 of the box, highest"] == (1, 1, 1)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    (mean,), (low,), (high,) = bootstrap(lambda chosen: [values[chosen].mean()], 400, 4000)
    error = values.std() / 400**0.5
    assert mean == values.mean()
    assert low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)


def made_results(truth: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """The true poses, each moved by a random distance of its own."""
    rng = np.random.default_rng(seed)
    results = []
    for annotation in truth["annotations"]:
        pose = np.array(annotation["keypoints"], float).reshape(-1, 3)
        pose[:, :2] += rng.normal(0, rng.uniform(0, 8), (len(pose), 2))
        results.append(
            {
                "image_id": annotation["image_id"], "category_id": 1, "keypoints": pose.ravel().tolist(),
                "score": float(rng.random()),
            }
        )  # fmt: skip
    return results


def test_figures_of_coco_are_the_evaluators_and_a_draw_is_a_set_of_copies() -> None:
    truth = DemoDataset(6, seed=4).ground_truth()
    results = made_results(truth, 2)
    intervals = coco_intervals(truth, results, COCO, 300)
    metrics = evaluate_coco(truth, results, COCO)
    for name, (value, low, high) in intervals.items():
        assert value == pytest.approx(metrics[name])
        assert low < value < high
    # a draw in which one image stands thrice, against a set in which it was copied
    chosen = np.random.default_rng(0).integers(6, size=6)
    ids = sorted(image["id"] for image in truth["images"])
    copied: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    copied_results = []
    for number, place in enumerate(chosen.tolist()):
        copied["images"].append({"id": number, "file_name": "", "height": 160, "width": 160})
        for annotation in truth["annotations"]:
            if annotation["image_id"] == ids[place]:
                new_id = 1 + len(copied["annotations"])
                copied["annotations"].append({**annotation, "image_id": number, "id": new_id})
        copied_results += [{**r, "image_id": number} for r in results if r["image_id"] == ids[place]]
    one_draw = coco_intervals(truth, results, COCO, 1, seed=0)
    expected = evaluate_coco(copied, copied_results, COCO)
    for name, (_, low, high) in one_draw.items():
        assert low == high == pytest.approx(expected[name])


def test_without_a_pose_everything_is_zero() -> None:
    truth = DemoDataset(2, seed=4).ground_truth()
    assert set(coco_intervals(truth, [], COCO, 5).values()) == {(0.0, 0.0, 0.0)}


def test_differences_are_paired_so_that_the_same_results_differ_by_nothing() -> None:
    truth = DemoDataset(6, seed=4).ground_truth()
    base, other = made_results(truth, 2), made_results(truth, 3)
    same, different, none = coco_differences(truth, base, [base, other, []], COCO, 100)
    assert set(same.values()) == {(0.0, 0.0, 0.0)}
    before, after = (evaluate_coco(truth, results, COCO) for results in (base, other))
    for name, (value, low, high) in different.items():
        assert value == pytest.approx(after[name] - before[name])
        assert low <= value <= high
    assert none["AP"][0] == pytest.approx(-before["AP"])
