"""MPII's official release, ``mpii_human_pose_v1_u12_1.mat`` (struct ``RELEASE``), and its toolkit's groups."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.skeleton import MPII

HEAD_OF_DIAGONAL = 0.6


@dataclasses.dataclass(frozen=True)
class ReleasePerson:
    """One ``annorect`` of the official release.

    Attributes:
        index: its place among the image's, from 1 as in MATLAB.
        keypoints: (K, 3) x, y, visibility, pixels counted from 1 as in the file; None where the release has no joints
            (the test set, and some persons).
        head: head segment length in pixels, None without a head rectangle.
        place: x, y of the person's middle, pixels counted from 1, and its height (200 times the release's scale); None
            where it has none.
        single: stands apart from all others (``single_person``).
    """

    index: int
    keypoints: np.ndarray | None
    head: float | None
    place: tuple[float, float, float] | None
    single: bool


@dataclasses.dataclass(frozen=True)
class ReleaseImage:
    """One image of the official release.

    Attributes:
        name: of its file.
        train: whether it is for training.
        persons: in the file's order.
        category: of what is done in it (``cat_name``), such as "sports"; "" where the release does not say, as of the
            test set.
        activity: what is done in it (``act_name``), such as "skiing, downhill"; "" likewise.
    """

    name: str
    train: bool
    persons: list[ReleasePerson]
    category: str = ""
    activity: str = ""

    @property
    def placed(self) -> list[ReleasePerson]:
        """The persons of whom the release says where they are, by joints or by a place: they are its annotations."""
        return [person for person in self.persons if person.keypoints is not None or person.place is not None]


def read_release(path: Path) -> list[ReleaseImage]:
    """All images of ``mpii_human_pose_v1_u12_1.mat``, those of the test set included, in the file's order.

    Raises:
        GraphposeError: naming the file, when it is missing, damaged or another.
    """
    content = load_mat(path)
    if "RELEASE" not in content:
        raise GraphposeError(f"{path} holds no struct RELEASE; MPII's official annotation file does")
    return _images(content["RELEASE"], path)


def _images(release: Any, path: Path) -> list[ReleaseImage]:
    annolist = np.atleast_1d(release.annolist)
    train = np.atleast_1d(getattr(release, "img_train", np.ones(len(annolist), int)))
    apart = getattr(release, "single_person", None)
    singles = [[]] * len(annolist) if apart is None else list(np.atleast_1d(apart))
    if not len(annolist) == len(train) == len(singles):
        raise GraphposeError(
            f"{path} has {len(annolist)} images, {len(train)} in img_train and {len(singles)} in single_person"
        )
    acts = list(np.atleast_1d(getattr(release, "act", [None] * len(annolist))))
    if len(acts) != len(annolist):
        raise GraphposeError(f"{path} has {len(annolist)} images and {len(acts)} activities in act")
    images = []
    for image, is_train, single, act in zip(annolist, train, singles, acts, strict=True):
        alone = {int(index) for index in np.atleast_1d(single).ravel()}
        persons = [
            _person(person, index, index in alone, f"{path}: {image.image.name}")
            for index, person in enumerate(np.atleast_1d(getattr(image, "annorect", [])), start=1)
        ]
        category, activity = (_text(getattr(act, name, "")) for name in ("cat_name", "act_name"))
        images.append(ReleaseImage(str(image.image.name), bool(is_train), persons, category, activity))
    return images


def _text(value: Any) -> str:
    """A text of the file, where an empty matrix stands for none."""
    return value.strip() if isinstance(value, str) else ""


def _person(person: Any, index: int, single: bool, where: str) -> ReleasePerson:
    K = MPII.num_keypoints
    points = getattr(getattr(person, "annopoints", None), "point", None)
    keypoints = None
    if points is not None:
        keypoints = np.zeros((K, 3))
        for point in np.atleast_1d(points):
            if not 0 <= int(point.id) < K:
                raise GraphposeError(f"{where} has joint id {point.id}; 0..{K - 1} are known")
            # A blank is_visible belongs to joints on the head rectangle, which are labelled.
            visible = np.size(point.is_visible) > 0 and int(point.is_visible) == 1
            keypoints[int(point.id)] = point.x, point.y, 2 if visible else 1
    box = [np.ravel(getattr(person, name, ())) for name in ("x1", "y1", "x2", "y2")]
    head = None
    if all(len(value) == 1 for value in box):
        x1, y1, x2, y2 = (float(value[0]) for value in box)
        head = float(HEAD_OF_DIAGONAL * np.hypot(x2 - x1, y2 - y1))
    place = None
    middle, scale = getattr(person, "objpos", None), np.ravel(getattr(person, "scale", ()))
    if middle is not None and hasattr(middle, "x") and len(scale) == 1:
        place = float(middle.x), float(middle.y), 200 * float(scale[0])
    return ReleasePerson(index, keypoints, head, place, single)


def load_mat(path: Path) -> dict[str, Any]:
    """Variables of a MATLAB file; GraphposeError names the file when it cannot be read."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise GraphposeError(f"annotation file {path} does not exist")
    try:
        return loadmat(path, squeeze_me=True, struct_as_record=False)
    except (MatReadError, OSError, ValueError, TypeError, NotImplementedError) as error:
        raise GraphposeError(f"annotation file {path} cannot be read as a MATLAB file: {error}") from error


def read_groups(path: Path, images: int) -> list[dict[int, int]]:
    """Groups of the evaluation toolkit's ``groups_v12.mat``.

    Args:
        path: of the file.
        images: how many the release has.

    Returns:
        For each image person index (from 1) → number of its group.

    Raises:
        GraphposeError: naming the file, when it is another or of another release.
    """
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
