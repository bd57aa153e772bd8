"""MPII metrics: against plain loops over the toolkit's rules on the real annotations, and by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpose.data.annotations.read import read_annotations
from graphpose.errors import GraphposeError
from graphpose.metrics.mpii import METRICS, SCORED, average_precision, evaluate_mpii, match_poses, pckh
from graphpose.skeleton import COCO, MPII

Truth = dict[str, Any]
NAMES = {
    "head": (8, 9), "shoulder": (12, 13), "elbow": (11, 14), "wrist": (10, 15), "hip": (2, 3), "knee": (1, 4),
    "ankle": (0, 5),
}  # fmt: skip


def person_at(x: float, y: float, head: float = 20.0, number: int = 1, image_id: int = 1, **changes: Any) -> Truth:
    """A person 150 px wide and 75 px tall, joints on a slanted line, no two within 10 px."""
    keypoints = [value for k in range(16) for value in (x + 10 * k, y + 5 * k, 2)]
    return {"id": number, "image_id": image_id, "keypoints": keypoints, "head_size": head, **changes}


def truth_of(*persons: Truth) -> Truth:
    ids = sorted({person["image_id"] for person in persons})
    return {"images": [{"id": i} for i in ids], "annotations": list(persons), "categories": []}


def pose_of(person: Truth, score: float = 0.9, shift: float = 0.0) -> dict[str, Any]:
    keypoints = np.array(person["keypoints"], float).reshape(16, 3)
    keypoints[keypoints[:, 2] > 0] += (shift, 0, 0)
    keypoints[:, 2] = np.where(keypoints[:, 2] > 0, score, 0)
    return {"image_id": person["image_id"], "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": score}


@pytest.fixture(scope="module")
def valid(data_root: Path) -> Truth:
    """Ground truth of the 2,958 persons of mpii_valid.h5."""
    annotations = read_annotations(data_root / "mpii/mpii_valid.h5")
    return {
        "images": [{"id": i} for i in dict.fromkeys(annotations.image_ids.tolist())],
        "annotations": [
            {"id": int(n), "image_id": int(i), "keypoints": k.ravel().tolist(), "head_size": float(h)}
            for n, i, k, h in zip(
                annotations.ids, annotations.image_ids, annotations.keypoints, annotations.head_size, strict=True
            )
        ],
        "categories": [],
    }


def perturbed(truth: Truth, seed: int) -> list[dict[str, Any]]:
    """Poses near the truth: some persons missed, some doubled, some joints lost, every error of its own size."""
    rng = np.random.default_rng(seed)
    results = []
    for person in truth["annotations"]:
        for _ in range(rng.choice([0, 1, 1, 1, 1, 2])):
            keypoints = np.array(person["keypoints"], float).reshape(16, 3)
            keypoints[:, :2] += rng.uniform(0, 0.8) * person["head_size"] * rng.normal(size=(16, 2))
            keypoints[:, 2] = rng.uniform(0.1, 1, 16) * (rng.random(16) < 0.9) * (keypoints[:, 2] > 0)
            keypoints[keypoints[:, 2] == 0] = 0
            identity = {"image_id": person["image_id"], "category_id": 1}
            results.append({**identity, "keypoints": keypoints.ravel().tolist(), "score": 0.5})
    return results


def plain_figures(truth: Truth, results: list[dict[str, Any]]) -> dict[str, float]:
    """The toolkit's rules, one image, person, pose and joint after the other; a group per image."""
    found: dict[int, list[tuple[float, bool]]] = {k: [] for k in SCORED}
    labelled, right = dict.fromkeys(range(16), 0), dict.fromkeys(range(16), 0)
    for image in truth["images"]:
        persons = [
            a for a in truth["annotations"] if a["image_id"] == image["id"] and any(v > 0 for v in a["keypoints"][2::3])
        ]
        everybody = [k for a in persons for k in np.reshape(a["keypoints"], (16, 3)) if k[2] > 0]
        low, high = np.min(everybody, axis=0)[:2], np.max(everybody, axis=0)[:2]
        margin = sum(a["head_size"] for a in persons) / len(persons)
        poses = []
        for result in results:
            pose = np.reshape(result["keypoints"], (16, 3))
            seen = [joint for joint in pose if joint[2] > 0]
            if result["image_id"] != image["id"] or not seen:
                continue
            middle = (np.min(seen, axis=0)[:2] + np.max(seen, axis=0)[:2]) / 2
            outside = [max(0, lo - m, m - hi) for lo, hi, m in zip(low, high, middle, strict=True)]
            if outside[0] ** 2 + outside[1] ** 2 <= margin**2:
                poses.append(pose)

        def hit(pose, person, k):
            x, y, v = np.reshape(person["keypoints"], (16, 3))[k]
            far = ((pose[k][0] - x) ** 2 + (pose[k][1] - y) ** 2) ** 0.5
            return bool(v > 0 and pose[k][2] > 0 and far / person["head_size"] <= 0.5)

        def share(pose, person):
            known = [k for k in SCORED if person["keypoints"][3 * k + 2] > 0]
            return sum(hit(pose, person, k) for k in known) / len(known) if known else 0.0

        wants = [max(range(len(persons)), key=lambda p: share(pose, persons[p])) for pose in poses]
        takes: dict[int, int] = {}
        for p, person in enumerate(persons):
            suitors = [n for n in range(len(poses)) if wants[n] == p and share(poses[n], person) > 0]
            if suitors:
                takes[p] = max(suitors, key=lambda n: share(poses[n], person))
            for k in range(16):
                if person["keypoints"][3 * k + 2] > 0:
                    labelled[k] += 1
                    right[k] += p in takes and hit(poses[takes[p]], person, k)
        for n, pose in enumerate(poses):
            owner = next((p for p, taken in takes.items() if taken == n), None)
            for k in SCORED:
                if pose[k][2] > 0:
                    found[k].append((pose[k][2], owner is not None and hit(pose, persons[owner], k)))
    precision = {}
    for k, ranked in found.items():
        ranked.sort(key=lambda r: -r[0])
        area, hits, curve = 0.0, 0, []
        for rank, (_, ok) in enumerate(ranked, start=1):
            hits += ok
            curve.append((hits / labelled[k], hits / rank))
        for i, (recall, _) in enumerate(curve):
            area += (recall - (curve[i - 1][0] if i else 0)) * max(p for _, p in curve[i:])
        precision[k] = area
    figures = {
        "PCKh": sum(right[k] for k in SCORED) / sum(labelled[k] for k in SCORED),
        "PCKh_head_top": right[9] / labelled[9],
        "mAP": sum(precision.values()) / 14,
    }
    for name, (a, b) in NAMES.items():
        figures[f"PCKh_{name}"] = (right[a] / labelled[a] + right[b] / labelled[b]) / 2
        figures[f"AP_{name}"] = (precision[a] + precision[b]) / 2
    return figures


