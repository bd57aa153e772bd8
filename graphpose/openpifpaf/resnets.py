"""ResNets and ResNeXts of OpenPifPaf → the configuration and the weights of a timm model.

The base network of a file is walked by its modules' names; what decides the model's shape (strides, dilation, groups,
ε) is read from the modules and compared with the model's own.

Source: OpenPifPaf, ``network/basenetworks.py`` and ``network/nets.py`` (``model_defaults``) of v0.8 and 0.13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphpose.errors import GraphposeError
from graphpose.nn.config import BackboneVariant
from graphpose.nn.network import PoseNetwork
from graphpose.openpifpaf.pickled_objects import Instance

# (block, blocks per stage, groups, width of layer1's 3×3) → timm name
BACKBONES = {
    ("BasicBlock", (2, 2, 2, 2), 1, 64): "resnet18",
    ("BasicBlock", (3, 4, 6, 3), 1, 64): "resnet34",
    ("Bottleneck", (3, 4, 6, 3), 1, 64): "resnet50",
    ("Bottleneck", (3, 4, 23, 3), 1, 64): "resnet101",
    ("Bottleneck", (3, 8, 36, 3), 1, 64): "resnet152",
    ("Bottleneck", (3, 4, 6, 3), 32, 128): "resnext50_32x4d",
    ("Bottleneck", (3, 4, 23, 3), 32, 256): "resnext101_32x8d",
}
STAGES = ("block2", "block3", "block4", "block5")
PREFIX = "backbone.features.model."


def find_stages(base: Instance) -> dict[str, Instance]:
    """Input block and the four stages by name.

    Args:
        base: the network's ``base_net``.

    Raises:
        GraphposeError: it is neither a ResNet nor a ResNeXt with all its stages.
    """
    name = base.state.get("shortname") or base.state.get("name") or str(base.kind)
    whole = base.module("net")
    if isinstance(whole, Instance):
        parts = list(whole.children.values())
        names = ("input_block", *STAGES)
        if len(parts) == len(names):
            return dict(zip(names, parts, strict=True))
    elif base.module("input_block") is not None and base.module("block2") is not None:
        return {stage: base.part(stage, f"base network '{name}'") for stage in ("input_block", *STAGES)}
    raise GraphposeError(
        f"its base network is '{name}' ({base.kind}); ResNets and ResNeXts with all four stages are read"
    )


def trunk_settings(stages: Mapping[str, Instance], form: str) -> dict[str, Any]:
    """Settings of a :class:`~graphpose.nn.config.PoseNetworkConfig` whose trunk has the modules of the file.

    Args:
        stages: see :func:`find_stages`.
        form: "v0.8" or "0.13".

    Raises:
        GraphposeError: no timm model has these modules.
    """
    blocks = [list(stages[stage].children.values()) for stage in STAGES]
    first = blocks[0][0] if blocks[0] else None
    conv2 = first.module("conv2") if isinstance(first, Instance) else None
    if first is None or not isinstance(conv2, Instance):
        raise GraphposeError("its base network has no residual blocks; ResNets and ResNeXts are read")
    key = (
        first.kind.name,
        tuple(len(stage) for stage in blocks),
        int(conv2.state.get("groups", 1)),
        int(conv2.state.get("out_channels", 0)),
    )
    if key not in BACKBONES:
        raise GraphposeError(
            f"its base network has {first.kind.name}s in stages of {key[1]} with {key[2]} group(s) and width {key[3]}, "
            f"which is none of {', '.join(BACKBONES.values())}"
        )
    extra = [str(child.kind.name) for child in list(stages["input_block"].children.values())[3:]]
    if extra not in ([], ["MaxPool2d"]):
        raise GraphposeError(
            f"its input block has {', '.join(extra)} after the first convolution; only a max-pool is read"
        )
    stem_pool = bool(extra)
    strided = [stage for stage in blocks[1:] if _strided(stage[0])]
    dilate = stem_pool and len(strided) == 2 and not _strided(blocks[3][0])
    variant: BackboneVariant = (
        "v1" if strided and first.kind.name == "Bottleneck" and _strided(strided[0][0], ("conv1",)) else "v1.5"
    )
    return {
        "backbone": BACKBONES[key],
        "backbone_variant": variant,
        "stem_pool": stem_pool,
        "dilate": dilate,
        "strides": (32 if stem_pool and not dilate else 16,),
        "norm_eps": _norm_eps(stages, form),
    }


def _strided(block: Instance, convs: Sequence[str] = ("conv1", "conv2")) -> bool:
    return any(tuple(block.module(conv).state.get("stride", ())) == (2, 2) for conv in convs)


def _norm_eps(stages: Mapping[str, Instance], form: str) -> float:
    """ε that the original sets when it loads a file, whatever the file says (``model_defaults``)."""
    if form == "v0.8":
        return 1e-4
    found = {
        max(float(module.state.get("eps", 1e-5)), 1e-3)
        for stage in stages.values()
        for _, module in _walk(stage)
        if module.kind.name == "BatchNorm2d"
    }
    if len(found) != 1:
        raise GraphposeError(f"its batch norms differ in their eps ({sorted(found)}); one for all is read")
    return found.pop()


def _walk(module: Instance, prefix: str = "") -> list[tuple[str, Instance]]:
    """A module and everything below it, by dotted name."""
    below = [(prefix, module)]
    for name, child in module.children.items():
        if isinstance(child, Instance):
            below += _walk(child, f"{prefix}.{name}" if prefix else name)
    return below


def _named_modules(stages: Mapping[str, Instance]) -> dict[str, Instance]:
    """The backbone's modules by timm's (and torchvision's) names."""
    parts = list(stages["input_block"].children.values())
    if len(parts) < 3:
        raise GraphposeError("its input block lacks convolution, batch norm or activation")
    named = {"conv1": parts[0], "bn1": parts[1]}
    for number, stage in enumerate(STAGES, 1):
        named |= {f"layer{number}.{name}": module for name, module in _walk(stages[stage]) if name}
    return named


def trunk_state(stages: Mapping[str, Instance]) -> dict[str, Tensor]:
    """Parameters and buffers of the stages, in float32, by their names in a PoseNetwork's state dict."""
    state = {}
    for name, module in _named_modules(stages).items():
        for key, tensor in module.tensors.items():
            state[f"{PREFIX}{name}.{key}"] = tensor.float() if tensor.is_floating_point() else tensor
        if module.kind.name == "BatchNorm2d":  # files of PyTorch before 0.4.1 do not count
            state.setdefault(f"{PREFIX}{name}.num_batches_tracked", torch.zeros((), dtype=torch.int64))
    return state


def check_convolutions(network: PoseNetwork, stages: Mapping[str, Instance]) -> None:
    """Compare the file's convolutions with the network's.

    Raises:
        GraphposeError: one has another kernel, stride, padding, dilation or number of groups; names it.
    """
    theirs = _named_modules(stages)
    trunk: Any = network.backbone
    for name, conv in trunk.features.model.named_modules():
        if not isinstance(conv, nn.Conv2d) or name not in theirs:
            continue
        for setting in ("kernel_size", "stride", "padding", "dilation", "groups"):
            value, own = theirs[name].state.get(setting), getattr(conv, setting)
            if value is not None and value != own:
                raise GraphposeError(
                    f"its convolution '{name}' has {setting} {value} where a {network.config.backbone} with "
                    f"stem_pool={network.config.stem_pool} and dilate={network.config.dilate} has {own}"
                )
