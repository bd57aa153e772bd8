"""Drawing the figures of a demo scene: projection, label image, shaded colours.

Convention: image pixels, x then y, pixel centres at integers; polygons are int32 in 1/16 pixel, as OpenCV's ``shift=4``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from graphpose.data.demo_body import Body
from graphpose.data.demo_figure import Colour, Figure, Part

_SHIFT = 4
_CAMERA_DISTANCE = 5.0  # statures from the camera to the person: arms held out look larger, as in a photograph
_LABELS_PER_PERSON = 16
MAX_PERSONS = 254 // _LABELS_PER_PERSON
OBJECT_LABEL = 255
_TURN = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1) / np.cos(np.pi / 16)  # (16, 2); mean radius about 1.01


@dataclasses.dataclass(frozen=True)
class Projected:
    """A figure seen by the camera, still in units of stature.

    Attributes:
        figure: what is seen; xy: (S, 2) sphere centres; radii: (S,); keypoints: (17, 2).
        box: (4,) least x and y, greatest x and y of all spheres.
    """

    figure: Figure
    xy: np.ndarray
    radii: np.ndarray
    keypoints: np.ndarray
    box: np.ndarray


def project(figure: Figure) -> Projected:
    """Perspective projection from a camera five statures away."""
    factor = _CAMERA_DISTANCE / (_CAMERA_DISTANCE + figure.centres[:, 2])
    xy = figure.centres[:, :2] * factor[:, None]
    radii = figure.radii * factor
    near = _CAMERA_DISTANCE / (_CAMERA_DISTANCE + figure.keypoints[:, 2])
    box = np.concatenate([(xy - radii[:, None]).min(axis=0), (xy + radii[:, None]).max(axis=0)])
    return Projected(figure, xy, radii, figure.keypoints[:, :2] * near[:, None], box)


@dataclasses.dataclass(frozen=True)
class Placed:
    """A figure in the image: its hulls as polygons and its keypoints.

    Attributes:
        figure: what is drawn; outlines: one polygon per hull; lit: the same hulls shrunk towards the light.
        keypoints: (17, 2) pixels.
    """

    figure: Figure
    outlines: list[np.ndarray]
    lit: list[np.ndarray]
    keypoints: np.ndarray


def place(projected: Projected, scale: float, shift: np.ndarray, light: np.ndarray) -> Placed:
    """Puts a figure into the image.

    Args:
        projected: the figure.
        scale: pixels per stature.
        shift: (2,) pixel position of the mid-hip.
        light: (2,) unit vector in the image towards the light.
    """
    figure = projected.figure
    xy = projected.xy * scale + shift
    radii = projected.radii * scale
    fixed = 1 << _SHIFT
    circles = xy[:, None] + radii[:, None, None] * _CIRCLE  # (S, 16, 2)
    inner = (xy + (0.22 * radii)[:, None] * light)[:, None] + (0.70 * radii)[:, None, None] * _CIRCLE
    outer_points = np.rint(circles * fixed).astype(np.int32)
    inner_points = np.rint(inner * fixed).astype(np.int32)
    outlines, lit = [], []
    for hull, flat in enumerate(figure.flat):
        spheres = slice(figure.starts[hull], figure.starts[hull + 1])
        outlines.append(cv2.convexHull(outer_points[spheres].reshape(-1, 2)))
        lit.append(outlines[-1] if flat else cv2.convexHull(inner_points[spheres].reshape(-1, 2)))
    return Placed(figure, outlines, lit, projected.keypoints * scale + shift)


def paint_labels(labels: np.ndarray, placed: Placed, person: int) -> None:
    """Paints a figure's parts into the (H, W) uint8 label image, over what is there."""
    base = person * _LABELS_PER_PERSON
    parts = placed.figure.parts
    for hull in placed.figure.order:
        cv2.fillConvexPoly(labels, placed.outlines[hull], base + parts[hull], cv2.LINE_8, _SHIFT)


def paint_colours(image: np.ndarray, placed: Placed, palette: np.ndarray) -> None:
    """Paints a figure into the (H, W, 3) uint8 image; palette is (colours, 3), indexed by Colour."""
    figure = placed.figure
    base = [tuple(colour) for colour in palette.tolist()]
    dark = [tuple(colour) for colour in (palette * 0.66).tolist()]
    for hull in figure.order:
        colour = figure.colours[hull]
        if figure.flat[hull]:
            cv2.fillConvexPoly(image, placed.outlines[hull], base[colour], cv2.LINE_AA, _SHIFT)
        else:
            cv2.fillConvexPoly(image, placed.outlines[hull], dark[colour], cv2.LINE_AA, _SHIFT)
            cv2.fillConvexPoly(image, placed.lit[hull], base[colour], cv2.LINE_AA, _SHIFT)


def person_masks(labels: np.ndarray, count: int) -> np.ndarray:
    """(count, H, W) bool; which pixels each person owns in the label image."""
    owner = labels // _LABELS_PER_PERSON
    return (owner[None] == np.arange(count, dtype=np.uint8)[:, None, None]) & (labels > 0) & (labels != OBJECT_LABEL)


