"""Names of keypoints: every set's way to write a joint is read as the same joint."""

import pytest

from graphpose.data.matching import body_part, match_keypoints
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton


def skeleton(*names: str) -> Skeleton:
    return Skeleton("some", names, (), (0.05,) * len(names))


@pytest.mark.parametrize(
    "name",
    ["right_ankle", "Right Ankle", "right ankle", "R_Ankle", "RAnkle", "Rankle", "rankle", "r_ankle", "ankle_r",
     "ankle-right", "RIGHT_ANKLE", "rightAnkle", "rank", "right.ankle"],
)  # fmt: skip
def test_one_joint_in_all_its_spellings(name: str) -> None:
    assert body_part(name) == ("right", "ankle")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nose", ("", "nose")),
        ("LEar", ("left", "ear")),
        ("Lear", ("left", "ear")),
        ("left_ear", ("left", "ear")),
        ("relb", ("right", "elbow")),
        ("lsho", ("left", "shoulder")),
        ("head_top", ("", "head_top")),
        ("top of the head", ("", "head_top")),
        ("Head", ("", "head_top")),
        ("upper_neck", ("", "neck")),
        ("Hip", ("", "pelvis")),
        ("LHip", ("left", "hip")),
        ("thorax", ("", "thorax")),
        ("LBigToe", ("left", "big_toe")),
        ("left_ventricle", None),
        ("left_right_hip", None),
        ("paw", None),
    ],
)
def test_parts_of_names(name: str, part: tuple[str, str] | None) -> None:
    assert body_part(name) == part


def test_joints_that_coco_lacks_are_dropped_and_its_face_is_not_found_in_mpii() -> None:
    found = match_keypoints(MPII, COCO)
    assert [MPII.keypoints[i] if i >= 0 else None for i in found] == [None] * 5 + list(COCO.keypoints[5:])


def test_crowdpose_and_mpii_share_head_and_neck_by_meaning() -> None:
    found = match_keypoints(MPII, CROWDPOSE)
    assert [MPII.keypoints[i] for i in found[-2:]] == ["head_top", "upper_neck"]
    assert (found >= 0).all()


def test_halpe_names_fill_cocos_skeleton() -> None:
    halpe = skeleton(
        "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist",
        "LHip", "RHip", "LKnee", "Rknee", "LAnkle", "RAnkle", "Head", "Neck", "Hip", "LBigToe",
    )  # fmt: skip
    assert match_keypoints(halpe, COCO).tolist() == list(range(17))


def test_an_exact_name_goes_before_another_of_the_same_meaning() -> None:
    assert match_keypoints(skeleton("RKnee", "right_knee"), COCO)[COCO.index("right_knee")] == 1


def test_two_names_of_one_meaning_are_refused() -> None:
    with pytest.raises(GraphposeError, match="'RKnee' and 'rkne' both mean 'right_knee'"):
        match_keypoints(skeleton("RKnee", "rkne"), COCO)


def test_a_skeleton_without_a_common_joint_is_refused() -> None:
    with pytest.raises(GraphposeError, match="no keypoint of skeleton 'coco'; it has paw"):
        match_keypoints(skeleton("paw"), COCO)
