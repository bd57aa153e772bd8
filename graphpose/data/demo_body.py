"""The articulated body of the demo scenes: joint limits, a repertoire of poses and forward kinematics.

Convention: camera frame, x to the right, y down, z away from the camera; lengths in units of the person's stature. With
yaw 0 a person faces the camera, so that their left is at +x; with yaw 90° they face the image's right side.
Angles are degrees; flexion and abduction are positive in the anatomical sense, on both sides of the body.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

# Anatomical range of each joint, degrees: (least, most).
MIDLINE_LIMITS = {
    "spine_pitch": (-20.0, 70.0),  # forward is positive
    "spine_roll": (-25.0, 25.0),  # towards the person's left is positive
    "spine_twist": (-35.0, 35.0),  # turning to the person's left is positive
    "neck_pitch": (-35.0, 40.0),
    "neck_roll": (-25.0, 25.0),
    "neck_yaw": (-70.0, 70.0),
}
SIDE_LIMITS = {
    "shoulder_flex": (-50.0, 175.0),
    "shoulder_abduct": (-15.0, 175.0),
    "shoulder_rotate": (-85.0, 85.0),  # internal is positive
    "elbow": (0.0, 150.0),
    "hip_flex": (-25.0, 115.0),
    "hip_abduct": (-15.0, 45.0),
    "hip_rotate": (-40.0, 40.0),  # external is positive
    "knee": (0.0, 140.0),
    "ankle": (-25.0, 40.0),  # pointing the toes is positive
}
ANGLES: tuple[str, ...] = (
    *MIDLINE_LIMITS,
    *(f"left_{name}" for name in SIDE_LIMITS),
    *(f"right_{name}" for name in SIDE_LIMITS),
)
LIMITS = np.array([*MIDLINE_LIMITS.values(), *SIDE_LIMITS.values(), *SIDE_LIMITS.values()])  # (24, 2)
_INDEX = {name: i for i, name in enumerate(ANGLES)}
_NUM_MIDLINE, _NUM_SIDE = len(MIDLINE_LIMITS), len(SIDE_LIMITS)

# Mirroring exchanges the sides and turns roll, twist and yaw around.
_MIRROR = np.r_[0:_NUM_MIDLINE, _NUM_MIDLINE + _NUM_SIDE : len(ANGLES), _NUM_MIDLINE : _NUM_MIDLINE + _NUM_SIDE]
_MIRROR_SIGN = np.array([-1.0 if i < _NUM_MIDLINE and not n.endswith("pitch") else 1.0 for i, n in enumerate(ANGLES)])

# Everyday spread of the angles around a pose's mean.
_SPREAD = {
    "spine_pitch": 5.0,
    "spine_roll": 4.0,
    "spine_twist": 7.0,
    "neck_pitch": 9.0,
    "neck_roll": 6.0,
    "neck_yaw": 18.0,
    "shoulder_flex": 14.0,
    "shoulder_abduct": 10.0,
    "shoulder_rotate": 18.0,
    "elbow": 16.0,
    "hip_flex": 7.0,
    "hip_abduct": 4.0,
    "hip_rotate": 8.0,
    "knee": 8.0,
    "ankle": 6.0,
}
_REST = {"shoulder_flex": 2.0, "shoulder_abduct": 12.0, "elbow": 18.0, "hip_flex": 3.0, "hip_abduct": 4.0, "knee": 5.0}

# Mean angles of each pose, with its weight; a name without a side counts for both. What is left out is at rest.
REPERTOIRE: dict[str, tuple[float, Mapping[str, float]]] = {
    "stand": (5.0, {}),
    "contrapposto": (2.0, {"spine_roll": 6, "left_knee": 22, "left_hip_flex": 14, "left_hip_abduct": 10}),
    "walk": (
        4.0,
        {
            "spine_pitch": 4, "left_hip_flex": 26, "right_hip_flex": -16, "left_knee": 10, "right_knee": 24,
            "left_shoulder_flex": -24, "right_shoulder_flex": 28, "elbow": 28,
        },
    ),
    "run": (
        1.5,
        {
            "spine_pitch": 12, "left_hip_flex": 58, "right_hip_flex": -14, "left_knee": 70, "right_knee": 62,
            "left_shoulder_flex": -38, "right_shoulder_flex": 42, "elbow": 88,
        },
    ),
    "arms_up": (1.5, {"shoulder_abduct": 155, "elbow": 22, "shoulder_flex": 0}),
    "cheer": (1.0, {"shoulder_abduct": 120, "elbow": 45, "shoulder_rotate": -70, "shoulder_flex": 0}),
    "wave": (1.5, {"left_shoulder_abduct": 100, "left_elbow": 85, "left_shoulder_rotate": -80}),
    "point": (1.5, {"left_shoulder_flex": 82, "left_elbow": 6}),
    "arms_out": (1.5, {"shoulder_abduct": 82, "elbow": 10, "shoulder_flex": 0}),
    "hands_on_hips": (1.5, {"shoulder_abduct": 42, "elbow": 98, "shoulder_rotate": 62, "shoulder_flex": -22}),
    "arms_folded": (1.0, {"shoulder_flex": 30, "shoulder_abduct": 8, "elbow": 105, "shoulder_rotate": 65}),
    "phone": (1.5, {"left_shoulder_flex": 42, "left_elbow": 142, "left_shoulder_rotate": 5, "right_elbow": 24}),
    "read": (1.5, {"shoulder_flex": 28, "elbow": 92, "shoulder_rotate": 28, "neck_pitch": 22}),
    "reach": (1.0, {"spine_pitch": 14, "shoulder_flex": 95, "elbow": 14}),
    "sit": (2.0, {"hip_flex": 86, "knee": 84, "hip_abduct": 10, "shoulder_flex": 26, "elbow": 46}),
    "squat": (
        0.8, {"hip_flex": 88, "knee": 104, "hip_abduct": 22, "spine_pitch": 26, "shoulder_flex": 50, "ankle": -16},
    ),
    "lunge": (
        1.0, {"left_hip_flex": 62, "left_knee": 66, "right_hip_flex": -20, "right_knee": 34, "shoulder_abduct": 32},
    ),
    "bend": (0.8, {"spine_pitch": 46, "hip_flex": 26, "shoulder_flex": 58, "neck_pitch": -12}),
    "kick": (0.8, {"left_hip_flex": 64, "left_knee": 16, "shoulder_abduct": 48, "spine_pitch": -8}),
    "astride": (1.0, {"hip_abduct": 22, "shoulder_abduct": 36, "elbow": 24}),
}  # fmt: skip


def _angles_of(values: Mapping[str, float]) -> np.ndarray:
    """(24,) angles from names with a side, or without for both sides; the side's own value wins."""
    angles = np.zeros(len(ANGLES))
    for name, value in sorted(values.items(), key=lambda item: item[0].startswith(("left_", "right_"))):
        for target in (name,) if name in _INDEX else (f"left_{name}", f"right_{name}"):
            angles[_INDEX[target]] = value
    return angles


