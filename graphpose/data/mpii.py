"""MPII as a data set of whole images: the official release, the h5 and the HRNet-style json.

MPII counts pixels from 1; here, as everywhere, the first pixel's centre is at 0.

MPII has no segments, so a person's area is estimated: sqrt(area) = 3.6 head sizes. That is COCO's median of
sqrt(area) to the length of the torso (1.61; 1,592 persons of val2017 with all joints from the shoulders down, some of
their areas estimated from boxes) times MPII's median torso (2.24 head sizes; the 2,017 persons of the validation set
with all joints labelled). With it fields carry scales of the same meaning as on COCO, and a person's OKS can be
computed. Its box is the box of the labelled joints with half a head size around. PCKh uses the head size itself.

Persons that cannot be targets are ignore regions: those of the release without joints (a square of their height around
their middle) and those whose head size is not known (their box).

Source: Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR 2014.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graphpose.data.annotations.coco import CocoRecords
from graphpose.data.annotations.mpii import ReleaseImage, ReleasePerson, load_mat, read_release
from graphpose.data.annotations.table import read_annotations
from graphpose.data.coco import CocoDataset, select_images
from graphpose.errors import GraphposeError
from graphpose.skeleton import MPII

SCALE_OF_HEAD = 3.6  # sqrt(area) in head sizes
BOX_MARGIN = 0.5  # head sizes around the labelled joints
NO_GROUP = -1  # a person who stands in no group of the multi-person protocol


@dataclasses.dataclass
class _Person:
    """A record on its way to :class:`CocoRecords`; pixels counted from 0, region is x, y, width, height."""

    image: int
    keypoints: np.ndarray  # (K, 3)
    head: float | None
    region: tuple[float, float, float, float] | None = None
    group: int = 0
    source: ReleasePerson | None = None


class MpiiDataset(CocoDataset):
    """Images of MPII with all their annotated persons.

    Args:
        annotations: the release's .mat, the .h5, or the HRNet-style .json.
        images: folder of the image files.
        split: "train" or "test" of the release, by its ``img_train``; None takes all. The other forms are one split.
        groups: the evaluation toolkit's ``groups_v12.mat``, with the release only: the persons of each group of the
            multi-person protocol. Without it all persons of an image are one group.
        image_ids: only these, in this order; None is all. Ids are the release's or h5's image indices (from 0), and
            positions among the images in the json.
        require_persons: only images with at least one person who is a target.

    Attributes:
        head_sizes: annotation id → head segment length in pixels, None where unknown.
        groups: annotation id → number of the person's group in its image, NO_GROUP for none.
        release: image id → the release's record of it, and sources: annotation id → that of the person; both empty for
            other forms.

    Raises:
        GraphposeError: naming the file and the record at fault, or when no image is left.
    """

    def __init__(
        self,
        annotations: Path | str,
        images: Path | str,
        *,
        split: Literal["train", "test"] | None = None,
        groups: Path | str | None = None,
        image_ids: Sequence[int] | None = None,
        require_persons: bool = False,
    ) -> None:
        path = Path(annotations)
        if split not in (None, "train", "test"):
            raise GraphposeError(f"split '{split}' of MPII must be train or test")
        self.release: dict[int, ReleaseImage] = {}
        if path.suffix == ".mat":
            release = read_release(path)
            self.release = dict(enumerate(release))
            names, persons = _of_release(release, split, _groups(Path(groups), len(release)) if groups else None)
        elif split is not None or groups is not None:
            raise GraphposeError(f"{path} is no official release; split and groups belong to its .mat")
        else:
            names, persons = _of_annotations(path)
        records = _records(path, names, persons)
        self.head_sizes = dict(enumerate((person.head for person in persons), start=1))
        self.groups = dict(enumerate((person.group for person in persons), start=1))
        self.sources = {n: person.source for n, person in enumerate(persons, start=1) if person.source is not None}
        self.records = select_images(records, image_ids, require_persons)
        self.images = Path(images)

    def ground_truth(self) -> dict[str, Any]:
        """COCO-format annotations of exactly these images; each has ``head_size`` and ``group`` beside COCO's keys.

        Areas are estimates and say so (``area_is_estimate``); a file written from it is read by CocoDataset.
        """
        truth = super().ground_truth()
        for annotation in truth["annotations"]:
            annotation["head_size"] = self.head_sizes[annotation["id"]]
            annotation["group"] = self.groups[annotation["id"]]
            annotation["area_is_estimate"] = 1
        return truth


def is_mpii_file(path: Path) -> bool:
    """Whether a file is in one of MPII's forms: by its ending, or a .json that is a list; no such file is no MPII."""
    if path.suffix in (".mat", ".h5", ".hdf5"):
        return True
    if path.suffix != ".json":
        return False
    try:
        with path.open("rb") as file:
            return file.read(4096).lstrip().startswith(b"[")
    except OSError:
        return False


