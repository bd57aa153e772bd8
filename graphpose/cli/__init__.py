"""The ``graphpose`` command: use a trained network. Training is ``python experiments/run.py``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from graphpose import __version__
from graphpose.cli.conversion import add_convert_options, run_convert
from graphpose.cli.datasets import add_check_options, add_demo_options, run_check, run_demo
from graphpose.cli.networks import (
    add_export_options,
    add_import_options,
    add_info_options,
    add_pack_options,
    run_export,
    run_import,
    run_info,
    run_pack,
)
from graphpose.cli.prediction import add_merge_options, add_predict_options, run_merge, run_predict
from graphpose.cli.scoring import add_evaluate_options, add_tune_options, run_evaluate, run_tune
from graphpose.errors import GraphposeError, escape_output


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
        ("predict", "find people in photographs and videos", add_predict_options, run_predict),
        ("merge", "join the parts of predict --shard", add_merge_options, run_merge),
        ("evaluate", "metrics of a checkpoint", add_evaluate_options, run_evaluate),
        ("tune", "choose the decoder's thresholds for a checkpoint", add_tune_options, run_tune),
        ("check", "look for defects in a data set", add_check_options, run_check),
        ("convert", "YOLO-pose or DeepLabCut labels as COCO format", add_convert_options, run_convert),
        ("demo", "write rendered scenes as a COCO-format data set", add_demo_options, run_demo),
        ("export", "write an ONNX file", add_export_options, run_export),
        ("pack", "make a small file of a trained network", add_pack_options, run_pack),
        ("import", "make a checkpoint of an OpenPifPaf network", add_import_options, run_import),
        ("info", "what a checkpoint holds", add_info_options, run_info),
        ("doctor", "what this machine has, and what will be slow on it", lambda _: None, run_doctor),
    ):
        command = commands.add_parser(name, help=purpose, description=run.__doc__)
        add_options(command)
        command.set_defaults(run=run)
    return parser


def run_doctor(options: argparse.Namespace) -> int:
    """Versions, devices, compiled parts, and what will be slow here and why; worth adding to a report of a fault."""
    from graphpose.cli.doctor import examine

    print("\n".join(examine().lines()))
    return 0
