"""Regions: what a segmentation may be, and that what is sound is what pycocotools makes of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from graphpose.data.annotations.regions import fault_of, is_box, mask_of, pixels_of_box
from tests.data.annotations.test_rules import both, damaged

TRIANGLE = [10, 10, 30, 10, 10, 30]
WRONG = [
    ([[1, 2]], "has a segmentation with a polygon of 2 numbers; x and y of at least three points are needed"),
    ([[1, 2, 3, 4]], "a polygon of 4 numbers"),  # to pycocotools a box
    ([[1, 2, 3, 4, 5, 6, 7]], "a polygon of 7 numbers"),
    ([TRIANGLE, [1, 2]], "a polygon of 2 numbers"),
    (TRIANGLE, "has a segmentation with 10; polygons are lists of x1, y1, x2, y2, … within a list"),
    ([["a", "b", "c", "d", "e", "f"]], "a polygon that is not made of numbers of pixels"),
    ([[None] * 6], "a polygon that is not made of numbers of pixels"),
    ([[True] * 6], "a polygon that is not made of numbers of pixels"),
    ([[1, 2, 3, 4, 5, float("nan")]], "a polygon that is not made of numbers of pixels"),
    ([[1, 2, 3, 4, 5, 1e300]], "a polygon that is not made of numbers of pixels"),
    ([[[1, 2], [3, 4], [5, 6]]], "a polygon of 3 numbers"),
    ("polygon", "has a segmentation that is neither polygons nor RLE, but 'polygon'"),
    (7, "neither polygons nor RLE, but 7"),
    (False, "neither polygons nor RLE, but False"),
    ({}, "whose RLE has size None; height and width are needed"),
    ({"counts": [5, 5]}, "whose RLE has size None"),
    ({"size": [40], "counts": [5, 5]}, "whose RLE has size \\[40\\]"),
    ({"size": ["40", "60"], "counts": [2400]}, "whose RLE has size"),
    ({"size": [0, 60], "counts": [0]}, "whose RLE has size"),
    ({"size": [40, 60]}, "whose RLE has no 'counts' that are run lengths or their compressed text"),
    ({"size": [40, 60], "counts": 5}, "whose RLE has no 'counts'"),
    ({"size": [40, 60], "counts": [2.0, 2398.0]}, "whose RLE has no 'counts'"),
    ({"size": [40, 60], "counts": [-1, 2401]}, "whose RLE has no 'counts'"),
    ({"size": [40, 60], "counts": "é"}, "whose RLE has no 'counts'"),
    ({"size": [40, 60], "counts": "ooooooooooooooo"}, "whose RLE has no 'counts'"),
    ({"size": [40, 60], "counts": [5, 5]}, "whose RLE covers 10 pixels; 60×40 are 2400"),
    ({"size": [40, 60], "counts": []}, "whose RLE covers 0 pixels"),
    ({"size": [10, 10], "counts": [50, 50]}, "whose RLE is of 10×10 px on an image of 60×40 px; both must agree"),
]


@pytest.mark.parametrize(("segmentation", "message"), WRONG)
@pytest.mark.parametrize("nobody", [{"keypoints": [0] * 6, "num_keypoints": 0}, {"iscrowd": 1}])
def test_a_damaged_segment_is_refused_by_reader_and_check_alike(
    tmp_path: Path, segmentation: Any, message: str, nobody: dict[str, Any]
) -> None:
    content = damaged("annotations", 1, "segmentation", segmentation)
    content["annotations"][1] |= nobody
    refused, errors = both(content, tmp_path)
    assert [error.kind for error in errors] == ["wrong_segmentation"]
    assert refused == f"{tmp_path / 'damaged.json'}: {errors[0].message}"
    with pytest.raises(AssertionError, match=message.replace("(", "\\(")):
        raise AssertionError(refused)


@pytest.mark.parametrize("segmentation", [segmentation for segmentation, _ in WRONG])
def test_segments_of_labelled_persons_are_not_looked_at(tmp_path: Path, segmentation: Any) -> None:
    assert both(damaged("annotations", 1, "segmentation", segmentation), tmp_path) == (None, [])


def test_run_lengths_may_lie_as_the_record_or_exchanged(tmp_path: Path) -> None:
    for size in ([40, 60], [60, 40]):
        content = damaged("annotations", 1, "segmentation", {"size": size, "counts": [2400]})
        content["annotations"][1]["iscrowd"] = 1
        assert both(content, tmp_path) == (None, [])


masks = st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(0, 1))


@settings(max_examples=80, deadline=None)
@given(masks)
def test_run_lengths_of_any_mask_are_sound_and_give_it_back(drawn: tuple[int, int, int, float]) -> None:
    height, width, seed, share = drawn
    mask = np.random.default_rng(seed).random((height, width)) < share
    column = mask.T.ravel()
    edges = np.flatnonzero(np.diff(column)) + 1
    counts = np.diff([0, *edges, column.size]).tolist()
    counts = [0, *counts] if column[0] else counts
    text = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    for given_counts in (counts, text):
        rle = {"size": [height, width], "counts": given_counts}
        for segmentation in (rle, [rle], [rle, rle]):
            assert fault_of(segmentation, [(height, width)]) is None
            assert not is_box(segmentation)
            np.testing.assert_array_equal(mask_of(segmentation, 3, 3), mask)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.text(st.characters(max_codepoint=130), max_size=12))
def test_a_compressed_text_is_sound_only_where_pycocotools_fills_exactly_the_mask(
    height: int, width: int, text: str
) -> None:
    rle = {"size": [height, width], "counts": text}
    if fault_of(rle) is None:
        assert mask_of(rle, height, width).shape == (height, width)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 50) | st.floats(allow_nan=False, width=16) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.sampled_from(["size", "counts"]), inner, max_size=2),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_of_any_value_either_a_fault_is_named_or_a_mask_is_made(value: Any) -> None:
    value = json.loads(json.dumps(value))
    if fault_of(value) is None and not is_box(value):
        assert mask_of(value, 20, 30).dtype == bool


def test_a_box_has_the_pixels_whose_centres_lie_inside() -> None:
    lit = np.zeros((5, 6), bool)
    lit[pixels_of_box(np.array([1.0, 2.5, 2.0, 1.5]))] = True  # x from 1 to below 3, y from 2.5 to below 4
    assert np.argwhere(lit).tolist() == [[3, 1], [3, 2]]
    assert pixels_of_box(np.array([-4.0, -4.0, 5.5, 3.0])) == (slice(0, 0), slice(0, 2))  # beyond the image's corner
