"""The ``graphpose`` command: use a trained network. Training is ``python experiments/run.py``."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphpose import __version__
from graphpose.errors import GraphposeError, escape_output

if TYPE_CHECKING:
    from graphpose.distributed import Ranks
    from graphpose.fields.config import UsageConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 something could not be read, 2 wrong usage or input,
    128 + number of the signal that stopped it."""
    escape_output()
    parser = build_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("graphpose").setLevel(logging.INFO)  # what other libraries tell is their inside
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
    for name, purpose, add_options, run in (
        ("predict", "find people in photographs and videos", _add_predict_options, run_predict),
        ("merge", "join the parts of predict --shard", _add_merge_options, run_merge),
        ("evaluate", "metrics of a checkpoint", _add_evaluate_options, run_evaluate),
        ("tune", "choose the decoder's thresholds for a checkpoint", _add_tune_options, run_tune),
        ("check", "look for defects in a data set", _add_check_options, run_check),
        ("demo", "write rendered scenes as a COCO-format data set", _add_demo_options, run_demo),
        ("export", "write an ONNX file", _add_export_options, run_export),
        ("pack", "make a small file of a trained network", _add_pack_options, run_pack),
        ("import", "make a checkpoint of an OpenPifPaf network", _add_import_options, run_import),
        ("info", "what a checkpoint holds", _add_info_options, run_info),
        ("doctor", "what this machine has, and what will be slow on it", lambda _: None, run_doctor),
    ):
        command = commands.add_parser(name, help=purpose, description=run.__doc__)
        add_options(command)
        command.set_defaults(run=run)
    return parser


def _add_category_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--category", help="name or id of the keypoint category, for files with several")


def _add_decoder_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--decoder", type=Path, help="decoder settings (JSON, see graphpose tune) instead of the checkpoint's"
    )


def _add_checkpoint_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="checkpoint, folder of a run, or packed network (default: the network that graphpose ships)",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="output folder (default: predictions)")
    parser.add_argument(
        "--draw",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="pictures and videos with the poses (default: yes)",
    )
    parser.add_argument("--no-drawings", dest="draw", action="store_false", help=argparse.SUPPRESS)  # its name in 0.1
    parser.add_argument("--json", action="store_true", help="a file for each image in the layout of OpenPifPaf")
    parser.add_argument("--csv", action="store_true", help="keypoints.csv, a row for each person")
    parser.add_argument("--parquet", action="store_true", help="the same as keypoints.parquet (needs pyarrow)")
    parser.add_argument(
        "--track",
        action="store_true",
        help="track_id: who is who over the frames of a video, or over the images of a folder",
    )
    parser.add_argument("--report", action="store_true", help="report.html: the pictures, with a slider over the score")
    parser.add_argument(
        "--shard",
        metavar="N/OF",
        help="only part N of the list, for many machines; `graphpose merge` joins the parts (torchrun sets it itself)",
    )
    parser.add_argument(
        "--min-score", type=float, help="poses with less are left out (default: none; drawn from 0.2 on)"
    )
    parser.add_argument("--max-persons", type=int, help="poses of an image, at most; the best stay (default: all)")
    parser.add_argument("--keypoints", nargs="+", metavar="NAME", help="only these, such as nose left_wrist")
    parser.add_argument("--hide-labels", action="store_true", help="draw no numbers of tracks")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on with what is in --out")
    earlier.add_argument("--overwrite", action="store_true", help="replace what is in --out")


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:<index> or auto (default: cpu)")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), default="float32", help="of the network (autocast)"
    )
    _add_usage_options(parser)


def _add_usage_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--long-edge", type=int, help="pixels of the long edge, 0 for as is (default: the checkpoint's)"
    )
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="fuse the mirror image's fields before decoding (default: the checkpoint's)",
    )
    parser.add_argument(
        "--scales", type=float, nargs="+", help="fuse these sizes, relative to --long-edge (default: the checkpoint's)"
    )


def _checkpoint(options: argparse.Namespace) -> Path:
    """The checkpoint that was named, or the shipped network."""
    from graphpose.packed import SHIPPED

    return options.checkpoint or SHIPPED


