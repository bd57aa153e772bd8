"""The table of annotations: all records of a data set as arrays, without its images.

Readers make it (see :mod:`graphpose.data.annotations.read`); statistics, data sets, checks and metrics read it.

Convention: coordinates are x then y in pixels of the image, the first pixel's centre at 0; nothing is rounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.skeleton import ScaleRule, Skeleton

# CrowdPose has no segment areas; its evaluator takes this share of the box (crowdposetools, cocoeval.computeOks).
AREA_OF_BOX = 0.53
# MPII has no segment areas; sqrt(area) in head sizes, see graphpose.data.mpii.
SCALE_OF_HEAD = 3.6


@dataclasses.dataclass(frozen=True)
class Images:
    """The I image records of an annotation file, whether or not somebody is annotated in them.

    Attributes:
        ids: (I,) int64, unique.
        file_names: I names.
        sizes: (I, 2) int32 height, width; 0 where the file does not say.
        crowd_index: (I,) float64 CrowdIndex, not negative; NaN where the file does not say.
        groups: I names of what the file says that an image is one of several of, as its video; empty where it does not
            say, and altogether in files that cannot.
        activities: I pairs (category, activity) of what is done in an image, "" where the file does not say; altogether
            empty in files that cannot. MPII's release says it.
    """

    ids: np.ndarray
    file_names: Sequence[str]
    sizes: np.ndarray
    crowd_index: np.ndarray
    groups: Sequence[str] = ()
    activities: Sequence[tuple[str, str]] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def named(cls, file_names: dict[int, str], activities: Sequence[tuple[str, str]] = ()) -> Images:
        """Images of which the file tells only id and file name, and perhaps what is done in them."""
        count = len(file_names)
        ids = np.array(list(file_names), np.int64)
        sizes, crowd_index = np.zeros((count, 2), np.int32), np.full(count, np.nan)
        return cls(ids, list(file_names.values()), sizes, crowd_index, activities=activities)

    @cached_property
    def position(self) -> dict[int, int]:
        """Image id → index."""
        return {image_id: i for i, image_id in enumerate(self.ids.tolist())}

    def select(self, index: np.ndarray) -> Images:
        """Images at ``index`` (integer array), in that order."""
        names = [self.file_names[i] for i in index.tolist()]
        groups = [self.groups[i] for i in index.tolist()] if self.groups else ()
        activities = [self.activities[i] for i in index.tolist()] if self.activities else ()
        return Images(self.ids[index], names, self.sizes[index], self.crowd_index[index], groups, activities)


@dataclasses.dataclass(frozen=True)
class Annotations:
    """A annotations of one category in I images, in the order of the images; within one, in the file's order.

    Attributes:
        path: the annotation file, for messages and provenance.
        skeleton: what the K keypoints mean.
        images: the image records.
        ids: (A,) int64 annotation ids, unique; numbers from 1 in a file without ids.
        image_index: (A,) int64 index of each annotation's image, ascending.
        keypoints: (A, K, 3) float64; x, y and visibility (0 not labelled, 1 hidden, 2 visible); 0, 0, 0 where not
            labelled.
        num_keypoints: (A,) int64 as the file states it, for evaluation leaves out persons with 0. CrowdPose does not
            count head and neck; where the file is silent it is the number of labelled keypoints.
        bbox: (A, 4) float64; x, y, width, height; NaN where unknown.
        area: (A,) float64, square pixels; 0.53 of the box in a file without areas; NaN where neither is known.
        iscrowd: (A,) bool; a region of many persons, never a person.
        head_size: (A,) float64; head segment length in pixels as PCKh defines it; NaN where unknown.
        group: (A,) int64; number of the person's group in its image in MPII's multi-person protocol, negative for
            none; 0 everywhere in other files.
        regions: row → COCO segmentation (None: its box) of the annotations that are no targets: crowds and unlabelled
            persons.
        category_id: id of the category in the file.
    """

    path: Path
    skeleton: Skeleton
    images: Images
    ids: np.ndarray
    image_index: np.ndarray
    keypoints: np.ndarray
    num_keypoints: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    iscrowd: np.ndarray
    head_size: np.ndarray
    group: np.ndarray
    regions: dict[int, Any] = dataclasses.field(default_factory=dict)
    category_id: int = 1

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labelled(self) -> np.ndarray:
        """(A,) bool: a person, not a crowd, with at least one labelled keypoint."""
        return (self.keypoints[:, :, 2] > 0).any(axis=1) & ~self.iscrowd

    @property
    def image_ids(self) -> np.ndarray:
        """(A,) int64: id of each annotation's image."""
        return self.images.ids[self.image_index]

    @cached_property
    def ptr(self) -> np.ndarray:
        """(I + 1,) int64, as CSR has it: the annotations of image i are rows ptr[i] … ptr[i + 1] − 1."""
        return np.searchsorted(self.image_index, np.arange(len(self.images) + 1))

    def rows(self, image: int) -> slice:
        """Rows of the annotations of image ``image`` (index)."""
        return slice(int(self.ptr[image]), int(self.ptr[image + 1]))

    def select(self, index: np.ndarray) -> Annotations:
        """Annotations at ``index`` (boolean, or integer in any order); all images stay."""
        rows = np.flatnonzero(index) if index.dtype == bool else index
        rows = rows[np.argsort(self.image_index[rows], kind="stable")]
        return self._take(self.images, rows, self.image_index[rows])

    def select_images(self, index: np.ndarray) -> Annotations:
        """Images at ``index`` (integer array, each once) in that order, with their annotations."""
        parts = [np.arange(self.ptr[i], self.ptr[i + 1]) for i in index]
        rows = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        image_index = np.repeat(np.arange(len(index)), self.ptr[index + 1] - self.ptr[index])
        return self._take(self.images.select(index), rows, image_index)

    def _take(self, images: Images, rows: np.ndarray, image_index: np.ndarray) -> Annotations:
        return Annotations(
            path=self.path,
            skeleton=self.skeleton,
            images=images,
            ids=self.ids[rows],
            image_index=image_index,
            keypoints=self.keypoints[rows],
            num_keypoints=self.num_keypoints[rows],
            bbox=self.bbox[rows],
            area=self.area[rows],
            iscrowd=self.iscrowd[rows],
            head_size=self.head_size[rows],
            group=self.group[rows],
            regions={new: self.regions[old] for new, old in enumerate(rows.tolist()) if old in self.regions},
            category_id=self.category_id,
        )

    def stated_scales(self, rule: ScaleRule) -> np.ndarray:
        """As :meth:`scales`, of whatever the file states: NaN where it does not, 0 of a person without extent."""
        if rule == "sqrt_area":
            return np.sqrt(np.maximum(self.area, 0))
        if rule == "bbox_diagonal":
            return np.hypot(self.bbox[:, 2], self.bbox[:, 3])
        if rule == "head":
            return self.head_size
        raise GraphposeError(f"scale rule '{rule}' is not sqrt_area, bbox_diagonal or head")

    def scales(self, rule: ScaleRule) -> np.ndarray:
        """s_n of Eq. 5 for every annotation.

        Args:
            rule: ``sqrt_area``, ``bbox_diagonal`` or ``head``.

        Returns:
            (A,) float64 in pixels; positive for every labelled person, except that it is NaN where MPII does not say
            how large a head is.

        Raises:
            GraphposeError: when the file has nothing to take this scale from, or a labelled person has no extent.
        """
        scale = self.stated_scales(rule)
        known = {"sqrt_area": "area", "bbox_diagonal": "bbox", "head": "head size"}[rule]
        unknown = np.isnan(scale) & self.labelled
        if rule == "head" and not np.isnan(scale[self.labelled]).all():
            unknown[:] = False
        if unknown.any():
            raise GraphposeError(
                f"{self.path}: annotation {self.ids[unknown][0]} has no {known}, which scale rule '{rule}' needs"
            )
        empty = (scale <= 0) & self.labelled
        if empty.any():
            raise GraphposeError(
                f"{self.path}: annotation {self.ids[empty][0]} has {known} 0, but scale rule '{rule}' needs a "
                f"positive one ({int(empty.sum())} such persons); correct or leave out these records"
            )
        return scale

    def to_coco(self) -> dict[str, Any]:
        """COCO-format dict (images, annotations, categories) with everything that keypoint evaluation reads.

        Keypoints are rounded to float32, as samples have them.
        """
        keypoints = self.keypoints.reshape(len(self), 3 * self.skeleton.num_keypoints).astype(np.float32)
        columns = (self.ids, self.image_ids, self.bbox, self.area, self.iscrowd, keypoints, self.num_keypoints)
        images = self.images
        return {
            "info": {"description": self.path.name},
            "images": [
                {"id": image_id, "file_name": name, "height": height, "width": width}
                | ({"crowdIndex": crowd_index} if crowd_index == crowd_index else {})  # NaN differs from itself
                for image_id, name, (height, width), crowd_index in zip(
                    images.ids.tolist(),
                    images.file_names,
                    images.sizes.tolist(),
                    images.crowd_index.tolist(),
                    strict=True,
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
                    *(column.tolist() for column in columns), strict=True
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


def complete_category(skeleton: Skeleton, category_id: int = 1) -> dict[str, Any]:
    """The category record of a skeleton with what the format does not have: :meth:`Skeleton.from_category` reads the
    same skeleton back, its name, sigmas and stated flip pairs included."""
    record = {**coco_category(skeleton, category_id), "name": skeleton.name, "sigmas": list(skeleton.sigmas)}
    if skeleton.flip_pairs is not None:
        record["flip_pairs"] = [[a + 1, b + 1] for a, b in skeleton.flip_pairs]
    return record