def test_figures_equal_a_plain_loop_over_the_published_rules(valid: Truth) -> None:
    chosen = {image["id"] for image in valid["images"][::8]}
    truth = {
        **valid,
        "images": valid["images"][::8],
        "annotations": [a for a in valid["annotations"] if a["image_id"] in chosen],
    }
    results = perturbed(truth, 0)
    figures = evaluate_mpii(truth, results)
    assert tuple(figures) == METRICS
    assert figures == pytest.approx(plain_figures(truth, results), abs=1e-9)
    assert 0.2 < figures["mAP"] < figures["PCKh"] < 0.9


def test_pckh_of_one_pose_per_person_is_hrnets_table(data_root: Path) -> None:
    """Its formulas, on 1-based truth and head boxes, for poses perturbed by up to a head size."""
    annotations = read_annotations(data_root / "mpii/mpii_valid.h5")
    rng = np.random.default_rng(0)
    head = annotations.head_size
    poses = (
        annotations.keypoints[:, :, :2]
        + rng.normal(size=(2958, 16, 2)) * rng.uniform(0, 0.7, (2958, 1, 1)) * (head[:, None, None])
    )
    visible = (annotations.keypoints[:, :, 2] > 0).T  # (16, N)
    error = np.linalg.norm(poses - annotations.keypoints[:, :, :2], axis=2).T / (head / 0.6 * 0.6)
    count = visible.sum(axis=1)
    share = 100.0 * ((error <= 0.5) * visible).sum(axis=1) / count
    mask = np.zeros(16, bool)
    mask[6:8] = True
    ratio = np.ma.array(count, mask=mask) / np.ma.array(count, mask=mask).sum()
    figures = pckh(poses, annotations.keypoints, head)
    assert 100 * figures["PCKh"] == pytest.approx((np.ma.array(share, mask=mask) * ratio).sum())
    assert 100 * figures["PCKh_head_top"] == pytest.approx(share[9])
    for name, (a, b) in NAMES.items():
        assert 100 * figures[f"PCKh_{name}"] == pytest.approx(0.5 * (share[a] + share[b]))
    assert 0.5 < figures["PCKh"] < 0.9


