"""Named configurations of CrowdPose and MPII; COCO's are in :mod:`configurations`.

Neither was run by us, so their hours and our scores are not known; the paper gives no hours either.
"""

from __future__ import annotations

from typing import Any

from experiments.configs.settings import GROUPS, PAPER

# Table 5: DGCN-ResNet50 on CrowdPose, AP 0.591 (baseline 0.563, `with crowdpose adjacency=none`).
# Hours: not run by us. The paper states neither schedule nor hours for CrowdPose, so this is COCO's schedule, nor the
# split it trains and evaluates on; here it is train and test. The files are CrowdPose's own, in one folder.
#     python experiments/run.py with crowdpose data_root=/data/sets
CROWDPOSE: dict[str, Any] = PAPER | {
    "data": "crowdpose",
    "backbone": "resnet50",
    "pretrained": True,
    "train_annotations": "crowdpose/crowdpose_train.json",
    "train_images": "crowdpose/images",
    "val_annotations": "crowdpose/crowdpose_test.json",
    "val_images": "crowdpose/images",
}

# Table 8: DGCN-50 on MPII, mean 81.2 (head 95.6, shoulder 92.5, elbow 83.1, wrist 76.5, hip 81.5, knee 73.1, ankle
# 65.1). The table calls it PCKh, but the rows it is compared with are mAP of the multi-person protocol on the test set,
# whose labels are not public: `mAP` and `AP_*` of the validation set are the nearest that can be computed here.
# Hours: not run by us. The paper states neither its MPII schedule nor its hours, so this is COCO's schedule.
# The files are HRNet's split of the official release (train.json, valid.json); the official .mat works as well.
#     python experiments/run.py with mpii data_root=/data/sets
MPII: dict[str, Any] = PAPER | {
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
