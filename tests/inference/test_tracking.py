"""Identities over frames: facts of a few hand-made persons."""

import numpy as np
import pytest

from graphpose.errors import GraphposeError
from graphpose.inference.tracking import Tracker, TrackerConfig
from graphpose.skeleton import COCO

AREA = 6000.0


def person(x, y=100.0):
    """(17, 3): somebody 150 px tall at x."""
    keypoints = np.ones((17, 3))
    keypoints[:, 0] = x + np.linspace(-15, 15, 17)
    keypoints[:, 1] = y + np.linspace(-75, 75, 17)
    return keypoints


def track(tracker, *persons, scores=None):
    keypoints = np.array(persons).reshape(-1, 17, 3)
    scores = np.full(len(persons), 0.8) if scores is None else scores
    return tracker.update(keypoints, np.full(len(persons), AREA), scores).tolist()


def test_persons_keep_their_numbers_whatever_their_order():
    tracker = Tracker(COCO)
    assert track(tracker, person(100), person(300)) == [1, 2]
    assert track(tracker, person(302), person(104)) == [2, 1]
    assert track(tracker) == []
    assert track(tracker, person(112), person(308), person(500)) == [1, 2, 3]


def test_two_who_pass_each_other_are_told_apart_by_their_velocities():
    def run(velocity):
        tracker = Tracker(COCO, TrackerConfig(velocity=velocity))
        for t in range(20):  # one hides the other, and neither is found, where they meet
            ids = track(tracker, person(100 + 10 * t), person(300 - 10 * t)) if t not in (9, 10, 11) else track(tracker)
        return ids

    assert run(velocity=True) == [1, 2]
    assert run(velocity=False) == [2, 1]


@pytest.mark.parametrize(("unseen", "same"), [(1, True), (5, True), (6, False)])
def test_a_track_lives_on_for_as_many_frames_as_its_patience(unseen, same):
    tracker = Tracker(COCO, TrackerConfig(patience=5))
    for t in range(6):
        assert track(tracker, person(100 + 6 * t)) == [1]
    for _ in range(unseen):
        assert track(tracker) == []
    assert track(tracker, person(100 + 6 * (6 + unseen))) == ([1] if same else [2])


def test_a_pose_that_is_too_weak_begins_no_track_and_goes_on_with_one():
    tracker = Tracker(COCO, TrackerConfig(min_score=0.3))
    assert track(tracker, person(100), person(300), scores=[0.2, 0.9]) == [0, 1]
    assert track(tracker, person(100), person(301), scores=[0.2, 0.1]) == [0, 1]


def test_keypoints_that_are_not_found_are_remembered_where_the_person_went():
    tracker = Tracker(COCO)
    upper, lower = person(100), person(100)
    upper[9:], lower[:9] = 0, 0
    assert track(tracker, person(100)) == [1]
    for t in range(1, 8):
        half = upper.copy()
        half[:9, 0] += 8 * t
        assert track(tracker, half) == [1]
    other = lower.copy()
    other[9:, 0] += 8 * 8
    assert track(tracker, other) == [1]


def test_the_same_movement_in_another_size_gives_the_same_identities():
    ids = []
    for factor in (0.1, 1.0, 10.0):
        tracker = Tracker(COCO)
        rng = np.random.default_rng(1)
        places = np.array([100.0, 180.0, 260.0])
        ids.append([])
        for _ in range(30):
            places += rng.normal(0, 14, 3)
            keypoints = np.stack([person(x) for x in places])
            keypoints[:, :, :2] *= factor
            ids[-1] += tracker.update(keypoints, np.full(3, AREA * factor**2), np.ones(3)).tolist()
    assert ids[0] == ids[1] == ids[2]


@pytest.mark.parametrize("settings", [{"min_oks": 1.5}, {"patience": -1}, {"tolerance": 0}, {"smoothing": -0.1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(GraphposeError, match="tracker setting"):
        TrackerConfig(**settings)