_ARMS = ((Part.LEFT_UPPER_ARM, Part.LEFT_FOREARM), (Part.RIGHT_UPPER_ARM, Part.RIGHT_FOREARM))
_LEGS = ((Part.LEFT_THIGH, Part.LEFT_SHIN), (Part.RIGHT_THIGH, Part.RIGHT_SHIN))


def _owners() -> np.ndarray:
    """(17, 16) bool; the parts on whose surface each keypoint lies. Clothing belongs to the limb it covers."""
    owns = np.zeros((17, _LABELS_PER_PERSON), bool)
    owns[:5, Part.HEAD] = True
    for side in (0, 1):
        owns[5 + side, [Part.TORSO, _ARMS[side][0]]] = True
        owns[7 + side, list(_ARMS[side])] = True
        owns[9 + side, _ARMS[side][1]] = True
        owns[11 + side, [Part.TORSO, Part.PELVIS, Part.SKIRT, _LEGS[side][0]]] = True
        owns[13 + side, [Part.SKIRT, *_LEGS[side]]] = True
        owns[15 + side, _LEGS[side][1]] = True
    return owns


_OWNS = _owners()
_TRUNK = [Part.TORSO, Part.PELVIS, Part.SKIRT]
_JOINTS_OF_TRUNK = np.isin(np.arange(17), (5, 6, 11, 12))


def keypoint_visibility(labels: np.ndarray, placed: Placed, person: int) -> np.ndarray:
    """(17, 3) float32 keypoints: x, y in pixels and 2 where the picture shows the keypoint, 1 where something hides it,
    0 (with x = y = 0) where it lies outside of the image."""
    height, width = labels.shape
    xy = placed.keypoints
    cell = np.rint(xy).astype(int)
    x, y = xy[:, 0], xy[:, 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    seen = labels[cell[:, 1].clip(0, height - 1), cell[:, 0].clip(0, width - 1)].astype(int)
    part = seen % _LABELS_PER_PERSON
    own = (seen // _LABELS_PER_PERSON == person) & (seen != OBJECT_LABEL)
    surface = own & _OWNS[np.arange(17), part]
    # The trunk in front of a far shoulder or hip hides it; its own limb does not.
    behind = ~placed.figure.facing
    hidden = np.where(_JOINTS_OF_TRUNK, behind & np.isin(part, _TRUNK), behind)
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[:, :2] = xy
    keypoints[:, 2] = np.where(surface & ~hidden, 2, 1)
    keypoints[~inside] = 0
    return keypoints


def palette(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """(len(Colour), 3) float colours of one person; clothes and skin stand off from the background's mean (3,)."""
    colours = np.empty((len(Colour), 3))
    tone = rng.random()
    skin = np.array((242.0, 202.0, 172.0)) * (1 - tone) + np.array((96.0, 62.0, 44.0)) * tone
    skin += rng.uniform(-10, 10, 3)
    hair = _HAIRS[int(rng.integers(len(_HAIRS)))] + rng.uniform(-12, 12, 3)
    colours[Colour.SKIN] = skin
    colours[Colour.NOSE] = skin * (0.80, 0.72, 0.70)
    colours[Colour.LIPS] = skin * (0.78, 0.46, 0.48)
    colours[Colour.HAIR] = hair
    colours[Colour.EYE_WHITE] = 246.0
    colours[Colour.PUPIL] = (24.0, 20.0, 22.0)
    shirt = _cloth(rng, [background, skin])
    trousers = _cloth(rng, [background, shirt])
    colours[Colour.SHIRT] = shirt
    colours[Colour.TROUSERS] = trousers
    colours[Colour.PRINT] = _cloth(rng, [shirt])
    colours[Colour.SHOES] = _cloth(rng, [background, trousers])
    colours[Colour.SOLE] = (236.0, 234.0, 228.0) if rng.random() < 0.5 else (34.0, 32.0, 32.0)
    colours[Colour.HAT] = _cloth(rng, [background, skin])
    colours[Colour.BAG] = _cloth(rng, [shirt])
    return colours.clip(8, 250)


_HAIRS = np.array(((28, 22, 20), (60, 38, 24), (104, 66, 36), (196, 158, 92), (150, 74, 40), (168, 166, 164)), float)


def _cloth(rng: np.random.Generator, apart: Sequence[np.ndarray]) -> np.ndarray:
    """A colour of cloth; of four tries the one that stands off best from the given colours."""
    value = rng.uniform(40, 235, (4, 1))
    tries = value * (1 - rng.uniform(0, 0.75, (4, 1)) * rng.random((4, 3)))
    distance = np.abs(tries[None] - np.asarray(apart)[:, None]).sum(axis=2).min(axis=0)
    # The first that is good enough, so that muted clothes stay as frequent as bright ones.
    good = distance > 90
    return tries[int(good.argmax()) if good.any() else int(distance.argmax())]


__all__ = [
    "MAX_PERSONS",
    "OBJECT_LABEL",
    "Body",
    "Placed",
    "Projected",
    "keypoint_visibility",
    "paint_colours",
    "paint_labels",
    "palette",
    "person_masks",
    "place",
    "project",
]
