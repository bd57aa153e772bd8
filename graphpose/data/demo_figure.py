"""A dressed body for the demo scenes: flesh, clothes, hair and face as convex hulls of spheres around a posed skeleton.

Convention: as in demo_body.py; the camera frame with lengths in units of stature, z away from the camera.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from graphpose.data.demo_body import Body


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
class Outfit:
    """What somebody wears; lengths are fractions of the whole limb, 0 is bare and 1 reaches wrist or ankle."""

    sleeves: float = 1.0
    trousers: float = 1.0
    hair: str = "short"  # short, long, bun, hat or bald
    front: str = "plain"  # plain, print, buttons, vneck or stripes; all but the stripes are on the front only
    bag: bool = False
    skirt: bool = False
    beard: bool = False
    seat: bool = False

    @classmethod
    def sample(cls, rng: np.random.Generator, seated: bool = False) -> Outfit:
        """Somebody's clothes; three of four who sit have something to sit on."""
        sleeves, trousers, hair, front, bag, skirt, beard, seat = rng.random(8).tolist()
        return cls(
            sleeves=0.0 if sleeves < 0.12 else 0.26 + 0.4 * sleeves if sleeves < 0.58 else 1.0,
            trousers=0.26 + 0.9 * trousers if trousers < 0.35 else 1.0,
            hair=_pick(hair, (("short", 0.46), ("long", 0.24), ("bun", 0.10), ("hat", 0.13), ("bald", 0.07))),
            front=_pick(front, (("plain", 0.2), ("print", 0.3), ("buttons", 0.2), ("vneck", 0.15), ("stripes", 0.15))),
            bag=bag < 0.12,
            skirt=skirt < 0.12 and not seated,
            beard=beard < 0.15,
            seat=seated and seat < 0.75,
        )


def _pick(u: float, choices: Sequence[tuple[str, float]]) -> str:
    """The choice that u in [0, 1) falls on; the probabilities sum to 1."""
    for name, probability in choices:
        u -= probability
        if u < 0:
            return name
    return choices[-1][0]


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


_Point = tuple[int, float, float, float]  # frame, then left, down and backward in it
_Sphere = tuple[_Point, float]
_CAMERA, _PELVIS, _CHEST, _HEAD = range(4)
_SIGN = (1.0, -1.0)  # left, right


class _Builder:
    """Collects the hulls of one figure; each call of add appends one."""

    def __init__(self, body: Body, outfit: Outfit) -> None:
        self.body = body
        self.outfit = outfit
        self.girth = body.proportions.girth
        self.size = body.proportions.head
        self.facing = facing(body)
        self.joints: list[_Point] = [(_CAMERA, *point) for point in body.keypoints.tolist()]
        self.points: list[_Point] = []
        self.radii: list[float] = []
        self.starts = [0]
        self.parts: list[int] = []
        self.colours: list[int] = []
        self.flat: list[bool] = []
        self.depths: list[float] = []

    def add(self, part: Part, colour: Colour, depth: float, *spheres: _Sphere, flat: bool = False) -> None:
        """One hull; of hulls at the same depth the later one is nearer."""
        for point, radius in spheres:
            self.points.append(point)
            self.radii.append(radius)
        self.starts.append(len(self.radii))
        self.parts.append(part)
        self.colours.append(colour)
        self.flat.append(flat)
        self.depths.append(depth)

    def head(self, left: float, down: float, back: float) -> _Point:
        """A point of an adult's head, from its centre."""
        return _HEAD, left * self.size, down * self.size, back * self.size

    def build(self) -> Figure:
        body = self.body
        frames = np.array([point[0] for point in self.points])
        local = np.array([point[1:] for point in self.points])
        rotations = np.stack([np.eye(3), body.pelvis, body.chest, body.head])
        origins = np.stack([np.zeros(3), np.zeros(3), body.neck, body.skull])
        centres = origins[frames] + np.matmul(rotations[frames], local[:, :, None])[:, :, 0]
        layers: list[list[int]] = []
        for hull in sorted(range(len(self.depths)), key=lambda hull: -self.depths[hull]):
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
        limbs = {self.parts[a], self.parts[b]}
        return self.colours[a] == self.colours[b] and not self.flat[a] and limbs in _LIMBS


