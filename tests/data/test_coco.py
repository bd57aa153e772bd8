"""COCO-format data sets: what a sample holds, what is ignored, and what is refused with which words."""

import gzip
import json
import pickle
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from graphpose.data.annotations.table import coco_category
from graphpose.data.coco import CocoDataset
from graphpose.data.dataset import PoseDataset
from graphpose.data.image import read_image
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, CROWDPOSE


def person(annotation_id: int, image_id: int = 7, K: int = 17, **changes: Any) -> dict[str, Any]:
    keypoints = [value for k in range(K) for value in (10 + k, 20 + k, 2)]
    record = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [10, 20, 16, 16],
        "area": 130.0,
        "keypoints": keypoints,
        "num_keypoints": K,
    }
    return {**record, **changes}


def write_set(folder: Path, annotations: list[dict[str, Any]], **changes: Any) -> Path:
    """Two images, ids 7 and 3 in that order, of 60 × 40 px, and the annotations given."""
    content: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "seven.jpg", "width": 60, "height": 40},
            {"id": 3, "file_name": "three.jpg", "width": 60, "height": 40},
        ],
        "annotations": annotations,
        "categories": [coco_category(COCO)],
        **changes,
    }
    for name in ("seven.jpg", "three.jpg"):
        cv2.imwrite(str(folder / name), np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8))
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def open_set(folder: Path, annotations: list[dict[str, Any]], **changes: Any) -> CocoDataset:
    return CocoDataset(write_set(folder, annotations, **changes), folder)


def test_a_sample_holds_the_records_of_its_own_image_in_file_order(tmp_path: Path) -> None:
    dataset = open_set(tmp_path, [person(1, 3), person(2, 7), person(5, 3, area=9.0), person(4, 7)])
    assert isinstance(dataset, PoseDataset)
    assert dataset.image_ids == [7, 3]
    assert [dataset[0].persons.ids.tolist(), dataset[1].persons.ids.tolist()] == [[2, 4], [1, 5]]
    assert dataset[1].persons.area.tolist() == [130.0, 9.0]
    assert dataset[0].image.shape == (40, 60, 3)
    assert dataset[0].persons.keypoints[0, 3].tolist() == [13, 23, 2]


def test_image_ids_come_from_the_records_not_from_file_names(tmp_path: Path) -> None:
    dataset = open_set(tmp_path, [])
    assert [(dataset[i].image_id, dataset[i].file_name) for i in (0, 1)] == [(7, "seven.jpg"), (3, "three.jpg")]


def test_an_image_without_persons_is_a_sample_with_none(tmp_path: Path) -> None:
    sample = open_set(tmp_path, [person(1, 3)])[0]
    assert sample.persons.keypoints.shape == (0, 17, 3)
    assert not sample.ignore.any()


def test_gzipped_and_plain_files_read_alike(tmp_path: Path) -> None:
    path = write_set(tmp_path, [person(1), person(2, 3)])
    zipped = tmp_path / "annotations.json.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert (
        CocoDataset(zipped, tmp_path).ground_truth()["annotations"]
        == (CocoDataset(path, tmp_path).ground_truth()["annotations"])
    )


def test_image_ids_choose_a_subset_in_their_order(tmp_path: Path) -> None:
    path = write_set(tmp_path, [person(1, 3), person(2, 7)])
    dataset = CocoDataset(path, tmp_path, image_ids=[3])
    assert dataset.image_ids == [3]
    assert dataset[0].persons.ids.tolist() == [1]
    assert [a["id"] for a in dataset.ground_truth()["annotations"]] == [1]
    reordered = CocoDataset(path, tmp_path, image_ids=[3, 7])
    assert [reordered[i].persons.ids.tolist() for i in (0, 1)] == [[1], [2]]
    with pytest.raises(GraphposeError, match="no image 99"):
        CocoDataset(path, tmp_path, image_ids=[3, 99])


def test_require_persons_leaves_out_images_with_only_crowds_and_unlabelled_persons(tmp_path: Path) -> None:
    nobody = [person(1, 7, keypoints=[0] * 51), person(2, 7, iscrowd=1), person(3, 3)]
    path = write_set(tmp_path, nobody)
    assert CocoDataset(path, tmp_path, require_persons=True).image_ids == [3]
    path = write_set(tmp_path, nobody[:2])
    with pytest.raises(GraphposeError, match="no image is left"):
        CocoDataset(path, tmp_path, require_persons=True)


