"""Checking data sets: every real one passes, and every kind of damage is named without an end to the check."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from graphpose.cli import main
from graphpose.data.annotations.table import coco_category
from graphpose.data.check import CheckReport, check_dataset
from graphpose.skeleton import COCO

Content = dict[str, Any]


def sound_set(folder: Path) -> Content:
    """Four images of 60 × 40 px with one person each, image files included."""
    rng = np.random.default_rng(0)
    content: Content = {"images": [], "annotations": [], "categories": [coco_category(COCO)]}
    for i in range(1, 5):
        cv2.imwrite(str(folder / f"{i}.jpg"), rng.integers(0, 255, (40, 60, 3)).astype(np.uint8))
        content["images"].append({"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 60})
        keypoints = [value for k in range(17) for value in (5 + 3 * k, 3 + 2 * k, 1 + k % 2)]
        content["annotations"].append(
            {
                "id": 10 * i,
                "image_id": i,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [5, 3, 50, 34],
                "area": 900.0,
                "keypoints": keypoints,
                "num_keypoints": 17,
            }
        )
    return content


def check(folder: Path, content: Any) -> CheckReport:
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    report = check_dataset(path, folder, progress=False)
    json.dumps(report.to_dict())  # machine-readable whatever is wrong
    assert report.lines()
    return report


def test_a_sound_set_has_no_defects_and_is_counted(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    content["annotations"][1].update(iscrowd=1)
    content["annotations"][2].update(keypoints=[0] * 51, num_keypoints=0)
    report = check(tmp_path, content)
    assert report.ok
    assert report.defects == []
    assert report.counts == {
        "images": 4,
        "images_without_persons": 2,
        "persons": 2,
        "unlabelled_persons": 1,
        "crowd_regions": 1,
        "keypoints": 34,
        "hidden_keypoints": 18,
        "images_read": 4,
    }
    assert report.lines()[-1] == "no defects"


def set_keypoint(content: Content, position: int, value: Any) -> None:
    content["annotations"][1]["keypoints"][position] = value


DAMAGE: dict[str, Callable[[Content], Any]] = {
    "duplicate_annotation_id": lambda c: c["annotations"][1].update(id=10),
    "duplicate_image_id": lambda c: c["images"].append(dict(c["images"][0])),
    "image_record_incomplete": lambda c: c["images"].append({"id": "five"}),
    "annotation_is_no_object": lambda c: c["annotations"].append(None),
    "annotation_without_id": lambda c: c["annotations"][1].pop("id"),
    "unknown_image": lambda c: c["annotations"][1].update(image_id=77),
    "wrong_number_of_keypoints": lambda c: c["annotations"][1]["keypoints"].pop(),
    "keypoint_not_finite": lambda c: set_keypoint(c, 0, float("nan")),
    "wrong_visibility": lambda c: set_keypoint(c, 2, 3),
    "wrong_box": lambda c: c["annotations"][1].update(bbox=[1, 2]),
    "wrong_area": lambda c: c["annotations"][1].update(area=-1),
    "wrong_keypoint_count_stated": lambda c: c["annotations"][1].update(num_keypoints=5),
    "keypoint_outside_image": lambda c: set_keypoint(c, 0, 70),
    "width_and_height_exchanged": lambda c: c["images"][1].update(width=40, height=60),
    "image_of_another_size": lambda c: c["images"][1].update(width=120, height=80),
    "region_of_another_size": lambda c: (
        [c["images"][1].pop(key) for key in ("height", "width")],
        c["annotations"][1].update(iscrowd=1, segmentation={"size": [9, 9], "counts": [81]}),
    ),
    "empty_polygon": lambda c: c["annotations"][1].update(iscrowd=1, segmentation=[[]]),
    "wrong_segmentation": lambda c: c["annotations"][1].update(iscrowd=1, segmentation=[[1, 2]]),
    "unknown_category": lambda c: c["annotations"][1].update(category_id=2),
    "crowd_flag_is_none": lambda c: c["annotations"][1].update(iscrowd="0"),
    "image_missing": lambda c: c["images"][1].update(file_name="nowhere.jpg"),
}
WARNINGS = {
    "wrong_keypoint_count_stated", "keypoint_outside_image", "width_and_height_exchanged", "region_of_another_size",
    "empty_polygon",
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_damage_is_the_one_defect_named(tmp_path: Path, kind: str) -> None:
    content = sound_set(tmp_path)
    DAMAGE[kind](content)
    report = check(tmp_path, content)
    assert list(report.by_kind()) == [kind]
    assert len(report.defects) == 1
    assert report.ok == (kind in WARNINGS)
    assert report.counts["images_read"] >= 3


def test_all_damages_at_once_are_all_named(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    sound = json.dumps(content["annotations"][3])
    for i, damage in enumerate(DAMAGE.values()):
        # Every damage gets an image and an annotation of its own in place 1, where it strikes.
        image = {"id": 100 + i, "file_name": "2.jpg", "height": 40, "width": 60}
        annotation = {**json.loads(sound), "id": 1000 + i, "image_id": 100 + i}
        content["images"].insert(1, image)
        content["annotations"].insert(1, annotation)
        damage(content)
    assert set(check(tmp_path, content).by_kind()) == {*DAMAGE, "file_under_two_ids"}  # every image is 2.jpg


def test_a_truncated_image_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    path = tmp_path / "3.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    report = check(tmp_path, content)
    assert [(d.kind, d.image_id) for d in report.defects] == [("image_unreadable", 3)]
    assert "3.jpg is truncated" in report.defects[0].message
    assert report.counts["images_read"] == 3
    assert not report.ok


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("recorded", [(40, 60), (60, 40), (0, 0)])
def test_a_turn_tag_is_named_where_the_size_does_not_decide(
    tmp_path: Path, orientation: int, recorded: tuple[int, int]
) -> None:
    content = sound_set(tmp_path)
    content["images"][1].update(height=recorded[0], width=recorded[1])
    content["annotations"][1].update(keypoints=[20, 20, 2] * 17, bbox=[0, 0, 30, 30])
    with Image.open(tmp_path / "2.jpg") as image:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(tmp_path / "2.jpg", exif=exif)
    defects = [d for d in check(tmp_path, content).defects if d.kind != "width_and_height_exchanged"]
    decided = orientation == 1 or (orientation >= 5 and recorded != (0, 0))
    assert [defect.kind for defect in defects] == [] if decided else ["exif_orientation"]
    if not decided:
        assert f"has EXIF orientation {orientation}: a viewer shows it " in defects[0].message
        assert (defects[0].severity, defects[0].image_id) == ("warning", 2)


def test_what_training_would_use_is_said(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    content["annotations"][0].update(keypoints=[20, 20, 2] * 2 + [0] * 45, num_keypoints=2)
    # sqrt(900) px on a long edge of 60 px, so 641 / 60 times as many in training
    assert check(tmp_path, content).summary == [
        "skeleton coco: 17 keypoints, 19 limbs",
        "3 of 4 persons have at least 3 labelled keypoints",
        "sqrt(area) of a person with the long edge at 641 px: 320 px in the middle, 320 … 320 px for 8 of 10",
    ]
    box = {"keypoints": ["l_a", "r_a", "c", "d"], "skeleton": [[1, 2], [3, 4]], "name": "box"}
    content["categories"][0].update(box)
    for annotation in content["annotations"]:
        annotation.update(keypoints=annotation["keypoints"][:12], num_keypoints=4)
    content["annotations"][0].update(num_keypoints=2)
    lines = check(tmp_path, content).lines()
    assert "  skeleton box: 4 keypoints, 2 limbs in 2 parts (l_a, r_a; c, d)" in lines
    assert "    flip pairs: l_a–r_a (found in the names)" in lines
    assert lines[-1] == "no defects"


def test_images_of_two_splits_are_named(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    (tmp_path / "val.json").write_text(json.dumps({**content, "images": content["images"][1:3], "annotations": []}))
    (tmp_path / "train.json").write_text(json.dumps(content))
    report = check_dataset(tmp_path / "train.json", against=[tmp_path / "val.json"], progress=False)
    assert [(d.kind, d.image_id, d.severity) for d in report.defects] == [
        ("image_in_both_splits", 2, "warning"), ("image_in_both_splits", 3, "warning"),
    ]  # fmt: skip
    assert "image 2.jpg (id 2) is also in " in report.defects[0].message
    missing = check_dataset(tmp_path / "train.json", against=[tmp_path / "nowhere.json"], progress=False)
    assert missing.by_kind() == {"unreadable_split": 1}
    assert not missing.ok


def test_the_command_draws_a_sheet_and_keeps_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    content = sound_set(tmp_path)
    path, sheet = tmp_path / "annotations.json", tmp_path / "drawn" / "sheet.png"
    path.write_text(json.dumps(content))
    words = ["check", str(path), "--images", str(tmp_path), "--sheet", str(sheet)]
    assert main(words) == 0
    assert f"4 annotated images drawn to {sheet}" in capsys.readouterr().out
    assert cv2.imread(str(sheet)).shape[1] > 4 * 320
    (tmp_path / "1.jpg").unlink()  # one that cannot be read is passed over
    assert main(words) == 1
    assert "3 annotated images drawn" in capsys.readouterr().out
    content["annotations"][0]["id"] = "x"
    path.write_text(json.dumps(content))
    assert main(words) == 1
    assert "no sheet: " in capsys.readouterr().out
    assert main(["check", str(path), "--sheet", str(sheet)]) == 2


def test_exchanged_sides_are_suspected_without_the_image(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    DAMAGE["width_and_height_exchanged"](content)
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    report = check_dataset(path)
    outside = [d for d in report.defects if d.kind == "keypoint_outside_image"]
    assert len(outside) == 5
    assert all("if width and height were exchanged" in d.message for d in outside)
    assert [d.message for d in report.defects if d not in outside] == [
        "annotation 20 has a box (5, 3, 50, 34) that leaves its image of 40×60 px"
    ]


@pytest.mark.parametrize("content", [[], {}, {"images": []}, {"images": [{}], "annotations": [1]}, 7, None])
def test_what_is_no_annotation_file_is_reported_and_not_raised(tmp_path: Path, content: Any) -> None:
    report = check(tmp_path, content)
    assert not report.ok
    assert list(report.by_kind()) == ["unreadable_annotations"]
    missing = check_dataset(tmp_path / "nowhere.json")
    assert "nowhere.json does not exist" in missing.defects[0].message


def test_long_lists_are_cut_for_people_and_whole_for_machines(tmp_path: Path) -> None:
    content = sound_set(tmp_path)
    for annotation in content["annotations"]:
        annotation["bbox"] = None
    report = check(tmp_path, content)
    assert len(report.to_dict()["defects"]) == 4
    assert report.lines(examples=1)[-2:] == ["    … and 3 more", "errors found"]


@pytest.mark.parametrize(
    ("annotations", "images", "persons"),
    [
        ("coco/annotations/person_keypoints_val2017_local.json", "coco/val2017", 344),
        ("coco/annotations/person_keypoints_train2017_local.json", "coco/train2017", 737),
        ("coco/annotations/person_keypoints_val2017.json.gz", None, 6352),
        ("crowdpose/samples/test_crowdpose.json", "crowdpose/samples", 4),
        ("mpii/samples/test_mpii.json", "mpii/samples", 5),
        ("mpii/mpii_valid.h5", None, 2958),
        ("crowdpose/crowdpose_val.json", None, 7962),
    ],
)
def test_the_real_sets_have_no_errors(data_root: Path, annotations: str, images: str | None, persons: int) -> None:
    report = check_dataset(data_root / annotations, data_root / images if images else None, progress=False)
    assert report.ok
    assert report.counts["persons"] == persons
    if images:
        assert report.counts["images_read"] == report.counts["images"]
        assert report.defects == []


def mpii_set(folder: Path) -> list[dict[str, Any]]:
    """Three images of 60 × 40 px with one person each, as HRNet's json has them."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.jpg"), rng.integers(0, 255, (40, 60, 3)).astype(np.uint8))
        joints = [[1.0 + 3 * k, 1.0 + 2 * k] for k in range(16)]
        records.append({"image": f"{i}.jpg", "joints": joints, "joints_vis": [1] * 16, "scale": 0.4})
    return records


