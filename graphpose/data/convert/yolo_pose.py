"""YOLO-pose text, as Ultralytics trains on and CVAT, Roboflow and SLEAP export it, as COCO-format files.

A ``data.yaml`` names the splits' images (a folder, a list of files, or several of them; below ``path``), ``kpt_shape``,
``flip_idx``, the classes' ``names`` and, lately, ``kpt_names``. The labels of ``images/…/a.jpg`` stand in
``labels/…/a.txt``, an object a line: class, box as middle and size, and keypoints, all as shares of the image.

Source: https://docs.ultralytics.com/datasets/pose
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from graphpose.data.convert.coco_file import CocoFile, category, limbs_between
from graphpose.data.image import IMAGE_SUFFIXES, upright_size
from graphpose.errors import GraphposeError
from graphpose.skeleton import SKELETONS

SPLITS = ("train", "val", "test")
SLACK = 0.01  # of a share: what Ultralytics takes beyond 0 … 1


@dataclasses.dataclass(frozen=True)
class YoloPose:
    """What a data.yaml says.

    Attributes:
        path: of the file.
        kpt_shape: number of keypoints, and 2 (x, y) or 3 (and visibility).
        classes: their names.
        keypoints: the keypoints' names, of each class.
        flip_pairs: 0-based; None where there is no ``flip_idx``.
        splits: split → its images, ascending.
        root: the folder that holds all of them.
    """

    path: Path
    kpt_shape: tuple[int, int]
    classes: tuple[str, ...]
    keypoints: tuple[tuple[str, ...], ...]
    flip_pairs: tuple[tuple[int, int], ...] | None
    splits: Mapping[str, tuple[Path, ...]]
    root: Path


@dataclasses.dataclass(frozen=True)
class Converted:
    """A split as a COCO-format file, and how many label files have no image."""

    file: CocoFile
    labels_without_image: int


def read_data_yaml(path: Path, keypoints: Sequence[str] = ()) -> YoloPose:
    """Read a data.yaml and find its images.

    Args:
        path: of the file.
        keypoints: names, or one name of a built-in skeleton, where the file states none or others are wanted.

    Raises:
        GraphposeError: naming the file, and line or key, when something is missing or contradicts itself.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GraphposeError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise GraphposeError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        raise GraphposeError(f"{path}{where}: no YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(content, dict) or "kpt_shape" not in content:
        raise GraphposeError(f"{path} has no 'kpt_shape'; a data.yaml of a YOLO-pose data set states it")
    shape = content["kpt_shape"]
    if not _are_ints(shape, 2) or shape[0] < 1 or shape[1] not in (2, 3):
        raise GraphposeError(f"{path}: kpt_shape is {shape!r}; the number of keypoints and 2 or 3 are needed")
    classes = _listed(content.get("names", [f"class_{n}" for n in range(_count(content.get("nc")))]))
    if not classes or not all(isinstance(name, str) and name for name in classes):
        raise GraphposeError(f"{path}: names is {content.get('names')!r}; a list of class names is needed")
    splits = {split: _images_of(content, split, path) for split in SPLITS if content.get(split)}
    if not splits:
        raise GraphposeError(f"{path} names no images; 'train', 'val' or 'test' must")
    images = [image for found in splits.values() for image in found]
    root = _root(content, path)
    if not all(image.is_relative_to(root) for image in images):
        root = Path(os.path.commonpath([image.parent for image in images]))
    return YoloPose(
        path=path,
        kpt_shape=(shape[0], shape[1]),
        classes=tuple(classes),
        keypoints=tuple(_keypoint_names(content, path, n, shape[0], keypoints) for n in range(len(classes))),
        flip_pairs=_flip_pairs(content, path, shape[0]),
        splits=splits,
        root=root,
    )


def convert_split(data: YoloPose, split: str, limbs: Sequence[str] = ()) -> Converted:
    """A split as a COCO-format file with a category for each class; a class of index n has id n + 1.

    Args:
        data: as :func:`read_data_yaml` returns it.
        split: of ``data.splits``.
        limbs: as texts A:B; none leaves them to the reader, which makes a tree.

    Raises:
        GraphposeError: naming the label file and its line.
    """
    file = CocoFile(
        [
            category(name, names, limbs_between(limbs, names), data.flip_pairs, n + 1)
            for n, (name, names) in enumerate(zip(data.classes, data.keypoints, strict=True))
        ]
    )
    for image in data.splits[split]:
        height, width = upright_size(image)
        file.add_image(image.relative_to(data.root).as_posix(), (height, width))
        scale = np.array([width, height], np.float64)
        for class_id, box, keypoints in _objects(labels_of(image), data):
            corner, extent = (box[:2] - box[2:] / 2) * scale, box[2:] * scale
            keypoints[:, :2] *= scale
            labelled_without_box = bool((keypoints[:, 2] > 0).any()) and (extent <= 0).any()
            file.add_person(keypoints, None if labelled_without_box else (*corner, *extent), class_id + 1)
    known = {labels_of(image) for images in data.splits.values() for image in images}
    folders = {labels_of(image).parent for image in data.splits[split]}
    return Converted(file, sum(path not in known for folder in folders for path in folder.glob("*.txt")))


def labels_of(image: Path) -> Path:
    """The label file of an image: ``labels`` for the last folder ``images`` of its path, as Ultralytics has it."""
    parts = list(image.parts[:-1])
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts, f"{image.stem}.txt")


