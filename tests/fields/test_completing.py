"""Missing keypoints, told by hand-worked Gaussians and by a second implementation of the conditional mean."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.fields import completing
from graphpose.fields.completing import FOUND_SPREAD, STANDING, PoseCompletion
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import Decoder, build_decoder
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.fusion import View
from graphpose.fields.pose import Poses
from graphpose.fields.spec import FieldSpec
from graphpose.graphs.statistics import PoseStatistics, StatisticsAccumulator, shipped_statistics
from graphpose.inference.tune import coordinate_ascent
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton


@pytest.fixture(autouse=True)
def few_keypoints_are_enough(monkeypatch):
    monkeypatch.setattr(completing, "MIN_FOUND", 1)


CHAIN = Skeleton("chain", ("a", "b", "c"), ((0, 1), (1, 2)), (0.05, 0.05, 0.1))
SIZE = 100.0  # sqrt(area) of all persons here, pixels
WIDE = (1000, 1000)


def statistics_of(covariance: np.ndarray, shape: np.ndarray, persons: int = 4000) -> PoseStatistics:
    """Statistics of persons around ``shape`` (K, 2) whose x and y both have ``covariance`` (K, K)."""
    rng = np.random.default_rng(0)
    noise = rng.multivariate_normal(np.zeros(len(shape)), covariance, (persons, 2)).transpose(0, 2, 1)
    keypoints = np.concatenate([(shape + noise) * SIZE, np.full((persons, len(shape), 1), 2)], axis=2)
    accumulator = StatisticsAccumulator(CHAIN, "sqrt_area")
    accumulator.update(keypoints, np.full(persons, SIZE))
    return accumulator.result()


def pose(*keypoints: tuple[float, float, float]) -> Poses:
    array = np.array([keypoints], np.float32)
    scales = (np.array(CHAIN.sigmas) * SIZE * (array[:, :, 2] > 0)).astype(np.float32)
    return Poses(array, np.float32([0.4]), scales, CHAIN)


SHAPE = np.array([[0.0, 0.0], [0.5, 0.0], [1.0, 0.2]])
LOOSE = np.diag([0.04, 0.01, 0.09])


def test_a_missing_keypoint_lies_where_the_conditional_mean_is():
    statistics = statistics_of(LOOSE, SHAPE)
    told = PoseCompletion(statistics, CHAIN)(pose((200, 300, 0.8), (0, 0, 0), (320, 310, 0.6)), WIDE)
    prior = LOOSE + STANDING**2
    seen = [0, 2]
    gain = np.linalg.inv(prior[np.ix_(seen, seen)] + FOUND_SPREAD**2 * np.eye(2)) @ prior[seen, 1]
    for axis, places in enumerate(((2.0, 3.2), (3.0, 3.1))):
        expected = SHAPE[1, axis] + (np.array(places) - SHAPE[seen, axis]) @ gain
        assert told.keypoints[0, 1, axis] == pytest.approx(SIZE * expected, abs=2)  # 4,000 persons' sampling error
    variance = prior[1, 1] - prior[1, seen] @ gain
    similarity = 1 / (1 + variance / 0.1**2)
    assert told.keypoints[0, 1, 2] == pytest.approx(0.7 * similarity, rel=0.05)
    assert told.scales[0, 1] == pytest.approx(5)
    np.testing.assert_array_equal(told.keypoints[0, [0, 2]], np.float32([[200, 300, 0.8], [320, 310, 0.6]]))
    np.testing.assert_array_equal(told.scores, np.float32([0.4]))


def test_the_expected_similarity_is_that_of_persons_drawn_from_the_statistics():
    statistics = statistics_of(LOOSE, SHAPE)
    rng = np.random.default_rng(1)
    noise = rng.multivariate_normal(np.zeros(3), LOOSE, (2000, 2)).transpose(0, 2, 1)
    truth = ((SHAPE + noise) * SIZE + 400).astype(np.float32)
    seen = truth + rng.normal(0, FOUND_SPREAD * SIZE, truth.shape)
    keypoints = np.concatenate([seen, np.ones((2000, 3, 1))], axis=2).astype(np.float32)
    keypoints[:, 1] = 0
    scales = np.tile(np.float32(CHAIN.sigmas) * SIZE, (2000, 1)) * (keypoints[:, :, 2] > 0)
    told = PoseCompletion(statistics, CHAIN)(Poses(keypoints, np.ones(2000, np.float32), scales, CHAIN), WIDE)
    squared = np.square(told.keypoints[:, 1, :2] - truth[:, 1]).sum(axis=1)
    similarity = np.exp(-squared / (2 * (2 * 0.05 * SIZE) ** 2))
    assert similarity.mean() == pytest.approx(told.keypoints[:, 1, 2].mean(), abs=0.02)


def test_the_completion_moves_with_the_person():
    completion = PoseCompletion(statistics_of(LOOSE, SHAPE), CHAIN)
    here = completion(pose((200, 300, 0.8), (0, 0, 0), (320, 310, 0.6)), WIDE).keypoints[0, 1]
    there = completion(pose((450, 250, 0.8), (0, 0, 0), (570, 260, 0.6)), WIDE).keypoints[0, 1]
    np.testing.assert_allclose(
        there - here, [250, -50, 0], atol=0.05
    )  # a person stands anywhere, but for 1 / STANDING²


def test_what_lies_outside_of_the_image_is_not_told_nor_what_has_no_size():
    completion = PoseCompletion(statistics_of(LOOSE, SHAPE), CHAIN)
    cut = pose((50, 10, 0.8), (80, 10, 0.6), (0, 0, 0))  # c is 50 pixels to the right of b
    assert completion(cut, (100, 200)).keypoints[0, 2, 2] > 0
    np.testing.assert_array_equal(completion(cut, (100, 110)).keypoints, cut.keypoints)
    cut.scales[:] = 0
    np.testing.assert_array_equal(completion(cut, (100, 200)).keypoints, cut.keypoints)
    assert len(completion(Poses.empty(3, CHAIN), (100, 200))) == 0


def never_together(*pairs: tuple[int, int]) -> PoseStatistics:
    statistics = statistics_of(LOOSE, SHAPE)
    arrays = {name: getattr(statistics, name).astype(float) for name in ("mean", "std", "offset_mean", "offset_std")}
    for array in arrays.values():
        for i, j in pairs:
            array[i, j] = array[j, i] = np.nan
    return dataclasses.replace(statistics, **arrays)


def test_keypoints_never_labelled_together_tell_each_other_over_a_third():
    known, through = (PoseCompletion(s, CHAIN) for s in (statistics_of(LOOSE, SHAPE), never_together((0, 2))))
    one = pose((200, 300, 0.8), (0, 0, 0), (0, 0, 0))
    np.testing.assert_allclose(through(one, WIDE).keypoints[0, :, :2], known(one, WIDE).keypoints[0, :, :2], atol=1)
    # the variance of c − a is that of b − a and c − b together, which counts that of b twice
    assert through(one, WIDE).keypoints[0, 2, 2] < known(one, WIDE).keypoints[0, 2, 2]


def test_keypoints_that_nothing_relates_stay_missing():
    apart = PoseCompletion(never_together((0, 2), (1, 2)), CHAIN)
    told = apart(pose((200, 300, 0.8), (0, 0, 0), (0, 0, 0)), WIDE).keypoints[0]
    assert told[1, 2] > 0
    np.testing.assert_array_equal(told[2], 0)


def test_statistics_that_do_not_fit_are_refused():
    with pytest.raises(GraphposeError, match="do not fit skeleton 'crowdpose'"):
        PoseCompletion(shipped_statistics(COCO), CROWDPOSE)
    heads = dataclasses.replace(shipped_statistics(COCO), scale_rule="head")
    with pytest.raises(GraphposeError, match="completing poses needs 'sqrt_area'"):
        PoseCompletion(heads, COCO)
    with pytest.raises(GraphposeError, match="complete_poses=True needs statistics"):
        Decoder(FieldSpec(CHAIN, 8), DecoderConfig(complete_poses=True))


def test_fewer_than_three_keypoints_are_no_person(monkeypatch):
    monkeypatch.undo()
    completion = PoseCompletion(statistics_of(LOOSE, SHAPE), CHAIN)
    two = pose((200, 300, 0.8), (0, 0, 0), (320, 310, 0.6))
    np.testing.assert_array_equal(completion(two, WIDE).keypoints, two.keypoints)


def test_completing_alone_joins_nothing_that_is_not_joined_without_it():
    spec = FieldSpec(MPII, 8)  # its statistics are in head sizes
    assert not build_decoder(spec, DecoderConfig()).joins
    assert not build_decoder(spec, DecoderConfig(complete_poses=True)).joins
    assert build_decoder(spec, DecoderConfig(complete_poses=True, join_fragments=True)).joins
    assert build_decoder(FieldSpec(COCO, 8), DecoderConfig(complete_poses=True)).joins


def test_tuning_goes_on_where_poses_are_completed_and_not_joined():
    start = build_decoder(FieldSpec(COCO, 8), DecoderConfig(complete_poses=True, join_fragments=False))
    fields = [View(torch.zeros(17, 5, 9, 9), torch.zeros(19, 7, 9, 9))]
    grid = {"join_alone": (-9.0,), "complete_poses": (False, True), "radius": (1.0,)}
    _, _, trials = coordinate_ascent(
        [(fields,)], lambda poses: 0.0, start.spec, start.statistics, start.config, grid, rounds=1
    )
    assert [(trial.setting, trial.value) for trial in trials] == [("complete_poses", False), ("radius", 1.0)]


@pytest.mark.parametrize("join", [None, False])
def test_the_decoder_completes_where_that_is_asked_for(join):
    mean = shipped_statistics(COCO).offset_mean[0]  # from the nose
    places = 150 + 80 * mean
    keypoints = np.concatenate([places, np.full((17, 1), 2)], axis=1)
    keypoints[[9, 15]] = 0  # left wrist, left ankle
    spec = FieldSpec(COCO, 8)
    person = torch.tensor(keypoints, dtype=torch.float32)[None, None]
    fields = perfect_fields(encode(person, torch.tensor([[80.0]]), spec, (401, 401)))
    pif, paf = (field[0].numpy() for field in fields)
    plain = build_decoder(spec, DecoderConfig(join_fragments=join))(pif, paf)
    whole = build_decoder(spec, DecoderConfig(join_fragments=join, complete_poses=True))(pif, paf)
    assert (plain.keypoints[0, [9, 15], 2] == 0).all()
    assert (whole.keypoints[0, [9, 15], 2] > 0).all()
    assert (whole.keypoints[0, [9, 15], 2] < 0.8).all()  # found ones have 1
    np.testing.assert_allclose(whole.keypoints[0, [9, 15], :2], places[[9, 15]], atol=8)
    np.testing.assert_array_equal(whole.scores, plain.scores)