_LIMBS = (
    {Part.LEFT_UPPER_ARM, Part.LEFT_FOREARM},
    {Part.RIGHT_UPPER_ARM, Part.RIGHT_FOREARM},
    {Part.LEFT_THIGH, Part.LEFT_SHIN},
    {Part.RIGHT_THIGH, Part.RIGHT_SHIN},
)


def dress(body: Body, outfit: Outfit) -> Figure:
    """Flesh and clothes around a body."""
    figure = _Builder(body, outfit)
    if outfit.seat:
        _add_seat(figure)
    _add_trunk(figure)
    for side in (0, 1):
        _add_arm(figure, side)
        _add_leg(figure, side)
    _add_head(figure)
    return figure.build()


def _between(a: _Point, b: _Point, t: float) -> _Point:
    """The point at fraction t of the way from a to b, both in the camera's frame."""
    return _CAMERA, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t, a[3] + (b[3] - a[3]) * t


def _add_seat(figure: _Builder) -> None:
    """A stool from below the hips to the feet."""
    g, floor = figure.girth, float(figure.body.heels[:, 1].max())
    under = 0.10 * g
    corners = [(_PELVIS, x, under + 0.01, z) for x in (-0.10, 0.10) for z in (-0.12, 0.06)]
    depth = float(figure.body.neck[2]) / 2 + 0.02
    figure.add(Part.NOBODY, Colour.SEAT, depth, *((c, 0.018) for c in corners))
    if floor > 0.2:
        figure.add(
            Part.NOBODY, Colour.SEAT, depth, ((_CAMERA, 0.0, 0.12, 0.0), 0.025), ((_CAMERA, 0.0, floor, 0.02), 0.03)
        )


def _add_trunk(figure: _Builder) -> None:
    g, shoulder, outfit = figure.girth, figure.body.proportions.shoulder, figure.outfit
    joints, backward = figure.joints, float(figure.body.chest[2, 2])
    depth = float(figure.body.neck[2]) / 2
    waist = [((_PELVIS, x * g, -0.075, 0.0), 0.052 * g) for x in (-0.050, 0.050)]
    hips = [(joints[11], 0.068 * g), (joints[12], 0.068 * g)]
    figure.add(Part.PELVIS, Colour.TROUSERS, depth + 0.002, *waist, *hips)
    if outfit.skirt:
        hems = [_between(joints[11 + side], joints[13 + side], 0.72) for side in (0, 1)]
        near = min(depth, min(hem[3] for hem in hems) * 0.5) - 0.03
        figure.add(Part.SKIRT, Colour.TROUSERS, near, *waist, *hips, *((hem, 0.075 * g) for hem in hems))
    figure.add(
        Part.TORSO,
        Colour.SHIRT,
        depth,
        *(((_PELVIS, x * g, -0.045, 0.0), 0.055 * g) for x in (-0.058, 0.058)),
        *(((_CHEST, x * shoulder, 0.095, 0.0), 0.058 * g) for x in (-0.72, 0.72)),
        *(((_CHEST, x * shoulder, 0.018, 0.0), 0.046 * g) for x in (-0.86, 0.86)),
    )
    if outfit.front == "stripes":
        for down in (0.06, 0.12, 0.18):
            ends = [((_CHEST, x * g, down, 0.0), 0.012) for x in (-0.085, 0.085)]
            figure.add(Part.TORSO, Colour.PRINT, depth, *ends, flat=True)
    elif backward > 0.1:  # the front faces the camera
        _add_front(figure, depth)
    throat = figure.head(0.0, 0.035, 0.010)
    figure.add(Part.TORSO, Colour.SKIN, depth - 0.001, ((_CHEST, 0.0, 0.012, 0.0), 0.036 * g), (throat, 0.036 * g))
    if outfit.bag:
        corners = [(_CHEST, x, y, 0.085 * g) for x in (-0.055, 0.055) for y in (0.05, 0.19)]
        figure.add(Part.BAG, Colour.BAG, depth + 0.09 * backward, *((corner, 0.045) for corner in corners))
        if backward > 0:
            for sign in _SIGN:
                strap = [(_CHEST, sign * x, y, -0.05 * g) for x, y in ((0.07, 0.0), (0.085, 0.16))]
                figure.add(Part.TORSO, Colour.BAG, depth, *((end, 0.011) for end in strap), flat=True)


