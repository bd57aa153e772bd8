"""Kinds of poses as a network takes them: files, all persons together, and A_s of kinds that lack a pair."""

import dataclasses

import numpy as np
import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import soft_adjacency
from graphpose.graphs.mode_statistics import (
    mode_adjacencies,
    mode_centre,
    mode_lines,
    mode_name,
    mode_shares,
    pooled_statistics,
    read_modes,
)
from graphpose.graphs.modes import pose_modes
from graphpose.graphs.statistics import StatisticsAccumulator, shipped_statistics
from graphpose.skeleton import COCO, MPII
from tests.graphs.test_modes import STAR, persons


@pytest.fixture(scope="module")
def modes():
    keypoints, scale, _ = persons((50, 30), labelled=0.7)
    return pose_modes(keypoints, scale, STAR, 2)


def test_all_kinds_together_are_the_statistics_of_all_persons(modes):
    keypoints, scale, _ = persons((50, 30), labelled=0.7)
    everybody = StatisticsAccumulator(STAR)
    everybody.update(keypoints, scale)
    whole, pooled = everybody.result(), pooled_statistics(modes.statistics)
    for name in ("mean", "std", "count", "offset_mean", "offset_std"):
        np.testing.assert_allclose(getattr(pooled, name), getattr(whole, name), atol=1e-7, err_msg=name)
    assert pooled.provenance["persons"] == 80


def test_a_pair_that_nobody_has_stays_unknown_and_one_kind_alone_is_itself(modes):
    first, second = modes.statistics
    counts, mean = first.count.copy(), first.mean.copy()
    counts[0, 1] = counts[1, 0] = 0
    mean[0, 1] = mean[1, 0] = np.nan
    gap = dataclasses.replace(first, count=counts, mean=mean)
    assert np.isnan(pooled_statistics([gap, gap]).mean[0, 1])
    assert pooled_statistics([gap, second]).mean[0, 1] == second.mean[0, 1]
    assert pooled_statistics([first]) is first


def test_every_kind_has_its_own_soft_graph_and_takes_what_it_lacks_from_all(modes):
    first, second = modes.statistics
    A = mode_adjacencies(modes.statistics, gamma=0.7)
    assert torch.equal(A, torch.stack([soft_adjacency(first, 0.7), soft_adjacency(second, 0.7)]))
    counts, mean = first.count.copy(), first.mean.copy()
    counts[0, 1:] = counts[1:, 0] = 0
    mean[0, 1:] = mean[1:, 0] = np.nan
    gap = dataclasses.replace(first, count=counts, mean=mean)
    filled = dataclasses.replace(gap, mean=np.where(np.isnan(mean), second.mean, mean))
    torch.testing.assert_close(mode_adjacencies([gap, second], 0.7)[0], soft_adjacency(filled, 0.7))
    with pytest.raises(GraphposeError, match="head and left_hand are never labelled together"):
        mode_adjacencies([gap, gap])


def test_shares_are_those_of_the_persons_and_never_0(modes):
    expected = np.bincount(modes.kind) / 80
    torch.testing.assert_close(mode_shares(modes.statistics), torch.tensor(expected).float())
    nobody = dataclasses.replace(modes.statistics[0], provenance={"persons": 0})
    shares = mode_shares([nobody, modes.statistics[1]])
    assert 0 < shares[0] < 1e-3
    assert shares.sum() == pytest.approx(1)
    assert mode_lines(modes.statistics)[0] == f"kind of poses 1 of 2: {np.bincount(modes.kind)[0]} persons " + (
        f"({100 * expected[0]:.1f} %)"
    )


def test_a_folder_gives_its_kinds_in_the_order_of_their_numbers_with_their_centres(modes, tmp_path):
    for number in (10, 2, 1):
        modes.statistics[number % 2].save(tmp_path / f"kind-{number}.json")
    dataclasses.replace(modes.statistics[0], provenance={}).save(tmp_path / "kind-11.npz")
    (tmp_path / "kinds.png").write_bytes(b"a picture")
    kinds = read_modes(tmp_path)
    assert [mode_name(kind) for kind in kinds] == ["2 of 2", "1 of 2", "1 of 2", "kind-11"]
    np.testing.assert_array_equal(kinds[0].mean, modes.statistics[1].mean)
    np.testing.assert_array_equal(mode_centre(kinds[0]), modes.centres[1])
    assert mode_centre(kinds[3]) is None


def test_what_is_no_folder_of_kinds_is_named(modes, tmp_path):
    with pytest.raises(GraphposeError, match=r"folder of kinds of poses '.*nowhere' does not exist"):
        read_modes(tmp_path / "nowhere")
    with pytest.raises(GraphposeError, match=r"has no file of statistics"):
        read_modes(tmp_path)
    shipped_statistics(COCO).save(tmp_path / "a.json")
    shipped_statistics(MPII).save(tmp_path / "b.json")
    with pytest.raises(GraphposeError, match=r"b.json is of skeleton 'mpii' in head, where kind 'a' is of 'coco'"):
        read_modes(tmp_path)
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(GraphposeError, match=r"b.json is not a statistics file"):
        read_modes(tmp_path)
