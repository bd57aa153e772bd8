"""MPII as a data set of images: one person is the same in every form."""

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from scipy.io import savemat

from graphpose.data.annotations.mpii import NO_GROUP
from graphpose.data.annotations.mpii_release import read_release
from graphpose.data.annotations.read import read_annotations
from graphpose.data.coco import CocoDataset
from graphpose.data.dataset import PoseDataset
from graphpose.data.loader import make_loader
from graphpose.data.mpii import MpiiDataset
from graphpose.data.open import open_dataset
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.fields.spec import FieldSpec
from graphpose.metrics.coco import coco_results, evaluate_coco
from graphpose.metrics.mpii import METRICS, evaluate_mpii
from graphpose.metrics.protocol import protocol_of
from graphpose.skeleton import COCO, MPII

JOINTS = np.array([(20.0 + 6 * k, 30.0 + 3 * (k % 5)) for k in range(16)])
JOINTS[8:10] = (60, 60), (60, 40)  # upper neck, head top: a head size of 0.75 · 20 = 15
LABELLED = np.array([k != 0 for k in range(16)])  # the right ankle is not


def point(k: int) -> dict[str, Any]:
    return {"x": JOINTS[k, 0], "y": JOINTS[k, 1], "id": k, "is_visible": np.array([]) if k in (8, 9) else 1}


def rect(**changes: Any) -> dict[str, Any]:
    """A person of the release: head rectangle with a diagonal of 25 px, a head size of 15."""
    points = [point(k) for k in range(16) if LABELLED[k]]
    place = {"objpos": {"x": 70.0, "y": 50.0}, "scale": 0.6}
    return {"x1": 50.0, "y1": 38.0, "x2": 65.0, "y2": 58.0, "annopoints": {"point": points}, **place} | changes


def write_release(folder: Path, **changes: Any) -> Path:
    """Three images: a person and one without joints; two persons; the test set's."""
    blank = {"annopoints": np.array([]), "x1": np.array([]), "objpos": {"x": 150.0, "y": 60.0}, "scale": 0.25}
    two = [rect(), rect(scale=0.5), rect(objpos={"x": 10.0, "y": 10.0})]
    release = {
        "annolist": np.array(
            [
                {"image": {"name": "one.jpg"}, "annorect": [rect(), rect(**blank)]},
                {"image": {"name": "two.jpg"}, "annorect": two},
                {"image": {"name": "test.jpg"}, "annorect": [rect(**blank)]},
            ],
            dtype=object,
        ),
        "img_train": np.array([1, 1, 0]),
        "single_person": np.array([np.array([1.0]), np.array([3.0]), np.array([])], dtype=object),
    } | changes
    savemat(folder / "release.mat", {"RELEASE": release})
    return folder / "release.mat"


def write_images(folder: Path, *names: str) -> None:
    for name in names:
        cv2.imwrite(str(folder / name), np.full((100, 200, 3), 128, np.uint8))


def write_h5(folder: Path) -> Path:
    part = np.where(LABELLED[:, None], JOINTS, 0)[None]
    with h5py.File(folder / "valid.h5", "w") as file:
        file["part"], file["visible"] = part, LABELLED[None].astype(float)
        file["normalize"], file["index"] = np.array([15.0]), np.array([0.0])
        file["imgname"] = np.array([b"one.jpg"])
    return folder / "valid.h5"


def write_json(folder: Path, **changes: Any) -> Path:
    record = {"image": "one.jpg", "joints": JOINTS.tolist(), "joints_vis": LABELLED.astype(int).tolist(), "scale": 0.6}
    (folder / "valid.json").write_text(json.dumps([record | changes]))
    return folder / "valid.json"


@pytest.mark.parametrize("write", [write_release, write_h5, write_json])
def test_every_form_gives_the_same_person_counted_from_pixel_zero(tmp_path: Path, write: Any) -> None:
    write_images(tmp_path, "one.jpg")
    dataset = open_dataset(write(tmp_path), tmp_path)
    assert isinstance(dataset, MpiiDataset)
    assert isinstance(dataset, PoseDataset)
    assert dataset.skeleton is MPII
    sample = dataset[0]
    assert sample.file_name == "one.jpg"
    assert sample.image.shape == (100, 200, 3)
    assert sample.persons.keypoints[0, LABELLED, :2].tolist() == (JOINTS[LABELLED] - 1).tolist()
    assert (sample.persons.keypoints[0, :, 2] > 0).tolist() == LABELLED.tolist()
    assert sample.persons.keypoints[0, 0].tolist() == [0, 0, 0]
    assert sample.persons.area[0] == pytest.approx((3.6 * 15) ** 2)
    low, high = JOINTS[LABELLED].min(axis=0) - 1 - 7.5, JOINTS[LABELLED].max(axis=0) - 1 + 7.5
    assert sample.persons.bbox[0].tolist() == pytest.approx([*low, *(high - low)])
    annotation = dataset.ground_truth()["annotations"][0]
    assert annotation["head_size"] == pytest.approx(15)
    assert annotation["num_keypoints"] == 15
    assert annotation["id"] == 1  # pycocotools takes 0 for no match