def _add_front(figure: _Builder, depth: float) -> None:
    """What only the front of a shirt has."""
    surface = -0.055 * figure.girth
    if figure.outfit.front == "print":
        corners = [(_CHEST, x, y, surface) for x in (-0.045, 0.045) for y in (0.075, 0.155)]
        figure.add(Part.TORSO, Colour.PRINT, depth, *((corner, 0.006) for corner in corners), flat=True)
    elif figure.outfit.front == "buttons":
        ends = [(_CHEST, 0.0, y, surface) for y in (0.01, 0.24)]
        figure.add(Part.TORSO, Colour.PRINT, depth, *((end, 0.008) for end in ends), flat=True)
    elif figure.outfit.front == "vneck":
        corners = [(_CHEST, x, y, surface) for x, y in ((-0.045, -0.01), (0.045, -0.01), (0.0, 0.085))]
        figure.add(Part.TORSO, Colour.SKIN, depth, *((corner, 0.004) for corner in corners), flat=True)


def _add_arm(figure: _Builder, side: int) -> None:
    g, sleeves = figure.girth, figure.outfit.sleeves
    shoulder, elbow, wrist = figure.joints[5 + side], figure.joints[7 + side], figure.joints[9 + side]
    hand: _Point = (_CAMERA, *figure.body.hands[side].tolist())
    upper, fore = Part(Part.LEFT_UPPER_ARM + side), Part(Part.LEFT_FOREARM + side)
    # A little nearer than the trunk at the same depth: an arm hangs beside it and swings before it.
    depth = (shoulder[3] + elbow[3]) / 2 - 0.012
    depth_fore = (elbow[3] + wrist[3]) / 2 - 0.022
    whole = sleeves >= 1
    cloth = 1.08 if whole else 1.0
    surface = Colour.SHIRT if whole else Colour.SKIN
    figure.add(fore, Colour.SKIN, depth_fore, (_between(wrist, hand, 0.3), 0.025 * g), (hand, 0.019 * g))
    figure.add(fore, surface, depth_fore, (elbow, 0.031 * g * cloth), (wrist, 0.022 * g * cloth))
    figure.add(upper, surface, depth, (shoulder, 0.043 * g * cloth), (elbow, 0.031 * g * cloth))
    if 0 < sleeves < 1:
        hem = _between(shoulder, elbow, min(1.0, 1.9 * sleeves))
        figure.add(upper, Colour.SHIRT, depth, (shoulder, 0.046 * g), (hem, 0.041 * g))


def _add_leg(figure: _Builder, side: int) -> None:
    g, trousers = figure.girth, figure.outfit.trousers
    hip, knee, ankle = figure.joints[11 + side], figure.joints[13 + side], figure.joints[15 + side]
    thigh, shin = Part(Part.LEFT_THIGH + side), Part(Part.LEFT_SHIN + side)
    depth = (hip[3] + knee[3]) / 2 - 0.004
    depth_shin = (knee[3] + ankle[3]) / 2 - 0.004
    whole = trousers >= 1 and not figure.outfit.skirt
    cloth = 1.1 if whole else 1.0
    surface = Colour.TROUSERS if whole else Colour.SKIN
    heel: _Point = (_CAMERA, *figure.body.heels[side].tolist())
    toe: _Point = (_CAMERA, *figure.body.toes[side].tolist())
    figure.add(shin, Colour.SHOES, depth_shin, (heel, 0.028), (ankle, 0.028), (toe, 0.020))
    sole = [(_CAMERA, x, y + down, z) for (_, x, y, z), down in ((heel, 0.022), (toe, 0.014))]
    figure.add(shin, Colour.SOLE, depth_shin, *((end, 0.007) for end in sole), flat=True)
    figure.add(shin, surface, depth_shin, (knee, 0.046 * g * cloth), (ankle, 0.028 * g * cloth))
    figure.add(thigh, surface, depth, (hip, 0.066 * g * cloth), (knee, 0.046 * g * cloth))
    if not whole and not figure.outfit.skirt:
        hem = _between(hip, knee, min(1.0, 1.75 * trousers))
        figure.add(thigh, Colour.TROUSERS, depth, (hip, 0.070 * g), (hem, 0.060 * g))


