"""What a data set may say but hardly means: warnings about annotations that every reader takes.

The thresholds were chosen so that COCO's train2017 and val2017, CrowdPose's and MPII's files raise none, or a handful.
"""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np

from graphpose.data.annotations.rules import Defect
from graphpose.data.annotations.table import Annotations
from graphpose.skeleton import DEFAULT_SIGMA, SKELETONS, Skeleton

# Of the area of the labels' own box: 1 of 142,243 persons of train2017 lies below.
LEAST_AREA = 0.05
MOST_AREA = 1.5  # of the annotation's box, which a segment cannot exceed
SMALLEST_BOX = 100.0  # square pixels of the labels' box: below, a ratio says nothing
MARGIN = 2.0  # pixels that boxes may reach beyond the image


def implausible(table: Annotations, sizes: np.ndarray) -> list[Defect]:
    """Warnings about a table.

    Args:
        table: of a data set, without records that have errors.
        sizes: (I, 2) height and width of its images in pixels, 0 where not known.
    """
    defects = [*_same_file_twice(table), *_standard_sigmas_lost(table.skeleton)]
    persons = table.select(table.labelled)
    if len(persons) == 0:
        return [*defects, _of_file("no_persons", f"{table.path} has no labelled person: there is nobody to train on or "
                                   "to score")]  # fmt: skip
    normalised = _coordinates_are_shares(persons)
    if normalised:  # every other number would be doubtful for the same reason
        return [*defects, *normalised]
    boxes = _boxes_of_another_form(persons, sizes)
    return [
        *defects,
        *(boxes or _boxes_outside(table, sizes)),
        *_areas(persons, boxes_are_known=not boxes),
        *_labels_at_origin(persons),
        *_person_twice(persons),
    ]


def _of_file(kind: str, message: str) -> Defect:
    return Defect(kind, "warning", message)


def _of_row(kind: str, table: Annotations, row: int, message: str) -> Defect:
    annotation_id, image_id = int(table.ids[row]), int(table.image_ids[row])
    return Defect(kind, "warning", f"annotation {annotation_id} {message}", image_id, annotation_id)


def _same_file_twice(table: Annotations) -> list[Defect]:
    ids: dict[str, list[int]] = defaultdict(list)
    for image_id, name in zip(table.images.ids.tolist(), table.images.file_names, strict=True):
        ids[name].append(image_id)
    return [
        Defect(
            "file_under_two_ids",
            "warning",
            f"image file {name} stands under {len(own)} ids ({', '.join(map(str, own[:5]))}); persons annotated under "
            f"one are missed under the others",
            image_id=own[0],
        )
        for name, own in ids.items()
        if len(own) > 1 and name
    ]


def _standard_sigmas_lost(skeleton: Skeleton) -> list[Defect]:
    """A built-in skeleton's keypoints in another order or spelling, or among others, with sigmas that nobody stated."""
    if set(skeleton.sigmas) != {DEFAULT_SIGMA}:
        return []
    names = {_plain(name) for name in skeleton.keypoints}
    for known in SKELETONS.values():
        if {_plain(name) for name in known.keypoints} <= names and known.keypoints != skeleton.keypoints:
            return [
                _of_file(
                    "standard_sigmas_not_used",
                    f"skeleton '{skeleton.name}' has the {known.num_keypoints} keypoints of '{known.name}' in another "
                    f"order or spelling or among others, so its sigmas are not used but {DEFAULT_SIGMA} for each; use "
                    f"its names in its order, or state 'sigmas' in the category",
                )
            ]
    return []


