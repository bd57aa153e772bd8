"""What the records of a COCO-format file must be: the one list of rules of the reader and of the check.

A rule goes over all records and names those that break it. The reader refuses the file at the first one; the check
leaves it out, so that later rules need not expect what earlier ones forbid, and goes on.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from graphpose.data.annotations import regions
from graphpose.data.annotations.table import Annotations
from graphpose.errors import GraphposeError
from graphpose.skeleton import CROWDPOSE, Skeleton

# Pixels: samples are float32, in which what is far beyond becomes infinite.
LARGEST = 1e9

Record = Mapping[str, Any]
Severity = Literal["error", "warning"]


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
    severity: Severity
    message: str
    image_id: int | None = None
    annotation_id: int | None = None


Report = Callable[[Defect], None]


class Broken(NamedTuple):
    """A record that breaks a rule: its position among those looked at, and what is wrong."""

    position: int
    kind: str
    message: str


def raise_first_error(path: Path) -> Report:
    """A report for readers: warnings pass, the first error is raised as GraphposeError naming the file."""

    def report(defect: Defect) -> None:
        if defect.severity == "error":
            raise GraphposeError(f"{path}: {defect.message}")

    return report


def valid_images(images: Sequence[Any], report: Report) -> list[Record]:
    """The image records that break no rule."""

    def as_defect(broken: Broken, image: Any) -> Defect:
        image_id = image.get("id") if isinstance(image, dict) else None
        return Defect(broken.kind, "error", broken.message, image_id if is_id(image_id) else None)

    for rule in (_images_are_complete, _image_ids_are_unique, _sizes_are_pixels, _crowd_indices_are_numbers):
        images = _valid(images, rule(images), as_defect, report)
    return list(images)


def require_categories(categories: Sequence[Any], path: Path) -> None:
    """GraphposeError where a category is no object, or two have one id."""
    if not all(isinstance(category, dict) for category in categories):
        raise GraphposeError(f"{path} is not a COCO file; its 'categories' must be a list of objects")
    ids = [category.get("id") for category in categories]
    repeated = [one for n, one in enumerate(ids) if one is not None and one in ids[:n]]
    if repeated:
        raise GraphposeError(f"{path}: category id {repeated[0]!r} stands {ids.count(repeated[0])} times; ids must "
                             f"be unique")  # fmt: skip


def valid_records(
    records: Sequence[Any],
    skeleton: Skeleton,
    category_id: int,
    categories: Sequence[Record],
    image_ids: Collection[int],
    report: Report,
) -> list[Record]:
    """The annotation records of the keypoint category that a table can be made of.

    Args:
        records: the file's annotations, of whatever category.
        skeleton: gives K.
        category_id: of the keypoint category; a record that names none belongs to it.
        categories: all that the file lists.
        image_ids: of the file's images.
        report: is told of every record of the category that breaks a rule.
    """

    def as_defect(broken: Broken, record: Any) -> Defect:
        known = record if isinstance(record, dict) else {}
        image_id, annotation_id = (
            value if is_id(value) else None for value in (known.get("image_id"), known.get("id"))
        )
        return Defect(broken.kind, "error", broken.message, image_id, annotation_id)

    of_category = partial(_in_category, category_id)
    records = _valid(records, _annotations_have_ids(records, of_category), as_defect, report)
    records = _valid(records, _categories_are_listed(categories, of_category, records), as_defect, report)
    records = [record for record in records if of_category(record)]
    K = skeleton.num_keypoints
    records = _with_keypoints(records, 3 * K, report)
    for rule in (
        _annotation_ids_are_unique,
        partial(_images_are_listed, image_ids),
        partial(_lists_have, 3 * K, "keypoints", f", {K} keypoints of skeleton '{skeleton.name}'"),
        partial(_lists_have, 4, "bbox", ""),
        _areas_are_numbers,
        _counts_are_integers,
        _crowd_flags_are_flags,
    ):
        records = _valid(records, rule(records), as_defect, report)
    return list(records)


def _with_keypoints(records: Sequence[Record], length: int, report: Report) -> Sequence[Record]:
    """A record without keypoints (COCO Annotator writes such for a segment alone) is an unlabelled person."""
    without = [n for n, record in enumerate(records) if record.get("keypoints", []) == []]
    if not without:
        return records
    first = ", ".join(repr(records[n]["id"]) for n in without[:5])
    message = (
        f"{len(without)} annotations have no 'keypoints' (annotation {first}{', …' if len(without) > 5 else ''}); they "
        f"are unlabelled persons, ignored in training"
    )
    report(Defect("annotation_without_keypoints", "warning", message))
    records = list(records)
    for n in without:
        records[n] = {**records[n], "keypoints": [0] * length}
    return records


def valid_annotations(annotations: Annotations, report: Report) -> Annotations:
    """The annotations of a COCO-format file whose values mean something.

    Args:
        annotations: a table with NaN where the file has something other than a number.
        report: is told of every other annotation, and of those that state a doubtful number of keypoints or an empty
            polygon.
    """
    annotations = valid_keypoints(annotations, report)
    for rule in (_boxes_are_finite, _areas_are_positive, _regions_are_masks):
        annotations = _valid_rows(annotations, list(rule(annotations)), report)
    for rule in (_counts_are_of_labelled, _polygons_are_not_empty):
        _report_rows(annotations, rule(annotations), "warning", report)
    return annotations


def valid_keypoints(annotations: Annotations, report: Report) -> Annotations:
    """The annotations whose keypoints are finite and of a known visibility; of any form of file."""
    for rule in (_keypoints_are_finite, _visibilities_are_known):
        annotations = _valid_rows(annotations, list(rule(annotations)), report)
    return annotations


def is_id(value: Any) -> bool:
    """Whether a value of a JSON file is an id: an integer, no text and no 1.0, that fits into 64 bits."""
    return type(value) is int and -(2**63) <= value < 2**63


def _valid(
    records: Sequence[Any], wrong: Iterable[Broken], as_defect: Callable[[Broken, Any], Defect], report: Report
) -> Sequence[Any]:
    """The records that are not ``wrong``, which are reported."""
    positions = set()
    for broken in wrong:
        report(as_defect(broken, records[broken.position]))
        positions.add(broken.position)
    return [record for n, record in enumerate(records) if n not in positions] if positions else records


def _valid_rows(annotations: Annotations, wrong: Sequence[Broken], report: Report) -> Annotations:
    _report_rows(annotations, wrong, "error", report)
    rows = [broken.position for broken in wrong]
    return annotations.select(~np.isin(np.arange(len(annotations)), rows)) if rows else annotations


def _report_rows(annotations: Annotations, wrong: Iterable[Broken], severity: Severity, report: Report) -> None:
    for row, kind, message in wrong:
        annotation_id, image_id = int(annotations.ids[row]), int(annotations.images.ids[annotations.image_index[row]])
        report(Defect(kind, severity, f"annotation {annotation_id} {message}", image_id, annotation_id))


def _images_are_complete(images: Sequence[Any]) -> Iterator[Broken]:
    for n, image in enumerate(images):
        kind = "image_record_incomplete"
        if not isinstance(image, dict):
            yield Broken(n, kind, f"image at position {n} is {image!r}; an object is needed")
        elif not is_id(image.get("id")) or not isinstance(image.get("file_name"), str):
            found = f"{image.get('id')!r} and {image.get('file_name')!r} are there"
            yield Broken(n, kind, f"image at position {n} has no integer 'id' or no 'file_name'; {found}")


def _image_ids_are_unique(images: Sequence[Record]) -> Iterator[Broken]:
    return _ids_are_unique(images, "image")


def _annotation_ids_are_unique(records: Sequence[Record]) -> Iterator[Broken]:
    return _ids_are_unique(records, "annotation")


def _ids_are_unique(records: Sequence[Record], what: str) -> Iterator[Broken]:
    """All records of an id but its first break the rule."""
    counts = Counter(record["id"] for record in records)
    if len(counts) == len(records):
        return
    seen = set()
    for n, record in enumerate(records):
        if record["id"] in seen:
            message = f"{what} id {record['id']} stands {counts[record['id']]} times; ids must be unique"
            yield Broken(n, f"duplicate_{what}_id", message)
        seen.add(record["id"])


def _sizes_are_pixels(images: Sequence[Record]) -> Iterator[Broken]:
    """Height and width may be missing, null or 0 where the file does not know them."""
    for n, image in enumerate(images):
        sides = image.get("height") or 0, image.get("width") or 0
        if not all(is_number(side) and 0 <= side < 2**31 for side in sides):
            found = f"{image.get('height')!r} and {image.get('width')!r}"
            message = f"image {image['id']}: height and width must be numbers of pixels, not {found}"
            yield Broken(n, "wrong_image_size", message)


def _crowd_indices_are_numbers(images: Sequence[Record]) -> Iterator[Broken]:
    for n, image in enumerate(images):
        if "crowdIndex" in image and not is_number(image["crowdIndex"]):
            message = f"image {image['id']} has crowdIndex {image['crowdIndex']!r}; a finite number is needed"
            yield Broken(n, "wrong_crowd_index", message)


def _in_category(category_id: int, record: Record) -> bool:
    stated = record.get("category_id", category_id)
    return type(stated) is int and stated == category_id


def _categories_are_listed(
    categories: Sequence[Record], of_category: Callable[[Record], bool], records: Sequence[Record]
) -> Iterator[Broken]:
    """A record of a category that the file does not list would vanish."""
    listed = [(type(category.get("id")), category.get("id")) for category in categories]
    for n, record in enumerate(records):
        if not of_category(record) and (type(record["category_id"]), record["category_id"]) not in listed:
            known = ", ".join(f"{c.get('id')!r} ({c.get('name', '?')})" for c in categories[:10]) or "none"
            found = f"has category_id {record['category_id']!r}, which the file does not list; it lists {known}"
            yield Broken(n, "unknown_category", f"annotation {record.get('id')!r} {found}")


def _annotations_have_ids(records: Sequence[Any], of_category: Callable[[Record], bool]) -> Iterator[Broken]:
    for n, record in enumerate(records):
        if not isinstance(record, dict):
            message = f"annotation at position {n} is {record!r}; an object is needed"
            yield Broken(n, "annotation_is_no_object", message)
        elif not is_id(record.get("id")) and of_category(record):
            found = f"has id {record['id']!r}; an integer is needed" if "id" in record else "has no 'id'"
            yield Broken(n, "annotation_without_id", f"annotation at position {n} {found}")


def _images_are_listed(image_ids: Collection[int], records: Sequence[Record]) -> Iterator[Broken]:
    for n, record in enumerate(records):
        image_id = record.get("image_id")
        if not is_id(image_id):
            found = f"has image_id {image_id!r}; an integer is needed" if "image_id" in record else "has no 'image_id'"
            yield Broken(n, "unknown_image", f"annotation {record['id']} {found}")
        elif image_id not in image_ids:
            message = f"annotation {record['id']} belongs to image {image_id}, which the file does not list"
            yield Broken(n, "unknown_image", message)


def _lists_have(length: int, key: str, meaning: str, records: Sequence[Record]) -> Iterator[Broken]:
    kind = "wrong_box" if key == "bbox" else "wrong_number_of_keypoints"
    for n, record in enumerate(records):
        values = record.get(key)
        if not isinstance(values, list) or len(values) != length:
            size = len(values) if isinstance(values, list) else repr(values)
            found = f"has {size} numbers in '{key}'; {length} are needed{meaning}"
            yield Broken(n, kind, f"annotation {record['id']} {found if key in record else f'has no {key!r}'}")


def _areas_are_numbers(records: Sequence[Record]) -> Iterator[Broken]:
    """Either every record states an area, or none does."""
    if not any("area" in record for record in records):
        return
    for n, record in enumerate(records):
        if "area" not in record:
            yield Broken(n, "wrong_area", f"annotation {record['id']} has no 'area', but others of the file have one")
        elif not is_number(record["area"]):
            message = f"annotation {record['id']} has area {record['area']!r}; a finite number is needed"
            yield Broken(n, "wrong_area", message)


def _counts_are_integers(records: Sequence[Record]) -> Iterator[Broken]:
    for n, record in enumerate(records):
        if not is_id(record.get("num_keypoints", 0)):
            found = f"has num_keypoints {record['num_keypoints']!r}; the number of its labelled keypoints is needed"
            yield Broken(n, "keypoint_count_is_no_integer", f"annotation {record['id']} {found}")


def _crowd_flags_are_flags(records: Sequence[Record]) -> Iterator[Broken]:
    """To Python the text "0" is true."""
    for n, record in enumerate(records):
        flag = record.get("iscrowd")
        if flag is not None and not (isinstance(flag, (int, float)) and flag in (0, 1)):
            message = f"annotation {record['id']} has iscrowd {flag!r}; 0 or 1 is needed"
            yield Broken(n, "crowd_flag_is_none", message)


def _keypoints_are_finite(annotations: Annotations) -> Iterator[Broken]:
    for row in np.flatnonzero(~(np.abs(annotations.keypoints) < LARGEST).all(axis=(1, 2))).tolist():
        yield Broken(row, "keypoint_not_finite", "has a keypoint that is not finite; numbers are needed")


def _visibilities_are_known(annotations: Annotations) -> Iterator[Broken]:
    visibility = annotations.keypoints[:, :, 2]
    known = (visibility == 0) | (visibility == 1) | (visibility == 2)
    for row in np.flatnonzero(~known.all(axis=1)).tolist():
        yield Broken(row, "wrong_visibility", "has a visibility other than 0, 1 or 2")


def _boxes_are_finite(annotations: Annotations) -> Iterator[Broken]:
    for row in np.flatnonzero(~(np.abs(annotations.bbox) < LARGEST).all(axis=1)).tolist():
        yield Broken(row, "wrong_box", "has no bbox; four finite numbers are needed")


def _areas_are_positive(annotations: Annotations) -> Iterator[Broken]:
    """Evaluation and targets need the area of every labelled person."""
    for row in np.flatnonzero(
        annotations.labelled & ~((annotations.area > 0) & (annotations.area < LARGEST**2))
    ).tolist():
        message = f"has area {annotations.area[row]:g}; a labelled person needs a positive one"
        yield Broken(row, "wrong_area", message)


def _regions_are_masks(annotations: Annotations) -> Iterator[Broken]:
    """Only regions are looked at: the segments of labelled persons are not used."""
    for row, segmentation in annotations.regions.items():
        height, width = annotations.images.sizes[annotations.image_index[row]].tolist()
        # CrowdPose's records exchange the sides
        sizes = ((height, width), (width, height)) if height and width else ()
        fault = regions.fault_of(segmentation, sizes)
        if fault:
            yield Broken(row, "wrong_segmentation", fault)


def _polygons_are_not_empty(annotations: Annotations) -> Iterator[Broken]:
    for row, segmentation in annotations.regions.items():
        if isinstance(segmentation, list) and not all(segmentation):
            instead = "its box is ignored in training" if regions.is_box(segmentation) else "the others are used"
            yield Broken(row, "empty_polygon", f"has a segmentation with an empty polygon; {instead}")


def _counts_are_of_labelled(annotations: Annotations) -> Iterator[Broken]:
    labelled = annotations.keypoints[:, :, 2] > 0
    doubtful = annotations.num_keypoints != labelled.sum(axis=1)
    if annotations.skeleton.keypoints == CROWDPOSE.keypoints:  # does not count head and neck, its last two
        doubtful &= annotations.num_keypoints != labelled[:, :12].sum(axis=1)
    for row in np.flatnonzero(doubtful).tolist():
        found = f"states {annotations.num_keypoints[row]} keypoints, {labelled[row].sum()} are labelled"
        yield Broken(row, "wrong_keypoint_count_stated", found)


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number, no text and no truth value."""
    if type(value) is int:
        return abs(value) < 2**1023  # a larger one is no float
    return type(value) is float and math.isfinite(value)