_SPREADS = _angles_of(_SPREAD)
_MEANS = np.stack([_angles_of({**_REST, **mean}) for _, mean in REPERTOIRE.values()])  # (poses, 24)
_WEIGHTS = np.cumsum([weight for weight, _ in REPERTOIRE.values()])
_POSES = tuple(REPERTOIRE)


def sample_pose(rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """A pose of the repertoire, varied, mirrored half of the time.

    Returns:
        its name and (24,) joint angles in degrees, each within LIMITS.
    """
    pose = int(np.searchsorted(_WEIGHTS, rng.random() * _WEIGHTS[-1], side="right"))
    angles = _MEANS[pose] + _SPREADS * rng.standard_normal(len(ANGLES)).clip(-2.2, 2.2)
    if rng.random() < 0.5:
        angles = angles[_MIRROR] * _MIRROR_SIGN
    return _POSES[pose], angles.clip(LIMITS[:, 0], LIMITS[:, 1])


@dataclasses.dataclass(frozen=True)
class Proportions:
    """Lengths of one person's body, in units of stature."""

    shoulder: float = 0.105  # half of the distance between the shoulder joints
    hip: float = 0.066  # half of the distance between the hip joints
    torso: float = 0.285  # mid-hip to mid-shoulder
    upper_arm: float = 0.172
    forearm: float = 0.148
    hand: float = 0.062
    thigh: float = 0.245
    shin: float = 0.240
    head: float = 1.12  # size of the head against that of an adult
    girth: float = 1.0  # width of limbs and trunk against an adult's

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Proportions:
        """Somebody: each length within a few per cent of the mean, heads and girths within 20 %."""
        mean = cls()
        length = 1 + 0.05 * rng.standard_normal(8).clip(-2, 2)
        names = ("shoulder", "hip", "torso", "upper_arm", "forearm", "hand", "thigh", "shin")
        values = {name: getattr(mean, name) * float(factor) for name, factor in zip(names, length, strict=True)}
        return cls(head=1.02 + 0.3 * rng.random() ** 1.5, girth=0.88 + 0.32 * rng.random(), **values)


@dataclasses.dataclass(frozen=True)
class Body:
    """A posed body in the camera frame, mid-hip at the origin.

    Attributes:
        keypoints: (17, 3) COCO keypoints.
        pelvis, chest, head: (3, 3) rotations; columns are the part's left, down and backward directions.
        neck: (3,) mid-shoulder; skull: (3,) centre of the head.
        hands, heels, toes: (2, 3) left and right.
        proportions: the lengths it was built from.
    """

    keypoints: np.ndarray
    pelvis: np.ndarray
    chest: np.ndarray
    head: np.ndarray
    neck: np.ndarray
    skull: np.ndarray
    hands: np.ndarray
    heels: np.ndarray
    toes: np.ndarray
    proportions: Proportions


# Of an adult's head, from its centre in the head's frame: left, down, backward.
FACE = {
    "nose": (0.0, 0.014, -0.080),
    "left_eye": (0.030, -0.012, -0.064),
    "right_eye": (-0.030, -0.012, -0.064),
    "left_ear": (0.066, 0.006, 0.006),
    "right_ear": (-0.066, 0.006, 0.006),
}
_FACE = np.array(list(FACE.values()))


def pose_body(
    angles: np.ndarray,
    proportions: Proportions,
    yaw: float,
    elevation: float = 0.0,
    roll: float = 0.0,
) -> Body:
    """Forward kinematics.

    Args:
        angles: (24,) joint angles in degrees, ordered as ANGLES.
        proportions: the body's lengths.
        yaw: where the pelvis faces, degrees; 0 to the camera, 90 to the image's right, 180 away.
        elevation: camera above the horizon, degrees.
        roll: rotation in the image plane, degrees.

    Returns:
        The body; distances between joints are exactly those of ``proportions``.
    """
    p = proportions
    spine_pitch, spine_roll, spine_twist, neck_pitch, neck_roll, neck_yaw = angles[:_NUM_MIDLINE].tolist()
    pelvis = _rotation(0, roll, 0) @ _rotation(elevation, 0, -yaw)
    chest = pelvis @ _rotation(spine_pitch, spine_roll, -spine_twist)
    head = chest @ _rotation(neck_pitch, neck_roll, -neck_yaw)
    neck = chest[:, 1] * -p.torso
    skull = neck - 0.052 * chest[:, 1] - 0.068 * p.head * head[:, 1] - 0.012 * head[:, 2]

    keypoints = np.empty((17, 3))
    keypoints[:5] = skull + (_FACE * p.head) @ head.T
    hands, heels, toes = np.empty((2, 3)), np.empty((2, 3)), np.empty((2, 3))
    for side, sign in ((0, 1.0), (1, -1.0)):
        start = _NUM_MIDLINE + side * _NUM_SIDE
        flex, abduct, rotate, elbow, hip_flex, hip_abduct, hip_rotate, knee, ankle = angles[
            start : start + _NUM_SIDE
        ].tolist()
        # The shoulder blade lifts the joint with a raised arm.
        lift = 0.025 * max(0.0, max(flex, abduct) - 60.0) / 115.0
        keypoints[5 + side] = neck + chest[:, 0] * (sign * p.shoulder) - chest[:, 1] * lift
        arm = chest @ _rotation(-flex, -sign * abduct, sign * rotate)
        keypoints[7 + side] = keypoints[5 + side] + arm[:, 1] * p.upper_arm
        arm = arm @ _rotation(-elbow, 0, 0)
        keypoints[9 + side] = keypoints[7 + side] + arm[:, 1] * p.forearm
        hands[side] = keypoints[9 + side] + arm[:, 1] * p.hand

        keypoints[11 + side] = pelvis[:, 0] * (sign * p.hip)
        leg = pelvis @ _rotation(-hip_flex, -sign * hip_abduct, -sign * hip_rotate)
        keypoints[13 + side] = keypoints[11 + side] + leg[:, 1] * p.thigh
        leg = leg @ _rotation(knee, 0, 0)
        keypoints[15 + side] = keypoints[13 + side] + leg[:, 1] * p.shin
        foot = leg @ _rotation(ankle, 0, 0)
        heels[side] = keypoints[15 + side] + foot[:, 1] * 0.026 + foot[:, 2] * 0.022
        toes[side] = keypoints[15 + side] + foot[:, 1] * 0.032 - foot[:, 2] * 0.105
    return Body(keypoints, pelvis, chest, head, neck, skull, hands, heels, toes, p)


def _rotation(a: float, b: float, c: float) -> np.ndarray:
    """(3, 3) rotation Rx(a) · Rz(b) · Ry(c), degrees."""
    a, b, c = math.radians(a), math.radians(b), math.radians(c)
    ca, sa, cb, sb, cc, sc = math.cos(a), math.sin(a), math.cos(b), math.sin(b), math.cos(c), math.sin(c)
    return np.array(
        (
            (cb * cc, -sb, cb * sc),
            (ca * sb * cc + sa * sc, ca * cb, ca * sb * sc - sa * cc),
            (sa * sb * cc - ca * sc, sa * cb, sa * sb * sc + ca * cc),
        )
    )
