"""What stands behind and before the persons of a demo scene: grounds, textures, clutter and limb-like distractors."""

from __future__ import annotations

import functools

import cv2
import numpy as np

SHIFT = 4


def backdrop(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) uint8 RGB background with clutter."""
    kind = rng.random()
    if kind < 0.4:
        image = _room(rng, size)
    elif kind < 0.75:
        image = _clouds(rng, size)
    else:
        image = _pattern(rng, size)
    for _ in range(int(rng.integers(2, 11))):
        _clutter(image, rng)
    for _ in range(int(rng.integers(0, 5))):
        _stick(image, rng)
    return image


def finish(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uneven light, sometimes blur, and sensor noise over a finished picture; returns (H, W, 3) uint8."""
    height, width = image.shape[:2]
    if rng.random() < 0.8:
        light = rng.uniform(0.8, 1.2, (3, 3)).astype(np.float32)
        field = cv2.resize((light * 128).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
        image = cv2.multiply(image, cv2.merge([field, field, field]), scale=1 / 128)
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.4, 0.9)))
    grain = _grain()
    top, left = (int(v) for v in rng.integers(0, np.array(grain.shape[:2]) - (height, width) + 1))
    amplitude = float(rng.uniform(0.05, 0.42))
    patch = grain[top : top + height, left : left + width]
    return cv2.addWeighted(image, 1.0, patch, amplitude, -128 * amplitude)


@functools.lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """(1280, 1280, 3) uint8 noise around 128, cut from by every scene; fixed, so that scenes stay reproducible."""
    rng = np.random.default_rng(0)
    return rng.normal(128, 24, (1280, 1280, 3)).clip(0, 255).astype(np.uint8)


def _muted(rng: np.random.Generator) -> np.ndarray:
    """(3,) float colour with little saturation."""
    u = rng.random(5)
    return (40 + 185 * u[0]) * (1 - 0.45 * u[1] * u[2:])


def _tuple(colour: np.ndarray) -> tuple[float, ...]:
    return tuple(colour.tolist())


def _room(rng: np.random.Generator, size: int) -> np.ndarray:
    """Wall or sky above, floor below, both with a gradient."""
    column = np.empty((size, 1, 3), np.uint8)
    horizon = int(rng.uniform(0.35, 0.8) * size)
    for start, stop in ((0, horizon), (horizon, size)):
        shade = _muted(rng)
        ramp = np.linspace(1.0, rng.uniform(0.7, 1.2), stop - start)[:, None]
        column[start:stop, 0] = (shade * ramp).clip(0, 255)
    image = cv2.repeat(column, 1, size)
    if rng.random() < 0.4:  # planks, tiles or blinds
        step = int(rng.uniform(0.05, 0.14) * size)
        colour = _tuple(_muted(rng))
        for x in range(int(rng.integers(step)), size, step):
            cv2.line(image, (x, 0), (x, horizon), colour, 1)
    return image


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth blobs of two colours."""
    cells = int(rng.integers(3, 14))
    a, b = _muted(rng), _muted(rng)
    mix = rng.random((cells, cells, 1)) * 0.9
    tint = rng.uniform(-18, 18, (cells, cells, 3))
    small = (a * (1 - mix) + b * mix + tint).clip(0, 255).astype(np.uint8)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC if cells < 9 else cv2.INTER_LINEAR)


def _pattern(rng: np.random.Generator, size: int) -> np.ndarray:
    """Bricks, tiles or stripes."""
    a = _muted(rng)
    b = (a + rng.uniform(-45, 45, 3)).clip(0, 255)
    image = np.empty((size, size, 3), np.uint8)
    cv2.rectangle(image, (0, 0), (size, size), _tuple(a), -1)
    step = max(4, int(rng.uniform(0.06, 0.22) * size))
    colour = _tuple(b)
    slant = int(rng.integers(-size // 3, size // 3 + 1))
    for x in range(-size, 2 * size, step):
        cv2.line(image, (x, 0), (x + slant, size), colour, max(1, step // 4), cv2.LINE_AA)
    if rng.random() < 0.5:
        for y in range(0, size, step):
            cv2.line(image, (0, y), (size, y), colour, max(1, step // 6), cv2.LINE_AA)
    return image


def _clutter(image: np.ndarray, rng: np.random.Generator) -> None:
    """One box, blob, triangle or ring."""
    size = len(image)
    u = rng.random(5).tolist()
    x, y, w, h = int(u[0] * size), int(u[1] * size), int(3 + 0.32 * u[2] * size), int(3 + 0.32 * u[3] * size)
    colour = _tuple(_muted(rng))
    kind = int(5 * u[4])
    if kind <= 1:
        cv2.rectangle(image, (x, y), (x + w, y + h), colour, -1)
        if kind:
            cv2.rectangle(image, (x, y), (x + w, y + h), _tuple(_muted(rng)), max(1, size // 100))
    elif kind == 2:
        cv2.ellipse(
            image, (x, y), (w // 2 + 1, h // 2 + 1), float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA
        )
    elif kind == 3:
        corners = (rng.random((3, 2)) * (w, h) * 1.5 + (x, y)).astype(np.int32)
        cv2.fillConvexPoly(image, corners, colour, cv2.LINE_AA)
    else:
        cv2.circle(image, (x, y), w // 2 + 2, colour, max(1, size // 60))


def _stick(image: np.ndarray, rng: np.random.Generator) -> None:
    """A distractor that looks like a limb, a pole or a head: a shaded capsule, often of the colour of skin."""
    size = len(image)
    skin = np.array((225.0, 180.0, 150.0)) * rng.uniform(0.4, 1.05)
    colour = skin if rng.random() < 0.5 else _muted(rng)
    start = rng.random(2) * size
    angle = rng.uniform(0, 2 * np.pi)
    length = rng.uniform(0, 0.4) * size if rng.random() < 0.85 else 2.0 * size
    end = start + length * np.array((np.cos(angle), np.sin(angle)))
    draw_capsule(image, start, end, rng.uniform(0.010, 0.04) * size, colour)


def draw_capsule(image: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float, colour: np.ndarray) -> None:
    """A shaded capsule between two points (2,) in pixels."""
    a, b = fixed_point(start), fixed_point(end)
    cv2.line(image, a, b, _tuple(colour * 0.66), max(1, round(2 * radius)), cv2.LINE_AA, SHIFT)
    cv2.line(image, a, b, _tuple(colour), max(1, round(1.2 * radius)), cv2.LINE_AA, SHIFT)


def fixed_point(point: np.ndarray) -> tuple[int, int]:
    """Pixels (2,) in OpenCV's fixed point of SHIFT bits."""
    x, y = point.tolist()
    return round(x * (1 << SHIFT)), round(y * (1 << SHIFT))
