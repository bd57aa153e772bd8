"""Which errors a set of results makes, how often, on whom, and what correcting each kind would gain.

    python analysis/errors.py --annotations person_keypoints_val2017.json --results results.json \
        --images val2017 --out errors

prints the table and writes into the folder: errors.md (the same table for people), errors.csv (one row per group and
kind), errors.png (AP gained per kind; kinds by keypoint, size and crowdedness), worst.csv (images ranked by how wrong
they are) and worst/*.png (the first of them, drawn: truth thin and white, prediction filled and coloured).

Kinds and thresholds are those of Ronchi and Perona (ICCV 2017), see graphpose.metrics.error_analysis. The annotations
are COCO-format or MPII; the results are what `graphpose evaluate --out` or a run's results.json hold.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graphpose.data.annotations.subsets import SIZE_BANDS
from graphpose.data.image import read_image
from graphpose.data.open import open_dataset
from graphpose.errors import GraphposeError, escape_output
from graphpose.metrics.error_analysis import (
    ERRORS,
    KEYPOINT_ERRORS,
    KEYPOINT_KINDS,
    ErrorAnalysis,
    PersonErrors,
    analyse_errors,
)
from graphpose.metrics.results import KEYS, require_results
from graphpose.skeleton import Skeleton
from graphpose.visualize import draw_poses, save_image

COLOURS = {"good": "#9aa5b1", "jitter": "#f2b134", "inversion": "#7b5ea7", "swap": "#d1495b", "miss": "#30638e"}
# Other boxes over a person's own, as the publication groups them.
CROWDEDNESS = {"alone": (0, 0), "1–2 others": (1, 2), "3 or more": (3, 10**9)}


def groups_of(analysis: ErrorAnalysis) -> dict[str, dict[str, list[PersonErrors]]]:
    """Persons by size and by crowdedness."""
    sizes = {
        name: [p for p in analysis.persons if low <= p.area**0.5 < high] for name, (low, high) in SIZE_BANDS.items()
    }
    crowds = {
        name: [p for p in analysis.persons if low <= p.overlaps <= high] for name, (low, high) in CROWDEDNESS.items()
    }
    return {"size": sizes, "crowdedness": crowds}


def rows_of(analysis: ErrorAnalysis, gains: Mapping[str, float]) -> list[dict[str, Any]]:
    """The table: one row for all persons, one per keypoint, size and crowdedness."""

    def row(group: str, name: str, counts: Mapping[str, int]) -> dict[str, Any]:
        labelled = sum(counts[kind] for kind in KEYPOINT_KINDS)
        shares = {f"{kind} %": round(100 * counts[kind] / labelled, 2) if labelled else "" for kind in KEYPOINT_KINDS}
        persons = {key: counts.get(key, "") for key in ("persons", "missed_person", "score")}
        return {"group": group, "name": name, "keypoints": labelled, **shares, **persons, "false_positive": ""}

    rows = [row("all", "all", analysis.counts()) | {"false_positive": len(analysis.false_positives)}]
    for group, parts in groups_of(analysis).items():
        rows += [row(group, name, analysis.counts(persons)) for name, persons in parts.items()]
    rows += [row("keypoint", name, counts) for name, counts in analysis.by_keypoint().items()]
    return rows + [{"group": "AP gained", "name": kind, "AP": round(gains[kind], 4)} for kind in ("AP", *ERRORS)]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as two Markdown tables: AP gained, and shares of the kinds."""
    gained = [row for row in rows if row["group"] == "AP gained"]
    shares = [row for row in rows if row["group"] != "AP gained"]
    lines = ["| corrected | AP gained |", "|---|---|"]
    lines += [f"| {row['name']} | {row['AP']:+.4f} |" for row in gained if row["name"] != "AP"]
    lines.insert(0, f"AP as it is: {gained[0]['AP']:.4f}. Each kind is corrected alone.\n")
    names = list(shares[0])
    lines += ["", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in shares]
    return "\n".join(lines) + "\n"


