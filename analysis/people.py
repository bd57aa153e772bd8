"""How well a network sees people in photographs, with intervals.

    python analysis/people.py --coco person_keypoints_val2017.json val2017 \
        --single lspet_val.json.gz lspet/val

scores the network that graphpose ships, or that of --checkpoint, and prints, with 95 % intervals of a bootstrap over
images,

    person_keypoints_val2017: 101 images
      AP    0.153  0.121 … 0.187
      AP50  0.371  0.312 … 0.433
      AR    0.214  0.180 … 0.251
      face  0.301  0.262 … 0.341
    lspet_val: 1000 images, 12756 labelled joints
      within 0.1 of the box, best of five    0.713  0.699 … 0.727
      …

(figures made up). The first set has every person labelled and is scored by COCO's rules; of its labelled noses, eyes
and ears "face" is the share that lies within a tenth of the long side of the person's box from one of the image's poses
that has the keypoint. The second has one labelled person an image, beside whom there may be others: a labelled joint is
found where a pose has it nearer than a tenth (a twentieth) of the long side of the person's box. That pose is the one
of the five highest that finds most joints, or the highest. A joint that the pose lacks is not found. Joints that the
network has no name for do not count.

With --tune OUT the decoder's thresholds are chosen on the sets, which must then be training photographs, and written as
JSON for --decoder: those of the largest sum of AP, "within 0.1, best of five" and "within 0.1, highest".

With --sheet OUT images of --coco, drawn at random, are put on a sheet with the poses above a score, and the persons
found, missed and invented in them are counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from graphpose.cli.options import add_usage_options
from graphpose.data.dataset import PoseDataset
from graphpose.data.loader import make_loader
from graphpose.data.matching import match_keypoints
from graphpose.data.open import open_dataset
from graphpose.errors import GraphposeError, escape_output
from graphpose.fields.config import DecoderConfig
from graphpose.inference.batches import predict_batches
from graphpose.inference.outputs import DRAWN_SCORE
from graphpose.inference.predict import Predictor
from graphpose.inference.tune import collect_fields
from graphpose.inference.unsure import UNSURE_GRID, ScoredPhotographs, choose_unsure_thresholds
from graphpose.metrics.coco import coco_results
from graphpose.metrics.intervals import Interval, coco_intervals, face_interval, single_intervals
from graphpose.metrics.persons import PersonCounts, count_persons
from graphpose.metrics.results import category_of
from graphpose.nn.config import SHIPPED
from graphpose.skeleton import Skeleton
from graphpose.visualize import contact_sheet, draw_poses, save_image

SHEET_COLUMNS = 6
# What --tune tries; studies, which count what networks find, try less.
GRID = UNSURE_GRID | {"expected_oks": (False, True), "complete_poses": (False, True)}


def predict(
    predictor: Predictor, dataset: PoseDataset, batch_size: int
) -> tuple[dict[int, np.ndarray], list[dict[str, Any]]]:
    """Poses of a data set: image id → (N, K, 3) best first, and all of them in COCO's results format."""
    loader = make_loader(dataset, predictor.transform, batch_size, shuffle=False)
    poses: dict[int, np.ndarray] = {}
    category = category_of(dataset.ground_truth())
    results: list[dict[str, Any]] = []
    batches = tqdm(loader, desc="predict", disable=None, leave=False)
    found_in = predict_batches(predictor.network, predictor.decoder, batches, fusion=predictor.usage.fusion)
    for batch, found in found_in:
        for message in batch.errors:
            print(f"counts as an image without a pose: {message}", file=sys.stderr)
        for image_id, one in zip(batch.image_ids, found, strict=True):
            poses[image_id] = one.keypoints
            results += coco_results(image_id, one, category)
    return poses, results


def table(intervals: Mapping[str, Interval]) -> str:
    """One line per figure: name, value, low … high."""
    width = max(map(len, intervals))
    return "\n".join(
        f"  {name:{width}s}  {value:.3f}  {low:.3f} … {high:.3f}" for name, (value, low, high) in intervals.items()
    )


def open_first(annotations: str, images: str, limit: int | None) -> PoseDataset:
    """A data set, or its first images."""
    dataset = open_dataset(annotations, images)
    return dataset if limit is None else open_dataset(annotations, images, image_ids=dataset.image_ids[:limit])


def open_predictor(options: argparse.Namespace) -> Predictor:
    """The network that was asked for, with its size, views and thresholds."""
    return Predictor.from_checkpoint(
        options.checkpoint,
        device=options.device,
        long_edge=options.long_edge,
        flip=options.flip,
        scales=options.scales,
        enlarge=options.enlarge,
        merge=options.merge,
        decoder=None if options.decoder is None else DecoderConfig.read(options.decoder),
    )


def open_complete(options: argparse.Namespace, skeleton: Skeleton) -> PoseDataset:
    """The set of --coco; GraphposeError where it is of another skeleton."""
    dataset = open_first(*options.coco, options.limit)
    if dataset.skeleton.keypoints != skeleton.keypoints:
        raise GraphposeError(
            f"{options.coco[0]} has skeleton '{dataset.skeleton.name}', the network '{skeleton.name}'; AP needs one of "
            "both, see --single"
        )
    return dataset


