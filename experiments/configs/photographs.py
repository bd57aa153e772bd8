"""People in photographs: several sets with different labels, ImageNet trunk, small images, CPUs.

Data: the local photographs of COCO, and Leeds Sports Pose Extended, which labels 14 joints of one person an image; a
teacher's labels of the face where there are any.
Score: no row of the paper; analysis/people.py scores a checkpoint on held-out images of both sets, with intervals.

    GRAPHPOSE_DATA=/data/sets python experiments/run.py with photographs
"""

from __future__ import annotations

from typing import Any

from experiments.configs import coco_local, demo
from experiments.configs.defaults import GROUPS, PAPER

CONFIG: dict[str, Any] = PAPER | {
    "data": "coco",
    "train_sets": [
        {
            "name": "coco",
            "annotations": coco_local.CONFIG["train_annotations"],
            "images": coco_local.CONFIG["train_images"],
            "weight": 8.0,
        },
        {
            "name": "lspet",
            "annotations": "lspet/lspet_train.json.gz",
            "images": "lspet/train",
            "pseudo_labels": "lspet/lspet_train_faces.json.gz",
            "excluded_ids": "lspet/lspet_train_faces.json.gz:suspect_swapped_labels",
        },
    ],
    "val_annotations": coco_local.CONFIG["val_annotations"],
    "val_images": coco_local.CONFIG["val_images"],
    "image_size": 161,
    "long_edge": 241,
    "batch_size": 16,
    "evaluation_batch_size": 8,
    "workers": 0,
    "backbone": "resnet50",
    "pretrained": True,
    "stem_pool": True,
    "upsample": 4,
    "adjacency": "dynamic",
    "precision": "bfloat16",
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.02,
    "schedule": "cosine",
    "epochs": 10,
    "evaluate_every": 5,
    "warmup_epochs": 0.1,
    "frozen_backbone_epochs": 0,
    "freeze_batch_norm": True,
    "ema_decay": 0.998,
    "loss": demo.CONFIG["loss"],
    "decoder": demo.CONFIG["decoder"],
    "augment": GROUPS["augment"]
    | {"long_edge": 161, "scale": [0.7, 1.4], "rotation": 30.0, "colour": 0.5, "degrade": 0.0},
}
