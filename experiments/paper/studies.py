"""Two studies on photographs: whether a graph helps on real people, with a control and the power to tell.

``frozen`` compares many graphs on a frozen trunk's features (``frozen_lite0`` on those of a light one), ``endtoend`` a
few with the trunk trained. Their control is a DGCM without a graph (``graph_layer=convolution``): what a graph brings
is what it has beyond that, for every DGCM brings two 3×3 convolutions and a non-local block, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.paper.rows import DYNAMIC, NONE, Row, Table

BASELINE, CONTROL, SOFT, DGCN = "baseline", "control", "GCN-A_s", "DGCN-A_d"
PYRAMID = "F16 & F8"
PRIMARY = "lspet, within 0.1"  # the figure of least noise: 12,000 joints
HIDDEN, VISIBLE = "coco, within 0.1, hidden", "coco, within 0.1, visible"

TUNE_IMAGES = 40  # of each training set, on which the thresholds of all rows are chosen

# Columns of the studies' tables; all other figures go into the file beside the page.
METRICS = (
    PRIMARY, "lspet, within 0.05", "coco, AP", "coco, AR", "coco, within 0.1", HIDDEN, VISIBLE,
    "coco, confidence, hidden",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Study:
    """Rows, and what they are trained and evaluated on.

    Attributes:
        table: rows; each one's ``baseline`` is the row that its gain is measured against beside the baseline's.
        data: named configuration.
        seeds: of each row.
        evaluated: rows that are another row's runs, evaluated with other settings of the network.
    """

    table: Table
    data: str
    seeds: int
    evaluated: Mapping[str, tuple[str, Mapping[str, Any]]] = dataclasses.field(default_factory=dict)

    @property
    def dependent(self) -> dict[str, str]:
        """Row → the row whose runs it is."""
        return {row: source for row, (source, _) in self.evaluated.items()}


CONTROL_SETTINGS = {"adjacency": "full", "graph_layer": "convolution"}

FROZEN = Study(
    Table(
        "Graphs on photographs: frozen trunk",
        (
            Row(BASELINE, NONE),
            Row(CONTROL, CONTROL_SETTINGS, baseline=BASELINE),
            Row("GCN-A_I", {"adjacency": "identity"}, baseline=CONTROL),
            Row("GCN-A_h", {"adjacency": "hand_crafted"}, baseline=CONTROL),
            Row(SOFT, {"adjacency": "soft"}, baseline=CONTROL),
            Row(DGCN, DYNAMIC, baseline=CONTROL),
            Row("full graph", {"adjacency": "full"}, baseline=CONTROL),
            Row("A_s with γ = 0.01", {"adjacency": "soft", "gamma": 0.01}, baseline=SOFT),
            Row("A_s with γ = 100", {"adjacency": "soft", "gamma": 100.0}, baseline=SOFT),
            Row("A_d with absent edges masked", DYNAMIC | {"absent_edges": "masked"}, baseline=DGCN),
            Row("A_d without non-local block", DYNAMIC | {"non_local": False}, baseline=DGCN),
            Row("A_d without intermediate supervision", DYNAMIC | {"loss.intermediate": 0.0}, baseline=DGCN),
            Row("A_d with 4 channels per keypoint", DYNAMIC | {"node_width": 4}, baseline=DGCN),
            Row("A_d with A_s at evaluation", DYNAMIC | {"evaluation_graph": "expectation"}, baseline=DGCN),
        ),
        METRICS,
    ),
    "frozen",
    seeds=8,
    # the graph of evaluation is read in evaluation alone
    evaluated={"A_d with A_s at evaluation": (DGCN, {"evaluation_graph": "expectation"})},
)

ENDTOEND = Study(
    Table(
        "Graphs on photographs: trunk trained",
        (
            Row(BASELINE, NONE),
            Row(CONTROL, CONTROL_SETTINGS, baseline=BASELINE),
            Row("GCN-A_I", {"adjacency": "identity"}, baseline=CONTROL),
            Row(DGCN, DYNAMIC, baseline=CONTROL),
            Row(PYRAMID, DYNAMIC | {"strides": [16, 8]}, baseline=DGCN),
        ),
        METRICS,
    ),
    "endtoend",
    seeds=3,
)

LITE = dataclasses.replace(
    FROZEN,
    table=dataclasses.replace(FROZEN.table, title="Graphs on photographs: frozen trunk, EfficientNet-Lite0"),
    data="frozen_lite0",
)

STUDIES: dict[str, Study] = {"frozen": FROZEN, "frozen_lite0": LITE, "endtoend": ENDTOEND}


def trained_row(study: Study, row: Row) -> Row:
    """The row whose runs a row is: itself, or the one that it evaluates otherwise."""
    name = study.evaluated[row.name][0] if row.name in study.evaluated else row.name
    return next(one for one in study.table.rows if one.name == name)
