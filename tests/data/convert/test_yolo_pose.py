"""YOLO-pose text as COCO files: data sets made by hand after Ultralytics' documentation."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from graphpose.cli import main
from graphpose.data.annotations.read import read_annotations
from graphpose.data.check import check_dataset
from graphpose.data.convert.yolo_pose import convert_split, labels_of, read_data_yaml
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO
from graphpose.visualize import save_image

DATA = """# a face
path: {path}
train: images/train
val: images/val
test:
kpt_shape: [3, 3]
flip_idx: [0, 2, 1]
names:
  0: face
kpt_names:
  0: [nose, left_eye, right_eye]
"""
# in an image of 200 × 100: box (40, 10, 80, 60); nose (80, 50), left eye (100.5, 30), hidden right eye (60, 30)
LINE = "0 0.4 0.4 0.4 0.6 0.4 0.5 2 0.5025 0.3 2 0.3 0.3 1"


def face_set(folder: Path, data: str = DATA, line: str = LINE) -> Path:
    """A face in images/train/a.png, nobody in images/train/sub/b.png, and the face in images/val/c.png."""
    for name in ("train/a", "train/sub/b", "val/c"):
        save_image(folder / "images" / f"{name}.png", np.zeros((100, 200, 3), np.uint8))
    for name in ("train/a", "val/c"):
        label = folder / "labels" / f"{name}.txt"
        label.parent.mkdir(parents=True)
        label.write_text(line + "\n")
    (folder / "data.yaml").write_text(data.format(path=folder))
    return folder / "data.yaml"


def convert(path: Path, *options: str) -> int:
    return main(["convert", str(path), "--out", str(path.parent / "coco"), *options])


def test_every_number_of_a_face_and_the_check_is_clean(tmp_path, capsys):
    assert convert(face_set(tmp_path)) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'coco/train.json'}: 2 images, 1 persons, 3 labelled keypoints" in out
    assert f"next: graphpose check {tmp_path / 'coco/val.json'} --images {tmp_path}" in out
    table = read_annotations(tmp_path / "coco/train.json")
    assert table.images.file_names == ["images/train/a.png", "images/train/sub/b.png"]
    assert table.images.sizes.tolist() == [[100, 200], [100, 200]]
    assert table.keypoints.tolist() == [[[80, 50, 2], [100.5, 30, 2], [60, 30, 1]]]
    np.testing.assert_allclose(table.bbox, [[40, 10, 80, 60]])
    np.testing.assert_allclose(table.area, [0.53 * 80 * 60])
    assert (table.skeleton.name, table.skeleton.keypoints) == ("face", ("nose", "left_eye", "right_eye"))
    assert table.skeleton.flip_pairs == ((1, 2),)
    # no limbs: the reader's tree, nose–eye twice (28.7 and 28.3 px against 40.5)
    assert table.skeleton.limbs == ((0, 1), (0, 2))
    for split in ("train", "val"):
        report = check_dataset(tmp_path / f"coco/{split}.json", tmp_path)
        assert report.by_kind() == {"no_limbs_stated": 1}


def test_limbs_and_names_from_options(tmp_path):
    path = face_set(tmp_path, DATA.partition("kpt_names")[0])
    assert convert(path, "--keypoints", "tip", "l_wing", "r:wing", "--limbs", "tip:l_wing", "1:r:wing") == 0
    table = read_annotations(tmp_path / "coco/train.json")
    assert table.skeleton.keypoints == ("tip", "l_wing", "r:wing")
    assert table.skeleton.limbs == ((0, 1), (0, 2))
    assert check_dataset(tmp_path / "coco/val.json", tmp_path).defects == []


def test_keypoints_that_nobody_names_are_numbered_with_a_line(tmp_path, capsys):
    assert convert(face_set(tmp_path, DATA.partition("kpt_names")[0])) == 0
    assert "does not name the keypoints" in capsys.readouterr().out
    skeleton = read_annotations(tmp_path / "coco/train.json").skeleton
    assert skeleton.keypoints == ("keypoint_1", "keypoint_2", "keypoint_3")
    assert skeleton.flip_pairs == ((1, 2),)


def test_coco_keypoints_by_their_name_are_coco_s_skeleton(tmp_path):
    flip = "[0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]"
    data = f"train: images/train\nkpt_shape: [17, 3]\nflip_idx: {flip}\nnames: [person]\n"
    path = face_set(tmp_path, data, "0 0.5 0.5 1 1" + " 0.25 0.75 2" * 17)
    assert convert(path, "--keypoints", "coco") == 0
    assert read_annotations(tmp_path / "coco/train.json").skeleton is COCO


def test_without_visibility_negative_and_zero_are_not_labelled(tmp_path):
    data = DATA.replace("[3, 3]", "[3, 2]")
    assert convert(face_set(tmp_path, data, "0 0.4 0.4 0.4 0.6 0.4 0.5 -1 -1 0 0"), "--limbs", "1:2") == 0
    table = read_annotations(tmp_path / "coco/train.json")
    assert table.keypoints.tolist() == [[[80, 50, 2], [0, 0, 0], [0, 0, 0]]]


def test_an_object_without_labels_is_an_unlabelled_person(tmp_path):
    assert convert(face_set(tmp_path, line="0 0.4 0.4 0.4 0.6" + " 0 0 0" * 3), "--limbs", "1:2") == 0
    table = read_annotations(tmp_path / "coco/train.json")
    assert table.labelled.tolist() == [False]
    np.testing.assert_allclose(table.bbox, [[40, 10, 80, 60]])


def test_no_flip_idx_states_nothing_and_no_exchange_states_that_there_is_none(tmp_path):
    path = face_set(tmp_path, DATA.replace("flip_idx: [0, 2, 1]", "flip_idx: []"))
    assert read_data_yaml(path).flip_pairs is None
    path.write_text(path.read_text().replace("flip_idx: []", "flip_idx: [0, 1, 2]"))
    assert read_data_yaml(path).flip_pairs == ()


def test_several_classes_are_categories_to_choose_from(tmp_path, capsys):
    data = DATA.partition("names:")[0] + "names: [cat, dog]\nkpt_names: [[a, b, c], [a, b, c]]\n"
    assert convert(face_set(tmp_path, data, LINE + "\n\n1" + LINE[1:])) == 0
    assert "2 classes (cat, dog): choose one with --category" in capsys.readouterr().out
    assert read_annotations(tmp_path / "coco/train.json", category="dog").ids.tolist() == [2]


def test_roboflow_s_paths_lists_of_files_and_other_machines_paths_are_found(tmp_path):
    face_set(tmp_path)
    (tmp_path / "train.txt").write_text("./images/train/a.png\nimages/train/sub/b.png\n")
    head = "path: /home/somebody/faces\nkpt_shape: [3, 3]\nnames: [face]\n"
    for train in ("../images/train", "train.txt", "[images/train/sub, train.txt]"):
        (tmp_path / "data.yaml").write_text(f"{head}train: {train}\n")
        data = read_data_yaml(tmp_path / "data.yaml")
        assert [path.name for path in data.splits["train"]] == ["a.png", "b.png"]
        assert data.root == tmp_path.resolve()


def test_labels_stand_below_labels_in_place_of_the_last_images():
    assert labels_of(Path("/images/x/images/train/a.b.jpg")) == Path("/images/x/labels/train/a.b.txt")
    assert labels_of(Path("/x/train/a.jpg")) == Path("/x/train/a.txt")


def test_label_files_without_an_image_are_counted(tmp_path, capsys):
    path = face_set(tmp_path)
    (tmp_path / "labels/train/gone.txt").write_text(LINE)
    assert convert(path) == 0
    assert "1 label files beside them have no image" in capsys.readouterr().out


def test_a_photograph_with_an_exif_turn_has_the_size_that_viewers_show(tmp_path):
    from PIL import Image

    path = face_set(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(tmp_path / "images/train/a.png", exif=exif)
    assert convert(path) == 0
    table = read_annotations(tmp_path / "coco/train.json")
    assert table.images.sizes[0].tolist() == [200, 100]
    assert table.keypoints[0, 0].tolist() == [40, 100, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE + " 7", r"train/a.txt, line 2: 15 numbers; 14 are needed: class, box \(4\), and 3 keypoints of 3"),
        (LINE[:-4], "train/a.txt, line 2: 13 numbers; 14 are needed"),
        ("1" + LINE[1:], "train/a.txt, line 2: class 1; data.yaml has 0 … 0"),
        ("0.5" + LINE[1:], "train/a.txt, line 2: class 0.5"),
        (LINE.replace("0.5025", "x"), "train/a.txt, line 2: 'x' is no number"),
        (LINE.replace("0.5025", "nan"), r"train/a.txt, line 2: keypoint 2 is at nan, 0.3; shares"),
        (LINE.replace("0.5025", "100.5"), r"train/a.txt, line 2: keypoint 2 is at 100.5, 0.3; shares of width and hei"),
        (LINE.replace("0.6", "60"), r"train/a.txt, line 2: box 0.4, 0.4, 0.4, 60; shares of width and height within"),
        (LINE[:-1] + "3", "train/a.txt, line 2: keypoint 3 has visibility 3; 0, 1 or 2 is needed"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, capsys, line, message):
    assert convert(face_set(tmp_path, line=f"{LINE}\n{line}")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "coco").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DATA.replace("kpt_shape: [3, 3]", "nc: 1"), "has no 'kpt_shape'"),
        (DATA.replace("[3, 3]", "[3, 4]"), r"kpt_shape is \[3, 4\]; the number of keypoints and 2 or 3"),
        (DATA.replace("[0, 2, 1]", "[1, 2, 0]"), r"flip_idx is \[1, 2, 0\]; the 3 indices of the keypoints"),
        (DATA.replace("[0, 2, 1]", "[0, 2]"), r"flip_idx is \[0, 2\]"),
        (DATA.replace(", right_eye", ""), "kpt_shape has 3 keypoints, kpt_names 2; a name for each"),
        (DATA.replace("right_eye", "nose"), r"category 'face' \(id 1\) has the keypoint 'nose' twice"),
        (DATA.replace("images/val", "images/gone"), "val 'images/gone' is not in"),
        (DATA.replace("  0: face", "  1: face"), "names is {1: 'face'}; a list of class names is needed"),
        ("kpt_shape: [3, 3]\nnames: [face]\n", "names no images"),
        ("train: images\n  kpt_shape: [3, 3]\n", "data.yaml, line 2: no YAML"),
    ],
)
def test_a_wrong_data_yaml_is_named(tmp_path, data, message):
    path = face_set(tmp_path)
    path.write_text(data.replace("{path}", str(tmp_path)))
    with pytest.raises(GraphposeError, match=message) as caught:
        convert_split(read_data_yaml(path), "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limbs", "nose-left_eye"], "limb 'nose-left_eye' is not A:B"),
        (["--limbs", "1:4"], "limb '1:4' is not A:B with two different keypoints"),
        (["--limbs", "nose:1"], "limb 'nose:1' is not A:B"),
        (["--keypoints", "a", "b"], "kpt_shape has 3 keypoints, --keypoints 2"),
        (["--images", "x"], "--images is of DeepLabCut's files"),
    ],
)
def test_wrong_options_are_named(tmp_path, capsys, options, message):
    assert convert(face_set(tmp_path), *options) == 2
    assert message in capsys.readouterr().err


def test_what_is_neither_form_is_refused(tmp_path, capsys):
    assert main(["convert", str(tmp_path), "--out", str(tmp_path / "coco")]) == 2
    assert "has neither a data.yaml nor labeled-data" in capsys.readouterr().err
    assert main(["convert", "a.yaml", "b.csv", "--out", str(tmp_path / "coco")]) == 2
    assert "one data.yaml, or DeepLabCut's .csv files, can be converted at a time" in capsys.readouterr().err


def test_persons_of_a_coco_file_survive_the_way_there_and_back(tmp_path):
    """Random persons written as YOLO-pose text by another code are read as they were, to a thousandth of a pixel."""
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(10, 90, (5, 3, 2)) * (2, 1)
    lines = []
    for person in keypoints:
        low, high = person.min(axis=0), person.max(axis=0)
        shares = np.concatenate([(low + high) / 2, high - low, *np.insert(person, 2, 2, axis=1)])
        shares[[0, 1, 2, 3, 4, 5, 7, 8, 10, 11]] /= np.tile([200, 100], 5)
        lines.append("0 " + " ".join(f"{value:.8f}" for value in shares))
    assert convert(face_set(tmp_path, line="\n".join(lines))) == 0
    table = read_annotations(tmp_path / "coco/train.json")
    np.testing.assert_allclose(table.keypoints[:, :, :2], keypoints, atol=1e-3)
    assert json.loads((tmp_path / "coco/train.json").read_text())["annotations"][4]["num_keypoints"] == 3
