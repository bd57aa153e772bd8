"""Backbone weights from local files, and the two ResNets that share one set of names.

ResNet "v1" (Caffe, Keras) halves the resolution in ``conv1`` of a stage's first block, "v1.5" (torchvision, timm) in
``conv2``. The weights have the same names and shapes, so loading one into the other raises nothing and ruins the
features; the variant must be declared by the file or by the configuration.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from graphpose.errors import GraphposeError

logger = logging.getLogger(__name__)


def declared_variant(path: Path) -> Literal["v1", "v1.5"] | None:
    """The ResNet variant that a file declares: metadata ``variant``, or "v1" or "v1.5" in its ``note`` or file name.

    Returns:
        The variant, or None for a file that says nothing.

    Raises:
        GraphposeError: a .safetensors file cannot be read.
    """
    metadata: Mapping[str, str] = {}
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise GraphposeError(f"weights file '{path}' cannot be read: {error}") from error
    for text in (metadata.get("variant", ""), metadata.get("note", ""), path.stem):
        words = text.lower().replace("_", " ").replace(":", " ").replace("-", " ").split()
        if {"v1.5", "v1b", "v15"} & set(words):
            return "v1.5"
        if "v1" in words:
            return "v1"
    return None


def resolve_variant(variant: str, path: Path | None, matters: bool) -> Literal["v1", "v1.5"]:
    """The variant to build.

    Args:
        variant: "auto", "v1" or "v1.5".
        path: local weights file, or None.
        matters: the model is a ResNet of bottleneck blocks.

    Returns:
        What ``variant`` says, or for "auto" what the file declares, v1.5 where there is none or it is silent. A silent
        file is reported to the log when the variant could matter, since its weights cannot tell.

    Raises:
        GraphposeError: when the file declares another variant than the one asked for.
    """
    declared = declared_variant(path) if path is not None else None
    if variant == "auto" and path is not None and declared is None and matters:
        logger.warning(
            "weights file '%s' does not say whether it is a ResNet v1 or v1.5; v1.5 is taken, set backbone_variant "
            "where that is wrong",
            path,
        )
    if variant == "auto":
        return declared or "v1.5"
    if declared not in (None, variant):
        raise GraphposeError(
            f"backbone_variant '{variant}' with pretrained '{path}': the file says that it is {declared}; set "
            "backbone_variant to that or to auto"
        )
    return "v1" if variant == "v1" else "v1.5"


def use_v1_strides(model: nn.Module, name: str) -> None:
    """Move the strides of a bottleneck ResNet from conv2 to conv1, in place.

    Raises:
        GraphposeError: when the model is no ResNet of bottleneck blocks.
    """
    blocks = bottleneck_blocks(model)
    if not blocks:
        raise GraphposeError(
            f"backbone_variant 'v1' with backbone '{name}': only bottleneck ResNets have a v1; use v1.5 or auto"
        )
    for conv1, conv2, _ in blocks:
        conv1.stride, conv2.stride = conv2.stride, conv1.stride


def bottleneck_blocks(model: nn.Module) -> list[list[nn.Conv2d]]:
    """The convolutions 1×1, 3×3, 1×1 of every bottleneck block of a ResNet; empty for other models."""
    blocks = []
    for block in model.modules():
        named = [getattr(block, name, None) for name in ("conv1", "conv2", "conv3")]
        convs = [conv for conv in named if isinstance(conv, nn.Conv2d)]
        if [conv.kernel_size for conv in convs] == [(1, 1), (3, 3), (1, 1)]:
            blocks.append(convs)
    return blocks


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a file of the model's own names into it; what the file has beyond the model (later stages, fc) is left out.

    Args:
        model: a timm model, perhaps cut to its first stages.
        path: .safetensors, or a file of torch.save with a state dict.

    Raises:
        GraphposeError: unreadable file, a tensor missing or of another shape; names it.
    """
    state = read_state(path)
    for key, own in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        if key not in state:
            raise GraphposeError(f"weights file '{path}' lacks '{key}', so it belongs to another backbone")
        if state[key].shape != own.shape:
            raise GraphposeError(
                f"weights file '{path}': '{key}' is {tuple(state[key].shape)} where the backbone has {tuple(own.shape)}"
            )
    wanted = model.state_dict().keys()
    model.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file by name, on the CPU; GraphposeError names a file that cannot be read."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the formats' own exceptions are many (zip, pickle, header); all mean the same here
        reason = str(error).partition("\n")[0].partition(". ")[0]
        refused = isinstance(error, pickle.UnpicklingError)  # it holds more than tensors
        advice = "; of a file of OpenPifPaf, graphpose import makes a checkpoint" if refused else ""
        raise GraphposeError(f"weights file '{path}' cannot be read: {reason}{advice}") from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise GraphposeError(f"weights file '{path}' is no state dict: names and tensors are expected")
    return content
