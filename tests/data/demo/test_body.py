"""Bodies of the demo scenes: they could be people's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.data.demo.body import ANGLES, LIMITS, REPERTOIRE, Proportions, pose_body, sample_pose
from graphpose.data.demo.figure import dress
from graphpose.data.demo.outfit import Outfit
from graphpose.data.demo.render import project
from graphpose.skeleton import COCO
from tests.data.demo.bodies import SEEDS, angles_of


def test_facing_the_camera_has_left_on_the_right_of_the_image():
    body = pose_body(angles_of(), Proportions(), yaw=0)
    for name in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        left, right = COCO.index(f"left_{name}"), COCO.index(f"right_{name}")
        assert body.keypoints[left, 0] > body.keypoints[right, 0], name


def test_facing_away_has_left_on_the_left_of_the_image():
    body = pose_body(angles_of(), Proportions(), yaw=180)
    for name in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        left, right = COCO.index(f"left_{name}"), COCO.index(f"right_{name}")
        assert body.keypoints[left, 0] < body.keypoints[right, 0], name


def test_yaw_of_ninety_degrees_looks_to_the_right_of_the_image_with_the_right_side_near():
    body = pose_body(angles_of(), Proportions(), yaw=90)
    assert body.keypoints[0, 0] > body.neck[0] + 0.05
    assert (body.toes[:, 0] > body.heels[:, 0] + 0.1).all()
    assert body.keypoints[COCO.index("right_shoulder"), 2] < body.keypoints[COCO.index("left_shoulder"), 2]


@pytest.mark.parametrize("name", ["shoulder_flex", "hip_flex", "spine_pitch"])
def test_flexion_brings_the_limb_forward(name: str):
    sided = {"spine_pitch": "spine_pitch"}.get(name, f"left_{name}")
    end = {"shoulder_flex": "left_wrist", "hip_flex": "left_ankle", "spine_pitch": "nose"}[name]
    rest = pose_body(angles_of(), Proportions(), 0).keypoints[COCO.index(end)]
    moved = pose_body(angles_of(**{sided: 60.0}), Proportions(), 0).keypoints[COCO.index(end)]
    assert moved[2] < rest[2] - 0.1  # towards the camera that the body faces


def test_knees_bend_backward_and_elbows_forward():
    body = pose_body(angles_of(left_knee=60, right_elbow=60), Proportions(), 0)
    assert body.keypoints[COCO.index("left_ankle"), 2] > 0.1
    assert body.keypoints[COCO.index("right_wrist"), 2] < -0.1


def test_abduction_leads_both_arms_outward():
    body = pose_body(angles_of(left_shoulder_abduct=90, right_shoulder_abduct=90), Proportions(), 0)
    x = body.keypoints[:, 0]
    assert x[COCO.index("left_wrist")] > x[COCO.index("left_shoulder")] + 0.25
    assert x[COCO.index("right_wrist")] < x[COCO.index("right_shoulder")] - 0.25


@given(SEEDS, st.floats(0, 360), st.floats(-20, 20), st.floats(-20, 20))
@settings(max_examples=50, deadline=None)
def test_limb_lengths_are_those_of_the_proportions_in_any_pose(seed: int, yaw: float, elevation: float, roll: float):
    rng = np.random.default_rng(seed)
    p = Proportions.sample(rng)
    body = pose_body(sample_pose(rng)[1], p, yaw, elevation, roll)
    for a, b, length in (
        ("shoulder", "elbow", p.upper_arm),
        ("elbow", "wrist", p.forearm),
        ("hip", "knee", p.thigh),
        ("knee", "ankle", p.shin),
    ):
        for side in ("left", "right"):
            ends = body.keypoints[[COCO.index(f"{side}_{a}"), COCO.index(f"{side}_{b}")]]
            assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(length, abs=1e-9)
    hips = body.keypoints[11:13]
    assert np.linalg.norm(hips[0] - hips[1]) == pytest.approx(2 * p.hip)
    assert np.linalg.norm(body.neck) == pytest.approx(p.torso)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_joint_angles_respect_their_limits(seed: int):
    name, angles = sample_pose(np.random.default_rng(seed))
    assert name in REPERTOIRE
    assert (angles >= LIMITS[:, 0]).all()
    assert (angles <= LIMITS[:, 1]).all()


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_elbows_and_knees_measured_on_the_body_are_the_joint_angles(seed: int):
    rng = np.random.default_rng(seed)
    _, angles = sample_pose(rng)
    k = pose_body(angles, Proportions.sample(rng), yaw=float(rng.uniform(0, 360))).keypoints
    for joint, chain in (("left_elbow", (5, 7, 9)), ("right_elbow", (6, 8, 10)), ("left_knee", (11, 13, 15))):
        a, b, c = k[list(chain)]
        cosine = (b - a) @ (c - b) / np.linalg.norm(b - a) / np.linalg.norm(c - b)
        assert np.degrees(np.arccos(cosine.clip(-1, 1))) == pytest.approx(angles[ANGLES.index(joint)], abs=1e-4)


def test_every_pose_of_the_repertoire_is_within_the_limits_and_turns_up():
    limits = dict(zip(ANGLES, LIMITS, strict=True))
    for name, (weight, mean) in REPERTOIRE.items():
        assert weight > 0, name
        for angle, value in mean.items():
            low, high = limits[angle if angle in limits else f"left_{angle}"]
            assert low <= value <= high, (name, angle)
    rng = np.random.default_rng(0)
    assert {sample_pose(rng)[0] for _ in range(1500)} == set(REPERTOIRE)


def test_an_adult_is_about_one_stature_tall_and_stands_within_the_spread_of_human_proportions():
    body = pose_body(angles_of(), Proportions(), 0)
    box = project(dress(body, Outfit())).box
    assert 0.97 < box[3] - box[1] < 1.12
    k = body.keypoints
    assert 0.43 < k[15, 1] / (box[3] - box[1]) < 0.52  # from hip to ankle is a little less than half of it
    assert 1.2 < (k[5, 0] - k[6, 0]) / (k[11, 0] - k[12, 0]) < 2.0  # shoulders are wider than hips


# --- visibility
