"""What the decoder returns: the poses of one image."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass
class Poses:
    """Poses of one image, best first, as arrays over N poses (N may be 0).

    Attributes:
        keypoints: (N, K, 3) float32; x, y in pixels of the image (pixel centres at integers) and the keypoint's
            confidence in (0, 1]; a keypoint that was not found is 0, 0, 0.
        scores: (N,) float32 instance scores in (0, 1], not increasing.
        scales: (N, K) float32; σ_k · sqrt(person area) in pixels as read from the fields, 0 where not found.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    scales: np.ndarray

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def empty(cls, num_keypoints: int) -> Poses:
        """No pose."""
        return cls(
            np.zeros((0, num_keypoints, 3), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, num_keypoints), np.float32),
        )

    def mapped(self, matrix: np.ndarray) -> Poses:
        """The poses through an affine map of the plane.

        Args:
            matrix: (2, 3), for example a batch's ``to_original``.

        Returns:
            Poses in the map's pixels, scales with them; keypoints that were not found stay 0, 0, 0.
        """
        matrix = np.asarray(matrix, np.float64)
        keypoints = self.keypoints.copy()
        found = keypoints[..., 2] > 0
        keypoints[found, :2] = keypoints[found, :2].astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
        factor = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
        return Poses(keypoints, self.scores.copy(), (self.scales * factor).astype(np.float32))
