"""Poses: boxes, selections and the forms in which they are handed on."""

import json

import numpy as np
import pytest

from graphpose.errors import GraphposeError
from graphpose.fields.pose import Poses
from graphpose.skeleton import COCO


@pytest.fixture
def poses():
    """Three: two keypoints, one keypoint, none."""
    keypoints = np.zeros((3, 17, 3), np.float32)
    keypoints[0, 0] = (10, 20, 0.9)
    keypoints[0, 9] = (4, 50.5, 0.5)
    keypoints[1, 16] = (7, 8, 0.25)
    scales = np.where(keypoints[:, :, 2] > 0, 3, 0).astype(np.float32)
    return Poses(keypoints, np.array([0.9, 0.5, 0.1], np.float32), scales, COCO)


def test_boxes_are_around_the_keypoints_found(poses):
    assert poses.boxes.tolist() == [[4, 20, 6, 30.5], [7, 8, 0, 0], [0, 0, 0, 0]]
    assert Poses.empty(17).boxes.shape == (0, 4)


def test_selection_by_score_number_and_keypoints(poses):
    assert poses.selected().scores.tolist() == poses.scores.tolist()
    assert len(poses.selected(min_score=0.5)) == 2
    assert len(poses.selected(max_persons=1)) == 1
    wrists = poses.selected(keypoints=["left_wrist", "right_wrist"])
    assert len(wrists) == 1
    assert np.flatnonzero(wrists.keypoints[0, :, 2]).tolist() == [9]
    assert np.flatnonzero(wrists.scales[0]).tolist() == [9]
    assert poses.keypoints[0, 0, 2] > 0  # the original stays
    with pytest.raises(GraphposeError, match="has no keypoint 'wrist'"):
        poses.selected(keypoints=["wrist"])


def test_plain_values_are_json_and_name_the_keypoints(poses):
    values = json.loads(json.dumps(poses.to_dict()))
    assert values["names"] == list(COCO.keypoints)
    assert values["keypoints"][0][9] == [4, 50.5, 0.5]
    assert values["boxes"][0] == [4, 20, 6, 30.5]
    assert poses.to_coco(7)[1]["keypoints"][-3:] == [7, 8, 0.25]
    with pytest.raises(GraphposeError, match="whose skeleton"):
        Poses.empty(17).to_dict()


def test_a_data_frame_has_a_row_for_each_pose_and_nan_where_nothing_was_found(poses):
    pytest.importorskip("pandas")
    frame = poses.to_dataframe()
    assert frame.shape == (3, 1 + 51)
    assert frame["left_wrist_y"].tolist()[0] == 50.5
    assert frame["left_wrist_y"].isna().tolist() == [False, True, True]


def test_a_plot_shows_those_of_the_score_and_leaves_the_image_as_it_was(poses):
    image = np.zeros((60, 60, 3), np.uint8)
    drawn = poses.plot(image, min_score=0.6)
    assert drawn[50, 4].any()
    assert not drawn[8, 7].any()
    assert poses.plot(image)[8, 7].any()
    assert not image.any()


def test_an_affine_map_keeps_the_skeleton(poses):
    assert poses.mapped(np.array([[2.0, 0, 1], [0, 2, 0]])).skeleton is COCO


def test_areas_are_those_that_the_fields_carry():
    poses = Poses(np.ones((2, 17, 3), np.float32), np.ones(2, np.float32), np.zeros((2, 17), np.float32), COCO)
    poses.scales[0] = np.array(COCO.sigmas) * 50  # sqrt(area) 50
    poses.scales[0, 3] = 1000  # an outlier
    poses.keypoints[1] = 0
    np.testing.assert_allclose(poses.areas, [2500, 0], rtol=1e-5)
    assert Poses.empty(17, COCO).areas.shape == (0,)
