"""Command for other tools' labels: convert."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from graphpose.errors import GraphposeError

if TYPE_CHECKING:
    from graphpose.data.convert.coco_file import CocoFile

YAML = (".yaml", ".yml")


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="data.yaml of a YOLO-pose data set; DeepLabCut's CollectedData CSVs; or the folder of either",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder that gets a file for each split, or one")
    parser.add_argument(
        "--keypoints", nargs="+", default=[], help="names where data.yaml has none; coco, crowdpose or mpii for theirs"
    )
    parser.add_argument(
        "--limbs", nargs="+", default=[], metavar="A:B", help="names or numbers from 1 (default: a tree by the labels)"
    )
    parser.add_argument("--images", type=Path, help="DeepLabCut: folder that the images' paths begin in")


def run_convert(options: argparse.Namespace) -> int:
    """YOLO-pose text or DeepLabCut's CSVs as COCO-format keypoint files; images stay where they are."""
    from graphpose.data.convert.deeplabcut import PLACE, find_csv_files

    sources: list[Path] = []
    for source in options.sources:
        if not source.is_dir():
            sources.append(source)
            continue
        inside = [source / "data.yaml"] if (source / "data.yaml").is_file() else find_csv_files(source)
        if not inside:
            raise GraphposeError(f"{source} has neither a data.yaml nor {PLACE}/*/CollectedData*.csv; name the file")
        sources += inside
    kinds = {source.suffix.lower() for source in sources}
    if len(sources) == 1 and kinds <= set(YAML):
        _convert_yolo_pose(sources[0], options)
    elif kinds == {".csv"}:
        _convert_deeplabcut(sources, options)
    else:
        found = ", ".join(map(str, sources[:5]))
        raise GraphposeError(f"one data.yaml, or DeepLabCut's .csv files, can be converted at a time, not {found}")
    return 0


def _convert_yolo_pose(path: Path, options: argparse.Namespace) -> None:
    from graphpose.data.convert.yolo_pose import convert_split, read_data_yaml

    if options.images is not None:
        raise GraphposeError("--images is of DeepLabCut's files; a data.yaml names its images itself")
    data = read_data_yaml(path, options.keypoints)
    converted = {split: convert_split(data, split, options.limbs) for split in data.splits}
    for split, result in converted.items():
        _write(result.file, options.out / f"{split}.json", data.root)
        if result.labels_without_image:
            print(f"  {result.labels_without_image} label files beside them have no image and are left out")
    if data.keypoints[0][0] == "keypoint_1":
        print(f"{path} does not name the keypoints, so they are numbered; --keypoints names them")
    if len(data.classes) > 1:
        print(f"{len(data.classes)} classes ({', '.join(data.classes)}): choose one with --category, or category=")


def _convert_deeplabcut(paths: list[Path], options: argparse.Namespace) -> None:
    from graphpose.data.convert.deeplabcut import convert_deeplabcut, read_csv

    if options.keypoints:
        raise GraphposeError("--keypoints is of YOLO-pose files; DeepLabCut's name their body parts themselves")
    tables = [read_csv(path) for path in paths]
    file, root = convert_deeplabcut(tables, options.images, options.limbs)
    _write(file, options.out / "annotations.json", root)
    unique = sorted({part for table in tables for part in table.unique})
    if unique:
        print(f"  unique body parts belong to no animal and are left out: {', '.join(unique)}")


def _write(file: CocoFile, path: Path, images: Path) -> None:
    file.write(path)
    labels = sum(annotation["num_keypoints"] for annotation in file.annotations)
    print(
        f"{path}: {len(file.images):,} images, {len(file.annotations):,} persons, {labels:,} labelled keypoints\n"
        f"  next: graphpose check {shlex.quote(str(path))} --images {shlex.quote(str(images))}"
    )
