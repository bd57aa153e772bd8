"""MPII annotations in the forms they are distributed in.

- the official release (see :mod:`graphpose.data.annotations.mpii_release`);
- the flat ``.h5`` of Newell et al. 2016 (``part``, ``visible``, ``normalize``);
- HRNet-style: a ``.json`` list of records with ``joints`` and ``joints_vis``, and its ``gt_valid.mat`` (``pos_gt_src``,
  ``jnt_missing``, ``headboxes_src``).

Head size is the head segment length of PCKh, 0.6 times the diagonal of the annotated head rectangle. The joints head
top and upper neck lie 0.8 diagonals apart on that diagonal, so a form without rectangles gives 0.75 times their
distance (it differs from the h5's ``normalize`` only by the rounding of the joints); where one of the two is not
labelled, 25 times the record's ``scale``, if it has one.

The forms count pixels from 1; the table, as everywhere, from 0. None of them has areas, and only a person of the
release without joints has a box: a square of its height around its middle.

Source: Andriluka et al. 2014, evaluation code (getHeadSize.m: SC_BIAS = 0.6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graphpose.data.annotations.mpii_release import HEAD_OF_DIAGONAL, ReleaseImage, load_mat, read_groups, read_release
from graphpose.data.annotations.rules import Defect, Report, raise_first_error, valid_keypoints
from graphpose.data.annotations.table import Annotations, Images
from graphpose.errors import GraphposeError
from graphpose.skeleton import MPII, Skeleton

HEAD_OF_NECK_TO_TOP = 0.75
# The release's scale is the person's height divided by 200 px, and it was made from the head: 8 heads to a person.
HEAD_OF_SCALE = 200 / 8
NO_GROUP = -1  # a person who stands in no group of the multi-person protocol


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


def read_h5(path: Path, skeleton: Skeleton | None = None, report: Report | None = None) -> Annotations:
    """Flat h5 form; arguments and errors as in :func:`graphpose.data.annotations.read.read_annotations`."""
    import h5py

    if not path.is_file():
        raise GraphposeError(f"annotation file {path} does not exist")
    try:
        with h5py.File(path) as file:
            part, visible, head = (np.asarray(file[key], np.float64) for key in ("part", "visible", "normalize"))
            image_ids = np.asarray(file["index"], np.int64).tolist()
            names = [name.decode() if isinstance(name, bytes) else _text(name) for name in file["imgname"][:]]
    except (OSError, KeyError) as error:
        raise GraphposeError(
            f"annotation file {path} is not MPII's h5 form (part, visible, normalize, index, imgname): {error}"
        ) from error
    if "" in names:
        raise GraphposeError(f"{path}: annotation {names.index('') + 1} has no image name; the h5 names one for each")
    # A keypoint that is not labelled stands at (0, 0).
    visibility = np.where((part == 0).all(axis=2), 0, np.where(visible > 0, 2, 1))
    keypoints = np.concatenate((part, visibility[:, :, None]), axis=2)
    file_names = dict(zip(image_ids, names, strict=True))
    return _table(path, skeleton, file_names, image_ids, keypoints, head, report)


def read_mat(path: Path, skeleton: Skeleton | None = None, report: Report | None = None) -> Annotations:
    """Official ``RELEASE`` or HRNet's ``gt_valid.mat``, which names no images; arguments and errors as in
    ``read_annotations``."""
    content = load_mat(path)
    if "RELEASE" in content:
        return from_release(read_release(path), path, skeleton=skeleton, report=report)
    if not {"pos_gt_src", "jnt_missing", "headboxes_src"} <= content.keys():
        raise GraphposeError(f"{path} holds neither MPII's RELEASE nor pos_gt_src, jnt_missing and headboxes_src")
    joints = np.asarray(content["pos_gt_src"], np.float64)  # (K, 2, N)
    if joints.ndim == 2:
        joints = joints[:, :, None]
    missing = np.asarray(content["jnt_missing"]).reshape(len(joints), -1).T  # (N, K)
    boxes = np.asarray(content["headboxes_src"], np.float64).reshape(2, 2, -1)  # (corner, axis, N)
    keypoints = np.concatenate((joints.transpose(2, 0, 1), np.where(missing, 0, 2)[:, :, None]), axis=2)
    head = HEAD_OF_DIAGONAL * np.linalg.norm(boxes[1] - boxes[0], axis=0)
    return _table(path, skeleton, {0: ""}, [0] * len(keypoints), keypoints, head, report)


def from_hrnet(
    records: Sequence[Any], path: Path, skeleton: Skeleton | None = None, report: Report | None = None
) -> Annotations:
    """HRNet-style records; arguments and errors as in ``read_annotations``.

    Their ``joints_vis`` tells labelled from unlabelled only, so that every labelled keypoint counts as visible. Image
    ids are positions among the names, in the order in which the file first has them.
    """
    K = MPII.num_keypoints
    joints, labelled = np.zeros((len(records), K, 2)), np.zeros((len(records), K), bool)
    for n, record in enumerate(records):
        if not isinstance(record, dict) or not (
            {"joints", "joints_vis"} <= record.keys() and isinstance(record.get("image"), str) and record["image"]
        ):
            raise GraphposeError(
                f"{path}: annotation {n + 1} needs 'image', 'joints' and 'joints_vis' (HRNet-style MPII)"
            )
        try:
            joints[n] = np.array(record["joints"], np.float64).reshape(K, 2)
            labelled[n] = np.array(record["joints_vis"], np.float64).reshape(K) > 0
        except (TypeError, ValueError) as error:
            raise GraphposeError(
                f"{path}: annotation {n + 1} needs {K} joints of 2 numbers and {K} visibilities: {error}"
            ) from error
    keypoints = np.concatenate((joints, 2.0 * labelled[:, :, None]), axis=2)
    neck, top = MPII.index("upper_neck"), MPII.index("head_top")
    head = HEAD_OF_NECK_TO_TOP * np.linalg.norm(joints[:, top] - joints[:, neck], axis=1)
    for row in np.flatnonzero(~(labelled[:, top] & labelled[:, neck])).tolist():
        scale = records[row].get("scale")
        head[row] = HEAD_OF_SCALE * scale if isinstance(scale, (int, float)) and scale > 0 else np.nan
    image_ids = {name: position for position, name in enumerate(dict.fromkeys(record["image"] for record in records))}
    file_names = {image_id: name for name, image_id in image_ids.items()}
    owners = [image_ids[record["image"]] for record in records]
    return _table(path, skeleton, file_names, owners, keypoints, head, report)


def from_release(
    release: Sequence[ReleaseImage],
    path: Path,
    *,
    split: Literal["train", "test"] | None = None,
    groups: Path | None = None,
    skeleton: Skeleton | None = None,
    report: Report | None = None,
) -> Annotations:
    """The official release's images and its persons ``placed`` in them; a person without joints is unlabelled.

    Args:
        release: all its images; their positions are the image ids.
        path: of its file.
        split: by its ``img_train``; None takes all.
        groups: the evaluation toolkit's ``groups_v12.mat``; without it all persons of an image are one group.
        skeleton: as in ``read_annotations``.
        report: as in ``read_annotations``.
    """
    listed = None if groups is None else read_groups(groups, len(release))
    chosen = [i for i, image in enumerate(release) if split is None or image.train == (split == "train")]
    found = [(i, person) for i in chosen for person in release[i].placed]
    K = MPII.num_keypoints
    nothing, unknown = np.zeros((K, 3)), (np.nan,) * 4
    keypoints = [nothing if person.keypoints is None else person.keypoints for _, person in found]
    heads = [np.nan if person.head is None else person.head for _, person in found]
    boxes = [
        (x - 1 - height / 2, y - 1 - height / 2, height, height)
        for x, y, height in (person.place or unknown[:3] for _, person in found)
    ]
    return _table(
        path,
        skeleton,
        {i: release[i].name for i in chosen},
        [i for i, _ in found],
        np.array(keypoints).reshape(-1, K, 3),
        np.array(heads, np.float64),
        report,
        bbox=np.where(
            [[person.keypoints is None] for _, person in found], np.array(boxes).reshape(-1, 4), np.nan
        ).reshape(-1, 4),
        group=None if listed is None else _groups(release, chosen, listed),
        activities=[(release[i].category, release[i].activity) for i in chosen],
    )


def _groups(release: Sequence[ReleaseImage], chosen: Sequence[int], listed: Sequence[Mapping[int, int]]) -> np.ndarray:
    """(N,) number of each person's group; a group with a person who stands apart belongs to the single-person protocol
    (getMultiPersonGroups.m)."""
    numbers = []
    for i in chosen:
        single = {listed[i].get(person.index) for person in release[i].persons if person.single}
        own = [listed[i].get(person.index, NO_GROUP) for person in release[i].placed]
        numbers += [NO_GROUP if number in single else number for number in own]
    return np.array(numbers, np.int64)


def _table(
    path: Path,
    skeleton: Skeleton | None,
    file_names: dict[int, str],
    owners: Sequence[int],
    keypoints: np.ndarray,
    head: np.ndarray,
    report: Report | None,
    *,
    bbox: np.ndarray | None = None,
    group: np.ndarray | None = None,
    activities: Sequence[tuple[str, str]] = (),
) -> Annotations:
    """Persons numbered from 1 in the file's order; their keypoints (N, K, 3) count pixels from 1 here."""
    skeleton, N = skeleton or MPII, len(keypoints)
    if keypoints.shape[1:] != (skeleton.num_keypoints, 3) or skeleton.keypoints != MPII.keypoints:
        raise GraphposeError(
            f"{path} has {keypoints.shape[1]} keypoints of MPII, not the {skeleton.num_keypoints} of skeleton "
            f"'{skeleton.name}'"
        )
    images = Images.named(file_names, activities if any(map(any, activities)) else ())
    labelled = keypoints[:, :, 2] > 0
    annotations = Annotations(
        path=path,
        skeleton=skeleton,
        images=images,
        ids=np.arange(1, N + 1),
        image_index=np.array([images.position[owner] for owner in owners], np.int64),
        keypoints=keypoints - (1, 1, 0),
        num_keypoints=labelled.sum(axis=1),
        bbox=np.full((N, 4), np.nan) if bbox is None else bbox,
        area=np.full(N, np.nan),
        iscrowd=np.zeros(N, bool),
        head_size=head,
        group=np.zeros(N, np.int64) if group is None else group,
        regions=dict.fromkeys(np.flatnonzero(~labelled.any(axis=1)).tolist()),
    )
    report = report or raise_first_error(path)
    annotations = valid_keypoints(annotations.select(np.arange(N)), report)
    annotations.keypoints[annotations.keypoints[:, :, 2] == 0] = 0
    unknown = np.flatnonzero(annotations.labelled & ~(annotations.head_size > 0))
    for n, image_id in zip(annotations.ids[unknown].tolist(), annotations.image_ids[unknown].tolist(), strict=True):
        message = f"annotation {n} of image {image_id} has no head size; it is neither a target nor scored"
        report(Defect("head_size_unknown", "warning", message, image_id, n))
    return annotations


def _text(codes: np.ndarray) -> str:
    """A file name stored as an array of character codes, as Newell's own files do."""
    return "".join(chr(int(code)) for code in np.atleast_1d(codes) if code)
