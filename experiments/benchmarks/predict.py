"""``graphpose predict`` on images: images per second, and where the time goes.

    python experiments/benchmark.py predict IMAGES… --checkpoint runs/1
    python experiments/benchmark.py predict photos --checkpoint C --batch-size 8 --rounds 5

prints one JSON object. The whole command and its network alone take turns within each round. "hidden" is the time of
the network alone against that of the whole: 1 means that reading, decoding, drawing and writing cost nothing beside it.
Shares are of the wall clock; stages beside each other add up to more than 1, and "read" is only what was waited for.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from graphpose.data.loader import collate
from graphpose.errors import GraphposeError
from graphpose.inference.frames import read_frames
from graphpose.inference.job import predict_sources
from graphpose.inference.outputs import OutputConfig
from graphpose.inference.predict import Predictor
from graphpose.inference.sources import Sources, find_sources

STAGES = ("read", "network", "decode", "write")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns plain values for one JSON object."""
    predictor = Predictor.from_checkpoint(
        options.checkpoint, device=options.device, long_edge=options.long_edge, precision=options.precision,
        compile=options.compile,
    )  # fmt: skip
    sources = find_sources(options.sources)
    size = options.batch_size or predictor.default_batch_size
    predict_once(predictor, sources, size, options.draw)  # compiles the decoder, fills the file cache
    streams, networks, shares, firsts, frames = [], [], [], [], 0
    for _ in range(options.rounds):
        frames, seconds = predict_once(predictor, sources, size, options.draw)
        streams.append(seconds["all"])
        firsts.append(seconds["first"])
        shares.append({stage: seconds.get(stage, 0.0) / seconds["all"] for stage in STAGES})
        networks.append(network_alone(predictor, sources, size))
    return {
        "device": str(predictor.device),
        "frames": frames,
        "batch_size": size,
        "images_per_second": round(frames / statistics.median(streams), 2),
        "images_per_second_of_the_network_alone": round(frames / statistics.median(networks), 2),
        "hidden": round(statistics.median(n / s for n, s in zip(networks, streams, strict=True)), 3),
        "share_of_the_wall_clock": {s: round(statistics.median(x[s] for x in shares), 3) for s in STAGES},
        "first_result_seconds": round(statistics.median(firsts), 3),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _UNITS_PER_MIB, 1),
    }


_UNITS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10


def predict_once(predictor: Predictor, sources: Sources, size: int, draw: bool) -> tuple[int, dict[str, float]]:
    """Number of frames and the seconds of each stage, into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        config = OutputConfig(Path(folder), draw=draw, json=True)
        summary = predict_sources(predictor, sources, config, batch_size=size, log=io.StringIO())
    if summary.signal_number:  # the command ends well on Ctrl-C; half a run is no measurement
        raise SystemExit(summary.status)
    if not summary.done:
        raise GraphposeError(f"none of {summary.failed} frames could be read; there is nothing to measure")
    return summary.done, summary.seconds


def network_alone(predictor: Predictor, sources: Sources, size: int) -> float:
    """Seconds of the network on the same batches, ready before the clock starts."""
    frames = [f.prepared for f in read_frames(sources.items, predictor.prepare) if f.prepared is not None]
    batches = [collate(frames[i : i + size]).images for i in range(0, len(frames), size)]
    started = time.perf_counter()
    for images in batches:
        predictor.fields(images)
    return time.perf_counter() - started
