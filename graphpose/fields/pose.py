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
