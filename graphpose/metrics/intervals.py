"""Figures on photographs with the interval of a bootstrap over images.

AP and AR by COCO's rules; and, for sets in which one person of several is labelled, the share of the labelled joints
that a pose has near, in units of the long side of the person's box.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.metrics.coco import run_coco_evaluation, summarise
from graphpose.skeleton import Skeleton

Interval = tuple[float, float, float]  # value, low, high

COCO_FIGURES = ("AP", "AP50", "AR")
SHARES = (0.1, 0.05)  # of the box's long side
FACE = ("nose", "eye", "ear")
CANDIDATES = 5  # poses of which the best counts


def coco_intervals(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    resamples: int,
    seed: int = 0,
) -> dict[str, Interval]:
    """AP, AP50 and AR, each with its interval.

    Args:
        ground_truth: COCO-format dict.
        results: COCO results format.
        skeleton: whose keypoints and sigmas these are.
        resamples: draws of as many images as there are, with replacement.
        seed: of the draws.

    Returns:
        Figure → value, low, high; all 0 without results.
    """
    figures, images = _coco_figures(ground_truth, results, skeleton)
    values, low, high = bootstrap(figures, images, resamples, seed)
    return {name: (values[i], low[i], high[i]) for i, name in enumerate(COCO_FIGURES)}


def coco_differences(
    ground_truth: Mapping[str, Any],
    base: Sequence[Mapping[str, Any]],
    others: Sequence[Sequence[Mapping[str, Any]]],
    skeleton: Skeleton,
    resamples: int,
    seed: int = 0,
) -> list[dict[str, Interval]]:
    """AP, AP50 and AR of other results minus those of ``base`` on the same images, each with its paired interval.

    Args:
        ground_truth: COCO-format dict.
        base: COCO results format.
        others: likewise, of the same images.
        skeleton: whose keypoints and sigmas these are.
        resamples: draws of as many images as there are, with replacement; the same for all.
        seed: of the draws.

    Returns:
        One dict for each of ``others``: figure → difference, low, high.
    """
    of_base, images = _coco_figures(ground_truth, base, skeleton)
    of_others = [_coco_figures(ground_truth, results, skeleton)[0] for results in others]

    def differences(chosen: np.ndarray) -> np.ndarray:
        before = np.array(of_base(chosen))
        return np.array([np.array(own(chosen)) - before for own in of_others]).reshape(-1, len(COCO_FIGURES))

    values, low, high = bootstrap(differences, images, resamples, seed)
    return [
        {name: (float(values[n, i]), float(low[n, i]), float(high[n, i])) for i, name in enumerate(COCO_FIGURES)}
        for n in range(len(others))
    ]


def _coco_figures(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], skeleton: Skeleton
) -> tuple[Callable[[np.ndarray], list[float]], int]:
    """What gives COCO_FIGURES of chosen images, without matching them again; and the number of images."""
    evaluation = run_coco_evaluation(ground_truth, results, skeleton)
    if evaluation is None:
        return lambda chosen: [0.0] * len(COCO_FIGURES), len(ground_truth["images"])
    images = len(evaluation.params.imgIds)
    matched = np.array(evaluation.evalImgs, dtype=object).reshape(-1, images)  # one row per size of person

    def figures(chosen: np.ndarray) -> list[float]:
        evaluation.evalImgs = matched[:, chosen].ravel().tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        tables = evaluation.eval
        found = summarise(tables["precision"], tables["recall"], evaluation.params.iouThrs)
        return [found[name] for name in COCO_FIGURES]

    return figures, images


def bootstrap(
    figures: Callable[[np.ndarray], Sequence[float] | np.ndarray], images: int, resamples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Figures of all images and the 2.5 % and 97.5 % quantiles of those of images drawn with replacement.

    Args:
        figures: gives a list of numbers for an array of image indices.
        images: how many there are.
        resamples: number of draws.
        seed: of the draws.
    """
    values = np.array(figures(np.arange(images)))
    rng = np.random.default_rng(seed)
    drawn = [np.array(figures(rng.integers(images, size=images))) for _ in range(resamples)]
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0) if drawn else (values, values)
    return values, low, high


