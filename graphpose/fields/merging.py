"""Poses of several sizes of an image: each is decoded alone, and of the poses of one person the best stays.

A network sees persons of some range of sizes; a large person in a reduced image, a small one in the image as it is. The
mean of their fields is sure of neither, see :mod:`graphpose.fields.fusion`.

Source: non-maximum suppression by OKS as in Papandreou et al., "Towards Accurate Multi-person Pose Estimation in the
Wild", CVPR 2017, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.fields.decode import Decoder, in_threads
from graphpose.fields.fusion import View
from graphpose.fields.pose import Poses

# The mean similarity of its keypoints from which on a pose is the same person as a better one, and the tolerance that
# it is computed with, in those of OKS: the errors of two sizes add up, and to see one person twice is the worse error.
SAME_PERSON = 0.4
TOLERANCE = 2.0


def decode_views(
    decoder: Decoder, views: Sequence[View], image_sizes: Sequence[tuple[int, int]], workers: int | None = None
) -> list[Poses]:
    """Poses of B images.

    Args:
        decoder: made for the network.
        views: of the batch; one, or several whose poses are merged.
        image_sizes: height and width in pixels that each image covers of the network's input.
        workers: threads; None takes one for each core.

    Returns:
        Poses of each image, in pixels of the network's input; of one view exactly the decoder's.

    Raises:
        GraphposeError: not one size for each image, or fields that do not fit the decoder.
    """
    if len(views) == 1:
        return decoder.decode_batch(views[0].pif, views[0].paf, workers, image_sizes)
    if any(len(view.pif) != len(image_sizes) for view in views):
        raise GraphposeError(f"{len(image_sizes)} image sizes for {len(views[0].pif)} images: one is needed per image")
    return in_threads(
        lambda i: decode_image(decoder, [View(v.pif[i], v.paf[i], v.factors) for v in views], image_sizes[i]),
        len(image_sizes),
        workers,
    )


def decode_image(decoder: Decoder, views: Sequence[View], image_size: tuple[int, int] | None = None) -> Poses:
    """Poses of one image; see :func:`decode_views`. None as ``image_size`` takes the whole fields of a single view."""
    if len(views) == 1:
        return decoder(views[0].pif, views[0].paf, image_size)
    if image_size is None:
        raise GraphposeError("poses of several sizes are merged in the image's pixels; its height and width are needed")
    height, width = image_size
    found = []
    for pif, paf, (fy, fx) in views:
        poses = decoder.found(pif, paf, (int((height - 1) * fy) + 1, int((width - 1) * fx) + 1))
        found.append(poses.mapped(np.array([[1 / fx, 0, 0], [0, 1 / fy, 0]])))
    return decoder.completed(merge_poses(found, decoder.config.max_poses), image_size)


def merge_poses(found: Sequence[Poses], max_poses: int | None = None) -> Poses:
    """The best poses of all that were found in one image, one of each person.

    Two poses of one view are two persons, for its decoder told them apart.

    Args:
        found: poses of each view, all in the same pixels and of one skeleton, which they say; at least one.
        max_poses: so many are returned at most.

    Returns:
        Poses, best first. A pose that is like a better one of another view is left out; the keypoints that the better
        one lacks are taken from it. Scores are those of the poses that stay.
    """
    skeleton = found[0].skeleton
    assert skeleton is not None
    keypoints, scores, scales = (
        np.concatenate([getattr(poses, name) for poses in found]) for name in ("keypoints", "scores", "scales")
    )
    view = np.repeat(np.arange(len(found)), [len(poses) for poses in found])
    order = np.argsort(-scores, kind="stable")
    keypoints, scores, scales, view = keypoints[order], scores[order], scales[order], view[order]
    areas = Poses(keypoints, scores, scales, skeleton).areas
    tolerance = TOLERANCE * 2 * np.sqrt(areas)[:, None] * np.array(skeleton.sigmas)  # (N, K) pixels
    kept: list[int] = []
    whole, whole_scales = keypoints.copy(), scales.copy()
    for n, pose in enumerate(keypoints):
        better = np.array(kept, np.int64)
        both = (keypoints[better, :, 2] > 0) & (pose[:, 2] > 0)  # (kept, K)
        squared = ((keypoints[better, :, :2] - pose[:, :2]) ** 2).sum(axis=2)
        similarity = (np.exp(-squared / np.maximum(2 * tolerance[better] ** 2, 1e-12)) * both).sum(axis=1)
        similarity[view[better] == view[n]] = 0
        if not len(better) or similarity.max() < SAME_PERSON * max(1, (pose[:, 2] > 0).sum()):
            kept.append(n)
            continue
        person = better[similarity.argmax()]
        lacking = whole[person, :, 2] <= 0
        whole[person, lacking], whole_scales[person, lacking] = pose[lacking], scales[n, lacking]
    chosen = np.array(kept[:max_poses], np.int64)
    return Poses(whole[chosen], scores[chosen], whole_scales[chosen], skeleton)
