"""Annotation files as arrays: the records of a whole data set at once, without its images.

One call reads COCO and CrowdPose (json, json.gz), any other COCO-format keypoint file, and MPII in the forms it is
distributed in (see :mod:`graphpose.data.annotations.mpii`).

Convention: coordinates are x then y in pixels of the image as the file gives them; nothing is rounded or shifted.
"""

from __future__ import annotations

import dataclasses
import gc
import gzip
import itertools
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from graphpose.errors import GraphposeError
from graphpose.skeleton import ScaleRule, Skeleton

# CrowdPose has no segment areas; its evaluator takes this share of the box (crowdposetools, cocoeval.computeOks).
AREA_OF_BOX = 0.53


@dataclasses.dataclass(frozen=True)
class Annotations:
    """All records of an annotation file, as arrays over N records.

    Attributes:
        source: the file's name, for messages and provenance.
        skeleton: gives K.
        keypoints: (N, K, 3) float64; x, y and visibility (0 not labelled, 1 hidden, 2 visible). Where visibility is 0,
            x and y mean nothing.
        bbox: (N, 4) float64; x, y, width, height; NaN where the file has none.
        area: (N,) float64, square pixels; 0.53 of the box in a file without areas; NaN where neither is known.
        head_size: (N,) float64; head segment length in pixels as PCKh defines it; NaN where unknown.
        iscrowd: (N,) bool; a region of many persons, never a person.
        ids: (N,) int64; annotation ids, or row numbers in a file without ids.
        image_ids: (N,) int64.
        file_names: image id → file name, of every image in the file whether or not somebody is in it.
        crowd_index: image id → the CrowdIndex that the file states; empty in files that state none.
    """

    source: str
    skeleton: Skeleton
    keypoints: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    head_size: np.ndarray
    iscrowd: np.ndarray
    ids: np.ndarray
    image_ids: np.ndarray
    file_names: dict[int, str]
    crowd_index: dict[int, float] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def labelled(self) -> np.ndarray:
        """(N,) bool; a person (no crowd region) with at least one labelled keypoint."""
        return (self.keypoints[:, :, 2] > 0).any(axis=1) & ~self.iscrowd

    def select(self, index: np.ndarray) -> Annotations:
        """Records at ``index`` (integer or boolean array); images stay."""
        names = ("keypoints", "bbox", "area", "head_size", "iscrowd", "ids", "image_ids")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in names})

    def scales(self, rule: ScaleRule) -> np.ndarray:
        """s_n of Eq. 5 for every record.

        Args:
            rule: ``sqrt_area``, ``bbox_diagonal`` or ``head``.

        Returns:
            (N,) float64 in pixels; positive for every labelled person, except that it is NaN where MPII does not say
            how large a head is.

        Raises:
            GraphposeError: when the file has nothing to take this scale from, or a labelled person has no extent.
        """
        if rule not in ("sqrt_area", "bbox_diagonal", "head"):
            raise GraphposeError(f"scale rule '{rule}' is not sqrt_area, bbox_diagonal or head")
        if rule == "sqrt_area":
            scale, known = np.sqrt(np.maximum(self.area, 0)), "area"
        elif rule == "bbox_diagonal":
            scale, known = np.hypot(self.bbox[:, 2], self.bbox[:, 3]), "bbox"
        else:
            scale, known = self.head_size, "head size"
        unknown = np.isnan(scale) & self.labelled
        if rule == "head" and not unknown.all():
            unknown[:] = False
        if unknown.any():
            raise GraphposeError(
                f"{self.source}: annotation {self.ids[unknown][0]} has no {known}, which scale rule '{rule}' needs"
            )
        empty = (scale <= 0) & self.labelled
        if empty.any():
            raise GraphposeError(
                f"{self.source}: annotation {self.ids[empty][0]} has {known} 0, but scale rule '{rule}' needs a "
                f"positive one ({int(empty.sum())} such persons); correct or leave out these records"
            )
        return scale


