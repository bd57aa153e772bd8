"""Crowds from single persons: mosaics of several images at several scales, and persons pasted into others' images.

Both are one composition: views of several images, each through the one warp of :mod:`graphpose.data.transforms` into a
rectangle of the input, a later one over the earlier. A keypoint that a later view covers loses its label, as one behind
the image's edge does; each view keeps its own ignore mask and its own knowledge of keypoints.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from graphpose.data.config import CrowdConfig
from graphpose.data.dataset import DrawnByWeight, PoseDataset
from graphpose.data.sample import Persons, Sample
from graphpose.data.transforms import TrainTransform, Warped, invert_affine, warp_sample

Rectangle = tuple[int, int, int, int]


@dataclasses.dataclass
class View:
    """One image of a composition.

    Attributes:
        sample: the image with its persons.
        matrix: (2, 3); affine map from its pixels to those of the input.
        flip: permutation of the keypoints, where the map mirrors.
        rectangle: left, top, right, bottom of what it fills; pixels left … right − 1 and top … bottom − 1.
    """

    sample: Sample
    matrix: np.ndarray
    flip: np.ndarray | None
    rectangle: Rectangle


class CrowdTransform:
    """A training transform that now and then composes several images.

    Args:
        transform: draws the view of each image, and the colours of the whole.
        dataset: the other images are drawn from it, those of a mix by weight.
        config: how often.
    """

    def __init__(self, transform: TrainTransform, dataset: PoseDataset, config: CrowdConfig | None = None) -> None:
        self.transform = transform
        self.dataset = dataset
        self.config = config or CrowdConfig()

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Warped:
        """A random square view; the same ``rng`` state gives the same bytes.

        Raises:
            GraphposeError: another image that was drawn cannot be read.
        """
        size = self.transform.size
        mosaic, paste = rng.random(2) < (self.config.mosaic, self.config.paste)
        if not (mosaic or paste):
            return self.transform(sample, rng)
        if mosaic:
            rectangles = draw_tiles(size, rng, self.config.mosaic_side)
            order = rng.permutation(len(rectangles))
            views = [
                self._draw_tile(sample if number == 0 else self._draw_other(rng), rectangles[place], rng)
                for number, place in enumerate(order.tolist())
            ]
        else:
            matrix, flip = self.transform.draw_view(sample, rng)
            views = [View(sample, matrix, flip, (0, 0, size, size))]
        if paste:
            pasted = self._draw_pasted(self._draw_other(rng), rng)
            views += [] if pasted is None else [pasted]
        return self.transform.finish(compose(views, size), rng)

    def _draw_other(self, rng: np.random.Generator) -> Sample:
        dataset = self.dataset
        index = dataset.draw(rng) if isinstance(dataset, DrawnByWeight) else int(rng.integers(len(dataset)))
        return self.dataset[index]

    def _draw_tile(self, sample: Sample, rectangle: Rectangle, rng: np.random.Generator) -> View:
        """A view of the transform, made as small as the tile's longer side and centred in it."""
        matrix, flip = self.transform.draw_view(sample, rng)
        left, top, right, bottom = rectangle
        factor = max(right - left, bottom - top) / self.transform.size
        centre = np.array([left + right - 1, top + bottom - 1]) / 2
        matrix = factor * matrix
        matrix[:, 2] += centre - factor * (self.transform.size - 1) / 2
        return View(sample, matrix, flip, rectangle)

    def _draw_pasted(self, sample: Sample, rng: np.random.Generator) -> View | None:
        """The box of one person, upright, at a random size and place; None where nobody can be pasted."""
        persons = sample.persons
        targets = np.flatnonzero((persons.keypoints[:, :, 2] > 0).any(axis=1) & ~persons.iscrowd)
        targets = targets[(persons.bbox[targets, 2:] >= 1).all(axis=1)]
        if not len(targets):
            return None
        x, y, w, h = persons.bbox[rng.choice(targets)].astype(np.float64)
        size = self.transform.size
        low, high = self.config.paste_size
        scale = size * np.exp(rng.uniform(np.log(low), np.log(high))) / max(w, h)
        mirrored = bool(rng.random() < self.transform.config.flip)
        width, height = (max(1, min(size, round(scale * side))) for side in (w, h))
        left, top = rng.integers(0, (size - width + 1, size - height + 1)).tolist()
        linear = np.diag([-scale if mirrored else scale, scale])
        middle = np.array([left + (width - 1) / 2, top + (height - 1) / 2])
        matrix = np.concatenate([linear, (middle - linear @ (x + w / 2, y + h / 2))[:, None]], axis=1)
        return View(sample, matrix, self.transform.flip if mirrored else None, (left, top, left + width, top + height))


