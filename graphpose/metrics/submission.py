"""Results as the test servers take them.

- COCO: a zip-ready ``keypoints_<set>_<name>_results.json``, a list of image_id, category_id, keypoints, score; the
  server counts the 20 best poses of an image. CrowdPose's evaluator reads the same records with 14 keypoints.
- MPII multi-person: ``pred_keypoints_mpii_multi.mat``, struct array ``pred`` with one entry per group of the test set,
  in the order of getMultiPersonGroups.m: ``annorect(r).annopoints.point(p)`` has ``x``, ``y``, ``id`` and ``score``.
- MPII single-person: ``pred_keypoints_mpii.mat``, ``pred`` with one entry per image of the test set and its persons in
  their places, whose joints have ``x``, ``y`` and ``id``.

MPII counts pixels from 1 and joints from 0.

Source: https://cocodataset.org/#format-results; evalMPII, README and assignGTmulti.m.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.data.annotations.mpii import NO_GROUP
from graphpose.data.annotations.mpii_release import ReleasePerson
from graphpose.data.coco import CocoDataset
from graphpose.data.mpii import MpiiDataset
from graphpose.errors import GraphposeError
from graphpose.metrics.mpii_groups import nearest_groups, poses_by_image
from graphpose.metrics.results import require_results

MAX_DETECTIONS = 20
DECIMALS = 2  # of coordinates in pixels; keeps test-dev's file below the server's limit


def coco_records(
    results: Sequence[Mapping[str, Any]], num_keypoints: int, max_detections: int = MAX_DETECTIONS
) -> list[dict[str, Any]]:
    """Results as a server counts them.

    Args:
        results: COCO results format, of any order.
        num_keypoints: K of the data set.
        max_detections: poses per image that count.

    Returns:
        The best poses of every image, images by id, best first; coordinates rounded to hundredths, a third number that
        no evaluator reads set to 1 where the keypoint was found and 0 where not; scores as they are.

    Raises:
        GraphposeError: as :func:`graphpose.metrics.results.require_results`.
    """
    require_results(results, num_keypoints)
    by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        by_image[int(result["image_id"])].append(result)
    records = []
    for image_id in sorted(by_image):
        for result in sorted(by_image[image_id], key=lambda r: -r["score"])[:max_detections]:
            pose = np.array(result["keypoints"], np.float64).reshape(-1, 3)
            pose[:, :2] = pose[:, :2].round(DECIMALS)
            values = [value for x, y, confidence in pose.tolist() for value in (x, y, int(confidence > 0))]
            identity = {"image_id": image_id, "category_id": result["category_id"]}
            records.append({**identity, "keypoints": values, "score": float(result["score"])})
    return records


def write_coco(path: Path, results: Sequence[Mapping[str, Any]], num_keypoints: int) -> int:
    """Write :func:`coco_records`, without spaces; returns how many there are."""
    records = coco_records(results, num_keypoints)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, separators=(",", ":")))
    return len(records)


def write_results(
    path: Path, results: Sequence[Mapping[str, Any]], dataset: CocoDataset, *, single: bool = False
) -> str:
    """Write the file that the data set's server takes: .mat for MPII, .json for all others (and for MPII's validation).

    Args:
        path: its ending chooses the format.
        results: COCO results format.
        dataset: that the results are of.
        single: of MPII, the single-person file in place of the multi-person one.

    Returns:
        One line on what was written.

    Raises:
        GraphposeError: another ending, a .mat of another data set, or as the writers do.
    """
    if path.suffix == ".json":
        return f"{write_coco(path, results, dataset.skeleton.num_keypoints)} poses written to {path}"
    if path.suffix != ".mat":
        raise GraphposeError(f"results file '{path}' must end in .json, or .mat for MPII's server")
    if not isinstance(dataset, MpiiDataset):
        raise GraphposeError(f"results file '{path}': a .mat is MPII's; {dataset.annotations.path} needs a .json")
    if single:
        return f"{write_mpii_single(path, results, dataset)} persons written to {path}"
    return f"{write_mpii(path, results, dataset)} groups written to {path}"


def write_mpii(path: Path, results: Sequence[Mapping[str, Any]], dataset: MpiiDataset) -> int:
    """The multi-person file.

    A pose is written into the group whose persons' places it is nearest to, if it is within half a person's height.

    Args:
        path: the .mat; the server's name is pred_keypoints_mpii_multi.mat.
        results: COCO results format, pixels from 0.
        dataset: the release's test split, with the toolkit's groups.

    Returns:
        How many groups were written; one without poses has an empty ``annorect``.

    Raises:
        GraphposeError: the data set is not the release, or a result has another number of keypoints.
    """
    _require_release(dataset)
    poses = poses_by_image(results)
    entries = []
    for image_id, persons in _release_persons(dataset).items():
        found = poses.get(image_id, [])
        groups = sorted({group for _, group in persons} - {NO_GROUP})
        places = [np.array([person.place for person, own in persons if own == group]) for group in groups]
        boxes = np.array([(*p[:, :2].min(axis=0) - 1, *p[:, :2].max(axis=0) - 1) for p in places]).reshape(-1, 4)
        chosen = nearest_groups(found, boxes, np.array([p[:, 2].mean() / 2 for p in places]))
        for g in range(len(groups)):
            own = [pose for pose, choice in zip(found, chosen, strict=True) if choice == g]
            rects = _structs([{"annopoints": {"point": _points(pose, scores=True)}} for pose in own])
            entries.append({"image": {"name": dataset.release[image_id].name}, "annorect": rects})
    _save(path, entries)
    return len(entries)


def write_mpii_single(path: Path, results: Sequence[Mapping[str, Any]], dataset: MpiiDataset) -> int:
    """The single-person file: persons who stand apart, each with the pose nearest to the place that the release states.

    Args:
        path: the .mat; the server's name is pred_keypoints_mpii.mat.
        results: COCO results format, pixels from 0.
        dataset: the release's test split.

    Returns:
        How many persons have a pose; the others, and every person of a group, have an empty ``annopoints``. A pose
        whose middle is farther than half the person's height is none.

    Raises:
        GraphposeError: as :func:`write_mpii`.
    """
    _require_release(dataset)
    poses = poses_by_image(results)
    entries, written = [], 0
    for image_id, image in ((i, dataset.release[i]) for i in dataset.image_ids):
        found = poses.get(image_id, [])
        rects = []
        for person in image.persons:
            points = np.zeros((0, 0))
            if person.single and person.place is not None:
                x, y, height = person.place
                chosen = nearest_groups(found, np.array([[x - 1, y - 1, x - 1, y - 1]]), np.array([height / 2]))
                own = [pose for pose, choice in zip(found, chosen, strict=True) if choice == 0]
                if own:
                    pose = min(own, key=lambda p: _distance(p, x - 1, y - 1))
                    points, written = {"point": _points(pose, scores=False)}, written + 1  # type: ignore[assignment]
            rects.append({"annopoints": points})
        entries.append({"image": {"name": image.name}, "annorect": _structs(rects)})
    _save(path, entries)
    return written


def _require_release(dataset: MpiiDataset) -> None:
    if not dataset.release:
        raise GraphposeError(
            f"{dataset.annotations.path} is no official release; MPII's server needs its persons' order"
        )


def _release_persons(dataset: MpiiDataset) -> dict[int, list[tuple[ReleasePerson, int]]]:
    """Image id → its persons that have a place, each with its group, in the release's order."""
    persons: dict[int, list[tuple[ReleasePerson, int]]] = {image_id: [] for image_id in dataset.image_ids}
    for index, image_id in enumerate(dataset.image_ids):
        groups = dataset.annotations.group[dataset.annotations.rows(index)].tolist()
        for person, group in zip(dataset.release[image_id].placed, groups, strict=True):
            if person.place is not None:
                persons[image_id].append((person, group))
    return persons


def _distance(pose: np.ndarray, x: float, y: float) -> float:
    middle = (np.nanmin(pose[:, :2], axis=0) + np.nanmax(pose[:, :2], axis=0)) / 2
    return float(np.hypot(middle[0] - x, middle[1] - y))


def _points(pose: np.ndarray, scores: bool) -> np.ndarray:
    """Found joints of a pose (K, 3) as structs."""
    return _structs(
        [
            {"x": x + 1, "y": y + 1, "id": float(k)} | ({"score": confidence} if scores else {})
            for k, (x, y, confidence) in enumerate(pose.tolist())
            if confidence > 0 and math.isfinite(x)
        ]
    )


def _structs(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """A MATLAB struct array."""
    if not records:
        return np.zeros((0, 0))
    array = np.empty(len(records), [(key, object) for key in records[0]])
    for i, record in enumerate(records):
        array[i] = tuple(record.values())
    return array


def _save(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"pred": _structs(entries)}, do_compression=True, oned_as="row")
