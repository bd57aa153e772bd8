"""The ``graphpose`` command: use a trained network. Training is ``python experiments/run.py``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from graphpose import __version__
from graphpose.errors import GraphposeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 something could not be read, 2 wrong usage or input."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        return options.run(options)
    except GraphposeError as error:
        print(f"graphpose: {error}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands."""
    parser = argparse.ArgumentParser(prog="graphpose", description=__doc__)
    parser.add_argument("--version", action="version", version=f"graphpose {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    predict = commands.add_parser("predict", help="find people in photographs", description=run_predict.__doc__)
    predict.add_argument("images", nargs="+", type=Path, help="image files or folders")
    predict.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of a finished run")
    predict.add_argument("--out", type=Path, default=Path("predictions"), help="output folder (default: predictions)")
    predict.add_argument("--no-drawings", action="store_true", help="write results.json only")
    _add_network_options(predict)
    predict.set_defaults(run=run_predict)

    evaluate = commands.add_parser("evaluate", help="COCO metrics of a checkpoint", description=run_evaluate.__doc__)
    evaluate.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of a finished run")
    evaluate.add_argument("--annotations", type=Path, required=True, help="COCO-format keypoint file (.json, .json.gz)")
    evaluate.add_argument("--images", type=Path, required=True, help="folder of its images")
    evaluate.add_argument("--batch-size", type=int, default=1, help="images per batch (default: 1)")
    evaluate.add_argument("--workers", type=int, default=0, help="loader processes (default: 0)")
    evaluate.add_argument("--out", type=Path, help="write the poses here, in COCO-results format")
    _add_network_options(evaluate)
    evaluate.set_defaults(run=run_evaluate)

    check = commands.add_parser("check", help="look for defects in a data set", description=run_check.__doc__)
    check.add_argument("annotations", type=Path, help="COCO format, CrowdPose or MPII annotation file")
    check.add_argument("--images", type=Path, help="folder of its images; without it only the records are looked at")
    check.add_argument("--report", type=Path, help="write the report here, as JSON")
    check.set_defaults(run=run_check)

    export = commands.add_parser("export", help="write an ONNX file", description=run_export.__doc__)
    export.add_argument("checkpoint", type=Path)
    export.add_argument("out", type=Path, help="the .onnx file")
    export.set_defaults(run=run_export)

    info = commands.add_parser("info", help="what a checkpoint holds", description=run_info.__doc__)
    info.add_argument("checkpoint", type=Path)
    info.set_defaults(run=run_info)
    return parser


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--long-edge", type=int, default=641, help="pixels of the long edge, 0 for as is (default: 641)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run_predict(options: argparse.Namespace) -> int:
    """Find people in photographs; writes <name>.poses.png for each and results.json (COCO-results format)."""
    from graphpose.predict import Predictor, find_images, predict_files

    predictor = Predictor.from_checkpoint(options.checkpoint, options.long_edge or None, options.device)
    failed = 0
    for path, found in predict_files(predictor, find_images(options.images), options.out, draw=not options.no_drawings):
        if isinstance(found, GraphposeError):
            print(f"{path}: not read: {found}", file=sys.stderr)
            failed += 1
        else:
            print(f"{path}: {len(found)} person{'' if len(found) == 1 else 's'}")
    print(f"written to {options.out}")
    return 1 if failed else 0


def run_evaluate(options: argparse.Namespace) -> int:
    """COCO keypoint metrics of a checkpoint on a COCO-format data set."""
    from graphpose.checkpoint import load_checkpoint, network_from_checkpoint
    from graphpose.data.coco import CocoDataset
    from graphpose.data.loader import make_loader
    from graphpose.data.transforms import EvalTransform
    from graphpose.evaluate import build_decoder, evaluate

    dataset = CocoDataset(options.annotations, options.images)
    content = load_checkpoint(options.checkpoint)
    network = network_from_checkpoint(content, options.checkpoint, options.device, skeleton=dataset.skeleton)
    decoder = build_decoder(network.spec, content["decoder"])
    loader = make_loader(
        dataset, EvalTransform(options.long_edge or None), options.batch_size, shuffle=False, workers=options.workers
    )
    evaluation = evaluate(network, decoder, loader, dataset.ground_truth())
    for name, value in evaluation.metrics.items():
        print(f"{name:5s} {value:.4f}")
    if options.out is not None:
        options.out.write_text(json.dumps(evaluation.results))
    return 1 if evaluation.errors else 0


def run_info(options: argparse.Namespace) -> int:
    """Configuration, skeleton and training state of a checkpoint."""
    from graphpose.checkpoint import load_checkpoint

    content = load_checkpoint(options.checkpoint)
    config = dict(content["config"])
    skeleton = config.pop("skeleton")
    print(f"skeleton {skeleton['name']}: {len(skeleton['keypoints'])} keypoints, {len(skeleton['limbs'])} limbs")
    for name, value in config.items():
        print(f"{name}: {value}")
    print(f"parameters: {sum(t.numel() for t in content['network'].values() if t.is_floating_point()):,}")
    print(f"averaged weights: {'yes' if content['ema'] is not None else 'no'}")
    print(f"epochs trained: {content['training'].get('epoch', 'unknown')}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Count what a data set holds and name every defect of its records and images; exit status 1 if it has errors."""
    from graphpose.data.check import check_dataset

    report = check_dataset(options.annotations, options.images)
    print("\n".join(report.lines()))
    if options.report is not None:
        options.report.write_text(json.dumps(report.to_dict(), indent=1))
    return 0 if report.ok else 1


def run_export(options: argparse.Namespace) -> int:
    """Write a checkpoint's network, folded, as ONNX with the fields' contract as metadata."""
    from graphpose.checkpoint import load_network
    from graphpose.export import export_onnx

    print(f"written to {export_onnx(load_network(options.checkpoint), options.out)}")
    return 0
