"""DGCN-50 on COCO with the paper's settings (Table 6).

Data: COCO train2017 and val2017.
Hours: the paper trained on two V100 and gives none; this configuration was not run here.
Score: AP 0.646 on val2017, of the baseline (``with coco adjacency=none``) 0.626, as printed in the paper.

    python experiments/run.py with coco data_root=/data/sets
"""

from __future__ import annotations

from typing import Any

from experiments.configs.defaults import PAPER

CONFIG: dict[str, Any] = PAPER | {
    "data": "coco",
    "backbone": "resnet50",
    "pretrained": True,
    "train_annotations": "coco/annotations/person_keypoints_train2017.json",
    "train_images": "coco/train2017",
    "val_annotations": "coco/annotations/person_keypoints_val2017.json",
    "val_images": "coco/val2017",
}
