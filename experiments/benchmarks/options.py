"""Options of every benchmark. What is measured is imported when it is: help needs none of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parsers(subparsers: Any) -> None:
    """A subcommand for each benchmark; ``run`` of its options names the function, as ``pkgutil.resolve_name`` takes it.

    Args:
        subparsers: of an ``argparse.ArgumentParser``.
    """

    def add(name: str, run: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = subparsers.add_parser(name, help=text, description=text)
        parser.set_defaults(run=f"experiments.benchmarks.{run}")
        return parser

    encode = add("encode", "fields:run_encode", "time persons → targets")
    decode = add("decode", "fields:run_decode", "time fields → poses and score the poses")
    for parser in (encode, decode):
        parser.add_argument("--scenes", type=Path, required=True, help="COCO-format annotation file (.json)")
        parser.add_argument("--stride", type=int, default=8, help="pixels per field cell (default: %(default)s)")
        parser.add_argument(
            "--long-edge", type=int, default=641, help="images are resized to it, pixels; 0 keeps them (default: 641)"
        )
        parser.add_argument("--min-keypoints", type=int, default=1, help="persons with fewer labels are left out")
        parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
        parser.add_argument("--batch", type=int, default=1, help="images at once (default: 1)")
    decode.add_argument("--noise", type=float, default=0.0, help="offset noise in keypoint scales: 0, 0.15, 0.3")
    decode.add_argument("--seed", type=int, default=0, help="of the noise")
    decode.add_argument("--join", action=argparse.BooleanOptionalAction, default=True, help="join fragments")
    add("compile", "fields:run_compile", "time the decoder's compilation and its start from the cache")

    text = "time, memory and training step of the graph network against the baseline"
    network = add("network", "network:run", text)
    network.add_argument("--backbone", default="resnet50", help="timm name (default: %(default)s)")
    network.add_argument("--device", default="auto", help="cpu or cuda (default: cuda where there is one)")
    network.add_argument("--size", type=int, help="image side in pixels for inference (default: 641, on a CPU 321)")
    network.add_argument("--train-size", type=int, help="likewise for training (default: 385, on a CPU 193)")
    network.add_argument("--batch", type=int, help="images per training step (default: 8, on a CPU 2)")
    network.add_argument("--memory-size", type=int, default=641, help="for peak memory (default: %(default)s)")
    network.add_argument("--rounds", type=int, default=7, help="repetitions (default: %(default)s)")
    network.add_argument("--threads", type=int, help="CPU threads (default: torch's)")

    layers = add("layers", "network:run_layers", "time graph layers of every kind against the paper's")
    layers.add_argument("--backbone", default="resnet50", help="timm name (default: %(default)s)")
    layers.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    layers.add_argument("--size", type=int, default=321, help="image side in pixels (default: %(default)s)")
    layers.add_argument("--batch", type=int, default=2, help="images per training step (default: %(default)s)")
    layers.add_argument("--node-width", type=int, default=1, help="channels per keypoint (default: %(default)s)")
    layers.add_argument("--rounds", type=int, default=7, help="repetitions (default: %(default)s)")
    layers.add_argument("--threads", type=int, help="CPU threads (default: torch's)")

    load = add("load", "loader:run_load", "training and evaluation loaders: images per second and core, and shares")
    load.add_argument("--annotations", type=Path, required=True)
    load.add_argument("--images", type=Path, required=True)
    load.add_argument("--size", type=int, default=641, help="crop in training, long edge in evaluation, pixels")
    load.add_argument("--count", type=int, default=100, help="images to measure on")
    read = add("read", "loader:run_read", "parsing and indexing an annotation file against json.load")
    read.add_argument("--annotations", type=Path, required=True)
    read.add_argument("--repeats", type=int, default=3)

    train = add("train", "train:run", "training against a loop over random tensors with the same network")
    train.add_argument("settings", nargs="*", metavar="NAME|KEY=VALUE", help="as after `run.py with`")
    train.add_argument("--rounds", type=int, default=5, help="epochs and loops to measure (default: %(default)s)")
    train.add_argument("--threads", type=int, help="CPU threads (default: torch's)")

    text = "the tracker on made films: MOTA, IDF1, identity switches and time, with and without velocities"
    track = add("track", "track:run", text)
    track.add_argument("--films", type=int, default=20, help="how many (default: %(default)s)")
    track.add_argument("--frames", type=int, default=150, help="of each (default: %(default)s)")
    track.add_argument("--persons", type=int, default=6, help="in each (default: %(default)s)")
    track.add_argument("--seed", type=int, default=0, help="of the first film (default: %(default)s)")

    gpu = add("gpu", "gpu:run", "what only a GPU can settle, in at most nine minutes; writes a JSON file and a page")
    gpu.add_argument("steps", nargs="*", metavar="STEP", help="only these (default: all that time allows)")
    gpu.add_argument("--device", default="auto", help="cpu or cuda (default: cuda where there is one)")
    gpu.add_argument("--small", action="store_true", help="a rehearsal with tiny networks")
    gpu.add_argument("--seconds", type=float, default=540.0, help="for all steps together (default: 540)")
    gpu.add_argument("--out", type=Path, default=Path("gpu.json"), help="the report; the page lies beside it as .md")

    memory = add("memory", "memory:run", "peak memory of a training step, counted without computing")
    memory.add_argument("networks", nargs="*", metavar="NETWORK", help="rows, as 'DGCN-50' (default: all)")
    memory.add_argument("--sizes", type=int, nargs="+", default=[401, 641], help="pixels (default: 401 641)")
    memory.add_argument("--table", type=Path, help="write it here as Markdown")

    text = "predict on images and videos: frames per second, where the time goes, first result, memory"
    predict = add("predict", "predict:run", text)
    predict.add_argument("sources", nargs="+", help="as of graphpose predict")
    predict.add_argument("--checkpoint", type=Path, required=True)
    predict.add_argument("--device", default="cpu", help="cpu, cuda, cuda:<index> or auto (default: cpu)")
    predict.add_argument("--long-edge", type=int, help="pixels, 0 for as is (default: the checkpoint's)")
    predict.add_argument("--batch-size", type=int, help="images per batch (default: 1 on a CPU, 16 on a GPU)")
    predict.add_argument("--precision", default="float32", help="float32, bfloat16 or float16 (default: float32)")
    predict.add_argument("--compile", action="store_true", help="torch.compile the network")
    predict.add_argument("--draw", action=argparse.BooleanOptionalAction, default=True, help="draw the poses")
    predict.add_argument("--rounds", type=int, default=3, help="repetitions (default: %(default)s)")

    onnx = add("onnx", "onnx:run", "a network by PyTorch, and exported by ONNX Runtime and OpenVINO, on a CPU")
    chosen = onnx.add_mutually_exclusive_group()
    chosen.add_argument("--checkpoint", type=Path, help="(default: the network that graphpose ships)")
    chosen.add_argument("--backbone", help="timm name: an untrained DGCN on it")
    onnx.add_argument("--size", type=int, help="image side in pixels (default: the checkpoint's; of a backbone 641)")
    onnx.add_argument("--rounds", type=int, default=7, help="repetitions (default: %(default)s)")
    onnx.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