def read_annotations(path: str | Path, skeleton: Skeleton | None = None, progress: bool = False) -> Annotations:
    """Read an annotation file of any supported form.

    Args:
        path: COCO-format ``.json`` or ``.json.gz``; MPII as ``.mat``, ``.h5`` or HRNet-style ``.json``.
        skeleton: what the file must contain; by default what its category says, or MPII for MPII's forms.
        progress: show a bar on a terminal's standard error.

    Returns:
        Every record of the keypoint category in the file's order; an image without persons gives none.

    Raises:
        GraphposeError: when the file is missing, empty, damaged or of another form; when a record has another number of
            keypoints than the skeleton, a number that is not finite, or a visibility other than 0, 1 or 2. The message
            names the file and the annotation id.
    """
    from graphpose.data.annotations import mpii

    path = Path(path)
    if path.suffix in (".h5", ".hdf5"):
        return mpii.read_h5(path, skeleton)
    if path.suffix == ".mat":
        return mpii.read_mat(path, skeleton)
    content = read_json(path, progress)
    if isinstance(content, list):
        return mpii.from_records(content, path.name, skeleton)
    return from_coco(content, path.name, skeleton)


def read_json(path: Path, progress: bool = False) -> Any:
    """Content of a ``.json`` or ``.json.gz`` file; GraphposeError names the file when it cannot be read."""
    try:
        shown = {"total": path.stat().st_size, "desc": f"read {path.name}", "disable": None if progress else True}
        with path.open("rb") as file, tqdm.wrapattr(file, "read", **shown) as stream:
            opened = gzip.GzipFile(fileobj=stream) if path.suffix == ".gz" else stream
            text = b"".join(iter(lambda: opened.read(1 << 20), b""))
    except FileNotFoundError:
        raise GraphposeError(f"annotation file {path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise GraphposeError(f"annotation file {path} cannot be read: {error}") from error
    if not text.strip():
        raise GraphposeError(f"annotation file {path} is empty; a JSON object with images and annotations is needed")
    collecting = gc.isenabled()
    gc.disable()  # millions of new objects and no garbage: the collector would take a quarter of the time
    try:
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GraphposeError(f"annotation file {path} is not valid JSON: {error}") from error
    finally:
        if collecting:
            gc.enable()


def from_coco(content: Any, source: str, skeleton: Skeleton | None = None) -> Annotations:
    """Annotations of a parsed COCO-format file; arguments and errors as in :func:`read_annotations`."""
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise GraphposeError(
            f"{source} is not a COCO keypoint file: it needs lists 'images', 'annotations', 'categories'"
        )
    for position, image in enumerate(content["images"]):
        if not isinstance(image, dict) or not isinstance(image.get("id"), int):
            raise GraphposeError(f"{source}: image at position {position} has no integer 'id'")
    category, skeleton = _category(content["categories"], source, skeleton)
    for position, record in enumerate(content["annotations"]):
        if not isinstance(record, dict):
            raise GraphposeError(f"{source}: annotation at position {position} is {record!r}; an object is needed")
    records = [record for record in content["annotations"] if record.get("category_id", category) == category]
    for key in ("id", "image_id", "keypoints"):
        _require(records, key, source)
    ids = _column(records, "id", source, np.int64)
    has_box = all("bbox" in record for record in records)
    bbox = _rows(records, "bbox", 4, source) if has_box else np.full((len(records), 4), np.nan)
    if any("area" in record for record in records):
        _require(records, "area", source)
        area = _column(records, "area", source)
    else:
        area = AREA_OF_BOX * bbox[:, 2] * bbox[:, 3]
    K = skeleton.num_keypoints
    keypoints = _rows(records, "keypoints", 3 * K, source, f", {K} keypoints of skeleton '{skeleton.name}'")
    return Annotations(
        source=source,
        skeleton=skeleton,
        keypoints=check_keypoints(keypoints.reshape(-1, K, 3), ids, source),
        bbox=bbox,
        area=area,
        head_size=np.full(len(records), np.nan),
        iscrowd=np.fromiter((bool(record.get("iscrowd", 0)) for record in records), bool, len(records)),
        ids=ids,
        image_ids=_column(records, "image_id", source, np.int64),
        file_names={image["id"]: image.get("file_name", "") for image in content["images"]},
        crowd_index={image["id"]: float(image["crowdIndex"]) for image in content["images"] if "crowdIndex" in image},
    )


def check_keypoints(keypoints: np.ndarray, ids: np.ndarray, source: str) -> np.ndarray:
    """The (N, K, 3) array itself, once every number is finite and every visibility is 0, 1 or 2."""
    bad = ~np.isfinite(keypoints).all(axis=(1, 2))
    if bad.any():
        raise GraphposeError(
            f"{source}: annotation {ids[bad][0]} has a keypoint that is not finite; numbers are needed"
        )
    visibility = keypoints[:, :, 2]
    bad = ((visibility != 0) & (visibility != 1) & (visibility != 2)).any(axis=1)
    if bad.any():
        raise GraphposeError(f"{source}: annotation {ids[bad][0]} has a visibility other than 0, 1 or 2")
    return keypoints


def _category(categories: Sequence[Any], source: str, skeleton: Skeleton | None) -> tuple[Any, Skeleton]:
    """Id and skeleton of the one category with keypoints (of several, the one that is ``skeleton``)."""
    found = [
        (category.get("id"), Skeleton.from_category(category))
        for category in categories
        if isinstance(category, dict) and category.get("keypoints")
    ]
    if skeleton is None:
        if len(found) != 1:
            raise GraphposeError(f"{source} has {len(found)} categories with keypoints; one is needed")
        return found[0]
    for category_id, in_file in found:
        if in_file.keypoints == skeleton.keypoints:
            return category_id, skeleton
    raise GraphposeError(
        f"{source} has keypoints of {', '.join(f'{s.name} ({s.num_keypoints})' for _, s in found) or 'no category'}, "
        f"not the {skeleton.num_keypoints} of skeleton '{skeleton.name}'"
    )


def _require(records: Sequence[Mapping[str, Any]], key: str, source: str) -> None:
    for position, record in enumerate(records):
        if key not in record:
            raise GraphposeError(f"{source}: annotation {record.get('id', f'at position {position}')} has no '{key}'")


def _column(records: Sequence[Mapping[str, Any]], key: str, source: str, dtype: type = np.float64) -> np.ndarray:
    """(N,) values of one key."""
    try:
        values: np.ndarray = np.fromiter((record[key] for record in records), dtype, len(records))
        bad = np.flatnonzero(~np.isfinite(values))
    except (TypeError, ValueError, OverflowError):
        bad = np.array([i for i, record in enumerate(records) if not _is_number(record[key], dtype)])
        if not len(bad):
            raise
    if len(bad):
        record = records[bad[0]]
        raise GraphposeError(
            f"{source}: annotation {record['id']} has {key} {record[key]!r}; "
            f"{'an integer' if dtype is np.int64 else 'a finite number'} is needed"
        )
    return values


def _rows(records: Sequence[Mapping[str, Any]], key: str, length: int, source: str, meaning: str = "") -> np.ndarray:
    """(N, length) values of a key that holds lists."""
    for record in records:
        row = record[key]
        if not isinstance(row, list) or len(row) != length:
            size = len(row) if isinstance(row, list) else repr(row)
            raise GraphposeError(
                f"{source}: annotation {record['id']} has {size} numbers in '{key}'; {length} are needed{meaning}"
            )
    values = itertools.chain.from_iterable(record[key] for record in records)
    try:
        return np.fromiter(values, np.float64, length * len(records)).reshape(-1, length)
    except (TypeError, ValueError):
        for record in records:
            if not all(isinstance(value, (int, float)) for value in record[key]):
                raise GraphposeError(
                    f"{source}: annotation {record['id']} has something other than numbers in '{key}': {record[key]!r}"
                ) from None
        raise


def _is_number(value: Any, dtype: type = np.float64) -> bool:
    if dtype is np.int64:
        return isinstance(value, int) and abs(value) < 2**63
    return isinstance(value, (int, float)) and math.isfinite(value)
