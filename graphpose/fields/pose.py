"""What the decoder returns: the poses of one image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton
from graphpose.visualize import draw_poses

if TYPE_CHECKING:
    import pandas


@dataclasses.dataclass
class Poses:
    """Poses of one image, best first, as arrays over N poses (N may be 0).

    Attributes:
        keypoints: (N, K, 3) float32; x, y in pixels of the image (pixel centres at integers) and the keypoint's
            confidence in (0, 1]; a keypoint that was not found is 0, 0, 0. Where poses are completed, it has the place
            that the others let expect, and a confidence that says how exact that is likely to be.
        scores: (N,) float32 instance scores in (0, 1], not increasing.
        scales: (N, K) float32; σ_k · sqrt(person area) in pixels as read from the fields, 0 where not found.
        skeleton: whose keypoints they are; None where it is not known.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    scales: np.ndarray
    skeleton: Skeleton | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def empty(cls, num_keypoints: int, skeleton: Skeleton | None = None) -> Poses:
        """No pose."""
        return cls(
            np.zeros((0, num_keypoints, 3), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, num_keypoints), np.float32),
            skeleton,
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
        return Poses(keypoints, self.scores.copy(), (self.scales * factor).astype(np.float32), self.skeleton)

    @property
    def areas(self) -> np.ndarray:
        """(N,) float64; person areas in pixels² as the fields carry them: the median of what the keypoints' scales say,
        0 where none says it."""
        roots = np.where(self.scales > 0, self.scales / np.array(self._skeleton().sigmas), np.nan)
        known = (self.scales > 0).any(axis=1)
        areas = np.zeros(len(self))
        areas[known] = np.square(np.nanmedian(roots[known], axis=1))
        return areas

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) float32; x, y, width, height around the keypoints found, zeros where there is none."""
        found = self.keypoints[:, :, 2:] > 0
        least = np.where(found, self.keypoints[:, :, :2], np.inf).min(axis=1, initial=np.inf)
        most = np.where(found, self.keypoints[:, :, :2], -np.inf).max(axis=1, initial=-np.inf)
        boxes = np.concatenate([least, most - least], axis=1)
        return np.where(np.isfinite(boxes), boxes, 0).astype(np.float32)

    def selected(
        self, *, min_score: float = 0.0, max_persons: int | None = None, keypoints: Sequence[str] | None = None
    ) -> Poses:
        """The best of the poses, and of these some keypoints.

        Args:
            min_score: weaker poses are left out.
            max_persons: number of poses, at most; the best stay.
            keypoints: names of those that are kept; the others are as not found, and poses without any are left out.

        Raises:
            GraphposeError: a name that the skeleton does not have.
        """
        kept = self.scores >= min_score
        chosen, scales = self.keypoints, self.scales
        if keypoints is not None:
            indices = [self._skeleton().index(name) for name in keypoints]
            others = np.setdiff1d(np.arange(self.keypoints.shape[1]), indices)
            chosen, scales = chosen.copy(), scales.copy()
            chosen[:, others], scales[:, others] = 0, 0
            kept &= (chosen[:, :, 2] > 0).any(axis=1)
        index = np.flatnonzero(kept)[:max_persons]
        return Poses(chosen[index], self.scores[index], scales[index], self.skeleton)

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """Records in COCO's results format, as its evaluation server takes them.

        Args:
            image_id: of the image's record in the annotation file.
            category_id: of the keypoint category.

        Returns:
            One per pose, best first; keypoints flat as x, y, confidence, and 0, 0, 0 where not found.
        """
        flat = self.keypoints.reshape(len(self), 3 * self.keypoints.shape[1]).astype(float).round(3)
        return [
            {"image_id": int(image_id), "category_id": category_id, "keypoints": values.tolist(), "score": float(score)}
            for values, score in zip(flat, self.scores, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: "names" (K) of the keypoints, "keypoints" (N, K, 3), "scores" (N) and "boxes" (N, 4)."""
        return {
            "names": list(self._skeleton().keypoints),
            "keypoints": self.keypoints.tolist(),
            "scores": self.scores.tolist(),
            "boxes": self.boxes.tolist(),
        }

    def to_dataframe(self) -> pandas.DataFrame:
        """A row for each pose: "score", then NAME_x, NAME_y and NAME_confidence of each keypoint, nan where it was not
        found; as the columns of ``graphpose predict --csv``.

        Raises:
            GraphposeError: the package pandas is missing.
        """
        try:
            import pandas
        except ImportError:
            raise GraphposeError("a data frame needs the package 'pandas': pip install pandas") from None
        names = [f"{name}_{value}" for name in self._skeleton().keypoints for value in ("x", "y", "confidence")]
        values = np.where(self.keypoints[:, :, 2:] > 0, self.keypoints, np.nan).reshape(len(self), len(names))
        return pandas.DataFrame(np.column_stack([self.scores, values]), columns=["score", *names])

    def plot(self, image: np.ndarray, *, min_score: float = 0.0, **options: Any) -> np.ndarray:
        """The poses over their image.

        Args:
            image: (H, W, 3) uint8 RGB; not changed.
            min_score: weaker poses are left out.
            options: of :func:`graphpose.visualize.draw_poses`, such as ``colours="persons"`` or ``zoom``.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        return draw_poses(image, self.keypoints[self.scores >= min_score], self._skeleton(), **options)

    def _skeleton(self) -> Skeleton:
        if self.skeleton is None:
            raise GraphposeError("these poses do not say whose skeleton they have; make them with skeleton=…")
        return self.skeleton
