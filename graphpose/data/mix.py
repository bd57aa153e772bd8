"""Data sets with different labels, trained together in one skeleton and drawn by weight.

What each of them knows is told by :mod:`graphpose.data.matched`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.data.annotations.json_file import parse_json
from graphpose.data.coco import select_images
from graphpose.data.config import TrainSetConfig
from graphpose.data.dataset import PoseDataset
from graphpose.data.matched import MatchedDataset, PseudoLabels
from graphpose.data.open import open_dataset
from graphpose.data.sample import Sample
from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton


class MixedDataset:
    """Several data sets of one skeleton as one; index after index, set after set.

    An epoch of training does not take every image once: :meth:`visits` chooses by weight.

    Args:
        datasets: the sets.
        weights: how often an image of each set is seen, relative to those of the others.
        names: of the sets, for logs and messages.
        epoch_images: images of an epoch; None is the sum of weight · images over the sets, so that an image of a set of
            weight 1 is seen once.

    Raises:
        GraphposeError: skeletons differ, or a weight or the number of images is not positive.
    """

    def __init__(
        self,
        datasets: Sequence[PoseDataset],
        weights: Sequence[float],
        names: Sequence[str] | None = None,
        epoch_images: int | None = None,
    ) -> None:
        self.datasets = list(datasets)
        self.names = list(names or (f"set {i}" for i in range(len(datasets))))
        if not self.datasets or not len(self.datasets) == len(weights) == len(self.names):
            raise GraphposeError(f"{len(self.datasets)} data sets and {len(weights)} weights cannot be mixed")
        self.skeleton = self.datasets[0].skeleton
        for dataset, weight, name in zip(self.datasets, weights, self.names, strict=True):
            if dataset.skeleton != self.skeleton:
                raise GraphposeError(
                    f"set '{name}' has skeleton '{dataset.skeleton.name}', '{self.names[0]}' has "
                    f"'{self.skeleton.name}'; read both into one"
                )
            if not (np.isfinite(weight) and weight > 0):
                raise GraphposeError(f"set '{name}' has weight {weight}; a positive number is needed")
        self.first = np.cumsum([0, *map(len, self.datasets)])
        self.weights = np.array(weights, np.float64)
        shares = self.weights * np.diff(self.first)
        self.shares = shares / shares.sum()
        self.epoch_images = round(shares.sum()) if epoch_images is None else epoch_images
        if self.epoch_images < 1:
            raise GraphposeError(f"an epoch of {self.epoch_images} images; at least 1 is needed")
        self.quotas = _whole_numbers(self.shares * self.epoch_images, self.epoch_images)

    @property
    def image_ids(self) -> list[int]:
        """Ids from the sets' own records; two sets may use the same."""
        return [image_id for dataset in self.datasets for image_id in dataset.image_ids]

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getitem__(self, index: int) -> Sample:
        """Image ``index``; errors are those of its set."""
        index = range(len(self))[index]
        owner = int(np.searchsorted(self.first, index, side="right")) - 1
        return self.datasets[owner][index - int(self.first[owner])]

    def visits(self, seed: int, epoch: int) -> np.ndarray:
        """(epoch_images, 2) image indices of an epoch, and how often each has been in it before.

        Each set goes on where the epoch before has stopped and is shuffled anew when all of it has been seen, so no
        image is seen twice more often than another of its set.
        """
        chosen = []
        for number, (start, quota) in enumerate(zip(self.first, self.quotas, strict=False)):
            images = int(self.first[number + 1] - start)
            places = np.arange(epoch * quota, (epoch + 1) * quota)
            indices = np.empty(quota, np.int64)
            for cycle in np.unique(places // images) if images else ():
                order = np.random.default_rng([seed, int(cycle), number, 2]).permutation(images)
                own = places // images == cycle
                indices[own] = start + order[places[own] % images]
            chosen.append(indices)
        indices = np.concatenate(chosen)
        visit = _earlier_equals(indices)
        order = np.random.default_rng([seed, epoch]).permutation(len(indices))
        return np.stack([indices, visit], axis=1)[order]

    def draw(self, rng: np.random.Generator) -> int:
        """Index of a random image, whose set is drawn by weight · images."""
        number = int(rng.choice(len(self.datasets), p=self.shares))
        return int(rng.integers(self.first[number], self.first[number + 1]))

    def lines(self) -> list[str]:
        """What each set brings and what is known in it, for people."""
        lines = []
        for dataset, name, weight, quota in zip(self.datasets, self.names, self.weights, self.quotas, strict=True):
            lines.append(f"{name}: {len(dataset)} images, weight {weight:g}, {quota} views an epoch")
            if isinstance(dataset, MatchedDataset):
                lines += [f"  {line}" for line in dataset.lines()]
        return lines

    def ground_truth(self) -> dict[str, Any]:
        """A mix has none.

        Raises:
            GraphposeError: always.
        """
        raise GraphposeError("a mix of data sets has no ground truth of its own; evaluate on one of its sets")


def read_sets(path: Path) -> tuple[list[TrainSetConfig], Path]:
    """The sets of a mix from a JSON file, and the folder that their paths are relative to.

    Args:
        path: a list of objects with the keys of :class:`~graphpose.data.config.TrainSetConfig`, whose paths are
            relative to the file's folder; or the config.json of a run, with its ``train_sets`` and ``data_root``.

    Raises:
        GraphposeError: the file has no such list, or a set is refused.
    """

    def sets(content: Any) -> tuple[list[TrainSetConfig], Path]:
        listed, root = content, path.parent
        if isinstance(content, dict):
            listed, root = content.get("train_sets"), Path(content.get("data_root", ""))
        if not (isinstance(listed, list) and listed and all(isinstance(one, dict) for one in listed)):
            raise GraphposeError(f"{path} has no train_sets; a list of objects with annotations and images is needed")
        return [TrainSetConfig.from_dict(one, f"{path}: train_sets[{n}]") for n, one in enumerate(listed)], root

    return parse_json(path, sets)


def open_mix(
    sets: Sequence[TrainSetConfig], skeleton: Skeleton, *, root: Path | str = "", epoch_images: int | None = None
) -> MixedDataset:
    """The data sets of a configuration, read into one skeleton.

    Args:
        sets: annotations, images, weight and options of each.
        skeleton: what they are read into.
        root: folder that paths are relative to.
        epoch_images: see :class:`MixedDataset`.

    Raises:
        GraphposeError: as the data sets, the matching of names and the mix do.
    """
    root = Path(root)
    opened = []
    for one in sets:
        pseudo = PseudoLabels(root / one.pseudo_labels, skeleton) if one.pseudo_labels else None
        dataset = open_dataset(root / one.annotations, root / one.images, require_persons=one.require_persons)
        if one.excluded_ids:
            excluded = read_image_ids(root, one.excluded_ids)
            kept = [image_id for image_id in dataset.image_ids if image_id not in excluded]
            if not kept:
                raise GraphposeError(f"training set '{one.name}': {one.excluded_ids} leaves no image of it")
            dataset.annotations = select_images(dataset.annotations, kept, one.require_persons)
        opened.append(
            MatchedDataset(
                dataset,
                skeleton,
                name=one.name,
                complete=one.complete,
                unlabelled=one.unlabelled,
                pseudo_labels=pseudo,
                pseudo_weight=one.pseudo_weight,
            )
        )
    return MixedDataset(opened, [one.weight for one in sets], [one.name for one in sets], epoch_images)


def read_image_ids(root: Path, source: str) -> set[int]:
    """Image ids from a JSON file.

    Args:
        root: folder that the file's path is relative to.
        source: the file (.json or .json.gz), which is a list of ids; or FILE:key, where the file is an object that has
            the list.

    Raises:
        GraphposeError: the file cannot be read or has no such list.
    """
    named = re.fullmatch(r"(.+?\.json(?:\.gz)?)(?::(.+))?", source)
    if named is None:
        raise GraphposeError(f"image ids '{source}': a file that ends in .json or .json.gz is needed, or FILE:key")
    path, key = root / named[1], named[2]
    if not path.is_file():
        raise GraphposeError(f"file of image ids {path} does not exist")

    def ids(content: Any) -> set[int]:
        listed = content.get(key) if key and isinstance(content, dict) else content
        if not isinstance(listed, list) or not all(type(image_id) is int for image_id in listed):
            where = f"under '{key}' " if key else ""
            raise GraphposeError(f"{path} has {where}no list of image ids, which are whole numbers")
        return set(listed)

    return parse_json(path, ids)


def _whole_numbers(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near ``shares`` that add up to ``total``: rounded down, the largest remainders up."""
    numbers = np.floor(shares).astype(np.int64)
    order = np.argsort(numbers - shares, kind="stable")
    numbers[order[: total - numbers.sum()]] += 1
    return numbers


def _earlier_equals(values: np.ndarray) -> np.ndarray:
    """(n,) how many values before each one are equal to it."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    first = np.searchsorted(ranked, ranked)
    counts = np.empty(len(values), np.int64)
    counts[order] = np.arange(len(values)) - first
    return counts
