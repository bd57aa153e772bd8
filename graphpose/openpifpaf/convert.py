"""OpenPifPaf's modules → a :class:`~graphpose.nn.network.PoseNetwork` with the same fields.

Nothing is approximated: what the network here cannot express by its weights is an option of its configuration (the ε of
the batch norms, the activations of scale and spread), and a network that needs more is refused.

Two forms are known. Both have a ResNet or ResNeXt without (rarely with) the stem's max-pool and heads of 1×1
convolutions with a sub-pixel ×2 whose last row and column are cut:

- v0.8 (2019): ``base_net.net`` is one Sequential; a head has separate convolutions for confidence, offsets, spreads and
  scale. Scale by ReLU, log b by leaky_relu(x + 2) − 2. ε of the batch norms is 1e-4.
- 0.11 to 0.13: ``base_net`` has ``input_block`` and ``block2`` to ``block5``; a head has one convolution whose rows are
  ordered field · component · u². Scale by softplus. ε is 1e-3 at least. A limb has one spread for both ends.

Source: OpenPifPaf, ``network/nets.py`` (``model_defaults``), ``network/heads.py`` (``CompositeField``,
``CompositeField3``, ``CompositeField4``), ``network/basenetworks.py``, ``encoder/annrescaler.py`` and
``network/losses/components.py`` of v0.8 and 0.13; Kreiss, Bertoni, Alahi, CVPR 2019.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphpose.errors import GraphposeError
from graphpose.fields.spec import PAF, PIF
from graphpose.nn.config import BackboneVariant, PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.openpifpaf.unpickle import Instance, load_pickle
from graphpose.skeleton import COCO, DEFAULT_SIGMA, SKELETONS, Skeleton

# Their scale is σ_k times the root of a box around labelled keypoints, ours σ_k times that of the person's area. v0.8
# takes the box as it is (scale_from_keypoints); 0.13 enlarges it by what a reference pose says that the unlabelled
# keypoints would add (AnnRescaler.scale). Medians of sqrt(area) / theirs over the 3,528 persons with an official
# segment area and three labelled keypoints or more among 3,929 of COCO 2017; the logarithm scatters by 0.27 and 0.24.
SCALE_FACTORS = {"v0.8": 0.93, "0.13": 0.79}

# What of the decoder's settings their fields change. Votes are counted in confident cells, and the shortest limb, which
# ours covers with about 6, has a block of 3 × 3 in both encoders (Paf and Caf, min_size 3): thresholds in cells are
# 9 / 6 of their defaults. Spread: in v0.8 it is log b of the offset's Laplace distribution in cells, as here, and it
# was trained. In 0.13 it is the logarithm of a variance in units of half the keypoint's scale that the confidence
# shares (Regression and Bce, which squash it by 3 tanh(x / 3)), so weights 1/b made of it would be wrong.
# Limbs of 0.13 cover the middle 20 to 50 % of a limb only, so that no cell is near its end; limb_slack is a share of
# the distance between cell and end and holds for them as it is.
_LIMB_CELLS = 9 / 6
_VOTES = {
    "min_limb_weight": 0.5 * _LIMB_CELLS,
    "full_limb_weight": 6.0 * _LIMB_CELLS,
    "min_split_weight": 1.5 * _LIMB_CELLS,
}
DECODERS: dict[str, dict[str, Any]] = {
    "v0.8": {**_VOTES, "use_spread": True},
    "0.13": {**_VOTES, "use_spread": False},
}

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

# Components of a field, and which of them are our channels. CompositeField4 has (spread, confidence, offsets, scales)
# with one spread for both ends of a limb, CompositeField3 (confidence, offsets, spreads, scales) with one for each.
ROWS = {
    "CompositeField4": {"pif": (5, (1, 2, 3, 0, 4)), "paf": (8, (1, 2, 3, 0, 4, 5, 0))},
    "CompositeField3": {"pif": (5, (0, 1, 2, 3, 4)), "paf": (9, (0, 1, 2, 5, 3, 4, 6))},
}


@dataclasses.dataclass
class Imported:
    """A network of OpenPifPaf in this package's form.

    Attributes:
        network: in evaluation mode.
        decoder: settings for a checkpoint's "decoder" entry.
        form: "v0.8" or "0.13".
        epoch: of their training; None where the file does not say.
        left_out: heads of the file that are no PIF or PAF of this network, by name.
    """

    network: PoseNetwork
    decoder: dict[str, Any]
    form: str
    epoch: int | None
    left_out: list[str]


def import_checkpoint(path: Path) -> Imported:
    """Read and convert an OpenPifPaf checkpoint; nothing in the file is run.

    Args:
        path: a file of OpenPifPaf v0.8 or 0.11 to 0.13.

    Returns:
        The network; its fields are those of the original, with the scale times ``SCALE_FACTORS``.

    Raises:
        GraphposeError: the file is no such checkpoint, its network is of another architecture, or parts are missing.
    """
    content = load_pickle(path)
    try:
        return convert(content)
    except GraphposeError as error:
        raise GraphposeError(f"'{path}': {error}") from None


def convert(content: Any) -> Imported:
    """As :func:`import_checkpoint`, from the content that :func:`~graphpose.openpifpaf.unpickle.load_pickle` gave."""
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, Instance):
        raise GraphposeError("it is no OpenPifPaf checkpoint: a dictionary with the network under 'model' is expected")
    base = _part(model, "base_net", "the network")
    heads = model.module("head_nets") or model.module("_head_nets")
    if not isinstance(heads, Instance):
        raise GraphposeError(f"the network ({model.kind}) lacks 'head_nets'")
    stages = _stages(base)
    form = "v0.8" if base.module("net") is not None else "0.13"
    read = _separate_head if form == "v0.8" else _joint_head
    found: dict[str, _Head] = {}
    left_out = []
    for name, module in heads.children.items():
        kind = _head_kind(module)
        if kind is None or kind in found:
            left_out.append(_head_name(module, name))
        else:
            found[kind] = read(module, kind)
    for kind, theirs in (("pif", "pif or cif"), ("paf", "paf or caf")):
        if kind not in found:
            raise GraphposeError(f"the network has no {theirs} head; its heads are {', '.join(left_out) or 'none'}")
    skeleton = _skeleton(found["pif"], found["paf"])
    if found["pif"].upsample != found["paf"].upsample:
        raise GraphposeError(
            f"its heads differ in their sub-pixel factor: {found['pif'].upsample}, {found['paf'].upsample}"
        )
    config = _config(stages, form, skeleton, found["pif"].upsample)
    with torch.device("meta"):  # the weights are those of the file; no second network is made
        network = PoseNetwork(config)
    state = _backbone_state(stages)
    for kind, head in found.items():
        state[f"{kind}_head.conv.weight"] = head.weight
        state[f"{kind}_head.conv.bias"] = head.bias
    _load(network, state)
    _check_convolutions(network, stages)
    epoch = content.get("epoch")
    return Imported(network.eval(), dict(DECODERS[form]), form, epoch if isinstance(epoch, int) else None, left_out)


def _part(module: Instance, name: str, where: str) -> Instance:
    child = module.module(name)
    if not isinstance(child, Instance):
        raise GraphposeError(f"{where} ({module.kind}) lacks '{name}'")
    return child


def _stages(base: Instance) -> dict[str, Instance]:
    """Input block and the four stages by name."""
    name = base.state.get("shortname") or base.state.get("name") or str(base.kind)
    whole = base.module("net")
    if isinstance(whole, Instance):
        parts = list(whole.children.values())
        names = ("input_block", *STAGES)
        if len(parts) == len(names):
            return dict(zip(names, parts, strict=True))
    elif base.module("input_block") is not None and base.module("block2") is not None:
        return {stage: _part(base, stage, f"base network '{name}'") for stage in ("input_block", *STAGES)}
    raise GraphposeError(
        f"its base network is '{name}' ({base.kind}); ResNets and ResNeXts with all four stages are read"
    )


def _config(stages: Mapping[str, Instance], form: str, skeleton: Skeleton, upsample: int) -> PoseNetworkConfig:
    """The configuration whose network has the modules of the file."""
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
    base_stride = 32 if stem_pool and not dilate else 16
    if base_stride % upsample:
        raise GraphposeError(f"its heads have the sub-pixel factor {upsample}, which does not divide {base_stride}")
    return PoseNetworkConfig(
        skeleton=skeleton,
        backbone=BACKBONES[key],
        backbone_variant=variant,
        stem_pool=stem_pool,
        dilate=dilate,
        adjacency="none",
        strides=(base_stride,),
        upsample=upsample,
        norm_eps=_norm_eps(stages, form),
        scale_activation="relu" if form == "v0.8" else "softplus",
        spread_activation="leaky_relu" if form == "v0.8" else "linear",
        scale_factor=SCALE_FACTORS[form],
    )


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


def _backbone_state(stages: Mapping[str, Instance]) -> dict[str, Tensor]:
    state = {}
    for name, module in _named_modules(stages).items():
        for key, tensor in module.tensors.items():
            state[f"{PREFIX}{name}.{key}"] = tensor.float() if tensor.is_floating_point() else tensor
        if module.kind.name == "BatchNorm2d":  # files of PyTorch before 0.4.1 do not count
            state.setdefault(f"{PREFIX}{name}.num_batches_tracked", torch.zeros((), dtype=torch.int64))
    return state


def _load(network: PoseNetwork, state: Mapping[str, Tensor]) -> None:
    """Give the network the file's tensors, after naming what is missing, too much, or of another shape."""
    own = network.state_dict()
    for key, wanted in own.items():
        name = key.removeprefix(PREFIX)
        if key not in state:
            raise GraphposeError(f"it lacks '{name}', which a {network.config.backbone} has")
        if state[key].shape != wanted.shape:
            raise GraphposeError(
                f"its '{name}' is {tuple(state[key].shape)} where a {network.config.backbone} has {tuple(wanted.shape)}"
            )
    if surplus := state.keys() - own.keys():
        raise GraphposeError(f"it has '{min(surplus).removeprefix(PREFIX)}', which a {network.config.backbone} has not")
    network.load_state_dict({key: value.contiguous() for key, value in state.items()}, assign=True)


