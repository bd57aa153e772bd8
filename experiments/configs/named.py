"""The named configurations by their names, and what a command line makes of one."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from experiments.configs import (
    coco,
    coco_eight,
    coco_from_pifpaf,
    coco_local,
    crowdpose,
    demo,
    endtoend,
    frozen,
    frozen_lite0,
    mpii,
    own,
    photographs,
)
from experiments.configs.defaults import PAPER
from experiments.configs.settings import GROUPED
from graphpose.errors import GraphposeError

NAMED_MODULES: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        *(demo, own, coco, coco_local, coco_eight, coco_from_pifpaf),
        *(photographs, frozen, frozen_lite0, endtoend, crowdpose, mpii),
    )
}
NAMED: dict[str, dict[str, Any]] = {name: module.CONFIG for name, module in NAMED_MODULES.items()}
DEFAULTS: dict[str, Any] = PAPER | demo.CONFIG


def configured(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every key of ``run.py with NAME`` and its value, with some settings changed.

    Args:
        name: of the configuration.
        settings: values by key; those of a group as "loss.pif_offset".

    Raises:
        GraphposeError: there is no such configuration or group, or a group is set as a whole.
    """
    if name not in NAMED:
        raise GraphposeError(f"'{name}' is no named configuration; choose one of {', '.join(NAMED)}")
    config = copy.deepcopy(DEFAULTS | NAMED[name])
    for key, value in settings.items():
        group, dot, member = key.rpartition(".")
        if key in GROUPED:
            raise GraphposeError(f"configuration key '{key}' is a group; set {key}.<name>=…")
        if dot and group not in GROUPED:
            raise GraphposeError(f"{key}: there is no group '{group}', only {', '.join(sorted(GROUPED))}")
        (config[group] if dot else config)[member] = value
    return config


def typed_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings typed as key=value, with the values that Sacred would read; GraphposeError for another form."""
    for pair in pairs:
        if "=" not in pair:
            raise GraphposeError(f"the setting {pair} must have the form key=value")
    return {key: typed(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def typed(value: Any) -> Any:
    """A value as Sacred reads it from a command line."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        return value
