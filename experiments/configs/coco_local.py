"""The paper's settings on the few photographs of COCO that are at hand.

Data: 280 images of train2017 for training, 101 of val2017 for evaluation.
Hours: epochs are short; ``tables.py --minutes`` finds how many fit into a given time.
Score: no row of the paper; docs/results.md has what was measured.

    GRAPHPOSE_DATA=/data/sets python experiments/run.py with coco_local
"""

from __future__ import annotations

from typing import Any

from experiments.configs import coco

CONFIG: dict[str, Any] = coco.CONFIG | {
    "train_annotations": "coco/annotations/person_keypoints_train2017_local.json",
    "val_annotations": "coco/annotations/person_keypoints_val2017_local.json",
}
