"""Table 4: parameters, counted without training."""

from __future__ import annotations

from typing import Any

import torch

from graphpose.nn.config import GRAPH_LAYERS, PoseNetworkConfig
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

NODE_WIDTHS = (1, 2, 4)  # d of the rows of layers; 1 is the paper


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


def layer_parameters() -> list[dict[str, Any]]:
    """One row per kind of graph layer and node width: parameters of DGCN-50 with one head (Table 4: 102 MiB)."""
    paper = next(mib for name, _, strides, mib in TABLE_4 if (name, strides) == ("DGCN-50", (16,)))
    rows = []
    for graph_layer in GRAPH_LAYERS:
        adjacency: Any = "full" if graph_layer == "convolution" else "dynamic"
        for node_width in NODE_WIDTHS:
            config = PoseNetworkConfig(graph_layer=graph_layer, adjacency=adjacency, node_width=node_width)
            with torch.device("meta"):
                network = PoseNetwork(config)
            assert network.pif_pyramid is not None
            layer: Any = network.pif_pyramid.modules_at["16"]
            rows.append(
                {
                    "graph_layer": graph_layer,
                    "node_width": node_width,
                    "layer_parameters": sum(p.numel() for p in layer.layers[0].conv.parameters()),
                    "ours_mib": round(sum(p.numel() for p in network.parameters()) * 4 / 2**20, 2),
                    "paper_mib": paper,
                }
            )
    return rows


def show_layer_parameters(rows: list[dict[str, Any]]) -> str:
    """Those as text."""
    lines = [f"{'graph_layer':14}  {'d':>2}  {'one layer':>9}  {'network MiB':>11}  {'paper MiB':>9}"]
    lines += [
        f"{row['graph_layer']:14}  {row['node_width']:2}  {row['layer_parameters']:9}  {row['ours_mib']:11.2f}  "
        f"{row['paper_mib']:9}"
        for row in rows
    ]
    return "\n".join(lines)


def show_parameters(rows: list[dict[str, Any]]) -> str:
    """Table 4 as text."""
    lines = [f"{'name':12}  {'heads':>5}  {'paper MiB':>9}  {'ours MiB':>8}"]
    lines += [f"{row['name']:12}  {row['heads']:5}  {row['paper_mib']:9}  {row['ours_mib']:8.1f}" for row in rows]
    return "\n".join(lines)
