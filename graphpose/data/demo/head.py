"""Heads of the demo scenes: skull, hair or hat, ears, and the face where it can be seen.

A face tells left from right at a glance; a head of hair without one tells that the person looks away.
"""

from __future__ import annotations

from graphpose.data.demo.hulls import SIGN, Colour, FigureBuilder, Part


def add_head(figure: FigureBuilder) -> None:
    """Adds everything above the neck."""
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
    near_ears = [side for side in ears if forward < -0.35 or SIGN[side] * float(figure.body.head[2, 0]) < 0.1]
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


def _add_ear(figure: FigureBuilder, side: int, near: float) -> None:
    figure.add(Part.HEAD, Colour.NOSE, near, (figure.joints[3 + side], 0.016 * figure.size), flat=True)


def _add_face(figure: FigureBuilder, near: float) -> None:
    size, hair_style = figure.size, figure.outfit.hair
    if figure.outfit.beard:
        jaw = [figure.head(x, 0.060, -0.046) for x in (-0.026, 0.026)]
        figure.add(Part.HEAD, Colour.HAIR, near, *((end, 0.022 * size) for end in jaw), flat=True)
    lips = [figure.head(x, 0.050, -0.066) for x in (-0.015, 0.015)]
    figure.add(Part.HEAD, Colour.LIPS, near, *((end, 0.0048 * size) for end in lips), flat=True)
    for eye, sign in enumerate(SIGN, start=1):
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
