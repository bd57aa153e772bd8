"""People in photographs: several sets with different labels, ImageNet trunk, small views, CPUs.

Data: the local photographs of COCO, eight times each, and Leeds Sports Pose Extended, which labels 14 joints of one
person an image; a teacher's labels of the face where there are any. Images whose sides may be exchanged are left out.
Of every image a view of 160 pixels is drawn in which the person is 50 to 260 pixels long, for COCO's persons are small
in their images and lspet's are not; six in ten are mosaics of up to nine images.
Hours: an epoch of 2,500 views takes 80 seconds of two cores in bfloat16 (32 views a second with ``compile=True``), and
this needs 60 and more.
Evaluated: at 513 pixels, images that are smaller as they are, and once more at 0.56 of that for large persons.
Score: AP 0.171 on the local photographs of COCO val after 375,000 such views, with mirror images and at a third size
(docs/people.md).

    GRAPHPOSE_DATA=/data/sets python experiments/run.py with photographs pretrained=WEIGHTS

WEIGHTS is a file of a ResNet-50's ImageNet weights (True for timm's), or a network to go on from (``pretrained=`` takes
the shipped one, too; of a network with another ``upsample`` trunk and graphs). In short trials of 1,280 images at 129
px, one seed each, the mean loss of the last 640 was 15.4 with frozen batch norms, 15.9 with them and a learning rate of
2e-3, and 14.8 with batch norms that learn.
"""

from __future__ import annotations

from typing import Any

from experiments.configs import coco_local, demo
from experiments.configs.defaults import GROUPS, PAPER

# What the configurations that build on this one leave as it is by default.
PLAIN: dict[str, Any] = {
    key: PAPER[key] for key in ("epoch_images", "cache", "frozen_stride", "enlarge", "test_scales", "test_merge")
}

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
    "image_size": 160,
    "long_edge": 513,
    "enlarge": False,
    "test_scales": [1.0, 0.56],
    "test_merge": "poses",
    "batch_size": 16,
    "evaluation_batch_size": 8,
    "workers": 0,
    "cache": True,
    "backbone": "resnet50",
    "pretrained": True,
    "stem_pool": True,
    "upsample": 2,
    "adjacency": "dynamic",
    "precision": "bfloat16",
    "optimizer": "adamw",
    "learning_rate": 6e-4,
    "weight_decay": 0.02,
    "schedule": "cosine",
    "epoch_images": 2500,
    "epochs": 60,
    "evaluate_every": 20,
    "warmup_epochs": 0.1,
    "frozen_backbone_epochs": 0,
    "frozen_stride": 4,
    "freeze_batch_norm": False,
    "ema_decay": 0.998,
    "crowd": GROUPS["crowd"] | {"mosaic": 0.6, "mosaic_side": 3, "paste": 0.1},
    "loss": demo.CONFIG["loss"],
    "decoder": demo.CONFIG["decoder"],
    "augment": GROUPS["augment"]
    | {
        "long_edge": 161,  # of images without a person
        "scale": [0.7, 1.4],
        "person_size": [50, 260],
        "rotation": 30.0,
        "colour": 0.5,
        "degrade": 0.0,
    },
}
