"""Images and persons to the network's input: one affine warp and one colour matrix.

Convention: coordinates are x then y in pixels, pixel centres at integers, so an image of width W covers x from −0.5 to
W − 0.5. A (2, 3) affine map takes [x, y, 1] to [x', y'].

Everything outside of the original image is filled with ImageNet's mean colour and ignored: nobody annotated what is
there, and a person cut by the image's edge continues in it.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Protocol

import cv2
import numpy as np

from graphpose.data.colour import jitter_colours
from graphpose.data.config import AugmentConfig
from graphpose.data.sample import Persons, Sample
from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton

logger = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MOST_ENLARGED = 2.0  # beyond, an image only becomes blurred
FILL = tuple(round(255 * m) for m in IMAGENET_MEAN)


@dataclasses.dataclass
class Warped:
    """A sample at the network's input size.

    Attributes:
        sample: image, persons and ignore mask of the input; its persons all have a labelled keypoint inside and are no
            crowds.
        to_original: (2, 3) float64; affine map from input pixels to pixels of the original image.
        original_size: height, width of the original image.
    """

    sample: Sample
    to_original: np.ndarray
    original_size: tuple[int, int]


class Transform(Protocol):
    """What a loader applies to every sample; all randomness comes from ``rng``."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Warped: ...


class TrainTransform:
    """Random scale, rotation, mirror image and crop to a square, in one warp; then random colours.

    The crop is placed so that a randomly chosen person, whose size may be what is drawn, lies in its middle half, and
    inside of the image as far as the image is large enough.

    Args:
        size: edge of the square in pixels.
        skeleton: its ``flip`` says which keypoints change places in a mirror image; where that is not known, there are
            no mirror images, and a line says so.
        config: what changes and how much.

    Raises:
        GraphposeError: the size is not positive.
    """

    def __init__(self, size: int, skeleton: Skeleton, config: AugmentConfig | None = None) -> None:
        if size < 1:
            raise GraphposeError(f"training crop size {size} must be a positive number of pixels")
        self.size = size
        self.config = config or AugmentConfig()
        if self.config.flip and not skeleton.mirrors:
            logger.warning(
                "no mirror images: skeleton '%s' states no flip pairs and none are found in its names (%s)",
                skeleton.name,
                ", ".join(skeleton.keypoints),
            )
            self.config = dataclasses.replace(self.config, flip=0.0)
        self.flip = np.array(skeleton.flip)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Warped:
        """A random square view of ``sample``; the same ``rng`` state gives the same bytes."""
        matrix, flip = self.draw_view(sample, rng)
        return self.finish(warp_sample(sample, matrix, (self.size, self.size), flip), rng)

    def finish(self, warped: Warped, rng: np.random.Generator) -> Warped:
        """The view with random colours and with what is known in it drawn; see :func:`draw_known`."""
        image = jitter_colours(warped.sample.image, self.config.colour, self.config.degrade, rng)
        sample = draw_known(dataclasses.replace(warped.sample, image=image), rng)
        return dataclasses.replace(warped, sample=sample)

    def draw_view(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """The affine map of a random view, and where it mirrors, the permutation of the keypoints."""
        mirrored = bool(rng.random() < self.config.flip)
        height, width = sample.image.shape[:2]
        low, high = self.config.person_size or self.config.scale
        size = math.exp(rng.uniform(math.log(low), math.log(high)))
        angle = math.radians(rng.uniform(-self.config.rotation, self.config.rotation))
        focus, extent = self._draw_focus(sample, rng)
        if self.config.person_size is not None:
            scale = min(size / extent, MOST_ENLARGED)
        else:
            scale = size if self.config.long_edge is None else size * self.config.long_edge / max(height, width)
        # Where the focus comes to lie in the crop: its middle half, then moved so that the crop stays inside.
        place = rng.uniform(0.25, 0.75, size=2) * self.size
        centre = np.array([width / 2, height / 2])
        start = (focus + 0.5) * scale - place  # top left corner of the crop in the scaled image, from its edge
        slack = 2 * centre * scale - self.size
        outside = rng.uniform(np.minimum(slack, 0), 0)  # a smaller image lies anywhere inside the crop
        start = np.where(slack >= 0, np.clip(start, 0, np.maximum(slack, 0)), outside)
        view_centre = (start + self.size / 2) / scale - 0.5  # original pixels
        return view_matrix(view_centre, scale, angle, mirrored, self.size), self.flip if mirrored else None

    def _draw_focus(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """The middle of a person's labelled keypoints, and the long side of the box around person and keypoints; a
        point anywhere and the image's long edge where there is nobody."""
        persons = sample.persons
        targets = np.flatnonzero((persons.keypoints[:, :, 2] > 0).any(axis=1) & ~persons.iscrowd)
        if len(targets) == 0:
            height, width = sample.image.shape[:2]
            return rng.uniform((0, 0), (width, height)) - 0.5, max(height, width)
        person = rng.choice(targets)
        keypoints = persons.keypoints[person]
        labelled = keypoints[keypoints[:, 2] > 0, :2]
        low, high = labelled.min(axis=0), labelled.max(axis=0)
        # a box may be missing, and a single keypoint spans nothing
        return (low + high) / 2, max(1.0, float(persons.bbox[person, 2:].max()), float((high - low).max()))


class EvalTransform:
    """Resize so that the long edge is ``long_edge``; nothing random, nobody lost.

    Args:
        long_edge: pixels; None keeps the original size.
        enlarge: images with a shorter long edge, too; they are kept as they are otherwise.
        square: pad to long_edge × long_edge at the right and bottom, for networks of one fixed input size.

    Raises:
        GraphposeError: the long edge is not positive, or ``square`` without one.
    """

    def __init__(self, long_edge: int | None = 641, *, enlarge: bool = True, square: bool = False) -> None:
        if long_edge is not None and long_edge < 1:
            raise GraphposeError(f"evaluation long_edge {long_edge} must be a positive number of pixels")
        if square and long_edge is None:
            raise GraphposeError("evaluation at the original size (long_edge None) cannot be padded to a square")
        self.long_edge = long_edge
        self.enlarge = enlarge
        self.square = square

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Warped:
        """The resized sample; its ``to_original`` is the exact inverse of the resizing."""
        height, width = sample.image.shape[:2]
        if self.long_edge is None:
            return warp_sample(sample, np.eye(2, 3), (height, width))
        longest = max(height, width)
        scale = (self.long_edge if self.enlarge else min(self.long_edge, longest)) / longest
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        # Each axis has its own factor, so that the resized image fills whole pixels exactly.
        sy, sx = size[0] / height, size[1] / width
        matrix = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2]])
        return warp_sample(sample, matrix, (self.long_edge, self.long_edge) if self.square else size)


