"""Settings of training images: their augmentation, data sets that are trained together, images composed of several."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from graphpose.errors import GraphposeError

Unlabelled = Literal["unknown", "background"]


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training image.

    Attributes:
        long_edge: the image is first thought of as resized to this long edge in pixels (the size used in evaluation);
            ``scale`` is relative to that. None keeps the original size.
        scale: smallest and largest factor, drawn log-uniformly.
        person_size: smallest and largest long side in pixels that the box of the person in view comes to have, drawn
            log-uniformly in place of ``scale``, so that sets whose persons are of different sizes are seen alike. No
            image is enlarged more than twofold for it; of images without a person the long edge is drawn. None leaves
            the size to ``scale``.
        rotation: largest rotation to either side, degrees.
        flip: probability of a left–right mirror image.
        colour: strength of the colour jitter, 0 (none) to 1: changes of brightness, contrast and saturation by up to
            40 % and of hue by up to 18° at strength 1.
        degrade: probability of each of: blur, JPEG artefacts, no colour.
    """

    long_edge: int | None = 641
    scale: tuple[float, float] = (0.4, 2.0)
    person_size: tuple[float, float] | None = None
    rotation: float = 10.0
    flip: float = 0.5
    colour: float = 0.5
    degrade: float = 0.05

    def __post_init__(self) -> None:
        if self.long_edge is not None and self.long_edge < 1:
            raise GraphposeError(f"augmentation long_edge {self.long_edge} must be a positive number of pixels")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise GraphposeError(f"augmentation scale {self.scale} must be two positive factors, the smaller first")
        if self.person_size is not None and not 0 < self.person_size[0] <= self.person_size[1]:
            raise GraphposeError(
                f"augmentation person_size {self.person_size} must be two positive numbers of pixels, the smaller first"
            )
        if not 0 <= self.rotation <= 180:
            raise GraphposeError(f"augmentation rotation {self.rotation} must lie between 0 and 180 degrees")
        for key in ("flip", "colour", "degrade"):
            if not 0 <= getattr(self, key) <= 1:
                raise GraphposeError(f"augmentation {key} {getattr(self, key)} must lie between 0 and 1")


@dataclasses.dataclass(frozen=True)
class TrainSetConfig:
    """One of several data sets that are trained together.

    Attributes:
        annotations: annotation file, of any form that is read.
        images: folder of the image files.
        weight: how often an image of this set is seen, relative to those of the others.
        name: for logs; the annotation file's by default.
        complete: every person is labelled; False where a set labels one person of several, and everything outside of
            the labelled persons' boxes is then ignored.
        require_persons: only images with a labelled person.
        pseudo_labels: file of a teacher's labels for keypoints that the set does not label; empty for none.
        pseudo_weight: weight of those, 0 to 1: the share of the views in which they are targets. In the other views,
            and in images for which the teacher found nothing, these keypoints are unknown.
        unlabelled: what keypoints that the set never labels are in its images: "unknown", or "background", as if nobody
            had them.
        excluded_ids: JSON file with a list of image ids that are left out, or FILE:key where the list is one of
            several; empty for none.
    """

    annotations: str
    images: str
    weight: float = 1.0
    name: str = ""
    complete: bool = True
    require_persons: bool = True
    pseudo_labels: str = ""
    pseudo_weight: float = 0.5
    unlabelled: Unlabelled = "unknown"
    excluded_ids: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], place: str) -> TrainSetConfig:
        """A set from a configuration or a JSON file.

        Args:
            values: by key.
            place: where they stand, for messages.

        Raises:
            GraphposeError: an unknown key, a missing one, or a value that is refused.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                raise GraphposeError(f"{place} has an unknown key '{key}'; there are {', '.join(fields)}")
        missing = [key for key, field in fields.items() if field.default is dataclasses.MISSING and key not in values]
        if missing:
            raise GraphposeError(f"{place} lacks {' and '.join(missing)}")
        return cls(**values)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", Path(self.annotations).name.split(".")[0])
        if not 0 < self.weight < math.inf:
            raise GraphposeError(f"training set '{self.name}': weight {self.weight} must be a positive number")
        if not 0 <= self.pseudo_weight <= 1:
            raise GraphposeError(f"training set '{self.name}': pseudo_weight {self.pseudo_weight} must lie in 0 … 1")
        if self.unlabelled not in get_args(Unlabelled):
            raise GraphposeError(
                f"training set '{self.name}': unlabelled '{self.unlabelled}' must be one of "
                f"{', '.join(get_args(Unlabelled))}"
            )
        if self.pseudo_labels and self.unlabelled == "background":
            raise GraphposeError(
                f"training set '{self.name}': pseudo_labels with unlabelled=background; a keypoint that a teacher "
                "labels in some images is unknown in the others"
            )


@dataclasses.dataclass(frozen=True)
class CrowdConfig:
    """How often training images are composed of several.

    Attributes:
        mosaic: probability of a mosaic of several images.
        mosaic_side: most images of a mosaic beside and above one another; 2 makes mosaics of two and four images, 3
            also of six and nine, and so on: as many rows as columns, or one more or less.
        paste: probability that the box of another image's person is pasted into the image or the mosaic.
        paste_size: smallest and largest longer side of a pasted box, as shares of the input's edge.
    """

    mosaic: float = 0.0
    paste: float = 0.0
    paste_size: tuple[float, float] = (0.2, 0.6)
    mosaic_side: int = 2

    def __post_init__(self) -> None:
        for key in ("mosaic", "paste"):
            if not 0 <= getattr(self, key) <= 1:
                raise GraphposeError(f"crowd {key} {getattr(self, key)} must lie between 0 and 1")
        if self.mosaic_side < 2:
            raise GraphposeError(f"crowd mosaic_side {self.mosaic_side} must be at least 2")
        if not 0 < self.paste_size[0] <= self.paste_size[1] <= 1:
            raise GraphposeError(f"crowd paste_size {self.paste_size} must be two shares of 1, the smaller first")
