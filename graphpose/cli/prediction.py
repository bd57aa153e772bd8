"""Commands that find people: predict, and merge for its parts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from graphpose.cli.options import add_checkpoint_option, add_decoder_option, add_network_options, checkpoint_of
from graphpose.errors import GraphposeError

if TYPE_CHECKING:
    from graphpose.distributed import Ranks
    from graphpose.inference.predict import Predictor


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


def add_predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="image or video file, folder (with all below it), pattern in quotes, .txt list of these, URL of a stream, "
        "number of a camera, or - for an image or a list from standard input",
    )
    network = parser.add_mutually_exclusive_group()
    add_checkpoint_option(network)
    network.add_argument(
        "--onnx", type=Path, metavar="FILE", help="a network that `graphpose export` wrote, run by ONNX Runtime (CPU)"
    )
    _add_output_options(parser)
    parser.add_argument("--batch-size", type=int, help="images per batch (default: 1 on a CPU, 16 on a GPU)")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile the network: minutes before the first image, then faster"
    )
    add_decoder_option(parser)
    add_network_options(parser)


def run_predict(options: argparse.Namespace) -> int:
    """Find people in photographs and videos. Writes results.json (COCO-results format), images.json (which image an id
    is) and NAME.poses.png or NAME.poses.mp4. Ctrl-C leaves whole files, and --resume goes on from there."""
    from graphpose.distributed import ranks_of_this_run
    from graphpose.inference.job import predict_sources
    from graphpose.inference.merge import merge
    from graphpose.inference.outputs import OutputConfig
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
        predictor = _predictor(options)
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


def _predictor(options: argparse.Namespace) -> Predictor:
    """Of --onnx or --checkpoint; what is not said otherwise is as the file says."""
    from graphpose.fields.config import DecoderConfig
    from graphpose.inference.predict import Predictor

    decoder = None if options.decoder is None else DecoderConfig.read(options.decoder)
    usage = {
        "long_edge": options.long_edge,
        "flip": options.flip,
        "scales": options.scales,
        "enlarge": options.enlarge,
        "merge": options.merge,
    }
    if options.onnx is None:
        return Predictor.from_checkpoint(
            checkpoint_of(options),
            device=options.device,
            decoder=decoder,
            precision=options.precision,
            compile=options.compile,
            **usage,
        )
    if options.device not in ("cpu", "auto"):
        raise GraphposeError(f"--device {options.device}: --onnx runs on the CPU; take --checkpoint, or leave it out")
    if options.precision != "float32":
        raise GraphposeError(f"--precision {options.precision}: --onnx computes in the file's own, leave it out")
    if options.compile:
        raise GraphposeError("--compile: --onnx is compiled by its runtime, leave it out")
    return Predictor.from_onnx(options.onnx, decoder=decoder, **usage)


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


def add_merge_options(parser: argparse.ArgumentParser) -> None:
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
