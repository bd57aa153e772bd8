"""Which run ``resume=`` names, the configuration it goes on with, and what may be changed in it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.configs.settings import flatten
from graphpose.errors import GraphposeError

CHECKPOINT = "checkpoint.pt"

# what a run can be resumed with without becoming another run
MAY_CHANGE = (
    "resume", "epochs", "evaluate_every", "checkpoint_every", "checkpoint_every_steps", "workers", "cache", "device",
    "compile", "tf32", "deterministic", "accumulate", "data_root", "features",
    "evaluation_batch_size", "decoder", "max_detections", "contact_sheet_images",
    "evaluator", "test_flip", "test_scales", "test_merge", "demo_val_scenes", "val_annotations", "val_images",
    "pretrained",  # the checkpoint's weights take their place
)  # fmt: skip


def find_checkpoint(source: str | int, runs: Path) -> Path:
    """The checkpoint that ``resume=source`` means.

    Args:
        source: number of a run under ``runs``, its folder, or a checkpoint file.
        runs: the folder of runs.

    Raises:
        GraphposeError: there is no such run or file.
    """
    path = runs / str(source) if str(source).isdigit() else Path(str(source))
    if str(source).isdigit() and not path.is_dir():
        numbers = sorted((int(p.name) for p in runs.glob("[0-9]*") if p.name.isdigit()), reverse=True)
        known = ", ".join(map(str, numbers[:5])) or "no run at all"
        raise GraphposeError(f"resume={source}: there is no run '{path}'; '{runs}' has {known}")
    return path / CHECKPOINT if path.is_dir() else path


def stored_configuration(checkpoint: Path) -> dict[str, Any]:
    """The configuration of the run that wrote a checkpoint.

    Raises:
        GraphposeError: see :func:`graphpose.checkpoint.load_checkpoint`; or the checkpoint is not of a run.
    """
    written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    return _configuration_in(checkpoint, checkpoint.absolute(), written)


@functools.lru_cache(maxsize=1)
def _configuration_in(checkpoint: Path, place: Path, written: int) -> dict[str, Any]:
    """What a checkpoint holds; the same name in another folder, or written anew, is another one."""
    from graphpose.checkpoint import load_checkpoint  # imports torch, and most commands resume nothing

    configuration = load_checkpoint(checkpoint)["training"].get("configuration")
    if not configuration:
        raise GraphposeError(f"checkpoint '{checkpoint}' was not written by experiments/run.py; it cannot be resumed")
    return configuration


def refuse_changes(config: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """GraphposeError naming the first setting that differs from the stored run's and makes it another run.

    A key that the stored run does not have yet is not compared.
    """
    values, before = dict(flatten(config)), dict(flatten(stored))
    for key in sorted(values.keys() & before.keys()):
        if values[key] != before[key] and key.split(".")[0] not in MAY_CHANGE:
            raise GraphposeError(
                f"{key}={values[key]}, but the run to resume has {key}={before[key]}; a resumed run may change "
                f"{', '.join(MAY_CHANGE[1:])} only"
            )
