"""Labelled joints one by one."""

import numpy as np
import pytest

from graphpose.errors import GraphposeError
from graphpose.metrics.intervals import single_intervals
from graphpose.metrics.joints import joint_table, part_of
from graphpose.skeleton import Skeleton

BODY = Skeleton("body", ("nose", "left_wrist", "right_wrist"), ((0, 1), (1, 2)), (0.1,) * 3)
ALL = np.arange(3)


def person(image: int, *joints: tuple[float, float, int], box: tuple[float, ...] = (0, 0, 50, 100), **more) -> dict:
    return {"image_id": image, "keypoints": [v for j in joints for v in j], "bbox": box, "area": 1.0, **more}


def truth(*annotations: dict) -> dict:
    return {"annotations": list(annotations)}


def test_joints_of_a_person_worked_by_hand():
    # the box's long side is 100 px: within 0.1 is 10 px, within 0.05 is 5 px
    people = truth(person(1, (10, 10, 2), (30, 30, 1), (50, 50, 2)))
    poses = {1: np.array([[[10, 16, 0.9], [30, 34, 0.4], [70, 50, 0.8]], [[10, 10, 0.3], [0, 0, 0], [0, 0, 0]]])}
    table = joint_table(people, poses, ALL)
    assert table.found.tolist() == [
        [True, False],
        [True, True],
        [False, False],
    ]  # by the first pose, 6, 4 and 20 px off
    assert table.confidence.tolist() == [0.9, 0.4, 0.8]
    assert table.shares(BODY) == pytest.approx(
        {
            "within 0.1": 2 / 3, "within 0.05": 1 / 3, "within 0.1, face": 1.0, "within 0.1, wrist": 0.5,
            "within 0.1, hidden": 1.0, "within 0.1, visible": 0.5,
            "confidence, hidden": 0.4, "confidence, visible": 0.85,
        }
    )  # fmt: skip


def test_a_person_whom_no_pose_meets_has_confidence_0():
    people = truth(person(1, (10, 10, 2), (30, 30, 2), (0, 0, 0)), person(2, (10, 10, 2), (0, 0, 0), (0, 0, 0)))
    table = joint_table(people, {1: np.full((1, 3, 3), 90.0)}, ALL)
    assert not table.found.any()
    assert table.confidence.tolist() == [0.0, 0.0, 0.0]


def test_persons_are_counted_by_image_and_crowds_are_nobody():
    joints = ((10, 10, 2), (0, 0, 0), (0, 0, 0))
    people = truth(*(person(1, *joints) for _ in range(5)), person(2, *joints), person(2, *joints, iscrowd=1))
    table = joint_table(people, {2: np.array([[[10, 10, 0.5]] * 3])}, ALL)
    assert table.persons.tolist() == [5] * 5 + [1]
    shares = table.shares(BODY)
    assert (shares["within 0.1, 1 person"], shares["within 0.1, 5 or more persons"]) == (1.0, 0.0)
    assert "within 0.1, hidden" not in shares


def test_of_single_persons_the_shares_are_those_with_intervals():
    rng = np.random.default_rng(0)
    people = truth(
        *(person(i, *[(*rng.uniform(0, 100, 2), int(rng.integers(0, 3))) for _ in range(3)]) for i in range(60))
    )
    poses = {i: np.concatenate([rng.uniform(0, 100, (8, 3, 2)), rng.random((8, 3, 1))], 2) for i in range(50)}
    columns = np.array([2, -1, 0])
    figures, joints = single_intervals(people, poses, columns, resamples=0)
    table = joint_table(people, poses, columns, candidates=5)
    assert len(table) == joints
    assert table.shares(BODY)["within 0.1"] == pytest.approx(figures["within 0.1 of the box, best of five"][0])
    assert table.shares(BODY)["within 0.05"] == pytest.approx(figures["within 0.05 of the box, best of five"][0])
    assert not (table.keypoint == 1).any()


def test_parts_have_no_side_and_the_face_is_one():
    assert [part_of(name) for name in ("nose", "left_ear", "right_ankle", "head_top")] == [
        "face", "face", "ankle", "head_top"
    ]  # fmt: skip


def test_a_set_without_a_joint_is_refused():
    with pytest.raises(GraphposeError, match="no image of the set has a person with a labelled joint"):
        joint_table(truth(person(1, (1, 1, 0), (1, 1, 0), (1, 1, 0))), {}, ALL)
