"""What the graph network costs beside the same network without it.

    python experiments/benchmark.py network
    python experiments/benchmark.py layers      # what other graph layers cost beside the paper's
    python experiments/benchmark.py network --size 641 --train-size 385 --batch 8 --rounds 20

prints one JSON object. Networks take turns within each round and ratios are medians over rounds, since machines drift.
Where there is a GPU, throughput in bfloat16 with channels_last and torch.compile stands beside the bound that the
device's own matrix multiplication sets.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from graphpose.device import resolve_device
from graphpose.nn.config import GRAPH_LAYERS, PoseNetworkConfig
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork

# Heads by the name they get in the output; the first is what the others are compared with.
HEADS: dict[str, dict[str, Any]] = {
    "baseline": {"adjacency": "none"},
    "one_head": {"strides": (16,)},
    "three_heads": {"strides": (16, 8, 4)},
}
PAPER_SIZE = 641  # pixels, long edge in evaluation


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns plain values for one JSON object."""
    device = resolve_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    cuda = device.type == "cuda"
    size = options.size or (PAPER_SIZE if cuda else 321)
    train_size, batch = options.train_size or (385 if cuda else 193), options.batch or (8 if cuda else 2)
    networks = {
        name: PoseNetwork(PoseNetworkConfig(backbone=options.backbone, **settings)).to(device).eval()
        for name, settings in HEADS.items()
    }
    folded = {name: network.fold() for name, network in networks.items()}
    images = torch.randn(1, 3, size, size, device=device)
    with torch.inference_mode():
        inference = take_turns({name: _call(net, images) for name, net in folded.items()}, options.rounds, device)
        unfolded = take_turns({name: _call(net, images) for name, net in networks.items()}, options.rounds, device)
    training = take_turns(
        {name: _training_step(network, train_size, batch) for name, network in networks.items()}, options.rounds, device
    )
    peaks = {name: peak_mib(network, options.memory_size, device) for name, network in folded.items()}
    result = {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "backbone": options.backbone,
        "size": size,
        "train_size": train_size,
        "train_batch": batch,
        "memory_size": options.memory_size,
        "rounds": options.rounds,
        "networks": {
            name: {
                "gmac_at_641": round(gmac(folded[name]), 2),
                "inference": dataclasses.asdict(inference[name]),
                "inference_before_folding": dataclasses.asdict(unfolded[name]),
                "peak_mib": round(peaks[name], 1),
                "peak_ratio": round(peaks[name] / peaks["baseline"], 4),
                "training_step": dataclasses.asdict(training[name]),
            }
            for name in networks
        },
    }
    if cuda:
        result["throughput"] = throughput(folded, size, device, options.rounds)
    return result


def run_layers(options: argparse.Namespace) -> dict[str, Any]:
    """What other graph layers cost beside the paper's: ratios to ``dgcn`` of the same network and graph."""
    device = resolve_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    networks = {
        name: PoseNetwork(
            PoseNetworkConfig(
                backbone=options.backbone, graph_layer=name, node_width=options.node_width, adjacency="full"
            )
        ).to(device).eval()
        for name in GRAPH_LAYERS
    }  # fmt: skip
    features = {name: _graph_features(network, options.size, device) for name, network in networks.items()}
    folded = {name: network.fold() for name, network in networks.items()}
    parts = {name: _graph_features(network, options.size, device) for name, network in folded.items()}
    images = torch.randn(1, 3, options.size, options.size, device=device)
    with torch.inference_mode():
        layers = take_turns(features, options.rounds, device)
        folded_layers = take_turns(parts, options.rounds, device)
        inference = take_turns({name: _call(net, images) for name, net in folded.items()}, options.rounds, device)
    training = take_turns(
        {name: _training_step(network, options.size, options.batch) for name, network in networks.items()},
        options.rounds,
        device,
    )
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "backbone": options.backbone,
        "size": options.size,
        "batch": options.batch,
        "node_width": options.node_width,
        "rounds": options.rounds,
        "layers": {
            name: {
                "parameters": sum(p.numel() for p in networks[name].parameters()),
                "dgcm": dataclasses.asdict(layers[name]),
                "dgcm_folded": dataclasses.asdict(folded_layers[name]),
                "inference": dataclasses.asdict(inference[name]),
                "training_step": dataclasses.asdict(training[name]),
            }
            for name in networks
        },
    }


