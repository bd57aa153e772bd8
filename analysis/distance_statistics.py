"""What M_d (Eq. 5) looks like on a data set.

    python analysis/distance_statistics.py person_keypoints_train2017.json.gz --out stats.npz

prints the strongest and the weakest relations by name, writes the K×K arrays ``mean``, ``std`` and ``count`` (and the
offsets' ``offset_mean`` and ``offset_std``) into the npz, and draws M_d as a labelled heat map beside it. An ``--out``
that ends in .json is the text form that graphpose ships and that a configuration can name as its statistics. Several
files are shards of one data set.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphpose import __version__
from graphpose.checksum import file_sha256
from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.subsets import CROWD_BANDS, SIZE_BANDS, in_crowd_band, in_size_band, visible_only
from graphpose.errors import GraphposeError, escape_output
from graphpose.graphs.statistics import PoseStatistics, StatisticsAccumulator, pose_statistics
from graphpose.skeleton import SKELETONS, get_skeleton

Band = tuple[float, float]


def _band(text: str, named: dict[str, Band]) -> Band:
    if text in named:
        return named[text]
    try:
        low, high = (float(value) for value in text.split(":"))
    except ValueError:
        raise GraphposeError(f"'{text}' is no band; give {', '.join(named)} or LOW:HIGH") from None
    return low, high


def accumulate(path: Path, args: argparse.Namespace) -> StatisticsAccumulator:
    """Sums over the persons of one file that the command's restrictions let pass."""
    start = time.perf_counter()
    annotations = read_annotations(path, args.skeleton and get_skeleton(args.skeleton), progress=True)
    print(
        f"read {annotations.path.name}: {int(annotations.labelled.sum())} persons with labelled keypoints in "
        f"{len(annotations.images)} images, {time.perf_counter() - start:.1f} s",
        file=sys.stderr,
    )
    rule = args.scale or annotations.skeleton.scale_rule
    if args.crowdedness:
        annotations = in_crowd_band(annotations, _band(args.crowdedness, CROWD_BANDS))
    if args.size:
        annotations = in_size_band(annotations, _band(args.size, SIZE_BANDS), rule)
    if args.visible:
        annotations = visible_only(annotations)
    start = time.perf_counter()
    accumulator = pose_statistics(annotations, rule, progress=True)
    print(f"statistics of {accumulator.persons} persons, {time.perf_counter() - start:.2f} s", file=sys.stderr)
    return accumulator


def compute(args: argparse.Namespace) -> PoseStatistics:
    """Statistics of all files together, with their provenance.

    Raises:
        GraphposeError: a file cannot be read, ``--out`` cannot be written, or no person is left.
    """
    if args.out.suffix not in (".npz", ".json") or not args.out.absolute().parent.is_dir():
        raise GraphposeError(f"--out {args.out} must end in .npz or .json and lie in a folder that exists")
    total, *shards = (accumulate(path, args) for path in args.files)
    for shard in shards:
        total.merge(shard)
    names = ", ".join(path.name for path in args.files)
    if total.persons == 0:
        raise GraphposeError(f"{names}: no person with labelled keypoints is left to take statistics of")
    provenance: dict[str, object] = {"files": {path.name: file_sha256(path) for path in args.files}}
    provenance |= {key: getattr(args, key) for key in ("visible", "size", "crowdedness", "note") if getattr(args, key)}
    provenance["computed_by"] = f"analysis/distance_statistics.py, graphpose {__version__}"
    return total.result(provenance)


def relations(statistics: PoseStatistics) -> list[tuple[str, str, float, float, int]]:
    """(keypoint, keypoint, mean, standard deviation, persons) of every pair that has a distance, nearest first."""
    K = len(statistics.keypoints)
    pairs = [
        (
            statistics.keypoints[i],
            statistics.keypoints[j],
            float(statistics.mean[i, j]),
            float(statistics.std[i, j]),
            int(statistics.count[i, j]),
        )
        for i in range(K)
        for j in range(i + 1, K)
        if statistics.count[i, j]
    ]
    return sorted(pairs, key=lambda pair: pair[2])


