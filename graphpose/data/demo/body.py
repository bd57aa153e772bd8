"""The articulated body of the demo scenes: joint limits, a repertoire of poses and forward kinematics.

Convention: camera frame, x to the right, y down, z away from the camera; lengths in units of the person's stature. With
yaw 0 a person faces the camera, so that their left is at +x; with yaw 90° they face the image's right side.
Angles are degrees; flexion and abduction are positive in the anatomical sense, on both sides of the body.
"""

from __future__ import annotations

import dataclasses
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


def walking_angles(phase: float) -> np.ndarray:
    """(24,) joint angles of somebody who walks; ``phase`` in radians, 2π is a step of each leg."""
    step = _angles_of({**_REST, **REPERTOIRE["walk"][1]})
    other = step[_MIRROR] * _MIRROR_SIGN
    share = 0.5 + 0.5 * np.cos(phase)
    angles = share * step + (1 - share) * other
    # the leg that swings forward is bent
    for side, sign in (("left", 1.0), ("right", -1.0)):
        angles[_INDEX[f"{side}_knee"]] += 35.0 * max(0.0, -sign * np.sin(phase))
    return angles.clip(LIMITS[:, 0], LIMITS[:, 1])


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
    midline, sides = angles[:_NUM_MIDLINE], angles[_NUM_MIDLINE:].reshape(2, _NUM_SIDE)
    pitch, lean, turn = midline.reshape(2, 3).T
    flex, abduct, rotate, elbow, hip_flex, hip_abduct, hip_rotate, knee, ankle = sides.T
    a = np.concatenate([(elevation, 0.0), pitch, -flex, -hip_flex, -elbow, knee, ankle])
    b = np.concatenate([(0.0, roll), lean, -_SIGN * abduct, -_SIGN * hip_abduct, _ZEROS])
    c = np.concatenate([(-yaw, 0.0), -turn, _SIGN * rotate, -_SIGN * hip_rotate, _ZEROS])
    turns = _rotations(a, b, c)  # view, roll, spine, neck, then left and right of arms, legs, elbows, knees, ankles

    pelvis = turns[1] @ turns[0]
    chest = pelvis @ turns[2]
    head = chest @ turns[3]
    arms = chest @ turns[4:6]  # (2, 3, 3)
    legs = pelvis @ turns[6:8]
    forearms, shins = arms @ turns[8:10], legs @ turns[10:12]
    feet = shins @ turns[12:14]

    left, down = chest[:, 0], chest[:, 1]
    neck = down * -p.torso
    skull = neck - 0.052 * down - 0.068 * p.head * head[:, 1] - 0.012 * head[:, 2]
    # The shoulder blade lifts the joint with a raised arm.
    lift = 0.025 / 115.0 * np.maximum(np.maximum(flex, abduct) - 60.0, 0.0)
    keypoints = np.empty((17, 3))
    keypoints[:5] = skull + (_FACE * p.head) @ head.T
    keypoints[5:7] = neck + left * (_SIGN * p.shoulder)[:, None] - down * lift[:, None]
    keypoints[7:9] = keypoints[5:7] + arms[:, :, 1] * p.upper_arm
    keypoints[9:11] = keypoints[7:9] + forearms[:, :, 1] * p.forearm
    keypoints[11:13] = pelvis[:, 0] * (_SIGN * p.hip)[:, None]
    keypoints[13:15] = keypoints[11:13] + legs[:, :, 1] * p.thigh
    keypoints[15:17] = keypoints[13:15] + shins[:, :, 1] * p.shin
    hands = keypoints[9:11] + forearms[:, :, 1] * p.hand
    heels = keypoints[15:17] + feet[:, :, 1] * 0.026 + feet[:, :, 2] * 0.022
    toes = keypoints[15:17] + feet[:, :, 1] * 0.032 - feet[:, :, 2] * 0.105
    return Body(keypoints, pelvis, chest, head, neck, skull, hands, heels, toes, p)


_SIGN = np.array((1.0, -1.0))  # left, right
_ZEROS = np.zeros(6)


def _rotations(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """(N, 3, 3) rotations Rx(a) · Rz(b) · Ry(c) of angles (N,) in degrees."""
    angles = np.deg2rad(np.stack([a, b, c]))
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    matrix = np.array(
        (
            (cb * cc, -sb, cb * sc),
            (ca * sb * cc + sa * sc, ca * cb, ca * sb * sc - sa * cc),
            (sa * sb * cc - ca * sc, sa * cb, sa * sb * sc + ca * cc),
        )
    )
    return matrix.transpose(2, 0, 1)
