"""Composition of one demo scene: who stands where, what hides whom, and the picture with its annotations."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from graphpose.data.demo.backdrop import SHIFT, backdrop, draw_capsule, finish, fixed_point
from graphpose.data.demo.body import Proportions, pose_body, sample_pose
from graphpose.data.demo.figure import dress
from graphpose.data.demo.outfit import Outfit
from graphpose.data.demo.palette import palette
from graphpose.data.demo.render import (
    OBJECT_LABEL,
    Placed,
    Projected,
    keypoint_visibility,
    paint_colours,
    paint_labels,
    paint_shadow,
    person_mask,
    place,
    project,
)

_COUNTS = np.array((0.46, 0.28, 0.13, 0.07, 0.04, 0.02))  # of scenes with 1, 2, … 6 persons
_TALLEST = (0.95, 0.95, 0.85, 0.75, 0.68, 0.62)  # height of a person against the image's, by the number of persons
_LEAST_SEEN = 0.42  # of a person's silhouette that others may not hide
_LEAST_KEYPOINTS = 6


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """Something before the persons: a capsule from start to end, (2,) pixels."""

    start: np.ndarray
    end: np.ndarray
    radius: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """Geometry of a scene and what follows from it.

    Attributes:
        size: pixels on a side.
        persons: figures in the image, from far to near.
        obstacles: before all of them.
        labels: (size, size) uint8; which part of whom each pixel shows.
        keypoints: (P, 17, 3) float32 with COCO visibility.
        areas: (P,) float32; pixels that show each person; boxes: (P, 4) float32; x, y, width, height around them.
    """

    size: int
    persons: list[Placed]
    obstacles: list[Obstacle]
    labels: np.ndarray
    keypoints: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray


def compose(rng: np.random.Generator, size: int, max_persons: int) -> Scene:
    """Draws a scene's geometry; everybody in it can be seen well enough to be learned."""
    odds = _COUNTS[np.minimum(np.arange(max_persons), len(_COUNTS) - 1)]
    count = 1 + int(np.searchsorted(np.cumsum(odds), rng.random() * odds.sum(), side="right"))
    light_angle = rng.uniform(-2.6, -0.5)
    light = np.array((np.cos(light_angle), np.sin(light_angle)))
    persons = [place(p.figure, p.scale, np.array(p.shift), light) for p in _arrange(rng, size, count)]
    return settle(size, persons, _obstacles(rng, size))


def settle(size: int, persons: list[Placed], obstacles: list[Obstacle]) -> Scene:
    """Paints the label image; whoever is nearly hidden leaves the scene, the worst first, until nobody is."""
    while True:
        labels = np.zeros((size, size), np.uint8)
        whole = np.empty(len(persons))
        for index, person in enumerate(persons):
            paint_labels(labels, person, index)
            whole[index] = cv2.countNonZero(person_mask(labels, index))
        for obstacle in obstacles:
            _paint_obstacle(labels, obstacle)
        keypoints = np.empty((len(persons), 17, 3), np.float32)
        areas = np.empty(len(persons), np.float32)
        boxes = np.empty((len(persons), 4), np.float32)
        for index, person in enumerate(persons):
            mask = person_mask(labels, index)
            areas[index] = cv2.countNonZero(mask)
            boxes[index] = cv2.boundingRect(mask)
            keypoints[index] = keypoint_visibility(labels, person, index)
        visible = np.count_nonzero(keypoints[:, :, 2] == 2, axis=1)
        quality = np.where(visible < _LEAST_KEYPOINTS, 0.0, areas / np.maximum(whole, 1))
        worst = int(quality.argmin())
        if len(persons) == 1 or quality[worst] >= _LEAST_SEEN:
            return Scene(size, persons, obstacles, labels, keypoints, areas, boxes)
        persons = persons[:worst] + persons[worst + 1 :]