def test_box_of_a_person_without_keypoints_is_ignored_where_there_is_no_segment(tmp_path: Path) -> None:
    sample = open_set(tmp_path, [person(1, keypoints=[0] * 51, bbox=[50, 30, 99, 5])])[0]
    expected = np.zeros((40, 60), bool)
    expected[30:35, 50:] = True
    np.testing.assert_array_equal(sample.ignore, expected)


def test_polygon_of_a_person_without_keypoints_is_ignored(tmp_path: Path) -> None:
    triangle = [[10, 10, 30, 10, 10, 30]]
    ignore = open_set(tmp_path, [person(1, keypoints=[0] * 51, segmentation=triangle)])[0].ignore
    assert ignore[12, 12]
    assert not ignore[28, 28]
    assert 150 < ignore.sum() < 250


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_of_a_crowd_are_ignored_pixel_by_pixel(tmp_path: Path, compressed: bool) -> None:
    mask = np.random.default_rng(1).random((40, 60)) < 0.3
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts: Any = rle["counts"].decode()
    if not compressed:
        column = mask.T.ravel()
        edges = np.flatnonzero(np.diff(column)) + 1
        counts = np.diff([0, *edges, column.size]).tolist()
        counts = [0, *counts] if column[0] else counts
    crowd = person(1, iscrowd=1, segmentation={"size": [40, 60], "counts": counts})
    sample = open_set(tmp_path, [crowd])[0]
    np.testing.assert_array_equal(sample.ignore, mask)
    assert sample.persons.iscrowd.tolist() == [True]


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[], []]])
@pytest.mark.parametrize("nobody", [{"keypoints": [0] * 51}, {"iscrowd": 1}])
def test_without_a_polygon_the_box_is_ignored_and_no_image_is_lost(
    tmp_path: Path, segmentation: Any, nobody: dict[str, Any]
) -> None:
    region = person(42, bbox=[50, 30, 99, 5], segmentation=segmentation, **nobody)
    dataset = open_set(tmp_path, [region, person(1)])
    expected = np.zeros((40, 60), bool)
    expected[30:35, 50:] = True
    np.testing.assert_array_equal(dataset[0].ignore, expected)
    assert dataset[0].persons.ids.tolist() == [42, 1]


def test_an_empty_polygon_among_others_is_passed_over(tmp_path: Path) -> None:
    square = [10, 10, 20, 10, 20, 20, 10, 20]
    ignore = [
        open_set(tmp_path, [person(42, iscrowd=1, segmentation=polygons)])[0].ignore
        for polygons in ([square], [[], square, []])
    ]
    assert ignore[0].sum() > 50
    np.testing.assert_array_equal(*ignore)


def test_run_lengths_of_another_size_cost_an_image_of_unknown_size_nothing_but_its_mask(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crowd = person(42, iscrowd=1, bbox=[50, 30, 99, 5], segmentation={"size": [10, 10], "counts": [50, 50]})
    dataset = open_set(tmp_path, [crowd, person(1)], images=[{"id": 7, "file_name": "seven.jpg"}])
    assert dataset[0].ignore.sum() == 50
    assert dataset[0].persons.ids.tolist() == [42, 1]
    assert "annotation 42 has an RLE of 10×10 px on an image of 60×40 px; its box is ignored instead" in caplog.text


def test_segments_of_labelled_persons_are_not_ignored(tmp_path: Path) -> None:
    sample = open_set(tmp_path, [person(1, segmentation=[[0, 0, 59, 0, 59, 39, 0, 39]])])[0]
    assert not sample.ignore.any()


def test_coordinates_of_unlabelled_keypoints_are_zero(tmp_path: Path) -> None:
    flat = person(1)["keypoints"]
    flat[6:9] = [55, 66, 0]
    assert open_set(tmp_path, [person(1, keypoints=flat)])[0].persons.keypoints[0, 2].tolist() == [0, 0, 0]


def test_a_test_set_without_annotations_is_read(tmp_path: Path) -> None:
    path = write_set(tmp_path, [])
    content = json.loads(path.read_text())
    del content["annotations"]
    content["categories"] = [{"id": 1, "name": "person", "supercategory": "person"}]
    path.write_text(json.dumps(content))
    dataset = CocoDataset(path, tmp_path)
    assert dataset.skeleton is COCO
    assert len(dataset[0].persons) == 0
    assert dataset.ground_truth()["annotations"] == []


def test_a_category_of_its_own_gives_its_own_skeleton(tmp_path: Path) -> None:
    category = {"id": 5, "name": "horse", "keypoints": ["nose", "l_ear", "r_ear"], "skeleton": [[1, 2], [1, 3]]}
    other = {"id": 9, "name": "thing"}
    annotations = [person(1, K=3, category_id=5), {"id": 2, "image_id": 7, "category_id": 9, "bbox": [0, 0, 1, 1]}]
    dataset = open_set(tmp_path, annotations, categories=[other, category])
    assert dataset.skeleton.limbs == ((0, 1), (0, 2))
    assert dataset.skeleton.flip == (0, 2, 1)
    assert dataset[0].persons.ids.tolist() == [1]
    assert {a["category_id"] for a in dataset.ground_truth()["annotations"]} == {5}


def test_the_set_survives_pickling_for_worker_processes(tmp_path: Path) -> None:
    dataset = open_set(tmp_path, [person(1)])
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[0].persons.keypoints, dataset[0].persons.keypoints)