def spoil_mpii(kind: str, records: list[dict[str, Any]], folder: Path) -> None:
    if kind == "image_unreadable":
        (folder / "1.jpg").write_bytes((folder / "1.jpg").read_bytes()[:-200])
    elif kind == "image_missing":
        (folder / "1.jpg").unlink()
    elif kind == "keypoint_outside_image":
        records[1]["joints"][0] = [80.0, 5.0]
    elif kind == "head_size_unknown":
        records[1].update(joints_vis=[1] * 9 + [0] * 7, scale=0)
    elif kind == "unreadable_annotations":
        records[1]["joints"].pop()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("image_unreadable", "1.jpg is truncated"),
        ("image_missing", "1.jpg does not exist"),
        ("keypoint_outside_image", "annotation 2: right_ankle at \\(79, 4\\) lies outside of image 1 of 60×40 px"),
        ("head_size_unknown", "annotation 2 of image 1 has no head size"),
        ("unreadable_annotations", "annotation 2 needs 16 joints"),
    ],
)
def test_each_damage_of_an_mpii_set_is_the_one_defect_named(tmp_path: Path, kind: str, message: str) -> None:
    records = mpii_set(tmp_path)
    assert check(tmp_path, records).defects == []
    spoil_mpii(kind, records, tmp_path)
    [defect] = check(tmp_path, records).defects
    assert defect.kind == kind
    assert re.search(message, defect.message), defect.message


def test_mpii_counts_pixels_from_one(tmp_path: Path) -> None:
    records = mpii_set(tmp_path)
    records[0]["joints"][0] = [60.0, 40.0]  # the last pixel
    records[1]["joints"][0] = [0.0, 1.0]  # half a pixel beside the first: annotators click on edges
    assert check(tmp_path, records).defects == []
    records[2]["joints"][0] = [-0.5, 1.0]
    assert list(check(tmp_path, records).by_kind()) == ["keypoint_outside_image"]


def test_the_official_release_is_checked_with_its_images_without_joints(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((40, 60, 3), np.uint8))
    person = {"objpos": {"x": 20.0, "y": 20.0}, "scale": 0.2}
    images = [{"image": {"name": name}, "annorect": [person]} for name in ("a.jpg", "b.jpg")]
    savemat(tmp_path / "release.mat", {"RELEASE": {"annolist": np.array(images, dtype=object)}})
    report = check_dataset(tmp_path / "release.mat", tmp_path, progress=False)
    assert [(d.kind, d.image_id) for d in report.defects] == [("image_missing", 1)]
    assert (report.counts["images"], report.counts["persons"], report.counts["unlabelled_persons"]) == (2, 0, 2)
