"""Drawing the figures of a demo scene: projection, label image, shaded colours, visible keypoints.

Convention: image pixels, x then y, pixel centres at integers; polygons are int32 in 1/16 pixel, OpenCV's ``shift=4``.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np

from graphpose.data.demo.hulls import Figure, Part

_SHIFT = 4
_CAMERA_DISTANCE = 5.0  # statures from the camera to the person: an arm held out looks larger, as in a photograph
_LABELS_PER_PERSON = 16
MAX_PERSONS = 254 // _LABELS_PER_PERSON
OBJECT_LABEL = 255


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
        figure: what is drawn; outlines: one polygon per hull; lit: the same hulls shrunk towards the light, empty
            for flat details.
        keypoints: (17, 2) pixels; box: (4,) least x and y, greatest x and y; scale: pixels per stature.
    """

    figure: Figure
    outlines: list[np.ndarray]
    lit: list[np.ndarray]
    keypoints: np.ndarray
    box: np.ndarray
    scale: float


def place(projected: Projected, scale: float, shift: np.ndarray, light: np.ndarray) -> Placed:
    """Puts a figure into the image.

    Args:
        projected: the figure.
        scale: pixels per stature.
        shift: (2,) pixel position of the mid-hip.
        light: (2,) unit vector in the image towards the light.
    """
    xy = projected.xy * scale + shift
    radii = projected.radii[:, None] * scale
    circle = _circle(14 + int(scale / 24))
    starts, flat = projected.figure.starts, projected.figure.flat
    outlines = _hulls(starts, xy[:, None] + radii[:, None] * circle)
    lit = _hulls(starts, (xy + 0.18 * radii * light)[:, None] + (0.75 * radii)[:, None] * circle, flat)
    box = projected.box * scale + np.concatenate([shift, shift])
    return Placed(projected.figure, outlines, lit, projected.keypoints * scale + shift, box, scale)


@functools.lru_cache(maxsize=64)
def _circle(corners: int) -> np.ndarray:
    """(corners, 2) points around the unit circle, half inside and half outside so that the area is kept."""
    turn = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1) / math.sqrt(math.sin(turn[1]) / turn[1])


def _hulls(starts: list[int], circles: np.ndarray, skip: Sequence[bool] = ()) -> list[np.ndarray]:
    """Convex polygons around circles[starts[i] : starts[i + 1]] for each i; circles is (S, corners, 2) in pixels.

    Those to skip come back as empty polygons.
    """
    corners = circles.shape[1]
    points = np.rint(circles.reshape(-1, 2) * (1 << _SHIFT)).astype(np.int32)
    hulls = []
    for hull, (start, stop) in enumerate(itertools.pairwise(starts)):
        around = points[start * corners : stop * corners]
        if skip and skip[hull]:
            around = around[:0]
        elif stop > start + 1:
            around = cv2.convexHull(around)
        hulls.append(around)
    return hulls


def paint_labels(labels: np.ndarray, placed: Placed, person: int) -> None:
    """Paints a figure's parts into the (H, W) uint8 label image, over what is there."""
    figure = placed.figure
    for layer in figure.layers:
        for hull in layer:
            part = figure.parts[hull]
            label = person * _LABELS_PER_PERSON + part if part else 0
            cv2.fillConvexPoly(labels, placed.outlines[hull], label, cv2.LINE_8, _SHIFT)


def paint_colours(image: np.ndarray, placed: Placed, palette: np.ndarray) -> None:
    """Paints a figure into the (H, W, 3) uint8 image; palette is (colours, 3), indexed by Colour."""
    figure = placed.figure
    base = palette.tolist()
    dark = (palette * 0.66).tolist()
    for layer in figure.layers:
        colour = figure.colours[layer[0]]
        if figure.flat[layer[0]]:
            cv2.fillConvexPoly(image, placed.outlines[layer[0]], base[colour], cv2.LINE_AA, _SHIFT)
            continue
        for hull in layer:
            cv2.fillConvexPoly(image, placed.outlines[hull], dark[colour], cv2.LINE_AA, _SHIFT)
        for hull in layer:
            cv2.fillConvexPoly(image, placed.lit[hull], base[colour], cv2.LINE_AA, _SHIFT)


