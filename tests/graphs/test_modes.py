"""Kinds of poses: made kinds are found, mirrored and with gaps, and one kind is Eq. 5 itself."""

import numpy as np
import pytest

from graphpose.errors import GraphposeError
from graphpose.graphs.modes import named_modes, nearest_modes, pose_modes
from graphpose.graphs.statistics import StatisticsAccumulator
from graphpose.skeleton import Skeleton

STAR = Skeleton("star", ("head", "left_hand", "right_hand", "tail"), ((0, 1), (0, 2), (0, 3)), (0.1,) * 4)
STANDING = np.array([[0.0, -1], [-0.5, 0], [0.5, 0], [0, 1]])
WAVING = np.array([[0.0, -1], [-0.6, -1.5], [0.5, 0], [0, 1]])


def persons(counts, *, mirrored: bool = False, labelled: float = 1.0, seed: int = 0):
    """Persons of both kinds anywhere in their images: keypoints (N, 4, 3), scales (N,), and of which kind each is."""
    rng = np.random.default_rng(seed)
    poses = np.concatenate([np.repeat(pose[None], n, 0) for pose, n in zip((STANDING, WAVING), counts, strict=True)])
    if mirrored:
        turned = rng.random(len(poses)) < 0.5
        poses[turned] = poses[turned][:, list(STAR.flip)] * [-1, 1]
    poses = poses + rng.normal(0, 0.03, poses.shape)
    scale = rng.uniform(20, 200, len(poses))
    xy = poses * scale[:, None, None] + rng.uniform(0, 500, (len(poses), 1, 2))
    visible = 2 * (rng.random(poses.shape[:2]) < labelled)
    return np.concatenate([xy, visible[:, :, None]], axis=2), scale, np.repeat([0, 1], counts)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_kinds_that_were_made_are_found_wherever_how_large_and_mirrored_they_are(mirrored, seed):
    keypoints, scale, kind = persons((60, 30), mirrored=mirrored, seed=seed)
    modes = pose_modes(keypoints, scale, STAR, 2, seed=seed)
    np.testing.assert_array_equal(modes.kind, kind)
    assert modes.spread == pytest.approx(0.03 * np.sqrt(2 * 3 / 4), rel=0.2)  # of eight numbers the shift takes two
    distance = np.linalg.norm(modes.centres[1][:, None] - modes.centres[1], axis=2)
    np.testing.assert_allclose(distance, np.linalg.norm(WAVING[:, None] - WAVING, axis=2)[np.ix_(*[
        list(STAR.flip) if np.linalg.norm(modes.centres[1][1]) < np.linalg.norm(modes.centres[1][2]) else range(4)
    ] * 2)], atol=0.05)  # fmt: skip
    waving = modes.statistics[1].mean  # of persons as they stand: the raised hand is either, where both occur
    assert (abs(waving[0, 1] - waving[0, 2]) < 0.15) == mirrored


def test_poses_with_gaps_go_where_what_they_have_fits():
    keypoints, scale, kind = persons((200, 100), labelled=0.8)
    complete = (keypoints[:, :, 2] > 0).all(1)
    modes = pose_modes(keypoints, scale, STAR, 2)
    np.testing.assert_array_equal(modes.kind[complete], kind[complete])


def test_kinds_are_a_partition_and_one_kind_is_eq_5():
    keypoints, scale, _ = persons((50, 50), labelled=0.6)
    everybody = StatisticsAccumulator(STAR)
    everybody.update(keypoints, scale)
    whole = everybody.result()
    (one,) = pose_modes(keypoints, scale, STAR, 1).statistics
    np.testing.assert_array_equal(one.mean, whole.mean)
    parts = pose_modes(keypoints, scale, STAR, 3).statistics
    np.testing.assert_array_equal(sum(part.count for part in parts), whole.count)
    total = sum(np.nan_to_num(part.mean) * part.count for part in parts)
    np.testing.assert_allclose(total, np.nan_to_num(whole.mean) * whole.count)


def test_more_kinds_than_poses_are_refused():
    keypoints, scale, _ = persons((2, 1))
    keypoints[0, 1:, 2] = 0
    with pytest.raises(GraphposeError, match="3 kinds of 2 poses with two labelled keypoints; 1 to 2 can be found"):
        pose_modes(keypoints, scale, STAR, 3)


def test_persons_who_are_further_are_of_the_kind_that_found_persons_of_their_shape_are_of():
    keypoints, scale, _ = persons((60, 30), mirrored=True, labelled=0.9)
    modes = pose_modes(keypoints, scale, STAR, 2)
    np.testing.assert_array_equal(nearest_modes(keypoints, scale, STAR, modes.centres), modes.kind)
    more, their_scale, kind = persons((20, 20), mirrored=True, seed=9)
    np.testing.assert_array_equal(nearest_modes(3 * more, 3 * their_scale, STAR, modes.centres), kind)


def test_kinds_by_what_is_known_of_persons_have_their_names_and_statistics():
    keypoints, scale, kind = persons((60, 30))
    labels = ["standing" if one == 0 else "waving" for one in kind]
    labels[0], labels[1], labels[2] = "", "rare", "rare"
    modes = named_modes(keypoints, scale, STAR, labels, least=3)
    assert modes.names == ("standing", "waving", "other")
    np.testing.assert_array_equal(modes.kind, [2, 2, 2, *[0] * 57, *[1] * 30])
    for number, statistics in enumerate(modes.statistics):
        alone = StatisticsAccumulator(STAR)
        alone.update(keypoints[modes.kind == number], scale[modes.kind == number])
        np.testing.assert_array_equal(statistics.mean, alone.result().mean)
        assert statistics.provenance["kind"] == modes.names[number]
        assert "centre" not in statistics.provenance  # who is of which is not to be seen
    assert np.linalg.norm(modes.centres[0] - (STANDING - STANDING.mean(0)), axis=1).max() < 0.05
    assert named_modes(keypoints, scale, STAR, labels, least=1).names == ("standing", "waving", "rare", "other")


def test_a_kind_of_single_keypoints_is_named():
    keypoints, scale, kind = persons((5, 5))
    keypoints[kind == 1, 1:, 2] = 0
    with pytest.raises(GraphposeError, match=r"nobody of kind 'b' \(5 persons\) has two labelled keypoints"):
        named_modes(keypoints, scale, STAR, ["ab"[one] for one in kind])
