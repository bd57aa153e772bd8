"""Regions of annotations that are no targets: COCO's segmentations as masks.

Forms: polygons (a list of lists x1, y1, x2, y2, …), run lengths ("size" height, width and "counts", as numbers or as
the compressed text of pycocotools), or a list of such run lengths. None, an empty list, or a list of empty polygons
mean the annotation's box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

# pycocotools walks along every edge pixel by pixel, five times as fine, also outside of the image.
FARTHEST = 1e5  # pixels


def fault_of(segmentation: Any, sizes: Sequence[tuple[int, int]] = ()) -> str | None:
    """What is wrong with a segmentation, None where it is sound.

    Args:
        segmentation: as the file has it.
        sizes: height and width that run lengths may have; empty for any.

    Returns:
        A clause that follows "annotation 1 ".
    """
    if segmentation is None:
        return None
    if isinstance(segmentation, dict):
        return _fault_of_run_lengths(segmentation, sizes)
    if not isinstance(segmentation, list):
        return f"has a segmentation that is neither polygons nor RLE, but {_short(segmentation)}"
    for part in segmentation:
        fault = _fault_of_run_lengths(part, sizes) if isinstance(part, dict) else _fault_of_polygon(part)
        if fault:
            return fault
    return None


def is_box(segmentation: Any) -> bool:
    """Whether a sound segmentation leaves the region to the annotation's box."""
    return not segmentation or (isinstance(segmentation, list) and not any(segmentation))


def pixels_of_box(box: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the pixels whose centres, at integers, lie in a box x, y, width, height."""
    x, y, w, h = box
    rows, columns = ((max(0, int(np.ceil(a))), max(0, int(np.ceil(a + side)))) for a, side in ((y, h), (x, w)))
    return slice(*rows), slice(*columns)


def mask_of(segmentation: Any, height: int, width: int) -> np.ndarray:
    """(H, W) bool of a sound segmentation that is no box; run lengths give a mask of their own size."""
    parts = [part for part in segmentation if part] if isinstance(segmentation, list) else [segmentation]
    masks = []
    for part in parts:
        encoded = part
        if isinstance(part, list):
            encoded = coco_mask.merge(coco_mask.frPyObjects([part], height, width))
        elif isinstance(part["counts"], list):
            encoded = coco_mask.frPyObjects(part, height, width)
        masks.append(coco_mask.decode(encoded).astype(bool))
    return np.logical_or.reduce(masks)


def run_length_sizes(segmentation: Any) -> list[tuple[int, int]]:
    """Height and width of the run lengths of a sound segmentation; empty for polygons."""
    parts = segmentation if isinstance(segmentation, list) else [segmentation]
    return [(part["size"][0], part["size"][1]) for part in parts if isinstance(part, dict)]


def _fault_of_polygon(polygon: Any) -> str | None:
    if not isinstance(polygon, list):
        return f"has a segmentation with {_short(polygon)}; polygons are lists of x1, y1, x2, y2, … within a list"
    if not polygon:
        return None
    if len(polygon) < 6 or len(polygon) % 2:
        return (
            f"has a segmentation with a polygon of {len(polygon)} numbers; x and y of at least three points are needed"
        )
    if not all(type(value) in (int, float) and abs(value) < FARTHEST for value in polygon):
        return f"has a segmentation with a polygon that is not made of numbers of pixels: {_short(polygon)}"
    return None


def _fault_of_run_lengths(rle: dict[str, Any], sizes: Sequence[tuple[int, int]]) -> str | None:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n < 2**20 for n in size):
        return f"has a segmentation whose RLE has size {_short(size)}; height and width are needed"
    height, width = size
    if sizes and (height, width) not in sizes:
        return (
            f"has a segmentation whose RLE is of {width}×{height} px on an image of {sizes[0][1]}×{sizes[0][0]} px; "
            f"both must agree"
        )
    if isinstance(counts, str):
        counts = _decompressed(counts)
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        return "has a segmentation whose RLE has no 'counts' that are run lengths or their compressed text"
    if sum(counts) != height * width:
        return f"has a segmentation whose RLE covers {sum(counts)} pixels; {width}×{height} are {height * width}"
    return None


def _decompressed(text: str) -> list[int] | None:
    """Run lengths of pycocotools' compressed text (rleFrString): groups of five bits from character 48, differences to
    the run before the last; None where it is none."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            return None
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts if shift == 0 else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
