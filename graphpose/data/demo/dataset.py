"""The demo data set: procedurally rendered scenes of articulated persons, exactly annotated."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphpose.data.annotations.table import coco_category
from graphpose.data.demo.render import MAX_PERSONS
from graphpose.data.demo.scene import Scene, compose, paint
from graphpose.data.sample import Persons, Sample
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO


class DemoDataset:
    """Rendered scenes with COCO keypoints; scene i depends on (seed, i) alone.

    Args:
        length: number of scenes, at least 1.
        seed: stream of scenes, 0 to 2**32 - 1; different seeds share no scene.
        size: pixels on a side, 64 to 1024.
        max_persons: most persons in a scene, 1 to 15.

    Raises:
        GraphposeError: for arguments outside of these ranges.
    """

    skeleton = COCO

    def __init__(self, length: int, seed: int = 0, size: int = 160, max_persons: int = 6) -> None:
        if length < 1:
            raise GraphposeError(f"demo data set: length is {length}; it must be at least 1")
        if not 64 <= size <= 1024:
            raise GraphposeError(f"demo data set: size is {size}; it must be 64 to 1024 pixels")
        if not 1 <= max_persons <= MAX_PERSONS:
            raise GraphposeError(f"demo data set: max_persons is {max_persons}; it must be 1 to {MAX_PERSONS}")
        if not 0 <= seed < 2**32:  # one word of SeedSequence's entropy: a longer one would run into the index
            raise GraphposeError(f"demo data set: seed is {seed}; it must be 0 to 2**32 - 1")
        self.length = length
        self.seed = seed
        self.size = size
        self.max_persons = max_persons
        self.image_ids = list(range(1, length + 1))
        self._annotations: dict[int, Persons] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Scene ``index`` as a sample; its picture, keypoints, boxes and areas agree to the pixel."""
        scene, rng = self._scene(index)
        persons = self._persons(index, scene)
        return Sample(
            image=paint(scene, rng),
            persons=persons,
            ignore=np.zeros((self.size, self.size), bool),
            image_id=self.image_ids[index],
            file_name=self._file_name(index),
        )

    def ground_truth(self) -> dict[str, Any]:
        """The annotations of all scenes as a COCO keypoint file's content, for pycocotools; equal to the samples'.

        No picture is rendered for it, only the segments.
        """
        images, annotations = [], []
        for index, image_id in enumerate(self.image_ids):
            images.append(
                {"id": image_id, "file_name": self._file_name(index), "width": self.size, "height": self.size}
            )
            persons = self._annotations.get(index)
            if persons is None:
                persons = self._persons(index, self._scene(index)[0])
            for person in range(len(persons)):
                keypoints = persons.keypoints[person]
                annotations.append(
                    {
                        "id": int(persons.ids[person]),
                        "image_id": image_id,
                        "category_id": 1,
                        "keypoints": keypoints.reshape(-1).tolist(),
                        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                        "area": float(persons.area[person]),
                        "bbox": persons.bbox[person].tolist(),
                        "iscrowd": 0,
                    }
                )
        return {"images": images, "annotations": annotations, "categories": [coco_category(self.skeleton)]}

    def _scene(self, index: int) -> tuple[Scene, np.random.Generator]:
        """Geometry of a scene, and the generator that goes on to draw its colours."""
        if not -self.length <= index < self.length:
            raise IndexError(f"demo data set has {self.length} scenes, there is no index {index}")
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index % self.length]))
        return compose(rng, self.size, self.max_persons), rng

    def _persons(self, index: int, scene: Scene) -> Persons:
        """A scene's annotations, kept for ground_truth."""
        index %= self.length
        count = len(scene.persons)
        persons = Persons(
            keypoints=scene.keypoints,
            bbox=scene.boxes,
            area=scene.areas,
            iscrowd=np.zeros(count, bool),
            ids=(index + 1) * MAX_PERSONS + np.arange(count, dtype=np.int64),
        )
        self._annotations[index] = persons
        return persons

    def _file_name(self, index: int) -> str:
        return f"demo_{self.seed}_{index % self.length:06d}.png"
