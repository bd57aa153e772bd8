"""The annotation files and image folders that a configuration names."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from experiments.configs.data import DataConfig
from graphpose.errors import GraphposeError


def find_files(data: DataConfig, part: Literal["train", "val"]) -> tuple[Path, Path]:
    """Annotation file and image folder of the training or the evaluation set; of a file that is divided, for both.

    Raises:
        GraphposeError: one is not configured or does not exist; names the key.
    """
    keys = [f"{part}_annotations", f"{part}_images"]
    if data.annotations and (part == "train" or data.divided):
        keys = ["annotations", "images"]
    elif data.annotations and not data.val_images:
        keys = ["val_annotations", "images"]
    for key in keys:
        if not getattr(data, key):
            raise GraphposeError(
                f"data={data.data} needs {key}; set it, or use a named configuration: with coco, coco_local, "
                f"crowdpose, mpii, or own for a data set of your own"
            )
    annotations, images = (existing_path(data, key, getattr(data, key)) for key in keys)
    return annotations, images


def existing_path(data: DataConfig, key: str, path: str) -> Path:
    """A configured file or folder; GraphposeError naming the key where it does not exist, and what there is."""
    found = Path(data.data_root) / path
    if found.exists():
        return found
    near = _near(found)
    advice = "set data_root, or GRAPHPOSE_DATA in the environment"
    if near or data.annotations:
        advice = f"did you mean {near}?" if near else f"it was looked for from '{Path.cwd()}' on"
    raise GraphposeError(f"{key}: '{found}' does not exist; {advice}")


def _near(path: Path) -> str:
    """Files of similar names beside one that is not there; empty where there are none."""
    try:
        names = [other.name for other in path.parent.iterdir()]
    except OSError:
        return ""
    return " or ".join(repr(str(path.with_name(name))) for name in difflib.get_close_matches(path.name, names, n=2))


def require_sets(data: DataConfig) -> None:
    """GraphposeError naming the first file or folder of ``train_sets`` that does not exist."""
    for number, one in enumerate(data.train_sets):
        for key in ("annotations", "images", "pseudo_labels"):
            if getattr(one, key):
                existing_path(data, f"train_sets[{number}] {key}", getattr(one, key))
