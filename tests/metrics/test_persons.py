"""Persons counted as found, missed and invented."""

import numpy as np

from graphpose.metrics.persons import count_persons
from graphpose.skeleton import Skeleton

THREE = Skeleton("three", ("a", "b", "c"), ((0, 1), (1, 2)), (0.1, 0.1, 0.1))


def person(x: float, y: float = 0.0, confidence: float = 2.0) -> np.ndarray:
    return np.array([[x, y, confidence], [x + 10, y, confidence], [x, y + 10, confidence]])


def count(poses: list[np.ndarray], truth: list[np.ndarray]) -> tuple[int, int, int]:
    areas = np.full(len(truth), 100.0)
    return count_persons(np.array(poses).reshape(-1, 3, 3), np.array(truth).reshape(-1, 3, 3), areas, THREE)


def test_a_second_pose_of_a_person_and_one_far_from_all_are_invented() -> None:
    assert count([person(1), person(0), person(500)], [person(0), person(200)]) == (1, 1, 2)


def test_the_better_pose_takes_the_person_that_it_is_most_like_and_the_other_the_next() -> None:
    assert count([person(2), person(1)], [person(3), person(0)]) == (2, 0, 0)


def test_only_labelled_keypoints_count_and_one_without_confidence_is_like_none() -> None:
    one_label = person(0)
    one_label[1:, 2] = 0
    far_elsewhere = person(0)
    far_elsewhere[1:, :2] += 300
    assert count([far_elsewhere], [one_label]) == (1, 0, 0)
    assert count([person(0, confidence=0)], [person(0)]) == (0, 1, 1)


def test_the_least_similarity_is_cocos_oks() -> None:
    """ks = exp(-d² / (2 · area · (2σ)²)) = exp(-d² / 8): at d = 3 it is 0.325, at d = 3.2 0.278."""
    assert count([person(0, 3.0)], [person(0)]) == (1, 0, 0)
    assert count([person(0, 3.2)], [person(0)]) == (0, 1, 1)


def test_nobody() -> None:
    assert count([], []) == (0, 0, 0)
    assert count([], [person(0)]) == (0, 1, 0)
    assert count([person(0)], []) == (0, 0, 1)
