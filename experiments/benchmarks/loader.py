"""Benchmarks of reading and loading: images per second and what the time goes into; the annotation file's parsing.

python experiments/benchmark.py load --annotations person_keypoints_train2017_local.json --images train2017
python experiments/benchmark.py read --annotations person_keypoints_train2017.json.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import time
from collections import defaultdict
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from graphpose.data.coco import CocoDataset
from graphpose.data.colour import jitter_colours
from graphpose.data.loader import collate, make_loader
from graphpose.data.transforms import EvalTransform, TrainTransform, Transform, Warped, warp_sample


def run_load(options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of CPU time in one thread, for training and evaluation, with the share of every step."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    dataset = CocoDataset(options.annotations, options.images)
    dataset = CocoDataset(options.annotations, options.images, image_ids=dataset.image_ids[: options.count])
    training = TrainTransform(options.size, dataset.skeleton)
    transforms: dict[str, Transform] = {"training": training, "evaluation": EvalTransform(options.size)}
    report: dict[str, Any] = {"images": len(dataset), "size": options.size}
    for name, transform in transforms.items():
        loader = make_loader(dataset, transform, 8, shuffle=name == "training")
        started, wall = time.process_time(), time.perf_counter()
        loaded = sum(len(batch) for batch in loader)
        report[name] = {
            "images_per_core_second": round(loaded / (time.process_time() - started), 1),
            "images_per_second": round(loaded / (time.perf_counter() - wall), 1),
        }
    report["training"]["milliseconds"] = _training_steps(dataset, training)
    return report


def _training_steps(dataset: CocoDataset, transform: TrainTransform) -> dict[str, float]:
    """Median CPU milliseconds of each step of a training sample."""
    steps: dict[str, list[float]] = defaultdict(list)

    def measure(step: str, started: float) -> float:
        now = time.process_time()
        steps[step].append(1000 * (now - started))
        return now

    for index in range(len(dataset)):
        rng = np.random.default_rng([0, index])
        now = time.process_time()
        sample = dataset[index]
        now = measure("decode", now)
        matrix, flip = transform.draw_view(sample, rng)
        warped: Warped = warp_sample(sample, matrix, (transform.size, transform.size), flip)
        now = measure("warp", now)
        warped.sample.image = jitter_colours(
            warped.sample.image, transform.config.colour, transform.config.degrade, rng
        )
        now = measure("colour", now)
        collate([warped])
        measure("tensors", now)
    return {step: round(median(values), 2) for step, values in steps.items()}


def run_read(options: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of json.load and of the data set's reader, and the memory at its peak."""
    parsing, reading = [], []
    for _ in range(options.repeats):
        started = time.process_time()
        opener = gzip.open if options.annotations.suffix == ".gz" else open
        with opener(options.annotations) as file:
            content = json.load(file)
        parsing.append(time.process_time() - started)
        del content
        peak_of_parsing = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        dataset = CocoDataset(options.annotations, options.annotations.parent)
        reading.append(time.process_time() - started)
    table = dataset.annotations
    arrays = (table.ids, table.keypoints, table.num_keypoints, table.bbox, table.area, table.iscrowd)
    return {
        "images": len(dataset),
        "annotations": len(table),
        "json_load_seconds": round(median(parsing), 3),
        "reader_seconds": round(median(reading), 3),
        "ratio": round(median(reading) / median(parsing), 3),
        "peak_megabytes_json_load": round(peak_of_parsing / 1024, 1),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "kept_megabytes": round(sum(array.nbytes for array in arrays) / 2**20, 1),
    }
