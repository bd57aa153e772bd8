"""Boxes and areas of persons of whom only the labels are known.

Annotation tools that place points alone state a box without extent for one label or labels in a row (CVAT, SLEAP, Label
Studio), or for everybody (COCO Annotator), and an area of 0 with it. Targets and OKS need a positive area.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from graphpose.data.annotations.table import AREA_OF_BOX, Annotations

# Of the longer side of the labels' box, on each side: with it AREA_OF_BOX of the box is the person's own area in the
# middle (the median of the ratio of roots is 0.99 over the 146,507 persons of train2017 with two labels or more).
MARGIN = 0.1


def box_of_labels(keypoints: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The box around the labels of each person, with a margin that does not leave the image.

    Args:
        keypoints: (N, K, 3) x, y in pixels and visibility, 0 where not labelled.
        sizes: (N, 2) height and width of the persons' images in pixels, 0 where not known.

    Returns:
        (N, 4) x, y, width, height; without extent where all labels lie at one place, NaN where there is none.
    """
    labelled = keypoints[:, :, 2] > 0
    far = np.where(labelled[:, :, None], keypoints[:, :, :2], -np.inf).max(axis=1, initial=-np.inf)  # (N, 2)
    near = np.where(labelled[:, :, None], keypoints[:, :, :2], np.inf).min(axis=1, initial=np.inf)
    far[~labelled.any(axis=1)] = near[~labelled.any(axis=1)] = np.nan
    margin = MARGIN * (far - near).max(axis=1, keepdims=True)
    end = np.where(sizes > 0, sizes, np.inf)[:, ::-1]  # width, height
    low = np.maximum(near - margin, np.minimum(near, 0))
    high = np.minimum(far + margin, np.maximum(far, end))
    return np.concatenate((low, high - low), axis=1)


def with_extent(annotations: Annotations) -> tuple[Annotations, np.ndarray, np.ndarray]:
    """Gives labelled persons whose area is 0 and whose box has no extent a box and an area by their labels.

    Labels at one place say nothing of a person's size: it gets the median of the areas that the others have.

    Returns:
        The annotations; rows of the persons who got a box of their labels; rows of those who got the median area.
    """
    finite = np.isfinite(annotations.keypoints).all(axis=(1, 2)) & np.isfinite(annotations.bbox).all(axis=1)
    without = annotations.labelled & finite & (annotations.area == 0) & (annotations.bbox[:, 2:] == 0).any(axis=1)
    nobody = np.zeros(0, np.int64)
    if not without.any():
        return annotations, nobody, nobody
    bbox, area = annotations.bbox.copy(), annotations.area.copy()
    rows = np.flatnonzero(without)
    sizes = annotations.images.sizes[annotations.image_index]
    bbox[rows] = box_of_labels(annotations.keypoints[rows], sizes[rows])
    area[rows] = AREA_OF_BOX * bbox[rows, 2] * bbox[rows, 3]
    by_labels, at_one_place = rows[area[rows] > 0], rows[area[rows] == 0]
    known = annotations.labelled & np.isfinite(area) & (area > 0)
    if not known.any():
        at_one_place = nobody
    if len(at_one_place):
        area[at_one_place] = np.median(area[known])
        side = np.sqrt(area[at_one_place] / AREA_OF_BOX)[:, None]
        end = np.where(sizes[at_one_place] > 0, sizes[at_one_place], np.inf)[:, ::-1]
        low = np.maximum(0, np.minimum(bbox[at_one_place, :2] - side / 2, end - side))
        bbox[at_one_place] = np.hstack((low, side, side))
    return dataclasses.replace(annotations, bbox=bbox, area=area), by_labels, at_one_place
