"""Commands for data sets: check and demo."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from graphpose.cli.options import add_category_option
from graphpose.errors import GraphposeError


def add_check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "annotations",
        type=Path,
        help="COCO format, CrowdPose or MPII annotation file; with --sets a list of sets trained together",
    )
    parser.add_argument("--images", type=Path, help="folder of its images; without it only the records are looked at")
    add_category_option(parser)
    parser.add_argument(
        "--against", type=Path, nargs="+", default=[], help="annotation files of other splits: none may share an image"
    )
    parser.add_argument("--long-edge", type=int, default=641, help="pixels of the long edge in training (default: 641)")
    parser.add_argument("--sheet", type=Path, help="draw random annotated images and a mirror image here (.png)")
    parser.add_argument("--report", type=Path, help="write the report here, as JSON")
    parser.add_argument(
        "--sets", metavar="SKELETON", help="the file lists sets (or is a run's config.json) that are read into SKELETON"
    )


def run_check(options: argparse.Namespace) -> int:
    """The first command for a data set of one's own: what it holds, what training would use of it (skeleton, limbs,
    flip pairs, sigmas, sizes), and every defect of its records and images; exit status 1 if it has errors. With
    --sets also what is known in which of several sets."""
    from graphpose.data.check import check_dataset

    if options.long_edge < 1:
        raise GraphposeError(f"--long-edge {options.long_edge} must be at least 1")
    if options.sets is not None:
        return _check_sets(options)
    if options.sheet is not None and options.images is None:
        raise GraphposeError("--sheet needs --images, the folder of what is to be drawn on")
    report = check_dataset(
        options.annotations,
        options.images,
        category=options.category,
        against=options.against,
        long_edge=options.long_edge,
    )
    if options.report is not None:
        options.report.write_text(json.dumps(report.to_dict(), indent=1))
    print("\n".join(report.lines()))
    if options.sheet is not None:
        print(_draw_sheet(options))
    return 0 if report.ok else 1


def _check_sets(options: argparse.Namespace) -> int:
    from graphpose.data.check import check_dataset
    from graphpose.data.mix import open_mix, read_sets
    from graphpose.skeleton import get_skeleton

    for name in ("images", "category", "against", "sheet"):
        if getattr(options, name):
            raise GraphposeError(f"--{name} with --sets: it is of one data set; the list has images of its own")
    skeleton = get_skeleton(options.sets)
    sets, root = read_sets(options.annotations)
    reports = [check_dataset(root / one.annotations, root / one.images, long_edge=options.long_edge) for one in sets]
    if options.report is not None:
        options.report.write_text(json.dumps([report.to_dict() for report in reports], indent=1))
    print("\n".join(line for report in reports for line in report.lines()))
    if not all(report.ok for report in reports):
        return 1
    print("\n".join([f"read into skeleton '{skeleton.name}':", *open_mix(sets, skeleton, root=root).lines()]))
    return 0


def _draw_sheet(options: argparse.Namespace) -> str:
    from graphpose.data.open import open_dataset
    from graphpose.data.sheet import write_sheet

    logging.disable(logging.WARNING)  # all of it stands in the report
    try:
        dataset = open_dataset(options.annotations, options.images, category=options.category)
        return f"{write_sheet(options.sheet, dataset)} annotated images drawn to {options.sheet}"
    except GraphposeError as error:
        return f"no sheet: {error}"
    finally:
        logging.disable(logging.NOTSET)


def add_demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="folder that gets annotations.json and images/")
    parser.add_argument("--scenes", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seed", type=int, default=2**31, help="stream of scenes (default: 2147483648)")
    parser.add_argument("--size", type=int, default=160, help="pixels on a side (default: 160)")
    parser.add_argument("--max-persons", type=int, default=6, help="most persons in a scene (default: 6)")


def run_demo(options: argparse.Namespace) -> int:
    """Write the demo's rendered scenes as files. Training with seed n takes stream n; the default stream is the one
    that runs are evaluated on, so tune on another."""
    from graphpose.data.demo.dataset import DemoDataset
    from graphpose.data.demo.files import write_demo

    write_demo(options.out, DemoDataset(options.scenes, options.seed, options.size, options.max_persons))
    print(f"{options.scenes} scenes written to {options.out}")
    return 0
