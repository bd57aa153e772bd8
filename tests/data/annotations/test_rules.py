"""One list of rules: what the reader refuses is what the check calls an error, whatever is damaged."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.data.annotations.rules import Defect
from graphpose.data.annotations.table import coco_category
from graphpose.data.check import check_dataset
from graphpose.data.coco import CocoDataset
from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton

SKELETON = Skeleton("pair", ("left_end", "right_end"), ((0, 1),), (0.1, 0.1))
SOUND: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 60} for i in (1, 2)],
    "annotations": [
        {"id": 10 * i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 300.5, "iscrowd": 0}
        | {"keypoints": [5, 6, 2, 20, 10, 1], "num_keypoints": 2}
        for i in (1, 2)
    ],
    "categories": [coco_category(SKELETON)],
}


def damaged(where: str, number: int, key: str, *values: Any) -> dict[str, Any]:
    """The sound content with another value of one key, or without the key."""
    content = copy.deepcopy(SOUND)
    content[where][number].pop(key, None)
    content[where][number].update((key, value) for value in values)
    return content


def both(content: Any, folder: Path) -> tuple[str | None, list[Defect]]:
    """What the reader says and which errors the check lists."""
    path = folder / "damaged.json"
    path.write_text(json.dumps(content))
    errors = [defect for defect in check_dataset(path).defects if defect.severity == "error"]
    try:
        CocoDataset(path, folder)
    except GraphposeError as error:
        return str(error), errors
    return None, errors


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (damaged("annotations", 1, "area"), "wrong_area", "annotation 20 has no 'area'"),
        (damaged("annotations", 1, "area", "300"), "wrong_area", "annotation 20 has area '300'"),
        (damaged("annotations", 1, "area", 10**400), "wrong_area", "annotation 20 has area 1000"),
        (damaged("annotations", 1, "num_keypoints", 2.0), "keypoint_count_is_no_integer", "num_keypoints 2.0"),
        (damaged("annotations", 1, "id", "20"), "annotation_without_id", "at position 1 has id '20'; an integer"),
        (damaged("annotations", 1, "id", 0.5), "annotation_without_id", "at position 1 has id 0.5; an integer"),
        (damaged("annotations", 1, "id", 2**63), "annotation_without_id", "at position 1 has id 9223372036854775808"),
        (damaged("annotations", 1, "image_id", "1"), "unknown_image", "annotation 20 has image_id '1'; an integer"),
        (damaged("annotations", 1, "image_id", 1.0), "unknown_image", "annotation 20 has image_id 1.0; an integer"),
        (damaged("annotations", 1, "keypoints", [5, 6, 2, None, 10, 1]), "keypoint_not_finite", "annotation 20"),
        (damaged("annotations", 1, "bbox", [1, 2, "wide", 3]), "wrong_box", "annotation 20 has no bbox"),
        (damaged("images", 1, "height", "40"), "wrong_image_size", "image 2: height and width"),
        (damaged("images", 1, "height", -40), "wrong_image_size", "image 2: height and width"),
        (damaged("images", 1, "crowdIndex", None), "wrong_crowd_index", "image 2 has crowdIndex None"),
    ],
)
def test_reader_and_check_refuse_the_same_record_in_the_same_words(
    tmp_path: Path, content: dict[str, Any], kind: str, message: str
) -> None:
    refused, errors = both(content, tmp_path)
    assert kind in [error.kind for error in errors]
    assert message in errors[0].message
    assert refused == f"{tmp_path / 'damaged.json'}: {errors[0].message}"


@pytest.mark.parametrize("image_id", ["1", 1.0, True, None, 2**70])
def test_an_image_id_is_an_integer_for_both(tmp_path: Path, image_id: Any) -> None:
    refused, errors = both(damaged("images", 0, "id", image_id), tmp_path)
    assert "image at position 0 has no integer 'id'" in str(refused)
    assert errors[0].kind == "image_record_incomplete"


def test_the_id_of_the_category_is_an_integer_for_both(tmp_path: Path) -> None:
    refused, errors = both(damaged("categories", 0, "id"), tmp_path)
    assert "category with keypoints has id None" in str(refused)
    assert [error.message for error in errors] == [refused]


def test_sound_content_is_sound_for_both(tmp_path: Path) -> None:
    assert both(SOUND, tmp_path) == (None, [])


NUMBERS = [True, 0, 1, 2, -1, 10, 0.5, 2.0, float("nan"), float("inf"), 2**63, 10**400]
LISTS = [[], [[1]], [1, 2, 3, 4], [5, 6, 2, 20, 10, 1], [5, 6, 7, 20, 10, 1], [5, 6, "2", 20, 10, 1], [0, 0, None, 1]]
VALUES = st.sampled_from([*NUMBERS, *LISTS, None, "", "1", "x", {}])
KEYS = {
    "images": ("id", "file_name", "height", "width", "crowdIndex"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "keypoints", "num_keypoints"),
}
PLACES = st.sampled_from([(where, n, key) for where, keys in KEYS.items() for n in (0, 1) for key in keys])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(PLACES, VALUES, st.booleans()), min_size=1, max_size=3))
def test_reader_and_check_agree_on_random_damage(damages: list[tuple[tuple[str, int, str], Any, bool]]) -> None:
    content = copy.deepcopy(SOUND)
    for (where, number, key), value, removed in damages:
        content[where][number].pop(key, None)
        if not removed:
            content[where][number][key] = value
    with tempfile.TemporaryDirectory() as folder:
        refused, errors = both(content, Path(folder))
    assert (refused is not None) == bool(errors), (refused, errors)
