"""Results in COCO's format: what no evaluation may score 0 in silence is refused by name, for every metric."""

from typing import Any

import numpy as np
import pytest

from graphpose.errors import GraphposeError
from graphpose.metrics.coco import evaluate_coco
from graphpose.metrics.error_analysis import analyse_errors
from graphpose.metrics.mpii import evaluate_mpii
from graphpose.metrics.results import category_of, require_results
from graphpose.metrics.submission import coco_records
from graphpose.skeleton import COCO, MPII
from tests.metrics.test_coco import persons, results_of, truth_of

TRUTH = truth_of(persons(3), COCO)
RESULTS = results_of(TRUTH)


def changed(**values: Any) -> list[dict[str, Any]]:
    return [RESULTS[0], {**RESULTS[1], **values}, RESULTS[2]]


def without(key: str) -> list[dict[str, Any]]:
    return [RESULTS[0], {name: value for name, value in RESULTS[1].items() if name != key}, RESULTS[2]]


WRONG = [
    (changed(image_id="2"), "result at position 1 has image_id '2'; an integer is needed"),
    (changed(image_id=2.0), "result at position 1 has image_id 2.0"),
    (changed(image_id=True), "result at position 1 has image_id True"),
    (without("image_id"), "result at position 1 has no 'image_id'; image_id, category_id, keypoints, score are needed"),
    (without("score"), "result at position 1 of image 2 has no 'score'"),
    (without("keypoints"), "result at position 1 of image 2 has no 'keypoints'"),
    (without("category_id"), "result at position 1 of image 2 has no 'category_id'"),
    (changed(score=float("nan")), "a result of image 2 has score nan; a finite number is needed"),
    (changed(score="0.9"), "a result of image 2 has score '0.9'"),
    (changed(score=None), "a result of image 2 has score None"),
    (changed(score=True), "a result of image 2 has score True"),
    (changed(score=10**400), "a result of image 2 has score 1000"),
    (changed(keypoints=[1.0] * 50), "a result of image 2 has 50 keypoint values; 51 are needed"),
    (changed(keypoints=None), "a result of image 2 has None keypoint values; 51 are needed"),
    (changed(keypoints=[1.0] * 50 + [float("inf")]), "a result of image 2 has keypoint value inf"),
    (changed(keypoints=[1.0] * 50 + ["1"]), "a result of image 2 has keypoint value '1'"),
    ([RESULTS[0], 7], "result at position 1 is 7; an object"),
]


@pytest.mark.parametrize(("results", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_record_that_no_evaluation_can_score_is_named_by_all(results: list[Any], message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        require_results(results, 17)
    with pytest.raises(GraphposeError, match=message):
        coco_records(results, 17)
    for score in (evaluate_coco, analyse_errors):
        with pytest.raises(GraphposeError, match=message):
            score(TRUTH, results, COCO)


@pytest.mark.parametrize("category", [7, 0, "1", None])
def test_results_of_another_category_are_refused(category: Any) -> None:
    message = f"a result of image 2 has category_id {category!r}; the annotations are of category 1"
    for score in (evaluate_coco, analyse_errors):
        with pytest.raises(GraphposeError, match=message):
            score(TRUTH, changed(category_id=category), COCO)


def test_results_of_none_of_the_images_are_refused() -> None:
    other = [{**result, "image_id": 900 + n} for n, result in enumerate(RESULTS)]
    with pytest.raises(GraphposeError, match="none of the 3 results is of an image of the annotations; the first is of "
                       "image 900, the first image of the annotations is 1"):  # fmt: skip
        evaluate_coco(TRUTH, other, COCO)
    assert evaluate_coco(TRUTH, [*RESULTS, *other], COCO)["AP"] == 1.0


def test_mpii_goes_by_the_same_rules() -> None:
    truth = truth_of(persons(1, 16), MPII)
    truth["annotations"][0]["head_size"] = 20.0
    results = results_of(truth)
    assert evaluate_mpii(truth, results)["mAP"] == 1.0
    for change, message in (({"score": np.nan}, "has score nan"), ({"category_id": 3}, "are of category 1")):
        with pytest.raises(GraphposeError, match=message):
            evaluate_mpii(truth, [results[0] | change])


def test_the_category_is_the_annotations_own_and_else_the_only_one() -> None:
    assert category_of(TRUTH) == 1
    assert category_of({"annotations": [{"category_id": 7}], "categories": [{"id": 1}, {"id": 7}]}) == 7
    assert category_of({"annotations": [], "categories": [{"id": 0}]}) == 0
    with pytest.raises(GraphposeError, match="are of 2 categories \\(1, 7\\)"):
        category_of({"annotations": [{"category_id": 7}, {"category_id": 1}], "categories": []})
