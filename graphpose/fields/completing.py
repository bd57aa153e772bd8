"""Where the keypoints lie that were not found, inferred from those that were and the pose statistics of the data set.

A person's keypoints are taken as Gaussian, x and y apart, whose differences have the means and deviations of the
statistics; the person may stand anywhere. What is inferred is the mean of the missing keypoints given the found ones,
and how exact that is likely to be.

Source: the conditional mean of the multivariate normal; covariances from the variances of differences as in classical
scaling (Torgerson, Psychometrika 1952).

Convention: lengths are in units of sqrt(person area) unless said otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpose.fields.pose import Poses
from graphpose.graphs.statistics import PoseStatistics
from graphpose.skeleton import Skeleton

# Standard deviations of where a person stands, as good as unknown, and of found keypoints: two that lie side by side
# must not say the direction of a third.
STANDING = 10.0
FOUND_SPREAD = 0.05
MIN_FOUND = 3  # fewer keypoints are no person yet


class _Group(NamedTuple):
    """Keypoints of which each says something about the others.

    Attributes:
        members: (G,) int64.
        mean: (G, 2) mean shape.
        covariance: (2, G, G) of x and of y.
    """

    members: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


class PoseCompletion:
    """Infers missing keypoints of poses.

    Args:
        statistics: of the data set. Keypoints that were never labelled together are related over those that were
            labelled with both, if there are any.
        skeleton: whose keypoints they are.

    Raises:
        GraphposeError: statistics of another skeleton, or not in units of sqrt(person area).
    """

    def __init__(self, statistics: PoseStatistics, skeleton: Skeleton) -> None:
        statistics.require_sqrt_area(skeleton, "completing poses")
        self._tolerance = 2 * np.array(skeleton.sigmas)  # κ of OKS
        self._groups = _groups(statistics.offset_mean, np.square(statistics.offset_std))

    def __call__(self, poses: Poses, image_size: tuple[int, int]) -> Poses:
        """Poses with what is missing, where that lies in the image; scores stay, and so does all that was found.

        Args:
            poses: in pixels; those of unknown area or of fewer than MIN_FOUND keypoints stay as they are.
            image_size: height and width in pixels.

        Returns:
            New poses. An inferred keypoint's confidence is the mean of the found ones' times the similarity of OKS that
            its variance lets expect, E[exp(−d² / 2 κ²)]; its scale is the person's.
        """
        keypoints, scales = poses.keypoints.copy(), poses.scales.copy()
        height, width = image_size
        for n, size in enumerate(np.sqrt(poses.areas)):
            found = keypoints[n, :, 2] > 0
            if found.all() or found.sum() < MIN_FOUND or size <= 0:
                continue
            for members, inferred, variance in self._inferred(keypoints[n, :, :2].astype(np.float64) / size, found):
                places = inferred * size
                new = ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=1) & ~found[members]
                index, tolerance = members[new], self._tolerance[members[new]]
                likely = 1 / np.sqrt(1 + variance[new] / tolerance[:, None] ** 2).prod(axis=1)
                keypoints[n, index, :2] = places[new]
                keypoints[n, index, 2] = keypoints[n, found, 2].mean() * likely
                scales[n, index] = tolerance / 2 * size
        return Poses(keypoints, poses.scores.copy(), scales, poses.skeleton)

    def _inferred(self, places: np.ndarray, found: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each group with a found keypoint: its members, and their mean and variance (G, 2) given the found ones."""
        answers = []
        for members, mean, covariance in self._groups:
            seen = found[members]
            if seen.all() or not seen.any():
                continue
            inferred, variance = np.empty(mean.shape), np.empty(mean.shape)
            for axis in range(2):
                prior = covariance[axis] + STANDING**2
                gain = np.linalg.solve(
                    prior[np.ix_(seen, seen)] + FOUND_SPREAD**2 * np.eye(seen.sum()), prior[seen]
                )  # (seen, G)
                inferred[:, axis] = mean[:, axis] + (places[members[seen], axis] - mean[seen, axis]) @ gain
                variance[:, axis] = np.maximum(prior.diagonal() - (prior[seen] * gain).sum(axis=0), 0)
            answers.append((members, inferred, variance))
        return answers


def _groups(mean: np.ndarray, variance: np.ndarray) -> list[_Group]:
    """Groups of related keypoints, from mean and variance (K, K, 2) of the offsets of j from i; NaN for an unknown."""
    mean, variance = _over_others(mean, variance)
    related = np.isfinite(variance).all(axis=2)
    groups, rest = [], np.ones(len(mean), bool)
    while rest.any():
        members = np.flatnonzero(related[np.flatnonzero(rest)[0]] & rest)
        rest[members] = False
        G = len(members)
        centre = np.eye(G) - 1 / G
        covariance = np.empty((2, G, G))
        for axis in range(2):
            values, vectors = np.linalg.eigh(-0.5 * centre @ variance[:, :, axis][np.ix_(members, members)] @ centre)
            # pairs were labelled in different persons, so that a little of it may be no covariance
            covariance[axis] = (vectors * np.maximum(values, 0)) @ vectors.T
        groups.append(_Group(members, mean[np.ix_(members, members)].mean(axis=0), covariance))
    return groups


def _over_others(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same with pairs that were never seen together as the sum over those in between, of the least variance."""
    known = np.isfinite(mean).all(axis=2) & np.isfinite(variance).all(axis=2)
    mean, variance = np.where(known[:, :, None], mean, 0), np.where(known[:, :, None], variance, np.inf)
    one = np.arange(len(mean))
    mean[one, one] = variance[one, one] = 0  # whatever a file says
    for k in one:
        through = variance[:, k, None] + variance[None, k]  # (K, K, 2)
        better = ~known & (through.sum(axis=2) < variance.sum(axis=2))
        mean[better] = (mean[:, k, None] + mean[None, k])[better]
        variance[better] = through[better]
    return mean, variance
