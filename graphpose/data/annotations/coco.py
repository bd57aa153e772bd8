"""COCO-format annotation files: COCO's own, CrowdPose's, and any other category with keypoints."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.data.annotations.extent import with_extent
from graphpose.data.annotations.json_file import parse_json
from graphpose.data.annotations.limbs import with_tree
from graphpose.data.annotations.rules import (
    Defect,
    Record,
    Report,
    is_id,
    is_number,
    raise_first_error,
    require_categories,
    valid_annotations,
    valid_images,
    valid_records,
)
from graphpose.data.annotations.table import AREA_OF_BOX, Annotations, Images
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, Skeleton

logger = logging.getLogger(__name__)


def read_coco(path: Path, skeleton: Skeleton | None = None, category: str | int | None = None) -> Annotations:
    """Read a COCO-format annotation file, which no other form may stand in for.

    Args:
        path: .json or .json.gz.
        skeleton: what the keypoints mean; None takes it from the file's keypoint category, and COCO's own where a
            file without annotations (test-dev) describes no keypoints.
        category: name or id of the keypoint category, for files with several.

    Returns:
        The table, in which every labelled person has a positive area (0.53 of the box in files without areas).

    Raises:
        GraphposeError: naming the file and the annotation at fault.
    """
    return parse_json(path, lambda content: from_coco(content, path, skeleton, category=category))


def from_coco(
    content: Any,
    path: Path,
    skeleton: Skeleton | None = None,
    report: Report | None = None,
    category: str | int | None = None,
) -> Annotations:
    """Table of a parsed COCO-format file.

    Args:
        content: the file's object.
        path: of the file.
        skeleton: as in :func:`read_coco`.
        report: is told of each defect, and what has an error is left out; None raises the first error.
        category: as in :func:`read_coco`.

    Raises:
        GraphposeError: when the file as a whole is not COCO: no images, no skeleton; without ``report`` also naming
            the record at fault.
    """
    told, report = report, report or raise_first_error(path)
    images, records, categories = _lists(content, path)
    require_categories(categories, path)
    category_id, skeleton = _category(categories, path, skeleton, category, needed=bool(records))
    table = _images(valid_images(images, report))
    records = valid_records(records, skeleton, category_id, categories, table.position, report)
    image_index = np.array([table.position[record["image_id"]] for record in records], np.int64)
    order = np.argsort(image_index, kind="stable")
    records = [records[n] for n in order.tolist()]
    annotations = _columns(records, path, skeleton, category_id, table, image_index[order])
    annotations = _with_extent(annotations, report, log=told is None)
    annotations = _with_counts(valid_annotations(annotations, report), report, log=told is None)
    annotations.keypoints[annotations.keypoints[:, :, 2] == 0] = 0
    if annotations.skeleton.limbs or not records:
        return annotations
    return _with_limbs(annotations, report, log=told is None)


def _with_counts(annotations: Annotations, report: Report, log: bool) -> Annotations:
    """Where every person states 0 labelled keypoints, which would leave nobody to score: the labels are counted."""
    labelled = annotations.labelled
    if not labelled.any() or annotations.num_keypoints[labelled].any():
        return annotations
    message = f"all {int(labelled.sum())} labelled persons state num_keypoints 0; their labels are counted instead"
    report(Defect("keypoint_counts_are_zero", "warning", message))
    if log:
        logger.warning("%s: %s", annotations.path, message)
    counted = (annotations.keypoints[:, :, 2] > 0).sum(axis=1)
    return dataclasses.replace(annotations, num_keypoints=counted)


def _with_extent(annotations: Annotations, report: Report, log: bool) -> Annotations:
    """Where persons are points alone: box and area by their labels, and a line that says so."""
    annotations, *changed = with_extent(annotations)
    instead = (
        "both are taken from their labels",
        "their labels lie at one place, so they get the median area of the others",
    )
    for rows, instead_of in zip(changed, instead, strict=True):
        if len(rows) == 0:
            continue
        first = ", ".join(str(annotation_id) for annotation_id in annotations.ids[rows[:5]].tolist())
        message = (
            f"{len(rows)} labelled persons have area 0 and a box without extent (annotation {first}"
            f"{', …' if len(rows) > 5 else ''}); {instead_of}"
        )
        report(Defect("extent_from_labels", "warning", message))
        if log:
            logger.warning("%s: %s", annotations.path, message)
    return annotations


def _with_limbs(annotations: Annotations, report: Report, log: bool) -> Annotations:
    """Where the category states no limbs: a tree, and a line that says so."""
    annotations = with_tree(annotations)
    skeleton = annotations.skeleton
    if skeleton.limbs:
        found = ", ".join(f"{skeleton.keypoints[a]}–{skeleton.keypoints[b]}" for a, b in skeleton.limbs)
        message = f"category '{skeleton.name}' states no limbs ('skeleton'); a tree of its nearest keypoints is used: "
        report(Defect("no_limbs_stated", "warning", message + found))
        if log:
            logger.warning("%s: %s", annotations.path, message + found)
    else:
        message = (
            f"category '{skeleton.name}' states no limbs ('skeleton'), and no person has two labelled keypoints of "
            f"which one could be made; persons are found by their limbs"
        )
        report(Defect("no_limbs", "error", message))
    return annotations


def _lists(content: Any, path: Path) -> tuple[list[Any], list[Any], list[Any]]:
    """Images, annotations and categories; a test set has images alone."""
    if not isinstance(content, Mapping) or not isinstance(content.get("images"), list):
        raise GraphposeError(
            f"{path} is not a COCO file; an object with 'images', 'annotations' and 'categories' is needed"
        )
    if not content["images"]:
        raise GraphposeError(f"{path} lists no images; at least one is needed")
    annotations, categories = (content.get(key) or [] for key in ("annotations", "categories"))
    for key, values in (("annotations", annotations), ("categories", categories)):
        if not isinstance(values, list):
            raise GraphposeError(f"{path} is not a COCO file; its '{key}' must be a list of objects")
    return content["images"], annotations, categories


def _category(
    categories: Sequence[Record], path: Path, skeleton: Skeleton | None, category: str | int | None, needed: bool
) -> tuple[int, Skeleton]:
    """Id and skeleton of the keypoint category: of several the one that is asked for, or that is ``skeleton``.

    Where none is needed, for there are no annotations, any skeleton will do.
    """
    described = [record for record in categories if record.get("keypoints")]
    if category is not None:
        asked = [record for record in described if str(category) in (str(record.get("id")), record.get("name"))]
        if not asked:
            raise GraphposeError(f"{path} has no keypoint category '{category}'; it has {_names(described) or 'none'}")
        if len(asked) > 1:
            raise GraphposeError(
                f"{path} has {len(asked)} keypoint categories '{category}' ({_names(asked)}); choose one by its id"
            )
        described = asked
    try:
        found = [(record, Skeleton.from_category(record)) for record in described]
    except GraphposeError as error:
        raise GraphposeError(f"{path}: {error}") from None
    others = [f"{own.name} ({own.num_keypoints})" for _, own in found]
    if skeleton is not None:
        found = [(record, own) for record, own in found if own.keypoints == skeleton.keypoints]
        if needed and not found:
            raise GraphposeError(
                f"{path} has keypoints of {', '.join(others) or 'nothing'}, not the {skeleton.num_keypoints} of "
                f"skeleton '{skeleton.name}'"
            )
    if needed and len(found) != 1:
        raise GraphposeError(
            f"{path} has {len(found)} categories with keypoints ({_names([record for record, _ in found])}); "
            f"{'choose one with category, by name or id' if found else 'one is needed'}"
        )
    if not found:
        return 1, skeleton or COCO
    record, own = found[0]
    if not is_id(record.get("id")):
        raise GraphposeError(f"{path}: its category with keypoints has id {record.get('id')!r}; an integer is needed")
    if skeleton is not None:
        _say_what_is_used(path, record, own, skeleton)
    return record["id"], skeleton or own


def _names(categories: Sequence[Record]) -> str:
    return ", ".join(f"'{record.get('name', '?')}' with id {record.get('id', '?')}" for record in categories)


def _say_what_is_used(path: Path, record: Record, own: Skeleton, used: Skeleton) -> None:
    """One line where a category states something else than the skeleton that is used in its place."""
    stated = {"skeleton": (own.limbs, used.limbs), "sigmas": (own.sigmas, used.sigmas)}
    stated["flip_pairs"] = (own.flip, used.flip)
    differing = [key for key, (theirs, ours) in stated.items() if record.get(key) and set(theirs) != set(ours)]
    if differing:
        logger.warning(
            "%s: category '%s' states other %s than skeleton '%s', which is used",
            path,
            record.get("name", "?"),
            " and ".join(differing),
            used.name,
        )


def _images(images: Sequence[Record]) -> Images:
    return Images(
        ids=np.array([image["id"] for image in images], np.int64),
        file_names=[image["file_name"] for image in images],
        sizes=np.array([(image.get("height") or 0, image.get("width") or 0) for image in images], np.int32).reshape(
            -1, 2
        ),
        crowd_index=np.array([image.get("crowdIndex", np.nan) for image in images], np.float64),
        groups=[_group(image) for image in images],
    )


def _group(image: Record) -> str:
    """The video of an image record, by the keys of TAO and YouTube-VIS, and of PoseTrack."""
    return next((f"video {image[key]}" for key in ("video_id", "vid_id") if image.get(key) is not None), "")


def _columns(
    records: Sequence[Record],
    path: Path,
    skeleton: Skeleton,
    category_id: int,
    images: Images,
    image_index: np.ndarray,
) -> Annotations:
    """The table of records whose lists have the right lengths; NaN for what is no number."""
    count, K = len(records), skeleton.num_keypoints
    keypoints = _numbers(records, "keypoints", 3 * K).reshape(count, K, 3)
    bbox = _numbers(records, "bbox", 4)
    if any("area" in record for record in records):
        area = np.fromiter((record["area"] for record in records), np.float64, count)
    else:
        area = AREA_OF_BOX * bbox[:, 2] * bbox[:, 3]
    iscrowd = np.fromiter((bool(record.get("iscrowd", 0)) for record in records), bool, count)
    labelled = (keypoints[:, :, 2] > 0).sum(axis=1)
    stated = (record.get("num_keypoints", own) for record, own in zip(records, labelled.tolist(), strict=True))
    no_target = np.flatnonzero((labelled == 0) | iscrowd).tolist()
    return Annotations(
        path=path,
        skeleton=skeleton,
        images=images,
        ids=np.fromiter((record["id"] for record in records), np.int64, count),
        image_index=image_index,
        keypoints=keypoints,
        num_keypoints=np.fromiter(stated, np.int64, count),
        bbox=bbox,
        area=area,
        iscrowd=iscrowd,
        head_size=np.full(count, np.nan),
        group=np.zeros(count, np.int64),
        regions={row: records[row].get("segmentation") for row in no_target},
        category_id=category_id,
    )


def _numbers(records: Sequence[Record], key: str, length: int) -> np.ndarray:
    """(A, length) values of a key that holds lists; a row of NaN where one is no number."""
    values = itertools.chain.from_iterable(record[key] for record in records)
    try:
        return np.fromiter(values, np.float64, length * len(records)).reshape(-1, length)
    except (TypeError, ValueError, OverflowError):
        nothing = [np.nan] * length
        rows = [record[key] if all(map(is_number, record[key])) else nothing for record in records]
        return np.array(rows, np.float64).reshape(-1, length)
