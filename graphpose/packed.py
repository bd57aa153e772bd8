"""Packed networks: weights of eight or sixteen bits with all that is needed to use them, in one safetensors file.

Convolutions and linear layers are kept as int8 with one float32 scale for each output channel (``NAME.scale``: the
weight is scale · int8), or as float16; all else, which is little, as it is. The file's metadata has the configuration,
the decoder's settings, how images are given to the network, a model card and a checksum of the tensors. Nothing in such
a file is ever run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.nn.config import SHIPPED
from graphpose.nn.network import PoseNetwork

FORMAT = 1
SUFFIX = ".safetensors"
METADATA_KEY = "graphpose"
SCALE = ".scale"
INT8_MAX = 127  # of int8, the same to both sides of zero

WeightType = Literal["int8", "float16", "float32"]


def pack(
    path: Path,
    network: PoseNetwork,
    *,
    decoder: Mapping[str, Any],
    usage: Mapping[str, Any],
    card: Mapping[str, str] | None = None,
    weights: WeightType = "int8",
) -> None:
    """Write a network for use alone: it cannot be trained on from where it was, but it can be started from.

    Args:
        path: the file, which ends in .safetensors; its folder is made where it is missing.
        network: its weights, the averaged ones where there are any, and the pose statistics that travel with it.
        decoder: settings that its poses are decoded with, of :class:`graphpose.fields.config.DecoderConfig`.
        usage: how images are given to it, of :class:`graphpose.fields.config.UsageConfig`.
        card: what it was trained on, what it scores, licence.
        weights: what convolutions and linear layers are kept as.

    Raises:
        GraphposeError: another suffix or type of weights, a weight that is not finite, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise GraphposeError(f"packed network '{path}' must end in {SUFFIX}")
    if weights not in get_args(WeightType):
        raise GraphposeError(f"weights '{weights}' must be one of {', '.join(get_args(WeightType))}")
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        if not torch.isfinite(tensor).all():
            raise GraphposeError(f"'{name}' is not finite; such a network is not packed")
        if tensor.dim() < 2 or not tensor.is_floating_point() or name not in _quantisable(network):
            tensors[name] = tensor
        elif weights == "int8":
            tensors[name], tensors[name + SCALE] = quantise(tensor)
        else:
            tensors[name] = tensor.to(getattr(torch, weights))
    content: dict[str, Any] = {
        "format": FORMAT,
        "config": network.config.to_dict() | {"pretrained": False},
        "decoder": dict(decoder),
        "usage": dict(usage),
        "card": dict(card or {}),
        "weights": weights,
        "sha256": digest(tensors),
    }
    if network.pose_statistics is not None:
        content["statistics"] = network.pose_statistics.to_dict()
    if network.graph_source is not None:
        content["graph"] = dict(network.graph_source)
    if network.mode_statistics:
        content["modes"] = [kind.to_dict() for kind in network.mode_statistics]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, metadata={METADATA_KEY: json.dumps(content)})
        path.chmod(0o644)  # save_file keeps it to its owner, and it is made to be handed on
    except (OSError, SafetensorError) as error:
        raise GraphposeError(f"packed network '{path}' could not be written: {error}") from error


def _quantisable(network: PoseNetwork) -> set[str]:
    """Names of the weights of convolutions and linear layers."""
    kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)
    return {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, kinds)}


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight as int8 and a scale for each output channel, which is the largest magnitude in it / 127.

    Args:
        weight: (out, …) float.

    Returns:
        (out, …) int8 and (out,) float32; scale · int8 misses the weight by half a scale at most.
    """
    weight = weight.float()
    scale = (weight.flatten(1).abs().amax(dim=1) / INT8_MAX).clamp(min=torch.finfo(torch.float32).tiny)
    shape = (-1, *[1] * (weight.dim() - 1))
    return (weight / scale.view(shape)).round().clamp(-INT8_MAX, INT8_MAX).to(torch.int8), scale


def dequantise(weight: Tensor, scale: Tensor) -> Tensor:
    """(out, …) float32 of (out, …) int8 and (out,) float32."""
    return weight.float() * scale.view(-1, *[1] * (weight.dim() - 1))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes of tensors, whatever their order."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return found.hexdigest()


def is_packed(path: Path) -> bool:
    """Whether a file says of itself that it is a packed network; a safetensors file may be a backbone's weights."""
    if path.suffix != SUFFIX or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def unpack(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Content of a packed network in the form of a checkpoint's, its weights in float32 on ``device``.

    Raises:
        GraphposeError: the file is missing, damaged, or no packed network of this format.
    """
    path = Path(path)
    if not path.is_file():
        if path == SHIPPED:
            raise GraphposeError("this version of graphpose ships no network; name a checkpoint")
        raise GraphposeError(f"packed network '{path}' does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — it is no mapping
    except (OSError, SafetensorError) as error:
        raise GraphposeError(f"packed network '{path}' cannot be read: {error}") from error
    if METADATA_KEY not in metadata:
        raise GraphposeError(f"'{path}' is no packed network of graphpose; its metadata does not say what it is")
    content = json.loads(metadata[METADATA_KEY])
    if content["format"] != FORMAT:
        raise GraphposeError(f"packed network '{path}' has format {content['format']}; this version reads {FORMAT}")
    if digest(tensors) != content["sha256"]:
        raise GraphposeError(f"packed network '{path}' is damaged: its checksum is wrong")
    weights = {}
    for name, tensor in tensors.items():
        if name + SCALE in tensors:
            weights[name] = dequantise(tensor, tensors[name + SCALE]).to(device)
        elif not (name.endswith(SCALE) and name.removesuffix(SCALE) in tensors):
            weights[name] = (tensor.float() if tensor.is_floating_point() else tensor).to(device)
    return {
        "format": content["format"],
        "config": content["config"],
        "network": weights,
        "ema": None,
        "decoder": content["decoder"],
        "usage": content["usage"],
        "statistics": content.get("statistics"),
        "graph": content.get("graph"),
        "modes": content.get("modes"),
        "card": content["card"],
        "training": {},
    }
