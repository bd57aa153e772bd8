"""The table itself: annotations stay with their images and their regions whatever is selected."""

from pathlib import Path

import numpy as np

from graphpose.data.annotations.table import Annotations, Images, complete_category
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton


def table() -> Annotations:
    """Images 7, 3, 5 with annotations 10 | none | 11, 12; 12 is a crowd with a region of its own."""
    keypoints = np.zeros((3, 2, 3))
    keypoints[:, :, 2] = 2
    return Annotations(
        path=Path("by hand"),
        skeleton=Skeleton("pair", ("a", "b"), ((0, 1),), (0.1, 0.1)),
        images=Images.named({7: "seven", 3: "three", 5: "five"}),
        ids=np.array([10, 11, 12]),
        image_index=np.array([0, 2, 2]),
        keypoints=keypoints,
        num_keypoints=np.array([2, 2, 2]),
        bbox=np.ones((3, 4)),
        area=np.ones(3),
        iscrowd=np.array([False, False, True]),
        head_size=np.full(3, np.nan),
        group=np.zeros(3, np.int64),
        regions={2: "region of 12"},
    )


def test_rows_of_an_image_are_its_annotations() -> None:
    annotations = table()
    assert [annotations.ids[annotations.rows(i)].tolist() for i in range(3)] == [[10], [], [11, 12]]
    assert annotations.image_ids.tolist() == [7, 5, 5]
    assert annotations.labelled.tolist() == [True, True, False]


def test_a_selection_in_any_order_stays_grouped_by_image_and_keeps_its_regions() -> None:
    annotations = table().select(np.array([2, 1, 0]))
    assert annotations.ids.tolist() == [10, 12, 11]
    assert annotations.regions == {1: "region of 12"}
    assert annotations.ptr.tolist() == [0, 1, 1, 3]
    assert table().select(np.array([False, True, False])).ids.tolist() == [11]


def test_selected_images_come_in_the_order_asked_for_with_their_annotations() -> None:
    annotations = table().select_images(np.array([2, 0]))
    assert annotations.images.file_names == ["five", "seven"]
    assert annotations.image_ids.tolist() == [5, 5, 7]
    assert annotations.regions == {1: "region of 12"}
    assert [a["image_id"] for a in annotations.to_coco()["annotations"]] == [5, 5, 7]


def test_a_complete_category_gives_the_same_skeleton_back() -> None:
    box = Skeleton("box", ("l_a", "r_a", "c", "d"), ((0, 1), (3, 2)), (0.1, 0.2, 0.3, 0.4))
    pairs, nothing = box.with_flip_pairs([["c", 4]]), box.with_flip_pairs([])
    for skeleton in (COCO, CROWDPOSE, MPII, box, pairs, nothing):
        read = Skeleton.from_category(complete_category(skeleton, 7))
        assert (read.name, read.keypoints, read.sigmas, read.flip) == (
            skeleton.name, skeleton.keypoints, skeleton.sigmas, skeleton.flip
        )  # fmt: skip
        assert {frozenset(limb) for limb in read.limbs} == {frozenset(limb) for limb in skeleton.limbs}
        assert read.mirrors == skeleton.mirrors
