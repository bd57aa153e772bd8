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
from graphpose.data.open import open_dataset
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
        (damaged("annotations", 1, "iscrowd", "0"), "crowd_flag_is_none", "annotation 20 has iscrowd '0'; 0 or 1 is"),
        (damaged("annotations", 1, "iscrowd", "false"), "crowd_flag_is_none", "annotation 20 has iscrowd 'false'"),
        (damaged("annotations", 1, "iscrowd", 2), "crowd_flag_is_none", "annotation 20 has iscrowd 2"),
        (damaged("annotations", 1, "iscrowd", []), "crowd_flag_is_none", "annotation 20 has iscrowd []"),
        (
            damaged("annotations", 1, "category_id", 7),
            "unknown_category",
            "annotation 20 has category_id 7, which the file does not list; it lists 1 (person)",
        ),
        (damaged("annotations", 1, "category_id", 0), "unknown_category", "annotation 20 has category_id 0"),
        (damaged("annotations", 1, "category_id", "1"), "unknown_category", "annotation 20 has category_id '1'"),
        (damaged("annotations", 1, "category_id", 1.0), "unknown_category", "annotation 20 has category_id 1.0"),
        (damaged("annotations", 1, "category_id", True), "unknown_category", "annotation 20 has category_id True"),
        (damaged("annotations", 1, "category_id", None), "unknown_category", "annotation 20 has category_id None"),
        (damaged("annotations", 1, "category_id", [1]), "unknown_category", "annotation 20 has category_id [1]"),
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


@pytest.mark.parametrize("flag", [0, 1, True, False, None, 0.0, 1.0])
def test_a_crowd_flag_may_be_any_form_of_0_and_1(tmp_path: Path, flag: Any) -> None:
    content = damaged("annotations", 1, "iscrowd", flag)
    assert both(content, tmp_path) == (None, [])
    assert CocoDataset(tmp_path / "damaged.json", tmp_path).annotations.iscrowd.tolist() == [False, bool(flag)]


def test_annotations_of_other_listed_categories_are_no_persons_and_no_defects(tmp_path: Path) -> None:
    content = damaged("annotations", 1, "category_id", 7)
    content["categories"].append({"id": 7, "name": "dog"})
    assert both(content, tmp_path) == (None, [])
    assert CocoDataset(tmp_path / "damaged.json", tmp_path).annotations.ids.tolist() == [10]


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ({"skeleton": [[0, 1]]}, "category 'person' (id 1): its skeleton has [0, 1]; it must be a list of pairs of two "
         "keypoints, as numbers 1..2 (they count from 1) or names"),
        ({"skeleton": [1, 2]}, "category 'person' (id 1): its skeleton has 1"),
        ({"skeleton": [[1, 2, 2]]}, "category 'person' (id 1): its skeleton has [1, 2, 2]"),
        ({"skeleton": [["left", "right"]]}, "category 'person' (id 1): its skeleton has ['left', 'right']"),
        ({"skeleton": [[2.5, 3.0]]}, "category 'person' (id 1): its skeleton has [2.5, 3.0]"),
        ({"keypoints": ["a", "a"]}, "category 'person' (id 1) has the keypoint 'a' twice"),
        ({"keypoints": [{"name": "a"}]}, "category 'person' (id 1) has keypoints [{'name': 'a'}]; a list of names"),
        ({"sigmas": [1]}, "category 'person' (id 1) has sigmas [1]; 2 positive numbers are needed"),
        ({"flip_pairs": 1}, "category 'person' (id 1): its flip_pairs is 1"),
        ({"keypoints": []}, "has 0 categories with keypoints (); one is needed"),
    ],
)  # fmt: skip
def test_a_wrong_category_is_refused_by_both_in_the_same_words(
    tmp_path: Path, category: dict[str, Any], message: str
) -> None:
    content = copy.deepcopy(SOUND)
    content["categories"][0] |= category
    refused, errors = both(content, tmp_path)
    assert message in str(refused)
    assert str(refused).startswith(str(tmp_path / "damaged.json"))
    assert [error.message for error in errors] == [refused]


def two_categories() -> dict[str, Any]:
    content = copy.deepcopy(SOUND)
    content["categories"].append({**coco_category(SKELETON, 4), "name": "dog"})
    content["annotations"][1]["category_id"] = 4
    return content