def report(options: argparse.Namespace) -> list[str]:
    """Everything that was asked for, as lines.

    Raises:
        GraphposeError: the checkpoint or a data set cannot be read, or AP is asked for in another skeleton.
    """
    predictor = open_predictor(options)
    skeleton = predictor.network.spec.skeleton
    lines = [predictor.usage.line()]
    if options.coco:
        dataset = open_complete(options, skeleton)
        poses, results = predict(predictor, dataset, options.batch_size)
        truth = dataset.ground_truth()
        intervals = coco_intervals(truth, results, skeleton, options.resamples, options.seed)
        intervals["face"] = face_interval(truth, poses, skeleton, options.resamples, options.seed)
        lines += [f"{_name(options.coco[0])}: {len(dataset)} images", table(intervals)]
    if options.single:
        dataset = open_first(*options.single, options.limit)
        columns = match_keypoints(dataset.skeleton, skeleton)
        poses, _ = predict(predictor, dataset, options.batch_size)
        intervals, joints = single_intervals(dataset.ground_truth(), poses, columns, options.resamples, options.seed)
        lines += [
            f"{_name(options.single[0])}: {len(dataset)} images, {joints} labelled joints",
            table(intervals),
        ]
    return lines


def tune(options: argparse.Namespace) -> list[str]:
    """Choose thresholds on the given sets, write them, and tell in lines what they gain.

    Raises:
        GraphposeError: see :func:`report`; or the thresholds cannot be written.
    """
    predictor = open_predictor(options)
    network, start = predictor.network, predictor.decoder
    sets = [ScoredPhotographs(open_complete(options, network.spec.skeleton), complete=True)] if options.coco else []
    sets += [ScoredPhotographs(open_first(*options.single, options.limit), complete=False)] if options.single else []
    loaders = [make_loader(one.dataset, predictor.transform, options.batch_size, shuffle=False) for one in sets]
    fields = [collect_fields(network, loader, fusion=predictor.usage.fusion) for loader in loaders]
    found = choose_unsure_thresholds([fields], sets, start, options.rounds, GRID)
    found.config.write(options.tune)
    changed = [
        f"  {name} {old} → {getattr(found.config, name)}"
        for name, old in dataclasses.asdict(start.config).items()
        if getattr(found.config, name) != old
    ]
    images = sum(map(len, fields))
    total = f"{found.before:.4f} → {found.score:.4f} on {images} images, {found.trials} settings tried"
    return [predictor.usage.line(), *changed, total, f"written to {options.tune}"]


def draw_sheet(options: argparse.Namespace) -> list[str]:
    """Images of --coco drawn at random, on a sheet; lines that count the persons in them.

    Raises:
        GraphposeError: see :func:`report`; an image cannot be read, or the sheet cannot be written.
    """
    predictor = open_predictor(options)
    skeleton, dataset = predictor.network.spec.skeleton, open_complete(options, predictor.network.spec.skeleton)
    count = min(options.pictures, len(dataset))
    pictures: list[np.ndarray] = []
    counts: list[PersonCounts] = []
    lines = [predictor.usage.line()]
    for index in sorted(np.random.default_rng(options.seed).choice(len(dataset), count, replace=False).tolist()):
        sample = dataset[index]
        poses, persons = predictor(sample.image), sample.persons
        drawn = poses.keypoints[poses.scores >= options.min_score]
        labelled = (persons.keypoints[:, :, 2] > 0).any(axis=1) & ~persons.iscrowd
        counts.append(count_persons(drawn, persons.keypoints[labelled], persons.area[labelled], skeleton))
        lines.append(f"  {sample.file_name}: {_counted(counts[-1])}")
        pictures.append(draw_poses(sample.image, drawn, skeleton))
    save_image(options.sheet, contact_sheet(pictures, SHEET_COLUMNS))
    total = PersonCounts(*(sum(numbers) for numbers in zip(*counts, strict=True)))
    return [
        *lines,
        f"{count} images, poses with a score of {options.min_score} or more: {_counted(total)}",
        f"written to {options.sheet}",
    ]


def _counted(counts: PersonCounts) -> str:
    return f"{counts.found} found, {counts.missed} missed, {counts.invented} invented"


def _name(path: str) -> str:
    return Path(path).name.split(".")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    escape_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pair: Any = {"nargs": 2, "metavar": ("FILE", "FOLDER")}
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="(default: the network that graphpose ships)")
    parser.add_argument("--coco", **pair, help="annotations and images of a set with every person labelled")
    parser.add_argument("--single", **pair, help="annotations and images of a set with one labelled person an image")
    add_usage_options(parser)
    parser.add_argument("--decoder", type=Path, help="thresholds that `graphpose tune` wrote")
    parser.add_argument("--tune", type=Path, metavar="OUT", help="choose thresholds on the sets and write them here")
    parser.add_argument("--rounds", type=int, default=2, help="of --tune: passes over all settings (default: 2)")
    parser.add_argument("--sheet", type=Path, metavar="OUT", help="draw images of --coco on a sheet, and count persons")
    parser.add_argument("--pictures", type=int, default=24, help="of --sheet (default: 24)")
    parser.add_argument("--min-score", type=float, default=DRAWN_SCORE, help=f"of --sheet (default: {DRAWN_SCORE})")
    parser.add_argument("--limit", type=int, help="only the first images of each set")
    parser.add_argument("--resamples", type=int, default=1000, help="draws of the bootstrap (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of bootstrap and choice of pictures (default: 0)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    try:
        if not (options.coco or options.single):
            raise GraphposeError("nothing to score; give --coco or --single, or both")
        if options.sheet and (options.tune or not options.coco or options.pictures < 1):
            raise GraphposeError("--sheet needs --coco and at least 1 of --pictures, and is a command without --tune")
        made = draw_sheet if options.sheet else tune if options.tune else report
        print("\n".join(made(options)))
    except GraphposeError as error:
        print(f"people: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
