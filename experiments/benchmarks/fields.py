"""Speed and accuracy of the fields alone: persons → targets, and perfect or noisy fields → poses.

    python experiments/benchmark.py encode --scenes scenes_n20.json
    python experiments/benchmark.py decode --scenes scenes_n20.json --noise 0.15 --batch 8 --threads 2
    python experiments/benchmark.py compile

With several threads "thread_scaling" has how many times as fast as one thread they decode each batch ("decode"), and
how many times as fast as one after the other they run loops that share nothing ("machine"): medians over measurements
that take turns.

Scenes are a COCO-format file; its images need not exist. AP is COCO's over persons with enough labelled keypoints, with
as many detections per image as the fullest image has persons, and at least COCO's 20.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit

from experiments.benchmarks.scenes import Scene, limb_bound, load_scenes, scene_fields
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import Decoder
from graphpose.fields.encode import Targets, encode
from graphpose.fields.pose import Poses
from graphpose.fields.spec import FieldSpec
from graphpose.graphs.statistics import shipped_statistics
from graphpose.metrics.coco import coco_results, evaluate_coco
from graphpose.skeleton import Skeleton

MEASUREMENTS = 50  # at least so many batches are timed
SCALING_REPETITIONS = 15
SPIN_STEPS = 2_000_000


def run_compile(_: argparse.Namespace) -> dict[str, Any]:
    """Seconds from a new process's first call of the decoder to its poses, without and with cached compilations."""
    with tempfile.TemporaryDirectory() as folder:
        first, cached = (_first_decoding(folder) for _ in range(2))
    return {
        "first_use_seconds": first["seconds"],
        "cached_seconds": cached["seconds"],
        "import_compiles": first["compiled_by_import"] or cached["compiled_by_import"],
    }


FIRST_DECODING = """
import json, time
import numpy as np, numba.core.event as event
compilations = event.RecordingListener()
event.register("numba:compile", compilations)
from graphpose.fields.decode import Decoder
from graphpose.fields.spec import FieldSpec
from graphpose.skeleton import COCO
from graphpose.graphs.statistics import shipped_statistics
compiled_by_import = len(compilations.buffer) > 0
decoder = Decoder(FieldSpec(COCO, 8), statistics=shipped_statistics(COCO))
pif, paf = (np.zeros((n, c, 9, 9), np.float32) for n, c in ((COCO.num_keypoints, 5), (COCO.num_limbs, 7)))
begin = time.perf_counter()
decoder(pif, paf)
seconds = round(time.perf_counter() - begin, 3)
print(json.dumps({"seconds": seconds, "compiled_by_import": compiled_by_import}))
"""


def _first_decoding(cache: str) -> dict[str, Any]:
    """What FIRST_DECODING prints in a process of its own whose compilations are cached in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_DECODING],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def run_encode(options: argparse.Namespace) -> dict[str, Any]:
    """Times encoding; see the module's docstring.

    With ``--batch`` above 1 also the same images one at a time ("ms_one_at_a_time"), both in new memory that is kept
    until all are done, as a training batch needs them: one image over and over in the same memory would stay in the
    processor's cache.
    """
    torch.set_num_threads(options.threads)
    skeleton, scenes, _ = load_scenes(options.scenes, options.long_edge, options.min_keypoints)
    spec = FieldSpec(skeleton, options.stride)
    if options.batch > 1:
        together = list(itertools.islice(itertools.cycle(scenes), options.batch))
        return {**_describe(options, scenes), **_batch_against_single(together, spec)}
    batches = [scenes[i : i + options.batch] for i in range(0, len(scenes), options.batch)]
    inputs = [_padded(batch) for batch in batches]
    times = []
    out: Targets | None = None

    def reusable(out: Targets | None, keypoints: torch.Tensor, size: tuple[int, int]) -> Targets | None:
        fits = out is not None and len(out.pif) == len(keypoints) and out.pif.shape[-2:] == spec.size(*size)
        return out if fits else None

    for _ in range(1 + math.ceil(MEASUREMENTS / len(batches))):
        for batch, (keypoints, scales, size) in zip(batches, inputs, strict=True):
            begin = time.perf_counter()
            out = encode(keypoints, scales, spec, size, out=reusable(out, keypoints, size))
            times.append((time.perf_counter() - begin) / len(batch))
    times = times[len(batches) :]  # the first round warms up
    return {**_describe(options, scenes), "ms_per_image": _milliseconds(times)}


def _batch_against_single(scenes: list[Scene], spec: FieldSpec) -> dict[str, float]:
    """Medians in ms per image of encoding all scenes at once and one after the other, in alternating rounds."""
    keypoints, scales, size = _padded(scenes)
    singles = [_padded([scene]) for scene in scenes]
    at_once, one_by_one = [], []
    for _ in range(1 + math.ceil(MEASUREMENTS / 5)):
        begin = time.perf_counter()
        kept = [encode(keypoints, scales, spec, size)]
        at_once.append((time.perf_counter() - begin) / len(scenes))
        del kept
        begin = time.perf_counter()
        kept = [encode(one_keypoints, one_scales, spec, one_size) for one_keypoints, one_scales, one_size in singles]
        one_by_one.append((time.perf_counter() - begin) / len(scenes))
        del kept
    return {"ms_per_image": _milliseconds(at_once[1:]), "ms_one_at_a_time": _milliseconds(one_by_one[1:])}


def run_decode(options: argparse.Namespace) -> dict[str, Any]:
    """Times decoding and scores the poses; see the module's docstring."""
    torch.set_num_threads(options.threads)
    skeleton, scenes, annotations = load_scenes(options.scenes, options.long_edge, options.min_keypoints)
    spec = FieldSpec(skeleton, options.stride)
    decoder = Decoder(spec, DecoderConfig(), shipped_statistics(skeleton) if options.join else None)
    generator = torch.Generator().manual_seed(options.seed)
    fields = [scene_fields(scene, spec, options.noise, generator) for scene in scenes]
    begin = time.perf_counter()
    decoder(fields[0][0][0], fields[0][1][0])
    first = time.perf_counter() - begin

    batches = [range(i, min(i + options.batch, len(scenes))) for i in range(0, len(scenes), options.batch)]
    times: list[float] = []
    poses: list[Poses] = []
    for repetition in range(math.ceil(MEASUREMENTS / len(batches))):
        for batch in batches:
            pif, paf = _stacked(fields, batch)
            begin = time.perf_counter()
            decoded = decoder.decode_batch(pif, paf, workers=options.threads)
            times.append((time.perf_counter() - begin) / len(batch))
            if repetition == 0:
                poses += decoded
    scaling = {}
    if options.threads > 1:
        scaling["thread_scaling"] = thread_scaling(
            decoder, [_stacked(fields, batch) for batch in batches], options.threads
        )
    return {
        **_describe(options, scenes),
        **scaling,
        "noise": options.noise,
        "join": options.join,
        "ms_per_image": _milliseconds(times),
        "ms_first_image": round(1000 * first, 3),
        **score(scenes, annotations, skeleton, poses),
        "limb_bound": limb_bound(scenes, annotations, skeleton),
        "poses": sum(len(p) for p in poses),
    }