def face_interval(
    ground_truth: Mapping[str, Any], poses: Mapping[int, np.ndarray], skeleton: Skeleton, resamples: int, seed: int = 0
) -> Interval:
    """Share of the labelled keypoints of the face that some pose of the image has near, and its interval.

    Args:
        ground_truth: COCO-format dict in the network's skeleton.
        poses: image id → (N, K, 3); an image without an entry has none.
        skeleton: whose keypoints nose, eyes and ears are the face; 0 where it has none of them.
        resamples, seed: see :func:`bootstrap`.
    """
    face = [k for k, name in enumerate(skeleton.keypoints) if name.rpartition("_")[2] in FACE]
    counts = {image["id"]: np.zeros(2) for image in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        if annotation.get("iscrowd"):
            continue
        truth = np.array(annotation["keypoints"], np.float64).reshape(-1, 3)[face]
        found = poses.get(annotation["image_id"], np.zeros((0, skeleton.num_keypoints, 3)))[:, face]  # (N, F, 3)
        near = joints_near(truth, annotation["bbox"], found)[0].any(axis=0)
        counts[annotation["image_id"]] += near.sum(), (truth[:, 2] > 0).sum()
    counts_of_images = np.array(list(counts.values()))

    def share(chosen: np.ndarray) -> list[float]:
        found, labelled = counts_of_images[chosen].sum(axis=0)
        return [found / labelled if labelled else 0.0]

    values, low, high = bootstrap(share, len(counts_of_images), resamples, seed)
    return values[0], low[0], high[0]


def joints_near(truth: np.ndarray, box: Sequence[float], poses: np.ndarray) -> np.ndarray:
    """Which labelled joints of one person each of some poses has near.

    Args:
        truth: (K, 3) x, y, visibility; 0 is not labelled.
        box: x, y, width, height of the person in pixels.
        poses: (N, K, 3) x, y, confidence; confidence 0 is not found.

    Returns:
        (len(SHARES), N, K) bool; within each of the shares of the long side of the box.
    """
    distances = np.linalg.norm(poses[:, :, :2] - truth[:, :2], axis=-1)  # (N, K)
    distances = np.where((truth[:, 2] > 0) & (poses[:, :, 2] > 0), distances, np.inf)
    return np.stack([distances <= share * max(box[2:]) for share in SHARES])


def joints_found(truth: np.ndarray, box: Sequence[float], poses: np.ndarray) -> np.ndarray:
    """How many joints of one person are found, see :func:`joints_near`; ``poses`` have the best first.

    Returns:
        (len(SHARES), 2) int; by the best of the five highest poses, and by the highest.
    """
    if not len(poses):
        return np.zeros((len(SHARES), 2), np.int64)
    counts = joints_near(truth, box, poses[:CANDIDATES]).sum(axis=2)  # (len(SHARES), N)
    return np.stack((counts.max(axis=1), counts[:, 0]), axis=1)


def single_intervals(
    ground_truth: Mapping[str, Any], poses: Mapping[int, np.ndarray], columns: np.ndarray, resamples: int, seed: int = 0
) -> tuple[dict[str, Interval], int]:
    """Shares of the labelled joints that are found, each with its interval, and the number of labelled joints.

    Args:
        ground_truth: COCO-format dict with one labelled person an image; of several the largest counts.
        poses: image id → (N, K, 3) in the network's skeleton; an image without an entry has none.
        columns: (K,) where the network's keypoints are found in the set's, −1 for nowhere.
        resamples: see :func:`bootstrap`.
        seed: likewise.

    Raises:
        GraphposeError: nobody has a labelled joint that the network knows.
    """
    rows: dict[int, tuple[float, np.ndarray, int]] = {}
    for annotation in ground_truth["annotations"]:
        truth = np.array(annotation["keypoints"], np.float64).reshape(-1, 3)[columns]
        truth[columns < 0] = 0
        labelled = int((truth[:, 2] > 0).sum())
        image_id, area = annotation["image_id"], float(annotation["area"])
        if annotation.get("iscrowd") or not labelled or (image_id in rows and rows[image_id][0] >= area):
            continue
        found = joints_found(truth, annotation["bbox"], poses.get(image_id, np.zeros((0, len(columns), 3))))
        rows[image_id] = area, found, labelled
    if not rows:
        raise GraphposeError("no image of the set has a person with a labelled joint that the network knows")
    found = np.array([row[1] for row in rows.values()]).reshape(len(rows), -1)
    labelled_of = np.array([row[2] for row in rows.values()])

    def shares(chosen: np.ndarray) -> np.ndarray:
        return found[chosen].sum(axis=0) / labelled_of[chosen].sum()

    values, low, high = bootstrap(shares, len(rows), resamples, seed)
    names = [f"within {share} of the box, {pose}" for share in SHARES for pose in ("best of five", "highest")]
    return {name: (values[i], low[i], high[i]) for i, name in enumerate(names)}, int(labelled_of.sum())