def paint(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """(size, size, 3) uint8 RGB picture of a scene."""
    image = backdrop(rng, scene.size)
    background = cv2.mean(image)[:3]
    shadows = rng.random() < 0.6
    for person in scene.persons:
        if shadows:
            paint_shadow(image, person)
        paint_colours(image, person, palette(rng, background))
    for obstacle in scene.obstacles:
        colour = rng.uniform(40, 220) * (1 - 0.5 * rng.random(3))
        draw_capsule(image, obstacle.start, obstacle.end, obstacle.radius, colour)
    return finish(image, rng)


def _paint_obstacle(labels: np.ndarray, obstacle: Obstacle) -> None:
    a, b = fixed_point(obstacle.start), fixed_point(obstacle.end)
    cv2.line(labels, a, b, OBJECT_LABEL, max(1, round(2 * obstacle.radius)), cv2.LINE_8, SHIFT)


def _obstacles(rng: np.random.Generator, size: int) -> list[Obstacle]:
    """Now and then a pole, a rail or a branch before the persons."""
    obstacles = []
    if rng.random() < 0.15:
        horizontal = rng.random() < 0.5
        middle = rng.uniform(0.15, 0.85) * size if not horizontal else rng.uniform(0.5, 0.95) * size
        slant = rng.uniform(-0.12, 0.12) * size
        ends = np.array(((-0.1 * size, middle - slant), (1.1 * size, middle + slant)))
        start, end = ends if horizontal else ends[:, ::-1]
        obstacles.append(Obstacle(start, end, float(rng.uniform(0.010, 0.035) * size)))
    return obstacles


def _somebody(rng: np.random.Generator) -> Projected:
    """A person of the repertoire, dressed, turned and seen by the camera."""
    pose, angles = sample_pose(rng)
    view = rng.random()
    if view < 0.48:
        yaw = rng.normal(0, 24)
    elif view < 0.68:
        yaw = 180 + rng.normal(0, 24)
    else:
        yaw = rng.uniform(0, 360)
    elevation = rng.normal(5, 5)
    roll = rng.normal(0, 5)
    body = pose_body(angles, Proportions.sample(rng), yaw, elevation, roll)
    return project(dress(body, Outfit.sample(rng, seated=pose == "sit")))


@dataclasses.dataclass(frozen=True)
class _Placement:
    """Where a figure goes: pixels per stature, pixel position of the mid-hip, box as corners x, y, x, y."""

    figure: Projected
    scale: float
    shift: tuple[float, float]
    box: tuple[float, float, float, float]


def _arrange(rng: np.random.Generator, size: int, count: int) -> list[_Placement]:
    """Who stands where, from far to near; up to ``count`` persons that do not hide each other too much."""
    tallest = _TALLEST[min(count, len(_TALLEST)) - 1]
    placed: list[_Placement] = []
    for _ in range(count):
        figure = _somebody(rng)
        left, top, right, bottom = figure.box.tolist()
        height = rng.uniform(0.7, 1.0) * tallest
        scale = size * min(height / (bottom - top), 1.15, 1.1 / (right - left))
        truncated = rng.random() < 0.12
        if truncated:
            scale *= rng.uniform(1.1, 1.5)
        best, least = None, np.inf
        for u in rng.random((10, 4)).tolist():
            x, y = _position(u, size, (left * scale, top * scale, right * scale, bottom * scale), truncated)
            box = (left * scale + x, top * scale + y, right * scale + x, bottom * scale + y)
            overlap = max((_overlap(box, other.box) for other in placed), default=0.0)
            if overlap < least:
                best, least = _Placement(figure, scale, (x, y), box), overlap
            if overlap < 0.22:
                break
        if best is not None and least <= 0.5:
            placed.append(best)
    return sorted(placed, key=lambda placement: placement.scale)


_Box = tuple[float, float, float, float]


def _position(u: list[float], size: int, box: _Box, truncated: bool) -> tuple[float, float]:
    """Where to put a box's origin by four random numbers: all of it inside, or cut by the border when truncated."""
    left, top, right, bottom = box
    margin = 0.02 * size
    x = margin - left + u[0] * (size - 1 - 2 * margin - (right - left))
    y = margin - top + u[1] * (size - 1 - 2 * margin - (bottom - top))
    if truncated and u[2] < 0.55:  # the legs are below the picture
        y = size - 1 - bottom + (0.12 + 0.36 * u[3]) * (bottom - top)
    elif truncated:  # an arm, or half of the body, is beside it
        beyond = (0.08 + 0.34 * u[3]) * (right - left)
        x = -left - beyond if u[2] < 0.78 else size - 1 - right + beyond
    return x, y


def _overlap(a: _Box, b: _Box) -> float:
    """Share that two boxes have of the smaller of both."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
