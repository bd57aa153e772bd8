"""Figures of the demo scenes as convex hulls of spheres: what a hull is, and how hulls are collected around a body.

Convention: that of :mod:`graphpose.data.demo.body`: camera frame, lengths in units of stature, z away from the camera.
"""

from __future__ import annotations

import dataclasses
from enum import IntEnum

import numpy as np

from graphpose.data.demo.body import Body
from graphpose.data.demo.outfit import Outfit


class Part(IntEnum):
    """What a painted pixel belongs to, so that visibility can be read off the label image."""

    NOBODY = 0  # furniture
    TORSO = 1
    PELVIS = 2
    HEAD = 3
    LEFT_UPPER_ARM = 4
    RIGHT_UPPER_ARM = 5
    LEFT_FOREARM = 6
    RIGHT_FOREARM = 7
    LEFT_THIGH = 8
    RIGHT_THIGH = 9
    LEFT_SHIN = 10
    RIGHT_SHIN = 11
    SKIRT = 12
    BAG = 13
    HAIR = 14  # and hats: what may hide an eye


class Colour(IntEnum):
    """Index into a person's palette."""

    SKIN = 0
    HAIR = 1
    SHIRT = 2
    TROUSERS = 3
    SHOES = 4
    PRINT = 5
    EYE_WHITE = 6
    PUPIL = 7
    LIPS = 8
    NOSE = 9
    HAT = 10
    BAG = 11
    SOLE = 12
    SEAT = 13


@dataclasses.dataclass(frozen=True)
class Figure:
    """Hulls of spheres.

    Attributes:
        centres: (S, 3) sphere centres; radii: (S,).
        starts: for each hull its first sphere; a hull ends where the next begins (hulls + 1 entries).
        parts, colours: for each hull its Part and Colour.
        flat: for each hull whether it is a detail without shading of its own.
        layers: hulls from far to near; those of one layer are of one colour and join without an edge between them.
        keypoints: (17, 3) COCO keypoints.
        facing: (17,) bool; False where the body's own bulk lies between the keypoint and the camera.
    """

    centres: np.ndarray
    radii: np.ndarray
    starts: list[int]
    parts: list[int]
    colours: list[int]
    flat: list[bool]
    layers: list[list[int]]
    keypoints: np.ndarray
    facing: np.ndarray


Point = tuple[int, float, float, float]  # frame, then left, down and backward in it
Sphere = tuple[Point, float]
CAMERA, PELVIS, CHEST, HEAD = range(4)
SIGN = (1.0, -1.0)  # left, right


class FigureBuilder:
    """Collects the hulls of one figure; each call of add appends one."""

    def __init__(self, body: Body, outfit: Outfit) -> None:
        self.body = body
        self.outfit = outfit
        self.girth = body.proportions.girth
        self.size = body.proportions.head
        self.facing = facing(body)
        self.joints: list[Point] = [(CAMERA, *point) for point in body.keypoints.tolist()]
        self.points: list[Point] = []
        self.radii: list[float] = []
        self.starts = [0]
        self.parts: list[int] = []
        self.colours: list[int] = []
        self.flat: list[bool] = []
        self.depths: list[float] = []

    def add(self, part: Part, colour: Colour, depth: float, *spheres: Sphere, flat: bool = False) -> None:
        """One hull; of hulls at the same depth the later one is nearer."""
        for point, radius in spheres:
            self.points.append(point)
            self.radii.append(radius)
        self.starts.append(len(self.radii))
        self.parts.append(part)
        self.colours.append(colour)
        self.flat.append(flat)
        self.depths.append(depth)

    def head(self, left: float, down: float, back: float) -> Point:
        """A point of an adult's head, from its centre."""
        return HEAD, left * self.size, down * self.size, back * self.size

    def build(self) -> Figure:
        """The figure of all hulls, each placed by the frames of its points."""
        body = self.body
        points = np.array(self.points)
        frames = points[:, 0].astype(np.intp)
        rotations = np.array((_UNTURNED, body.pelvis, body.chest, body.head))
        origins = np.array((_ORIGIN, _ORIGIN, body.neck, body.skull))
        centres = origins[frames] + np.matmul(rotations[frames], points[:, 1:, None])[:, :, 0]
        layers: list[list[int]] = []
        for hull in sorted(range(len(self.depths)), key=self.depths.__getitem__, reverse=True):
            if layers and self._joins(layers[-1][-1], hull):
                layers[-1].append(hull)
            else:
                layers.append([hull])
        return Figure(
            centres,
            np.array(self.radii),
            self.starts,
            self.parts,
            self.colours,
            self.flat,
            layers,
            body.keypoints,
            self.facing,
        )

    def _joins(self, a: int, b: int) -> bool:
        """Whether two hulls are the segments of one arm or leg, of one colour."""
        return self.colours[a] == self.colours[b] and (self.parts[a], self.parts[b]) in _LIMBS and not self.flat[a]


_UNTURNED, _ORIGIN = np.eye(3), np.zeros(3)
_LIMBS = {
    pair
    for a, b in (
        (Part.LEFT_UPPER_ARM, Part.LEFT_FOREARM),
        (Part.RIGHT_UPPER_ARM, Part.RIGHT_FOREARM),
        (Part.LEFT_THIGH, Part.LEFT_SHIN),
        (Part.RIGHT_THIGH, Part.RIGHT_SHIN),
    )
    for pair in ((a, b), (b, a))
}


def facing(body: Body) -> np.ndarray:
    """(17,) bool; False where the trunk or the head itself lies between the keypoint and the camera."""
    turned = np.ones(17, bool)
    forward = float(body.head[2, 2])
    turned[0] = forward > -0.08
    for side, sign in enumerate(SIGN):
        across = -sign * float(body.head[2, 0])  # 1 when this side of the head is turned to the camera
        turned[1 + side] = 0.9 * forward + 0.4 * across > 0.06
        turned[3 + side] = across > -0.3
        # A shoulder or hip on the far side is behind the trunk, whose half depth is about 0.06.
        turned[5 + side] = body.keypoints[5 + side, 2] - body.neck[2] < 0.07
        turned[11 + side] = body.keypoints[11 + side, 2] < 0.05
    return turned
