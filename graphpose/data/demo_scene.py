"""Composition of one demo scene: who stands where, what hides whom, and the picture with its annotations."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from graphpose.data.demo_backdrop import SHIFT, backdrop, draw_capsule, finish, fixed_point
from graphpose.data.demo_body import Proportions, pose_body, sample_pose
from graphpose.data.demo_figure import Outfit, dress
from graphpose.data.demo_palette import palette
from graphpose.data.demo_render import (
    OBJECT_LABEL,
    Placed,
    Projected,
    keypoint_visibility,
    paint_colours,
    paint_labels,
    person_mask,
    place,
    project,
)

_COUNTS = np.array((0.35, 0.27, 0.17, 0.10, 0.07, 0.04))  # of scenes with 1, 2, … 6 persons
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
    placements = _arrange(rng, size, count)
    persons = [place(figure, scale, shift, light) for figure, scale, shift in placements]
    obstacles = _obstacles(rng, size)
    return settle(size, persons, obstacles)


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
    for person in scene.persons:
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
    if rng.random() < 0.22:
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


def _arrange(rng: np.random.Generator, size: int, count: int) -> list[tuple[Projected, float, np.ndarray]]:
    """Who stands where, from far to near: (figure, pixels per stature, pixel position of the mid-hip)."""
    tallest = (0.95, 0.95, 0.85, 0.75, 0.68, 0.62)[min(count, 6) - 1]
    placed: list[tuple[Projected, float, np.ndarray]] = []
    boxes = np.empty((0, 4))
    for _ in range(count):
        figure = _somebody(rng)
        extent = figure.box[2:] - figure.box[:2]
        height = rng.uniform(0.36, tallest) if count > 1 else rng.uniform(0.48, 0.95)
        scale = size * min(height / float(extent[1]), 1.15, 1.1 / float(extent[0]))
        truncated = rng.random() < 0.2
        if truncated:
            scale *= rng.uniform(1.1, 1.5)
        best, least = None, np.inf
        for _ in range(10):
            shift = _position(rng, size, figure, scale, truncated)
            box = np.concatenate([figure.box[:2] * scale + shift, figure.box[2:] * scale + shift])
            overlap = _overlap(box, boxes)
            if overlap < least:
                best, least = (shift, box), overlap
            if overlap < 0.22:
                break
        if best is None or (least > 0.5 and placed):
            continue
        placed.append((figure, scale, best[0]))
        boxes = np.concatenate([boxes, best[1][None]])
    return sorted(placed, key=lambda item: item[1])


def _position(rng: np.random.Generator, size: int, figure: Projected, scale: float, truncated: bool) -> np.ndarray:
    """(2,) where to put the mid-hip: the whole body inside, or cut by the border when truncated."""
    low, high = figure.box[:2] * scale, figure.box[2:] * scale
    margin = 0.02 * size
    free = np.stack([margin - low, size - 1 - margin - high])  # (2, 2) shifts at which the body just fits
    shift = free.min(axis=0) + rng.random(2) * (free.max(axis=0) - free.min(axis=0))
    if truncated:
        cut = rng.random()
        if cut < 0.55:  # the legs are below the picture
            shift[1] = size - 1 - high[1] + rng.uniform(0.12, 0.48) * (high[1] - low[1])
        else:  # an arm, or half of the body, is beside it
            beyond = rng.uniform(0.08, 0.42) * (high[0] - low[0])
            shift[0] = -low[0] - beyond if cut < 0.78 else size - 1 - high[0] + beyond
    return shift


def _overlap(box: np.ndarray, boxes: np.ndarray) -> float:
    """Greatest share that a box (4,) and one of the boxes (N, 4) have of the smaller of both; corners x, y, x, y."""
    if not len(boxes):
        return 0.0
    size = (np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(0)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return float((size.prod(axis=1) / np.minimum(areas, (box[2:] - box[:2]).prod())).max())