@pytest.mark.parametrize("skeleton", [None, SKELETON])
def test_of_two_categories_with_the_same_keypoints_one_must_be_chosen(
    tmp_path: Path, skeleton: Skeleton | None
) -> None:
    path = tmp_path / "two.json"
    path.write_text(json.dumps(two_categories()))
    message = r"has 2 categories with keypoints \('person' with id 1, 'dog' with id 4\); choose one with category"
    with pytest.raises(GraphposeError, match=message):
        CocoDataset(path, tmp_path, skeleton=skeleton)
    assert "choose one with category" in check_dataset(path).defects[0].message
    for category, ids in (("dog", [20]), (4, [20]), ("4", [20]), ("person", [10]), (1, [10])):
        assert CocoDataset(path, tmp_path, skeleton=skeleton, category=category).annotations.ids.tolist() == ids
        assert open_dataset(path, tmp_path, skeleton=skeleton, category=category).annotations.ids.tolist() == ids
        assert check_dataset(path, category=category).counts["persons"] == 1
    with pytest.raises(GraphposeError, match="has no keypoint category 'cat'; it has 'person' with id 1, 'dog' with"):
        CocoDataset(path, tmp_path, skeleton=skeleton, category="cat")
    content = two_categories()
    content["categories"][1]["name"] = "person"
    path.write_text(json.dumps(content))
    message = r"has 2 keypoint categories 'person' \('person' with id 1, 'person' with id 4\); choose one by its id"
    with pytest.raises(GraphposeError, match=message):
        CocoDataset(path, tmp_path, skeleton=skeleton, category="person")


def test_an_id_of_two_categories_is_refused(tmp_path: Path) -> None:
    content = two_categories()
    content["categories"][1]["id"] = 1
    refused, errors = both(content, tmp_path)
    assert "category id 1 stands 2 times" in str(refused)
    assert [error.message for error in errors] == [refused]


def test_a_category_without_limbs_gets_the_tree_of_its_nearest_keypoints(tmp_path: Path) -> None:
    """Worked by hand: along a line at 0, 1, 3, 7 and one 0.4 beside the 3; the second person has only the ends."""
    names = ["a", "b", "c", "d", "e"]
    content = copy.deepcopy(SOUND)
    del content["categories"][0]["skeleton"]
    content["categories"][0]["keypoints"] = names
    for annotation, points in zip(
        content["annotations"],
        ([(0, 0, 2), (5, 0, 2), (15, 0, 2), (35, 0, 2), (15, 2, 1)], [(0, 0, 2), (0, 0, 0), (0, 0, 0), (4, 0, 2)]),
        strict=True,
    ):
        flat = [value for point in [*points, (0, 0, 0)][:5] for value in point]
        annotation.update(keypoints=flat, num_keypoints=sum(v > 0 for v in flat[2::3]), area=25.0)
    refused, errors = both(content, tmp_path)
    assert (refused, errors) == (None, [])
    # M_d: a–b 1, b–c 2, c–e 0.4, a–d (7 + 0.8) / 2 = 3.9, c–d 4
    assert CocoDataset(tmp_path / "damaged.json", tmp_path).skeleton.limbs == ((0, 1), (0, 3), (1, 2), (2, 4))
    [warning] = check_dataset(tmp_path / "damaged.json").defects
    assert (warning.kind, warning.severity) == ("no_limbs_stated", "warning")
    assert "a–b, a–d, b–c, c–e" in warning.message
    for annotation in content["annotations"]:
        annotation.update(keypoints=[1, 1, 2] + [0] * 12, num_keypoints=1)
    refused, errors = both(content, tmp_path)
    assert "category 'person' states no limbs ('skeleton'), and no person has two labelled keypoints" in str(refused)
    assert [error.kind for error in errors] == ["no_limbs"]


def test_what_another_skeleton_is_used_in_place_of_is_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "other.json"
    content = copy.deepcopy(SOUND)
    path.write_text(json.dumps(content))
    CocoDataset(path, tmp_path, skeleton=SKELETON)
    assert caplog.text == ""
    content["categories"][0]["sigmas"] = [0.3, 0.3]
    path.write_text(json.dumps(content))
    CocoDataset(path, tmp_path, skeleton=SKELETON)
    assert "category 'person' states other sigmas than skeleton 'pair', which is used" in caplog.text
    assert CocoDataset(path, tmp_path).skeleton.sigmas == (0.3, 0.3)


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
