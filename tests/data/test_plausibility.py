"""What a data set may say but hardly means is warned of by its kind, and sound sets raise nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphpose.data.annotations.table import coco_category
from graphpose.data.check import check_dataset
from graphpose.data.coco import CocoDataset
from graphpose.skeleton import COCO, CROWDPOSE
from tests.data.test_check import sound_set

Content = dict[str, Any]


def shares(content: Content) -> None:
    for annotation in content["annotations"]:
        flat = annotation["keypoints"]
        flat[0::3], flat[1::3] = [x / 60 for x in flat[0::3]], [y / 40 for y in flat[1::3]]


def each(**values: Any) -> Callable[[Content], None]:
    """The values in every annotation."""
    return lambda content: [annotation.update(values) for annotation in content["annotations"]]  # type: ignore[return-value]


def second(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["annotations"][1].update(values)


def labels(content: Content, number: int, *points: tuple[float, float, int]) -> None:
    flat = content["annotations"][number]["keypoints"]
    flat[: 3 * len(points)] = [value for point in points for value in point]


def names(*changed: str) -> Callable[[Content], None]:
    return lambda content: content["categories"][0].update(keypoints=list(changed))


# kind, times, change. Labels of a sound set reach from (5, 3) to (53, 35), its boxes are (5, 3, 50, 34), its areas 900.
DOUBTS: list[tuple[str, int, Callable[[Content], Any]]] = [
    ("area_far_below_labels", 4, each(area=1)),
    ("area_far_below_labels", 1, second(area=70)),  # 5 % of 48 × 32 are 76.8
    ("area_far_below_labels", 1, second(area=1e-6)),
    ("area_above_box", 1, second(area=2600)),
    ("area_above_box", 4, each(area=60 * 40 * 255)),
    ("coordinates_are_shares", 1, shares),
    ("boxes_are_corners", 1, each(bbox=[5, 3, 58, 39])),
    ("boxes_are_corners", 1, each(bbox=[4.0, 2.5, 59.0, 39.5])),
    ("boxes_around_their_middle", 1, each(bbox=[29, 19, 50, 34])),
    ("boxes_around_their_middle", 1, each(bbox=[30, 20, 60, 40])),
    ("labels_outside_boxes", 1, each(bbox=[0, 30, 9, 9])),
    ("labels_outside_boxes", 1, each(bbox=[0, 0, 2, 2])),
    ("box_outside_image", 1, second(bbox=[5, 3, 90, 34])),
    ("box_outside_image", 1, second(bbox=[-9, 3, 60, 34])),
    ("box_without_extent", 1, second(bbox=[5, 3, 0, 34])),
    ("box_without_extent", 1, second(bbox=[5, 3, -50, 34])),
    ("labelled_at_origin", 1, lambda c: labels(c, 1, (0, 0, 2), (0, 0, 1))),
    ("labelled_at_origin", 4, lambda c: [labels(c, n, (0, 0, 1), (0, 0, 2), (0, 0, 2)) for n in range(4)]),
    ("file_under_two_ids", 1, lambda c: c["images"].append({**c["images"][0], "id": 9})),
    ("file_under_two_ids", 1, lambda c: c["images"][3].update(file_name="1.jpg")),
    ("person_twice", 1, lambda c: c["annotations"].append({**c["annotations"][0], "id": 99})),
    ("person_twice", 2, lambda c: c["annotations"].extend({**c["annotations"][0], "id": n} for n in (98, 99))),
    ("standard_sigmas_not_used", 1, names(*(name.replace("_", " ").title() for name in COCO.keypoints))),
    ("standard_sigmas_not_used", 1, names(*(name.upper() for name in COCO.keypoints))),
    ("standard_sigmas_not_used", 1, names(*COCO.keypoints[1:], "nose")),
    ("standard_sigmas_not_used", 1, names(*(name.replace("_", "-") for name in reversed(COCO.keypoints)))),
    ("keypoint_counts_are_zero", 1, each(num_keypoints=0)),
]


def kinds_of(folder: Path, content: Content) -> dict[str, int]:
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    report = check_dataset(path, folder, progress=False)
    assert report.ok  # warnings only
    CocoDataset(path, folder)
    return report.by_kind()


@pytest.mark.parametrize(("kind", "times", "change"), DOUBTS)
def test_each_doubt_is_named_by_its_kind_alone(
    tmp_path: Path, kind: str, times: int, change: Callable[[Content], Any]
) -> None:
    content = sound_set(tmp_path)
    change(content)
    expected = {kind: times}
    if kind == "keypoint_counts_are_zero":
        expected["wrong_keypoint_count_stated"] = 4
    assert kinds_of(tmp_path, content) == expected


@pytest.mark.parametrize(
    "change",
    [
        second(area=100),
        second(area=1700),
        second(bbox=[4, 2, 57, 39]),
        second(bbox=[-1, 3, 60, 34]),
        lambda c: labels(c, 1, (0, 1, 2), (1, 0, 2)),
        lambda c: labels(c, 1, (0, 0, 2)),
        lambda c: labels(c, 1, (0, 0, 0)),
        lambda c: c["annotations"].append({**c["annotations"][0], "id": 99, "keypoints": [20, 20, 2] * 17}),
        lambda c: c["categories"][0].update(sigmas=[0.05] * 17, keypoints=[n.upper() for n in COCO.keypoints]),
    ],
)
def test_what_is_near_a_doubt_but_sound_raises_none(tmp_path: Path, change: Callable[[Content], Any]) -> None:
    content = sound_set(tmp_path)
    change(content)
    assert set(kinds_of(tmp_path, content)) <= {"wrong_keypoint_count_stated"}


def test_a_set_without_persons_is_said(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    each(keypoints=[0] * 51, num_keypoints=0)(content)
    assert kinds_of(tmp_path, content) == {"no_persons": 1}
    content["annotations"] = []
    assert kinds_of(tmp_path, content) == {"no_persons": 1}


def test_crowdposes_keypoints_among_others_lose_its_sigmas_with_a_line(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    content["categories"] = [coco_category(CROWDPOSE)]
    content["categories"][0]["keypoints"] += ["left_toe", "right_toe", "tail"]
    content["categories"][0]["skeleton"] = [[1, 2]]
    assert kinds_of(tmp_path, content) == {"standard_sigmas_not_used": 1}


@pytest.mark.parametrize(
    ("size", "cure"),
    [
        ((80, 120), "a version that is 2 times as large; scale its annotations, too"),
        ((27, 40), "a version that is 0.675 times as large"),
        ((40, 80), "no scale explains that: the record belongs to another picture or to another cut"),
        ((60, 80), "no scale explains that"),
    ],
)
def test_whether_a_scale_explains_another_size_is_said(tmp_path: Path, size: tuple[int, int], cure: str) -> None:
    content = sound_set(tmp_path)
    content["images"][1].update(height=size[0], width=size[1])
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    [defect] = check_dataset(path, tmp_path, progress=False).defects
    assert defect.kind == "image_of_another_size"
    assert cure in defect.message


def test_stated_counts_of_zero_throughout_are_counted_anew(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    each(num_keypoints=0)(content)
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    assert [a["num_keypoints"] for a in CocoDataset(path, tmp_path).ground_truth()["annotations"]] == [17] * 4
    content["annotations"][0]["num_keypoints"] = 17  # one that counts: the others are left out on purpose
    path.write_text(json.dumps(content))
    assert [a["num_keypoints"] for a in CocoDataset(path, tmp_path).ground_truth()["annotations"]] == [17, 0, 0, 0]
