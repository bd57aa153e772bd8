"""What a data set yields: one image with its persons.

Convention: coordinates are x then y in pixels of the image beside them, pixel centres at integers.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass
class Persons:
    """Persons of one image, as arrays over P persons (P may be 0).

    Attributes:
        keypoints: (P, K, 3) float32; x, y in pixels and visibility (0 not labelled, 1 labelled but hidden, 2 visible).
            Where visibility is 0, x and y are 0 and mean nothing.
        bbox: (P, 4) float32; x, y of the top left corner, width, height in pixels.
        area: (P,) float32; segment area in square pixels.
        iscrowd: (P,) bool; a crowd region, not a person: no targets, ignored by the loss and by evaluation.
        ids: (P,) int64; annotation ids.
    """

    keypoints: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    iscrowd: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def empty(cls, num_keypoints: int) -> Persons:
        """No person."""
        return cls(
            keypoints=np.zeros((0, num_keypoints, 3), np.float32),
            bbox=np.zeros((0, 4), np.float32),
            area=np.zeros(0, np.float32),
            iscrowd=np.zeros(0, bool),
            ids=np.zeros(0, np.int64),
        )

    def select(self, index: np.ndarray) -> Persons:
        """Persons at ``index`` (integer or boolean array)."""
        return Persons(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


@dataclasses.dataclass
class Sample:
    """One image with its persons.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        persons: its persons.
        ignore: (H, W) bool; pixels where nothing is known (crowd regions, unlabelled persons, padding): True is
            ignored.
        image_id: id from the annotation file's record.
        file_name: file name from the record, for messages and drawings.
        known: (R, K) float32; the share of the training views in which a region of the image says where each keypoint
            is and where it is not: 1 always, 0 never (its set does not label that keypoint), between for labels of less
            weight, a teacher's for example. None where all keypoints are known.
        regions: (H, W) uint8; which of the R regions a pixel belongs to, in images composed of others; None where there
            is one.
        source: name of the set that the image is from, for logs; empty where there is only one.
        features: (h, w, C) float16; what a frozen trunk makes of the image, which is then left out (0 × 0 pixels); see
            :mod:`graphpose.data.features`.
    """

    image: np.ndarray
    persons: Persons
    ignore: np.ndarray
    image_id: int
    file_name: str
    known: np.ndarray | None = None
    regions: np.ndarray | None = None
    source: str = ""
    features: np.ndarray | None = None
