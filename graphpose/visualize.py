"""Pictures of poses: skeletons over images, contact sheets, and saving them.

The person's left is drawn in warm colours, the right in cool ones and the body's axis in green, so that exchanged sides
show at a glance.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton

Colour = tuple[int, int, int]

# Hue ranges in degrees, from the first to the last keypoint or limb of that side.
_HUES = {"left": (-15.0, 48.0), "right": (180.0, 262.0), "axis": (88.0, 140.0)}
_OUTLINE: Colour = (18, 18, 22)
_PAPER: Colour = (250, 250, 250)
_INK: Colour = (40, 40, 46)
# Keypoints of predictions up to this confidence are not drawn: most of them were inferred from the others, see
# graphpose.fields.completing, and a picture would show them as seen.
DRAWN_CONFIDENCE = 0.15
_SHIFT = 4  # OpenCV draws at sixteenths of a pixel


def draw_poses(
    image: np.ndarray,
    keypoints: np.ndarray,
    skeleton: Skeleton,
    *,
    style: Literal["prediction", "truth"] = "prediction",
    threshold: float | None = None,
    zoom: float = 1.0,
    labels: Sequence[str] | None = None,
    colours: Literal["sides", "persons"] | Sequence[int] = "sides",
) -> np.ndarray:
    """Skeletons over an image.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        keypoints: (N, K, 3); x, y in pixels (centres at integers) and confidence or COCO visibility.
        skeleton: limbs and sides.
        style: "prediction" is filled and coloured; "truth" is a thin white skeleton with rings, hidden keypoints
            (visibility 1) as empty rings, so that both can be drawn over each other.
        threshold: keypoints at or below this confidence are left out; None is DRAWN_CONFIDENCE for predictions and 0
            for the truth.
        zoom: enlarge the image by this factor first; small images get legible skeletons.
        labels: a short text above each person, such as an identity; an empty one is left out.
        colours: of predictions: "sides" has warm colours on the person's left and cool ones on the right, "persons" one
            for each person; or N numbers, such as identities: persons of one number have one colour.

    Returns:
        (H · zoom, W · zoom, 3) uint8 RGB.

    Raises:
        GraphposeError: when image or keypoints do not have these shapes.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise GraphposeError(f"an image to draw on must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    keypoints = np.asarray(keypoints, np.float64)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (skeleton.num_keypoints, 3):
        raise GraphposeError(
            f"keypoints to draw must be (N, {skeleton.num_keypoints}, 3) for skeleton '{skeleton.name}', "
            f"not {keypoints.shape}"
        )
    canvas = np.ascontiguousarray(image).copy()
    if zoom != 1:
        canvas = cv2.resize(canvas, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        keypoints = keypoints.copy()
        keypoints[:, :, :2] = (keypoints[:, :, :2] + 0.5) * zoom - 0.5
    if threshold is None:
        threshold = DRAWN_CONFIDENCE if style == "prediction" else 0.0
    if labels is not None and len(labels) != len(keypoints):
        raise GraphposeError(f"{len(keypoints)} persons to draw need as many labels, not {len(labels)}")
    numbers = range(len(keypoints)) if isinstance(colours, str) else colours
    if len(numbers) != len(keypoints):
        raise GraphposeError(f"{len(keypoints)} persons to draw need as many numbers for colours, not {len(numbers)}")
    for n in sorted(range(len(keypoints)), key=lambda n: _extent(keypoints[n], threshold)):
        own = None if colours == "sides" else person_colour(numbers[n])
        if style == "prediction":
            _draw_prediction(canvas, keypoints[n], skeleton, threshold, own)
        else:
            _draw_truth(canvas, keypoints[n], skeleton, threshold)
    for n, label in enumerate(labels or ()):
        plate = _PAPER if colours == "sides" else person_colour(numbers[n])
        _draw_label(canvas, keypoints[n], label, threshold, plate)
    return canvas


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, titles: Sequence[str] | None = None, *, tile: int = 320
) -> np.ndarray:
    """Images in a grid, each shrunk or enlarged to fit its square.

    Args:
        images: (H, W, 3) uint8 RGB each, of any sizes.
        columns: images per row.
        titles: one line under each image.
        tile: edge of the squares in pixels.

    Returns:
        (rows · …, columns · …, 3) uint8 RGB.

    Raises:
        GraphposeError: without images, or with another number of titles.
    """
    if not images or columns < 1:
        raise GraphposeError("a contact sheet needs at least one image and one column")
    if titles is not None and len(titles) != len(images):
        raise GraphposeError(f"a contact sheet of {len(images)} images needs as many titles, not {len(titles)}")
    columns = min(columns, len(images))
    gap = max(4, tile // 40)
    caption = max(16, tile // 14) if titles else 0
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (tile + caption + gap) + gap, columns * (tile + gap) + gap, 3), _PAPER, np.uint8)
    for i, image in enumerate(images):
        top = gap + (i // columns) * (tile + caption + gap)
        left = gap + (i % columns) * (tile + gap)
        fitted = _fit(image, tile)
        h, w = fitted.shape[:2]
        y, x = top + (tile - h) // 2, left + (tile - w) // 2
        sheet[y : y + h, x : x + w] = fitted
        if titles:
            _write(sheet, titles[i], left, top + tile, tile, caption)
    return sheet


def save_image(path: Path | str, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB to .png or .jpg; the folder is made where it is missing.

    Raises:
        GraphposeError: naming the file, when it cannot be written or its ending is no image format.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if done:
            path.write_bytes(data.tobytes())
    except OSError as error:
        raise GraphposeError(f"image {path} cannot be written: {error.strerror}") from None
    except cv2.error:
        done = False
    if not done:
        raise GraphposeError(f"image {path} cannot be written as '{path.suffix}'; .png or .jpg would be right")


def limb_colours(skeleton: Skeleton) -> list[Colour]:
    """One RGB colour per limb: warm on the person's left, cool on the right, green on the axis or across it."""
    sides = [_limb_side(skeleton, a, b) for a, b in skeleton.limbs]
    return _spread(sides)


def keypoint_colours(skeleton: Skeleton) -> list[Colour]:
    """One RGB colour per keypoint, by the same rule."""
    return _spread([_side(skeleton, k) for k in range(skeleton.num_keypoints)])


def person_colour(number: int) -> Colour:
    """A bright RGB colour; numbers that follow each other have hues far apart."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.61803399 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _side(skeleton: Skeleton, k: int) -> str:
    if skeleton.flip[k] == k:
        return "axis"
    name = skeleton.keypoints[k].lower()
    return "left" if "left" in name or name.startswith("l_") or name.endswith("_l") else "right"


def _limb_side(skeleton: Skeleton, a: int, b: int) -> str:
    sides = {_side(skeleton, a), _side(skeleton, b)} - {"axis"}
    return sides.pop() if len(sides) == 1 else "axis"


def _spread(sides: Sequence[str]) -> list[Colour]:
    """Colours in the hue ranges of their sides, spread evenly over the members of each."""
    colours: list[Colour] = []
    seen = dict.fromkeys(_HUES, 0)
    for side in sides:
        low, high = _HUES[side]
        step = seen[side] / max(1, sides.count(side) - 1)
        seen[side] += 1
        red, green, blue = colorsys.hsv_to_rgb(((low + step * (high - low)) % 360) / 360, 0.85, 1.0)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def _extent(person: np.ndarray, threshold: float) -> float:
    found = person[person[:, 2] > threshold, :2]
    return float(np.hypot(*(found.max(axis=0) - found.min(axis=0)))) if len(found) else 0.0


def _line_width(canvas: np.ndarray, extent: float) -> float:
    """Pixels; grows with the person, within what suits the image."""
    largest = max(2.0, max(canvas.shape[:2]) / 110)
    return min(max(extent / 45, 1.4), largest)


def _draw_prediction(
    canvas: np.ndarray, person: np.ndarray, skeleton: Skeleton, threshold: float, own: Colour | None
) -> None:
    width = _line_width(canvas, _extent(person, threshold))
    found = person[:, 2] > threshold
    limbs = [m for m, (a, b) in enumerate(skeleton.limbs) if found[a] and found[b]]
    colours = limb_colours(skeleton) if own is None else [own] * skeleton.num_limbs
    points = keypoint_colours(skeleton) if own is None else [own] * skeleton.num_keypoints
    for outline in (True, False):
        for m in limbs:
            a, b = skeleton.limbs[m]
            colour = _OUTLINE if outline else colours[m]
            _line(canvas, person[a, :2], person[b, :2], colour, width + 1.6 if outline else width)
        for k in np.flatnonzero(found):
            colour = _OUTLINE if outline else points[k]
            _disc(canvas, person[k, :2], colour, 0.9 * width + (0.9 if outline else 0))


def _draw_truth(canvas: np.ndarray, person: np.ndarray, skeleton: Skeleton, threshold: float) -> None:
    width = max(1.0, 0.4 * _line_width(canvas, _extent(person, threshold)))
    found = person[:, 2] > threshold
    for outline in (True, False):
        for a, b in skeleton.limbs:
            if found[a] and found[b]:
                _line(canvas, person[a, :2], person[b, :2], _OUTLINE if outline else _PAPER, width + 2 * outline)
    colours = keypoint_colours(skeleton)
    for k in np.flatnonzero(found):
        _disc(canvas, person[k, :2], _PAPER, 2.4 * width)
        _disc(canvas, person[k, :2], _OUTLINE if person[k, 2] == 1 else colours[k], 1.6 * width)


def _draw_label(canvas: np.ndarray, person: np.ndarray, label: str, threshold: float, plate: Colour) -> None:
    """A text on a plate above the person's highest keypoint."""
    found = person[person[:, 2] > threshold, :2]
    if not label or not len(found):
        return
    top = found[found[:, 1].argmin()]
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, max(0.35, max(canvas.shape[:2]) / 1600)
    text = label.encode("ascii", "replace").decode()
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    left = round(min(max(top[0] - width / 2, 2), max(2, canvas.shape[1] - width - 3)))
    bottom = round(min(max(top[1] - 3 * _line_width(canvas, _extent(person, threshold)), height + 4), canvas.shape[0]))
    cv2.rectangle(canvas, (left - 2, bottom - height - 3), (left + width + 2, bottom + 2), plate, -1)
    cv2.putText(canvas, text, (left, bottom - 1), font, scale, _OUTLINE, 1, cv2.LINE_AA)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    # Far outside of the canvas nothing is drawn, but OpenCV's 32-bit coordinates would overflow.
    x, y = np.clip(point, -30000, 30000)
    return round(x * 2**_SHIFT), round(y * 2**_SHIFT)


def _line(canvas: np.ndarray, a: np.ndarray, b: np.ndarray, colour: Colour, width: float) -> None:
    cv2.line(canvas, _fixed(a), _fixed(b), colour, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _disc(canvas: np.ndarray, centre: np.ndarray, colour: Colour, radius: float) -> None:
    cv2.circle(canvas, _fixed(centre), round(radius * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT)


def _fit(image: np.ndarray, tile: int) -> np.ndarray:
    h, w = image.shape[:2]
    scale = tile / max(h, w)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _write(sheet: np.ndarray, text: str, left: int, top: int, width: int, height: int) -> None:
    """One line of text in the given box; cut where it is too long."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, height / 42
    text = text.encode("ascii", "replace").decode()  # the font has no other letters
    while text and cv2.getTextSize(text, font, scale, 1)[0][0] > width:
        text = text[:-1]
    cv2.putText(sheet, text, (left, top + round(0.72 * height)), font, scale, _INK, 1, cv2.LINE_AA)