def view_matrix(centre: np.ndarray, scale: float, angle: float, mirrored: bool, size: int) -> np.ndarray:
    """Affine map that looks at ``centre`` in a square view.

    Args:
        centre: x, y in original pixels; comes to lie in the middle of the view.
        scale: view pixels per original pixel.
        angle: rotation in radians, positive turns x towards y.
        mirrored: exchange left and right of the view.
        size: edge of the view in pixels.

    Returns:
        (2, 3) float64; its linear part is ``scale`` times an orthogonal matrix.
    """
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    if mirrored:
        linear[0] = -linear[0]
    middle = (size - 1) / 2
    return np.concatenate([linear, (middle - linear @ centre)[:, None]], axis=1)


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a (2, 3) affine map, float64."""
    linear = np.linalg.inv(matrix[:, :2].astype(np.float64))
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points (…, 2) by a (2, 3) affine map; float64."""
    return points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]


def affine_scale(matrix: np.ndarray) -> float:
    """Length factor of a (2, 3) affine map: the root of its area factor."""
    return math.sqrt(abs(np.linalg.det(matrix[:, :2])))


def warp_sample(sample: Sample, matrix: np.ndarray, size: tuple[int, int], flip: np.ndarray | None = None) -> Warped:
    """Image, persons and ignore mask through one affine map.

    Args:
        sample: in original pixels.
        matrix: (2, 3) from original to input pixels.
        size: height, width of the input.
        flip: permutation of the keypoints, where the map mirrors.

    Returns:
        The input with its exact inverse map; pixels outside of the original image are filled and ignored.
    """
    image, ignore = _warp_pixels(sample, matrix, size)
    warped = Sample(
        image=image,
        persons=warp_persons(sample.persons, matrix, size, flip),
        ignore=ignore,
        image_id=sample.image_id,
        file_name=sample.file_name,
        known=sample.known if sample.known is None or flip is None else sample.known[:, flip],
        source=sample.source,
    )
    height, width = sample.image.shape[:2]
    return Warped(warped, invert_affine(matrix), (height, width))


