"""COCO-format data sets: photographs with their persons, crowd regions and unlabelled persons as ignore masks."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.data.annotations import regions
from graphpose.data.annotations.coco import read_coco
from graphpose.data.annotations.table import Annotations
from graphpose.data.image import read_image
from graphpose.data.sample import Persons, Sample
from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton

logger = logging.getLogger(__name__)


class CocoDataset:
    """Images of a COCO-format keypoint file (COCO's own, CrowdPose's, or one with a skeleton of its own).

    Crowd regions and persons without any labelled keypoint are no targets; their segment, or where the file has none
    their box, is the sample's ignore mask.

    Args:
        annotations: .json or .json.gz; without annotations in it (test-dev) every image has no persons.
        images: folder of the image files.
        skeleton: what the keypoints mean; None takes it from the file.
        image_ids: only these, in this order; None is all in the file's order.
        require_persons: only images with at least one person with a labelled keypoint.
        category: name or id of the keypoint category, for files with several.

    Raises:
        GraphposeError: naming the file and the annotation at fault, or when no image is left.
    """

    def __init__(
        self,
        annotations: Path | str,
        images: Path | str,
        *,
        skeleton: Skeleton | None = None,
        image_ids: Sequence[int] | None = None,
        require_persons: bool = False,
        category: str | int | None = None,
    ) -> None:
        self.annotations = select_images(read_coco(Path(annotations), skeleton, category), image_ids, require_persons)
        self.images = Path(images)

    @property
    def skeleton(self) -> Skeleton:
        """What the keypoints of every sample mean."""
        return self.annotations.skeleton

    @property
    def image_ids(self) -> list[int]:
        """Ids from the file's records, in the order of the indices."""
        return self.annotations.images.ids.tolist()

    def __len__(self) -> int:
        return len(self.annotations.images.ids)

    def image_path(self, index: int) -> Path:
        """Where image ``index`` is expected."""
        return self.images / self.annotations.images.file_names[index]

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` with its persons (crowd regions and unlabelled persons included, and in the ignore mask).

        Raises:
            GraphposeError: naming the file, when the image is missing, truncated, no image, or of another size than
                its record says (either order of height and width is accepted: CrowdPose's records swap them).
        """
        index = range(len(self))[index]
        recorded: tuple[int, int] = tuple(self.annotations.images.sizes[index].tolist())
        image = read_image(self.image_path(index), recorded=recorded)
        height, width = image.shape[:2]
        if 0 not in recorded and recorded not in ((height, width), (width, height)):
            raise GraphposeError(
                f"image {self.image_path(index)} is {width}×{height} px, but its record in {self.annotations.path} "
                f"says {recorded[1]}×{recorded[0]}; the annotations belong to another version of it"
            )
        return Sample(
            image=image,
            persons=self.persons(index),
            ignore=self.ignore_mask(index, height, width),
            image_id=int(self.annotations.images.ids[index]),
            file_name=self.annotations.images.file_names[index],
        )

    def persons(self, index: int) -> Persons:
        """All records of image ``index``, without reading the image."""
        annotations, rows = self.annotations, self.annotations.rows(index)
        return Persons(
            keypoints=annotations.keypoints[rows].astype(np.float32),
            bbox=annotations.bbox[rows].astype(np.float32),
            area=annotations.area[rows].astype(np.float32),
            iscrowd=annotations.iscrowd[rows].copy(),
            ids=annotations.ids[rows].copy(),
        )

    def ignore_mask(self, index: int, height: int, width: int) -> np.ndarray:
        """(H, W) bool; True on crowd regions and on persons without a labelled keypoint."""
        ignore = np.zeros((height, width), bool)
        rows = self.annotations.rows(index)
        for row in range(rows.start, rows.stop):
            if row in self.annotations.regions:
                _fill_region(self.annotations, row, ignore)
        return ignore

    def select(self, image_ids: Sequence[int], require_persons: bool = False) -> CocoDataset:
        """Some of the images only, without reading the file again; see :func:`select_images`."""
        selected = copy.copy(self)
        selected.annotations = select_images(self.annotations, image_ids, require_persons)
        return selected

    def with_skeleton(self, skeleton: Skeleton) -> CocoDataset:
        """The same with another skeleton of as many keypoints, without reading the file again."""
        changed = copy.copy(self)
        changed.annotations = dataclasses.replace(self.annotations, skeleton=skeleton)
        return changed

    def ground_truth(self) -> dict[str, Any]:
        """Annotations of exactly these images as a COCO-format dict."""
        return self.annotations.to_coco()


def select_images(
    annotations: Annotations, image_ids: Sequence[int] | None = None, require_persons: bool = False
) -> Annotations:
    """Some images only, with their annotations.

    Args:
        annotations: of the file.
        image_ids: only these, in this order; None is all in the file's order.
        require_persons: only images with at least one person with a labelled keypoint.

    Raises:
        GraphposeError: an id that the file lacks or that is named twice, or when no image is left.
    """
    images = annotations.images
    chosen = np.arange(len(images)) if image_ids is None else _find_images(annotations, image_ids)
    if require_persons:
        chosen = chosen[np.isin(chosen, annotations.image_index[annotations.labelled])]
    if len(chosen) == 0:
        raise GraphposeError(f"{annotations.path}: no image is left; at least one with a labelled person is needed")
    if len(chosen) < len(images) or image_ids is not None:
        annotations = annotations.select_images(chosen)
    return annotations


def _find_images(annotations: Annotations, image_ids: Sequence[int]) -> np.ndarray:
    position = annotations.images.position
    missing = [image_id for image_id in image_ids if image_id not in position]
    if missing:
        raise GraphposeError(
            f"{annotations.path} has no image {missing[0]}; its {len(position)} ids are its records' own"
        )
    if len(set(image_ids)) < len(image_ids):
        raise GraphposeError("image_ids names an image twice; each may stand once")
    return np.array([position[image_id] for image_id in image_ids], np.int64)


def _fill_region(annotations: Annotations, row: int, ignore: np.ndarray) -> None:
    """Set ``ignore`` on the segment of annotation ``row``, or on its box where it has no segment."""
    height, width = ignore.shape
    segmentation = annotations.regions[row]
    if not regions.is_box(segmentation):
        mask = regions.mask_of(segmentation, height, width)
        if mask.shape == ignore.shape:
            ignore |= mask
            return
        logger.warning(
            "%s: annotation %s has an RLE of %d×%d px on an image of %d×%d px; its box is ignored instead",
            annotations.path, annotations.ids[row], *mask.shape[::-1], width, height,
        )  # fmt: skip
    ignore[regions.pixels_of_box(annotations.bbox[row])] = True