def _usage(options: argparse.Namespace, content: Mapping[str, Any]) -> UsageConfig:
    """How images are given to the network, by the checkpoint and the options, which is printed."""
    from graphpose.checkpoint import usage_of

    usage = usage_of(content).changed(options.long_edge, options.flip, options.scales)
    print(usage.line(), file=sys.stderr)
    return usage


def _add_predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="image or video file, folder (with all below it), pattern in quotes, .txt list of these, URL of a stream, "
        "number of a camera, or - for an image or a list from standard input",
    )
    _add_checkpoint_option(parser)
    _add_output_options(parser)
    parser.add_argument("--batch-size", type=int, help="images per batch (default: 1 on a CPU, 16 on a GPU)")
    _add_decoder_option(parser)
    _add_network_options(parser)


def run_predict(options: argparse.Namespace) -> int:
    """Find people in photographs and videos. Writes results.json (COCO-results format), images.json (which image an id
    is) and NAME.poses.png or NAME.poses.mp4. Ctrl-C leaves whole files, and --resume goes on from there."""
    from graphpose.distributed import ranks_of_this_run
    from graphpose.fields.config import DecoderConfig
    from graphpose.inference.job import predict_sources
    from graphpose.inference.merge import merge
    from graphpose.inference.outputs import OutputConfig
    from graphpose.inference.predict import Predictor
    from graphpose.inference.sources import find_sources

    with ranks_of_this_run(options.device) as ranks:
        shard = _shard(options.shard, ranks)
        config = OutputConfig(
            options.out,
            draw=options.draw,
            json=options.json,
            csv=options.csv or options.parquet,
            parquet=options.parquet and shard is None,
            track=options.track,
            report=options.report,
            shard=shard,
            min_score=options.min_score,
            max_persons=options.max_persons,
            keypoints=None if options.keypoints is None else tuple(options.keypoints),
            labels=not options.hide_labels,
            overwrite=options.overwrite,
            resume=options.resume,
        )
        sources = find_sources(options.sources, without=options.out)
        predictor = Predictor.from_checkpoint(
            _checkpoint(options),
            device=options.device,
            long_edge=options.long_edge,
            flip=options.flip,
            scales=options.scales,
            decoder=None if options.decoder is None else DecoderConfig.read(options.decoder),
            precision=options.precision,
        )
        if ranks.is_first:
            print("\n".join([*sources.lines(), predictor.usage.line()]), file=sys.stderr)
        if shard is not None:
            sources = sources.part(*shard)
        summary = predict_sources(predictor, sources, config, batch_size=options.batch_size, say=_say)
        print(summary.line(options.out))
        status = ranks.agree(summary.status)
        if ranks.is_distributed and ranks.is_first and status <= 1:
            print(merge(options.out, overwrite=options.overwrite or options.resume, parquet=options.parquet))
        ranks.agree(status)  # torchrun ends all ranks when one has left with an error: wait for the first
    return status


def _shard(text: str | None, ranks: Ranks) -> tuple[int, int] | None:
    """The part of the list that this process takes: what --shard says, or its rank."""
    if text is None:
        return (ranks.rank + 1, ranks.world_size) if ranks.is_distributed else None
    if ranks.is_distributed:
        raise GraphposeError("--shard under torchrun: each rank takes its own part, leave --shard out")
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise GraphposeError(f"--shard {text} must be N/OF, such as 3/64")
    return int(number), int(of)


def _add_merge_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="that the parts were written to (--out of predict)")
    parser.add_argument("--overwrite", action="store_true", help="replace what was joined before")
    parser.add_argument("--parquet", action="store_true", help="keypoints.parquet, too (needs pyarrow)")


def run_merge(options: argparse.Namespace) -> int:
    """Join the parts that `graphpose predict --shard` has written to a folder: results.json, images.json, and
    keypoints.csv where every part has one. A part that is missing or was stopped is named."""
    from graphpose.inference.merge import merge

    print(merge(options.folder, overwrite=options.overwrite, parquet=options.parquet))
    return 0


def _say(line: str) -> None:
    """Results to standard output, what could not be read to standard error."""
    print(line, file=sys.stderr if ": not read: " in line else sys.stdout, flush=True)