def change_keypoint(position: int, value: Any) -> dict[str, Any]:
    record = person(42)
    record["keypoints"][position] = value
    return record


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([person(42, keypoints=[1, 2, 2] * 16)], "annotation 42 has 48 numbers in 'keypoints'; 51 are needed"),
        ([change_keypoint(4, float("nan"))], "annotation 42 has a keypoint that is not finite"),
        ([change_keypoint(3, float("inf"))], "annotation 42 has a keypoint that is not finite"),
        ([change_keypoint(3, "left")], "annotation 42 has a keypoint that is not finite; numbers are needed"),
        ([change_keypoint(5, 3)], "annotation 42 has a visibility other than 0, 1 or 2"),
        ([person(42, image_id=8)], "annotation 42 belongs to image 8, which the file does not list"),
        ([person(42), person(1), person(42)], "annotation id 42 stands 2 times"),
        ([person(42, area=0)], "annotation 42 has area 0"),
        ([person(42, bbox=[1, 2, 3])], "annotation 42 has 3 numbers in 'bbox'"),
        ([person(42, bbox=[1, 2, 3, float("nan")])], "annotation 42 has no bbox"),
        ([person(42, num_keypoints="many")], "annotation 42 has num_keypoints 'many'"),
        ([7], "annotation at position 0 is 7; an object is needed"),
    ],
)
def test_a_wrong_annotation_is_named_with_what_would_be_right(
    tmp_path: Path, annotations: list[Any], message: str
) -> None:
    with pytest.raises(GraphposeError, match=message) as caught:
        open_set(tmp_path, annotations)
    assert "annotations.json" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not a COCO file"),
        ('{"pictures": []}', "is not a COCO file"),
        ('{"images": [1]}', "image at position 0 is 1; an object is needed"),
        ('{"images": []}', "lists no images"),
        ("{", "is not valid JSON"),
        ('{"images": [{"id": "a", "file_name": "a.jpg"}]}', "image"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}', "image id 1 stands 2 times"),
        ('{"images": [{"id": 1, "file_name": "a", "height": "x"}]}', "height and width"),
    ],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(GraphposeError, match=message) as caught:
        CocoDataset(path, tmp_path)
    assert "wrong.json" in str(caught.value)


def test_a_missing_annotation_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GraphposeError, match=r"nothing\.json does not exist"):
        CocoDataset(tmp_path / "nothing.json", tmp_path)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    dataset = open_set(tmp_path, [])
    (tmp_path / "three.jpg").unlink()
    assert dataset[0].image_id == 7
    with pytest.raises(GraphposeError, match=r"three\.jpg does not exist"):
        dataset[1]


