"""Pictures of a run: its loss curve and a contact sheet of its predictions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.data.dataset import PoseDataset
from graphpose.errors import GraphposeError
from graphpose.visualize import contact_sheet as tile
from graphpose.visualize import draw_poses, save_image


def contact_sheet(
    path: Path, dataset: PoseDataset, results: Sequence[dict[str, Any]], images: int, min_score: float = 0.1
) -> None:
    """Draw the poses of the first ``images`` images of a data set that can be read.

    Args:
        path: PNG file to write.
        dataset: the evaluated data set.
        results: its poses in COCO-results format.
        images: how many images.
        min_score: instance scores below this are left out.
    """
    skeleton, drawn = dataset.skeleton, []
    for index in range(len(dataset)):
        if len(drawn) == images:
            break
        try:
            sample = dataset[index]
        except GraphposeError as error:  # the evaluation has gone on, too
            print(f"not on the contact sheet: {error}", file=sys.stderr, flush=True)
            continue
        poses = [
            np.reshape(result["keypoints"], (-1, 3))
            for result in results
            if result["image_id"] == sample.image_id and result["score"] >= min_score
        ]
        keypoints = np.array(poses, np.float32).reshape(-1, skeleton.num_keypoints, 3)
        drawn.append(draw_poses(sample.image, keypoints, skeleton))
    if drawn:
        save_image(path, tile(drawn, columns=4))


def loss_curve(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Plot the parts of the loss and the AP over epochs.

    Args:
        path: PNG file to write.
        history: figures of each epoch, as ``Trainer.train_epoch`` returns them, with "val.AP" (of MPII "val.mAP") where
            it was measured.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    epochs = np.arange(1, len(history) + 1)
    for name in sorted({key for figures in history for key in figures if key.startswith("loss.")}):
        style: dict[str, Any] = {"linewidth": 2.2, "color": "black"} if name == "loss.total" else {"linewidth": 1.2}
        axes.plot(epochs, [figures.get(name, np.nan) for figures in history], label=name.removeprefix("loss."), **style)
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    name = "val.mAP" if any("val.mAP" in figures for figures in history) else "val.AP"
    measured = [(epoch, figures[name]) for epoch, figures in zip(epochs, history, strict=True) if name in figures]
    if measured:
        right = axes.twinx()
        right.plot(*zip(*measured, strict=True), "o--", color="tab:red", label=name.removeprefix("val."))
        right.set(ylabel=name.removeprefix("val."), ylim=(0, 1))
        right.yaxis.label.set_color("tab:red")
    figure.savefig(path, dpi=110)
