"""The paper's tables as rows of settings beside the printed figures, and ablations of what it leaves open.

Source: DGCN, Tables 1–8 (Table 4, parameters, is counted without training: ``tables.py table4``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

COCO_METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
MPII_METRICS = ("AP_head", "AP_shoulder", "AP_elbow", "AP_wrist", "AP_hip", "AP_knee", "AP_ankle", "mAP")


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One line of a table.

    Attributes:
        name: as the paper prints it.
        settings: keys of ``experiments/run.py`` that differ from the named configuration.
        paper: metric → printed figure; empty where the paper has none.
        data: the named configuration on which the paper trained this row.
        baseline: name of the row it is compared with; None for a baseline.
    """

    name: str
    settings: Mapping[str, Any]
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)
    data: str = "coco"
    baseline: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: what it shows.
        rows: in the paper's order.
        metrics: columns; the first is the one that rows are compared in.
        note: what to know when reading it.
    """

    title: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...] = ("AP",)
    note: str = ""


NONE, DYNAMIC = {"adjacency": "none"}, {"adjacency": "dynamic"}


def _ap(value: float) -> dict[str, float]:
    return {"AP": value}


def _coco(*values: float) -> dict[str, float]:
    return dict(zip(COCO_METRICS, values, strict=True))


BASELINE = Row("baseline", NONE, _ap(0.626))

TABLE_1 = Table(
    "Table 1: adjacency matrices, ResNet-50, F16",
    (
        BASELINE,
        Row("GCN-A_I", {"adjacency": "identity"}, _ap(0.636), baseline="baseline"),
        Row("GCN-A_h", {"adjacency": "hand_crafted"}, _ap(0.639), baseline="baseline"),
        Row("GCN-A_s", {"adjacency": "soft"}, _ap(0.641), baseline="baseline"),
        Row("DGCN-A_d", DYNAMIC, _ap(0.646), baseline="baseline"),
    ),
)

TABLE_2 = Table(
    "Table 2: γ of Eq. 6, soft adjacency, ResNet-50, F16",
    tuple(
        Row(
            f"γ = {gamma:g}",
            {"adjacency": "soft", "gamma": gamma},
            _ap(ap),
            baseline=None if gamma == 0.5 else "γ = 0.5",
        )
        for gamma, ap in ((0.01, 0.638), (0.1, 0.639), (0.5, 0.641), (1.0, 0.641), (5.0, 0.641), (100.0, 0.639))
    ),
)

TABLE_3 = Table(
    "Table 3: graph pyramid, ResNet-50",
    (
        BASELINE,
        Row("F16", DYNAMIC, _ap(0.646), baseline="baseline"),
        Row("F16 & F8", DYNAMIC | {"strides": [16, 8]}, _ap(0.651), baseline="baseline"),
        Row("F16 & F8 & F4", DYNAMIC | {"strides": [16, 8, 4]}, _ap(0.652), baseline="baseline"),
    ),
)

# Its baselines, which are published; the parameters of all its networks are in experiments/paper/parameters.py.
TABLE_4 = Table(
    "Table 4: parameters in float32 MiB",
    tuple(
        Row(f"baseline-{depth}", NONE | {"backbone": f"resnet{depth}"}, {"AP": ap, "MiB": mib})
        for depth, ap, mib in ((50, 0.626, 96.0), (101, 0.657, 169.0), (152, 0.674, 229.0))
    ),
    ("AP", "MiB"),
)

TABLE_5 = Table(
    "Table 5: other backbones and CrowdPose",
    tuple(
        Row(
            f"{'baseline' if adjacency is NONE else 'DGCN'}-{name}",
            dict(adjacency) | {"backbone": backbone},
            _ap(ap),
            data,
            None if adjacency is NONE else f"baseline-{name}",
        )
        for name, backbone, data, figures in (
            ("ResNeXt50", "resnext50_32x4d", "coco", (0.638, 0.651)),
            ("DenseNet121", "densenet121", "coco", (0.618, 0.636)),
            ("ResNet50 (CrowdPose)", "resnet50", "crowdpose", (0.563, 0.591)),
        )
        for adjacency, ap in zip((NONE, DYNAMIC), figures, strict=True)
    ),
)

TABLE_6 = Table(
    "Table 6: ResNet-50/101/152 on COCO val2017, long edge 641",
    tuple(
        Row(
            f"{'PifPaf' if adjacency is NONE else 'DGCN'}-{depth}",
            dict(adjacency) | {"backbone": f"resnet{depth}"},
            _coco(*figures),
            baseline=None if adjacency is NONE else f"PifPaf-{depth}",
        )
        for depth, adjacency, figures in (
            (50, NONE, (0.626, 0.851, 0.687, 0.599, 0.674, 0.686, 0.884, 0.741, 0.639, 0.751)),
            (50, DYNAMIC, (0.646, 0.853, 0.708, 0.615, 0.695, 0.702, 0.886, 0.756, 0.656, 0.765)),
            (101, NONE, (0.657, 0.866, 0.719, 0.619, 0.718, 0.712, 0.895, 0.768, 0.660, 0.785)),
            (101, DYNAMIC, (0.673, 0.867, 0.741, 0.638, 0.727, 0.722, 0.894, 0.781, 0.676, 0.788)),
            (152, NONE, (0.674, 0.869, 0.738, 0.631, 0.741, 0.726, 0.898, 0.781, 0.672, 0.800)),
            (152, DYNAMIC, (0.688, 0.875, 0.755, 0.653, 0.744, 0.737, 0.902, 0.794, 0.690, 0.802)),
        )
    ),
    COCO_METRICS,
)

TABLE_7 = Table(
    "Table 7: ResNet-152 on COCO test-dev2017",
    (
        Row(
            "PifPaf-152",
            NONE | {"backbone": "resnet152"},
            _coco(0.667, 0.878, 0.736, 0.624, 0.729, 0.722, 0.909, 0.783, 0.664, 0.800),
        ),
        Row(
            "DGCN-152",
            DYNAMIC | {"backbone": "resnet152"},
            _coco(0.674, 0.880, 0.744, 0.636, 0.730, 0.732, 0.913, 0.792, 0.680, 0.802),
            baseline="PifPaf-152",
        ),
    ),
    COCO_METRICS,
    "The annotations of test-dev2017 are not public: our figures here are on val2017, from the same runs as Table 6. "
    "The test server takes the file that `graphpose evaluate --out` writes for the test-dev images from a checkpoint.",
)

TABLE_8 = Table(
    "Table 8: MPII",
    (
        Row("baseline", NONE, {}, "mpii"),
        Row(
            "DGCN-50",
            DYNAMIC,
            dict(zip(MPII_METRICS, (0.956, 0.925, 0.831, 0.765, 0.815, 0.731, 0.651, 0.812), strict=True)),
            "mpii",
            "baseline",
        ),
    ),
    ("mAP", *MPII_METRICS[:-1]),
    "The paper prints percentages and calls them PCKh; the rows it compares itself with are mAP of the multi-person "
    "protocol on the test set, whose labels are not public. Ours are that protocol on the validation set.",
)

ABLATIONS = Table(
    "Ablations of what the paper leaves open, against the dynamic graph as it is built here",
    (
        Row("dynamic", DYNAMIC),
        Row("absent edges masked", DYNAMIC | {"absent_edges": "masked"}, baseline="dynamic"),
        Row("pool of 16 graphs", DYNAMIC | {"graph_pool": 16}, baseline="dynamic"),
        Row("one graph per image", DYNAMIC | {"per_sample": True}, baseline="dynamic"),
        Row("4 channels per keypoint", DYNAMIC | {"node_width": 4}, baseline="dynamic"),
        Row("without non-local block", DYNAMIC | {"non_local": False}, baseline="dynamic"),
        Row("full graph, W_d alone", {"adjacency": "full"}, baseline="dynamic"),
        Row("expectation A_s at test", DYNAMIC | {"evaluation_graph": "expectation"}, baseline="dynamic"),
        Row("smooth-L1 offsets", DYNAMIC | {"loss.regression_loss": "smooth_l1"}, baseline="dynamic"),
        Row("Laplace offsets", DYNAMIC | {"loss.regression_loss": "laplace"}, baseline="dynamic"),
    ),
    note="One of the last two rows is the dynamic row itself: smooth-L1 on photographs, Laplace on the demo data.",
)

TABLES: dict[str, Table] = {
    "table1": TABLE_1,
    "table2": TABLE_2,
    "table3": TABLE_3,
    "table5": TABLE_5,
    "table6": TABLE_6,
    "table7": TABLE_7,
    "table8": TABLE_8,
    "ablations": ABLATIONS,
}

# Those with baselines on COCO val2017, whose weights are published.
PUBLISHED_TABLES: dict[str, Table] = {
    "table1": TABLE_1,
    "table3": TABLE_3,
    "table4": TABLE_4,
    "table5": TABLE_5,
    "table6": TABLE_6,
}

# On the demo data a small network stands in for each of the paper's.
DEMO_BACKBONES = {
    "resnet50": "regnetx_002",
    "resnet101": "regnetx_004",
    "resnet152": "regnetx_006",
    "resnext50_32x4d": "regnety_002",
    "densenet121": "mobilenetv3_small_100",
}
