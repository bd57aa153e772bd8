"""Graphs of actions: the kinds of poses of a data set, M_d and A_s of each, and what a gate makes of them.

    python analysis/pose_modes.py person_keypoints_train2017.json.gz --kinds 4 --out kinds
    python analysis/pose_modes.py mpii_human_pose_v1_u12_1.mat --by activity --out activities

clusters the labelled persons by shape (k-means on scaled poses, a person and its mirror image being one), or groups
them by what MPII's release says they do; prints how many are of each kind and in which relations its A_s (Eq. 6)
differs most from that of all persons, draws every kind's mean pose with its A_s beside it, and writes
``kinds/kind-1.json`` …. Each file is one that ``statistics=`` of a run takes, and the folder one that it takes with
``adjacency=modes``.

    python analysis/pose_modes.py runs/1 --annotations val.json --data images

prints the gate's weights of a network that was trained so, by the kinds of the persons in the images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.table import Annotations
from graphpose.errors import GraphposeError, escape_output
from graphpose.graphs.adjacency import soft_adjacency
from graphpose.graphs.mode_statistics import mode_adjacencies
from graphpose.graphs.modes import PoseModes, named_modes, pose_modes
from graphpose.graphs.statistics import PoseStatistics, pose_statistics
from graphpose.skeleton import Skeleton

SHOWN = 4  # relations of each kind that are printed
ACTIVITY = ("activity", "single-activity")  # MPII's categories (cat_name), and what they are of (act_name)


def differences(own: np.ndarray, everybody: np.ndarray, skeleton: Skeleton, count: int = SHOWN) -> list[str]:
    """The relations in which one A_s differs most from another: "keypoint ← keypoint +0.123"."""
    change = own - everybody
    order = np.argsort(-np.abs(change), axis=None)[:count]
    names = skeleton.keypoints
    pairs = [np.unravel_index(place, change.shape) for place in order]
    return [f"{names[i]} ← {names[j]} {change[i, j]:+.3f}" for i, j in pairs]


def heading(modes: PoseModes, number: int) -> str:
    """What a kind is called: by its number where it was found by shape."""
    name = modes.names[number]
    return f"kind {number + 1}" if name == f"{number + 1} of {len(modes.names)}" else name


def table(modes: PoseModes, everybody: PoseStatistics, skeleton: Skeleton, gamma: float) -> str:
    """A line for each kind: persons, their share, and where its A_s differs most from everybody's."""
    whole = soft_adjacency(everybody, gamma).numpy()
    graphs = mode_adjacencies(modes.statistics, gamma).numpy()
    persons = np.bincount(modes.kind, minlength=len(modes.statistics))
    lines = [f"{len(modes.kind)} persons, a labelled keypoint lies {modes.spread:.3f} from its kind's centre"]
    for number, own in enumerate(graphs):
        share = persons[number] / len(modes.kind)
        lines.append(f"{heading(modes, number)}: {persons[number]} persons ({100 * share:.1f} %)")
        lines += [f"  {line}" for line in differences(own, whole, skeleton)]
    return "\n".join(lines)


def draw(modes: PoseModes, everybody: PoseStatistics, skeleton: Skeleton, gamma: float, path: Path) -> None:
    """Save the mean pose of every kind, its A_s, and what that has more or less than everybody's."""
    from matplotlib.figure import Figure

    count = len(modes.statistics)
    figure = Figure(figsize=(9, 3 * count), layout="constrained")
    axes = figure.subplots(count, 3, squeeze=False)
    whole = soft_adjacency(everybody, gamma).numpy() - np.eye(skeleton.num_keypoints)
    own = mode_adjacencies(modes.statistics, gamma).numpy() - np.eye(len(whole))
    strongest, widest = own.max(), np.abs(own - whole).max() or 1.0
    names = [name.replace("_", " ") for name in skeleton.keypoints]
    persons = np.bincount(modes.kind, minlength=count)
    for number, (body, left, right) in enumerate(axes):
        centre = modes.centres[number]
        for a, b in skeleton.limbs:
            body.plot(*centre[[a, b]].T, color="steelblue", linewidth=2)
        body.scatter(*centre.T, color="0.2", s=12, zorder=2)
        body.set(aspect="equal", title=f"{heading(modes, number)}: {100 * persons[number] / len(modes.kind):.0f} %")
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


def kinds_of(annotations: Annotations, options: argparse.Namespace) -> PoseModes:
    """The kinds of a file's labelled persons, as the command line asks for them."""
    skeleton = annotations.skeleton
    scale = annotations.scales(skeleton.scale_rule)
    rows = np.flatnonzero(annotations.labelled & ~np.isnan(scale))
    keypoints, scale = annotations.keypoints[rows], scale[rows]
    if options.by == "pose":
        return pose_modes(keypoints, scale, skeleton, options.kinds, seed=options.seed)
    activities = annotations.images.activities
    if not activities:
        raise GraphposeError(
            f"{annotations.path} does not say what is done in its images; of MPII's forms the official release does "
            "(mpii_human_pose_v1_u12_1.mat)"
        )
    column = ACTIVITY.index(options.by)
    labels = [activities[image][column] for image in annotations.image_index[rows].tolist()]
    return named_modes(keypoints, scale, skeleton, labels, least=options.min_persons)


