"""Subsets of annotations by visibility, size and crowdedness."""

from pathlib import Path

import numpy as np
import pytest

from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.subsets import (
    CROWD_BANDS,
    SIZE_BANDS,
    crowd_indices,
    in_crowd_band,
    in_size_band,
    visible_only,
)
from graphpose.data.annotations.table import Annotations, Images
from graphpose.graphs.statistics import pose_statistics
from graphpose.metrics.crowdpose import METRICS
from graphpose.skeleton import Skeleton


@pytest.fixture(scope="module")
def crowdpose(data_root) -> Annotations:
    return read_annotations(data_root / "crowdpose" / "crowdpose_val.json")


def stated_index(annotations: Annotations) -> dict[int, float]:
    return dict(zip(annotations.images.ids.tolist(), annotations.images.crowd_index.tolist(), strict=True))


def test_visible_only_counts_pairs_that_are_both_visible(crowdpose):
    v = crowdpose.keypoints[crowdpose.labelled, :, 2] == 2
    expected = (v[:, :, None] & v[:, None, :]).sum(axis=0)
    before = crowdpose.keypoints.copy()
    np.testing.assert_array_equal(pose_statistics(visible_only(crowdpose)).result().count, expected)
    np.testing.assert_array_equal(crowdpose.keypoints, before)


def test_size_bands_part_the_persons(crowdpose):
    parts = [in_size_band(crowdpose, band, "sqrt_area") for band in SIZE_BANDS.values()]
    assert sum(len(part) for part in parts) == len(crowdpose)
    assert all(len(part) for part in parts)
    assert parts[1].scales("sqrt_area").min() >= 32
    assert parts[1].scales("sqrt_area").max() < 96


def test_crowd_bands_follow_the_index_that_the_file_states(crowdpose):
    parts = {name: in_crowd_band(crowdpose, band) for name, band in CROWD_BANDS.items()}
    assert sum(len(part) for part in parts.values()) == len(crowdpose)
    assert all(stated_index(crowdpose)[i] >= 0.8 for i in parts["hard"].image_ids.tolist())


def test_crowd_bands_are_those_that_the_metric_scores(crowdpose):
    assert [band[0] for band in CROWD_BANDS.values()] == [0.0, 0.2, 0.8]
    assert {f"AP_{name}" for name in CROWD_BANDS} < set(METRICS)
    images = {name: set(in_crowd_band(crowdpose, band).image_ids.tolist()) for name, band in CROWD_BANDS.items()}
    stated = stated_index(crowdpose)
    assert all(0.2 <= stated[i] < 0.8 for i in images["medium"])
    assert max(stated[i] for i in images["easy"]) < 0.2


def test_computed_crowd_index_puts_most_images_into_the_stated_band(crowdpose):
    computed = crowd_indices(crowdpose)
    stated = np.array([stated_index(crowdpose)[image_id] for image_id in computed])
    same = np.digitize(stated, [0.1, 0.8]) == np.digitize(list(computed.values()), [0.1, 0.8])
    assert same.mean() > 0.9


def test_crowd_index_of_two_persons_by_hand():
    skeleton = Skeleton("pair", ("a", "b"), ((0, 1),), (0.1, 0.1))
    # Person 0 holds both of its own and one of the other's keypoints; person 1 holds both of its own only.
    keypoints = np.array([[[1, 1, 2], [9, 9, 1]], [[8, 8, 2], [15, 15, 2]], [[5, 5, 2], [6, 6, 0]]], float)
    annotations = Annotations(
        path=Path("by hand"),
        skeleton=skeleton,
        images=Images.named({4: "two", 7: "one"}),
        ids=np.arange(3),
        image_index=np.array([0, 0, 1]),
        keypoints=keypoints,
        num_keypoints=np.array([2, 2, 1]),
        bbox=np.array([[0, 0, 8.5, 8.5], [8, 8, 10, 10], [0, 0, 10, 10]]),
        area=np.ones(3),
        iscrowd=np.zeros(3, bool),
        head_size=np.full(3, np.nan),
        group=np.zeros(3, np.int64),
    )
    # Box 0 holds own a (1), and the other's a (1): 1/1. Box 1 holds own both (2) and the other's b (1): 1/2.
    assert crowd_indices(annotations) == {4: 0.75, 7: 0.0}
    assert in_crowd_band(annotations, (0.5, 1.0)).ids.tolist() == [0, 1]
