"""What every data set of graphpose offers: the readers, the demo renderer and anything a user brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from graphpose.data.sample import Sample
from graphpose.skeleton import Skeleton


@runtime_checkable
class PoseDataset(Protocol):
    """Images with persons of one skeleton, addressed 0 … len − 1; picklable, so that worker processes can hold it."""

    @property
    def skeleton(self) -> Skeleton:
        """What the keypoints of every sample mean."""
        ...

    @property
    def image_ids(self) -> Sequence[int]:
        """Ids from the annotation file's records, one per image, in the order of the indices."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """One image with its persons.

        Raises:
            GraphposeError: naming the file, when the image is missing, damaged or not the one annotated.
        """
        ...

    def ground_truth(self) -> dict[str, Any]:
        """Annotations of exactly these images as a COCO-format dict (images, annotations, categories)."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """A data set that chooses itself what an epoch of training takes.

    Attributes:
        epoch_images: images of an epoch.
    """

    epoch_images: int

    def visits(self, seed: int, epoch: int) -> np.ndarray:
        """(epoch_images, 2) image indices of an epoch in their order, and how often each has been in it before."""
        ...


@runtime_checkable
class DrawnByWeight(Protocol):
    """A data set some of whose images are to be seen more often than others, also as parts of composed images."""

    def draw(self, rng: np.random.Generator) -> int:
        """Index of a random image."""
        ...
