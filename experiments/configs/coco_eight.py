"""Does the network learn real images at all? The demo's network on eight photographs.

Data: the first eight of the local training photographs, for training and for evaluation.
Hours: 300 epochs took 6 minutes on one core.
Score: after 100, 200 and 300 epochs AP 0.29, 0.99 and 1.00 with the dynamic graph, 0.25, 0.91 and 1.00 without a graph
(one seed each).

    GRAPHPOSE_DATA=/data/sets python experiments/run.py with coco_eight adjacency=dynamic
"""

from __future__ import annotations

from typing import Any

from experiments.configs import coco_local, demo
from experiments.configs.defaults import GROUPS

CONFIG: dict[str, Any] = demo.CONFIG | {
    "data": "coco",
    "train_annotations": coco_local.CONFIG["train_annotations"],
    "train_images": coco_local.CONFIG["train_images"],
    "val_annotations": coco_local.CONFIG["val_annotations"],
    "val_images": coco_local.CONFIG["val_images"],
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
