"""Eq. 5: the figures of the real data sets, the laws that M_d obeys, and bad input."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.table import Annotations
from graphpose.errors import GraphposeError
from graphpose.graphs.statistics import (
    PoseStatistics,
    StatisticsAccumulator,
    load_statistics,
    pose_statistics,
    shipped_statistics,
)
from graphpose.skeleton import COCO, CROWDPOSE, MPII, SKELETONS, Skeleton

ARRAYS = ("mean", "std", "count", "offset_mean", "offset_std")


def persons(seed: int, number: int, skeleton: Skeleton = COCO, labelled: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Random keypoints (N, K, 3) around random places, and scales (N,)."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(20, 200, number)
    keypoints = np.zeros((number, skeleton.num_keypoints, 3))
    keypoints[:, :, :2] = rng.normal(size=(number, skeleton.num_keypoints, 2)) * scale[:, None, None]
    keypoints[:, :, :2] += rng.uniform(0, 640, (number, 1, 2))
    keypoints[:, :, 2] = rng.integers(1, 3, keypoints.shape[:2]) * (rng.uniform(size=keypoints.shape[:2]) < labelled)
    return keypoints, scale


def accumulate(keypoints: np.ndarray, scale: np.ndarray, skeleton: Skeleton = COCO) -> PoseStatistics:
    accumulator = StatisticsAccumulator(skeleton)
    accumulator.update(keypoints, scale)
    return accumulator.result()


def assert_close(name: str, actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-9) -> None:
    """Deviations as variances: the root of a zero variance's rounding error is not small."""
    if name.endswith("std"):
        actual, expected = actual**2, expected**2
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_same(a: PoseStatistics, b: PoseStatistics, tolerance: float = 1e-9) -> None:
    for name in ARRAYS:
        assert_close(name, getattr(a, name), getattr(b, name), tolerance)