def draw_figure(path: Path, analysis: ErrorAnalysis, gains: Mapping[str, float]) -> None:
    """AP gained per kind, and shares of the keypoint errors by keypoint, size and crowdedness."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=(1, 1.15))
    axes = figure.add_subplot(grid[0, 0])
    colours = [COLOURS.get(kind, "#5c946e") for kind in ERRORS]
    bars = axes.barh([kind.replace("_", " ") for kind in ERRORS], [gains[kind] for kind in ERRORS], color=colours)
    axes.bar_label(bars, [f"{gains[kind]:+.3f}" for kind in ERRORS], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set(title=f"AP gained, each alone (AP {gains['AP']:.3f})", xlabel="AP")
    for column, (group, parts) in enumerate(groups_of(analysis).items(), start=1):
        counts = {f"{name}\n{len(persons)} persons": analysis.counts(persons) for name, persons in parts.items()}
        stack(figure.add_subplot(grid[0, column]), counts, f"by {group}")
    wide = figure.add_subplot(grid[1, :])
    stack(wide, {name.replace("_", "\n"): counts for name, counts in analysis.by_keypoint().items()}, "by keypoint")
    wide.legend(ncols=4, fontsize=8, loc="upper right")
    figure.savefig(path, dpi=110)


def stack(axes: Axes, counts: Mapping[str, Mapping[str, int]], title: str) -> None:
    """Stacked bars of the shares of the keypoint errors."""
    totals = np.array([sum(c[kind] for kind in KEYPOINT_KINDS) for c in counts.values()])
    bottom = np.zeros(len(counts))
    for kind in KEYPOINT_ERRORS:
        share = 100 * np.array([c[kind] for c in counts.values()]) / np.maximum(totals, 1)
        axes.bar(list(counts), share, bottom=bottom, color=COLOURS[kind], label=kind)
        bottom += share
    axes.tick_params(axis="x", labelsize=8)
    axes.set(title=title, ylabel="% of labelled keypoints")
    axes.margins(y=0.2)


def draw_worst(out: Path, analysis: ErrorAnalysis, images: Path, count: int, warn: Callable[[str], None]) -> None:
    """worst.csv with all images in order, and drawings of the first ``count`` of them."""
    costs = analysis.image_costs()
    names = {image["id"]: image["file_name"] for image in analysis.ground_truth["images"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in analysis.ground_truth["images"]}
    ranked = sorted(costs, key=lambda image_id: -costs[image_id])
    false_positives = set(analysis.false_positives)
    with (out / "worst.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "image_id", "file_name", "cost", "persons", "missed", "false_positives"])
        for rank, image_id in enumerate(ranked, start=1):
            persons = [p for p in analysis.persons if p.image_id == image_id]
            wrong = sum(analysis.results[r]["image_id"] == image_id for r in false_positives)
            missed = sum(p.result is None for p in persons)
            writer.writerow([rank, image_id, names[image_id], round(costs[image_id], 3), len(persons), missed, wrong])
    (out / "worst").mkdir(exist_ok=True)
    for rank, image_id in enumerate(ranked[:count], start=1):
        try:
            image = read_image(images / names[image_id], recorded=sizes[image_id])
        except GraphposeError as error:
            warn(f"not drawn: {error}")
            continue
        truth = [a["keypoints"] for a in analysis.ground_truth["annotations"] if a["image_id"] == image_id]
        found = [r["keypoints"] for r in analysis.results if r["image_id"] == image_id]
        for keypoints, style in ((found, "prediction"), (truth, "truth")):
            poses = np.array(keypoints, np.float64).reshape(-1, analysis.skeleton.num_keypoints, 3)
            image = draw_poses(image, poses, analysis.skeleton, style=style)  # type: ignore[arg-type]
        save_image(out / "worst" / f"{rank:03d}_{Path(names[image_id]).stem}.png", image)


def read_results(path: Path, skeleton: Skeleton, ground_truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Records of a COCO-results file that can be scored by ``ground_truth``; GraphposeError names what cannot."""
    try:
        results = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise GraphposeError(f"results file {path} cannot be read: {error}") from None
    if not isinstance(results, list):
        raise GraphposeError(f"{path} is no COCO-results file; a list of records with {', '.join(KEYS)} is")
    try:
        require_results(results, skeleton.num_keypoints, ground_truth)
    except GraphposeError as error:
        raise GraphposeError(f"results file {path}: {error}") from None
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    escape_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True, help="COCO-format or MPII annotation file")
    parser.add_argument("--results", type=Path, required=True, help="poses in COCO-results format")
    parser.add_argument("--images", type=Path, help="folder of the images; without it nothing is drawn")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--worst", type=int, default=24, help="how many of the worst images are drawn (default: 24)")
    options = parser.parse_args(arguments)
    try:
        dataset = open_dataset(options.annotations, options.images or Path())
        truth = dataset.ground_truth()
        analysis = analyse_errors(truth, read_results(options.results, dataset.skeleton, truth), dataset.skeleton)
        gains = analysis.gains()
    except GraphposeError as error:
        print(f"errors: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    rows = rows_of(analysis, gains)
    text = markdown(rows)
    (options.out / "errors.md").write_text(text, encoding="utf-8")
    with (options.out / "errors.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "AP"])
        writer.writeheader()
        writer.writerows(rows)
    draw_figure(options.out / "errors.png", analysis, gains)
    if options.images is not None:
        draw_worst(
            options.out, analysis, options.images, options.worst, lambda m: print(m, file=sys.stderr, flush=True)
        )
    print(text + f"\nwritten to {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
