"""DGCMs and heads on a frozen ImageNet trunk's features of photographs, which are computed once.

Data: as photographs; four passes of 7,522 views at 160 pixels are kept, 6 GB.
Hours: the features take 20 minutes of one core (26 views a second); then an epoch of 7,522 views takes one to two
minutes of one core (74 views a second with a dynamic graph, 143 without; `endtoend` makes 13).
Score: docs/results.md; `tables.py frozen` compares graphs on it.

    GRAPHPOSE_DATA=/data/sets python experiments/run.py with frozen pretrained=WEIGHTS
"""

from __future__ import annotations

from typing import Any

from experiments.configs import photographs
from experiments.configs.defaults import GROUPS

# How the networks of all studies learn and are evaluated, whatever `photographs` itself goes on to.
STUDY: dict[str, Any] = photographs.PLAIN | {
    "crowd": GROUPS["crowd"] | {"mosaic": 0.15, "paste": 0.1},
    "augment": GROUPS["augment"]
    | {"long_edge": 160, "scale": [0.7, 1.4], "rotation": 30.0, "colour": 0.5, "degrade": 0.0},
}

CONFIG: dict[str, Any] = photographs.CONFIG | STUDY | {
    "given_features": True,
    "image_size": 160,  # sizes are multiples of the features' stride
    "long_edge": 192,
    "evaluation_batch_size": 16,
    "upsample": 2,
    "epochs": 8,
    "evaluate_every": 8,
    "learning_rate": 2e-3,  # nothing that is pretrained learns
    "contact_sheet_images": 0,  # there are no images
}  # fmt: skip