def _check_convolutions(network: PoseNetwork, stages: Mapping[str, Instance]) -> None:
    """Refuse a file whose convolutions have other strides, dilations or groups than the network's."""
    theirs = _named_modules(stages)
    for name, conv in network.backbone.features.model.named_modules():
        if not isinstance(conv, nn.Conv2d) or name not in theirs:
            continue
        for setting in ("kernel_size", "stride", "padding", "dilation", "groups"):
            value, own = theirs[name].state.get(setting), getattr(conv, setting)
            if value is not None and value != own:
                raise GraphposeError(
                    f"its convolution '{name}' has {setting} {value} where a {network.config.backbone} with "
                    f"stem_pool={network.config.stem_pool} and dilate={network.config.dilate} has {own}"
                )


@dataclasses.dataclass
class _Head:
    """A head in the order of :class:`~graphpose.fields.spec.PIF` or PAF.

    Attributes:
        weight: (N · channels · u², C, 1, 1).
        bias: (N · channels · u²).
        fields: N.
        upsample: u.
        meta: the attributes of its description in the file, where it has one.
    """

    weight: Tensor
    bias: Tensor
    fields: int
    upsample: int
    meta: Mapping[str, Any]


def _head_name(module: Instance, name: str) -> str:
    return str(_meta(module).get("name") or module.state.get("shortname") or name)


