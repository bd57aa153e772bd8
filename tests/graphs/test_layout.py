"""Positions of keypoints made from statistics: they look like a body and reproduce what they are made of."""

import dataclasses

import numpy as np
import pytest

from graphpose.errors import GraphposeError
from graphpose.graphs.layout import mean_pose, multidimensional_scaling
from graphpose.graphs.statistics import StatisticsAccumulator, shipped_statistics
from graphpose.skeleton import COCO, CROWDPOSE, MPII, SKELETONS, Skeleton


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
@pytest.mark.parametrize("layout", [mean_pose, multidimensional_scaling])
def test_bodies_stand_upright_with_left_on_the_right_of_the_picture(skeleton, layout):
    position = dict(zip(skeleton.keypoints, layout(shipped_statistics(skeleton)), strict=True))
    for side in ("left", "right"):
        heights = [position[f"{side}_{joint}"][1] for joint in ("shoulder", "hip", "knee", "ankle")]
        assert heights == sorted(heights)
    for joint in ("shoulder", "elbow", "hip", "knee", "ankle"):
        assert position[f"left_{joint}"][0] > position[f"right_{joint}"][0]


def test_a_rigid_body_is_found_again():
    rng = np.random.default_rng(0)
    body = rng.normal(size=(17, 2))
    keypoints = np.concatenate((np.tile(body, (30, 1, 1)), 2.0 * (rng.uniform(size=(30, 17, 1)) < 0.6)), axis=2)
    accumulator = StatisticsAccumulator(COCO)
    accumulator.update(keypoints, np.ones(30))
    statistics = accumulator.result()
    for layout in (mean_pose, multidimensional_scaling):
        np.testing.assert_allclose(layout(statistics), body - body.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, MPII])
def test_scaling_keeps_distances_better_than_the_mean_pose(skeleton):
    statistics = shipped_statistics(skeleton)

    def error(position: np.ndarray) -> float:
        distance = np.linalg.norm(position[:, None] - position[None], axis=2)
        return float(np.abs(distance - statistics.mean).mean() / statistics.mean.mean())

    assert error(multidimensional_scaling(statistics)) < error(mean_pose(statistics))


def test_a_pair_never_labelled_together_takes_the_way_over_others():
    skeleton = Skeleton("line", ("a", "b", "c"), ((0, 1), (1, 2)), (0.1, 0.1, 0.1))
    keypoints = np.array([[[0, 0, 2], [0, 1, 2], [0, 0, 0]], [[0, 0, 0], [0, 1, 2], [0, 3, 2]]], float)
    accumulator = StatisticsAccumulator(skeleton)
    accumulator.update(keypoints, np.ones(2))
    position = multidimensional_scaling(accumulator.result())
    np.testing.assert_allclose(position - position[0], [[0, 0], [0, 1], [0, 3]], atol=1e-7)


def test_keypoints_that_nothing_connects_cannot_be_placed():
    statistics = shipped_statistics(COCO)
    count, mean, offset = statistics.count.copy(), statistics.mean.copy(), statistics.offset_mean.copy()
    for array, value in ((count, 0), (mean, np.nan), (offset, np.nan)):
        array[0, 1:] = array[1:, 0] = value
    with pytest.raises(GraphposeError, match="never labelled together with the others"):
        multidimensional_scaling(dataclasses.replace(statistics, count=count, mean=mean, offset_mean=offset))
