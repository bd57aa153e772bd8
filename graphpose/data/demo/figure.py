"""A dressed body for the demo scenes: flesh and clothes around a posed skeleton."""

from __future__ import annotations

from graphpose.data.demo.body import Body
from graphpose.data.demo.head import add_head
from graphpose.data.demo.hulls import CAMERA, CHEST, PELVIS, SIGN, Colour, Figure, FigureBuilder, Part, Point
from graphpose.data.demo.outfit import Outfit


def dress(body: Body, outfit: Outfit) -> Figure:
    """Flesh and clothes around a body."""
    figure = FigureBuilder(body, outfit)
    if outfit.seat:
        _add_seat(figure)
    _add_trunk(figure)
    for side in (0, 1):
        _add_arm(figure, side)
        _add_leg(figure, side)
    add_head(figure)
    return figure.build()


def _between(a: Point, b: Point, t: float) -> Point:
    """The point at fraction t of the way from a to b, both in the camera's frame."""
    return CAMERA, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t, a[3] + (b[3] - a[3]) * t


def _add_seat(figure: FigureBuilder) -> None:
    """A stool from below the hips to the feet."""
    g, floor = figure.girth, float(figure.body.heels[:, 1].max())
    under = 0.10 * g
    corners = [(PELVIS, x, under + 0.01, z) for x in (-0.10, 0.10) for z in (-0.12, 0.06)]
    depth = float(figure.body.neck[2]) / 2 + 0.02
    figure.add(Part.NOBODY, Colour.SEAT, depth, *((c, 0.018) for c in corners))
    if floor > 0.2:
        figure.add(
            Part.NOBODY, Colour.SEAT, depth, ((CAMERA, 0.0, 0.12, 0.0), 0.025), ((CAMERA, 0.0, floor, 0.02), 0.03)
        )


def _add_trunk(figure: FigureBuilder) -> None:
    g, shoulder, outfit = figure.girth, figure.body.proportions.shoulder, figure.outfit
    joints, backward = figure.joints, float(figure.body.chest[2, 2])
    depth = float(figure.body.neck[2]) / 2
    waist = [((PELVIS, x * g, -0.075, 0.0), 0.052 * g) for x in (-0.050, 0.050)]
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
        *(((PELVIS, x * g, -0.045, 0.0), 0.055 * g) for x in (-0.058, 0.058)),
        *(((CHEST, x * shoulder, 0.095, 0.0), 0.058 * g) for x in (-0.72, 0.72)),
        *(((CHEST, x * shoulder, 0.018, 0.0), 0.046 * g) for x in (-0.86, 0.86)),
    )
    if outfit.front == "stripes":
        for down in (0.06, 0.12, 0.18):
            ends = [((CHEST, x * g, down, 0.0), 0.012) for x in (-0.085, 0.085)]
            figure.add(Part.TORSO, Colour.PRINT, depth, *ends, flat=True)
    elif backward > 0.1:  # the front faces the camera
        _add_front(figure, depth)
    throat = figure.head(0.0, 0.035, 0.010)
    # The head is always before its neck.
    depth_neck = max(depth - 0.001, float(figure.body.skull[2]) - 0.045)
    figure.add(Part.TORSO, Colour.SKIN, depth_neck, ((CHEST, 0.0, 0.012, 0.0), 0.036 * g), (throat, 0.036 * g))
    if outfit.bag:
        corners = [(CHEST, x, y, 0.085 * g) for x in (-0.055, 0.055) for y in (0.05, 0.19)]
        figure.add(Part.BAG, Colour.BAG, depth + 0.09 * backward, *((corner, 0.045) for corner in corners))
        if backward > 0:
            for sign in SIGN:
                strap = [(CHEST, sign * x, y, -0.05 * g) for x, y in ((0.07, 0.0), (0.085, 0.16))]
                figure.add(Part.TORSO, Colour.BAG, depth, *((end, 0.011) for end in strap), flat=True)


def _add_front(figure: FigureBuilder, depth: float) -> None:
    """What only the front of a shirt has."""
    surface = -0.055 * figure.girth
    if figure.outfit.front == "print":
        corners = [(CHEST, x, y, surface) for x in (-0.045, 0.045) for y in (0.075, 0.155)]
        figure.add(Part.TORSO, Colour.PRINT, depth, *((corner, 0.006) for corner in corners), flat=True)
    elif figure.outfit.front == "buttons":
        ends = [(CHEST, 0.0, y, surface) for y in (0.01, 0.24)]
        figure.add(Part.TORSO, Colour.PRINT, depth, *((end, 0.008) for end in ends), flat=True)
    elif figure.outfit.front == "vneck":
        corners = [(CHEST, x, y, surface) for x, y in ((-0.045, -0.01), (0.045, -0.01), (0.0, 0.085))]
        figure.add(Part.TORSO, Colour.SKIN, depth, *((corner, 0.004) for corner in corners), flat=True)


def _add_arm(figure: FigureBuilder, side: int) -> None:
    g, sleeves = figure.girth, figure.outfit.sleeves
    shoulder, elbow, wrist = figure.joints[5 + side], figure.joints[7 + side], figure.joints[9 + side]
    hand: Point = (CAMERA, *figure.body.hands[side].tolist())
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


def _add_leg(figure: FigureBuilder, side: int) -> None:
    g, trousers = figure.girth, figure.outfit.trousers
    hip, knee, ankle = figure.joints[11 + side], figure.joints[13 + side], figure.joints[15 + side]
    thigh, shin = Part(Part.LEFT_THIGH + side), Part(Part.LEFT_SHIN + side)
    depth = (hip[3] + knee[3]) / 2 - 0.004
    depth_shin = (knee[3] + ankle[3]) / 2 - 0.004
    whole = trousers >= 1 and not figure.outfit.skirt
    cloth = 1.1 if whole else 1.0
    surface = Colour.TROUSERS if whole else Colour.SKIN
    heel: Point = (CAMERA, *figure.body.heels[side].tolist())
    toe: Point = (CAMERA, *figure.body.toes[side].tolist())
    figure.add(shin, Colour.SHOES, depth_shin, (heel, 0.028), (ankle, 0.028), (toe, 0.020))
    sole = [(CAMERA, x, y + down, z) for (_, x, y, z), down in ((heel, 0.022), (toe, 0.014))]
    figure.add(shin, Colour.SOLE, depth_shin, *((end, 0.007) for end in sole), flat=True)
    figure.add(shin, surface, depth_shin, (knee, 0.046 * g * cloth), (ankle, 0.028 * g * cloth))
    figure.add(thigh, surface, depth, (hip, 0.066 * g * cloth), (knee, 0.046 * g * cloth))
    if not whole and not figure.outfit.skirt:
        hem = _between(hip, knee, min(1.0, 1.75 * trousers))
        figure.add(thigh, Colour.TROUSERS, depth, (hip, 0.070 * g), (hem, 0.060 * g))
