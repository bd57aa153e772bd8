"""COCO-format annotation files as arrays: parsed once, validated, and the parsed JSON let go.

Convention: coordinates are x then y in pixels of the image; pixel centres at integers.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.data.annotations.table import Annotations, from_coco, read_json
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, Skeleton


@dataclasses.dataclass
class CocoRecords:
    """I images and their A annotations of one category, annotations grouped by image.

    Attributes:
        path: the annotation file, for messages.
        skeleton: what the K keypoints mean.
        category_id: id of the category in the file.
        image_ids: (I,) int64.
        file_names: I names.
        sizes: (I, 2) int32 height, width; 0 where the file does not say.
        crowd_index: (I,) float64 CrowdIndex, not negative; NaN where the file does not say.
        first: (I + 1,) int64; annotations of image i are rows first[i] … first[i + 1] − 1.
        ids: (A,) int64 annotation ids.
        keypoints: (A, K, 3) float32 x, y, visibility; 0, 0, 0 where not labelled.
        num_keypoints: (A,) int64 as the file states it, for evaluation leaves out persons with 0. CrowdPose does not
            count head and neck; where the file is silent it is the number of labelled keypoints.
        bbox: (A, 4) float64 x, y, width, height.
        area: (A,) float64.
        iscrowd: (A,) bool.
        regions: COCO segmentation of those annotations (by row) that are no targets: crowds and unlabelled persons.
    """

    path: Path
    skeleton: Skeleton
    category_id: int
    image_ids: np.ndarray
    file_names: list[str]
    sizes: np.ndarray
    crowd_index: np.ndarray
    first: np.ndarray
    ids: np.ndarray
    keypoints: np.ndarray
    num_keypoints: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    iscrowd: np.ndarray
    regions: dict[int, Any]

    @property
    def is_target(self) -> np.ndarray:
        """(A,) bool: a person, not a crowd, with at least one labelled keypoint."""
        return (self.keypoints[:, :, 2] > 0).any(axis=1) & ~self.iscrowd

    def annotations_of(self, images: np.ndarray) -> np.ndarray:
        """Rows of the annotations of ``images`` (indices), image after image."""
        parts = [np.arange(self.first[i], self.first[i + 1]) for i in images]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def select_images(self, images: np.ndarray) -> CocoRecords:
        """The records of ``images`` (indices) only, in that order."""
        rows = self.annotations_of(images)
        counts = self.first[images + 1] - self.first[images]
        return dataclasses.replace(
            self,
            image_ids=self.image_ids[images],
            file_names=[self.file_names[i] for i in images],
            sizes=self.sizes[images],
            crowd_index=self.crowd_index[images],
            first=np.concatenate([[0], np.cumsum(counts)]),
            ids=self.ids[rows],
            keypoints=self.keypoints[rows],
            num_keypoints=self.num_keypoints[rows],
            bbox=self.bbox[rows],
            area=self.area[rows],
            iscrowd=self.iscrowd[rows],
            regions={new: self.regions[old] for new, old in enumerate(rows.tolist()) if old in self.regions},
        )

    def to_coco(self) -> dict[str, Any]:
        """COCO-format dict (images, annotations, categories) with everything that keypoint evaluation reads."""
        sizes = self.sizes.tolist()
        image_ids = self.image_ids.tolist()
        counts = self.num_keypoints.tolist()
        keypoints = self.keypoints.reshape(len(self.ids), 3 * self.skeleton.num_keypoints).astype(np.float64).tolist()
        image_of = np.repeat(self.image_ids, np.diff(self.first)).tolist()
        columns = (self.ids.tolist(), image_of, self.bbox.tolist(), self.area.tolist(), self.iscrowd.tolist())
        return {
            "info": {"description": self.path.name},
            "images": [
                {"id": image_id, "file_name": name, "height": height, "width": width}
                | ({"crowdIndex": crowd_index} if crowd_index == crowd_index else {})  # NaN differs from itself
                for image_id, name, (height, width), crowd_index in zip(
                    image_ids, self.file_names, sizes, self.crowd_index.tolist(), strict=True
                )
            ],
            "annotations": [
                {
                    "id": annotation_id,
                    "image_id": image_id,
                    "category_id": self.category_id,
                    "bbox": bbox,
                    "area": area,
                    "iscrowd": int(iscrowd),
                    "keypoints": flat,
                    "num_keypoints": count,
                }
                for annotation_id, image_id, bbox, area, iscrowd, flat, count in zip(
                    *columns, keypoints, counts, strict=True
                )
            ],
            "categories": [coco_category(self.skeleton, self.category_id)],
        }


def coco_category(skeleton: Skeleton, category_id: int = 1) -> dict[str, Any]:
    """The COCO-format category record of a skeleton (its limbs 1-based, as the format has them)."""
    return {
        "id": category_id,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
    }


def read_coco(path: Path, skeleton: Skeleton | None = None) -> CocoRecords:
    """Read and validate a COCO-format annotation file.

    Args:
        path: .json or .json.gz.
        skeleton: what the keypoints mean; None takes it from the file's keypoint category, and COCO's own where a
            file without annotations (test-dev) describes no keypoints.

    Returns:
        Records in which every annotation belongs to an image, ids are unique, keypoints are K per person and finite,
        and every person with a labelled keypoint has a positive area (0.53 of the box in files without areas).

    Raises:
        GraphposeError: naming the file and the annotation at fault.
    """
    # The parsed file is freed inside: the collector, once back, would walk it all.
    with _collector_paused():
        return _read(path, skeleton)


def _read(path: Path, skeleton: Skeleton | None) -> CocoRecords:
    content = read_json(path)
    images = content.get("images") if isinstance(content, Mapping) else None
    if not _are_records(images):
        raise GraphposeError(
            f"{path} is not a COCO file; an object with 'images', 'annotations' and 'categories' is needed"
        )
    if not images:
        raise GraphposeError(f"{path} lists no images; at least one is needed")
    records = content.get("annotations") or []
    if not _are_records(records):
        raise GraphposeError(f"{path} is not a COCO file; its 'annotations' must be a list of objects")
    if not _are_records(content.get("categories") or []):
        raise GraphposeError(f"{path} is not a COCO file; its 'categories' must be a list of objects")
    return _group(path, content, _annotations(path, content, records, skeleton))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Parsing makes millions of objects and no cycle; walking them over and over doubles its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _are_records(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _annotations(
    path: Path, content: Mapping[str, Any], records: Sequence[Mapping[str, Any]], skeleton: Skeleton | None
) -> Annotations:
    """The file's annotations in file order, their ids checked; no records at all is what test sets have."""
    if records:
        annotations = from_coco(content, str(path), skeleton)
        _refuse_duplicates(path, "annotation", annotations.ids)
        return annotations
    described = [c for c in content.get("categories") or [] if c.get("keypoints")]
    skeleton = skeleton or (Skeleton.from_category(described[0]) if described else COCO)
    return from_coco({**content, "annotations": [], "categories": [coco_category(skeleton)]}, str(path))


