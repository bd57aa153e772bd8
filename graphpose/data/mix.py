"""Data sets with different labels, trained together in one skeleton.

A keypoint that a set never labels is unknown in its images: no target for it, nor for a limb that ends in it. In a set
that labels one person of several, everything outside of that person's box is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from graphpose.data.annotations.json_file import parse_json
from graphpose.data.coco import select_images
from graphpose.data.config import TrainSetConfig, Unlabelled
from graphpose.data.dataset import PoseDataset
from graphpose.data.matching import match_keypoints
from graphpose.data.open import open_dataset
from graphpose.data.sample import Persons, Sample
from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton


class MatchedDataset:
    """A data set read into another skeleton, its keypoints found by name.

    Args:
        dataset: the images.
        skeleton: what they are read into.
        name: of the set, for logs.
        complete: every person is labelled; otherwise all outside of the labelled persons' boxes is ignored.
        unlabelled: what the keypoints are that the set never labels, see :class:`TrainSetConfig`.
        pseudo_labels: labels of a teacher.
        pseudo_weight: weight of those, 0 to 1; see :attr:`Sample.known`.

    Raises:
        GraphposeError: no keypoint of ``skeleton`` is found, or a keypoint is labelled by the set and by the teacher.
    """

    def __init__(
        self,
        dataset: PoseDataset,
        skeleton: Skeleton,
        *,
        name: str = "",
        complete: bool = True,
        unlabelled: Unlabelled = "unknown",
        pseudo_labels: PseudoLabels | None = None,
        pseudo_weight: float = 1.0,
    ) -> None:
        self.dataset = dataset
        self.skeleton = skeleton
        self.name = name
        self.complete = complete
        self.unlabelled = unlabelled
        self.source = match_keypoints(dataset.skeleton, skeleton)  # (K,)
        self.pseudo_labels = pseudo_labels
        self.pseudo_weight = pseudo_weight
        if pseudo_labels is not None:
            self._pseudo_columns = np.array([skeleton.index(keypoint) for keypoint in pseudo_labels.keypoints])
            both = self._pseudo_columns[self.source[self._pseudo_columns] >= 0]
            if len(both):
                raise GraphposeError(
                    f"{pseudo_labels.path} labels '{skeleton.keypoints[both[0]]}', which the data set labels itself"
                )

    @property
    def image_ids(self) -> Sequence[int]:
        """Ids from the annotation file's records."""
        return self.dataset.image_ids

    @property
    def labelled(self) -> np.ndarray:
        """(K,) bool; which keypoints the set itself labels."""
        return self.source >= 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` in the skeleton of this set; errors are those of the data set underneath."""
        sample = self.dataset[index]
        keypoints = sample.persons.keypoints[:, self.source]  # (P, K, 3)
        keypoints[:, ~self.labelled] = 0
        everything = self.labelled.all() or self.unlabelled == "background"
        known = None if everything else self.labelled.astype(np.float32)
        if known is not None and self.pseudo_labels is not None:
            self._add_pseudo_labels(sample, keypoints, known)
        persons = Persons(
            keypoints, sample.persons.bbox, sample.persons.area, sample.persons.iscrowd, sample.persons.ids
        )
        ignore = sample.ignore
        if not self.complete:
            ignore = ignore | outside_of_boxes(persons, ignore.shape)
        return Sample(
            image=sample.image,
            persons=persons,
            ignore=ignore,
            image_id=sample.image_id,
            file_name=sample.file_name,
            known=None if known is None else known[None],
            source=self.name,
        )

    def _add_pseudo_labels(self, sample: Sample, keypoints: np.ndarray, known: np.ndarray) -> None:
        assert self.pseudo_labels is not None
        labels = self.pseudo_labels.of(sample.image_id)
        targets = np.flatnonzero((keypoints[:, :, 2] > 0).any(axis=1) & ~sample.persons.iscrowd)
        if labels is None or len(targets) != 1:  # the file does not say whose they are
            return
        found = labels[:, 2] > 0
        keypoints[targets[0], self._pseudo_columns[found]] = labels[found]
        known[self._pseudo_columns[found]] = self.pseudo_weight

    def lines(self) -> list[str]:
        """What is known in the images of this set, for people."""
        names = np.array(self.skeleton.keypoints)
        unknown = ~self.labelled
        lines = [f"{self.labelled.sum()} of {len(names)} keypoints labelled: {', '.join(names[self.labelled])}"]
        if self.pseudo_labels is not None:
            unknown[self._pseudo_columns] = False
            lines.append(
                f"a teacher's, of weight {self.pseudo_weight:g} in {len(self.pseudo_labels)} images and unknown in the "
                f"others: {', '.join(names[self._pseudo_columns])}"
            )
        if unknown.any():
            lines.append(f"{self.unlabelled}: {', '.join(names[unknown])}")
        dropped = set(range(self.dataset.skeleton.num_keypoints)) - set(self.source.tolist())
        if dropped:
            lines.append(f"dropped: {', '.join(self.dataset.skeleton.keypoints[i] for i in sorted(dropped))}")
        if not self.complete:
            lines.append("one person of several labelled: all outside of the labelled persons' boxes is ignored")
        return lines

    def ground_truth(self) -> dict[str, Any]:
        """Annotations of the data set underneath, in its own skeleton."""
        return self.dataset.ground_truth()


def outside_of_boxes(persons: Persons, size: tuple[int, ...]) -> np.ndarray:
    """(H, W) bool; False on pixels whose centre lies in the box of a person with a labelled keypoint."""
    outside = np.ones(size, bool)
    labelled = (persons.keypoints[:, :, 2] > 0).any(axis=1) & ~persons.iscrowd
    for x, y, w, h in persons.bbox[labelled]:
        left, top = max(0, int(np.ceil(x))), max(0, int(np.ceil(y)))
        outside[top : max(0, int(np.ceil(y + h))), left : max(0, int(np.ceil(x + w)))] = False
    return outside


class PseudoLabels:
    """A teacher's labels of some keypoints, one person an image.

    Args:
        path: .json or .json.gz with "order", names of k keypoints, and "labels" (or "faces"), which for an image id
            (as text) has k times [x, y, score] in pixels of the image, or null where the teacher found nothing.
        skeleton: whose names the keypoints have.

    Raises:
        GraphposeError: the file is of another form; names it and the image.
    """

    def __init__(self, path: Path | str, skeleton: Skeleton) -> None:
        self.path = Path(path)
        self.keypoints: tuple[str, ...] = ()
        self._labels: dict[int, np.ndarray] = {}
        parse_json(self.path, lambda content: self._fill(content, skeleton))

    def _fill(self, content: Any, skeleton: Skeleton) -> None:
        records = content.get("labels", content.get("faces")) if isinstance(content, dict) else None
        if not isinstance(records, dict) or not isinstance(content.get("order"), list):
            raise GraphposeError(
                f"{self.path} is no file of pseudo-labels; a list 'order' of keypoint names and an object 'labels' or "
                "'faces' by image id are needed"
            )
        self.keypoints = tuple(content["order"])
        for name in self.keypoints:
            skeleton.index(name)
        for image_id, rows in records.items():
            labels = np.zeros((len(self.keypoints), 3), np.float32)
            try:
                for label, row in zip(labels, rows, strict=True):
                    if row is not None:
                        x, y, _ = row
                        label[:] = x, y, 2
                self._labels[int(image_id)] = labels
            except (TypeError, ValueError):
                raise GraphposeError(
                    f"{self.path}: image {image_id} has {rows!r}; {len(self.keypoints)} times [x, y, score] or null "
                    "are needed"
                ) from None

    def __len__(self) -> int:
        return len(self._labels)

    def of(self, image_id: int) -> np.ndarray | None:
        """(k, 3) x, y, visibility of an image's labels, visibility 2 or 0; None where the file has none."""
        return self._labels.get(image_id)


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
        self.epoch_images = round(shares.sum()) if epoch_images is None else epoch_images
        if self.epoch_images < 1:
            raise GraphposeError(f"an epoch of {self.epoch_images} images; at least 1 is needed")
        self.quotas = _whole_numbers(shares / shares.sum() * self.epoch_images, self.epoch_images)

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
        source: the file, which is a list of ids; or FILE:key, where the file is an object that has the list.

    Raises:
        GraphposeError: the file cannot be read or has no such list.
    """
    file, _, key = source.partition(":")
    path = root / file

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
