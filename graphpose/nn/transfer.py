"""Weights of a network of one skeleton for a network of another.

The trunk knows nothing of keypoints and is taken whole. Heads and graph modules have channels of their own for each
keypoint and limb: those of keypoints that both skeletons name are taken, and those of limbs whose two ends are.

Heads whose fields have another stride begin anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from graphpose.data.matching import body_part
from graphpose.errors import GraphposeError
from graphpose.fields.spec import PAF, PIF
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.heads import FieldHead
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import Skeleton

# Channels of a limb as they are read from its other end.
REVERSED_PAF = [
    PAF.CONFIDENCE, PAF.X2, PAF.Y2, PAF.SPREAD2, PAF.X1, PAF.Y1, PAF.SPREAD1,
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Correspondence:
    """What two skeletons have in common.

    Attributes:
        source: the skeleton that there are weights of.
        target: the one that is to get them.
        keypoints: indices (in ``target``, in ``source``) of the keypoints that mean the same, ascending.
        limbs: (in ``target``, in ``source``, whether the ends are exchanged) of the limbs that join the same keypoints.
    """

    source: Skeleton
    target: Skeleton
    keypoints: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int, bool], ...]

    def lines(self) -> list[str]:
        """For people: what is taken over, and what begins anew."""
        target = self.target
        taken = [target.keypoints[k] for k, _ in self.keypoints]
        fresh = [name for name in target.keypoints if name not in taken]
        lines = [f"the trunk, {len(taken)} of {target.num_keypoints} keypoints and {len(self.limbs)} of "
                 f"{target.num_limbs} limbs of skeleton '{self.source.name}' are taken over"]  # fmt: skip
        if taken and fresh:
            lines.append(f"  taken: {', '.join(taken)}")
        if fresh:
            lines.append(f"  begin anew: {', '.join(fresh)}")
        return lines


def correspondence(source: Skeleton, target: Skeleton) -> Correspondence:
    """The keypoints of two skeletons that mean the same, and the limbs between them.

    Two keypoints mean the same where they have the same name, or where both names say the same side and part of a body
    (``RAnkle`` and ``right_ankle``) and no other keypoint of their skeletons does.
    """
    keypoints = {target.index(name): k for k, name in enumerate(source.keypoints) if name in target.keypoints}
    of_source, of_target = (_parts(skeleton) for skeleton in (source, target))
    for part, k in of_target.items():
        if part in of_source and k not in keypoints and of_source[part] not in keypoints.values():
            keypoints[k] = of_source[part]
    limbs = []
    for m, (a, b) in enumerate(target.limbs):
        if a in keypoints and b in keypoints:
            ends = keypoints[a], keypoints[b]
            if ends in source.limbs:
                limbs.append((m, source.limbs.index(ends), False))
            elif ends[::-1] in source.limbs:
                limbs.append((m, source.limbs.index(ends[::-1]), True))
    return Correspondence(source, target, tuple(sorted(keypoints.items())), tuple(limbs))


def _parts(skeleton: Skeleton) -> dict[tuple[str, str], int]:
    """Keypoints by the side and part that their names say; none of those that two keypoints say."""
    parts = [body_part(name) for name in skeleton.keypoints]
    return {part: k for k, part in enumerate(parts) if part is not None and parts.count(part) == 1}


@torch.no_grad()
def transfer(network: PoseNetwork, weights: Mapping[str, Tensor], source: Skeleton) -> Correspondence:
    """Give a network what it has in common with the weights of another skeleton.

    Taken are the trunk; the heads' channels of common keypoints and limbs; of the graph modules, where both have them,
    the channels of common keypoints and the relations W_d among these. All else stays as the network began: a keypoint
    that is new adds nothing to the features yet, and the non-local blocks, which mix all keypoints, begin as the
    identity.

    Args:
        network: of the new skeleton, with the settings of the network that ``weights`` are of; changed in place.
        weights: state dict of a network of ``source``.
        source: its skeleton.

    Returns:
        What was taken.

    Raises:
        GraphposeError: a weight is missing or has another shape than the settings would give it.
    """
    common = correspondence(source, network.spec.skeleton)
    own = network.state_dict()
    for name, tensor in own.items():
        part = name.split(".")[0]
        if part == "backbone":
            _require(name, weights, tensor.shape)
            tensor.copy_(weights[name])
        elif part == "pif_head":
            _copy_blocks(name, tensor, weights, [(k, old, False) for k, old in common.keypoints], common, limbs=False)
        elif part == "paf_head":
            _copy_blocks(name, tensor, weights, common.limbs, common, limbs=True)
        elif part in ("pif_pyramid", "paf_pyramid") and name in weights and common.keypoints:
            _copy_of_graph_module(name, tensor, weights[name], common, network.config.node_width)
    return common


def with_fresh_heads(weights: Mapping[str, Tensor], config: PoseNetworkConfig) -> dict[str, Tensor]:
    """Weights of a network whose heads begin anew, as their channels are others with another sub-pixel factor.

    Args:
        weights: state dict of a network.
        config: of that network, but for ``upsample``.

    Returns:
        The same tensors, and heads as a :class:`PoseNetwork` of ``config`` begins with.
    """
    kinds = (("pif_head", config.skeleton.num_keypoints, PIF), ("paf_head", config.skeleton.num_limbs, PAF))
    out = dict(weights)
    for name, fields, channels in kinds:
        head = FieldHead(weights[f"{name}.conv.weight"].shape[1], fields, channels, config)
        out |= {f"{name}.{key}": tensor for key, tensor in head.state_dict().items()}
    return out


def _require(name: str, weights: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
    found = weights.get(name)
    if found is None or tuple(found.shape) != tuple(shape):
        raise GraphposeError(
            f"weight '{name}' is {'missing' if found is None else tuple(found.shape)} where {tuple(shape)} is needed; "
            "the weights are of a network with other settings"
        )
    return found


def _copy_blocks(
    name: str,
    tensor: Tensor,
    weights: Mapping[str, Tensor],
    pairs: Sequence[tuple[int, int, bool]],
    common: Correspondence,
    *,
    limbs: bool,
) -> None:
    """Channels of a head: (N · channels · u², …), those of a keypoint or limb in a block."""
    count = common.target.num_limbs if limbs else common.target.num_keypoints
    old_count = common.source.num_limbs if limbs else common.source.num_keypoints
    block = tensor.shape[0] // count
    old = _require(name, weights, (old_count * block, *tensor.shape[1:]))
    new, old = tensor.unflatten(0, (count, block)), old.unflatten(0, (old_count, block))
    for to, of, exchanged in pairs:
        values = old[of]
        if exchanged:
            values = values.unflatten(0, (len(PAF), -1))[REVERSED_PAF].flatten(0, 1)
        new[to] = values


def _copy_of_graph_module(name: str, tensor: Tensor, old: Tensor, common: Correspondence, d: int) -> None:
    """A tensor of a DGCM or of a way down between two, by the axes on which its keypoints lie; d is the node width."""
    if ".non_local." in name:
        return
    target, source = (torch.tensor(index) for index in zip(*common.keypoints, strict=True))
    K, old_K = common.target.num_keypoints, common.source.num_keypoints
    if name.endswith(".W_d"):  # (K, K)
        tensor[target[:, None], target] = old[source[:, None], source]
    elif name.endswith(".expand.weight"):  # (C, K · d, 3, 3)
        tensor.unflatten(1, (K, d))[:, target] = old.unflatten(1, (old_K, d))[:, source]
    elif _by_keypoint(name):  # (K · d, …) or (K, …)
        width = tensor.shape[0] // K
        tensor.unflatten(0, (K, width))[target] = old.unflatten(0, (old_K, width))[source]
    elif tensor.shape == (K * d, K * d) and old.shape == (old_K * d, old_K * d) and d < K:  # of KeypointConv
        theirs = old.view(old_K, d, old_K, d).transpose(1, 2)  # (K, K, d, d)
        tensor.view(K, d, K, d).transpose(1, 2)[target[:, None], target] = theirs[source[:, None], source]
    elif tensor.shape == old.shape:  # nothing of it belongs to a keypoint
        tensor.copy_(old)


def _by_keypoint(name: str) -> bool:
    """Whether the first axis of a DGCM's tensor has the channels of the keypoints: those of the reduction, its batch
    norm, the confidence, and the batch norms of the graph layers do; W, the bias of the features and counters do not.
    """
    _, dgcm, kind = name.partition(".modules_at.")
    kind = kind.partition(".")[2]  # behind the stride
    counter = name.endswith(".num_batches_tracked")
    return bool(dgcm) and not counter and (kind.startswith(("reduce.", "norm.", "read.")) or ".norm." in kind)
