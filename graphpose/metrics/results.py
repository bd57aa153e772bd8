"""What results in COCO's format must be: the one list of rules of the metrics and of the files for servers.

COCO's evaluation joins results and annotations by the ids of image and category and says nothing of a result that meets
no annotation: a file whose category has another id would score 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError

KEYS = ("image_id", "category_id", "keypoints", "score")


def category_of(ground_truth: Mapping[str, Any]) -> int:
    """Id of the category that the annotations of a COCO-format dict belong to; without annotations that of its only
    category, and 1 where nothing names one.

    Raises:
        GraphposeError: there are several.
    """
    ids = {annotation["category_id"] for annotation in ground_truth["annotations"] if "category_id" in annotation}
    ids = ids or {category["id"] for category in ground_truth["categories"]} or {1}
    if len(ids) != 1:
        raise GraphposeError(
            f"the annotations are of {len(ids)} categories ({', '.join(map(str, sorted(ids)))}); poses are scored "
            f"for one"
        )
    return int(ids.pop())


def require_results(results: Sequence[Any], num_keypoints: int, ground_truth: Mapping[str, Any] | None = None) -> None:
    """Refuse results that an evaluation would misread, or score 0 without a word.

    Args:
        results: COCO results format.
        num_keypoints: K of the data set.
        ground_truth: COCO-format dict that they are to be scored by; None looks at the records alone.

    Raises:
        GraphposeError: naming the first record without one of KEYS, with an image id that is no integer, with another
            number of keypoint values, with a value that is no finite number, or of another category than the
            annotations; or when there are results, but of none of the images.
    """
    for n, result in enumerate(results):
        if not isinstance(result, Mapping):
            raise GraphposeError(f"result at position {n} is {result!r}; an object with {', '.join(KEYS)} is needed")
        missing = [key for key in KEYS if key not in result]
        if missing:
            of_image = f" of image {result['image_id']!r}" if "image_id" in result else ""
            raise GraphposeError(
                f"result at position {n}{of_image} has no '{missing[0]}'; {', '.join(KEYS)} are needed"
            )
        if not _is_integer(result["image_id"]):
            raise GraphposeError(f"result at position {n} has image_id {result['image_id']!r}; an integer is needed")
        values = result["keypoints"]
        if not isinstance(values, (Sequence, np.ndarray)) or len(values) != 3 * num_keypoints:
            found = len(values) if isinstance(values, (Sequence, np.ndarray)) else repr(values)
            raise GraphposeError(
                f"a result of image {result['image_id']} has {found} keypoint values; {3 * num_keypoints} are needed"
            )
    if not _all_finite(results):
        for result in results:
            for name, value in (("score", result["score"]), *(("keypoint value", v) for v in result["keypoints"])):
                if not _is_finite(value):
                    raise GraphposeError(
                        f"a result of image {result['image_id']} has {name} {value!r}; a finite number is needed"
                    )
    if ground_truth is not None and results:
        _require_met(results, ground_truth)


def _require_met(results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any]) -> None:
    category = category_of(ground_truth)
    for result in results:
        if result["category_id"] != category or isinstance(result["category_id"], bool):
            raise GraphposeError(
                f"a result of image {result['image_id']} has category_id {result['category_id']!r}; the annotations "
                f"are of category {category}"
            )
    known = {image["id"] for image in ground_truth["images"]}
    if not any(result["image_id"] in known for result in results):
        raise GraphposeError(
            f"none of the {len(results)} results is of an image of the annotations; the first is of image "
            f"{results[0]['image_id']}, the first image of the annotations is {min(known, default='none')}"
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that is no float
        return False


def _all_finite(results: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all scores and keypoint values are finite numbers, at the speed of arrays."""
    for values in ((r["score"] for r in results), itertools.chain.from_iterable(r["keypoints"] for r in results)):
        kept = list(values)
        if not set(map(type, kept)) <= {int, float, np.float32, np.float64}:
            return False
        try:
            finite = np.isfinite(np.array(kept, np.float64)).all()
        except OverflowError:
            return False
        if not finite:
            return False
    return True