def _meta(module: Instance) -> Mapping[str, Any]:
    meta = module.state.get("meta")
    return meta.state if isinstance(meta, Instance) else {}


def _head_kind(module: Instance) -> str | None:
    """ "pif" or "paf" for the sparse heads that have one each; None for others, such as the dense associations."""
    return {"pif": "pif", "pifs17": "pif", "cif": "pif", "paf": "paf", "paf19": "paf", "pafs": "paf", "caf": "paf"}.get(
        _head_name(module, "")
    )


def _separate_head(module: Instance, kind: str) -> _Head:
    """A head of v0.8, with a convolution for each quantity."""
    name = _head_name(module, kind)
    if module.module("class_convs") is None:
        raise GraphposeError(
            f"head '{name}' is a {module.kind} and lacks 'class_convs'; CompositeField of v0.8 is read"
        )
    ends = 1 if kind == "pif" else 2
    upsample = 2 ** int(module.state.get("_quad", module.state.get("quad", 0)))
    dilation = float(module.state.get("dilation", 1))
    confidence = _conv(module, "class_convs", 0, name)
    N = confidence[0].shape[0] // upsample**2
    parts = [_rows(confidence, N, 1, upsample, name)]
    for end in range(ends):
        offset = _rows(_conv(module, "reg_convs", end, name), N, 2, upsample, name)
        parts.append((offset[0] * dilation, offset[1] * dilation))  # in v0.8 a field may be in cells of other size
        parts.append(_rows(_conv(module, "reg_spreads", end, name), N, 1, upsample, name))
    if kind == "pif":
        parts.append(_rows(_conv(module, "scale_convs", 0, name), N, 1, upsample, name))
    weight = torch.cat([part[0] for part in parts], 1).flatten(0, 2)[..., None, None]
    bias = torch.cat([part[1] for part in parts], 1).flatten()
    return _checked(weight, bias, N, upsample, {}, name)