def score(scenes: list[Scene], annotations: dict[str, Any], skeleton: Skeleton, poses: list[Poses]) -> dict[str, float]:
    """COCO's AP and AR (all areas) of the poses, with detections per image not capped below the persons there."""
    category = annotations["annotations"][0].get("category_id", 1)
    results = []
    for scene, found in zip(scenes, poses, strict=True):
        keypoints = found.keypoints / np.array([scene.factor, scene.factor, 1.0])  # float64, so that rounding is exact
        results += coco_results(scene.image_id, dataclasses.replace(found, keypoints=keypoints), category)
    limit = max(20, *(scene.scales.shape[1] for scene in scenes))
    metrics = evaluate_coco(annotations, results, skeleton, max_detections=limit)
    return {"ap": round(metrics["AP"], 4), "ar": round(metrics["AR"], 4)}


def _padded(scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Keypoints (B, P, K, 3), scales (B, P) and the common image size of a batch."""
    P = max(scene.keypoints.shape[1] for scene in scenes)
    keypoints = torch.zeros(len(scenes), P, *scenes[0].keypoints.shape[2:])
    scales = torch.zeros(len(scenes), P)
    for i, scene in enumerate(scenes):
        keypoints[i, : scene.keypoints.shape[1]] = scene.keypoints[0]
        scales[i, : scene.scales.shape[1]] = scene.scales[0]
    size = (max(scene.size[0] for scene in scenes), max(scene.size[1] for scene in scenes))
    return keypoints, scales, size


def _stacked(fields: list[tuple[torch.Tensor, torch.Tensor]], batch: range) -> tuple[torch.Tensor, torch.Tensor]:
    """PIF and PAF of a batch of images of one size."""
    pifs, pafs = zip(*(fields[i] for i in batch), strict=True)
    if any(pif.shape != pifs[0].shape for pif in pifs):
        raise GraphposeError("a batch needs images of one size; use --batch 1")
    return torch.cat(pifs), torch.cat(pafs)


def thread_scaling(
    decoder: Decoder, batches: list[tuple[torch.Tensor, torch.Tensor]], threads: int
) -> dict[str, float]:
    """Speed of ``threads`` threads over that of one: of decoding, and of loops that share nothing."""
    _spin(1)
    decode, machine = [], []
    for _ in range(SCALING_REPETITIONS):
        for pif, paf in batches:
            decode.append(
                _seconds(decoder.decode_batch, pif, paf, 1) / _seconds(decoder.decode_batch, pif, paf, threads)
            )
            machine.append(_seconds(_spin_in_threads, threads, 1) / _seconds(_spin_in_threads, threads, threads))
    return {"decode": round(float(np.median(decode)), 3), "machine": round(float(np.median(machine)), 3)}


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    begin = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begin


@njit(nogil=True)
def _spin(steps: int) -> float:
    """A loop that touches no memory: about 5 ms for 2 million steps."""
    total = 0.0
    for i in range(steps):
        total += (i * 7) % 13 * 0.5
    return total


def _spin_in_threads(loops: int, threads: int) -> None:
    """As many loops as there are threads, or one after the other in this one."""
    if threads == 1:
        for _ in range(loops):
            _spin(SPIN_STEPS)
        return
    others = [threading.Thread(target=_spin, args=(SPIN_STEPS,)) for _ in range(threads - 1)]
    for other in others:
        other.start()
    _spin(SPIN_STEPS)
    for other in others:
        other.join()


def _describe(options: argparse.Namespace, scenes: list[Scene]) -> dict[str, Any]:
    return {
        "scenes": options.scenes.name,
        "images": len(scenes),
        "persons": sum(scene.scales.shape[1] for scene in scenes),
        "stride": options.stride,
        "threads": options.threads,
        "batch": options.batch,
    }


def _milliseconds(times: list[float]) -> float:
    return round(1000 * float(np.median(times)), 3)