def test_a_person_without_joints_is_ignored_and_no_target(tmp_path: Path) -> None:
    write_images(tmp_path, "one.jpg")
    sample = MpiiDataset(write_release(tmp_path), tmp_path)[0]
    assert (sample.persons.keypoints[:, :, 2] > 0).any(axis=1).tolist() == [True, False]
    rows, columns = np.nonzero(sample.ignore)  # 50 px around (149, 59)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (34, 83, 124, 173)


def test_a_person_of_unknown_head_size_is_ignored(tmp_path: Path) -> None:
    write_images(tmp_path, "one.jpg")
    visible = [int(k not in (0, 9)) for k in range(16)]
    known = MpiiDataset(write_json(tmp_path, joints_vis=visible), tmp_path)
    assert known.annotations.head_size.tolist() == pytest.approx([15])  # 25 · 0.6
    dataset = MpiiDataset(write_json(tmp_path, joints_vis=visible, scale=None), tmp_path)
    assert [a["head_size"] for a in dataset.ground_truth()["annotations"]] == [None]
    assert dataset[0].ignore[40, 60]
    assert not (dataset[0].persons.keypoints[:, :, 2] > 0).any()
    with pytest.raises(GraphposeError, match="no image is left"):
        MpiiDataset(tmp_path / "valid.json", tmp_path, require_persons=True)


def test_splits_of_the_release_are_its_own(tmp_path: Path) -> None:
    path = write_release(tmp_path)
    assert MpiiDataset(path, tmp_path).image_ids == [0, 1, 2]
    assert MpiiDataset(path, tmp_path, split="train").image_ids == [0, 1]
    assert MpiiDataset(path, tmp_path, split="test").image_ids == [2]
    assert MpiiDataset(path, tmp_path, image_ids=[1, 0]).image_ids == [1, 0]
    with pytest.raises(GraphposeError, match="must be train or test"):
        MpiiDataset(path, tmp_path, split="valid")  # type: ignore[arg-type]
    with pytest.raises(GraphposeError, match="no official release"):
        MpiiDataset(write_h5(tmp_path), tmp_path, split="train")


def cells(*values: Any) -> np.ndarray:
    """A MATLAB cell array."""
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def structs(records: list[dict[str, Any]]) -> np.ndarray:
    """An array of MATLAB structs, as the release has them, and not a cell of single ones."""
    array = np.empty(len(records), [(name, object) for name in records[0]])
    for n, record in enumerate(records):
        array[n] = tuple(record.values())
    return array


def test_the_release_says_what_is_done_in_its_images(tmp_path):
    persons = [structs([rect(), rect(scale=0.5)]), structs([rect()]), structs([rect()])]
    images = [{"image": {"name": f"{n}.jpg"}, "annorect": own, "vididx": n} for n, own in enumerate(persons)]
    acts = [
        {"act_name": "skiing, downhill", "cat_name": "winter activities", "act_id": 7},
        {"act_name": np.array([]), "cat_name": np.array([]), "act_id": -1},
        {"act_name": "yoga", "cat_name": "conditioning exercise", "act_id": 9},
    ]
    release = {"annolist": structs(images)[None], "img_train": np.array([[1, 0, 1]]), "act": structs(acts)[:, None]}
    savemat(tmp_path / "release.mat", {"RELEASE": release})
    annotations = read_annotations(tmp_path / "release.mat")
    activities = annotations.images.activities
    assert list(activities) == [("winter activities", "skiing, downhill"), ("", ""), ("conditioning exercise", "yoga")]
    assert [image.activity for image in read_release(tmp_path / "release.mat")] == ["skiing, downhill", "", "yoga"]
    assert list(annotations.select_images(np.array([2, 0])).images.activities) == [activities[2], activities[0]]
    assert read_annotations(write_release(tmp_path)).images.activities == ()
    savemat(tmp_path / "short.mat", {"RELEASE": release | {"act": structs(acts[:2])[:, None]}})
    with pytest.raises(GraphposeError, match=r"short\.mat has 3 images and 2 activities in act"):
        read_annotations(tmp_path / "short.mat")


