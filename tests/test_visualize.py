"""Drawing: what is drawn lies where it should, sides have their colours, sheets and files hold the pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton
from graphpose.visualize import (
    DRAWN_CONFIDENCE,
    contact_sheet,
    draw_poses,
    keypoint_colours,
    limb_colours,
    person_colour,
    save_image,
)


def standing_person() -> np.ndarray:
    """(17, 3); facing the viewer, in 200 × 200 px."""
    half = [(100, 30), (105, 25), (110, 28), (120, 60), (130, 90), (132, 120), (112, 115), (114, 150), (115, 185)]
    person = np.zeros((17, 3))
    person[0, :2] = half[0]
    for i, (x, y) in enumerate(half[1:]):
        person[2 * i + 1, :2] = (x, y)
        person[2 * i + 2, :2] = (200 - x, y)
    person[:, 2] = 1
    return person


GREY = np.full((200, 200, 3), 128, np.uint8)


def test_a_limb_is_drawn_between_its_keypoints_in_its_colour() -> None:
    picture = draw_poses(GREY, standing_person()[None], COCO)
    for (a, b), colour in zip(COCO.limbs, limb_colours(COCO), strict=True):
        x, y = ((standing_person()[a] + standing_person()[b]) / 2)[:2].round().astype(int)
        patch = picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).astype(int)
        if (a, b) not in ((1, 2), (0, 1), (0, 2)):  # short ones lie under the keypoints' discs
            assert np.abs(patch - colour).sum(axis=1).min() < 60, (a, b)


@pytest.mark.parametrize("style", ["prediction", "truth"])
def test_nothing_changes_far_from_the_person_nor_in_the_image_given(style) -> None:  # type: ignore[no-untyped-def]
    image = GREY.copy()
    picture = draw_poses(image, standing_person()[None], COCO, style=style)
    np.testing.assert_array_equal(image, GREY)
    assert (picture != GREY).any()
    np.testing.assert_array_equal(picture[:, :50], 128)
    np.testing.assert_array_equal(picture[:10], 128)


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, MPII], ids=lambda s: s.name)
def test_left_is_warm_and_right_is_cool(skeleton: Skeleton) -> None:
    for name, (red, _, blue) in zip(skeleton.keypoints, keypoint_colours(skeleton), strict=True):
        if name.startswith("left"):
            assert red > blue, name
        if name.startswith("right"):
            assert blue > red, name


def test_keypoints_and_limbs_below_the_threshold_are_left_out() -> None:
    person = standing_person()
    person[:, 2] = 0.1
    np.testing.assert_array_equal(draw_poses(GREY, person[None], COCO, threshold=0.1), GREY)
    person[:, 2] = DRAWN_CONFIDENCE  # inferred, not seen
    np.testing.assert_array_equal(draw_poses(GREY, person[None], COCO), GREY)
    assert (draw_poses(GREY, person[None], COCO, style="truth") != GREY).any()
    np.testing.assert_array_equal(draw_poses(GREY, np.zeros((1, 17, 3)), COCO), GREY)
    np.testing.assert_array_equal(draw_poses(GREY, np.zeros((0, 17, 3)), COCO), GREY)


def test_truth_and_prediction_look_different_and_hidden_keypoints_are_dark() -> None:
    person = standing_person()
    person[:, 2] = 2
    person[9, 2] = 1
    truth = draw_poses(GREY, person[None], COCO, style="truth")
    assert (truth != draw_poses(GREY, person[None], COCO)).any()
    x, y = person[9, :2].astype(int)
    assert truth[y, x].max() < 60
    x, y = person[10, :2].astype(int)
    assert truth[y, x].max() > 200


def test_keypoints_far_outside_of_the_image_are_no_trouble() -> None:
    person = standing_person()
    person[5, :2] = (1e9, -1e9)
    assert draw_poses(GREY, person[None], COCO).shape == GREY.shape


def test_zoom_enlarges_image_and_skeleton_together() -> None:
    person = standing_person()
    person[1:, 2] = 0
    picture = draw_poses(GREY, person[None], COCO, zoom=3)
    assert picture.shape == (600, 600, 3)
    ys, xs = np.nonzero((picture != 128).any(axis=2))
    np.testing.assert_allclose([xs.mean(), ys.mean()], (person[0, :2] + 0.5) * 3 - 0.5, atol=0.5)


def test_a_contact_sheet_shows_every_picture_in_its_place() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    images = [np.full((30 + 20 * i, 60, 3), c, np.uint8) for i, c in enumerate(colours)]
    sheet = contact_sheet(images, 2, ["a", "b – with a title that is much too long for its tile", "c"], tile=100)
    half_height, half_width = sheet.shape[0] // 2, sheet.shape[1] // 2
    quarters = [sheet[:half_height, :half_width], sheet[:half_height, half_width:], sheet[half_height:, :half_width]]
    for quarter, colour in zip(quarters, colours, strict=True):
        assert (quarter == colour).all(axis=2).sum() > 1500
    assert not (sheet[half_height + 10 :, half_width + 10 :] < 240).any()


def test_saved_pictures_read_back(tmp_path: Path) -> None:
    picture = draw_poses(GREY, standing_person()[None], COCO)
    save_image(tmp_path / "new" / "folder" / "a.png", picture)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "new" / "folder" / "a.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read, picture)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphposeError, match=r"\(H, W, 3\) uint8"):
        draw_poses(GREY[:, :, 0], np.zeros((0, 17, 3)), COCO)
    with pytest.raises(GraphposeError, match=r"must be \(N, 17, 3\)"):
        draw_poses(GREY, np.zeros((1, 14, 3)), COCO)
    with pytest.raises(GraphposeError, match="at least one image"):
        contact_sheet([], 2)
    with pytest.raises(GraphposeError, match="as many titles"):
        contact_sheet([GREY], 2, ["a", "b"])
    with pytest.raises(GraphposeError, match=r"a\.nothing cannot be written as '\.nothing'"):
        save_image(tmp_path / "a.nothing", GREY)
    (tmp_path / "file").write_text("")
    with pytest.raises(GraphposeError, match=r"a\.png cannot be written"):
        save_image(tmp_path / "file" / "a.png", GREY)


@pytest.fixture
def two_pairs_of_shoulders() -> np.ndarray:
    persons = np.zeros((2, 17, 3))
    for n, x in enumerate((60, 180)):
        persons[n, 5:7] = [[x - 10, 70, 1], [x + 10, 70, 1]]
    return persons


def test_a_label_is_above_its_person(two_pairs_of_shoulders):
    image = np.zeros((120, 240, 3), np.uint8)
    plain = draw_poses(image, two_pairs_of_shoulders, COCO)
    drawn = draw_poses(image, two_pairs_of_shoulders, COCO, labels=["1", "2"])
    ys, xs = np.nonzero((drawn != plain).any(axis=2))
    assert ys.max() < 70
    assert {bool(x < 120) for x in xs} == {True, False}
    assert np.array_equal(draw_poses(image, two_pairs_of_shoulders, COCO, labels=["", ""]), plain)
    with pytest.raises(GraphposeError, match="2 persons to draw need as many labels, not 1"):
        draw_poses(image, two_pairs_of_shoulders, COCO, labels=["1"])


def test_persons_of_one_number_have_one_colour(two_pairs_of_shoulders):
    image = np.zeros((120, 240, 3), np.uint8)
    alike, different = (
        draw_poses(image, two_pairs_of_shoulders, COCO, colours=numbers)[70] for numbers in ([4, 4], [4, 5])
    )
    assert np.array_equal(alike[60], alike[180])
    assert not np.array_equal(different[60], different[180])
    own = draw_poses(image, two_pairs_of_shoulders, COCO, colours="persons")[70, 60].astype(int)
    assert np.abs(own - person_colour(0)).max() < 30  # the line's edge is smooth
    with pytest.raises(GraphposeError, match="as many numbers for colours"):
        draw_poses(image, two_pairs_of_shoulders, COCO, colours=[1])
