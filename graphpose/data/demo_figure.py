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
    """What a painted pixel belongs to, so that visibility can be read off the label image. 0 is nobody."""

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


@dataclasses.dataclass(frozen=True)
class Outfit:
    """What somebody wears; lengths are fractions of the whole limb, 0 is bare and 1 reaches wrist or ankle."""

    sleeves: float
    trousers: float
    hair: str  # bald, short, bun, long or hat
    front: str  # plain, print, buttons, vneck or stripes; all but the stripes are on the front only
    bag: bool
    skirt: bool
    beard: bool

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Outfit:
        """Somebody's clothes."""
        sleeves, trousers, hair, front, bag, skirt, beard = rng.random(7)
        return cls(
            sleeves=0.0 if sleeves < 0.12 else 0.28 + 0.1 * sleeves if sleeves < 0.58 else 1.0,
            trousers=0.34 + 0.3 * trousers if trousers < 0.35 else 1.0,
            hair=_pick(hair, (("short", 0.46), ("long", 0.24), ("bun", 0.10), ("hat", 0.13), ("bald", 0.07))),
            front=_pick(front, (("plain", 0.2), ("print", 0.3), ("buttons", 0.2), ("vneck", 0.15), ("stripes", 0.15))),
            bag=bool(bag < 0.12),
            skirt=bool(skirt < 0.12),
            beard=bool(beard < 0.15),
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
    """Hulls of spheres, sorted from far to near.

    Attributes:
        centres: (S, 3) sphere centres; radii: (S,).
        starts: for each hull its first sphere; a hull ends where the next begins (len hulls + 1 entries).
        parts, colours: for each hull its Part and Colour.
        flat: for each hull whether it is a detail without shading of its own.
        order: hulls from far to near.
        keypoints: (17, 3) COCO keypoints.
        facing: (17,) bool; False where the body's own bulk lies between the keypoint and the camera.
    """

    centres: np.ndarray
    radii: np.ndarray
    starts: list[int]
    parts: list[int]
    colours: list[int]
    flat: list[bool]
    order: list[int]
    keypoints: np.ndarray
    facing: np.ndarray


class _Builder:
    """Collects hulls; each call of add appends one."""

    def __init__(self) -> None:
        self.centres: list[np.ndarray] = []
        self.radii: list[float] = []
        self.starts = [0]
        self.parts: list[int] = []
        self.colours: list[int] = []
        self.flat: list[bool] = []
        self.depths: list[float] = []

    def add(
        self,
        part: Part,
        colour: Colour,
        depth: float,
        *spheres: tuple[np.ndarray, float],
        flat: bool = False,
    ) -> None:
        """One hull; of hulls at the same depth the later one is nearer."""
        for centre, radius in spheres:
            self.centres.append(centre)
            self.radii.append(radius)
        self.starts.append(len(self.radii))
        self.parts.append(int(part))
        self.colours.append(int(colour))
        self.flat.append(flat)
        self.depths.append(depth)

    def build(self, body: Body) -> Figure:
        order = sorted(range(len(self.depths)), key=lambda hull: -self.depths[hull])
        return Figure(
            np.array(self.centres),
            np.array(self.radii),
            self.starts,
            self.parts,
            self.colours,
            self.flat,
            order,
            body.keypoints,
            _facing(body),
        )


def dress(body: Body, outfit: Outfit) -> Figure:
    """Flesh and clothes around a body."""
    figure = _Builder()
    _add_trunk(figure, body, outfit)
    for side in (0, 1):
        _add_arm(figure, body, outfit, side)
        _add_leg(figure, body, outfit, side)
    _add_head(figure, body, outfit)
    return figure.build(body)


def _add_trunk(figure: _Builder, body: Body, outfit: Outfit) -> None:
    p, g = body.proportions, body.proportions.girth
    k, chest, pelvis = body.keypoints, body.chest, body.pelvis
    waist = [pelvis @ (sign * 0.050 * g, -0.075, 0.0) for sign in (1, -1)]
    ribs = [body.neck + chest @ (sign * p.shoulder * 0.72, 0.095, 0.0) for sign in (1, -1)]
    shoulders = [body.neck + chest @ (sign * p.shoulder * 0.86, 0.018, 0.0) for sign in (1, -1)]
    depth = float(body.neck[2]) / 2
    bottom = Colour.TROUSERS
    figure.add(
        Part.PELVIS, bottom, depth + 0.002, *((w, 0.052 * g) for w in waist), *((k[11 + s], 0.068 * g) for s in (0, 1))
    )
    if outfit.skirt:
        hems = [k[11 + s] + (k[13 + s] - k[11 + s]) * 0.72 for s in (0, 1)]
        near = min(depth, float(min(h[2] for h in hems)) * 0.5) - 0.03
        figure.add(
            Part.SKIRT,
            bottom,
            near,
            *((w, 0.048 * g) for w in waist),
            *((k[11 + s], 0.070 * g) for s in (0, 1)),
            *((h, 0.075 * g) for h in hems),
        )
    hem = [pelvis @ (sign * 0.058 * g, -0.045, 0.0) for sign in (1, -1)]
    figure.add(
        Part.TORSO,
        Colour.SHIRT,
        depth,
        *((h, 0.054 * g) for h in hem),
        *((r, 0.058 * g) for r in ribs),
        *((s, 0.046 * g) for s in shoulders),
    )
    if outfit.front == "stripes":
        for down in (0.06, 0.12, 0.18):
            half = 0.085 * g
            ends = [body.neck + chest @ (sign * half, down, 0.0) for sign in (1, -1)]
            figure.add(Part.TORSO, Colour.PRINT, depth, *((e, 0.012) for e in ends), flat=True)
    elif chest[2, 2] > 0.1 and outfit.front != "plain":  # the front faces the camera
        _add_front(figure, body, outfit, depth)
    base = body.neck + chest @ (0.0, 0.012, 0.0)
    top = body.skull + body.head @ (0.0, 0.035, 0.010)
    figure.add(Part.TORSO, Colour.SKIN, depth - 0.001, (base, 0.036 * g), (top, 0.036 * g))
    if outfit.bag:
        spots = [body.neck + chest @ (x, y, 0.085 * g) for x in (-0.055, 0.055) for y in (0.05, 0.19)]
        behind = depth + 0.09 * float(chest[2, 2])
        figure.add(Part.BAG, Colour.BAG, behind, *((s, 0.045) for s in spots))
        if chest[2, 2] > 0:
            for sign in (1, -1):
                strap = [body.neck + chest @ (sign * x, y, -0.05 * g) for x, y in ((0.07, 0.0), (0.085, 0.16))]
                figure.add(Part.TORSO, Colour.BAG, depth, *((s, 0.011) for s in strap), flat=True)


def _add_front(figure: _Builder, body: Body, outfit: Outfit, depth: float) -> None:
    """What only the front of the shirt has."""
    chest = body.chest
    surface = -0.055 * body.proportions.girth

    def at(left: float, down: float) -> np.ndarray:
        return body.neck + chest @ (left, down, surface)

    if outfit.front == "print":
        corners = [at(x, y) for x in (-0.045, 0.045) for y in (0.075, 0.155)]
        figure.add(Part.TORSO, Colour.PRINT, depth, *((c, 0.006) for c in corners), flat=True)
    elif outfit.front == "buttons":
        figure.add(Part.TORSO, Colour.PRINT, depth, (at(0.0, 0.01), 0.008), (at(0.0, 0.24), 0.008), flat=True)
    else:
        corners = [at(-0.045, -0.01), at(0.045, -0.01), at(0.0, 0.085)]
        figure.add(Part.TORSO, Colour.SKIN, depth, *((c, 0.004) for c in corners), flat=True)


def _add_arm(figure: _Builder, body: Body, outfit: Outfit, side: int) -> None:
    k, g = body.keypoints, body.proportions.girth
    shoulder, elbow, wrist, hand = k[5 + side], k[7 + side], k[9 + side], body.hands[side]
    upper, fore = Part(Part.LEFT_UPPER_ARM + side), Part(Part.LEFT_FOREARM + side)
    depth = float(shoulder[2] + elbow[2]) / 2 - 0.012
    depth_fore = float(elbow[2] + wrist[2]) / 2 - 0.022
    whole = outfit.sleeves >= 1
    cloth = 1.14 if whole else 1.0
    skin = Colour.SHIRT if whole else Colour.SKIN
    figure.add(upper, skin, depth, (shoulder, 0.043 * g * cloth), (elbow, 0.031 * g * cloth))
    if 0 < outfit.sleeves < 1:
        hem = shoulder + (elbow - shoulder) * min(1.0, 1.9 * outfit.sleeves)
        figure.add(upper, Colour.SHIRT, depth, (shoulder, 0.050 * g), (hem, 0.042 * g))
    palm = wrist + (hand - wrist) * 0.35
    figure.add(fore, Colour.SKIN, depth_fore, (palm, 0.025 * g), (hand, 0.018 * g))
    figure.add(fore, skin, depth_fore, (elbow, 0.031 * g * cloth), (wrist, 0.022 * g * cloth))


def _add_leg(figure: _Builder, body: Body, outfit: Outfit, side: int) -> None:
    k, g = body.keypoints, body.proportions.girth
    hip, knee, ankle = k[11 + side], k[13 + side], k[15 + side]
    thigh, shin = Part(Part.LEFT_THIGH + side), Part(Part.LEFT_SHIN + side)
    depth = float(hip[2] + knee[2]) / 2 - 0.004
    depth_shin = float(knee[2] + ankle[2]) / 2 - 0.008
    whole = outfit.trousers >= 1 and not outfit.skirt
    cloth = 1.1 if whole else 1.0
    skin = Colour.TROUSERS if whole else Colour.SKIN
    heel, toe = body.heels[side], body.toes[side]
    figure.add(shin, Colour.SHOES, depth_shin, (heel, 0.028), (ankle, 0.028), (toe, 0.020))
    figure.add(shin, Colour.SOLE, depth_shin, (heel + (0, 0.022, 0), 0.008), (toe + (0, 0.014, 0), 0.008), flat=True)
    figure.add(shin, skin, depth_shin, (knee, 0.045 * g * cloth), (ankle, 0.028 * g * cloth))
    figure.add(thigh, skin, depth, (hip, 0.066 * g * cloth), (knee, 0.047 * g * cloth))
    if not whole and not outfit.skirt:
        hem = hip + (knee - hip) * min(1.0, 1.75 * outfit.trousers)
        figure.add(thigh, Colour.TROUSERS, depth, (hip, 0.070 * g), (hem, 0.060 * g))


def _add_head(figure: _Builder, body: Body, outfit: Outfit) -> None:
    size, head, k = body.proportions.head, body.head, body.keypoints
    depth = float(body.skull[2])
    forward = float(head[2, 2])  # 1 when the face looks into the camera, -1 when away

    def at(left: float, down: float, back: float) -> np.ndarray:
        return body.skull + head @ (left * size, down * size, back * size)

    near = depth - 0.05
    hair = Colour.SKIN if outfit.hair == "bald" else Colour.HAT if outfit.hair == "hat" else Colour.HAIR

    def add_hair() -> None:
        figure.add(Part.HEAD, hair, near, (at(0, -0.026, 0.020), 0.072 * size), (at(0, 0.004, 0.028), 0.066 * size))
        if outfit.hair == "bun":
            figure.add(Part.HEAD, hair, near, (at(0, -0.075, 0.06), 0.036 * size))

    def add_ear(side: int) -> None:
        figure.add(Part.HEAD, Colour.NOSE, near, (k[3 + side], 0.016 * size), (k[3 + side], 0.014 * size), flat=True)

    if outfit.hair == "long":
        locks = [at(x, y, 0.032) for x in (-0.035, 0.035) for y in (0.0, 0.12)]
        figure.add(Part.HEAD, hair, depth + 0.07 * forward, *((lock, 0.044 * size) for lock in locks))
    face = [(at(0, -0.012, -0.012), 0.064 * size), (at(0, 0.045, -0.022), 0.046 * size)]
    if forward > -0.35:
        add_hair()
        figure.add(Part.HEAD, Colour.SKIN, near, *face)
        _add_face(figure, body, outfit, near)
        for side, sign in ((0, 1.0), (1, -1.0)):
            if sign * float(head[2, 0]) < 0.12:  # this side of the head is turned to the camera
                add_ear(side)
    else:
        for side in (0, 1):
            add_ear(side)
        figure.add(Part.HEAD, Colour.SKIN, near, *face)
        add_hair()


def _add_face(figure: _Builder, body: Body, outfit: Outfit, near: float) -> None:
    size, head, k = body.proportions.head, body.head, body.keypoints
    facing = _facing(body)

    def at(left: float, down: float, back: float) -> np.ndarray:
        return body.skull + head @ (left * size, down * size, back * size)

    if outfit.beard:
        jaw = [at(x, 0.058, -0.050) for x in (-0.026, 0.026)]
        figure.add(Part.HEAD, Colour.HAIR, near, *((j, 0.024 * size) for j in jaw), flat=True)
    figure.add(
        Part.HEAD, Colour.LIPS, near, (at(-0.016, 0.050, -0.066), 0.006), (at(0.016, 0.050, -0.066), 0.006), flat=True
    )
    for eye, sign in ((1, 1.0), (2, -1.0)):
        if facing[eye]:
            figure.add(Part.HEAD, Colour.EYE_WHITE, near, (k[eye], 0.0125 * size), flat=True)
            figure.add(Part.HEAD, Colour.PUPIL, near, (k[eye] + head @ (0, 0, -0.004), 0.0075 * size), flat=True)
            brow = [at(sign * x, -0.034, -0.062) for x in (0.018, 0.042)]
            figure.add(Part.HEAD, Colour.HAIR, near, *((b, 0.005) for b in brow), flat=True)
    bridge = at(0, -0.012, -0.068)
    figure.add(Part.HEAD, Colour.NOSE, near, (bridge, 0.006), (k[0] - head @ (0, 0, -0.010), 0.014 * size), flat=True)
    if outfit.hair in ("short", "long", "bun"):
        fringe = [at(x, -0.060, -0.036) for x in (-0.026, 0.026)]
        figure.add(Part.HEAD, Colour.HAIR, near, *((f, 0.026 * size) for f in fringe), flat=True)
    elif outfit.hair == "hat":
        brim = [at(x, -0.046, y) for x, y in ((-0.05, -0.04), (0.05, -0.04), (-0.025, -0.10), (0.025, -0.10))]
        figure.add(Part.HEAD, Colour.HAT, near, *((b, 0.012 * size) for b in brim), flat=True)


def _facing(body: Body) -> np.ndarray:
    """(17,) bool; False where the trunk or the head itself lies between the keypoint and the camera."""
    facing = np.ones(17, bool)
    forward = float(body.head[2, 2])
    facing[0] = forward > -0.08
    for side, sign in ((0, 1.0), (1, -1.0)):
        across = -sign * float(body.head[2, 0])  # 1 when this side of the head is turned to the camera
        facing[1 + side] = 0.9 * forward + 0.4 * across > 0.06
        facing[3 + side] = across > -0.12 if forward > -0.35 else across > -0.6
        # A shoulder or hip on the far side is behind the trunk, whose half depth is about 0.06.
        facing[5 + side] = body.keypoints[5 + side, 2] - body.neck[2] < 0.07
        facing[11 + side] = body.keypoints[11 + side, 2] < 0.05
    return facing
