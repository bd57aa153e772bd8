"""A data set read into another skeleton, with what it does not know.

A keypoint that the set never labels is unknown in its images, but where a teacher labels it. In a set that labels one
person of several, everything outside of that person's box is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.data.annotations.json_file import parse_json
from graphpose.data.annotations.regions import pixels_of_box
from graphpose.data.config import Unlabelled
from graphpose.data.dataset import PoseDataset
from graphpose.data.matching import match_keypoints
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
    for box in persons.bbox[labelled]:
        outside[pixels_of_box(box)] = False
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