def paint_shadow(image: np.ndarray, placed: Placed) -> None:
    """Darkens the ground around the feet of a figure that stands upright."""
    left, right = placed.keypoints[15:17].tolist()
    hips = placed.keypoints[11:13, 1].mean()
    y = max(left[1], right[1]) + 0.04 * placed.scale
    if y - hips < 0.3 * placed.scale:
        return
    half = (0.12 * placed.scale + abs(left[0] - right[0]) / 2, 0.035 * placed.scale)
    x = (left[0] + right[0]) / 2
    x0, y0 = max(0, int(x - half[0])), max(0, int(y - half[1]))
    patch = image[y0 : max(0, int(y + half[1]) + 2), x0 : max(0, int(x + half[0]) + 2)]
    if patch.size:
        shaded = patch.copy()
        cv2.ellipse(shaded, ((x - x0, y - y0), (2 * half[0], 2 * half[1]), 0.0), (0, 0, 0), -1, cv2.LINE_AA)
        patch[:] = cv2.addWeighted(patch, 0.62, shaded, 0.38, 0)


def person_mask(labels: np.ndarray, person: int) -> np.ndarray:
    """(H, W) uint8, 255 where the label image shows the person and 0 elsewhere."""
    base = person * _LABELS_PER_PERSON
    return cv2.inRange(labels, base + 1, base + _LABELS_PER_PERSON - 1)  # type: ignore[call-overload]


_ARMS = ((Part.LEFT_UPPER_ARM, Part.LEFT_FOREARM), (Part.RIGHT_UPPER_ARM, Part.RIGHT_FOREARM))
_LEGS = ((Part.LEFT_THIGH, Part.LEFT_SHIN), (Part.RIGHT_THIGH, Part.RIGHT_SHIN))
_TRUNK = (Part.TORSO, Part.PELVIS, Part.SKIRT)


def _surfaces() -> np.ndarray:
    """(2, 17, 16) bool; the parts on whose surface each keypoint lies, when it faces the camera [1] and when it does
    not [0]. Clothing belongs to the limb it covers."""
    shows = np.zeros((2, 17, _LABELS_PER_PERSON), bool)
    shows[1, :5, Part.HEAD] = True
    for side in (0, 1):
        shows[:, 5 + side, _ARMS[side][0]] = True
        shows[:, 7 + side, list(_ARMS[side])] = True
        shows[:, 9 + side, _ARMS[side][1]] = True
        shows[:, 11 + side, _LEGS[side][0]] = True
        shows[:, 13 + side, [Part.SKIRT, *_LEGS[side]]] = True
        shows[:, 15 + side, _LEGS[side][1]] = True
        # The trunk shows the near shoulder and hip, and hides the far ones.
        shows[1, 5 + side, Part.TORSO] = True
        shows[1, 11 + side, list(_TRUNK)] = True
    return shows


_SHOWS = _surfaces()
_K = np.arange(17)
_ON_HEAD = np.arange(17) < 5  # nose, eyes, ears


def keypoint_visibility(labels: np.ndarray, placed: Placed, person: int) -> np.ndarray:
    """Keypoints as an annotator would label them.

    Returns:
        (17, 3) float32; x, y in pixels and 2 where the picture shows the keypoint, 1 where something hides it, 0 (with
        x = y = 0) where it lies outside of the image or on the far side of the head, which COCO leaves unlabelled.
    """
    height, width = labels.shape
    keypoints = np.empty((17, 3), np.float32)
    keypoints[:, :2] = placed.keypoints
    x, y = keypoints[:, 0], keypoints[:, 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    cell = np.rint(np.where(inside[:, None], keypoints[:, :2], 0)).astype(np.intp)
    seen = labels[cell[:, 1], cell[:, 0]]
    shown = _SHOWS[placed.figure.facing.astype(np.intp), _K, seen % _LABELS_PER_PERSON]
    keypoints[:, 2] = 1 + (shown & (seen // _LABELS_PER_PERSON == person) & (seen != OBJECT_LABEL))
    keypoints[~inside | ~placed.figure.facing & _ON_HEAD] = 0
    return keypoints
