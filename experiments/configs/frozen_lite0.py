"""The twin of `frozen` with a light trunk: EfficientNet-Lite0, 112 channels at stride 16.

Data: as photographs; a pass of 7,522 views is 0.2 GB.
Hours: see `frozen`; DGCMs and heads are smaller, too: 187 to 371 images a second.
Score: with one pass over 6,016 views 0.21 to 0.25 of the joints; `tables.py frozen_lite0` compares graphs on it
(docs/results.md).

    GRAPHPOSE_DATA=/data/sets python experiments/run.py with frozen_lite0 pretrained=WEIGHTS
"""

from __future__ import annotations

from typing import Any

from experiments.configs import frozen

CONFIG: dict[str, Any] = frozen.CONFIG | {"backbone": "tf_efficientnet_lite0", "stem_pool": False}
