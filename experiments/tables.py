"""The paper's tables, computed.

    python experiments/tables.py parameters

    name          heads  paper MiB  ours MiB
    baseline-50       0         96      96.5
    DGCN-50           1        102     101.3
    …

``--json`` prints a list of objects in its place.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch

from graphpose.errors import GraphposeError
from graphpose.nn.network import PoseNetwork, PoseNetworkConfig

# Table 4: name, backbone, strides of the DGCN heads, MB of parameters.
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


def parameters(_: Any = None) -> list[dict[str, Any]]:
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


def main(arguments: list[str] | None = None) -> int:
    """Compute and print one table; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tables.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="table", required=True)
    text = "Table 4: parameters in float32 MiB beside the paper's"
    table = subparsers.add_parser("parameters", help=text, description=text)
    table.set_defaults(rows=parameters, show=show_parameters)
    for table in subparsers.choices.values():
        table.add_argument("--json", action="store_true", help="print a list of objects")
    options = parser.parse_args(arguments)
    try:
        rows = options.rows(options)
    except GraphposeError as error:
        print(f"tables.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(rows) if options.json else options.show(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
