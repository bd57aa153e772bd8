"""A small network on rendered scenes, from scratch; what run.py trains when nothing is named.

Data: 3,500 rendered training scenes and 200 held-out ones; nothing is downloaded.
Hours: minutes on two CPU cores.
Score: README.md has what a run printed.

    python experiments/run.py
"""

from __future__ import annotations

from typing import Any

from experiments.configs.defaults import GROUPS

CONFIG: dict[str, Any] = {
    "data": "demo",
    "image_size": 160,
    "long_edge": None,
    "backbone": "regnetx_002",
    "stem_pool": True,
    "upsample": 4,
    "epochs": 5,
    "demo_train_scenes": 3500,
    "batch_size": 8,
    "cache": True,
    "evaluation_batch_size": 16,
    "test_flip": True,
    "workers": 0,  # on two cores a worker costs the two threads that train more than it brings
    "optimizer": "adamw",
    "learning_rate": 4e-3,
    "weight_decay": 0.02,
    "schedule": "cosine",
    "warmup_epochs": 0.1,
    "frozen_backbone_epochs": 0,
    "freeze_batch_norm": False,
    "ema_decay": 0.99,
    "evaluate_every": 5,
    # a network this young loses more by misplaced keypoints than by wrong limbs
    "loss": GROUPS["loss"] | {"regression_loss": "laplace", "pif_confidence": 50.0, "pif_offset": 4.0},
    # its offsets are less exact, and its confidences lower, than the default thresholds expect
    "decoder": GROUPS["decoder"]
    | {
        "keypoint_threshold": 0.05,
        "limb_threshold": 0.05,
        "peak_threshold": 0.02,
        "radius": 1.5,
        "limb_radius": 4.0,
        "min_limb_weight": 0.25,
        "min_split_weight": 100.0,
        "min_bridge_share": 0.3,
        "min_score": 0.02,
    },
    "augment": GROUPS["augment"]
    | {"long_edge": 160, "scale": [0.85, 1.2], "rotation": 10.0, "colour": 0.5, "degrade": 0.0},
}
