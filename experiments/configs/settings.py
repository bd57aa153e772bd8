"""Configurations: the keys of ``experiments/run.py``, their defaults, the named configurations, the settings in them.

Keys of the network and of training are flat (``adjacency=dynamic epochs=3``); those of the loss, the augmentation and
the decoder are grouped (``loss.pif_offset=2 augment.rotation=10 decoder.min_score=0.2``).
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from typing import Any

from graphpose.data.config import AugmentConfig
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig, FusionConfig
from graphpose.nn.config import LossConfig, PoseNetworkConfig
from graphpose.skeleton import COCO, Skeleton
from graphpose.training.config import TrainConfig


def _fields(dataclass: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Default values of a dataclass of settings, tuples as lists (Sacred writes JSON)."""
    values = {f.name: getattr(dataclass, f.name) for f in dataclasses.fields(dataclass) if f.name not in leave_out}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


NETWORK = _fields(PoseNetworkConfig(skeleton=COCO), leave_out=("skeleton",))
TRAINING = _fields(TrainConfig())
DATA: dict[str, Any] = {
    "data": "demo",  # "demo" renders scenes; "coco", "crowdpose" and "mpii" read files and score by their own rules
    "image_size": 401,  # pixels; training crops are squares of this size
    "long_edge": 641,  # pixels; evaluation resizes the long edge to it; null keeps images as they are
    "batch_size": 8,
    "evaluation_batch_size": 1,
    "workers": 2,  # loader processes
    "cache": False,  # keep the training images in memory
    "device": "auto",  # "auto" takes CUDA where there is one
    "demo_train_scenes": 12000,  # "demo" only
    "demo_val_scenes": 200,
    "demo_max_persons": 6,
    "train_annotations": "",  # all but "demo": annotation files and image folders, relative to data_root
    "train_images": "",
    "val_annotations": "",
    "val_images": "",
    "data_root": os.environ.get("GRAPHPOSE_DATA", ""),
    "image_ids": [],  # train and evaluate on these images of the training set only; empty for all
    "max_detections": 20,  # poses per image that count in the metric
    "evaluator": "pycocotools",  # or "fast" (faster-coco-eval)
    "test_flip": False,  # fuse the fields of the mirror image before decoding
    "test_scales": [1.0],  # and those of other sizes, relative to long_edge
    "contact_sheet_images": 12,
}
GROUPS: dict[str, dict[str, Any]] = {
    "loss": _fields(LossConfig()),
    "augment": _fields(AugmentConfig()),
    "decoder": {"join_fragments": True} | _fields(DecoderConfig()),
}

PAPER: dict[str, Any] = NETWORK | TRAINING | DATA | GROUPS

# The paper's settings on COCO. Table 6: DGCN-50, AP 0.646 on val2017 (baseline 0.626, `with coco adjacency=none`).
# The paper trained on two V100; we have not run this configuration, so we state no hours of our own.
#     python experiments/run.py with coco data_root=/data/sets
COCO_FULL: dict[str, Any] = PAPER | {
    "data": "coco",
    "backbone": "resnet50",
    "pretrained": True,
    "train_annotations": "coco/annotations/person_keypoints_train2017.json",
    "train_images": "coco/train2017",
    "val_annotations": "coco/annotations/person_keypoints_val2017.json",
    "val_images": "coco/val2017",
}

# The same on the photographs that are at hand: 280 for training, 101 for evaluation. No row of the paper.
#     GRAPHPOSE_DATA=… python experiments/run.py with coco_local
COCO_LOCAL: dict[str, Any] = COCO_FULL | {
    "train_annotations": "coco/annotations/person_keypoints_train2017_local.json",
    "val_annotations": "coco/annotations/person_keypoints_val2017_local.json",
}

# A small network on rendered scenes, from scratch, on two CPU cores; README.md says what it printed.
#     python experiments/run.py
DEMO: dict[str, Any] = {
    "data": "demo",
    "image_size": 160,
    "long_edge": None,
    "backbone": "regnetx_002",
    "stem_pool": True,
    "upsample": 4,
    "epochs": 5,
    "demo_train_scenes": 3500,
    "batch_size": 8,
    "cache": True,
    "evaluation_batch_size": 16,
    "test_flip": True,
    "workers": 0,  # on two cores a worker costs the two threads that train more than it brings
    "optimizer": "adamw",
    "learning_rate": 4e-3,
    "weight_decay": 0.02,
    "schedule": "cosine",
    "warmup_epochs": 0.1,
    "frozen_backbone_epochs": 0,
    "freeze_batch_norm": False,
    "ema_decay": 0.99,
    "evaluate_every": 5,
    # Places, not limbs, are what a young network lacks: with the true PIF beside its own PAF one scored 0.91, the other
    # way round 0.58. That the PIF's larger weights help was not shown.
    "loss": GROUPS["loss"] | {"regression_loss": "laplace", "pif_confidence": 50.0, "pif_offset": 4.0},
    # A network this young points its offsets less exactly, and is less sure, than the default thresholds expect. Chosen
    # on 200 scenes that are neither trained nor evaluated on (DemoDataset seed 2**31 + 1), for one network like this;
    # limb_radius and min_split_weight came from 80 evaluation scenes, and the search kept them.
    "decoder": GROUPS["decoder"]
    | {
        "keypoint_threshold": 0.05,
        "limb_threshold": 0.05,
        "peak_threshold": 0.02,
        "radius": 1.5,
        "limb_radius": 4.0,
        "min_limb_weight": 0.25,
        "min_split_weight": 100.0,
        "min_bridge_share": 0.3,
        "min_score": 0.02,
    },
    "augment": GROUPS["augment"]
    | {"long_edge": 160, "scale": [0.85, 1.2], "rotation": 10.0, "colour": 0.5, "degrade": 0.0},
}