def draw_known(sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample with ``known`` of 0 and 1 alone, each 1 with the probability that it stated.

    So labels of weight w have w times the weight of others in the loss of an epoch, and the loss itself needs no
    weights. One number decides for all keypoints: a limb between two of weight w has weight w, not w².
    """
    if sample.known is None:
        return sample
    return dataclasses.replace(sample, known=(rng.random() < sample.known).astype(np.float32))


def warp_persons(
    persons: Persons, matrix: np.ndarray, size: tuple[int, int], flip: np.ndarray | None = None
) -> Persons:
    """Persons through an affine map, those with a labelled keypoint inside of the new image and no crowds.

    Keypoints outside of the new image lose their label. Area is that of the whole person, not of its part inside, for
    it is the measure of the person's scale; bbox is the upright box around the mapped box, not cut either.
    """
    keypoints = persons.keypoints.copy()
    keypoints[:, :, :2] = apply_affine(matrix, keypoints[:, :, :2])
    if flip is not None:
        keypoints = keypoints[:, flip]
    x, y, visibility = keypoints[:, :, 0], keypoints[:, :, 1], keypoints[:, :, 2]
    inside = (x > -0.5) & (x < size[1] - 0.5) & (y > -0.5) & (y < size[0] - 0.5)
    keypoints[~(inside & (visibility > 0))] = 0
    corners = persons.bbox[:, None, :2] + persons.bbox[:, None, 2:] * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    corners = apply_affine(matrix, corners)
    low, high = corners.min(axis=1), corners.max(axis=1)
    mapped = Persons(
        keypoints=keypoints,
        bbox=np.concatenate([low, high - low], axis=1).astype(np.float32),
        area=(persons.area * affine_scale(matrix) ** 2).astype(np.float32),
        iscrowd=persons.iscrowd,
        ids=persons.ids,
    )
    return mapped.select((keypoints[:, :, 2] > 0).any(axis=1) & ~persons.iscrowd)


def _warp_pixels(sample: Sample, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Image and ignore mask through one warp; the mask travels as a fourth channel, with which OpenCV is twice as fast
    as without."""
    if sample.image.shape[:2] == size and np.array_equal(matrix, np.eye(2, 3)):
        return sample.image, sample.ignore
    known = cv2.cvtColor(sample.image, cv2.COLOR_RGB2RGBA)  # fourth channel 255: known
    if sample.ignore.any():
        known[sample.ignore, 3] = 0
    # Bilinear sampling skips pixels below half size; averaging whole blocks first keeps what lies between them.
    factor = int(1 / np.linalg.norm(matrix[:, :2], axis=0).max() + 1e-6)
    if factor > 1:
        known, matrix = _shrink(known, factor), matrix @ _enlarging(factor)
    known = cv2.warpAffine(
        known,
        matrix,
        (size[1], size[0]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(*FILL, 0),
    )
    # Where an image is enlarged, its corner pixels mix with what lies around it and keep a quarter at least.
    return cv2.cvtColor(known, cv2.COLOR_RGBA2RGB), known[:, :, 3] < 63


def _shrink(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = image.shape[:2]
    bottom, right = -height % factor, -width % factor
    if bottom or right:
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)


def _enlarging(factor: int) -> np.ndarray:
    """(3, 3) map from pixels of the shrunk image to those of the original."""
    middle = (factor - 1) / 2
    return np.array([[factor, 0, middle], [0, factor, middle], [0, 0, 1]])
