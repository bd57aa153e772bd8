"""Flip pairs by the names that people give to sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpose.flip_pairs import pairs_by_name

SIDES = {
    "left_x": "right_x", "x_l": "x_r", "l_x": "r_x", "leftX": "rightX", "L_x": "R_x", "x_L": "x_R", "Left x": "Right x",
    "LEFT_X": "RIGHT_X", "xLeft": "xRight", "x.L": "x.R", "x.l": "x.r", "L.x": "R.x", "x-l": "x-r", "L X": "R X",
    "RShoulder": "LShoulder", "shoulderR": "shoulderL", "Lshoulder": "Rshoulder", "lshoulder": "rshoulder",
    "shoulderl": "shoulderr", "hand_l_tip": "hand_r_tip", "hand_l1": "hand_r1", "x (left)": "x (right)",
    "lt_x": "rt_x", "Lt X": "Rt X", "x_lft": "x_rgt", "left": "right", "L": "R",
    "left_eye_right_corner": "right_eye_left_corner", "rear_left_leg": "rear_right_leg", "mid_RKnee": "mid_LKnee",
}  # fmt: skip


@pytest.mark.parametrize("name", SIDES)
def test_common_namings_of_sides_are_understood(name: str) -> None:
    for names in ((name, "middle", SIDES[name]), (SIDES[name], "middle", name)):
        assert pairs_by_name(names) == ((0, 2),)


@pytest.mark.parametrize(
    "names",
    [
        ("nose", "tail", "neck"),
        ("left_eye", "left_ear", "nose"),  # its counterparts are not there
        ("ear", "rear", "lear_x"),
        ("bright", "cleft", "x"),
        ("wrist", "thumb1", "thumb2"),
        ("elbow", "roll", "lo"),
    ],
)
def test_what_has_no_counterpart_is_its_own_mirror_image(names: tuple[str, ...]) -> None:
    assert pairs_by_name(names) == ()


@given(st.lists(st.text("lrLRftght_. abX", min_size=1, max_size=6), min_size=1, max_size=12, unique=True))
def test_a_keypoint_has_one_counterpart_at_most_whatever_the_names(names: list[str]) -> None:
    pairs = pairs_by_name(names)
    ends = [k for pair in pairs for k in pair]
    assert len(set(ends)) == len(ends)
    assert list(pairs) == sorted((min(pair), max(pair)) for pair in pairs)
