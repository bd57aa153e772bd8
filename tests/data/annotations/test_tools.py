"""What annotation tools export as COCO keypoints is read as it is.

The files are made by hand after the tools' documentation and the source of their exporters, with what is peculiar to
each.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpose.data.annotations.extent import box_of_labels
from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.table import Annotations
from graphpose.data.check import check_dataset
from graphpose.errors import GraphposeError

FACE = ["nose", "left_eye", "right_eye"]
LABELS = [100, 80, 2, 120, 60, 2, 80, 60, 1]  # box (80, 60, 40, 20); grown by a tenth of 40: (76, 56, 48, 28)


def cvat() -> dict[str, Any]:
    """COCO Keypoints 1.0: labels that are no skeletons have empty lists, persons of one visible point no extent."""
    shared = {"segmentation": [], "iscrowd": 0, "attributes": {"occluded": False, "keyframe": False}}
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [
            {"id": 1, "name": "box", "supercategory": "", "keypoints": [], "skeleton": []},
            {"id": 2, "name": "face", "supercategory": "", "keypoints": FACE, "skeleton": [[1, 2], [1, 3]]},
        ],
        "images": [
            {"id": 1, "width": 200, "height": 160, "file_name": "a.jpg", "license": 0, "flickr_url": "", "coco_url": ""}
            | {"date_captured": 0}
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "area": 800.0, "bbox": [80.0, 60.0, 40.0, 20.0], **shared}
            | {"keypoints": [float(value) for value in LABELS[:8]] + [1], "num_keypoints": 3},
            {"id": 2, "image_id": 1, "category_id": 2, "area": 0.0, "bbox": [30.5, 40.25, 0.0, 0.0], **shared}
            | {"keypoints": [30.5, 40.25, 2, 0, 0, 0, 0, 0, 0], "num_keypoints": 1},
            {"id": 3, "image_id": 1, "category_id": 2, "area": 0.0, "bbox": [10.0, 90.0, 20.0, 0.0], **shared}
            | {"keypoints": [0, 0, 0, 10, 90, 2, 30, 90, 2], "num_keypoints": 2},
        ],
    }


def label_studio() -> dict[str, Any]:
    """The parent's rectangle is an annotation of its own, keypoints are whole pixels and have no area; ids from 0."""
    return {
        "images": [{"width": 200, "height": 160, "id": 0, "file_name": "images/a.jpg"}],
        "categories": [
            {"id": 0, "name": "Person"},
            {"id": 1, "name": "default", "supercategory": "default", "keypoints": FACE, "skeleton": []},
        ],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 0, "segmentation": [], "bbox": [70.0, 50.0, 60.0, 50.0]}
            | {"ignore": 0, "iscrowd": 0, "area": 3000.0},
            {"id": 1, "image_id": 0, "category_id": 1, "keypoints": LABELS, "num_keypoints": 3}
            | {"bbox": [80, 60, 40, 20], "iscrowd": 0},
        ],
        "info": {"year": 2026, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""},
    }


def coco_annotator() -> dict[str, Any]:
    """Boxes and areas are those of the segment: 0 where there is none; an annotation may be a segment alone."""
    shared = {"dataset_id": 1, "isbbox": False, "iscrowd": False, "creator": "a", "width": 200, "height": 160}
    shared |= {"color": "#1fd7c6", "metadata": {}, "milliseconds": 0, "events": []}
    return {
        "images": [
            {"id": 7, "dataset_id": 1, "category_ids": [], "path": "/datasets/faces/a.jpg", "width": 200}
            | {"height": 160, "file_name": "a.jpg", "annotated": False, "num_annotations": 2, "metadata": {}}
        ],
        "categories": [
            {"id": 4, "name": "face", "supercategory": "", "color": "#e4b6c2", "metadata": {}, "creator": "a"}
            | {"keypoint_colors": ["#bf5c4d"], "keypoints": FACE, "skeleton": [[1, 2], [3, 1]]},
            {"id": 5, "name": "hat", "supercategory": "", "color": "#aaaaaa", "metadata": {}, "creator": "a"},
        ],
        "annotations": [
            {"id": 11, "image_id": 7, "category_id": 4, "segmentation": [], "area": 0, "bbox": [0, 0, 0, 0], **shared}
            | {"keypoints": LABELS, "num_keypoints": 3},
            {"id": 12, "image_id": 7, "category_id": 4, "segmentation": [[5, 5, 35, 5, 35, 45, 5, 45]], "area": 1200}
            | {"bbox": [5.0, 5.0, 30.0, 40.0], **shared},
        ],
    }


def roboflow() -> dict[str, Any]:
    """A category 0 that all others belong to and nobody is of; ids from 0."""
    return {
        "info": {"year": "2024", "version": "1", "description": "Exported from roboflow.com", "contributor": ""},
        "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
        "categories": [
            {"id": 0, "name": "faces", "supercategory": "none"},
            {"id": 1, "name": "face", "supercategory": "faces", "keypoints": FACE, "skeleton": [[1, 2], [1, 3]]},
        ],
        "images": [
            {"id": 0, "license": 1, "file_name": "a_jpg.rf.21d9ecc535939df6226dbf15204e64a1.jpg", "height": 160}
            | {"width": 200, "date_captured": "2024-09-10T07:12:44+00:00"}
        ],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 1, "bbox": [70, 50, 60, 50], "area": 3000, "segmentation": []}
            | {"iscrowd": 0, "keypoints": LABELS}
        ],
    }


