"""A batch as the training loop and the encoder see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass
class Batch:
    """B images of one size with their persons, padded to P persons per image.

    Coordinates are pixels of the network's input image, pixel centres at integers, x then y.

    Attributes:
        images: (B, 3, H, W) float32 in ImageNet normalisation; of a set of features (B, C, h, w) float16.
        keypoints: (B, P, K, 3) float32; x, y, visibility (0 not labelled, 1 hidden, 2 visible). Padding persons have
            visibility 0 throughout; crowd regions are not persons and are not here.
        scales: (B, P) float32; sqrt(person area) in pixels; 0 for padding persons.
        ignore: (B, H, W) bool; True where nothing is known (crowd regions, unlabelled persons, padding of the image).
        to_original: (B, 2, 3) float64; affine map from input pixels to pixels of the original image.
        original_sizes: B pairs (height, width) in pixels.
        image_ids: B ids from the annotation file's records.
        file_names: B file names.
        known: (B, R, K) bool; False where a region of an image does not say where a keypoint is and where it is not;
            None where all are known.
        regions: (B, H, W) uint8; which region a pixel belongs to; None where every image is one region.
        sources: B names of the sets that the images are from.
        errors: one message per sample that could not be read and is therefore missing from the batch.
    """

    images: Tensor
    keypoints: Tensor
    scales: Tensor
    ignore: Tensor
    to_original: Tensor
    original_sizes: list[tuple[int, int]]
    image_ids: list[int]
    file_names: list[str]
    known: Tensor | None = None
    regions: Tensor | None = None
    sources: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def size(self) -> tuple[int, int]:
        """H, W of the images in pixels, also where their features stand for them."""
        return tuple(self.ignore.shape[-2:])  # type: ignore[return-value]

    @classmethod
    def empty(cls) -> Batch:
        """A batch without an image."""
        none = torch.zeros(0)
        return cls(none, none, none, none, none, [], [], [])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch with the tensors that the network and the encoder read on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Called by a DataLoader with ``pin_memory=True``."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        names = ("images", "keypoints", "scales", "ignore", "known", "regions")
        changed: dict[str, Any] = {n: change(getattr(self, n)) for n in names if getattr(self, n) is not None}
        return dataclasses.replace(self, **changed)
