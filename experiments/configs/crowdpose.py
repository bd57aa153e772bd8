"""DGCN-ResNet50 on CrowdPose (Table 5).

Data: CrowdPose's own files in one folder. The paper does not state its split; here it is train and test.
Hours: not run here. The paper states neither schedule nor hours for CrowdPose; the schedule is COCO's.
Score: AP 0.591, of the baseline (``with crowdpose adjacency=none``) 0.563, as printed in the paper.

    python experiments/run.py with crowdpose data_root=/data/sets
"""

from __future__ import annotations

from typing import Any

from experiments.configs.defaults import PAPER

CONFIG: dict[str, Any] = PAPER | {
    "data": "crowdpose",
    "backbone": "resnet50",
    "pretrained": True,
    "train_annotations": "crowdpose/crowdpose_train.json",
    "train_images": "crowdpose/images",
    "val_annotations": "crowdpose/crowdpose_test.json",
    "val_images": "crowdpose/images",
}