def _plain(name: str) -> str:
    """A keypoint's name without case and separators."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _labels(persons: Annotations) -> tuple[np.ndarray, np.ndarray]:
    """(P, K) bool, and (P, K, 2) x, y with NaN where not labelled."""
    labelled = persons.keypoints[:, :, 2] > 0
    return labelled, np.where(labelled[:, :, None], persons.keypoints[:, :, :2], np.nan)


def _coordinates_are_shares(persons: Annotations) -> list[Defect]:
    labelled, xy = _labels(persons)
    several = labelled.sum(axis=1).max() > 1
    if not several or np.nanmin(xy) < 0 or np.nanmax(xy) > 1:
        return []
    return [
        _of_file(
            "coordinates_are_shares",
            f"{persons.path}: all {int(labelled.sum())} labelled keypoints lie within 0 … 1; pixels are needed, so "
            f"multiply by width and height",
        )
    ]


def _boxes_of_another_form(persons: Annotations, sizes: np.ndarray) -> list[Defect]:
    """Boxes as two corners, or around their middle: most persons' labels or boxes lie where they cannot."""
    labelled, xy = _labels(persons)
    box = persons.bbox
    known = np.isfinite(box).all(axis=1) & (labelled.sum(axis=1) > 1)
    if not known.any():
        return []
    x, y = xy[known, :, 0], xy[known, :, 1]
    labelled, (left, top, third, fourth) = labelled[known], box[known].T[:, :, None]

    def inside(x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray) -> float:
        """Share of the labels of a person that lie in a box, the mean over all persons."""
        within = (x >= x0 - MARGIN) & (x <= x1 + MARGIN) & (y >= y0 - MARGIN) & (y <= y1 + MARGIN)
        return float((within.sum(axis=1) / labelled.sum(axis=1)).mean())

    as_stated = inside(left, top, left + third, top + fourth)
    as_corners = inside(left, top, third, fourth)
    as_middle = inside(left - third / 2, top - fourth / 2, left + third / 2, top + fourth / 2)
    height, width = sizes[persons.image_index[known]].T[:, :, None]
    beyond = ((left + third > width + MARGIN) & (width > 0)) | ((top + fourth > height + MARGIN) & (height > 0))
    right = "x, y of the top left corner, width, height are needed"
    leave = f"read as stated {beyond.mean():.0%} leave their image and {1 - as_stated:.0%} of the labels are not inside"
    if beyond.mean() <= 0.5 and as_stated >= 0.5:
        return []
    if as_corners > 0.9:
        return [_of_file("boxes_are_corners", f"{persons.path}: boxes look like two corners ({leave}); {right}")]
    if as_middle > 0.9:
        message = f"{persons.path}: boxes look as if they began with their middle ({leave}); {right}"
        return [_of_file("boxes_around_their_middle", message)]
    if as_stated < 0.5:
        return [_of_file("labels_outside_boxes", f"{persons.path}: boxes do not fit ({leave}); {right}")]
    return []


def _boxes_outside(table: Annotations, sizes: np.ndarray) -> list[Defect]:
    box, (height, width) = table.bbox, sizes[table.image_index].T
    known = np.isfinite(box).all(axis=1)
    empty = known & (box[:, 2:] <= 0).any(axis=1)
    far = (box[:, :2] < -MARGIN).any(axis=1)
    far |= (box[:, 0] + box[:, 2] > width + MARGIN) & (width > 0)
    far |= (box[:, 1] + box[:, 3] > height + MARGIN) & (height > 0)
    defects = []
    for row in np.flatnonzero(empty | (known & far)).tolist():
        values = ", ".join(f"{value:g}" for value in box[row])
        if empty[row]:
            defects.append(_of_row("box_without_extent", table, row, f"has a box of no extent ({values})"))
        else:
            message = f"has a box ({values}) that leaves its image of {width[row]}×{height[row]} px"
            defects.append(_of_row("box_outside_image", table, row, message))
    return defects


def _areas(persons: Annotations, boxes_are_known: bool) -> list[Defect]:
    labelled, xy = _labels(persons)
    extent = np.nanmax(xy, axis=1) - np.nanmin(xy, axis=1)
    of_labels = extent.prod(axis=1)
    judged = (labelled.sum(axis=1) > 2) & (of_labels > SMALLEST_BOX) & np.isfinite(persons.area)
    defects = []
    for row in np.flatnonzero(judged & (persons.area < LEAST_AREA * of_labels)).tolist():
        message = (
            f"has area {persons.area[row]:g}, but its labels spread over {of_labels[row]:.0f} square pixels; OKS and "
            f"targets are scaled by it"
        )
        defects.append(_of_row("area_far_below_labels", persons, row, message))
    of_box = persons.bbox[:, 2] * persons.bbox[:, 3]
    too_large = boxes_are_known & (of_box > SMALLEST_BOX) & (persons.area > MOST_AREA * of_box)
    for row in np.flatnonzero(too_large).tolist():
        message = f"has area {persons.area[row]:g}, more than its box of {of_box[row]:.0f} square pixels"
        defects.append(_of_row("area_above_box", persons, row, message))
    return defects


def _labels_at_origin(persons: Annotations) -> list[Defect]:
    at_origin = (persons.keypoints[:, :, 2] > 0) & (persons.keypoints[:, :, :2] == 0).all(axis=2)
    counts = at_origin.sum(axis=1)
    if (counts > 0).sum() < max(5, 0.1 * len(counts)):  # a few may truly lie there, but hardly two of one person
        counts = np.where(counts > 1, counts, 0)
    defects = []
    for row in np.flatnonzero(counts).tolist():
        message = f"has {counts[row]} keypoints labelled at (0, 0); where one is not labelled its visibility must be 0"
        defects.append(_of_row("labelled_at_origin", persons, row, message))
    return defects


def _person_twice(persons: Annotations) -> list[Defect]:
    """Persons of one image whose labels are the same to the pixel."""
    first: dict[tuple[int, bytes], int] = {}
    defects = []
    for row, keypoints in enumerate(np.rint(persons.keypoints) + 0.0):  # + 0.0 turns −0 into 0
        if (keypoints[:, 2] > 0).sum() < 2:
            continue
        other = first.setdefault((int(persons.image_index[row]), keypoints.tobytes()), row)
        if other != row:
            message = f"has the keypoints of annotation {persons.ids[other]} of the same image; one of both is enough"
            defects.append(_of_row("person_twice", persons, row, message))
    return defects