def write_kinds(options: argparse.Namespace) -> None:
    """Print, draw and write the kinds of an annotation file."""
    annotations = read_annotations(options.file, progress=True)
    modes = kinds_of(annotations, options)
    everybody = pose_statistics(annotations).result()
    text = table(modes, everybody, annotations.skeleton, options.gamma)
    options.out.mkdir(parents=True, exist_ok=True)
    for number, statistics in enumerate(modes.statistics, start=1):
        statistics.save(options.out / f"kind-{number}.json", decimals=6)
    draw(modes, everybody, annotations.skeleton, options.gamma, options.out / "kinds.png")
    print(text)
    print(f"wrote {options.out / 'kinds.png'} and {len(modes.names)} files of statistics")


def print_gate(options: argparse.Namespace) -> None:
    """Print what a network's gate weighs, by the kinds of the persons in the images."""
    from graphpose.checkpoint import load_checkpoint, network_from_checkpoint, usage_of
    from graphpose.data.dataset import PoseDataset
    from graphpose.data.demo.dataset import DemoDataset
    from graphpose.data.loader import make_loader
    from graphpose.data.open import open_dataset
    from graphpose.data.transforms import EvalTransform
    from graphpose.graphs.mode_statistics import mode_name
    from graphpose.inference.mode_weights import mode_weights, modes_of_persons, read_gate

    content = load_checkpoint(options.file)
    network = network_from_checkpoint(content, options.file)
    dataset: PoseDataset
    if options.annotations is not None:
        dataset, where = open_dataset(options.annotations, options.data), options.annotations.name
    else:
        dataset, where = DemoDataset(100, seed=2**31), "demo scenes of the evaluation's stream"
    if dataset.skeleton.keypoints != network.spec.skeleton.keypoints:
        raise GraphposeError(f"{where} has keypoints of '{dataset.skeleton.name}', not of "
                             f"'{network.spec.skeleton.name}'; give --annotations and --data")  # fmt: skip
    usage = usage_of(content)
    loader = make_loader(dataset, EvalTransform(usage.long_edge, enlarge=usage.enlarge), 8, shuffle=False)
    weights = mode_weights(network, loader)
    kinds = network.mode_statistics
    reading = read_gate(weights, *modes_of_persons(dataset.ground_truth(), dataset.skeleton, kinds))
    names = [mode_name(kind) for kind in kinds]
    rows = [("images' mean", "", reading.mean), ("spread from image to image", "", reading.deviation)]
    rows += [
        (f"where kind {name} is", str(count), row)
        for name, count, row in zip(names, reading.persons, reading.by_kind, strict=True)
    ]
    print(f"weights of the gate of {options.file}, {len(weights)} images: {where}\n")
    print("| | persons | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 2) + "|")
    for title, count, row in rows:
        print(f"| {title} | {count} | " + " | ".join(f"{value:.4f}" for value in row) + " |")
    print(f"\na person's own kind weighs {reading.excess:+.4f} more in its image than on average "
          f"(p {reading.p:.3f}, one-sided, of 999 orders of the images)")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 after printing what was wrong with the input."""
    escape_output()
    parser = argparse.ArgumentParser(description="Kinds of poses and the graph of each, or what a gate makes of them.")
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="COCO-format json(.gz), or MPII as mat, h5 or json; or a checkpoint or folder of a run",
    )
    parser.add_argument("--kinds", type=int, default=4, help="how many (default: 4)")
    parser.add_argument("--by", choices=("pose", *ACTIVITY), default="pose",
                        help="what makes a kind: its shape, or MPII's categories of activities or the activities "
                             "themselves (default: pose)")  # fmt: skip
    parser.add_argument("--min-persons", type=int, default=200,
                        help="activities of fewer persons are one kind, 'other' (default: 200)")  # fmt: skip
    parser.add_argument("--gamma", type=float, default=0.5, help="γ of Eq. 6 (default: 0.5)")
    parser.add_argument("--seed", type=int, default=0, help="of the first centres (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("kinds"), help="folder to write to (default: kinds)")
    parser.add_argument("--annotations", type=Path, help="images for a checkpoint's gate (default: demo scenes)")
    parser.add_argument("--data", type=Path, help="folder of these images")
    options = parser.parse_args(argv)
    try:
        if (options.annotations is None) != (options.data is None):
            raise GraphposeError("--annotations and --data belong together; give both or none")
        if options.min_persons < 1:
            raise GraphposeError(f"--min-persons {options.min_persons}: at least 1 is needed")
        if options.file.is_dir() or options.file.suffix in (".pt", ".safetensors"):
            print_gate(options)
        elif options.annotations is not None:
            raise GraphposeError(f"--annotations is for a checkpoint's gate, and {options.file} is no checkpoint")
        else:
            write_kinds(options)
    except GraphposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