def test_an_image_of_another_size_than_annotated_is_refused_but_exchanged_sides_are_not(tmp_path: Path) -> None:
    size = {"id": 7, "file_name": "seven.jpg"}
    with pytest.raises(GraphposeError, match=r"seven\.jpg is 60×40 px, but its record .* says 30×20"):
        open_set(tmp_path, [], images=[{**size, "width": 30, "height": 20}])[0]
    assert open_set(tmp_path, [], images=[{**size, "width": 40, "height": 60}])[0].image.shape == (40, 60, 3)
    assert open_set(tmp_path, [], images=[size])[0].image.shape == (40, 60, 3)


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff\xe0", b"\xff\xd8" + bytes(3000) + b"\xff\xd9"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(GraphposeError, match=r"broken\.jpg"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.gif", "a.txt", "图.webp"])
@pytest.mark.parametrize(
    "data", [b"hello", b"\x89PNG", b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\x00", b"RIFF\0\0\0\0WEBP", b""]
)
def test_no_inside_of_a_library_stands_in_the_message(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(GraphposeError, match=name) as caught:
        read_image(tmp_path / name)
    assert not re.search(r"0x[0-9a-f]{6}|BytesIO|Argument '", str(caught.value))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("progressive", [0, 1])
def test_an_image_truncated_anywhere_is_refused(tmp_path: Path, suffix: str, progressive: int) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (120, 160, 3)).astype(np.uint8), (0, 0), 2)
    data = cv2.imencode(suffix, picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive] if suffix == ".jpg" else [])[1]
    path = tmp_path / f"cut{suffix}"
    for length in [2, 30, len(data) - 20, *rng.integers(1, len(data) - 20, 30).tolist()]:
        path.write_bytes(data.tobytes()[:length])
        with pytest.raises(GraphposeError, match="cut"):
            read_image(path)
    path.write_bytes(data.tobytes() + b"\0" * 300)
    assert read_image(path).shape == (120, 160, 3)