def _add_head(figure: _Builder) -> None:
    size, hair_style = figure.size, figure.outfit.hair
    depth = float(figure.body.skull[2])
    forward = float(figure.body.head[2, 2])  # 1 when the face looks into the camera, -1 when away
    near = depth - 0.05
    hair = {"bald": Colour.SKIN, "hat": Colour.HAT}.get(hair_style, Colour.HAIR)
    if hair_style == "long":
        locks = [figure.head(x, y, 0.032) for x in (-0.035, 0.035) for y in (0.0, 0.12)]
        figure.add(Part.HAIR, hair, depth + 0.07 * forward, *((lock, 0.044 * size) for lock in locks))
    face = ((figure.head(0, -0.012, -0.012), 0.064 * size), (figure.head(0, 0.045, -0.022), 0.046 * size))
    crown = [(figure.head(0, -0.026, 0.020), 0.072 * size), (figure.head(0, 0.004, 0.028), 0.066 * size)]
    # Long hair hides the ears; from the front, the far ear is drawn before the face that covers half of it.
    ears = () if hair_style == "long" else (0, 1)
    near_ears = [side for side in ears if forward < -0.35 or _SIGN[side] * float(figure.body.head[2, 0]) < 0.1]
    for side in ears:
        if side not in near_ears:
            _add_ear(figure, side, near)
    if forward < -0.35:
        figure.add(Part.HEAD, Colour.SKIN, near, *face)
    figure.add(Part.HAIR, hair, near, *crown)
    if hair_style == "bun":
        figure.add(Part.HAIR, hair, near, (figure.head(0, -0.075, 0.06), 0.036 * size))
    if forward >= -0.35:
        figure.add(Part.HEAD, Colour.SKIN, near, *face)
        _add_face(figure, near)
    for side in near_ears:
        _add_ear(figure, side, near)


def _add_ear(figure: _Builder, side: int, near: float) -> None:
    figure.add(Part.HEAD, Colour.NOSE, near, (figure.joints[3 + side], 0.016 * figure.size), flat=True)


def _add_face(figure: _Builder, near: float) -> None:
    size, hair_style = figure.size, figure.outfit.hair
    if figure.outfit.beard:
        jaw = [figure.head(x, 0.060, -0.046) for x in (-0.026, 0.026)]
        figure.add(Part.HEAD, Colour.HAIR, near, *((end, 0.022 * size) for end in jaw), flat=True)
    lips = [figure.head(x, 0.050, -0.066) for x in (-0.015, 0.015)]
    figure.add(Part.HEAD, Colour.LIPS, near, *((end, 0.0048 * size) for end in lips), flat=True)
    for eye, sign in enumerate(_SIGN, start=1):
        if figure.facing[eye]:
            figure.add(Part.HEAD, Colour.EYE_WHITE, near, (figure.joints[eye], 0.0115 * size), flat=True)
            figure.add(Part.HEAD, Colour.PUPIL, near, (figure.joints[eye], 0.0072 * size), flat=True)
            brow = [figure.head(sign * x, -0.037, -0.062) for x in (0.020, 0.040)]
            figure.add(Part.HEAD, Colour.HAIR, near, *((end, 0.0035 * size) for end in brow), flat=True)
    bridge, tip = figure.head(0, -0.010, -0.068), figure.head(0, 0.014, -0.071)
    figure.add(Part.HEAD, Colour.NOSE, near, (bridge, 0.005 * size), (tip, 0.0115 * size), flat=True)
    if hair_style in ("short", "long", "bun"):
        fringe = [figure.head(x, -0.060, -0.036) for x in (-0.026, 0.026)]
        figure.add(Part.HAIR, Colour.HAIR, near, *((end, 0.026 * size) for end in fringe), flat=True)
    elif hair_style == "hat":
        brim = [
            figure.head(x, -0.052, z) for x, z in ((-0.05, -0.04), (0.05, -0.04), (-0.025, -0.092), (0.025, -0.092))
        ]
        figure.add(Part.HAIR, Colour.HAT, near, *((end, 0.012 * size) for end in brim), flat=True)


def facing(body: Body) -> np.ndarray:
    """(17,) bool; False where the trunk or the head itself lies between the keypoint and the camera."""
    turned = np.ones(17, bool)
    forward = float(body.head[2, 2])
    turned[0] = forward > -0.08
    for side, sign in enumerate(_SIGN):
        across = -sign * float(body.head[2, 0])  # 1 when this side of the head is turned to the camera
        turned[1 + side] = 0.9 * forward + 0.4 * across > 0.06
        turned[3 + side] = across > -0.3
        # A shoulder or hip on the far side is behind the trunk, whose half depth is about 0.06.
        turned[5 + side] = body.keypoints[5 + side, 2] - body.neck[2] < 0.07
        turned[11 + side] = body.keypoints[11 + side, 2] < 0.05
    return turned
