"""Eq. 5 over data sets: of files, of chosen images, of mixes in another skeleton, of rendered scenes."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from graphpose.data.annotations.read import read_annotations
from graphpose.data.cache import CachedDataset
from graphpose.data.coco import CocoDataset
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.matched import MatchedDataset
from graphpose.data.mix import MixedDataset
from graphpose.data.mpii import MpiiDataset
from graphpose.errors import GraphposeError
from graphpose.graphs.dataset_statistics import dataset_statistics, record_scales
from graphpose.graphs.statistics import load_statistics, pose_statistics
from graphpose.skeleton import COCO, Skeleton
from tests.metrics.test_coco import truth_of

LEGS = Skeleton("legs", ("R_Ankle", "L_Ankle", "R_Knee", "L_Knee"), ((0, 2), (1, 3)), (0.1,) * 4)


def write(path: Path, keypoints: np.ndarray, skeleton: Skeleton) -> CocoDataset:
    """A file of one person an image."""
    path.write_text(json.dumps(truth_of(keypoints, skeleton)))
    return CocoDataset(path, path.parent)


def persons(count: int, K: int) -> np.ndarray:
    rng = np.random.default_rng(K)
    return np.concatenate([rng.uniform(50, 250, (count, K, 2)), rng.integers(0, 3, (count, K, 1))], axis=2)


def test_of_a_file_they_are_those_of_its_records(tmp_path):
    dataset = write(tmp_path / "a.json", persons(9, 17), COCO)
    found = dataset_statistics(CachedDataset(dataset))
    expected = pose_statistics(read_annotations(tmp_path / "a.json")).result()
    np.testing.assert_array_equal(found.offset_mean, expected.offset_mean)
    assert found.provenance["persons"] == 9
    assert found.provenance["files"] == {"a.json": hashlib.sha256((tmp_path / "a.json").read_bytes()).hexdigest()}
    assert found.line() == "9 persons of a.json, in sqrt_area"


def test_of_chosen_images_they_are_those_of_the_persons_in_them(tmp_path):
    write(tmp_path / "a.json", persons(9, 17), COCO)
    some = CocoDataset(tmp_path / "a.json", tmp_path, image_ids=[4, 2])
    assert dataset_statistics(some).provenance["persons"] == 2


def test_persons_without_extent_are_left_out_and_counted(tmp_path):
    dataset = write(tmp_path / "a.json", persons(9, 17), COCO)
    area = np.where(dataset.annotations.ids == 9, np.nan, dataset.annotations.area)  # as of one without box and area
    dataset.annotations = dataclasses.replace(dataset.annotations, area=area)
    provenance = dataset_statistics(dataset).provenance
    assert (provenance["persons"], provenance["without_size"]) == (8, 1)


def test_a_mix_is_read_into_its_skeleton_and_what_a_set_does_not_label_does_not_count(tmp_path):
    legs, whole = persons(5, 4), persons(9, 17)
    legs[:, :, 2] = whole[:, :, 2] = 2
    sets = [write(tmp_path / "whole.json", whole, COCO), write(tmp_path / "legs.json", legs, LEGS)]
    mix = MixedDataset([MatchedDataset(one, COCO) for one in sets], [1.0, 7.0])
    found = dataset_statistics(mix)
    ankle, knee, nose = COCO.index("left_ankle"), COCO.index("left_knee"), COCO.index("nose")
    assert found.count[ankle, knee] == 14
    assert found.count[ankle, nose] == 9
    distances = np.linalg.norm(np.concatenate([
        whole[:, ankle, :2] - whole[:, knee, :2], legs[:, 1, :2] - legs[:, 3, :2]
    ]), axis=1)  # fmt: skip
    assert found.mean[ankle, knee] == pytest.approx(distances.mean() / np.sqrt(20000))
    assert set(found.provenance["files"]) == {"whole.json", "legs.json"}


def test_rendered_scenes_have_the_statistics_of_their_persons():
    scenes = DemoDataset(4)
    found = dataset_statistics(scenes)
    records = scenes.ground_truth()["annotations"]
    assert found.provenance["persons"] == len(records)
    assert found.provenance["scenes"] == 4
    nose_to_eye = [
        np.hypot(*(np.array(record["keypoints"][:2]) - record["keypoints"][3:5])) / np.sqrt(record["area"])
        for record in records
        if record["keypoints"][2] and record["keypoints"][5]
    ]
    assert found.mean[0, 1] == pytest.approx(np.mean(nose_to_eye))


def test_mpii_is_measured_in_heads_and_its_areas_give_the_same(data_root):
    files = sorted(data_root.rglob("mpii_valid.h5"))
    if not files:
        pytest.skip("no MPII at hand")
    found = dataset_statistics(MpiiDataset(files[0], data_root))
    assert found.scale_rule == "head"
    np.testing.assert_allclose(found.mean, load_statistics("mpii").mean, atol=1e-6)


def test_a_set_without_any_pair_is_refused(tmp_path):
    alone = persons(3, 4)
    alone[:, :, 2] = [2, 0, 0, 0]
    with pytest.raises(GraphposeError, match="none of 3 persons has two labelled keypoints of skeleton 'person'"):
        dataset_statistics(write(tmp_path / "a.json", alone, LEGS))


def test_records_have_the_scale_of_each_rule():
    records = [{"bbox": [5, 6, 30, 40], "area": 324.0}, {"bbox": [0, 0, 5, 12], "area": 81.0}]
    assert record_scales(records, "sqrt_area").tolist() == [18.0, 9.0]
    assert record_scales(records, "bbox_diagonal").tolist() == [50.0, 13.0]
    assert record_scales(records, "head").tolist() == [5.0, 2.5]  # an area is (3.6 head sizes)²
    assert record_scales([], "sqrt_area").shape == (0,)
