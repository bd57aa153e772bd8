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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.openpifpaf.heads import Head, head_kind, head_name, read_head
from graphpose.openpifpaf.pickled_objects import Instance
from graphpose.openpifpaf.resnets import PREFIX, check_convolutions, find_stages, trunk_settings, trunk_state
from graphpose.openpifpaf.unpickle import load_pickle
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


def convert(content: object) -> Imported:
    """As :func:`import_checkpoint`, from the content that :func:`~graphpose.openpifpaf.unpickle.load_pickle` gave."""
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, Instance):
        raise GraphposeError("it is no OpenPifPaf checkpoint: a dictionary with the network under 'model' is expected")
    base = model.part("base_net", "the network")
    heads = model.module("head_nets") or model.module("_head_nets")
    if not isinstance(heads, Instance):
        raise GraphposeError(f"the network ({model.kind}) lacks 'head_nets'")
    stages = find_stages(base)
    form = "v0.8" if base.module("net") is not None else "0.13"
    found: dict[str, Head] = {}
    left_out = []
    for name, module in heads.children.items():
        kind = head_kind(module)
        if kind is None or kind in found:
            left_out.append(head_name(module, name))
        else:
            found[kind] = read_head(module, form, kind)
    for kind, theirs in (("pif", "pif or cif"), ("paf", "paf or caf")):
        if kind not in found:
            raise GraphposeError(f"the network has no {theirs} head; its heads are {', '.join(left_out) or 'none'}")
    skeleton = _skeleton(found["pif"], found["paf"])
    if found["pif"].upsample != found["paf"].upsample:
        raise GraphposeError(
            f"its heads differ in their sub-pixel factor: {found['pif'].upsample}, {found['paf'].upsample}"
        )
    config = PoseNetworkConfig(
        skeleton=skeleton,
        adjacency="none",
        upsample=found["pif"].upsample,
        scale_activation="relu" if form == "v0.8" else "softplus",
        spread_activation="leaky_relu" if form == "v0.8" else "linear",
        scale_factor=SCALE_FACTORS[form],
        **trunk_settings(stages, form),
    )
    with torch.device("meta"):  # the weights are those of the file; no second network is made
        network = PoseNetwork(config)
    state = trunk_state(stages)
    for kind, head in found.items():
        state[f"{kind}_head.conv.weight"] = head.weight
        state[f"{kind}_head.conv.bias"] = head.bias
    _load(network, state)
    check_convolutions(network, stages)
    epoch = content.get("epoch") if isinstance(content, dict) else None
    return Imported(network.eval(), dict(DECODERS[form]), form, epoch if isinstance(epoch, int) else None, left_out)


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


def _skeleton(pif: Head, paf: Head) -> Skeleton:
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
