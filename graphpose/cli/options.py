"""Options that several commands have, and what they mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpose.fields.config import DecoderConfig, UsageConfig


def add_category_option(parser: argparse.ArgumentParser) -> None:
    """``--category``, for annotation files with several keypoint categories."""
    parser.add_argument("--category", help="name or id of the keypoint category, for files with several")


def add_decoder_option(parser: argparse.ArgumentParser) -> None:
    """``--decoder``, thresholds in place of the checkpoint's; see :func:`decoder_of`."""
    parser.add_argument(
        "--decoder", type=Path, help="decoder settings (JSON, see graphpose tune) instead of the checkpoint's"
    )


def add_checkpoint_option(parser: argparse._ActionsContainer) -> None:
    """``--checkpoint``; see :func:`checkpoint_of`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="checkpoint, folder of a run, or packed network (default: the network that graphpose ships)",
    )


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Where and in which precision the network runs, and how images are given to it."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:<index> or auto (default: cpu)")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), default="float32", help="of the network (autocast)"
    )
    add_usage_options(parser)


def add_usage_options(parser: argparse.ArgumentParser) -> None:
    """How images are given to the network; see :func:`usage_of_options`."""
    parser.add_argument(
        "--long-edge", type=int, help="pixels of the long edge, 0 for as is (default: the checkpoint's)"
    )
    parser.add_argument(
        "--enlarge",
        action=argparse.BooleanOptionalAction,
        help="resize images with a shorter long edge, too (default: the checkpoint's)",
    )
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="fuse the mirror image's fields before decoding (default: the checkpoint's)",
    )
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        help="look at these sizes, relative to --long-edge (default: the checkpoint's)",
    )
    parser.add_argument(
        "--merge",
        choices=("fields", "poses"),
        help="of --scales: the mean of their fields, or each decoded alone and the best of the poses of one person "
        "(default: the checkpoint's)",
    )


def checkpoint_of(options: argparse.Namespace) -> Path:
    """The checkpoint that was named, or the shipped network."""
    from graphpose.nn.config import SHIPPED

    return options.checkpoint or SHIPPED


def decoder_of(options: argparse.Namespace, content: Mapping[str, Any]) -> DecoderConfig:
    """Thresholds of --decoder, or those of the checkpoint; GraphposeError where either is refused."""
    from graphpose.fields.config import DecoderConfig

    return (
        DecoderConfig.from_dict(content["decoder"]) if options.decoder is None else DecoderConfig.read(options.decoder)
    )


def usage_of_options(options: argparse.Namespace, content: Mapping[str, Any]) -> UsageConfig:
    """How images are given to the network, by the checkpoint and the options, which is printed."""
    from graphpose.checkpoint import usage_of

    usage = usage_of(content).changed(options.long_edge, options.flip, options.scales, options.enlarge, options.merge)
    print(usage.line(), file=sys.stderr)
    return usage