def test_perfect_poses_of_the_real_annotations_score_one(valid: Truth) -> None:
    assert len(valid["annotations"]) == 2958
    results = [pose_of(person) for person in valid["annotations"]]
    assert evaluate_mpii(valid, results) == pytest.approx(dict.fromkeys(METRICS, 1.0))


def test_exchanged_sides_leave_the_head_only() -> None:
    """Left and right joints are 10 to 50 px apart and the head size is 10 px, so only head top and neck are found."""
    person = person_at(0, 0, head=10.0)
    keypoints = np.array(person["keypoints"], float).reshape(16, 3)[list(MPII.flip)]
    result = {"image_id": 1, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": 1.0}
    figures = evaluate_mpii(truth_of(person), [result])
    assert figures["PCKh"] == pytest.approx(2 / 14)
    assert figures["mAP"] == pytest.approx(2 / 14)
    assert figures["PCKh_head"] == figures["PCKh_head_top"] == figures["AP_head"] == 1
    assert {figures[f"PCKh_{name}"] for name in NAMES if name != "head"} == {0.0}


@pytest.mark.parametrize(("shift", "score"), [(9.9, 1.0), (10.0, 1.0), (10.1, 0.0)])
def test_half_a_head_size_is_the_limit_and_counts(shift: float, score: float) -> None:
    person = person_at(0, 0, head=20.0)
    figures = evaluate_mpii(truth_of(person), [pose_of(person, shift=shift)])
    assert figures["PCKh"] == figures["mAP"] == score


def test_a_shifted_person_halves_recall_and_precision_of_the_lower_rank() -> None:
    """Two persons apart: the surer pose is right, the other misses every joint. AP is 1/2 of recall at precision 1."""
    persons = person_at(0, 0), person_at(400, 0, number=2)
    truth = truth_of(*persons)
    right_first = evaluate_mpii(truth, [pose_of(persons[0], 0.9), pose_of(persons[1], 0.4, shift=11)])
    assert (right_first["PCKh"], right_first["mAP"]) == (0.5, 0.5)
    wrong_first = evaluate_mpii(truth, [pose_of(persons[0], 0.4), pose_of(persons[1], 0.9, shift=11)])
    assert (wrong_first["PCKh"], wrong_first["mAP"]) == (0.5, 0.25)


def test_a_second_pose_of_a_person_is_a_false_detection_of_every_joint() -> None:
    person = person_at(0, 0)
    copies = [pose_of(person, 0.9, shift=2), pose_of(person, 0.5)]
    assert evaluate_mpii(truth_of(person), copies)["mAP"] == 1.0  # both find all: the first takes the person
    assert evaluate_mpii(truth_of(person), copies[::-1])["mAP"] == 0.5  # the less sure one is first and takes it


def test_unlabelled_joints_are_not_missed_but_predicting_them_is_wrong() -> None:
    person = person_at(0, 0)
    person["keypoints"][2] = 0  # right ankle
    without = pose_of(person)
    figures = evaluate_mpii(truth_of(person), [without])
    assert (figures["PCKh"], figures["mAP"]) == (1.0, 1.0)
    assert figures["PCKh_ankle"] == 1.0  # of the left one
    hidden = person_at(0, 0)
    hidden["keypoints"][2] = 1
    figures = evaluate_mpii(truth_of(hidden), [without])
    assert figures["PCKh"] == pytest.approx(13 / 14)
    assert figures["PCKh_ankle"] == figures["AP_ankle"] == 0.5


def test_pelvis_and_thorax_are_not_scored() -> None:
    person = person_at(0, 0)
    result = pose_of(person)
    for k in (6, 7):
        result["keypoints"][3 * k : 3 * k + 2] = [900.0, 900.0]
    truth = np.array(person["keypoints"], float).reshape(1, 16, 3)
    poses = np.array(result["keypoints"]).reshape(1, 16, 3)[:, :, :2]
    assert pckh(poses, truth, np.array([20.0]))["PCKh"] == 1.0
    assert not {6, 7} & set(SCORED)
    assert len(SCORED) == 14


def test_poses_count_in_their_own_group_and_nowhere_beside_the_groups() -> None:
    first, second = person_at(0, 0, group=0), person_at(1000, 0, number=2, group=1)
    truth = truth_of(first, second)
    stranger = pose_of(person_at(500, 0))  # its middle is 350 px from either group, a head size is 20 px
    assert evaluate_mpii(truth, [stranger, pose_of(first, 0.5), pose_of(second, 0.5)])["mAP"] == 1.0
    together = truth_of({**first, "group": 0}, {**second, "group": 0})
    assert evaluate_mpii(together, [stranger, pose_of(first, 0.5), pose_of(second, 0.5)])["mAP"] == pytest.approx(2 / 3)


def test_a_person_without_head_size_is_nobody_to_find() -> None:
    person = person_at(0, 0)
    truth = truth_of(person, person_at(30, 0, number=2, head_size=None))
    assert evaluate_mpii(truth, [pose_of(person)])["PCKh"] == 1.0


def test_no_results_score_zero_and_no_persons_have_no_score() -> None:
    assert set(evaluate_mpii(truth_of(person_at(0, 0)), []).values()) == {0.0}
    nobody = {"images": [{"id": 1}], "annotations": [], "categories": []}
    assert set(evaluate_mpii(nobody, [pose_of(person_at(0, 0))]).values()) == {-1.0}


def test_average_precision_of_a_short_list_by_hand() -> None:
    # hits at ranks 1 and 3 of 4 to find: 1/4 · 1 + 1/4 · 2/3
    assert average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 4) == pytest.approx(5 / 12)
    assert average_precision(np.zeros(0), np.zeros(0, bool), 4) == 0.0


