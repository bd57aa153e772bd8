"""Heads of OpenPifPaf → rows of a :class:`~graphpose.nn.heads.FieldHead`.

A head of v0.8 has a convolution for each quantity, one of 0.11 to 0.13 a single convolution whose rows are ordered
field · component · u².

Source: OpenPifPaf, ``network/heads.py`` (``CompositeField``, ``CompositeField3``, ``CompositeField4``) of v0.8, 0.12
and 0.13.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.fields.spec import PAF, PIF
from graphpose.openpifpaf.pickled_objects import Instance

# Components of a field, and which of them are our channels. CompositeField4 has (spread, confidence, offsets, scales)
# with one spread for both ends of a limb, CompositeField3 (confidence, offsets, spreads, scales) with one for each.
ROWS = {
    "CompositeField4": {"pif": (5, (1, 2, 3, 0, 4)), "paf": (8, (1, 2, 3, 0, 4, 5, 0))},
    "CompositeField3": {"pif": (5, (0, 1, 2, 3, 4)), "paf": (9, (0, 1, 2, 5, 3, 4, 6))},
}


@dataclasses.dataclass
class Head:
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


def head_name(module: Instance, name: str) -> str:
    """What a head calls itself; ``name`` where it says nothing."""
    return str(_meta(module).get("name") or module.state.get("shortname") or name)


def _meta(module: Instance) -> Mapping[str, Any]:
    meta = module.state.get("meta")
    return meta.state if isinstance(meta, Instance) else {}


def head_kind(module: Instance) -> str | None:
    """ "pif" or "paf" for the sparse heads that have one each; None for others, such as the dense associations."""
    return {"pif": "pif", "pifs17": "pif", "cif": "pif", "paf": "paf", "paf19": "paf", "pafs": "paf", "caf": "paf"}.get(
        head_name(module, "")
    )


def read_head(module: Instance, form: str, kind: str) -> Head:
    """A head's rows.

    Args:
        module: of the file.
        form: "v0.8" or "0.13".
        kind: "pif" or "paf".

    Raises:
        GraphposeError: it is of another kind, or a part is missing.
    """
    return (_separate_head if form == "v0.8" else _joint_head)(module, kind)


def _separate_head(module: Instance, kind: str) -> Head:
    """A head of v0.8, with a convolution for each quantity."""
    name = head_name(module, kind)
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


def _joint_head(module: Instance, kind: str) -> Head:
    """A head of 0.11 to 0.13, with one convolution."""
    name = head_name(module, kind)
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


def _weights(conv: object, where: str) -> tuple[Tensor, Tensor]:
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


def _checked(weight: Tensor, bias: Tensor, N: int, upsample: int, meta: Mapping[str, Any], name: str) -> Head:
    if upsample not in (1, 2):
        raise GraphposeError(
            f"head '{name}' has the sub-pixel factor {upsample}, whose cells lie elsewhere; 1 and 2 are read"
        )
    return Head(weight, bias, N, upsample, meta)


# The order of channels that the conversion writes.
assert [channel.name for channel in PIF] == ["CONFIDENCE", "X", "Y", "SPREAD", "SCALE"]
assert [channel.name for channel in PAF] == ["CONFIDENCE", "X1", "Y1", "SPREAD1", "X2", "Y2", "SPREAD2"]