def _joint_head(module: Instance, kind: str) -> _Head:
    """A head of 0.11 to 0.13, with one convolution."""
    name = _head_name(module, kind)
    if module.kind.name not in ROWS:
        raise GraphposeError(f"head '{name}' is a {module.kind}; {', '.join(ROWS)} are read")
    meta = _meta(module)
    offsets = module.state.get("vector_offsets", meta.get("vector_offsets"))
    if offsets is not None and not all(offsets):
        raise GraphposeError(f"head '{name}' has vectors that do not start at their cell; offsets are read")
    count, order = ROWS[module.kind.name][kind]
    upsample = int(meta.get("upsample_stride", module.state.get("upsample_stride", 1)))
    conv = module.module("conv")
    weight, bias = _weights(conv, f"head '{name}'")
    N, rest = divmod(weight.shape[0], count * upsample**2)
    if rest:
        raise GraphposeError(
            f"head '{name}' has {weight.shape[0]} rows, which are no {count} components at sub-pixel factor {upsample}"
        )
    rows = list(order)
    weight, bias = _rows((weight, bias), N, count, upsample, name)
    return _checked(weight[:, rows].flatten(0, 2)[..., None, None], bias[:, rows].flatten(), N, upsample, meta, name)


def _conv(module: Instance, group: str, index: int, name: str) -> tuple[Tensor, Tensor]:
    convs = module.module(group)
    conv = convs.module(str(index)) if isinstance(convs, Instance) else None
    if conv is None:
        raise GraphposeError(f"head '{name}' lacks '{group}.{index}'")
    return _weights(conv, f"head '{name}', {group}.{index}")


def _weights(conv: Any, where: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a 1×1 convolution."""
    tensors = conv.tensors if isinstance(conv, Instance) else {}
    if "weight" not in tensors or "bias" not in tensors:
        raise GraphposeError(f"{where} lacks a convolution with weight and bias")
    weight, bias = tensors["weight"].float(), tensors["bias"].float()
    if weight.dim() != 4 or weight.shape[2:] != (1, 1) or bias.shape != weight.shape[:1]:
        raise GraphposeError(f"{where} has a convolution of shape {tuple(weight.shape)}; 1×1 is read")
    return weight, bias


def _rows(conv: tuple[Tensor, Tensor], N: int, count: int, upsample: int, name: str) -> tuple[Tensor, Tensor]:
    """(N, count, u², C) and (N, count, u²) of a convolution's weight and bias."""
    weight, bias = conv
    if weight.shape[0] != N * count * upsample**2:
        raise GraphposeError(
            f"head '{name}' has {weight.shape[0]} rows where {N} fields need {N * count * upsample**2}"
        )
    return weight.reshape(N, count, upsample**2, -1), bias.reshape(N, count, upsample**2)


def _checked(weight: Tensor, bias: Tensor, N: int, upsample: int, meta: Mapping[str, Any], name: str) -> _Head:
    if upsample not in (1, 2):
        raise GraphposeError(
            f"head '{name}' has the sub-pixel factor {upsample}, whose cells lie elsewhere; 1 and 2 are read"
        )
    return _Head(weight, bias, N, upsample, meta)


def _skeleton(pif: _Head, paf: _Head) -> Skeleton:
    """The skeleton of the heads: a built-in one where keypoints, limbs and sigmas are the same."""
    keypoints = pif.meta.get("keypoints") or COCO.keypoints  # v0.8 knew no other
    limbs = paf.meta.get("skeleton")
    limbs = COCO.limbs if limbs is None else tuple((int(a) - 1, int(b) - 1) for a, b in limbs)
    sigmas = pif.meta.get("sigmas") or (COCO.sigmas if not pif.meta else (DEFAULT_SIGMA,) * len(keypoints))
    skeleton = Skeleton(str(pif.meta.get("dataset") or "coco"), tuple(keypoints), tuple(limbs), tuple(sigmas))
    if (pif.fields, paf.fields) != (skeleton.num_keypoints, skeleton.num_limbs):
        raise GraphposeError(
            f"its heads have {pif.fields} and {paf.fields} fields where its skeleton has {skeleton.num_keypoints} "
            f"keypoints and {skeleton.num_limbs} limbs"
        )
    for known in SKELETONS.values():
        if (known.keypoints, known.limbs, known.sigmas) == (skeleton.keypoints, skeleton.limbs, skeleton.sigmas):
            return known
    return skeleton


# The order of channels that the conversion writes.
assert [channel.name for channel in PIF] == ["CONFIDENCE", "X", "Y", "SPREAD", "SCALE"]
assert [channel.name for channel in PAF] == ["CONFIDENCE", "X1", "Y1", "SPREAD1", "X2", "Y2", "SPREAD2"]