def table(statistics: PoseStatistics, top: int) -> str:
    """The ``top`` strongest and weakest relations; the nearer two keypoints are, the stronger (Eq. 6)."""
    pairs = relations(statistics)
    top = min(top, len(pairs) // 2 or 1)
    width = max(len(a) + len(b) for a, b, *_ in pairs) + 3
    lines = [
        f"M_d of {statistics.provenance['persons']} persons, skeleton {statistics.skeleton_name}, "
        f"in units of {statistics.scale_rule}"
    ]
    for title, shown in (("strongest relations", pairs[:top]), ("weakest relations", pairs[: -top - 1 : -1])):
        lines.append(f"{title:<{width}}   mean    std  persons")
        lines += [f"{a + ' – ' + b:<{width}} {mean:6.3f} {std:6.3f} {count:8d}" for a, b, mean, std, count in shown]
    missing = int((np.triu(statistics.count == 0, 1)).sum())
    if missing:
        lines.append(f"{missing} pairs are never labelled together; their mean is NaN")
    return "\n".join(lines)


def draw(statistics: PoseStatistics, path: Path) -> None:
    """Save M_d as a heat map with keypoint names and values."""
    from matplotlib.figure import Figure

    K = len(statistics.keypoints)
    # Margins by hand: matplotlib's layout engines draw the hundreds of numbers several times.
    width, height = 3.2 + 0.5 * K, 2.2 + 0.5 * K
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((1.5 / width, 1.5 / height, 0.5 * K / width, 0.5 * K / height))
    bar = figure.add_axes(((1.8 + 0.5 * K) / width, 1.5 / height, 0.25 / width, 0.5 * K / height))
    image = axes.imshow(statistics.mean, cmap="viridis_r")
    names = [name.replace("_", " ") for name in statistics.keypoints]
    axes.set_xticks(range(K), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(K), names)
    dark = float(np.nanmax(statistics.mean)) * 0.55
    for i in range(K):
        for j in range(K):
            value = statistics.mean[i, j]
            text = "–" if np.isnan(value) else f"{value:.2f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if value > dark else "black")
    persons = statistics.provenance["persons"]
    axes.set_title(f"$M_d$: mean distance of keypoints, {statistics.skeleton_name}, {persons} persons")
    figure.colorbar(image, cax=bar, label=f"distance / {statistics.scale_rule}")
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 after printing what was wrong with the input."""
    escape_output()
    parser = argparse.ArgumentParser(description="Mean, deviation and count of scaled keypoint distances (M_d, Eq. 5).")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="COCO-format json(.gz), or MPII as mat, h5 or json"
    )
    parser.add_argument("--skeleton", choices=SKELETONS, help="what the file must hold (default: what it says itself)")
    parser.add_argument(
        "--scale", choices=("sqrt_area", "bbox_diagonal", "head"), help="s_n of Eq. 5 (default: the skeleton's own)"
    )
    parser.add_argument("--visible", action="store_true", help="keypoints with visibility 2 only")
    parser.add_argument("--size", metavar="BAND", help="small, medium, large (COCO's) or LOW:HIGH pixels of s_n")
    parser.add_argument("--crowdedness", metavar="BAND", help="easy, medium, hard (CrowdPose's) or LOW:HIGH CrowdIndex")
    parser.add_argument("--out", type=Path, default=Path("stats.npz"), help="npz or json to write (default: stats.npz)")
    parser.add_argument("--top", type=int, default=8, help="how many relations to print (default: 8)")
    parser.add_argument("--note", help="a sentence for the provenance, such as the data's licence")
    args = parser.parse_args(argv)
    try:
        statistics = compute(args)
        statistics.save(args.out, decimals=6)
    except GraphposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(statistics, args.top))
    heat_map = args.out.with_suffix(".png")
    draw(statistics, heat_map)
    print(f"wrote {args.out} and {heat_map}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