def _of_annotations(path: Path) -> tuple[dict[int, str], list[_Person]]:
    """Image names by id, and the persons, of the h5 or the json."""
    annotations = read_annotations(path, MPII)
    if not annotations.file_names or "" in annotations.file_names.values():
        raise GraphposeError(f"{path} names no images; the release, the h5 and the HRNet-style json do")
    persons = [
        _Person(int(image_id), keypoints, float(head) if head > 0 else None)
        for image_id, keypoints, head in zip(
            annotations.image_ids, annotations.keypoints, annotations.head_size, strict=True
        )
    ]
    return dict(annotations.file_names), persons


def _of_release(
    release: Sequence[ReleaseImage], split: str | None, groups: Sequence[Mapping[int, int]] | None
) -> tuple[dict[int, str], list[_Person]]:
    """Image names by id, and the persons, of the official release."""
    names: dict[int, str] = {}
    persons: list[_Person] = []
    for image_id, image in enumerate(release):
        if split is not None and image.train != (split == "train"):
            continue
        names[image_id] = image.name
        listed = {} if groups is None else groups[image_id]
        # a group with a person who stands apart belongs to the single-person protocol (getMultiPersonGroups.m)
        single = {listed.get(person.index) for person in image.persons if person.single}
        for person in image.persons:
            region = None
            if person.place is not None:
                x, y, height = person.place
                region = (x - 1 - height / 2, y - 1 - height / 2, height, height)
            if person.keypoints is None and region is None:
                continue  # nothing says where this person is
            keypoints = np.zeros((MPII.num_keypoints, 3)) if person.keypoints is None else person.keypoints
            group = 0 if groups is None else listed.get(person.index, NO_GROUP)
            group = NO_GROUP if groups is not None and group in single else group
            persons.append(_Person(image_id, keypoints, person.head, region, group, person))
    return names, persons


def _groups(path: Path, images: int) -> list[dict[int, int]]:
    """For each image of the release: person index (from 1) → number of the group, of the toolkit's groups file."""
    content = load_mat(path)
    if "groups" not in content:
        raise GraphposeError(f"{path} holds no 'groups'; the evaluation toolkit's groups_v12.mat does")
    listed = np.atleast_1d(content["groups"])
    if len(listed) != images:
        raise GraphposeError(f"{path} lists groups of {len(listed)} images, but the release has {images}")
    result = []
    for of_image in listed:
        cells = np.atleast_1d(of_image)
        # a cell of one group comes as its numbers alone
        members = [np.atleast_1d(cell) for cell in cells] if cells.dtype == object else [cells]
        result.append({int(index): number for number, cell in enumerate(members) for index in cell.ravel()})
    return result


def _records(path: Path, names: Mapping[int, str], persons: Sequence[_Person]) -> CocoRecords:
    """Persons grouped by image; ids count from 1 in the file's order."""
    image_ids = np.array(list(names), np.int64)
    position = {image_id: i for i, image_id in enumerate(names)}
    owner = np.array([position[person.image] for person in persons], np.int64)
    order = np.argsort(owner, kind="stable")
    K, A = MPII.num_keypoints, len(persons)
    keypoints = np.zeros((A, K, 3), np.float32)
    bbox, area = np.zeros((A, 4)), np.zeros(A)
    regions: dict[int, Any] = {}
    for row, n in enumerate(order.tolist()):
        person = persons[n]
        joints = person.keypoints.copy()
        joints[:, :2] -= 1
        labelled = joints[:, 2] > 0
        joints[~labelled] = 0
        margin = BOX_MARGIN * (person.head or 0)
        if labelled.any():
            low, high = joints[labelled, :2].min(axis=0) - margin, joints[labelled, :2].max(axis=0) + margin
            bbox[row] = *low, *(high - low)
        else:
            bbox[row] = person.region or (0, 0, 0, 0)
        if labelled.any() and person.head:
            keypoints[row] = joints
            area[row] = (SCALE_OF_HEAD * person.head) ** 2
        else:
            area[row] = bbox[row, 2] * bbox[row, 3]
            regions[row] = None
    return CocoRecords(
        path=path,
        skeleton=MPII,
        category_id=1,
        image_ids=image_ids,
        file_names=list(names.values()),
        sizes=np.zeros((len(names), 2), np.int32),
        crowd_index=np.full(len(names), np.nan),
        first=np.searchsorted(owner[order], np.arange(len(names) + 1)),
        ids=order + 1,
        keypoints=keypoints,
        num_keypoints=(keypoints[:, :, 2] > 0).sum(axis=1),
        bbox=bbox,
        area=area,
        iscrowd=np.zeros(A, bool),
        regions=regions,
    )
