"""MPII annotations in the forms they are distributed in.

- the official release, ``mpii_human_pose_v1_u12_1.mat`` (struct ``RELEASE``);
- the flat ``.h5`` of Newell et al. 2016 (``part``, ``visible``, ``normalize``);
- HRNet-style: a ``.json`` list of records with ``joints`` and ``joints_vis``, and its ``gt_valid.mat`` (``pos_gt_src``,
  ``jnt_missing``, ``headboxes_src``).

Head size is the head segment length of PCKh, 0.6 times the diagonal of the annotated head rectangle. The joints head
top and upper neck lie 0.8 diagonals apart on that diagonal, so a form without rectangles gives 0.75 times their
distance (it differs from the h5's ``normalize`` only by the rounding of the joints); where one of the two is not
labelled, 25 times the record's ``scale``, if it has one.

Source: Andriluka et al. 2014, evaluation code (getHeadSize.m: SC_BIAS = 0.6).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.data.annotations.table import Annotations, check_keypoints
from graphpose.errors import GraphposeError
from graphpose.skeleton import MPII, Skeleton

HEAD_OF_DIAGONAL = 0.6
HEAD_OF_NECK_TO_TOP = 0.75
# The release's scale is the person's height divided by 200 px, and it was made from the head: 8 heads to a person.
HEAD_OF_SCALE = 200 / 8


def read_h5(path: Path, skeleton: Skeleton | None = None) -> Annotations:
    """Flat h5 form; arguments and errors as in :func:`graphpose.data.annotations.table.read_annotations`."""
    import h5py

    if not path.is_file():
        raise GraphposeError(f"annotation file {path} does not exist")
    try:
        with h5py.File(path) as file:
            part, visible, head = (np.asarray(file[key], np.float64) for key in ("part", "visible", "normalize"))
            ids = np.asarray(file["index"], np.int64)
            names = [name.decode() if isinstance(name, bytes) else _text(name) for name in file["imgname"][:]]
    except (OSError, KeyError) as error:
        raise GraphposeError(
            f"annotation file {path} is not MPII's h5 form (part, visible, normalize, index, imgname): {error}"
        ) from error
    # A keypoint that is not labelled stands at (0, 0).
    visibility = np.where((part == 0).all(axis=2), 0, np.where(visible > 0, 2, 1))
    keypoints = np.concatenate((part, visibility[:, :, None]), axis=2)
    return _annotations(path.name, skeleton, keypoints, head, names, ids)


def read_mat(path: Path, skeleton: Skeleton | None = None) -> Annotations:
    """Official ``RELEASE`` or HRNet's ``gt_valid.mat``; arguments and errors as in ``read_annotations``."""
    content = load_mat(path)
    if "RELEASE" in content:
        return _from_release(content["RELEASE"], path.name, skeleton)
    if {"pos_gt_src", "jnt_missing", "headboxes_src"} <= content.keys():
        joints = np.asarray(content["pos_gt_src"], np.float64)  # (K, 2, N)
        if joints.ndim == 2:
            joints = joints[:, :, None]
        missing = np.asarray(content["jnt_missing"]).reshape(len(joints), -1).T  # (N, K)
        boxes = np.asarray(content["headboxes_src"], np.float64).reshape(2, 2, -1)  # (corner, axis, N)
        keypoints = np.concatenate((joints.transpose(2, 0, 1), np.where(missing, 0, 2)[:, :, None]), axis=2)
        head = HEAD_OF_DIAGONAL * np.linalg.norm(boxes[1] - boxes[0], axis=0)
        return _annotations(path.name, skeleton, keypoints, head, [""] * len(keypoints))
    raise GraphposeError(f"{path} holds neither MPII's RELEASE nor pos_gt_src, jnt_missing and headboxes_src")


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


def from_records(records: Sequence[Any], source: str, skeleton: Skeleton | None = None) -> Annotations:
    """HRNet-style records; arguments and errors as in ``read_annotations``.

    Their ``joints_vis`` tells labelled from unlabelled only, so that every labelled keypoint counts as visible.
    """
    K = MPII.num_keypoints
    joints, labelled = np.zeros((len(records), K, 2)), np.zeros((len(records), K), bool)
    for n, record in enumerate(records):
        if not isinstance(record, dict) or not {"joints", "joints_vis", "image"} <= record.keys():
            raise GraphposeError(
                f"{source}: annotation {n} needs 'image', 'joints' and 'joints_vis' (HRNet-style MPII)"
            )
        try:
            joints[n] = np.array(record["joints"], np.float64).reshape(K, 2)
            labelled[n] = np.array(record["joints_vis"], np.float64).reshape(K) > 0
        except (TypeError, ValueError) as error:
            raise GraphposeError(
                f"{source}: annotation {n} needs {K} joints of 2 numbers and {K} visibilities: {error}"
            ) from error
    keypoints = np.concatenate((joints, 2.0 * labelled[:, :, None]), axis=2)
    neck, top = MPII.index("upper_neck"), MPII.index("head_top")
    head = HEAD_OF_NECK_TO_TOP * np.linalg.norm(joints[:, top] - joints[:, neck], axis=1)
    for row in np.flatnonzero(~(labelled[:, top] & labelled[:, neck])).tolist():
        scale = records[row].get("scale")
        head[row] = HEAD_OF_SCALE * scale if isinstance(scale, (int, float)) and scale > 0 else np.nan
    return _annotations(source, skeleton, keypoints, head, [record["image"] for record in records])