# Does the network learn real images at all? Trained and evaluated on the first eight photographs of the training set,
# the demo's network, from scratch. After 100, 200 and 300 of these epochs AP was 0.25, 0.91 and 1.00 without a graph,
# 0.29, 0.99 and 1.00 with the dynamic one (one seed each); 300 took 6 minutes on one core.
#     GRAPHPOSE_DATA=… python experiments/run.py with coco_eight adjacency=dynamic
COCO_EIGHT: dict[str, Any] = DEMO | {
    "data": "coco",
    "train_annotations": COCO_LOCAL["train_annotations"],
    "train_images": COCO_LOCAL["train_images"],
    "val_annotations": COCO_LOCAL["val_annotations"],
    "val_images": COCO_LOCAL["val_images"],
    "image_ids": [36, 49, 77, 86, 110, 113, 136, 151],
    "test_flip": False,
    "image_size": 321,
    "long_edge": 321,
    "batch_size": 4,
    "evaluation_batch_size": 4,
    "epochs": 500,
    "evaluate_every": 100,
    "warmup_epochs": 5,
    "weight_decay": 0.0,
    "augment": GROUPS["augment"]
    | {"long_edge": 321, "scale": [1.0, 1.0], "rotation": 0.0, "flip": 0.0, "colour": 0.0, "degrade": 0.0},
    "decoder": GROUPS["decoder"],
    "contact_sheet_images": 8,
}

DEFAULTS: dict[str, Any] = PAPER | DEMO


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that a run is built from."""

    network: PoseNetworkConfig
    train: TrainConfig
    loss: LossConfig
    augment: AugmentConfig
    decoder: dict[str, Any]
    data: dict[str, Any]


# What a key takes beside values of its default's type.
ALSO: dict[str, tuple[type, ...]] = {
    "pretrained": (str,),
    "statistics": (str,),
    "adjacency": (type(None),),  # `adjacency=None`, as typed
    "long_edge": (int, type(None)),
    "augment.long_edge": (type(None),),
    "test_scales": (int, float),
}
TYPE_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", list: "a list"}


def check_type(key: str, value: Any, usual: Any) -> None:
    """GraphposeError naming a key whose value, or whose list's, is of another type than its usual one."""

    def fits(value: Any, kind: type, also: tuple[type, ...] = ()) -> bool:
        kinds = {float: (int, float), list: (list, tuple)}.get(kind, (kind,)) + also
        return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))

    kind = type(usual)
    if not fits(value, kind, ALSO.get(key, ())):
        raise GraphposeError(f"{key}={value} must be {TYPE_NAMES.get(kind, 'as in print_config')}")
    if kind is list and usual and isinstance(value, (list, tuple)):
        item = type(usual[0])
        if not all(fits(one, item) for one in value):
            raise GraphposeError(f"{key}={value} must be a list, each of it {TYPE_NAMES[item]}")


def check_keys(config: Mapping[str, Any], known: Mapping[str, Any] = DEFAULTS, prefix: str = "") -> None:
    """Refuse keys that no part reads, and values of the wrong type.

    Raises:
        GraphposeError: names the key and the nearest valid ones, or what its value must be.
    """
    for key, value in config.items():
        if key == "seed" and not prefix:
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.5) or sorted(known)
            names = ", ".join(prefix + name for name in near)
            raise GraphposeError(f"unknown configuration key '{prefix}{key}'; did you mean {names}?")
        if isinstance(known[key], dict):
            if not isinstance(value, Mapping):
                raise GraphposeError(f"configuration key '{prefix}{key}' is a group; set {prefix}{key}.<name>=…")
            check_keys(value, known[key], f"{prefix}{key}.")
        else:
            check_type(prefix + key, value, known[key])


def build_settings(config: Mapping[str, Any], skeleton: Skeleton = COCO) -> Settings:
    """Settings from a flat configuration.

    Raises:
        GraphposeError: an unknown key, a value that is not among the choices, or a contradiction; names the keys.
    """
    check_keys(config)

    def build(dataclass: Any, values: Mapping[str, Any], **others: Any) -> Any:
        plain = {}
        for field in dataclasses.fields(dataclass):
            if field.name in values:
                value = values[field.name]
                plain[field.name] = tuple(value) if isinstance(value, (list, tuple)) else value
        return dataclass(**plain, **others)

    values = dict(config)
    values["adjacency"] = "none" if values["adjacency"] is None else values["adjacency"]  # `adjacency=None` as typed
    for key, choices in (("data", ("demo", "coco", "crowdpose", "mpii")), ("evaluator", ("pycocotools", "fast"))):
        if values[key] not in choices:
            raise GraphposeError(f"{key}='{values[key]}' must be one of {', '.join(choices)}")
    fusion_of(values)
    for key in ("image_size", "batch_size", "evaluation_batch_size", "demo_train_scenes", "demo_val_scenes"):
        if not isinstance(values[key], int) or values[key] < 1:
            raise GraphposeError(f"{key}={values[key]} must be a positive whole number")
    return Settings(
        network=build(PoseNetworkConfig, values, skeleton=skeleton),
        train=build(TrainConfig, values),
        loss=build(LossConfig, values["loss"]),
        augment=build(AugmentConfig, values["augment"]),
        decoder=dict(values["decoder"]),
        data={key: values[key] for key in DATA},
    )


def fusion_of(data: Mapping[str, Any]) -> FusionConfig:
    """The views that evaluation fuses."""
    scales = data["test_scales"]
    return FusionConfig(bool(data["test_flip"]), tuple(scales) if isinstance(scales, (list, tuple)) else (scales,))
