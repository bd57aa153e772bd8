"""A COCO-format keypoint file that is being made of another tool's labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.data.annotations.extent import box_of_labels
from graphpose.data.annotations.table import AREA_OF_BOX
from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton

Pairs = Sequence[tuple[int, int]]


@dataclasses.dataclass
class CocoFile:
    """Images, annotations and categories, ids from 1.

    Attributes:
        categories: what :func:`category` makes.
        images: records, with sizes as the pictures are seen (turned as EXIF says).
        annotations: records; coordinates in pixels to three decimals.
    """

    categories: list[dict[str, Any]]
    images: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    annotations: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add_image(self, file_name: str, size: tuple[int, int]) -> int:
        """Id of a new image of ``size`` height, width."""
        height, width = size
        self.images.append({"id": len(self.images) + 1, "file_name": file_name, "height": height, "width": width})
        return len(self.images)

    def add_person(self, keypoints: np.ndarray, bbox: Sequence[float] | None = None, category_id: int = 1) -> None:
        """A person in the image that was added last.

        Args:
            keypoints: (K, 3) x, y in pixels and visibility 0, 1 or 2.
            bbox: x, y, width, height in pixels; None takes the labels' own.
            category_id: of ``categories``.
        """
        image = self.images[-1]
        if bbox is None:
            box = box_of_labels(keypoints[None], np.array([[image["height"], image["width"]]]))[0]
        else:
            box = np.asarray(bbox, np.float64)
        flat = np.where(keypoints[:, 2:] > 0, keypoints, 0).ravel()
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image["id"],
                "category_id": category_id,
                "bbox": [round(value, 3) for value in box.tolist()],
                "area": round(AREA_OF_BOX * float(box[2] * box[3]), 3),
                "iscrowd": 0,
                "keypoints": [round(value, 3) if n % 3 < 2 else int(value) for n, value in enumerate(flat.tolist())],
                "num_keypoints": int((keypoints[:, 2] > 0).sum()),
            }
        )

    def write(self, path: Path) -> None:
        """Write the file, in a folder that is made where it is missing; GraphposeError where that cannot be."""
        content = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            raise GraphposeError(f"{path} cannot be written ({error.strerror}); choose another folder") from None


def category(
    name: str, keypoints: Sequence[str], limbs: Pairs = (), flip_pairs: Pairs | None = None, category_id: int = 1
) -> dict[str, Any]:
    """A category record; ``limbs`` and ``flip_pairs`` are pairs of 0-based keypoints, and None leaves them out."""
    record: dict[str, Any] = {"id": category_id, "name": name, "supercategory": name, "keypoints": list(keypoints)}
    if limbs:
        record["skeleton"] = [[a + 1, b + 1] for a, b in limbs]
    if flip_pairs is not None:
        record["flip_pairs"] = [[a + 1, b + 1] for a, b in flip_pairs]
    Skeleton.from_category(record)  # refuses what no reader would take
    return record


def limbs_between(pairs: Sequence[str], keypoints: Sequence[str]) -> list[tuple[int, int]]:
    """0-based limbs of texts ``A:B``, where A and B are names of keypoints or their numbers from 1.

    Raises:
        GraphposeError: naming the pair that is none.
    """
    ends = {str(k + 1): k for k in range(len(keypoints))} | {name: k for k, name in enumerate(keypoints)}
    limbs = []
    for pair in pairs:
        found = [(ends.get(pair[:n]), ends.get(pair[n + 1 :])) for n, letter in enumerate(pair) if letter == ":"]
        known = [(a, b) for a, b in found if a is not None and b is not None and a != b]
        if len(known) != 1:
            raise GraphposeError(
                f"limb '{pair}' is not A:B with two different keypoints, as names or numbers from 1; there are "
                f"{', '.join(keypoints)}"
            )
        limbs.append(known[0])
    return limbs
