"""The reader and the check on files damaged at random places: they never disagree, and nothing but GraphposeError
leaves the reader, nothing at all the check."""

import contextlib
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from graphpose.data.check import check_dataset
from graphpose.data.coco import CocoDataset
from graphpose.errors import GraphposeError

NAMES = ["head", "left_hand", "right_hand"]
CATEGORY = {"id": 3, "name": "puppet", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}
SEGMENTATIONS: list[Any] = [
    [[2, 2, 20, 2, 20, 20]],
    {"size": [20, 30], "counts": [100, 50, 450]},
    {"size": [20, 30], "counts": "e27=0000000000000000000W9"},
    [],
]


def sound() -> dict[str, Any]:
    """Two images with a labelled person, an unlabelled one with a segment and a crowd each."""
    annotations = []
    for number in range(6):
        labels = [5, 6, 2, 20, 10, 1, 8, 15, 2] if number % 3 == 0 else [0] * 9
        annotations.append(
            {
                "id": 10 + number,
                "image_id": 1 + number % 2,
                "category_id": 3,
                "bbox": [4, 5, 18, 12],
                "area": 150.0,
                "iscrowd": int(number % 3 == 2),
                "keypoints": labels,
                "num_keypoints": sum(v > 0 for v in labels[2::3]),
                "segmentation": SEGMENTATIONS[number % 4],
            }
        )
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (1, 2)]
    categories = [CATEGORY, {"id": 9, "name": "ball"}]
    return copy.deepcopy({"images": images, "annotations": annotations, "categories": categories})


VALUES: list[Any] = [
    None, True, False, 0, 1, 2, -1, 7, 0.5, 2.0, 1e300, float("nan"), float("inf"), 2**63, 10**400, "", "1", "x", "é",
    [], [[]], [1, 2], [[1, 2]], {}, {"a": 1}, [1, 2, 3, 4], [0] * 9, ["a", "b"],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys that lead to every value of a file's content."""
    if path:
        yield path
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from places(value[key], (*path, key))


def damaged(rng: random.Random) -> bytes:
    """A file in which one to three values are others, gone, doubled, or from elsewhere in the file; some are cut."""
    content = sound()
    if rng.random() < 0.2:
        del content["categories"][0]["skeleton"]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        known = list(places(content))
        depth = rng.choice([1, 2, 3, 3, 3, 4, 5])
        *path, key = rng.choice([place for place in known if len(place) <= depth])
        parent: Any = content
        for step in path:
            parent = parent[step]
        what = rng.choice(["value", "value", "value", "gone", "elsewhere", "twice"])
        if what == "gone":
            del parent[key]
        elif what == "twice" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif what == "elsewhere":
            value: Any = content
            for step in rng.choice(known):
                value = value[step]
            parent[key] = copy.deepcopy(value)
        else:
            parent[key] = copy.deepcopy(rng.choice(VALUES))
        if not content:
            break
    text = json.dumps(content).encode()
    return text[: rng.randrange(len(text))] if rng.random() < 0.03 else text


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_reader_and_check_agree_on_files_damaged_at_random(tmp_path: Path, seed: int) -> None:
    for i in (1, 2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((20, 30, 3), np.uint8))
    path = tmp_path / "damaged.json"
    for number in range(20):
        path.write_bytes(damaged(random.Random(100 * seed + number)))
        report = check_dataset(path, tmp_path if number % 2 else None, progress=False)
        assert report.lines()
        json.dumps(report.to_dict())
        of_images = ("image_missing", "image_unreadable", "image_of_another_size")
        errors = [d for d in report.defects if d.severity == "error" and d.kind not in of_images]
        try:
            dataset = CocoDataset(path, tmp_path)
        except GraphposeError:
            dataset = None
        assert (dataset is None) == bool(errors), number
        if dataset is None:
            continue
        dataset.ground_truth()
        for index in range(len(dataset)):
            with contextlib.suppress(GraphposeError):  # an image that is not there, or of another size
                dataset[index]


def test_the_sound_file_is_sound(tmp_path: Path) -> None:
    (tmp_path / "sound.json").write_text(json.dumps(sound()))
    assert check_dataset(tmp_path / "sound.json").defects == []
    assert len(CocoDataset(tmp_path / "sound.json", tmp_path).annotations) == 6
