"""People in photographs: several sets with different labels, ImageNet trunk, small images, CPUs.

Data: the local photographs of COCO, eight times each, and Leeds Sports Pose Extended, which labels 14 joints of one
person an image; a teacher's labels of the face where there are any. Images whose sides may be exchanged are left out.
Hours: an epoch of 7,500 images takes a quarter of an hour on one core in bfloat16, and this needs many; docs/people.md
has what was trained so far.
Score: docs/people.md.

    GRAPHPOSE_DATA=/data/sets python experiments/run.py with photographs pretrained=WEIGHTS

WEIGHTS is a file of a ResNet-50's ImageNet weights (True for timm's), or a network to go on from (``pretrained=`` takes
the shipped one, too). In short trials of 1,280 images at 129 px, one seed each, the mean loss of the last 640 was 15.4
with frozen batch norms, 15.9 with them and a learning rate of 2e-3, and 14.8 with batch norms that learn.
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
    "learning_rate": 6e-4,
    "weight_decay": 0.02,
    "schedule": "cosine",
    "epochs": 20,
    "evaluate_every": 5,
    "warmup_epochs": 0.1,
    "frozen_backbone_epochs": 0,
    "freeze_batch_norm": False,
    "ema_decay": 0.998,
    "crowd": GROUPS["crowd"] | {"mosaic": 0.15, "paste": 0.1},
    "loss": demo.CONFIG["loss"],
    "decoder": demo.CONFIG["decoder"],
    "augment": GROUPS["augment"]
    | {"long_edge": 161, "scale": [0.7, 1.4], "rotation": 30.0, "colour": 0.5, "degrade": 0.0},
}
