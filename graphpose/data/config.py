"""Settings of the augmentation."""

from __future__ import annotations

import dataclasses

from graphpose.errors import GraphposeError


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training image.

    Attributes:
        long_edge: the image is first thought of as resized to this long edge in pixels (the size used in evaluation);
            ``scale`` is relative to that. None keeps the original size.
        scale: smallest and largest factor, drawn log-uniformly.
        rotation: largest rotation to either side, degrees.
        flip: probability of a left–right mirror image.
        colour: strength of the colour jitter, 0 (none) to 1: changes of brightness, contrast and saturation by up to
            40 % and of hue by up to 18° at strength 1.
        degrade: probability of each of: blur, JPEG artefacts, no colour.
    """

    long_edge: int | None = 641
    scale: tuple[float, float] = (0.4, 2.0)
    rotation: float = 10.0
    flip: float = 0.5
    colour: float = 0.5
    degrade: float = 0.05

    def __post_init__(self) -> None:
        if self.long_edge is not None and self.long_edge < 1:
            raise GraphposeError(f"augmentation long_edge {self.long_edge} must be a positive number of pixels")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise GraphposeError(f"augmentation scale {self.scale} must be two positive factors, the smaller first")
        if not 0 <= self.rotation <= 180:
            raise GraphposeError(f"augmentation rotation {self.rotation} must lie between 0 and 180 degrees")
        for key in ("flip", "colour", "degrade"):
            if not 0 <= getattr(self, key) <= 1:
                raise GraphposeError(f"augmentation {key} {getattr(self, key)} must lie between 0 and 1")
