"""Results files: what a server reads back is what was found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from graphpose.data.mpii import MpiiDataset
from graphpose.errors import GraphposeError
from graphpose.metrics.submission import coco_records, write_coco, write_mpii, write_mpii_single


def result(image_id: int, x: float, score: float, K: int = 16, missing: tuple[int, ...] = ()) -> dict[str, Any]:
    """A pose around (x, 50), 10 px to either side."""
    keypoints = np.array([(x - 10 + 20 * k / (K - 1), 40.123456 + k, 0.5) for k in range(K)])
    keypoints[list(missing)] = 0
    return {"image_id": image_id, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": score}


def test_coco_records_are_in_order_rounded_and_at_most_twenty_per_image() -> None:
    found = [result(9, 50, 0.1 + 0.001 * i, 17) for i in range(25)] + [result(3, 50, 0.9, 17, missing=(0,))]
    records = coco_records(found, 17)
    assert [record["image_id"] for record in records] == [3] + [9] * 20
    scores = [record["score"] for record in records[1:]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) == pytest.approx(0.105)
    assert records[0]["keypoints"][:6] == [0.0, 0.0, 0, 41.25, 41.12, 1]
    assert {record["category_id"] for record in records} == {1}
    assert len(records[0]["keypoints"]) == 51


def test_the_servers_file_keeps_the_category_of_the_data_set() -> None:
    found = [{**result(3, 50, 0.9, 17), "category_id": category} for category in (7, 0)]
    assert [record["category_id"] for record in coco_records(found, 17)] == [7, 0]


def test_a_written_file_is_read_by_the_official_evaluator(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    path = tmp_path / "out" / "keypoints_test-dev2017_DGCN-50_results.json"
    assert write_coco(path, [result(3, 50, 0.9, 17), result(3, 80, 0.4, 17)], 17) == 2
    truth = COCO()
    truth.dataset = {"info": {}, "images": [{"id": 3}], "annotations": [], "categories": [{"id": 1}]}
    truth.createIndex()
    assert len(truth.loadRes(str(path)).anns) == 2
    assert json.loads(path.read_text())[0]["score"] == 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": [0.0] * 48}, "image 7 has 48 keypoint values; 51 are needed"),
        ({"score": float("nan")}, "image 7"),
    ],
)
def test_a_result_that_no_server_takes_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        coco_records([{**result(7, 50, 0.9, 17), **change}], 17)


def cells(*values: Any) -> np.ndarray:
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return array


@pytest.fixture
def split(tmp_path: Path) -> MpiiDataset:
    """A training image; a test image with two groups of two and a single person; one with a single person."""

    def rect(x: float) -> dict[str, Any]:
        return {"objpos": {"x": x, "y": 51.0}, "scale": 0.5}

    annolist = [
        {"image": {"name": "train.jpg"}, "annorect": [rect(51), rect(71)]},
        {"image": {"name": "groups.jpg"}, "annorect": [rect(51), rect(2001), rect(91), rect(1001), rect(1041)]},
        {"image": {"name": "single.jpg"}, "annorect": [rect(51), rect(301)]},
    ]
    single = cells(np.array([]), np.array([2.0]), np.array([1.0]))
    release = {"annolist": np.array(annolist, dtype=object), "img_train": np.array([1, 0, 0]), "single_person": single}
    savemat(tmp_path / "release.mat", {"RELEASE": release})
    groups = cells(
        cells(np.array([1.0, 2.0]), np.array([])),
        cells(np.array([4.0, 5.0]), np.array([2.0]), np.array([1.0, 3.0])),
        cells(np.array([1.0]), np.array([])),
    )
    savemat(tmp_path / "groups.mat", {"groups": groups})
    return MpiiDataset(tmp_path / "release.mat", tmp_path, split="test", groups=tmp_path / "groups.mat")


def test_mpii_groups_hold_the_poses_near_them_in_the_toolkits_order(split: MpiiDataset, tmp_path: Path) -> None:
    found = [
        result(1, 52, 0.9, missing=(6,)), result(1, 90, 0.7), result(1, 1041, 0.6), result(1, 2000, 0.5),
        result(1, 500, 0.4), result(0, 50, 0.3),
    ]  # fmt: skip
    assert write_mpii(tmp_path / "pred.mat", found, split) == 2
    first, second = loadmat(tmp_path / "pred.mat", squeeze_me=True, struct_as_record=False)["pred"]
    assert (first.image.name, second.image.name) == ("groups.jpg", "groups.jpg")
    points = first.annorect.annopoints.point  # the group of persons 4 and 5 is listed first
    assert [p.id for p in points] == list(range(16))
    assert (points[0].x, points[0].y, points[0].score) == pytest.approx((1032.0, 41.123456, 0.5))
    assert len(second.annorect) == 2
    assert 6 not in [p.id for p in second.annorect[0].annopoints.point]


def test_mpii_single_persons_get_the_nearest_pose_at_their_own_place(split: MpiiDataset, tmp_path: Path) -> None:
    found = [result(1, 1999, 0.5), result(1, 2030, 0.9), result(1, 50, 0.9), result(2, 400, 0.9)]
    assert write_mpii_single(tmp_path / "pred.mat", found, split) == 1
    first, second = loadmat(tmp_path / "pred.mat", squeeze_me=True, struct_as_record=False)["pred"]
    assert len(first.annorect) == 5
    assert [np.size(rect.annopoints) for rect in first.annorect] == [0, 1, 0, 0, 0]
    assert first.annorect[1].annopoints.point[0].x == pytest.approx(1999 - 10 + 1)
    assert not hasattr(first.annorect[1].annopoints.point[0], "score")
    assert [np.size(rect.annopoints) for rect in second.annorect] == [0, 0]  # its pose is too far away


def test_mpiis_files_need_the_release(tmp_path: Path, data_root: Path) -> None:
    dataset = MpiiDataset(data_root / "mpii/mpii_valid.h5", data_root)
    with pytest.raises(GraphposeError, match="is no official release"):
        write_mpii(tmp_path / "pred.mat", [], dataset)