def _group(path: Path, content: Mapping[str, Any], annotations: Annotations) -> CocoRecords:
    """Annotations grouped by image."""
    images = content["images"]
    image_ids, file_names, sizes = _images(path, images)
    position = {image_id: i for i, image_id in enumerate(image_ids.tolist())}
    image_index = np.array([position.get(image_id, -1) for image_id in annotations.image_ids.tolist()], np.int64)
    if (image_index < 0).any():
        row = int((image_index < 0).argmax())
        raise GraphposeError(
            f"{path}: annotation {annotations.ids[row]} belongs to image {annotations.image_ids[row]}, which the file "
            f"does not list"
        )
    order = np.argsort(image_index, kind="stable")
    annotations = annotations.select(order)
    _check_extents(path, annotations)
    keypoints = annotations.keypoints.astype(np.float32)
    keypoints[keypoints[:, :, 2] == 0] = 0
    ids = annotations.ids.tolist()
    no_target = dict.fromkeys(annotations.ids[~annotations.labelled].tolist())
    records = content.get("annotations") or ()
    segments = {a["id"]: a.get("segmentation") for a in records if a["id"] in no_target} if no_target else {}
    crowd_index = annotations.crowd_index
    return CocoRecords(
        path=path,
        skeleton=annotations.skeleton,
        category_id=_category_id(content, annotations.skeleton),
        image_ids=image_ids,
        file_names=file_names,
        sizes=sizes,
        crowd_index=np.array([crowd_index.get(image_id, np.nan) for image_id in image_ids.tolist()], np.float64),
        first=np.searchsorted(image_index[order], np.arange(len(images) + 1)),
        ids=annotations.ids,
        keypoints=keypoints,
        num_keypoints=_num_keypoints(path, content, annotations),
        bbox=annotations.bbox,
        area=annotations.area,
        iscrowd=annotations.iscrowd,
        regions={row: segments[ids[row]] for row in np.flatnonzero(~annotations.labelled).tolist()},
    )