def _add_evaluate_options(parser: argparse.ArgumentParser) -> None:
    _add_checkpoint_option(parser)
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
    _add_category_option(parser)
    parser.add_argument("--split", choices=("train", "test"), help="of MPII's official release")
    parser.add_argument("--groups", type=Path, help="MPII's groups_v12.mat, for its official release")
    parser.add_argument(
        "--evaluator", choices=("pycocotools", "fast"), default="pycocotools", help="of COCO and CrowdPose"
    )
    _add_decoder_option(parser)
    _add_network_options(parser)


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
    from graphpose.fields.config import DecoderConfig
    from graphpose.fields.decode import build_decoder
    from graphpose.inference.evaluate import evaluate, figure
    from graphpose.inference.predict import for_inference
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
    content = load_checkpoint(_checkpoint(options))
    device = resolve_device(options.device)
    network = for_inference(network_from_checkpoint(content, _checkpoint(options), device, skeleton=dataset.skeleton))
    if options.decoder is None:
        config = DecoderConfig.from_dict(content["decoder"])
    else:
        config = DecoderConfig.read(options.decoder)
    decoder = build_decoder(network.spec, config)
    usage = _usage(options, content)
    loader = make_loader(
        dataset,
        EvalTransform(usage.long_edge),
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


def _add_tune_options(parser: argparse.ArgumentParser) -> None:
    _add_checkpoint_option(parser)
    parser.add_argument("--annotations", type=Path, required=True, help="COCO-format keypoint file of a validation set")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    _add_category_option(parser)
    parser.add_argument("--out", type=Path, default=Path("decoder.json"), help="the settings (default: decoder.json)")
    parser.add_argument("--limit", type=int, help="only the first N images; each takes 6 MB at 641 pixels")
    parser.add_argument("--rounds", type=int, default=2, help="passes over all settings, at most (default: 2)")
    _add_network_options(parser)


def run_tune(options: argparse.Namespace) -> int:
    """Choose the decoder's thresholds for a checkpoint on a validation set, starting from those it carries; writes them
    as JSON for --decoder of predict and evaluate. Report figures on another set than this one."""
    from graphpose.checkpoint import load_checkpoint, network_from_checkpoint
    from graphpose.data.loader import make_loader
    from graphpose.data.open import open_dataset
    from graphpose.data.transforms import EvalTransform
    from graphpose.device import resolve_device
    from graphpose.fields.config import DecoderConfig
    from graphpose.inference.predict import for_inference
    from graphpose.inference.tune import choose_thresholds, collect_fields
    from graphpose.metrics.protocol import require_scorable

    if options.limit is not None and options.limit < 1:
        raise GraphposeError(f"--limit {options.limit} must be at least 1")
    dataset = open_dataset(options.annotations, options.images, category=options.category)
    require_scorable(dataset.ground_truth(), dataset.skeleton)
    content = load_checkpoint(_checkpoint(options))
    device = resolve_device(options.device)
    network = for_inference(network_from_checkpoint(content, _checkpoint(options), device, skeleton=dataset.skeleton))
    usage, cuda = _usage(options, content), device.type == "cuda"
    loader = make_loader(dataset, EvalTransform(usage.long_edge), 1, shuffle=False, pin_memory=cuda)
    batches = itertools.islice(loader, options.limit)
    fields = collect_fields(network, batches, precision=options.precision, fusion=usage.fusion)
    start = DecoderConfig.from_dict(content["decoder"])
    choice = choose_thresholds(network, fields, dataset.ground_truth(), start, rounds=options.rounds)
    choice.config.write(options.out)
    print("\n".join(choice.lines()))
    print(f"written to {options.out}")
    return 0


def _add_info_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path)


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
    for name, value in content.get("card", {}).items():
        print(f"{name}: {value}")
    return 0


def _add_pack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="checkpoint or folder of a run")
    parser.add_argument("out", type=Path, help="the .safetensors file")
    parser.add_argument(
        "--weights", choices=("int8", "float16", "float32"), default="int8", help="of convolutions (default: int8)"
    )
    parser.add_argument("--card", type=Path, help="JSON object of texts: data, licence, scores, …")
    _add_decoder_option(parser)
    _add_usage_options(parser)


