"""Subsets of annotations that statistics and error analyses ask for: visible keypoints, size bands, crowdedness."""

from __future__ import annotations

import dataclasses

import numpy as np

from graphpose.data.annotations.table import Annotations
from graphpose.skeleton import ScaleRule

# COCO's own bands of person size, as the square root of the area in pixels (pycocotools, Params.setKpParams).
SIZE_BANDS = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, np.inf)}
# CrowdIndex from (inclusive) and to (exclusive). CrowdPose's paper cuts easy from medium at 0.1, the evaluator that was
# published with it at 0.2 (crowdposetools, cocoeval: get_type_result(first=0.2, second=0.8), compared by <). Published
# tables come from the evaluator, so its cuts are the bands everywhere here; the paper's easy band is (0.0, 0.1).
CROWD_BANDS = {"easy": (0.0, 0.2), "medium": (0.2, 0.8), "hard": (0.8, np.inf)}


def visible_only(annotations: Annotations) -> Annotations:
    """The same records with every hidden keypoint (visibility 1) turned into an unlabelled one."""
    keypoints = annotations.keypoints.copy()
    keypoints[keypoints[:, :, 2] != 2] = 0
    return dataclasses.replace(annotations, keypoints=keypoints)


def in_size_band(annotations: Annotations, band: tuple[float, float], rule: ScaleRule) -> Annotations:
    """Records whose scale s_n lies in [low, high) pixels; one without a known scale lies in no band."""
    scale = annotations.scales(rule)
    return annotations.select((scale >= band[0]) & (scale < band[1]))


def in_crowd_band(annotations: Annotations, band: tuple[float, float]) -> Annotations:
    """Records of the images whose CrowdIndex lies in [low, high); the file's own index where it states one."""
    index = annotations.images.crowd_index
    if np.isnan(index).all():
        computed = crowd_indices(annotations)
        index = np.array([computed.get(image_id, np.nan) for image_id in annotations.images.ids.tolist()])
    value = index[annotations.image_index]
    return annotations.select((value >= band[0]) & (value < band[1]))


def crowd_indices(annotations: Annotations) -> dict[int, float]:
    """CrowdIndex of every image with a labelled person.

    1/n Σ_i N_i^b / N_i^a, where box i holds N_i^a labelled keypoints of its own person and N_i^b of others.

    Returns:
        image id → CrowdIndex, not negative; 0 where nobody's keypoints lie in another's box.

    Source: Li et al., "CrowdPose", CVPR 2019, Eq. 5.
    """
    persons = annotations.select(annotations.labelled)
    result = {}
    for image in np.unique(persons.image_index).tolist():
        image_id, rows = int(persons.images.ids[image]), persons.rows(image)
        if rows.stop - rows.start == 1:
            result[image_id] = 0.0
            continue
        low = persons.bbox[rows, :2]  # (n, 2)
        xy, labelled = persons.keypoints[rows, :, :2], persons.keypoints[rows, :, 2] > 0
        from_corner = xy[None] - low[:, None, None]  # (n boxes, n persons, K, 2)
        inside = ((from_corner >= 0) & (from_corner <= persons.bbox[rows, None, None, 2:])).all(axis=3) & labelled
        held = inside.sum(axis=2)  # (n boxes, n persons)
        own = np.diagonal(held)
        others = held.sum(axis=1) - own
        result[image_id] = float((others / np.maximum(own, 1)).mean())
    return result