def _images(path: Path, images: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Ids, file names and sizes (height, width) of the image records."""
    for number, image in enumerate(images):
        if type(image.get("id")) is not int or not isinstance(image.get("file_name"), str):
            raise GraphposeError(
                f"{path}: image number {number} has id {image.get('id')!r} and file_name {image.get('file_name')!r}; "
                f"an integer and a name are needed"
            )
    ids = np.array([image["id"] for image in images], np.int64)
    _refuse_duplicates(path, "image", ids)
    try:
        sizes = np.array([(image.get("height") or 0, image.get("width") or 0) for image in images], np.int32)
    except (TypeError, ValueError):
        raise GraphposeError(f"{path}: height and width of an image must be numbers of pixels") from None
    return ids, [image["file_name"] for image in images], sizes


def _refuse_duplicates(path: Path, what: str, ids: np.ndarray) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        first = int((counts > 1).argmax())
        raise GraphposeError(f"{path}: {what} id {values[first]} stands {counts[first]} times; ids must be unique")


def _check_extents(path: Path, annotations: Annotations) -> None:
    """Every annotation has a box and every labelled person an area, for both say what evaluation and targets need."""
    bad = ~np.isfinite(annotations.bbox).all(axis=1)
    if bad.any():
        raise GraphposeError(
            f"{path}: annotation {annotations.ids[bad][0]} has no bbox; four finite numbers are needed"
        )
    bad = ~(np.isfinite(annotations.area) & ((annotations.area > 0) | ~annotations.labelled))
    if bad.any():
        raise GraphposeError(
            f"{path}: annotation {annotations.ids[bad][0]} has area {annotations.area[bad][0]:g}; a labelled person "
            f"needs a positive one"
        )


def _num_keypoints(path: Path, content: Mapping[str, Any], annotations: Annotations) -> np.ndarray:
    """(A,) the file's own counts, or those of the labelled keypoints."""
    stated = {a.get("id"): a["num_keypoints"] for a in content.get("annotations") or () if "num_keypoints" in a}
    labelled = (annotations.keypoints[:, :, 2] > 0).sum(axis=1).tolist()
    counts = [stated.get(i, count) for i, count in zip(annotations.ids.tolist(), labelled, strict=True)]
    if set(map(type, counts)) - {int}:
        wrong = next(i for i, count in enumerate(counts) if type(count) is not int)
        raise GraphposeError(
            f"{path}: annotation {annotations.ids[wrong]} has num_keypoints {counts[wrong]!r}; the number of its "
            f"labelled keypoints is needed"
        )
    return np.array(counts, np.int64)


def _category_id(content: Mapping[str, Any], skeleton: Skeleton) -> int:
    for category in content.get("categories") or ():
        if tuple(category.get("keypoints") or ()) == skeleton.keypoints:
            return int(category["id"])
    return 1