def test_groups_are_those_of_the_toolkit_without_persons_who_stand_apart(tmp_path: Path) -> None:
    path = write_release(tmp_path)
    one_by_one = cells(np.array([1.0]), np.array([2.0]))
    savemat(
        tmp_path / "groups.mat", {"groups": cells(one_by_one, cells(np.array([1.0, 2.0]), np.array([3.0])), cells())}
    )
    dataset = MpiiDataset(path, tmp_path, groups=tmp_path / "groups.mat")
    # image one: its first person is single; image two: the third is
    assert dataset.annotations.group.tolist() == [NO_GROUP, 1, 0, 0, NO_GROUP, NO_GROUP]
    truth = dataset.ground_truth()
    found = [a for a in truth["annotations"] if a["id"] in (3, 4)]
    results = [{"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0} for a in found]
    truth["annotations"][3]["keypoints"] = [v + 500 if i % 3 == 0 else v for i, v in enumerate(found[1]["keypoints"])]
    figures = evaluate_mpii(truth, results)
    assert figures["PCKh"] == 0.5
    savemat(tmp_path / "short.mat", {"groups": cells(one_by_one, one_by_one)})
    with pytest.raises(GraphposeError, match="groups of 2 images, but the release has 3"):
        MpiiDataset(path, tmp_path, groups=tmp_path / "short.mat")


def test_ground_truth_is_read_back_as_a_coco_file(tmp_path: Path) -> None:
    dataset = MpiiDataset(write_release(tmp_path), tmp_path)
    truth = dataset.ground_truth()
    (tmp_path / "coco.json").write_text(json.dumps(truth))
    back = CocoDataset(tmp_path / "coco.json", tmp_path)
    assert back.skeleton is MPII
    np.testing.assert_array_equal(back.persons(0).keypoints, dataset.persons(0).keypoints)
    assert back.persons(0).area == pytest.approx(dataset.persons(0).area)
    assert protocol_of(truth, MPII) == "mpii"
    assert protocol_of(back.ground_truth(), MPII) == "coco"


def test_a_data_set_travels_to_workers_and_gives_batches(tmp_path: Path) -> None:
    write_images(tmp_path, "one.jpg")
    dataset = pickle.loads(pickle.dumps(MpiiDataset(write_h5(tmp_path), tmp_path)))
    [batch] = make_loader(dataset, EvalTransform(None), 1, shuffle=False)
    assert batch.keypoints.shape == (1, 1, 16, 3)
    assert batch.scales[0, 0].item() == pytest.approx(3.6 * 15)


def test_files_that_are_not_mpii_are_named(tmp_path: Path) -> None:
    savemat(tmp_path / "gt.mat", {"pos_gt_src": np.zeros((16, 2, 1))})
    with pytest.raises(GraphposeError, match=r"gt\.mat holds no struct RELEASE"):
        MpiiDataset(tmp_path / "gt.mat", tmp_path)
    with pytest.raises(GraphposeError, match=r"nowhere\.mat does not exist"):
        MpiiDataset(tmp_path / "nowhere.mat", tmp_path)
    with pytest.raises(GraphposeError, match="not those of skeleton 'coco'"):
        open_dataset(write_h5(tmp_path), tmp_path, skeleton=COCO)
    short = write_release(tmp_path, img_train=np.array([1, 1]))
    with pytest.raises(GraphposeError, match="3 images, 2 in img_train"):
        MpiiDataset(short, tmp_path)


def test_the_real_photographs_open_with_their_persons(data_root: Path) -> None:
    folder = data_root / "mpii/samples"
    dataset = open_dataset(folder / "test_mpii.json", folder)
    assert len(dataset) == 5
    for index in range(5):
        sample = dataset[index]
        height, width = sample.image.shape[:2]
        seen = sample.persons.keypoints[0, sample.persons.keypoints[0, :, 2] > 0]
        assert (seen[:, :2] >= 0).all()
        assert (seen[:, 0] < width).all()
        assert (seen[:, 1] < height).all()


def test_the_real_validation_set_scores_one_with_its_own_poses(data_root: Path) -> None:
    dataset = MpiiDataset(data_root / "mpii/mpii_valid.h5", data_root)
    assert len(dataset) == 2729
    truth = dataset.ground_truth()
    assert len(truth["annotations"]) == 2958
    results = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 0.9}
        for a in truth["annotations"]
    ]
    assert evaluate_mpii(truth, results) == pytest.approx(dict.fromkeys(METRICS, 1.0))
    assert evaluate_coco(truth, results, MPII)["AP"] == pytest.approx(1.0)


def test_encoded_persons_of_the_real_photographs_decode_to_full_scores(data_root: Path) -> None:
    """Fields of MPII persons, in the scale estimated from the head, come back through the decoder."""
    from graphpose.fields.decode import build_decoder
    from graphpose.fields.encode import encode, perfect_fields

    folder = data_root / "mpii/samples"
    dataset = open_dataset(folder / "test_mpii.json", folder)
    spec = FieldSpec(MPII, 8)
    decoder = build_decoder(spec)
    results = []
    for batch in make_loader(dataset, EvalTransform(641), 1, shuffle=False):
        size = batch.images.shape[-2:]
        pif, paf = perfect_fields(encode(batch.keypoints, batch.scales, spec, tuple(size)))
        poses = decoder(pif[0], paf[0], tuple(size)).mapped(batch.to_original[0].numpy())
        results += coco_results(batch.image_ids[0], poses)
    figures = evaluate_mpii(dataset.ground_truth(), results)
    assert figures["PCKh"] >= 0.95
    assert figures["mAP"] >= 0.95