def plain_loop(keypoints: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Eq. 5 written out in Python floats."""
    K = keypoints.shape[1]
    mean, std, count = (np.full((K, K), math.nan) for _ in range(3))
    offset_mean, offset_std = np.full((K, K, 2), math.nan), np.full((K, K, 2), math.nan)
    for i in range(K):
        for j in range(K):
            both = [n for n in range(len(keypoints)) if keypoints[n, i, 2] > 0 and keypoints[n, j, 2] > 0]
            count[i, j] = len(both)
            if not both:
                continue
            x = [(float(keypoints[n, j, 0]) - float(keypoints[n, i, 0])) / float(scale[n]) for n in both]
            y = [(float(keypoints[n, j, 1]) - float(keypoints[n, i, 1])) / float(scale[n]) for n in both]
            d = [math.sqrt(a * a + b * b) for a, b in zip(x, y, strict=True)]
            for values, means, deviations in (
                (d, mean, std),
                (x, offset_mean[:, :, 0], offset_std[:, :, 0]),
                (y, offset_mean[:, :, 1], offset_std[:, :, 1]),
            ):
                means[i, j] = math.fsum(values) / len(values)
                deviations[i, j] = math.sqrt(math.fsum((v - means[i, j]) ** 2 for v in values) / len(values))
    np.fill_diagonal(mean, 0)
    return {"mean": mean, "std": std, "count": count, "offset_mean": offset_mean, "offset_std": offset_std}


@pytest.fixture(scope="module")
def train2017(data_root) -> Annotations:
    return read_annotations(data_root / "coco" / "annotations" / "person_keypoints_train2017.json.gz")


@pytest.fixture(scope="module")
def coco_val(data_root) -> Annotations:
    return read_annotations(data_root / "coco" / "annotations" / "person_keypoints_val2017.json.gz")


@pytest.mark.slow
def test_distances_of_coco_train2017_are_those_of_the_paper_s_prior(train2017):
    statistics = pose_statistics(train2017).result()
    expected = {
        ("nose", "left_eye"): 0.087,
        ("left_shoulder", "right_shoulder"): 0.442,
        ("left_wrist", "left_elbow"): 0.317,
        ("nose", "left_ankle"): 1.650,
    }
    for (a, b), distance in expected.items():
        assert statistics.mean[COCO.index(a), COCO.index(b)] == pytest.approx(distance, abs=1e-3)
    assert statistics.provenance["persons"] == 149_813
    assert_same(statistics, shipped_statistics(COCO), 1e-6)


@pytest.mark.parametrize(
    ("skeleton", "file"), [(CROWDPOSE, "crowdpose/crowdpose_val.json"), (MPII, "mpii/mpii_valid.h5")]
)
def test_shipped_statistics_are_those_of_their_files(data_root, skeleton, file):
    statistics = pose_statistics(read_annotations(data_root / file)).result()
    assert statistics.scale_rule == skeleton.scale_rule
    assert_same(statistics, shipped_statistics(skeleton), 1e-6)


def test_real_annotations_give_what_a_plain_float64_loop_gives(coco_val):
    sample = coco_val.select(np.flatnonzero(coco_val.labelled)[::40])
    statistics = pose_statistics(sample).result()
    for name, expected in plain_loop(sample.keypoints, sample.scales("sqrt_area")).items():
        assert_close(name, getattr(statistics, name), expected)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_random_persons_give_what_a_plain_float64_loop_gives(skeleton):
    keypoints, scale = persons(1, 60, skeleton, labelled=0.5)
    statistics = accumulate(keypoints, scale, skeleton)
    for name, expected in plain_loop(keypoints, scale).items():
        assert_close(name, getattr(statistics, name), expected)


def test_a_triangle_by_hand():
    skeleton = Skeleton("triangle", ("a", "b", "c"), ((0, 1),), (0.1, 0.1, 0.1))
    keypoints = np.array([[[0, 0, 2], [3, 4, 1], [0, 0, 0]], [[10, 10, 2], [10, 20, 2], [20, 10, 2]]])
    statistics = accumulate(keypoints, np.array([1.0, 10.0]), skeleton)
    np.testing.assert_allclose(statistics.mean, [[0, 3, 1], [3, 0, math.sqrt(2)], [1, math.sqrt(2), 0]])
    np.testing.assert_allclose(statistics.std, [[0, 2, 0], [2, 0, 0], [0, 0, 0]], atol=1e-7)
    assert statistics.count.tolist() == [[2, 2, 1], [2, 2, 1], [1, 1, 1]]
    np.testing.assert_allclose(statistics.offset_mean[0, 1], [1.5, 2.5])
    np.testing.assert_allclose(statistics.offset_std[0, 1], [1.5, 1.5])


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_means_are_symmetric_with_zero_diagonal_and_offsets_antisymmetric(seed, number):
    statistics = accumulate(*persons(seed, number + 3))
    np.testing.assert_array_equal(statistics.mean, statistics.mean.T)
    assert_close("std", statistics.std, statistics.std.T)
    np.testing.assert_array_equal(np.diag(statistics.mean), 0)
    np.testing.assert_array_equal(statistics.offset_mean, -statistics.offset_mean.transpose(1, 0, 2))
    # A mean of lengths is at least the length of the mean.
    length = np.linalg.norm(statistics.offset_mean, axis=2)
    assert (np.isnan(length) | (length <= statistics.mean + 1e-12)).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
@settings(max_examples=25, deadline=None)
def test_scaling_and_shifting_an_image_change_nothing(seed, zoom, dx, dy):
    keypoints, scale = persons(seed, 20)
    moved = keypoints.copy()
    moved[:, :, :2] = moved[:, :, :2] * zoom + (dx, dy)
    assert_same(accumulate(keypoints, scale), accumulate(moved, scale * zoom), 1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from([COCO, CROWDPOSE, MPII]))
@settings(max_examples=15, deadline=None)
def test_mirrored_persons_give_the_flipped_matrix(seed, skeleton):
    keypoints, scale = persons(seed, 20, skeleton)
    flip = list(skeleton.flip)
    mirrored = keypoints[:, flip]
    mirrored[:, :, 0] = 639 - mirrored[:, :, 0]
    a, b = accumulate(keypoints, scale, skeleton), accumulate(mirrored, scale, skeleton)
    np.testing.assert_allclose(b.mean, a.mean[np.ix_(flip, flip)], atol=1e-9)
    np.testing.assert_allclose(b.offset_mean, a.offset_mean[np.ix_(flip, flip)] * (-1, 1), atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.permutations(range(17)))
@settings(max_examples=15, deadline=None)
def test_relabelling_keypoints_relabels_the_matrix(seed, order):
    keypoints, scale = persons(seed, 20)
    relabelled = Skeleton("relabelled", tuple(COCO.keypoints[k] for k in order), (), (0.1,) * 17)
    a, b = accumulate(keypoints, scale), accumulate(keypoints[:, order], scale, relabelled)
    for name in ARRAYS:
        assert_close(name, getattr(b, name), getattr(a, name)[np.ix_(order, order)])


@given(st.integers(0, 2**32 - 1), st.integers(1, 6000))
@settings(max_examples=10, deadline=None)
def test_shards_merge_to_the_whole(seed, cut):
    keypoints, scale = persons(seed, 6000)
    first, second = StatisticsAccumulator(COCO), StatisticsAccumulator(COCO)
    first.update(keypoints[:cut], scale[:cut])
    second.update(keypoints[cut:], scale[cut:])
    first.merge(second)
    assert_same(first.result(), accumulate(keypoints, scale))
    assert first.persons == 6000


def test_float32_keypoints_are_summed_in_float64():
    keypoints, scale = persons(3, 5000)
    keypoints[:, :, :2] = np.round(keypoints[:, :, :2])
    assert_same(accumulate(keypoints.astype(np.float32), scale), accumulate(keypoints, scale), 1e-12)


def test_coordinates_of_unlabelled_keypoints_are_not_looked_at():
    keypoints, scale = persons(4, 30)
    wild = keypoints.copy()
    wild[wild[:, :, 2] == 0, :2] = math.nan
    assert_same(accumulate(keypoints, scale), accumulate(wild, scale), 0)


def test_a_pair_never_labelled_together_has_count_zero_and_no_mean():
    keypoints, scale = persons(5, 40, labelled=1)
    keypoints[:20, 0, 2] = 0
    keypoints[20:, 16, 2] = 0
    statistics = accumulate(keypoints, scale)
    assert statistics.count[0, 16] == 0
    for name in ("mean", "std", "offset_mean", "offset_std"):
        assert np.isnan(getattr(statistics, name)[0, 16]).all()
        assert np.isfinite(getattr(statistics, name)[0, 15]).all()


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_person_without_scale_is_refused_and_changes_nothing(scale):
    keypoints, scales = persons(6, 10)
    accumulator = StatisticsAccumulator(COCO)
    accumulator.update(keypoints, scales)
    before = accumulator.result()
    scales[3] = scale
    with pytest.raises(GraphposeError, match="person 3 has scale"):
        accumulator.update(keypoints, scales)
    assert_same(accumulator.result(), before, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_labelled_keypoint_that_is_not_finite_is_refused(value):
    keypoints, scale = persons(7, 10, labelled=1)
    keypoints[4, 2, 1] = value
    with pytest.raises(GraphposeError, match="person 4 has a labelled keypoint that is not finite"):
        accumulate(keypoints, scale)
    keypoints[4, 2] = (1, 1, math.nan)
    with pytest.raises(GraphposeError, match="person 4"):
        accumulate(keypoints, scale)


def test_another_number_of_keypoints_than_the_skeleton_s_is_refused():
    with pytest.raises(GraphposeError, match=r"\(5, 14, 3\).*needs \(N, 17, 3\)"):
        accumulate(*persons(8, 5, CROWDPOSE), COCO)


def test_nobody_gives_no_statistics():
    with pytest.raises(GraphposeError, match="none of 0 persons has two labelled keypoints"):
        StatisticsAccumulator(COCO).result()
    keypoints, scale = persons(9, 5)
    keypoints[:, 1:, 2] = 0
    with pytest.raises(GraphposeError, match="none of 5 persons"):
        accumulate(keypoints, scale)


def test_shards_of_different_skeletons_or_scales_do_not_merge():
    with pytest.raises(GraphposeError, match="'coco' in sqrt_area cannot be merged with those of 'crowdpose'"):
        StatisticsAccumulator(COCO).merge(StatisticsAccumulator(CROWDPOSE))
    with pytest.raises(GraphposeError, match="in sqrt_area cannot be merged with those of 'coco' in bbox_diagonal"):
        StatisticsAccumulator(COCO).merge(StatisticsAccumulator(COCO, "bbox_diagonal"))


def test_crowds_and_unlabelled_persons_do_not_count(coco_val):
    counted = coco_val.select(np.arange(300))
    both = coco_val.select(np.arange(600))
    both.iscrowd[300:] = True
    assert_same(pose_statistics(both).result(), pose_statistics(counted).result(), 1e-12)
    assert pose_statistics(both).persons == int(counted.labelled.sum())


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_saved_statistics_load_exactly(tmp_path, suffix):
    keypoints, scale = persons(10, 40, labelled=0.2)
    accumulator = StatisticsAccumulator(COCO)
    accumulator.update(keypoints, scale)
    statistics = accumulator.result({"files": {"a.json": "0"}})
    assert np.isnan(statistics.mean).any() or statistics.count.min() > 0
    statistics.save(tmp_path / f"s.{suffix}")
    loaded = load_statistics(tmp_path / f"s.{suffix}")
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(statistics, name))
    assert (loaded.keypoints, loaded.scale_rule) == (statistics.keypoints, statistics.scale_rule)
    assert loaded.provenance == {"files": {"a.json": "0"}, "persons": 40}


def test_a_file_of_pairs_never_labelled_together_is_valid_json(tmp_path):
    keypoints, scale = persons(11, 3, labelled=1)
    keypoints[:, 0, 2] = 0
    accumulate(keypoints, scale).save(tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text(), parse_constant=pytest.fail)["mean"][0][1] is None
    assert np.isnan(load_statistics(tmp_path / "s.json").mean[0, 1])


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_every_built_in_skeleton_has_shipped_statistics_with_provenance(skeleton):
    statistics = shipped_statistics(skeleton)
    assert statistics.keypoints == skeleton.keypoints
    assert statistics.scale_rule == skeleton.scale_rule
    assert np.isfinite(statistics.mean).all()
    assert statistics.count.min() > 100
    assert {"files", "persons", "computed_by", "note"} <= statistics.provenance.keys()
    assert load_statistics(skeleton.name) is statistics
    with pytest.raises(ValueError, match="read-only"):
        statistics.mean[0, 1] = 0


def test_a_skeleton_without_shipped_statistics_is_told_how_to_compute_them():
    stranger = Skeleton("hand", ("wrist", "thumb"), ((0, 1),), (0.1, 0.1))
    with pytest.raises(GraphposeError, match=r"no statistics are shipped for skeleton 'hand'.*distance_statistics.py"):
        shipped_statistics(stranger)
    renamed = dataclasses.replace(COCO, keypoints=COCO.keypoints[::-1])
    with pytest.raises(GraphposeError, match="no statistics are shipped"):
        shipped_statistics(renamed)
    with pytest.raises(
        GraphposeError, match=r"statistics of skeleton 'coco' \(17 keypoints\) do not fit skeleton 'hand'"
    ):
        shipped_statistics(COCO).require(stranger)


def test_what_is_no_statistics_file_is_refused(tmp_path):
    with pytest.raises(GraphposeError, match="'nothing' is neither a statistics file nor one of coco, crowdpose, mpii"):
        load_statistics("nothing")
    for name, text in (("a.json", "{}"), ("b.json", "not json"), ("c.npz", "not a zip"), ("d.json", "[]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(GraphposeError, match=f"{name} is not a statistics file"):
            load_statistics(tmp_path / name)
    values = json.loads((tmp_path / "a.json").read_text())
    shipped_statistics(COCO).save(tmp_path / "e.json")
    values = json.loads((tmp_path / "e.json").read_text())
    values["std"] = values["std"][:-1]
    (tmp_path / "e.json").write_text(json.dumps(values))
    with pytest.raises(GraphposeError, match=r"'std' has shape \(16, 17\), not \(17, 17\)"):
        load_statistics(tmp_path / "e.json")
    with pytest.raises(GraphposeError, match=r"must end in \.npz or \.json"):
        shipped_statistics(COCO).save(tmp_path / "e.txt")


@pytest.mark.parametrize("labelled", [0.1, 0.9])  # few labels leave pairs without any distance
def test_plain_values_are_json_and_come_back_exactly(labelled):
    statistics = accumulate(*persons(3, 6, labelled=labelled))
    text = json.dumps(statistics.to_dict(), allow_nan=False)
    back = PoseStatistics.from_dict(json.loads(text))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(back, name), getattr(statistics, name), err_msg=name)
    assert (back.keypoints, back.scale_rule, back.provenance) == (COCO.keypoints, "sqrt_area", {"persons": 6})


def test_head_sizes_are_a_known_share_of_the_root_of_mpii_s_areas():
    heads = shipped_statistics(MPII)
    areas = heads.in_sqrt_area()
    assert areas.scale_rule == "sqrt_area"
    np.testing.assert_allclose(areas.mean * 3.6, heads.mean)
    np.testing.assert_array_equal(areas.count, heads.count)
    assert shipped_statistics(COCO).in_sqrt_area() is shipped_statistics(COCO)
    assert dataclasses.replace(heads, scale_rule="bbox_diagonal").in_sqrt_area() is None
