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

CONFIG: dict[str, Any] = photographs.CONFIG | {
    "given_features": True,
    "image_size": 160,  # sizes are multiples of the features' stride
    "long_edge": 192,
    "evaluation_batch_size": 16,
    "upsample": 2,
    "epochs": 8,
    "evaluate_every": 8,
    "learning_rate": 2e-3,  # nothing that is pretrained learns
    "contact_sheet_images": 0,  # there are no images
    "augment": photographs.CONFIG["augment"] | {"long_edge": 160},
}
