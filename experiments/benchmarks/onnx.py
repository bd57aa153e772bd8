"""A network by PyTorch, and exported by ONNX Runtime and OpenVINO, on a CPU.

    python experiments/benchmark.py onnx                                        # the shipped network at its size
    python experiments/benchmark.py onnx --backbone resnet50 --size 641         # DGCN-50, untrained
    python experiments/benchmark.py onnx --checkpoint runs/1 --size 160

prints one JSON object. All take turns within each round on the same image, and ratios are medians over rounds, since
machines drift; "cpu_ratio" is of CPU time, which other work disturbs less. "difference" is the largest of any value of
the fields from those of the first, relative to the largest of that channel. OpenVINO is measured where it is installed
(pip install openvino).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.network import take_turns
from graphpose.checkpoint import load_checkpoint, network_from_checkpoint, usage_of
from graphpose.errors import GraphposeError
from graphpose.inference.export import export_onnx
from graphpose.inference.exported import ExportedNetwork
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.packed import SHIPPED

Fields = tuple[Tensor, Tensor]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns plain values for one JSON object."""
    torch.set_num_threads(options.threads)
    network, size = _network(options)
    images = torch.randn(1, 3, size, size)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        calls = runtimes(network, Path(folder), images, options.threads)
        timings = take_turns(calls, options.rounds, torch.device("cpu"))
        fields = {name: call() for name, call in calls.items()}
    first = next(iter(fields.values()))
    return {
        "network": options.backbone or str(options.checkpoint or SHIPPED.name),
        "size": size,
        "threads": options.threads,
        "rounds": options.rounds,
        "runtimes": {
            name: {**dataclasses.asdict(timings[name]), "difference": difference(first, fields[name])} for name in calls
        },
    }


def _network(options: argparse.Namespace) -> tuple[PoseNetwork, int]:
    """The folded network, and the side of the square image that it gets."""
    if options.backbone is not None:
        network, size = PoseNetwork(PoseNetworkConfig(backbone=options.backbone)), 641
    else:
        path = options.checkpoint or SHIPPED
        content = load_checkpoint(path)
        network, size = network_from_checkpoint(content, path), usage_of(content).long_edge
    if options.size is None and size is None:
        raise GraphposeError(f"'{options.checkpoint}' takes images at their own size; say --size")
    return network.fold(), options.size or size


def runtimes(network: PoseNetwork, folder: Path, images: Tensor, threads: int) -> dict[str, Callable[[], Fields]]:
    """What computes the fields of an image, by name; the first is folded PyTorch in float32.

    Args:
        network: folded.
        folder: for the exported file.
        images: (1, 3, H, W) in ImageNet normalisation.
        threads: of each.
    """

    def in_torch(network: Any, images: Tensor, precision: torch.dtype | None = None) -> Fields:
        with torch.autocast("cpu", precision, enabled=precision is not None):
            outputs = network(images)
        return outputs["pif"], outputs["paf"]

    path = export_onnx(network, folder / "network.onnx")
    exported = ExportedNetwork(path)
    calls: dict[str, Callable[[], Fields]] = {
        "torch float32": lambda: in_torch(network, images),
        "torch bfloat16": lambda: in_torch(network, images, torch.bfloat16),
        "onnxruntime float32": lambda: in_torch(exported, images),
    }
    if importlib.util.find_spec("openvino") is not None:
        for name, precision in (("float32", "f32"), ("bfloat16", "bf16")):
            calls[f"openvino {name}"] = _in_openvino(path, images, precision, threads)
    return calls


def _in_openvino(path: Path, images: Tensor, precision: str, threads: int) -> Callable[[], Fields]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()

    def call() -> Fields:
        outputs = request.infer({"images": images.numpy()})
        pif, paf = (torch.from_numpy(outputs[name].copy()) for name in ("pif", "paf"))
        return pif, paf

    return call


def difference(expected: Fields, found: Fields) -> float:
    """The largest difference of two sets of fields, of each channel relative to its largest value."""
    parts = [
        (one - other).abs().amax(dim=(0, 1, 3, 4)) / one.abs().amax(dim=(0, 1, 3, 4))
        for one, other in zip(expected, found, strict=True)
    ]
    return float(f"{float(torch.cat(parts).max()):.1e}")
