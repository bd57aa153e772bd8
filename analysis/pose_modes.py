"""Graphs of actions: the kinds of poses of a data set, and M_d and A_s of each.

    python analysis/pose_modes.py person_keypoints_train2017.json.gz --kinds 4 --out kinds

clusters the labelled persons by shape (k-means on scaled poses, a person and its mirror image being one), prints how
many are of each kind and in which relations its A_s (Eq. 6) differs most from that of all persons, draws every kind's
mean pose with its A_s beside it, and writes ``kinds/kind-1.json`` … in the form that ``statistics=`` of a run takes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphpose.data.annotations.read import read_annotations
from graphpose.errors import GraphposeError, escape_output
from graphpose.graphs.adjacency import soft_adjacency
from graphpose.graphs.modes import PoseModes, pose_modes
from graphpose.graphs.statistics import PoseStatistics, pose_statistics
from graphpose.skeleton import Skeleton

SHOWN = 4  # relations of each kind that are printed


def differences(own: np.ndarray, everybody: np.ndarray, skeleton: Skeleton, count: int = SHOWN) -> list[str]:
    """The relations in which one A_s differs most from another: "keypoint ← keypoint +0.123"."""
    change = own - everybody
    order = np.argsort(-np.abs(change), axis=None)[:count]
    names = skeleton.keypoints
    pairs = [np.unravel_index(place, change.shape) for place in order]
    return [f"{names[i]} ← {names[j]} {change[i, j]:+.3f}" for i, j in pairs]


def table(modes: PoseModes, everybody: PoseStatistics, skeleton: Skeleton, gamma: float) -> str:
    """A line for each kind: persons, their share, and where its A_s differs most from everybody's."""
    whole = soft_adjacency(everybody, gamma).numpy()
    persons = np.bincount(modes.kind, minlength=len(modes.statistics))
    lines = [f"{len(modes.kind)} persons, a labelled keypoint lies {modes.spread:.3f} from its kind's centre"]
    for number, statistics in enumerate(modes.statistics):
        own = soft_adjacency(statistics, gamma).numpy()
        share = persons[number] / len(modes.kind)
        lines.append(f"kind {number + 1}: {persons[number]} persons ({100 * share:.1f} %)")
        lines += [f"  {line}" for line in differences(own, whole, skeleton)]
    return "\n".join(lines)


def draw(modes: PoseModes, everybody: PoseStatistics, skeleton: Skeleton, gamma: float, path: Path) -> None:
    """Save the mean pose of every kind, its A_s, and what that has more or less than everybody's."""
    from matplotlib.figure import Figure

    count = len(modes.statistics)
    figure = Figure(figsize=(9, 3 * count), layout="constrained")
    axes = figure.subplots(count, 3, squeeze=False)
    whole = soft_adjacency(everybody, gamma).numpy() - np.eye(skeleton.num_keypoints)
    own = [soft_adjacency(statistics, gamma).numpy() - np.eye(len(whole)) for statistics in modes.statistics]
    strongest, widest = max(A.max() for A in own), max(np.abs(A - whole).max() for A in own) or 1.0
    names = [name.replace("_", " ") for name in skeleton.keypoints]
    persons = np.bincount(modes.kind, minlength=count)
    for number, (body, left, right) in enumerate(axes):
        centre = modes.centres[number]
        for a, b in skeleton.limbs:
            body.plot(*centre[[a, b]].T, color="steelblue", linewidth=2)
        body.scatter(*centre.T, color="0.2", s=12, zorder=2)
        body.set(aspect="equal", title=f"kind {number + 1}: {100 * persons[number] / len(modes.kind):.0f} %")
        body.invert_yaxis()
        body.axis("off")
        graph = left.imshow(own[number], cmap="Blues", vmin=0, vmax=strongest)
        change = right.imshow(own[number] - whole, cmap="RdBu_r", vmin=-widest, vmax=widest)
        left.set_title("$A_s$ off the diagonal")
        right.set_title("$A_s$ minus everybody's")
        left.set_yticks(range(len(names)), names, fontsize=5)
        for one in (left, right):
            one.set_xticks(range(len(names)), names, fontsize=5, rotation=90)
        right.set_yticks([])
    figure.colorbar(graph, ax=axes[:, 1].tolist(), shrink=0.6, location="bottom")
    figure.colorbar(change, ax=axes[:, 2].tolist(), shrink=0.6, location="bottom")
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 after printing what was wrong with the input."""
    escape_output()
    parser = argparse.ArgumentParser(description="Kinds of poses and the graph of each.")
    parser.add_argument("file", type=Path, metavar="FILE", help="COCO-format json(.gz), or MPII as mat, h5 or json")
    parser.add_argument("--kinds", type=int, default=4, help="how many (default: 4)")
    parser.add_argument("--gamma", type=float, default=0.5, help="γ of Eq. 6 (default: 0.5)")
    parser.add_argument("--seed", type=int, default=0, help="of the first centres (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("kinds"), help="folder to write to (default: kinds)")
    args = parser.parse_args(argv)
    try:
        annotations = read_annotations(args.file, progress=True)
        skeleton = annotations.skeleton
        scale = annotations.scales(skeleton.scale_rule)
        rows = np.flatnonzero(annotations.labelled & ~np.isnan(scale))
        modes = pose_modes(annotations.keypoints[rows], scale[rows], skeleton, args.kinds, seed=args.seed)
        everybody = pose_statistics(annotations).result()
        text = table(modes, everybody, skeleton, args.gamma)
    except GraphposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    for number, statistics in enumerate(modes.statistics, start=1):
        statistics.save(args.out / f"kind-{number}.json", decimals=6)
    draw(modes, everybody, skeleton, args.gamma, args.out / "kinds.png")
    print(text)
    print(f"wrote {args.out / 'kinds.png'} and {args.kinds} files of statistics")
    return 0


if __name__ == "__main__":
    sys.exit(main())
