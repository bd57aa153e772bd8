"""DGCN-50 on MPII multi-person (Table 8).

Data: HRNet's split of the official release (train.json, valid.json); the official .mat works as well.
Hours: not run here. The paper states neither schedule nor hours for MPII; the schedule is COCO's.
Score: mean 81.2 (head 95.6, shoulder 92.5, elbow 83.1, wrist 76.5, hip 81.5, knee 73.1, ankle 65.1), as printed in the
paper. It calls them PCKh, but the rows beside them are mAP of the multi-person protocol on the test set, whose labels
are not public: ``mAP`` and ``AP_*`` of the validation set are the nearest that can be computed.

    python experiments/run.py with mpii data_root=/data/sets
"""

from __future__ import annotations

from typing import Any

from experiments.configs.defaults import GROUPS, PAPER

CONFIG: dict[str, Any] = PAPER | {
    "data": "mpii",
    "backbone": "resnet50",
    "pretrained": True,
    "train_annotations": "mpii/annot/train.json",
    "train_images": "mpii/images",
    "val_annotations": "mpii/annot/valid.json",
    "val_images": "mpii/images",
    # MPII's pose statistics are in head sizes, which the decoder does not read from the fields
    "decoder": GROUPS["decoder"] | {"join_fragments": False},
}
