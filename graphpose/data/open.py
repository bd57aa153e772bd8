"""The data set of an annotation file, whatever its form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphpose.data.annotations.mpii import is_mpii_file
from graphpose.data.coco import CocoDataset
from graphpose.data.mpii import MpiiDataset
from graphpose.errors import GraphposeError
from graphpose.skeleton import MPII, Skeleton


def open_dataset(
    annotations: Path | str,
    images: Path | str,
    *,
    skeleton: Skeleton | None = None,
    image_ids: Sequence[int] | None = None,
    require_persons: bool = False,
    category: str | int | None = None,
) -> CocoDataset:
    """COCO's, CrowdPose's and other COCO-format files, and MPII's in its three forms.

    Args:
        annotations: .json or .json.gz in COCO's format; .mat, .h5 or a .json list of records for MPII.
        images: folder of the image files.
        skeleton: what the keypoints mean; None takes it from the file.
        image_ids: only these, in this order; None is all.
        require_persons: only images with at least one person who is a target.
        category: name or id of the keypoint category, for COCO-format files with several.

    Raises:
        GraphposeError: as the data sets do, or MPII's form with another skeleton.
    """
    path = Path(annotations)
    if is_mpii_file(path):
        if category is not None:
            raise GraphposeError(f"{path} has MPII's form, which has no categories; leave out category '{category}'")
        if skeleton is not None and skeleton.keypoints != MPII.keypoints:
            raise GraphposeError(f"{path} has MPII's keypoints, not those of skeleton '{skeleton.name}'")
        return MpiiDataset(path, images, image_ids=image_ids, require_persons=require_persons)
    return CocoDataset(
        path, images, skeleton=skeleton, image_ids=image_ids, require_persons=require_persons, category=category
    )
