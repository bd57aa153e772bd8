"""Identities of persons over the frames of a video, by the OKS of their poses.

A track expects its person where a constant velocity leads. The OKS of what is expected and what is found says how well
the two agree, in units of the person's own size as the fields carry it, and the assignment of all tracks to all poses
has the largest sum. A track lives on unseen for some frames, so that who is hidden for a moment keeps their number.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import linear_sum_assignment

from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton


@dataclasses.dataclass(frozen=True)
class TrackerConfig:
    """Thresholds of the tracker.

    Attributes:
        min_oks: least agreement of a track and a pose, 0 … 1.
        tolerance: factor on COCO's σ in these OKS: between two frames limbs swing farther than annotators err.
        min_score: least score of a pose that begins a track.
        patience: frames that a track lives without its person.
        smoothing: weight of what a velocity was before in what it is now, 0 … 1.
        velocity: expect persons where their velocity leads, not where they were.
        min_keypoints: a pose and a track with fewer keypoints in common agree as if the others missed.
    """

    min_oks: float = 0.2
    tolerance: float = 3.0
    min_score: float = 0.15
    patience: int = 15
    smoothing: float = 0.8
    velocity: bool = True
    min_keypoints: int = 3

    def __post_init__(self) -> None:
        for name, least, most in (("min_oks", 0, 1), ("min_score", 0, 1), ("smoothing", 0, 1)):
            if not least <= getattr(self, name) <= most:
                raise GraphposeError(f"tracker setting {name}={getattr(self, name)} must lie in {least} … {most}")
        if not self.tolerance > 0:
            raise GraphposeError(f"tracker setting tolerance={self.tolerance} must be above 0")
        if self.patience < 0 or self.min_keypoints < 1:
            raise GraphposeError("tracker settings patience and min_keypoints must be 0 and 1 or more")


class Tracker:
    """Gives the persons of one frame after the other numbers that stay theirs.

    Args:
        skeleton: of the poses.
        config: thresholds.
    """

    def __init__(self, skeleton: Skeleton, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._sigmas = np.array(skeleton.sigmas)
        self._next = 1
        K = skeleton.num_keypoints
        self._ids = np.zeros(0, np.int64)  # of T tracks
        self._keypoints = np.zeros((0, K, 3))  # where each keypoint was last found, carried on with the velocity
        self._areas = np.zeros(0)
        self._velocities = np.zeros((0, 2))  # pixels per frame
        self._unseen = np.zeros(0, np.int64)  # frames since the person was found

    def update(self, keypoints: np.ndarray, areas: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Identities of the persons of the next frame.

        Args:
            keypoints: (N, K, 3) x, y in pixels and confidence, 0 where not found.
            areas: (N,) area of each person in pixels², of :class:`~graphpose.fields.pose.Poses`.
            scores: (N,) of the poses.

        Returns:
            (N,) numbers from 1, none twice; 0 for a pose that is of no track and too weak to begin one.
        """
        keypoints = np.asarray(keypoints, np.float64).reshape(-1, *self._keypoints.shape[1:])
        expected = self._expected()
        agreement = self._agreement(expected, keypoints, np.asarray(areas, np.float64))
        agreement[agreement < self.config.min_oks] = 0
        tracks, poses = linear_sum_assignment(agreement, maximize=True)
        matched = agreement[tracks, poses] > 0
        tracks, poses = tracks[matched], poses[matched]
        ids = np.zeros(len(keypoints), np.int64)
        ids[poses] = self._ids[tracks]
        self._keypoints = expected
        self._unseen += 1
        self._follow(tracks, keypoints[poses], np.asarray(areas, np.float64)[poses])
        new = (ids == 0) & (np.asarray(scores) >= self.config.min_score)
        ids[new] = self._next + np.arange(np.count_nonzero(new))
        self._next += int(np.count_nonzero(new))
        alive = self._unseen <= self.config.patience
        self._ids = np.concatenate([self._ids[alive], ids[new]])
        self._keypoints = np.concatenate([self._keypoints[alive], keypoints[new]])
        self._areas = np.concatenate([self._areas[alive], np.asarray(areas, np.float64)[new]])
        self._velocities = np.concatenate([self._velocities[alive], np.zeros((np.count_nonzero(new), 2))])
        self._unseen = np.concatenate([self._unseen[alive], np.zeros(np.count_nonzero(new), np.int64)])
        return ids

    def _expected(self) -> np.ndarray:
        """(T, K, 3) keypoints of the tracks in the coming frame."""
        expected = self._keypoints.copy()
        if self.config.velocity:
            expected[:, :, :2] += self._velocities[:, None] * (expected[:, :, 2:] > 0)
        return expected

    def _agreement(self, expected: np.ndarray, keypoints: np.ndarray, areas: np.ndarray) -> np.ndarray:
        """(T, N) OKS over the keypoints in common, COCO's with the mean of both areas."""
        both = (expected[:, None, :, 2] > 0) & (keypoints[None, :, :, 2] > 0)  # (T, N, K)
        squared = np.square(expected[:, None, :, :2] - keypoints[None, :, :, :2]).sum(axis=3)
        area = (self._areas[:, None] + areas) / 2
        spread = 2 * area[:, :, None] * np.square(2 * self.config.tolerance * self._sigmas)
        similarity = np.exp(-squared / np.maximum(spread, np.finfo(float).tiny)) * both
        return similarity.sum(axis=2) / np.maximum(both.sum(axis=2), self.config.min_keypoints)

    def _follow(self, tracks: np.ndarray, found: np.ndarray, areas: np.ndarray) -> None:
        """Carry ``tracks`` on to the poses that were found for them; ``self._keypoints`` are the expected ones."""
        before = self._keypoints[tracks]
        seen, known = found[:, :, 2:] > 0, before[:, :, 2:] > 0
        # the velocity so far misses the true one by this, spread over the frames since the person was last found
        missed = _median(found[:, :, :2] - before[:, :, :2], (seen & known)[:, :, 0])
        if self.config.velocity:
            self._velocities[tracks] += (1 - self.config.smoothing) * missed / self._unseen[tracks, None]
        before[:, :, :2] += missed[:, None] * known
        self._keypoints[tracks] = np.where(seen, found, before)
        self._areas[tracks] = areas
        self._unseen[tracks] = 0


def _median(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N, C) medians of (N, K, C) values along K where the (N, K) mask is set; infinity where it is nowhere."""
    ordered = np.sort(np.where(mask[:, :, None], values, np.inf), axis=1)
    count, rows = mask.sum(axis=1), np.arange(len(values))
    return (ordered[rows, (count - 1) // 2] + ordered[rows, count // 2]) / 2
