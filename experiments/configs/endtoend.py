"""Photographs with the trunk trained, fields at stride 8: the end-to-end twin of `frozen`.

Data: as photographs.
Hours: an epoch of 7,522 images takes 10 minutes of one core (13 images a second, 10 with a pyramid).
Score: after 6,016 views 0.38 to 0.39 of the joints; `tables.py endtoend` compares graphs on it (docs/results.md).

    GRAPHPOSE_DATA=/data/sets python experiments/run.py with endtoend pretrained=WEIGHTS
"""

from __future__ import annotations

from typing import Any

from experiments.configs import frozen, photographs

CONFIG: dict[str, Any] = photographs.CONFIG | frozen.STUDY | {
    "image_size": 160,
    "long_edge": 192,
    "upsample": 2,
    "epochs": 6,
    "evaluate_every": 6,
    "contact_sheet_images": 0,
}  # fmt: skip
