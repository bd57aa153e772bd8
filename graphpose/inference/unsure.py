"""Thresholds for networks that learned from few photographs: unsure of everything, and judged in sets of two kinds."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from graphpose.data.dataset import PoseDataset
from graphpose.data.matching import match_keypoints
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import Decoder
from graphpose.fields.merging import decode_image
from graphpose.fields.pose import Poses
from graphpose.inference.tune import ImageFields, coordinate_ascent
from graphpose.metrics.coco import coco_results, evaluate_coco
from graphpose.metrics.intervals import SHARES, single_intervals
from graphpose.metrics.results import category_of
from graphpose.skeleton import Skeleton

# Wider than the usual grid: confidences are low, and votes for one keypoint lie far apart.
UNSURE_GRID: dict[str, tuple[float, ...]] = {
    "keypoint_threshold": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
    "limb_threshold": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
    "peak_threshold": (0.01, 0.02, 0.05, 0.1),
    "radius": (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0),
    "radius_min": (0.3, 0.5, 1.0, 1.5),
    "limb_radius": (2.0, 4.0, 6.0, 8.0, 12.0),
    "limb_radius_min": (0.5, 1.0, 2.0, 4.0),
    "limb_slack": (0.05, 0.1, 0.2, 0.3),
    "min_limb_weight": (0.1, 0.25, 0.5, 1.0),
    "full_limb_weight": (2.0, 4.0, 6.0, 10.0),
    "min_split_weight": (1.5, 10.0, 100.0),
    "min_bridge_share": (0.15, 0.3, 0.5, 0.8),
    "use_spread": (False, True),
    "join_alone": (-12.0, -9.0, -7.0, -6.0, -4.0),
    "min_join_probability": (0.2, 0.35, 0.5, 0.7),
    "join_scale_spread": (0.15, 0.25, 0.4, 0.6),
}


@dataclasses.dataclass(frozen=True)
class ScoredPhotographs:
    """Photographs with labels, and what poses in them are scored by.

    Attributes:
        dataset: the photographs.
        complete: everybody is labelled, so that AP means something; otherwise one person an image is.
    """

    dataset: PoseDataset
    complete: bool

    def score(self, poses: Mapping[int, Poses], skeleton: Skeleton) -> float:
        """How well poses fit: AP, or of an incomplete set the sum of two shares, which is at most 2.

        The shares are those of the joints within a tenth of the box, of the best of five poses and of the highest.

        Args:
            poses: by image id, in pixels of the photographs; an image without an entry has none.
            skeleton: of the poses.
        """
        truth = self.dataset.ground_truth()
        if self.complete:
            category = category_of(truth)
            results = [result for image_id, one in poses.items() for result in coco_results(image_id, one, category)]
            return evaluate_coco(truth, results, skeleton)["AP"]
        arrays = {image_id: one.keypoints for image_id, one in poses.items()}
        figures, _ = single_intervals(truth, arrays, match_keypoints(self.dataset.skeleton, skeleton), resamples=0)
        return sum(figures[f"within {SHARES[0]} of the box, {pose}"][0] for pose in ("best of five", "highest"))


@dataclasses.dataclass(frozen=True)
class UnsureThresholds:
    """What :func:`choose_unsure_thresholds` found.

    Attributes:
        config: the best settings; says whether fragments were joined.
        score: mean over the networks of the sum of all sets' scores with them.
        before: the same with the settings that the search started from.
        trials: how many settings were tried.
    """

    config: DecoderConfig
    score: float
    before: float
    trials: int


def choose_unsure_thresholds(
    fields: Sequence[Sequence[Sequence[ImageFields]]],
    sets: Sequence[ScoredPhotographs],
    start: Decoder,
    rounds: int,
    grid: Mapping[str, Iterable[float]] = UNSURE_GRID,
) -> UnsureThresholds:
    """Thresholds with the highest sum of the sets' scores, the same for several networks.

    Args:
        fields: of each network, of each set, of its images that could be read; networks of one skeleton and stride.
        sets: training photographs, or others that are not reported on.
        start: decoder of the networks with the thresholds that the search starts from.
        rounds: passes over the grid, at most.
        grid: settings and the values to try.

    Raises:
        GraphposeError: there are no fields.
    """
    images = [image for of_network in fields for of_set in of_network for image in of_set]
    skeleton = start.spec.skeleton

    def score(poses: list[Poses]) -> float:
        total, rest = 0.0, iter(zip(images, poses, strict=True))
        for of_network in fields:
            for one, of_set in zip(sets, of_network, strict=True):
                own = itertools.islice(rest, len(of_set))
                total += one.score({image.image_id: pose.mapped(image.to_original) for image, pose in own}, skeleton)
        return total / len(fields)

    views = [(image.views, image.size) for image in images]
    before = score([decode_image(start, *image) for image in views])
    config, best, trials = coordinate_ascent(views, score, start.spec, start.statistics, start.config, grid, rounds)
    config = dataclasses.replace(config, join_fragments=start.joins)
    return UnsureThresholds(config, best, before, len(trials))
