"""The records of a COCO-format file one by one: what is wrong with each, and those that can be used."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from graphpose.data.annotations.table import from_coco
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, CROWDPOSE, Skeleton


@dataclasses.dataclass(frozen=True)
class Defect:
    """One thing that is wrong.

    Attributes:
        kind: a short name, the same for all defects of this kind.
        severity: "error" is what a reader refuses; "warning" is read, but somebody should look at it.
        message: one sentence with the file or annotation id at fault.
        image_id: id of the image at fault, where there is one.
        annotation_id: id of the annotation at fault, where there is one.
    """

    kind: str
    severity: Literal["error", "warning"]
    message: str
    image_id: int | None = None
    annotation_id: int | None = None


@dataclasses.dataclass
class CheckedPerson:
    """A record that can be used; keypoints (K, 3) float64."""

    id: int
    image_id: int
    keypoints: np.ndarray
    iscrowd: bool


@dataclasses.dataclass
class CheckedRecords:
    """A file's records.

    Attributes:
        skeleton: what the keypoints mean.
        file_names: image id → file name.
        sizes: image id → height, width, of the images whose record says so.
        persons: the records without an error.
        defects: what is wrong with the others.
    """

    skeleton: Skeleton
    file_names: dict[int, str]
    sizes: dict[int, tuple[int, int]]
    persons: list[CheckedPerson]
    defects: list[Defect]


def check_coco_records(content: Mapping[str, Any], source: str, skeleton: Skeleton | None = None) -> CheckedRecords:
    """Check every record of a parsed COCO-format file.

    Args:
        content: the file's object.
        source: the file's name, for messages.
        skeleton: what the keypoints mean; None takes it from the file.

    Raises:
        GraphposeError: when the file as a whole is not COCO: no images, no skeleton.
    """
    images = content.get("images")
    if not isinstance(images, list) or not images:
        raise GraphposeError(f"{source} is not a COCO file with images; a list 'images' is needed")
    annotations = content.get("annotations")
    skeleton, category_id = _skeleton(content, source, skeleton)
    records = CheckedRecords(skeleton, {}, {}, [], [])
    for number, image in enumerate(images):
        _check_image(records, image, number)
    seen: set[int] = set()
    for number, annotation in enumerate(annotations if isinstance(annotations, list) else []):
        if not isinstance(annotation, Mapping):
            message = f"annotation number {number} is {annotation!r}; an object is needed"
            records.defects.append(Defect("annotation_is_no_object", "error", message))
        elif annotation.get("category_id", category_id) == category_id:
            _check_annotation(records, annotation, number, seen)
    return records


def _skeleton(content: Mapping[str, Any], source: str, skeleton: Skeleton | None) -> tuple[Skeleton, int]:
    """Skeleton and id of the keypoint category; a file without annotations needs none."""
    categories = content.get("categories")
    described = [c for c in categories if c.get("keypoints")] if isinstance(categories, list) else []
    if not content.get("annotations") and not described:
        return skeleton or COCO, 1
    chosen = from_coco({"images": [], "annotations": [], "categories": categories}, source, skeleton).skeleton
    category_id = next(c.get("id", 1) for c in described if tuple(c["keypoints"]) == chosen.keypoints)
    return chosen, category_id


def _check_image(records: CheckedRecords, image: Any, number: int) -> None:
    image_id = image.get("id") if isinstance(image, Mapping) else None
    if type(image_id) is not int or not isinstance(image.get("file_name"), str):
        message = f"image number {number} has no integer 'id' or no 'file_name'"
        records.defects.append(Defect("image_record_incomplete", "error", message))
        return
    if image_id in records.file_names:
        message = f"image id {image_id} stands more than once; ids must be unique"
        records.defects.append(Defect("duplicate_image_id", "error", message, image_id))
        return
    records.file_names[image_id] = image["file_name"]
    height, width = image.get("height"), image.get("width")
    if type(height) is int and type(width) is int and height > 0 and width > 0:
        records.sizes[image_id] = height, width


def _check_annotation(records: CheckedRecords, annotation: Mapping[str, Any], number: int, seen: set[int]) -> None:
    annotation_id, image_id = annotation.get("id"), annotation.get("image_id")
    K = records.skeleton.num_keypoints

    def refuse(kind: str, message: str) -> None:
        where = f"annotation {annotation_id}" if type(annotation_id) is int else f"annotation number {number}"
        known = image_id if isinstance(image_id, int) else None
        records.defects.append(
            Defect(kind, "error", f"{where} {message}", known, annotation_id if type(annotation_id) is int else None)
        )

    if type(annotation_id) is not int:
        return refuse("annotation_without_id", "has no integer 'id'")
    if annotation_id in seen:
        return refuse("duplicate_annotation_id", "stands more than once; ids must be unique")
    seen.add(annotation_id)
    if not isinstance(image_id, int) or image_id not in records.file_names:
        return refuse("unknown_image", f"belongs to image {image_id!r}, which the file does not list")
    flat = annotation.get("keypoints")
    if not isinstance(flat, list) or len(flat) != 3 * K:
        size = len(flat) if isinstance(flat, list) else repr(flat)
        return refuse("wrong_number_of_keypoints", f"has {size} keypoint values; {K} keypoints need {3 * K}")
    try:
        keypoints = np.array(flat, np.float64).reshape(K, 3)
    except (TypeError, ValueError):
        keypoints = np.full((K, 3), np.nan)
    if not np.isfinite(keypoints).all():
        return refuse("keypoint_not_finite", "has a keypoint value that is no finite number")
    if set(flat[2::3]) - {0, 1, 2}:
        return refuse("wrong_visibility", "has a visibility other than 0, 1 or 2")
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(value) for value in box):
        return refuse("wrong_box", f"has bbox {box!r}; [x, y, width, height] is needed")
    labelled = K - flat[2::3].count(0)
    iscrowd = bool(annotation.get("iscrowd"))
    area = annotation.get("area", box[2] * box[3])
    if labelled and not iscrowd and not (_is_finite(area) and area > 0):
        return refuse("wrong_area", f"has area {area!r}; a labelled person needs a positive one")
    stated = annotation.get("num_keypoints", labelled)
    # CrowdPose does not count head and neck, its last two.
    if stated != labelled and not (records.skeleton == CROWDPOSE and stated == (keypoints[:12, 2] > 0).sum()):
        message = f"annotation {annotation_id} states {stated!r} keypoints, {labelled} are labelled"
        records.defects.append(Defect("wrong_keypoint_count_stated", "warning", message, image_id, annotation_id))
    records.persons.append(CheckedPerson(annotation_id, image_id, keypoints, iscrowd))
    return None


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
