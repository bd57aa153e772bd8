"""Commands that score a network on a data set: evaluate and tune."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from graphpose.cli.options import (
    add_category_option,
    add_checkpoint_option,
    add_decoder_option,
    add_network_options,
    checkpoint_of,
    decoder_of,
    usage_of_options,
)
from graphpose.errors import GraphposeError


def add_evaluate_options(parser: argparse.ArgumentParser) -> None:
    add_checkpoint_option(parser)
    parser.add_argument("--annotations", type=Path, required=True, help="COCO, CrowdPose or MPII file")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    parser.add_argument("--batch-size", type=int, default=1, help="images per batch (default: 1)")
    parser.add_argument("--workers", type=int, default=0, help="loader processes (default: 0)")
    parser.add_argument("--out", type=Path, help="write the poses for the server: .json, of MPII's release .mat")
    parser.add_argument(
        "--max-detections", type=int, default=20, help="poses per image that count, not for MPII (default: 20)"
    )
    parser.add_argument("--single", action="store_true", help="MPII: the .mat of persons who stand apart")
    parser.add_argument("--dataset", choices=("coco", "crowdpose", "mpii"), help="whose rules (default: the file's)")
    add_category_option(parser)
    parser.add_argument("--split", choices=("train", "test"), help="of MPII's official release")
    parser.add_argument("--groups", type=Path, help="MPII's groups_v12.mat, for its official release")
    parser.add_argument(
        "--evaluator", choices=("pycocotools", "fast"), default="pycocotools", help="of COCO and CrowdPose"
    )
    add_decoder_option(parser)
    add_network_options(parser)


def run_evaluate(options: argparse.Namespace) -> int:
    """Metrics of a checkpoint on COCO, CrowdPose, MPII or another COCO-format data set, by the data set's own rules. A
    set without persons is not scored; --out writes its poses for a server."""
    from graphpose.checkpoint import load_checkpoint, network_from_checkpoint
    from graphpose.data.coco import CocoDataset
    from graphpose.data.loader import make_loader
    from graphpose.data.mpii import MpiiDataset
    from graphpose.data.open import open_dataset
    from graphpose.data.transforms import EvalTransform
    from graphpose.device import resolve_device
    from graphpose.fields.decode import build_decoder
    from graphpose.inference.batches import for_inference
    from graphpose.inference.evaluate import evaluate, figure
    from graphpose.metrics.protocol import require_scorable
    from graphpose.metrics.submission import write_results

    if options.max_detections < 1:
        raise GraphposeError(f"--max-detections {options.max_detections} must be at least 1")
    dataset: CocoDataset
    if options.split or options.groups:
        dataset = MpiiDataset(options.annotations, options.images, split=options.split, groups=options.groups)
    else:
        dataset = open_dataset(options.annotations, options.images, category=options.category)
    truth = dataset.ground_truth()
    scored = bool(truth["annotations"]) or options.out is None
    if scored:
        require_scorable(truth, dataset.skeleton, options.dataset)
    content = load_checkpoint(checkpoint_of(options))
    device = resolve_device(options.device)
    network = for_inference(network_from_checkpoint(content, checkpoint_of(options), device, skeleton=dataset.skeleton))
    decoder = build_decoder(network.spec, decoder_of(options, content), network.pose_statistics)
    usage = usage_of_options(options, content)
    loader = make_loader(
        dataset,
        EvalTransform(usage.long_edge, enlarge=usage.enlarge),
        options.batch_size,
        shuffle=False,
        workers=options.workers,
        pin_memory=device.type == "cuda",
    )
    evaluation = evaluate(
        network,
        decoder,
        loader,
        truth,
        precision=options.precision,
        max_detections=options.max_detections,
        fusion=usage.fusion,
        protocol=options.dataset,
        evaluator=options.evaluator,
    )
    if options.out is not None:
        print(write_results(options.out, evaluation.results, dataset, single=options.single))
    if scored:
        width = max(len(name) for name in evaluation.metrics)
        for name, value in evaluation.metrics.items():
            print(f"{name:{width}s} {figure(value, 4)}")
    else:
        print(f"nobody to score: {options.annotations} has no annotations")
    return 1 if evaluation.errors else 0


def add_tune_options(parser: argparse.ArgumentParser) -> None:
    add_checkpoint_option(parser)
    parser.add_argument("--annotations", type=Path, required=True, help="COCO-format keypoint file of a validation set")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    add_category_option(parser)
    parser.add_argument("--out", type=Path, default=Path("decoder.json"), help="the settings (default: decoder.json)")
    parser.add_argument("--limit", type=int, help="only the first N images; each takes 6 MB at 641 pixels")
    parser.add_argument("--rounds", type=int, default=2, help="passes over all settings, at most (default: 2)")
    add_network_options(parser)


def run_tune(options: argparse.Namespace) -> int:
    """Choose the decoder's thresholds for a checkpoint on a validation set, starting from those it carries; writes them
    as JSON for --decoder of predict and evaluate. Report figures on another set than this one."""
    from graphpose.checkpoint import load_checkpoint, network_from_checkpoint
    from graphpose.data.loader import make_loader
    from graphpose.data.open import open_dataset
    from graphpose.data.transforms import EvalTransform
    from graphpose.device import resolve_device
    from graphpose.fields.config import DecoderConfig
    from graphpose.inference.batches import for_inference
    from graphpose.inference.tune import choose_thresholds, collect_fields
    from graphpose.metrics.protocol import require_scorable

    if options.limit is not None and options.limit < 1:
        raise GraphposeError(f"--limit {options.limit} must be at least 1")
    dataset = open_dataset(options.annotations, options.images, category=options.category)
    require_scorable(dataset.ground_truth(), dataset.skeleton)
    content = load_checkpoint(checkpoint_of(options))
    device = resolve_device(options.device)
    network = for_inference(network_from_checkpoint(content, checkpoint_of(options), device, skeleton=dataset.skeleton))
    usage, cuda = usage_of_options(options, content), device.type == "cuda"
    loader = make_loader(
        dataset, EvalTransform(usage.long_edge, enlarge=usage.enlarge), 1, shuffle=False, pin_memory=cuda
    )
    batches = itertools.islice(loader, options.limit)
    fields = collect_fields(network, batches, precision=options.precision, fusion=usage.fusion)
    start = DecoderConfig.from_dict(content["decoder"])
    choice = choose_thresholds(network, fields, dataset.ground_truth(), start, rounds=options.rounds)
    choice.config.write(options.out)
    print("\n".join(choice.lines()))
    print(f"written to {options.out}")
    return 0
