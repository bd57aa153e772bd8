"""Dividing a file: the same parts every time, both with persons, nothing that belongs together on both sides."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpose.data.annotations.coco import from_coco
from graphpose.data.annotations.table import Annotations
from graphpose.data.split import groups_of, split_images
from graphpose.errors import GraphposeError


def table_of(images: list[dict[str, Any]], with_persons: set[int]) -> Annotations:
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "keypoints": [1, 1, 2, 8, 8, 2]}
        for i in sorted(with_persons)
    ]
    category = {"id": 1, "name": "stick", "keypoints": ["a", "b"], "skeleton": [[1, 2]]}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    return from_coco(content, Path("sticks.json"))


def records(count: int) -> list[dict[str, Any]]:
    return [{"id": i, "file_name": f"{i:04d}.jpg"} for i in range(1, count + 1)]


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.data())
def test_the_parts_are_whole_disjoint_of_the_share_and_have_persons(count: int, share: float, data: Any) -> None:
    ids = st.sampled_from(range(1, count + 1))
    persons = data.draw(st.sets(ids, min_size=2))
    table = table_of(records(count), persons)
    train, val = split_images(table, share)
    assert sorted([*train, *val]) == list(range(1, count + 1))
    assert train == sorted(train)
    assert val == sorted(val)
    assert set(train) & persons
    assert set(val) & persons
    few = 1 <= len(persons) * share <= len(persons) - 1
    assert not few or abs(len(set(val) & persons) - share * len(persons)) <= 0.5
    assert split_images(table, share) == (train, val)


def test_an_image_stays_where_it_is_when_others_come_and_ids_change() -> None:
    small, large = table_of(records(100), set(range(1, 101))), table_of(records(120), set(range(1, 121)))
    before, after = set(split_images(small)[1]), set(split_images(large)[1])
    assert (len(before), len(after)) == (20, 24)
    assert len(before & after) >= 16  # but for those near the border
    renumbered = [{**record, "id": 1000 - record["id"]} for record in records(100)]
    other = table_of(renumbered, {record["id"] for record in renumbered})
    assert {1000 - image_id for image_id in split_images(other)[1]} == before


def test_frames_of_a_video_and_copies_of_a_picture_stay_together() -> None:
    images = [{"id": i, "file_name": f"{i}.jpg", "video_id": i % 5} for i in range(1, 31)]
    images += [{"id": i, "file_name": f"{i}.jpg", "vid_id": f"pt{i % 4}"} for i in range(31, 61)]
    digits = "0123456789abcdef0123456789abcdef"
    images += [{"id": i, "file_name": f"street{i % 7}_jpg.rf.{digits[i % 9 :]}.jpg"} for i in range(61, 91)]
    images += [{"id": i, "file_name": "the_same.png"} for i in range(91, 96)]
    table = table_of(images, set(range(1, 96)))
    groups = dict(zip(table.images.ids.tolist(), groups_of(table.images), strict=True))
    assert len(set(groups.values())) == 5 + 4 + 7 + 1
    for share in (0.1, 0.3, 0.5, 0.8):
        train, val = split_images(table, share)
        assert not {groups[i] for i in train} & {groups[i] for i in val}
        assert train
        assert val
    assert table.select_images(table.images.ids[:3] - 1).images.groups == ["video 1", "video 2", "video 3"]


@pytest.mark.parametrize(
    ("images", "persons", "share", "message"),
    [
        (records(1), {1}, 0.2, r"sticks\.json cannot be divided: one image has labelled persons, and what is trained"),
        (records(9), {4}, 0.2, r"cannot be divided: one image has labelled persons"),
        (records(9), set(), 0.2, r"cannot be divided: no image has labelled persons"),
        ([{"id": i, "file_name": f"{i}.jpg", "video_id": 3} for i in (1, 2)], {1, 2}, 0.2,
         r"its 2 images with labelled persons are all of one video or copies of one picture"),
        (records(9), {1, 2}, 1.0, r"share 1\.0 of images to evaluate on must lie between 0 and 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided_is_refused(images: Any, persons: set[int], share: float, message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        split_images(table_of(images, persons), share)