def run_pack(options: argparse.Namespace) -> int:
    """Write a checkpoint's network with what is needed to use it as one small .safetensors file."""
    from graphpose.checkpoint import load_checkpoint, network_from_checkpoint
    from graphpose.fields.config import DecoderConfig
    from graphpose.packed import pack

    content = load_checkpoint(options.checkpoint)
    network = network_from_checkpoint(content, options.checkpoint)
    if options.decoder is None:
        decoder = DecoderConfig.from_dict(content["decoder"])
    else:
        decoder = DecoderConfig.read(options.decoder)
    card = content.get("card", {}) | ({} if options.card is None else _read_card(options.card))
    usage = _usage(options, content)
    pack(options.out, network, decoder=decoder.to_dict(), usage=usage.to_dict(), card=card, weights=options.weights)
    print(f"written to {options.out}, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


def _read_card(path: Path) -> dict[str, str]:
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise GraphposeError(f"model card '{path}' cannot be read: {error}") from error
    if not isinstance(card, dict) or not all(isinstance(text, str) for text in card.values()):
        raise GraphposeError(f"model card '{path}' must be a JSON object of texts")
    return card


def _add_import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", help="OpenPifPaf file, or pifpaf-resnet50, -resnet101, -resnet152, -resnext50 to download it"
    )
    parser.add_argument("--out", type=Path, default=Path("baseline.pt"), help="the checkpoint (default: baseline.pt)")


def run_import(options: argparse.Namespace) -> int:
    """Make a checkpoint of a network that OpenPifPaf trained, from its file (v0.8, or 0.11 to 0.13), of which nothing
    is run, or from the name of a published baseline, which is downloaded from its authors' address."""
    from graphpose.checkpoint import save_checkpoint
    from graphpose.openpifpaf.convert import import_checkpoint
    from graphpose.openpifpaf.published import find_file, model_card

    imported = import_checkpoint(find_file(options.source))
    config = imported.network.config
    card = model_card(options.source, imported.form, config.scale_factor)
    training = {} if imported.epoch is None else {"epoch": imported.epoch}
    save_checkpoint(options.out, imported.network, config, decoder=imported.decoder, training=training, card=card)
    print(f"{config.backbone}, fields at stride {config.field_stride}, skeleton {config.skeleton.name}")
    if imported.left_out:
        print(f"heads left out: {', '.join(imported.left_out)}")
    for name, value in card.items():
        print(f"{name}: {value}")
    print(f"written to {options.out}")
    return 0


def _add_check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "annotations",
        type=Path,
        help="COCO format, CrowdPose or MPII annotation file; with --sets a list of sets trained together",
    )
    parser.add_argument("--images", type=Path, help="folder of its images; without it only the records are looked at")
    _add_category_option(parser)
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

    if options.sets is not None:
        return _check_sets(options)

    if options.long_edge < 1:
        raise GraphposeError(f"--long-edge {options.long_edge} must be at least 1")
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


def _add_demo_options(parser: argparse.ArgumentParser) -> None:
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


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="the .onnx file")


def run_export(options: argparse.Namespace) -> int:
    """Write a checkpoint's network, folded, as ONNX. What its input, fields and poses are made of (colours, mean, size,
    skeleton, channels, thresholds) is in the file's metadata and in a JSON file beside it."""
    from graphpose.checkpoint import load_checkpoint, network_from_checkpoint, usage_of
    from graphpose.fields.config import DecoderConfig
    from graphpose.inference.export import export_onnx

    content = load_checkpoint(options.checkpoint)
    written = export_onnx(
        network_from_checkpoint(content, options.checkpoint),
        options.out,
        decoder=DecoderConfig.from_dict(content["decoder"]).to_dict(),
        usage=usage_of(content).to_dict(),
    )
    print(f"written to {written} and {written.with_suffix('.json')}")
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """Versions, devices, compiled parts, and what will be slow here and why; worth adding to a report of a fault."""
    from graphpose.cli.doctor import examine

    print("\n".join(examine().lines()))
    return 0
