"""DGCN on COCO from a published PifPaf baseline: its trunk and heads, fresh DGCMs.

Data: COCO train2017 and val2017, and the baseline's checkpoint, which ``graphpose import`` makes.
Hours: a tenth of ``coco``'s epochs; not run here.
Score: it begins with the baseline's AP, since a DGCM begins as the identity: 0.626 for ResNet-50, 0.657 for 101, 0.674
for 152, 0.638 for ResNeXt-50. The paper's DGCNs, which began from ImageNet and trained for 100 epochs, have 0.646,
0.673, 0.688 and 0.651. What ten epochs from a baseline give is not known; compare with ``adjacency=none``, which trains
the baseline as much longer without graphs.

    graphpose import pifpaf-resnet50 --out baseline.pt
    python experiments/run.py with coco_from_pifpaf data_root=/data/sets

    graphpose import pifpaf-resnext50 --out b.pt      # likewise pifpaf-resnet101, pifpaf-resnet152
    python experiments/run.py with coco_from_pifpaf backbone=resnext50_32x4d pretrained=b.pt data_root=/data/sets
"""

from __future__ import annotations

from typing import Any

from experiments.configs import coco

CONFIG: dict[str, Any] = coco.CONFIG | {
    "pretrained": "baseline.pt",
    "epochs": 10,
    "milestones": [7, 9],
    # the rate at which the old part ended its own training, while the new one learns as in the paper
    "baseline_learning_rate_factor": 0.1,
    # the baseline's own, so that its spreads stay what they are; the paper's loss is smooth-L1
    "loss": coco.CONFIG["loss"] | {"regression_loss": "laplace"},
    # of the fields that it begins with, as in the imported checkpoint (docs/openpifpaf.md)
    "decoder": coco.CONFIG["decoder"]
    | {"full_limb_weight": 9.0, "min_limb_weight": 0.75, "min_split_weight": 2.25, "use_spread": True},
}