def draw_tiles(size: int, rng: np.random.Generator, side: int = 2) -> list[Rectangle]:
    """Rectangles that fill a square of ``size`` pixels, row by row; at most ``side`` of them in a row or column.

    There are as many columns as rows or one more or less, and each cut is off its even place by at most 0.4 of what an
    even tile has there.
    """
    offsets = rng.uniform(-0.4, 0.4, size=(2, side - 1))
    grids = [(n + 1, n) for n in range(1, side)] + [(n, n + 1) for n in range(1, side)]
    grids += [(n, n) for n in range(2, side + 1)]
    columns, rows = map(_cut, (size, size), grids[rng.integers(len(grids))], offsets)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _cut(size: int, count: int, offsets: np.ndarray) -> list[tuple[int, int]]:
    """``size`` pixels in ``count`` parts, whose cuts are off by ``offsets`` of an even part."""
    cuts = [round(size * (number + offset) / count) for number, offset in zip(range(1, count), offsets, strict=False)]
    return list(itertools.pairwise([0, *cuts, size]))


def compose(views: list[View], size: int) -> Warped:
    """One input of several views, which together fill it.

    Args:
        views: later ones cover earlier ones.
        size: edge of the square in pixels.

    Returns:
        The input; image id, file name, source and ``to_original`` are those of the first view. It has as many regions
        as views where a keypoint is unknown in one of them.
    """
    image = np.empty((size, size, 3), np.uint8)
    ignore = np.ones((size, size), bool)
    regions = np.zeros((size, size), np.uint8)
    parts: list[Persons] = []
    tables: list[np.ndarray | None] = []
    for number, view in enumerate(views):
        left, top, right, bottom = view.rectangle
        matrix = view.matrix.copy()
        matrix[:, 2] -= left, top
        warped = warp_sample(view.sample, matrix, (bottom - top, right - left), view.flip).sample
        place = slice(top, bottom), slice(left, right)
        image[place], ignore[place], regions[place] = warped.image, warped.ignore, number
        tables.append(warped.known)
        parts = [_without_covered(persons, view.rectangle) for persons in parts]
        parts.append(_moved(warped.persons, left, top))
    first = views[0].sample
    known = None
    if any(table is not None for table in tables):
        everything = np.ones((1, first.persons.keypoints.shape[1]), np.float32)
        known = np.concatenate([everything if table is None else table for table in tables])
    persons = Persons(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Persons))
    )
    sample = Sample(
        image=image,
        persons=persons,
        ignore=ignore,
        image_id=first.image_id,
        file_name=first.file_name,
        known=known,
        regions=None if known is None else regions,
        source=first.source,
    )
    height, width = first.image.shape[:2]
    return Warped(sample, invert_affine(views[0].matrix), (height, width))


def _moved(persons: Persons, left: int, top: int) -> Persons:
    """Persons of a view in pixels of the input."""
    keypoints, bbox = persons.keypoints.copy(), persons.bbox.copy()
    keypoints[:, :, :2] += np.where(keypoints[:, :, 2:] > 0, np.array([left, top], np.float32), np.float32(0))
    bbox[:, :2] += left, top
    return dataclasses.replace(persons, keypoints=keypoints, bbox=bbox)


def _without_covered(persons: Persons, rectangle: Rectangle) -> Persons:
    """Persons without the labels that lie in ``rectangle``, and without those who have none left."""
    left, top, right, bottom = rectangle
    keypoints = persons.keypoints.copy()
    x, y = keypoints[:, :, 0], keypoints[:, :, 1]
    keypoints[(x > left - 0.5) & (x < right - 0.5) & (y > top - 0.5) & (y < bottom - 0.5)] = 0
    labelled = np.flatnonzero((keypoints[:, :, 2] > 0).any(axis=1))
    return dataclasses.replace(persons, keypoints=keypoints).select(labelled)
