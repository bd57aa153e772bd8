"""Pictures of a table's runs for the results page: curves over training, and what the first seed of each row finds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from experiments.paper.rows import Row
from experiments.paper.runs import TableRun, outcome
from graphpose.visualize import save_image

# total without intermediate supervision, which a network without graphs does not have
FIELDS_LOSS = "loss of PIF and PAF"
SHEET_WIDTH = 720  # pixels; the page is kept with the sources

Curve = tuple[list[int], list[float]]  # epochs, values


def draw_pictures(runs: Mapping[Row, Sequence[TableRun]], parent: Path, folder: Path) -> str:
    """Draw the runs that are done.

    Args:
        runs: of each row.
        parent: folder of the results page.
        folder: of the pictures, relative to ``parent``.

    Returns:
        Markdown that shows them; empty where no run is done.
    """
    done = {row: [run for run in of_row if outcome(run).state == "done"] for row, of_row in runs.items()}
    done = {row: of_row for row, of_row in done.items() if of_row}
    if not done:
        return ""
    (parent / folder).mkdir(parents=True, exist_ok=True)
    draw_curves(parent / folder / "curves.png", {row.name: [curves_of(run) for run in of] for row, of in done.items()})
    lines = ["", f"![Loss and AP over training, one line per seed]({(folder / 'curves.png').as_posix()})", ""]
    for row, of_row in done.items():
        sheet = folder / (re.sub(r"[^\w-]+", "_", row.name) + ".jpg")
        image = cv2.imread(str(of_row[0].attempts[-1] / "contact_sheet.png"))
        if image is None:  # contact_sheet_images=0
            continue
        save_image(parent / sheet, shrunk(image))
        lines += [f"{row.name}, seed {of_row[0].seed}:", "", f"![Poses found by {row.name}]({sheet.as_posix()})", ""]
    return "\n".join(lines)


def shrunk(image: np.ndarray) -> np.ndarray:
    """An image of OpenCV's as RGB, at most :data:`SHEET_WIDTH` wide."""
    scale = min(1.0, SHEET_WIDTH / image.shape[1])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def curves_of(run: TableRun) -> dict[str, Curve]:
    """Every figure of a run over its epochs, and :data:`FIELDS_LOSS`."""
    metrics = json.loads((run.attempts[-1] / "metrics.json").read_text())
    # a resumed run records the epochs before it again
    pairs = {name: sorted(dict(zip(one["steps"], one["values"], strict=True)).items()) for name, one in metrics.items()}
    curves = {name: ([epoch for epoch, _ in of], [value for _, value in of]) for name, of in pairs.items()}
    if "train.loss.total" in curves:
        epochs, total = curves["train.loss.total"]
        intermediate = curves.get("train.loss.intermediate", (epochs, [0.0] * len(epochs)))[1]
        curves[FIELDS_LOSS] = (epochs, [a - b for a, b in zip(total, intermediate, strict=True)])
    return curves


def draw_curves(path: Path, rows: Mapping[str, Sequence[Mapping[str, Curve]]]) -> None:
    """Loss of the fields and AP (MPII: mAP) over epochs; a colour for each row, a line for each of its runs.

    AP has a panel of its own only where it was measured more than once.
    """
    from matplotlib.figure import Figure

    known = {name: len(curve[0]) for runs in rows.values() for run in runs for name, curve in run.items()}
    figures = [FIELDS_LOSS] + [name for name in ("val.AP", "val.mAP") if known.get(name, 0) > 1]
    drawing = Figure(figsize=(6.4 * len(figures), 4), layout="constrained")
    for axes, figure in zip(drawing.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
        for number, (name, runs) in enumerate(rows.items()):
            for run in runs:
                axes.plot(*run[figure], color=f"C{number}", linewidth=1.2, alpha=0.8, marker=".")
            axes.plot([], [], color=f"C{number}", label=name)
        axes.set(xlabel="epoch", ylabel=figure.removeprefix("val."))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    drawing.savefig(path, dpi=110)