def tagged(path: Path, orientation: int, size: tuple[int, int] = (60, 40)) -> np.ndarray:
    """Write a picture of ``size`` width, height with an EXIF orientation; returns its stored pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 255, (size[1] // 4, size[0] // 4, 3)).astype(np.uint8)
    image = Image.fromarray(pixels.repeat(4, axis=0).repeat(4, axis=1))
    image.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}))
    with Image.open(path) as stored:
        return np.asarray(stored.convert("RGB"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"turned{suffix}"
    tagged(path, orientation)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    assert np.abs(read_image(path, upright=True) - expected).max() <= 2
    assert read_image(path).shape == (40, 60, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_read_upright_always(tmp_path: Path, orientation: int) -> None:
    upright = tagged(tmp_path / "turned.tif", orientation)  # Pillow turns it, too
    for how in ({}, {"upright": True}, {"recorded": (40, 60)}, {"recorded": (60, 40)}):
        np.testing.assert_array_equal(read_image(tmp_path / "turned.tif", **how), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_records_size_says_which_pixels_were_annotated(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "seven.jpg"
    stored = tagged(path, orientation)
    upright = read_image(path, upright=True)
    by_size = {size: read_image(path, recorded=size) for size in ((40, 60), (60, 40), (0, 0))}
    for size, picture in ((40, 60), stored), ((60, 40), upright):
        if orientation >= 5:  # the sides are exchanged, so the size decides
            assert by_size[size].shape == picture.shape == (*size, 3)
            assert np.abs(by_size[size].astype(int) - picture).max() <= 2
        else:
            np.testing.assert_array_equal(by_size[size], upright)
    np.testing.assert_array_equal(by_size[0, 0], upright)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_persons_lie_on_the_picture_that_a_viewer_shows(tmp_path: Path, orientation: int) -> None:
    path = write_set(tmp_path, [person(1)])
    tagged(tmp_path / "seven.jpg", orientation, (40, 60) if orientation != 3 else (60, 40))
    np.testing.assert_array_equal(
        CocoDataset(path, tmp_path)[0].image, read_image(tmp_path / "seven.jpg", upright=True)
    )


@pytest.mark.parametrize("tag", [0, 9, 255])
def test_an_orientation_that_exif_does_not_know_is_none(tmp_path: Path, tag: int) -> None:
    tagged(tmp_path / "odd.jpg", tag)
    assert read_image(tmp_path / "odd.jpg", upright=True).shape == (40, 60, 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_a_channel_are_as_bright_as_eight(tmp_path: Path, bits: int, channels: int, suffix: str) -> None:
    path = tmp_path / f"deep{suffix}"
    shape = (30, 40, 3) if channels == 3 else (30, 40)
    values = np.random.default_rng(0).integers(0, 2**bits, shape).astype(np.uint16)
    values[0] = 2**bits - 1
    cv2.imwrite(str(path), values)
    expected = (values >> (bits - 8)).astype(np.uint8)
    expected = expected[..., ::-1] if channels == 3 else np.repeat(expected[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(path), expected)


def test_an_all_black_picture_of_sixteen_bits_is_black(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((4, 5, 3), np.uint16))
    assert not read_image(tmp_path / "black.png").any()


def test_pixels_that_are_no_integers_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "float.tif"), np.full((4, 5, 3), 0.5, np.float32))
    with pytest.raises(GraphposeError, match=r"float\.tif"):
        read_image(tmp_path / "float.tif")


def test_images_are_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 5, 3), (0, 0, 255), np.uint8))
    assert read_image(tmp_path / "red.png")[2, 2].tolist() == [255, 0, 0]


def cut(data: bytes, start: int, stop: int) -> bytes:
    """Cut short, and closed with the end-of-image marker all the same."""
    return data[:start] + b"\xff\xd9"


def hole(data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + data[stop:]


def zeros(data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + bytes(stop - start) + data[stop:]


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("damage", [cut, hole, zeros])
def test_a_jpeg_that_lacks_something_is_refused_although_it_ends_as_it_should(
    tmp_path: Path, damage: Any, progressive: int
) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (240, 320, 3)).astype(np.uint8), (0, 0), 2)
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    path = tmp_path / "grey.jpg"
    refused = []
    for start in rng.integers(len(data) // 3, len(data) - 1500, 20).tolist():
        path.write_bytes(damage(data, start, start + int(rng.integers(300, 1200))))
        try:
            read_image(path)
        except GraphposeError as error:
            refused.append(str(error))
    # zeros are codes, too: a few leave nothing over and nothing missing
    assert len(refused) == 20 if damage is not zeros else len(refused) >= 15
    assert all(re.search(r"grey\.jpg is (truncated|damaged)", message) for message in refused)
    path.write_bytes(data)
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read_image(path), whole)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_every_form_of_jpeg_is_read(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    Image.new("RGB", (40, 30), (200, 100, 50)).convert(mode).save(tmp_path / "a.jpg", quality=95, **options)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(read_image(tmp_path / "a.jpg") - expected).max() <= (3 if mode != "CMYK" else 60)


def test_a_few_bytes_of_padding_before_a_marker_cost_no_image(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.full((40, 60, 3), 100, np.uint8))[1].tobytes()
    (tmp_path / "padded.jpg").write_bytes(data[:-2] + b"\0\0" + data[-2:])
    assert np.abs(read_image(tmp_path / "padded.jpg").astype(int) - 100).max() <= 2


def test_a_photograph_truncated_at_random_is_refused(data_root: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photographs = sorted((data_root / "coco/val2017").glob("*.jpg"))
    for photograph in rng.choice(np.array(photographs, dtype=object), 12, replace=False):
        data = photograph.read_bytes()
        path = tmp_path / photograph.name
        path.write_bytes(data[: rng.integers(1, len(data) - 16)])
        with pytest.raises(GraphposeError, match=photograph.name):
            read_image(path)


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_every_photograph_reads_and_agrees_with_its_record(data_root: Path, split: str) -> None:
    path = data_root / f"coco/annotations/person_keypoints_{split}_local.json"
    dataset = CocoDataset(path, data_root / "coco" / split)
    content = json.loads(path.read_text())
    by_image: dict[int, list[int]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation["id"])
    assert dataset.image_ids == list(by_image)
    for i in range(0, len(dataset), 4):
        sample = dataset[i]
        assert sample.persons.ids.tolist() == by_image[sample.image_id]
        assert sample.ignore.shape == sample.image.shape[:2]


def test_ground_truth_repeats_the_file(data_root: Path) -> None:
    path = data_root / "coco/annotations/person_keypoints_val2017_local.json"
    original = json.loads(path.read_text())
    truth = CocoDataset(path, data_root).ground_truth()
    expected = {annotation["id"]: annotation for annotation in original["annotations"]}
    assert len(truth["annotations"]) == len(expected)
    for annotation in truth["annotations"]:
        for key, value in annotation.items():
            assert value == expected[annotation["id"]][key], (annotation["id"], key)
    assert truth["categories"][0]["keypoints"] == original["categories"][0]["keypoints"]


def test_crowdpose_reads_as_coco_with_its_own_skeleton_area_and_index(data_root: Path) -> None:
    dataset = CocoDataset(data_root / "crowdpose/crowdpose_val.json", data_root)
    assert dataset.skeleton is CROWDPOSE
    assert len(dataset) == 2000
    assert dataset.annotations.images.crowd_index[0] == pytest.approx(0.76)
    boxes = dataset.annotations.bbox
    np.testing.assert_allclose(dataset.annotations.area, 0.53 * boxes[:, 2] * boxes[:, 3])


@pytest.mark.slow
def test_the_full_training_annotations_are_indexed(data_root: Path) -> None:
    dataset = CocoDataset(data_root / "coco/annotations/person_keypoints_train2017.json.gz", data_root)
    assert (len(dataset), len(dataset.annotations)) == (56599, 149813)