def sleap() -> dict[str, Any]:
    """sleap-io's ``save_coco``: boxes are the labels' own; what is hidden has visibility 1; tracks are attributes."""
    return {
        "images": [{"id": 1, "file_name": "film_frame_000012.png", "width": 200, "height": 160}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [float(value) for value in LABELS]}
            | {"num_keypoints": 3, "bbox": [80.0, 60.0, 40.0, 20.0], "area": 800.0, "iscrowd": 0}
            | {"attributes": {"object_id": 1}},
            {"id": 2, "image_id": 1, "category_id": 1, "keypoints": [30.0, 40.0, 2, 0.0, 0.0, 0, 0.0, 0.0, 0]}
            | {"num_keypoints": 1, "bbox": [30.0, 40.0, 0.0, 0.0], "area": 0.0, "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "Skeleton-0", "keypoints": FACE, "skeleton": [[1, 2], [1, 3]]}],
    }


def read(folder: Path, content: dict[str, Any]) -> Annotations:
    path = folder / "export.json"
    path.write_text(json.dumps(content))
    report = check_dataset(path)
    assert report.ok, report.lines()
    return read_annotations(path)


def warnings(folder: Path) -> dict[str, int]:
    return check_dataset(folder / "export.json").by_kind()


@pytest.mark.parametrize("tool", [cvat, label_studio, coco_annotator, roboflow, sleap])
def test_the_first_person_of_each_tool_is_read(tmp_path, tool):
    table = read(tmp_path, tool())
    row = int(np.flatnonzero(table.labelled)[0])
    assert table.skeleton.keypoints == tuple(FACE)
    assert table.keypoints[row].tolist() == np.reshape(LABELS, (3, 3)).tolist()
    assert sorted(table.skeleton.limbs) == [(0, 1), (0, 2)]
    assert (table.area[table.labelled] > 0).all()
    assert table.skeleton.flip == (0, 2, 1)


def test_cvat_persons_without_extent_get_one_by_their_labels(tmp_path):
    table = read(tmp_path, cvat())
    assert table.ids.tolist() == [1, 2, 3]
    # labels 20 px apart in a row: a margin of 2 on each side, and 0.53 of 24 × 4; one label: the others' median
    np.testing.assert_allclose(table.bbox[2], [8, 88, 24, 4])
    np.testing.assert_allclose(table.area, [800, (800 + 0.53 * 96) / 2, 0.53 * 96])
    side = np.sqrt(table.area[1] / 0.53)
    np.testing.assert_allclose(table.bbox[1], [30.5 - side / 2, 40.25 - side / 2, side, side])
    assert warnings(tmp_path) == {"extent_from_labels": 2}


def test_label_studio_boxes_are_the_labels_own(tmp_path):
    table = read(tmp_path, label_studio())
    assert table.ids.tolist() == [1]
    np.testing.assert_allclose(table.area, 0.53 * 40 * 20)
    assert warnings(tmp_path) == {"no_limbs_stated": 1}


def test_coco_annotator_boxes_of_zeros_and_segments_without_keypoints(tmp_path):
    table = read(tmp_path, coco_annotator())
    np.testing.assert_allclose(table.bbox, [[76, 56, 48, 28], [5, 5, 30, 40]])
    np.testing.assert_allclose(table.area, [0.53 * 48 * 28, 1200])
    assert table.labelled.tolist() == [True, False]
    assert table.regions == {1: [[5, 5, 35, 5, 35, 45, 5, 45]]}
    assert warnings(tmp_path) == {"extent_from_labels": 1, "annotation_without_keypoints": 1}


def test_roboflow_and_sleap_need_no_word(tmp_path):
    assert read(tmp_path, roboflow()).ids.tolist() == [0]
    assert warnings(tmp_path) == {}
    assert read(tmp_path, sleap()).area.tolist() == [800, 800]
    assert warnings(tmp_path) == {"extent_from_labels": 1}


def test_where_nobody_has_an_extent_the_first_is_named(tmp_path):
    content = sleap()
    del content["annotations"][0]
    (tmp_path / "export.json").write_text(json.dumps(content))
    with pytest.raises(GraphposeError, match=r"export.json: annotation 2 has area 0; a labelled person needs a posi"):
        read_annotations(tmp_path / "export.json")


def test_boxes_of_labels_by_hand():
    keypoints = np.array(LABELS + [5, 6, 0] * 3 + [5, 6, 2, 9, 9, 0, 0, 0, 0], float).reshape(3, 3, 3)
    boxes = box_of_labels(keypoints, np.zeros((3, 2)))
    assert boxes[[0, 2]].tolist() == [[76, 56, 48, 28], [5, 6, 0, 0]]
    assert np.isnan(boxes[1]).all()
    # the margin ends at the image's edge, and a label beyond it stays inside
    assert box_of_labels(keypoints[:1], np.array([[82, 110]])).tolist() == [[76, 56, 44, 26]]


def test_a_box_of_the_median_area_lies_within_its_image(tmp_path):
    content = sleap()
    content["annotations"][1]["keypoints"][:2] = [198.0, 1.0]
    table = read(tmp_path, content)
    side = np.sqrt(800 / 0.53)
    np.testing.assert_allclose(table.bbox[1], [200 - side, 0, side, side])
    assert warnings(tmp_path) == {"extent_from_labels": 1}