def _graph_features(network: PoseNetwork, size: int, device: torch.device) -> Callable[[], object]:
    """The network's graph layers alone, one DGCM's, on features of an image of ``size`` pixels."""
    assert network.pif_pyramid is not None
    assert network.keypoint_graph is not None
    dgcm: Any = network.pif_pyramid.modules_at[str(network.base_stride)]
    adjacency = network.keypoint_graph(1)
    cells = -(-size // network.base_stride)
    x = torch.randn(1, network.spec.skeleton.num_keypoints * network.config.node_width, cells, cells, device=device)

    def layers() -> Tensor:
        y = x
        for layer in dgcm.layers:
            y = layer(y).relu() if network.folded else layer(y, adjacency)
        return y

    return layers


def _call(network: Callable[[Tensor], object], images: Tensor) -> Callable[[], object]:
    return lambda: network(images)


def _training_step(network: PoseNetwork, size: int, batch: int) -> Callable[[], object]:
    device = next(network.parameters()).device
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.95)
    loss, spec = PoseLoss(), network.spec
    images = torch.randn(batch, 3, size, size, device=device)
    pif = torch.rand(batch, spec.skeleton.num_keypoints, 5, *spec.size(size, size), device=device)
    paf = torch.rand(batch, spec.skeleton.num_limbs, 7, *spec.size(size, size), device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(network(images), pif, paf)["total"].backward()
        optimizer.step()

    return step


@dataclasses.dataclass(frozen=True)
class Timing:
    """Medians over rounds.

    Attributes:
        seconds: of the clock on the wall.
        ratio: of those to the first call's in the same round.
        cpu_ratio: the same of the process's CPU time, which other work on the machine disturbs less.
    """

    seconds: float
    ratio: float
    cpu_ratio: float


def take_turns(calls: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, Timing]:
    """Times the calls by turns, after one warm-up each."""
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            _synchronize(device)
            started, cpu_started = time.perf_counter(), time.process_time()
            call()
            _synchronize(device)
            if round_:
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - cpu_started)
    first = next(iter(calls))

    def ratio(values: dict[str, list[float]], name: str) -> float:
        return round(statistics.median(a / b for a, b in zip(values[name], values[first], strict=True)), 4)

    return {
        name: Timing(round(statistics.median(wall[name]), 5), ratio(wall, name), ratio(cpu, name)) for name in calls
    }


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def peak_mib(network: nn.Module, size: int, device: torch.device) -> float:
    """Peak MiB of weights and tensors in one forward pass of one image.

    On a CPU tensors are counted from the allocator's events, which neither noise nor the allocator's caches change.
    """
    images = torch.zeros(1, 3, size, size, device=device)
    weights = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
    if device.type == "cuda":
        network(images)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        network(images)
        return (weights + torch.cuda.max_memory_allocated(device) - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        network(images)
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return (weights + peak) / 2**20


@torch.inference_mode()
def gmac(network: nn.Module, size: int = PAPER_SIZE) -> float:
    """Billions of multiply-adds per image, counted without computing."""
    counter = FlopCounterMode(display=False)
    with counter:
        copy.deepcopy(network).to("meta")(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2e9


def throughput(networks: dict[str, PoseNetwork], size: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """Images per second in bfloat16, channels_last and compiled, beside the bound of the device's own matmul."""
    batch = 16
    images = torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    calls = {}
    for name, network in networks.items():
        fast: Any = copy.deepcopy(network)
        calls[name] = _call(torch.compile(fast.to(memory_format=torch.channels_last)), images)
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        timings = take_turns(calls, rounds, device)
        matmul = take_turns({"matmul": lambda: a @ a}, rounds, device)["matmul"].seconds
    tflops = 2 * 8192**3 / matmul / 1e12
    return {
        "batch": batch,
        "matmul_tflops": round(tflops, 1),
        "images_per_second": {name: round(batch / timing.seconds, 1) for name, timing in timings.items()},
        "bound_images_per_second": {
            name: round(tflops * 1e3 / 2 / gmac(net, size), 1) for name, net in networks.items()
        },
        "ratio": {name: timing.ratio for name, timing in timings.items()},
    }