def test_no_person_is_assigned_twice() -> None:
    rng = np.random.default_rng(0)
    truth = np.concatenate([rng.uniform(0, 50, (4, 14, 2)), np.full((4, 14, 1), 2)], axis=2)
    person, within = match_poses(rng.uniform(0, 50, (9, 14, 2)), truth, np.full(4, 30.0))
    taken = person[person >= 0]
    assert len(taken) > 1
    assert len(set(taken.tolist())) == len(taken)
    assert within.shape == (9, 4, 14)


def test_what_does_not_fit_is_named() -> None:
    person = person_at(0, 0)
    with pytest.raises(GraphposeError, match="not of skeleton 'coco'"):
        evaluate_mpii(truth_of(person), [], COCO)
    with pytest.raises(GraphposeError, match="annotation 1 has no head_size"):
        evaluate_mpii(truth_of({k: v for k, v in person.items() if k != "head_size"}), [])
    with pytest.raises(GraphposeError, match="image 1 has 51 keypoint values; 48 are needed"):
        evaluate_mpii(truth_of(person), [{"image_id": 1, "category_id": 1, "keypoints": [0] * 51, "score": 1}])
    with pytest.raises(GraphposeError, match="person 0 has no positive head size"):
        pckh(np.zeros((1, 16, 2)), np.zeros((1, 16, 3)), np.zeros(1))