@dataclasses.dataclass(frozen=True)
class ReleasePerson:
    """One ``annorect`` of the official release.

    Attributes:
        index: its place among the image's, from 1 as in MATLAB.
        keypoints: (K, 3) x, y, visibility; None where the release has no joints (the test set, and some persons).
        head: head segment length in pixels, None without a head rectangle.
        place: x, y of the person's middle and its height (200 times the release's scale), None where it has none.
        single: stands apart from all others (``single_person``).
    """

    index: int
    keypoints: np.ndarray | None
    head: float | None
    place: tuple[float, float, float] | None
    single: bool


@dataclasses.dataclass(frozen=True)
class ReleaseImage:
    """One image of the official release: its file name, whether it is for training, and its persons."""

    name: str
    train: bool
    persons: list[ReleasePerson]


def read_release(path: Path) -> list[ReleaseImage]:
    """All images of ``mpii_human_pose_v1_u12_1.mat``, those of the test set included, in the file's order.

    Raises:
        GraphposeError: naming the file, when it is missing, damaged or another.
    """
    content = load_mat(path)
    if "RELEASE" not in content:
        raise GraphposeError(f"{path} holds no struct RELEASE; MPII's official annotation file does")
    return _release_images(content["RELEASE"], path.name)


def _release_images(release: Any, source: str) -> list[ReleaseImage]:
    annolist = np.atleast_1d(release.annolist)
    train = np.atleast_1d(getattr(release, "img_train", np.ones(len(annolist), int)))
    apart = getattr(release, "single_person", None)
    singles = [[]] * len(annolist) if apart is None else list(np.atleast_1d(apart))
    if not len(annolist) == len(train) == len(singles):
        raise GraphposeError(
            f"{source} has {len(annolist)} images, {len(train)} in img_train and {len(singles)} in single_person"
        )
    images = []
    for image, is_train, single in zip(annolist, train, singles, strict=True):
        alone = {int(index) for index in np.atleast_1d(single).ravel()}
        persons = [
            _release_person(person, index, index in alone, f"{source}: {image.image.name}")
            for index, person in enumerate(np.atleast_1d(getattr(image, "annorect", [])), start=1)
        ]
        images.append(ReleaseImage(str(image.image.name), bool(is_train), persons))
    return images


def _release_person(person: Any, index: int, single: bool, where: str) -> ReleasePerson:
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


def _from_release(release: Any, source: str, skeleton: Skeleton | None) -> Annotations:
    """Annotated persons of the official struct; those without joints (the test set) are left out."""
    found = [
        (image.name, person)
        for image in _release_images(release, source)
        for person in image.persons
        if person.keypoints is not None
    ]
    keypoints = np.array([person.keypoints for _, person in found]).reshape(-1, MPII.num_keypoints, 3)
    heads = np.array([np.nan if person.head is None else person.head for _, person in found])
    return _annotations(source, skeleton, keypoints, heads, [name for name, _ in found])


def _annotations(
    source: str,
    skeleton: Skeleton | None,
    keypoints: np.ndarray,
    head: np.ndarray,
    names: Sequence[str],
    image_ids: np.ndarray | None = None,
) -> Annotations:
    skeleton, N = skeleton or MPII, len(keypoints)
    if keypoints.shape[1:] != (skeleton.num_keypoints, 3) or skeleton.keypoints != MPII.keypoints:
        raise GraphposeError(
            f"{source} has {keypoints.shape[1]} keypoints of MPII, not the {skeleton.num_keypoints} of skeleton "
            f"'{skeleton.name}'"
        )
    if image_ids is None:  # images in the order in which the file first names them
        order = {name: position for position, name in enumerate(dict.fromkeys(names))}
        image_ids = np.array([order[name] for name in names], np.int64)
    ids = np.arange(N)
    return Annotations(
        source=source,
        skeleton=skeleton,
        keypoints=check_keypoints(keypoints, ids, source),
        bbox=np.full((N, 4), np.nan),
        area=np.full(N, np.nan),
        head_size=head,
        iscrowd=np.zeros(N, bool),
        ids=ids,
        image_ids=image_ids,
        file_names=dict(zip(image_ids.tolist(), names, strict=True)),
    )


def _text(codes: np.ndarray) -> str:
    """A file name stored as an array of character codes, as Newell's own files do."""
    return "".join(chr(int(code)) for code in np.atleast_1d(codes) if code)
