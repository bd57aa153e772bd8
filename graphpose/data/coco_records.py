"""COCO-format annotation files as arrays: parsed once, validated, and the parsed JSON let go.

Convention: coordinates are x then y in pixels of the image; pixel centres at integers.
"""

from __future__ import annotations

import dataclasses
import gc
import gzip
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, Skeleton

# Mean share of the box that a person's segment covers; the rule of the CrowdPose evaluator for records without area.
AREA_OF_BOX = 0.53


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
        crowd_index: (I,) float32 share of crowding in [0, 1] (CrowdPose), NaN where the file does not say.
        first: (I + 1,) int64; annotations of image i are rows first[i] … first[i + 1] − 1.
        ids: (A,) int64 annotation ids.
        keypoints: (A, K, 3) float32 x, y, visibility; 0, 0, 0 where not labelled.
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
            bbox=self.bbox[rows],
            area=self.area[rows],
            iscrowd=self.iscrowd[rows],
            regions={new: self.regions[old] for new, old in enumerate(rows.tolist()) if old in self.regions},
        )

    def to_coco(self) -> dict[str, Any]:
        """COCO-format dict (images, annotations, categories) with everything that keypoint evaluation reads."""
        sizes = self.sizes.tolist()
        image_ids = self.image_ids.tolist()
        counts = (self.keypoints[:, :, 2] > 0).sum(axis=1).tolist()
        keypoints = self.keypoints.reshape(len(self.ids), -1).astype(np.float64).tolist()
        image_of = np.repeat(self.image_ids, np.diff(self.first)).tolist()
        columns = (self.ids.tolist(), image_of, self.bbox.tolist(), self.area.tolist(), self.iscrowd.tolist())
        return {
            "info": {"description": self.path.name},
            "images": [
                {"id": image_id, "file_name": name, "height": height, "width": width}
                for image_id, name, (height, width) in zip(image_ids, self.file_names, sizes, strict=True)
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


def read_json(path: Path) -> Any:
    """Parse a .json or .json.gz file (told apart by content, not by name).

    Raises:
        GraphposeError: naming the file, when it is missing, damaged or not JSON.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return json.loads(data)
    except FileNotFoundError:
        raise GraphposeError(f"annotation file {path} does not exist") from None
    except (OSError, EOFError) as error:
        raise GraphposeError(f"annotation file {path} cannot be read: {error}") from None
    except ValueError as error:  # also JSONDecodeError and UnicodeDecodeError
        raise GraphposeError(f"annotation file {path} is not valid JSON: {error}") from None


def read_coco(path: Path, skeleton: Skeleton | None = None) -> CocoRecords:
    """Read and validate a COCO-format annotation file.

    Args:
        path: .json or .json.gz.
        skeleton: what the keypoints mean; None takes it from the file's keypoint category, and COCO's own where a
            file without annotations (test-dev) describes no keypoints.

    Returns:
        Records in which every annotation belongs to an image, ids are unique, keypoints are K per person and finite.

    Raises:
        GraphposeError: naming the file and the annotation at fault.
    """
    with _collector_paused():
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("images"), list):
            raise GraphposeError(
                f"{path} is not a COCO file; an object with 'images', 'annotations' and 'categories' is needed"
            )
        if not content["images"]:
            raise GraphposeError(f"{path} lists no images")
        annotations = content.get("annotations") or []
        category_id, skeleton = _category(path, content.get("categories") or [], bool(annotations), skeleton)
        annotations = [a for a in annotations if a.get("category_id", category_id) == category_id]
        return _index(path, content["images"], annotations, category_id, skeleton)


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


def _category(
    path: Path, categories: Sequence[dict[str, Any]], annotated: bool, skeleton: Skeleton | None
) -> tuple[int, Skeleton]:
    with_keypoints = [c for c in categories if c.get("keypoints")]
    persons = [c for c in with_keypoints if c.get("name") == "person"]
    candidates = persons or with_keypoints
    if len(candidates) > 1:
        raise GraphposeError(
            f"{path} has {len(candidates)} keypoint categories ({', '.join(str(c.get('name')) for c in candidates)}) "
            f"and none or several are called 'person'; one is needed"
        )
    if candidates:
        category = candidates[0]
        found = skeleton or Skeleton.from_category(category)
        if len(category["keypoints"]) != found.num_keypoints:
            raise GraphposeError(
                f"{path}: category '{category.get('name')}' has {len(category['keypoints'])} keypoints, "
                f"skeleton '{found.name}' has {found.num_keypoints}"
            )
        return int(category.get("id", 1)), found
    if annotated and skeleton is None:
        raise GraphposeError(f"{path} has no category with 'keypoints'; a COCO person-keypoints file is needed")
    return 1, skeleton or COCO


def _index(
    path: Path,
    images: Sequence[dict[str, Any]],
    annotations: list[dict[str, Any]],
    category_id: int,
    skeleton: Skeleton,
) -> CocoRecords:
    try:
        image_ids = np.array([image["id"] for image in images], np.int64)
        file_names = [str(image["file_name"]) for image in images]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise GraphposeError(f"{path}: every image needs an integer 'id' and a 'file_name' ({error!r})") from None
    _refuse_duplicates(path, "image", image_ids)
    position = {image_id: i for i, image_id in enumerate(image_ids.tolist())}

    ids = _column(path, annotations, "id", np.int64)
    _refuse_duplicates(path, "annotation", ids)
    image_index = np.array([position.get(a.get("image_id"), -1) for a in annotations], np.int64)
    if (image_index < 0).any():
        a = annotations[int((image_index < 0).argmax())]
        raise GraphposeError(
            f"{path}: annotation {a['id']} belongs to image {a.get('image_id')!r}, which the file does not list"
        )
    order = np.argsort(image_index, kind="stable")
    annotations = [annotations[i] for i in order.tolist()]
    keypoints = _keypoints(path, annotations, skeleton)
    iscrowd = np.array([bool(a.get("iscrowd")) for a in annotations], bool)
    bbox = _boxes(path, annotations)
    no_target = iscrowd | ~(keypoints[:, :, 2] > 0).any(axis=1)
    return CocoRecords(
        path=path,
        skeleton=skeleton,
        category_id=category_id,
        image_ids=image_ids,
        file_names=file_names,
        sizes=np.array([(i.get("height") or 0, i.get("width") or 0) for i in images], np.int32).reshape(-1, 2),
        crowd_index=np.array([i.get("crowdIndex", np.nan) for i in images], np.float32),
        first=np.searchsorted(image_index[order], np.arange(len(images) + 1)),
        ids=ids[order],
        keypoints=keypoints,
        bbox=bbox,
        area=_areas(path, annotations, bbox, no_target),
        iscrowd=iscrowd,
        regions={i: annotations[i].get("segmentation") for i in np.flatnonzero(no_target).tolist()},
    )


def _refuse_duplicates(path: Path, what: str, ids: np.ndarray) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise GraphposeError(
            f"{path}: {what} id {values[counts > 1][0]} stands {counts.max()} times; ids must be unique"
        )


def _column(path: Path, annotations: list[dict[str, Any]], key: str, dtype: type) -> np.ndarray:
    try:
        return np.array([a[key] for a in annotations], dtype)
    except (KeyError, TypeError, ValueError, OverflowError):
        for number, a in enumerate(annotations):
            if not isinstance(a.get(key), int):
                raise GraphposeError(
                    f"{path}: annotation number {number} has '{key}' {a.get(key)!r}; an integer is needed"
                ) from None
        raise


def _keypoints(path: Path, annotations: list[dict[str, Any]], skeleton: Skeleton) -> np.ndarray:
    K = skeleton.num_keypoints
    unlabelled = [0] * (3 * K)
    rows = [unlabelled if (flat := a.get("keypoints")) is None else flat for a in annotations]
    for a, flat in zip(annotations, rows, strict=True):
        if not isinstance(flat, list) or len(flat) != 3 * K:
            length = len(flat) if isinstance(flat, list) else repr(flat)
            raise GraphposeError(
                f"{path}: annotation {a['id']} has {length} keypoint values; skeleton '{skeleton.name}' with {K} "
                f"keypoints needs {3 * K}"
            )
    try:
        values = np.fromiter(itertools.chain.from_iterable(rows), np.float32, count=len(rows) * 3 * K)
    except (TypeError, ValueError):
        for a, flat in zip(annotations, rows, strict=True):
            if not all(isinstance(v, (int, float)) for v in flat):
                raise GraphposeError(
                    f"{path}: annotation {a['id']} has keypoint values that are no numbers: {flat}"
                ) from None
        raise
    keypoints = values.reshape(-1, K, 3)
    bad = ~np.isfinite(keypoints).all(axis=(1, 2))
    if bad.any():
        row = int(bad.argmax())
        raise GraphposeError(
            f"{path}: annotation {annotations[row]['id']} has NaN or infinite keypoint coordinates; finite pixels "
            f"are needed, or 0, 0, 0 where a keypoint is not labelled"
        )
    visibility = keypoints[:, :, 2]
    bad = ~((visibility == 0) | (visibility == 1) | (visibility == 2)).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise GraphposeError(
            f"{path}: annotation {annotations[row]['id']} has a visibility other than 0 (not labelled), 1 (hidden) "
            f"and 2 (visible): {sorted(set(visibility[row].tolist()))}"
        )
    keypoints[visibility == 0] = 0
    return keypoints


def _boxes(path: Path, annotations: list[dict[str, Any]]) -> np.ndarray:
    for a in annotations:
        box = a.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise GraphposeError(f"{path}: annotation {a['id']} has bbox {box!r}; [x, y, width, height] is needed")
    try:
        boxes = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
        bad = ~np.isfinite(boxes).all(axis=1)
    except (TypeError, ValueError):
        bad = np.array([not all(isinstance(v, (int, float)) for v in a["bbox"]) for a in annotations])
    if bad.any():
        a = annotations[int(bad.argmax())]
        raise GraphposeError(f"{path}: annotation {a['id']} has bbox {a['bbox']}; four finite numbers are needed")
    return boxes


def _areas(path: Path, annotations: list[dict[str, Any]], bbox: np.ndarray, no_target: np.ndarray) -> np.ndarray:
    """Segment areas; where a record has none, CrowdPose's share of its box."""
    of_box = (AREA_OF_BOX * bbox[:, 2] * bbox[:, 3]).tolist()
    given = [a.get("area") for a in annotations]
    try:
        area = np.array([of_box[i] if value is None else value for i, value in enumerate(given)], np.float64)
        bad = ~(np.isfinite(area) & ((area > 0) | no_target))
    except (TypeError, ValueError):
        bad = np.array([value is not None and not isinstance(value, (int, float)) for value in given])
    if bad.any():
        a = annotations[int(bad.argmax())]
        raise GraphposeError(
            f"{path}: annotation {a['id']} has area {a.get('area')!r} and bbox {a['bbox']}; a positive area is needed"
        )
    return area
