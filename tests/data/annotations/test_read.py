"""Annotation files as arrays: real files of three data sets, and what damaged ones are answered."""

import gzip
import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.table import Annotations
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, CROWDPOSE, MPII


def coco_content(num_persons: int = 2, skeleton=COCO) -> dict:
    """A well-formed COCO file; person n has area 400, id 10 + n and all keypoints labelled."""
    keypoints = [value for k in range(skeleton.num_keypoints) for value in (3 * k, 2 * k, 2)]
    return {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "nobody.jpg"}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}],
        "annotations": [
            {"id": 10 + n, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 30, 40], "area": 400}
            | {"keypoints": list(keypoints)}
            for n in range(num_persons)
        ],
    }


def write(tmp_path: Path, content: object, name: str = "file.json") -> Path:
    path = tmp_path / name
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_json_and_json_gz_read_the_same(tmp_path):
    plain = read_annotations(write(tmp_path, coco_content()))
    packed = read_annotations(write(tmp_path, coco_content(), "file.json.gz"))
    np.testing.assert_array_equal(plain.keypoints, packed.keypoints)
    assert plain.ids.tolist() == packed.ids.tolist() == [10, 11]
    assert plain.images.ids.tolist() == [1, 2]
    assert plain.images.file_names == ["a.jpg", "nobody.jpg"]
    assert plain.skeleton is COCO


def test_records_of_other_categories_are_left_out(tmp_path):
    content = coco_content()
    content["categories"].append({"id": 18, "name": "dog"})
    content["annotations"].append({"id": 99, "image_id": 1, "category_id": 18, "bbox": [0, 0, 1, 1]})
    assert read_annotations(write(tmp_path, content)).ids.tolist() == [10, 11]


def test_scale_rules_by_hand(tmp_path):
    annotations = read_annotations(write(tmp_path, coco_content()))
    assert annotations.scales("sqrt_area").tolist() == [20, 20]
    assert annotations.scales("bbox_diagonal").tolist() == [50, 50]


def test_a_file_without_areas_takes_a_share_of_the_box(tmp_path):
    content = coco_content(skeleton=CROWDPOSE)
    for record in content["annotations"]:
        del record["area"]
    np.testing.assert_allclose(read_annotations(write(tmp_path, content)).area, 0.53 * 30 * 40)


def test_an_image_file_without_persons_gives_no_record(tmp_path):
    annotations = read_annotations(write(tmp_path, coco_content(0)))
    assert len(annotations) == 0
    assert annotations.keypoints.shape == (0, 17, 3)
    assert annotations.scales("sqrt_area").shape == (0,)


def _broken(**changes) -> dict:
    content = coco_content()
    content["annotations"][1] |= changes
    return content


def _without(key: str) -> dict:
    content = coco_content()
    del content["annotations"][1][key]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ('{"images": [', "not valid JSON"),
        ("17", "is not a COCO file"),
        ({"images": []}, "lists no images"),
        ({**coco_content(), "categories": []}, "0 categories with keypoints"),
        ({**coco_content(), "images": [{"file_name": "a.jpg"}]}, "image at position 0 has no integer 'id'"),
        ({**coco_content(), "annotations": [7]}, "annotation at position 0 is 7"),
        (
            _broken(keypoints=[1, 2, 2] * 16),
            r"annotation 11 has 48 numbers in 'keypoints'; 51 are needed, 17 keypoints",
        ),
        (_broken(keypoints=None), "annotation 11 has None numbers in 'keypoints'"),
        (_broken(keypoints=[math.nan, 2, 2] * 17), "annotation 11 has a keypoint that is not finite"),
        (_broken(keypoints=["left", 2, 2] * 17), "annotation 11 has a keypoint that is not finite; numbers are needed"),
        (_broken(keypoints=[1, 2, 3] * 17), "annotation 11 has a visibility other than 0, 1 or 2"),
        (_broken(area=math.inf), "annotation 11 has area inf; a finite number is needed"),
        (_broken(area=math.nan), "annotation 11 has area nan"),
        (_broken(area="large"), "annotation 11 has area 'large'"),
        (_broken(bbox=[0, 0, 1]), "annotation 11 has 3 numbers in 'bbox'; 4 are needed"),
        (_broken(image_id="one"), "annotation 11 has image_id 'one'; an integer is needed"),
        (_broken(image_id=None), "annotation 11 has image_id None"),
        (_without("area"), "annotation 11 has no 'area'"),
        (_without("id"), "annotation at position 1 has no 'id'"),
    ],
)
def test_damaged_coco_files_are_named(tmp_path, content, message):
    with pytest.raises(GraphposeError, match=message) as error:
        read_annotations(write(tmp_path, content, "damaged.json"))
    assert "damaged.json" in str(error.value)


