"""Table 4: parameters, counted without training."""

from __future__ import annotations

from typing import Any

import torch

from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork

# Name, backbone, strides of the DGCN heads, MB of parameters.
TABLE_4 = (
    ("baseline-50", "resnet50", (), 96),
    ("DGCN-50", "resnet50", (16,), 102),
    ("DGCN-50", "resnet50", (16, 8), 121),
    ("DGCN-50", "resnet50", (16, 8, 4), 127),
    ("baseline-101", "resnet101", (), 169),
    ("DGCN-101", "resnet101", (16,), 174),
    ("baseline-152", "resnet152", (), 229),
    ("DGCN-152", "resnet152", (16,), 234),
)


def parameter_mib(backbone: str, strides: tuple[int, ...]) -> float:
    """MiB of float32 parameters of a network with DGCN heads at ``strides``, or of the baseline if there are none."""
    config = (
        PoseNetworkConfig(backbone=backbone, strides=strides)
        if strides
        else PoseNetworkConfig(backbone=backbone, adjacency="none")
    )
    with torch.device("meta"):  # shapes are enough
        network = PoseNetwork(config)
    return sum(parameter.numel() for parameter in network.parameters()) * 4 / 2**20


def parameters() -> list[dict[str, Any]]:
    """Table 4: one row per network with the paper's figure and ours."""
    return [
        {
            "name": name,
            "heads": len(strides),
            "paper_mib": paper,
            "ours_mib": round(parameter_mib(backbone, strides), 2),
        }
        for name, backbone, strides, paper in TABLE_4
    ]


def show_parameters(rows: list[dict[str, Any]]) -> str:
    """Table 4 as text."""
    lines = [f"{'name':12}  {'heads':>5}  {'paper MiB':>9}  {'ours MiB':>8}"]
    lines += [f"{row['name']:12}  {row['heads']:5}  {row['paper_mib']:9}  {row['ours_mib']:8.1f}" for row in rows]
    return "\n".join(lines)