def _objects(path: Path, data: YoloPose) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Class, box (4,) and keypoints (K, 3) of the lines of a label file, in shares; no file is no object."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise GraphposeError(f"{path} cannot be read: {error}") from None
    K, columns = data.kpt_shape
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        words = line.split()
        if not words:
            continue
        values = _numbers(words, where)
        if len(values) != 5 + K * columns:
            raise GraphposeError(
                f"{where}: {len(values)} numbers; {5 + K * columns} are needed: class, box (4), and {K} keypoints of "
                f"{columns} (kpt_shape of {data.path.name})"
            )
        if values[0] not in range(len(data.classes)):
            raise GraphposeError(f"{where}: class {words[0]}; {data.path.name} has 0 … {len(data.classes) - 1}")
        yield int(values[0]), _box(values[1:5], where), _keypoints(values[5:].reshape(K, columns), where)


def _numbers(words: Sequence[str], where: str) -> np.ndarray:
    values = np.zeros(len(words))
    for n, word in enumerate(words):
        try:
            values[n] = float(word)
        except ValueError:
            raise GraphposeError(f"{where}: '{word}' is no number") from None
    return values


def _box(box: np.ndarray, where: str) -> np.ndarray:
    if not ((box >= -SLACK) & (box <= 1 + SLACK)).all():
        raise GraphposeError(f"{where}: box {_texts(box)}; shares of width and height within 0 … 1 are needed")
    return box


def _keypoints(values: np.ndarray, where: str) -> np.ndarray:
    """(K, 3) with visibility. Without it a keypoint is labelled, unless it is negative (so Ultralytics) or at 0, 0."""
    if values.shape[1] == 2:
        labelled = (values >= 0).all(axis=1) & (values > 0).any(axis=1)
        values = np.column_stack((values, np.where(labelled, 2.0, 0.0)))
    visibility = values[:, 2]
    unknown = np.flatnonzero((visibility != 0) & (visibility != 1) & (visibility != 2))
    if len(unknown):
        k = int(unknown[0])
        raise GraphposeError(f"{where}: keypoint {k + 1} has visibility {values[k, 2]:g}; 0, 1 or 2 is needed")
    inside = ((values[:, :2] >= -SLACK) & (values[:, :2] <= 1 + SLACK)).all(axis=1)
    outside = np.flatnonzero(~inside & (values[:, 2] > 0))
    if len(outside):
        k = int(outside[0])
        raise GraphposeError(
            f"{where}: keypoint {k + 1} is at {_texts(values[k, :2])}; shares of width and height within 0 … 1 are "
            f"needed"
        )
    return values