def test_missing_and_truncated_files_are_named(tmp_path):
    for name in ("gone.json", "gone.h5", "gone.mat"):
        with pytest.raises(GraphposeError, match=f"{name} does not exist"):
            read_annotations(tmp_path / name)
    packed = gzip.compress(json.dumps(coco_content(300)).encode())
    for name, damage in (("cut.json.gz", packed[: len(packed) // 2]), ("plain.json.gz", b'{"images": []}')):
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(GraphposeError, match=rf"{name} cannot be read"):
            read_annotations(tmp_path / name)
    for name in ("text.h5", "text.mat"):
        (tmp_path / name).write_text("this is neither")
        with pytest.raises(GraphposeError, match=name):
            read_annotations(tmp_path / name)


def test_another_skeleton_than_asked_for_is_refused(tmp_path):
    path = write(tmp_path, coco_content())
    with pytest.raises(GraphposeError, match=r"keypoints of coco \(17\), not the 14 of skeleton 'crowdpose'"):
        read_annotations(path, CROWDPOSE)
    assert read_annotations(path, COCO).skeleton is COCO


def test_a_person_without_area_is_named_when_its_scale_is_asked_for(tmp_path):
    annotations = read_annotations(write(tmp_path, coco_content()))
    annotations.area[1] = 0
    with pytest.raises(GraphposeError, match=r"file.json: annotation 11 has area 0, .* \(1 such persons\)"):
        annotations.scales("sqrt_area")
    assert annotations.scales("bbox_diagonal").tolist() == [50, 50]


def test_zero_area_does_not_matter_for_crowds_and_unlabelled_persons(tmp_path):
    for changes in ({"iscrowd": 1}, {"keypoints": [0] * 51}):
        annotations = read_annotations(write(tmp_path, _broken(area=0, **changes)))
        assert annotations.labelled.tolist() == [True, False]
        assert annotations.scales("sqrt_area").tolist() == [20, 0]


def test_a_scale_that_the_file_does_not_know_is_refused(tmp_path):
    annotations = read_annotations(write(tmp_path, coco_content()))
    with pytest.raises(GraphposeError, match="annotation 10 has no head size, which scale rule 'head' needs"):
        annotations.scales("head")
    with pytest.raises(GraphposeError, match="scale rule 'height' is not"):
        annotations.scales("height")  # type: ignore[arg-type]
    joints = [{"image": "a.jpg", "joints": [[k, 2 * k] for k in range(16)], "joints_vis": [1] * 16}]
    with pytest.raises(GraphposeError, match="annotation 1 has no bbox"):
        read_annotations(write(tmp_path, joints)).scales("bbox_diagonal")


def test_crowdpose_val_reads_completely(data_root):
    annotations = read_annotations(data_root / "crowdpose" / "crowdpose_val.json")
    assert annotations.skeleton is CROWDPOSE
    assert (len(annotations), len(annotations.images)) == (8527, 2000)
    assert np.isfinite(annotations.images.crowd_index).all()
    record = np.flatnonzero(annotations.ids == 100016)[0]
    assert annotations.keypoints[record, 0].tolist() == [181, 164, 2]
    np.testing.assert_allclose(annotations.area[record], 0.53 * 129.44 * 271.82)


def test_mpii_h5_and_hrnet_json_agree_on_the_same_persons(data_root):
    h5 = read_annotations(data_root / "mpii" / "mpii_valid.h5")
    records = read_annotations(data_root / "mpii" / "samples" / "test_mpii.json")
    assert h5.skeleton is records.skeleton is MPII
    assert len(h5) == 2958
    for n, image in enumerate(records.image_index.tolist()):
        candidates = h5.select(h5.image_index == h5.images.file_names.index(records.images.file_names[image]))
        both = (records.keypoints[n, :, 2] > 0) & (candidates.keypoints[:, :, 2] > 0)
        distance = np.abs(candidates.keypoints[:, :, :2] - records.keypoints[n, :, :2]).max(axis=2)
        same = np.flatnonzero(np.where(both, distance, 0).max(axis=1) < 1)  # the h5 rounds joints of the head
        assert len(same) == 1
        np.testing.assert_array_equal(candidates.keypoints[same[0], :, 2] > 0, records.keypoints[n, :, 2] > 0)
        # Head rectangle against 0.75 times head top to upper neck.
        np.testing.assert_allclose(records.head_size[n], candidates.head_size[same[0]], rtol=1e-4)


def _as_release(annotations: Annotations) -> dict:
    """The official MATLAB struct with the first joint's visibility blank, as on head joints."""
    annolist = []
    for n in range(len(annotations)):
        points = [
            {"x": x, "y": y, "id": k, "is_visible": np.array([]) if k == 0 else v - 1}
            for k, (x, y, v) in enumerate(annotations.keypoints[n] + (1, 1, 0))
            if v > 0
        ]
        size = annotations.head_size[n] / 0.6
        head = {"x1": 10.0, "y1": 20.0, "x2": 10 + 0.6 * size, "y2": 20 + 0.8 * size}
        name = annotations.images.file_names[annotations.image_index[n]]
        side_person = {**head, "annopoints": np.array([])}
        persons = [{**head, "annopoints": {"point": points}}, side_person]
        annolist.append({"image": {"name": name}, "annorect": persons[: 1 + n % 2]})
    annolist.append({"image": {"name": "test_set.jpg"}, "annorect": []})
    return {"RELEASE": {"annolist": np.array(annolist, dtype=object)}}


def test_the_official_release_gives_the_same_persons_as_the_h5(data_root, tmp_path):
    h5 = read_annotations(data_root / "mpii" / "mpii_valid.h5")
    h5 = h5.select(np.arange(12))
    savemat(tmp_path / "release.mat", _as_release(h5))
    release = read_annotations(tmp_path / "release.mat")
    np.testing.assert_array_equal(release.keypoints[:, 1:], h5.keypoints[:, 1:])
    np.testing.assert_allclose(release.head_size, h5.head_size)
    names = [release.images.file_names[i] for i in release.image_index.tolist()]
    assert names == [h5.images.file_names[i] for i in h5.image_index.tolist()]
    # A blank visibility means labelled, not visible.
    assert set(release.keypoints[:, 0, 2]) <= {0, 1}


def test_hrnets_mat_gives_labels_and_head_boxes(tmp_path):
    rng = np.random.default_rng(0)
    joints, missing = rng.uniform(0, 100, (16, 2, 3)), rng.uniform(size=(16, 3)) < 0.3
    boxes = np.zeros((2, 2, 3))
    boxes[1] = [[30], [40]]
    savemat(tmp_path / "gt.mat", {"pos_gt_src": joints, "jnt_missing": missing, "headboxes_src": boxes})
    annotations = read_annotations(tmp_path / "gt.mat")
    np.testing.assert_allclose(annotations.head_size, 0.6 * 50)
    np.testing.assert_array_equal(annotations.keypoints[:, :, 2] == 0, missing.T)
    seen = annotations.keypoints[1][~missing[:, 1]]
    np.testing.assert_array_equal(seen[:, :2], joints[~missing[:, 1], :, 1] - 1)  # pixels count from 0 here


def test_mpii_without_a_head_has_no_scale_and_is_no_error(tmp_path):
    record = {"image": "a.jpg", "joints": [[k, 2 * k] for k in range(16)], "joints_vis": [1] * 16}
    headless = {**record, "joints_vis": [int(name != "head_top") for name in MPII.keypoints]}
    annotations = read_annotations(write(tmp_path, [record, headless]))
    np.testing.assert_allclose(annotations.scales("head"), [0.75 * math.hypot(1, 2), math.nan])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"joints": []}], "annotation 1 needs 'image', 'joints' and 'joints_vis'"),
        ([{"image": "a", "joints": [[1, 2]] * 15, "joints_vis": [1] * 16}], "annotation 1 needs 16 joints"),
        ([{"image": "a", "joints": [[1, math.nan]] * 16, "joints_vis": [1] * 16}], "annotation 1 has a keypoint"),
        (
            [{"image": "a", "joints": [["x", 2]] * 16, "joints_vis": [1] * 16}],
            "annotation 1 needs 16 joints of 2 numbers",
        ),
    ],
)
def test_damaged_hrnet_records_are_named(tmp_path, content, message):
    with pytest.raises(GraphposeError, match=message) as error:
        read_annotations(write(tmp_path, content, "damaged.json"))
    assert "damaged.json" in str(error.value)


def test_a_mat_or_h5_of_something_else_is_refused(tmp_path):
    savemat(tmp_path / "other.mat", {"x": 1})
    with pytest.raises(GraphposeError, match=r"other.mat holds neither"):
        read_annotations(tmp_path / "other.mat")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["part"] = np.zeros((1, 16, 2))
    with pytest.raises(GraphposeError, match=r"other.h5 is not MPII's h5 form"):
        read_annotations(tmp_path / "other.h5")
    with h5py.File(tmp_path / "short.h5", "w") as file:
        file["part"], file["visible"] = np.zeros((1, 15, 2)), np.zeros((1, 15))
        file["normalize"], file["index"], file["imgname"] = [1.0], [0], np.array([b"a.jpg"])
    with pytest.raises(GraphposeError, match=r"short.h5 has 15 keypoints"):
        read_annotations(tmp_path / "short.h5")
