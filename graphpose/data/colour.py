"""Random colours and image quality: one colour matrix per image, and now and then blur, JPEG artefacts or grey."""

from __future__ import annotations

import math

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])
# Unit vectors of RGB space: grey, and two that span the plane of colours around it.
_GREY = np.ones(3) / math.sqrt(3)
_RED_CYAN = np.array([2, -1, -1]) / math.sqrt(6)
_GREEN_MAGENTA = np.array([0, 1, -1]) / math.sqrt(2)


def jitter_colours(image: np.ndarray, strength: float, degrade: float, rng: np.random.Generator) -> np.ndarray:
    """Random brightness, contrast, saturation and hue, and with probability ``degrade`` each blur, JPEG and grey.

    Args:
        image: (H, W, 3) uint8 RGB.
        strength: 0 (colours as they are) to 1.
        degrade: probability of each loss of quality.
        rng: source of every draw.

    Returns:
        (H, W, 3) uint8; with strength 0 and degrade 0 the input itself.
    """
    if strength > 0:
        brightness, contrast, saturation = 1 + strength * rng.uniform(-0.4, 0.4, size=3)
        hue = strength * rng.uniform(-0.1, 0.1) * math.pi
        mean = float(cv2.mean(image)[1])
        image = cv2.transform(image, colour_matrix(brightness, contrast, saturation, hue, mean))
    if degrade > 0:
        grey, blur, jpeg = rng.random(3) < degrade
        if grey:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if blur:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0))
        if jpeg:
            quality = int(rng.integers(20, 80))
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return image


def colour_matrix(brightness: float, contrast: float, saturation: float, hue: float, mean: float) -> np.ndarray:
    """(3, 4) map of [R, G, B, 1] that changes hue, then saturation, then contrast around ``mean``, then brightness.

    Args:
        brightness: factor of all values.
        contrast: factor of the distance to ``mean``.
        saturation: factor of the distance to the pixel's own grey value.
        hue: rotation around the grey axis, radians.
        mean: the image's mean value, 0–255.

    Returns:
        float64; the identity for factors 1 and hue 0; hue and saturation leave every grey pixel as it is.
    """
    cos, sin = math.cos(hue), math.sin(hue)
    plane = np.stack([_RED_CYAN, _GREEN_MAGENTA])
    turn = np.outer(_GREY, _GREY) + plane.T @ np.array([[cos, -sin], [sin, cos]]) @ plane
    saturate = saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), LUMA)
    linear = brightness * contrast * saturate @ turn
    return np.concatenate([linear, np.full((3, 1), brightness * (1 - contrast) * mean)], axis=1)