def _root(content: Mapping[str, Any], path: Path) -> Path:
    """The data set's folder: ``path`` beside the file or as it is; where it is nowhere (another machine's), the file's
    own."""
    stated = content.get("path")
    candidates = [path.parent / stated, Path(stated)] if isinstance(stated, str) and stated else []
    return next((folder for folder in candidates if folder.is_dir()), path.parent).resolve()


def _images_of(content: Mapping[str, Any], split: str, path: Path) -> tuple[Path, ...]:
    """The image files of a split, ascending."""
    root = _root(content, path)
    stated = content[split]
    places = [stated] if isinstance(stated, str) else stated
    if not isinstance(places, list) or not all(isinstance(place, str) for place in places):
        raise GraphposeError(f"{path}: {split} is {stated!r}; a folder, a list of files, or several of them are needed")
    images: list[Path] = []
    for place in places:
        # Roboflow's files point to ../train/images, which lies beside them
        candidates = [root / place, *([root / place[3:]] if place.startswith("../") else [])]
        found = next((candidate.resolve() for candidate in candidates if candidate.exists()), None)
        if found is None:
            raise GraphposeError(f"{path}: {split} '{place}' is not in {root}; correct it or 'path'")
        images += _in_folder(found) if found.is_dir() else _in_list(found, root)
    if not images:
        raise GraphposeError(f"{path}: {split} '{stated}' holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return tuple(sorted(set(images)))


def _in_folder(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]


def _in_list(path: Path, root: Path) -> list[Path]:
    """Images of a list of files, a line each, relative to the list or the data set."""
    images = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        found = next((place for place in (path.parent / name, root / name) if place.is_file()), None)
        if found is None:
            raise GraphposeError(f"{path}, line {number}: image {name} is neither beside the list nor in {root}")
        images.append(found.resolve())
    return images


def _keypoint_names(
    content: Mapping[str, Any], path: Path, class_id: int, K: int, wanted: Sequence[str]
) -> tuple[str, ...]:
    """The names that are wanted, those that the file states, or keypoint_1 …."""
    if wanted:
        names: Any = SKELETONS[wanted[0]].keypoints if len(wanted) == 1 and wanted[0] in SKELETONS else wanted
        stated = "--keypoints"
    else:
        stated = "kpt_names"
        names = content.get(stated)
        if isinstance(names, dict):
            names = names.get(class_id)
        elif isinstance(names, list) and names and isinstance(names[0], list):
            names = names[class_id] if class_id < len(names) else None
        names = names or [f"keypoint_{k + 1}" for k in range(K)]
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names) or len(names) != K:
        count = len(names) if isinstance(names, (list, tuple)) else repr(names)
        raise GraphposeError(f"{path}: kpt_shape has {K} keypoints, {stated} {count}; a name for each is needed")
    return tuple(names)


def _flip_pairs(content: Mapping[str, Any], path: Path, K: int) -> tuple[tuple[int, int], ...] | None:
    flip = content.get("flip_idx")
    if flip is None or flip == []:
        return None
    if not _are_ints(flip, K) or sorted(flip) != list(range(K)) or any(flip[flip[k]] != k for k in range(K)):
        raise GraphposeError(
            f"{path}: flip_idx is {flip!r}; the {K} indices of the keypoints are needed, where two that change places "
            f"name each other"
        )
    return tuple((k, other) for k, other in enumerate(flip) if k < other)


def _listed(names: Any) -> list[Any]:
    """Class names of a list, or of a mapping from 0."""
    if isinstance(names, dict):
        return [names[n] for n in range(len(names))] if set(names) == set(range(len(names))) else []
    return names if isinstance(names, list) else []


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value < 10**5 else 0


def _are_ints(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(type(value) is int for value in values)


def _texts(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)
