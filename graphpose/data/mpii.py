"""MPII as a data set of whole images: the official release, the h5 and the HRNet-style json.

MPII has no segments, so a person's area is estimated: sqrt(area) = 3.6 head sizes. That is COCO's median of
sqrt(area) to the length of the torso (1.61; 1,592 persons of val2017 with all joints from the shoulders down, some of
their areas estimated from boxes) times MPII's median torso (2.24 head sizes; the 2,017 persons of the validation set
with all joints labelled). With it fields carry scales of the same meaning as on COCO, and a person's OKS can be
computed. Its box is the box of the labelled joints with half a head size around. PCKh uses the head size itself.

Persons that cannot be targets are ignore regions: those of the release without joints (a square of their height around
their middle) and those whose head size is not known (their box).

Source: Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR 2014.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graphpose.data.annotations.mpii import from_release
from graphpose.data.annotations.mpii_release import ReleaseImage, read_release
from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.table import SCALE_OF_HEAD, Annotations
from graphpose.data.coco import CocoDataset, select_images
from graphpose.errors import GraphposeError
from graphpose.skeleton import MPII

BOX_MARGIN = 0.5  # head sizes around the labelled joints


class MpiiDataset(CocoDataset):
    """Images of MPII with all their annotated persons.

    Args:
        annotations: the release's .mat, the .h5, or the HRNet-style .json.
        images: folder of the image files.
        split: "train" or "test" of the release, by its ``img_train``; None takes all. The other forms are one split.
        groups: the evaluation toolkit's ``groups_v12.mat``, with the release only: the persons of each group of the
            multi-person protocol. Without it all persons of an image are one group.
        image_ids: only these, in this order; None is all. Ids are the release's or h5's image indices (from 0), and
            positions among the images in the json.
        require_persons: only images with at least one person who is a target.

    Attributes:
        release: image id → the release's record of it, whose ``placed`` persons are the image's annotations; empty for
            other forms.

    Raises:
        GraphposeError: naming the file and the record at fault, or when no image is left.
    """

    def __init__(
        self,
        annotations: Path | str,
        images: Path | str,
        *,
        split: Literal["train", "test"] | None = None,
        groups: Path | str | None = None,
        image_ids: Sequence[int] | None = None,
        require_persons: bool = False,
    ) -> None:
        path = Path(annotations)
        if split not in (None, "train", "test"):
            raise GraphposeError(f"split '{split}' of MPII must be train or test")
        self.release: dict[int, ReleaseImage] = {}
        if path.suffix == ".mat":
            release = read_release(path)
            self.release = dict(enumerate(release))
            table = from_release(release, path, split=split, groups=Path(groups) if groups else None)
        elif split is not None or groups is not None:
            raise GraphposeError(f"{path} is no official release; split and groups belong to its .mat")
        else:
            table = read_annotations(path, MPII)
        if not len(table.images) or "" in table.images.file_names:
            raise GraphposeError(f"{path} names no images; the release, the h5 and the HRNet-style json do")
        self.annotations = select_images(with_estimated_extents(table), image_ids, require_persons)
        self.images = Path(images)

    def ground_truth(self) -> dict[str, Any]:
        """COCO-format annotations of exactly these images; each has ``head_size`` and ``group`` beside COCO's keys.

        Areas are estimates and say so (``area_is_estimate``); a file written from it is read by CocoDataset.
        """
        truth = super().ground_truth()
        columns = self.annotations.head_size.tolist(), self.annotations.group.tolist()
        for annotation, head_size, group in zip(truth["annotations"], *columns, strict=True):
            annotation["head_size"] = head_size if head_size > 0 else None
            annotation["group"] = group
            annotation["area_is_estimate"] = 1
        return truth


def with_estimated_extents(annotations: Annotations) -> Annotations:
    """MPII's persons with estimated boxes and areas; one of unknown head size is no target, for it has no scale."""
    keypoints = annotations.keypoints.copy()
    bbox, area = np.zeros_like(annotations.bbox), np.zeros_like(annotations.area)
    known = annotations.head_size > 0
    regions: dict[int, Any] = {}
    for row, labelled in enumerate(keypoints[:, :, 2] > 0):
        head = annotations.head_size[row] if known[row] else 0
        if labelled.any():
            joints = keypoints[row, labelled, :2]
            low, high = joints.min(axis=0) - BOX_MARGIN * head, joints.max(axis=0) + BOX_MARGIN * head
            bbox[row] = *low, *(high - low)
        else:
            bbox[row] = np.nan_to_num(annotations.bbox[row])
        if labelled.any() and known[row]:
            area[row] = (SCALE_OF_HEAD * head) ** 2
        else:
            keypoints[row] = 0
            area[row] = bbox[row, 2] * bbox[row, 3]
            regions[row] = None
    num_keypoints = (keypoints[:, :, 2] > 0).sum(axis=1)
    return dataclasses.replace(
        annotations, keypoints=keypoints, num_keypoints=num_keypoints, bbox=bbox, area=area, regions=regions
    )
