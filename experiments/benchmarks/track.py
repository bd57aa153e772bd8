"""The tracker on made films of known identities.

    python experiments/benchmark.py track
    python experiments/benchmark.py track --films 5 --frames 60

prints one JSON object. What is tracked are not a network's poses but the visible keypoints of each film, damaged as a
network's are: moved, partly missing, whole persons missing, and poses of nobody. So the figures speak of the tracker
alone. They are py-motmetrics', with 1 − OKS as the distance and 0.5 the largest of a match.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphpose.data.demo.film import DemoFilm
from graphpose.data.sample import Persons
from graphpose.errors import GraphposeError
from graphpose.fields.pose import Poses
from graphpose.inference.tracking import Tracker, TrackerConfig
from graphpose.skeleton import COCO

FOUND, MISSED, NOBODY = 0.9, 0.08, 0.15  # shares: of visible keypoints, of persons, of frames with a pose of nobody
ERROR = 1.0  # of a keypoint's place, in units of σ_k · sqrt(area)
LARGEST_DISTANCE = 0.5
TIMED_PERSONS = 20


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns plain values for one JSON object."""
    films = [DemoFilm(options.frames, options.seed + n, persons=options.persons) for n in range(options.films)]
    seen = [list(poses_of(film, seed)) for seed, film in enumerate(films)]
    return {
        "films": options.films,
        "frames": options.frames,
        "persons": options.persons,
        "with_velocity": figures(seen, TrackerConfig()),
        "without_velocity": figures(seen, TrackerConfig(velocity=False)),
        f"ms_per_frame_at_{TIMED_PERSONS}_persons": milliseconds_per_frame(),
    }


Frame = tuple[Persons, np.ndarray, np.ndarray, np.ndarray]  # truth; keypoints, areas and scores found


def poses_of(film: DemoFilm, seed: int) -> Iterator[Frame]:
    """Each frame's persons and the (N, 17, 3) keypoints, (N,) areas and (N,) scores that are found in it."""
    rng = np.random.default_rng(seed)
    sigmas = np.array(COCO.sigmas)
    for index in range(len(film)):
        truth = film.persons(index)
        kept = rng.random(len(truth)) >= MISSED
        keypoints = truth.keypoints[kept].astype(np.float64)
        root = np.sqrt(truth.area[kept])[:, None]
        keypoints[:, :, :2] += rng.standard_normal(keypoints[:, :, :2].shape) * (ERROR * sigmas * root)[:, :, None]
        found = (keypoints[:, :, 2] == 2) & (rng.random(keypoints.shape[:2]) < FOUND)
        keypoints[:, :, 2] = found
        keypoints[~found] = 0
        areas = truth.area[kept] * rng.uniform(0.7, 1.4, len(keypoints))
        scores = rng.uniform(0.3, 0.9, len(keypoints))
        if rng.random() < NOBODY:
            ghost = np.concatenate([rng.uniform(0, film.size, (1, 17, 2)), np.ones((1, 17, 1))], axis=2)
            keypoints = np.concatenate([keypoints, ghost])
            areas, scores = np.append(areas, 400.0), np.append(scores, rng.uniform(0.05, 0.3))
        yield truth, keypoints, areas, scores


def figures(films: list[list[Frame]], config: TrackerConfig) -> dict[str, float]:
    """MOTA, IDF1 and identity switches of a tracker over all films, whose persons are different ones.

    Raises:
        GraphposeError: the package motmetrics is missing.
    """
    try:
        import motmetrics
    except ImportError:
        raise GraphposeError("the figures of a tracker need the package 'motmetrics': pip install motmetrics") from None
    accumulators = []
    for film in films:
        tracker, accumulator = Tracker(COCO, config), motmetrics.MOTAccumulator(auto_id=True)
        for truth, keypoints, areas, scores in film:
            ids = tracker.update(keypoints, areas, scores)
            tracked = ids > 0
            accumulator.update(truth.ids.tolist(), ids[tracked].tolist(), distances(truth, keypoints[tracked]))
        accumulators.append(accumulator)
    summary = motmetrics.metrics.create().compute_many(
        accumulators, metrics=["mota", "idf1", "num_switches"], generate_overall=True
    )
    overall = summary.loc["OVERALL"]
    return {
        "MOTA": round(float(overall["mota"]), 4),
        "IDF1": round(float(overall["idf1"]), 4),
        "identity_switches": int(overall["num_switches"]),
    }


def distances(truth: Persons, keypoints: np.ndarray) -> np.ndarray:
    """(P, N) 1 − OKS over the keypoints found; nan where it is above :data:`LARGEST_DISTANCE`."""
    sigmas = 2 * np.array(COCO.sigmas)
    squared = np.square(truth.keypoints[:, None, :, :2] - keypoints[None, :, :, :2]).sum(axis=3)
    both = (truth.keypoints[:, None, :, 2] > 0) & (keypoints[None, :, :, 2] > 0)
    similarity = np.exp(-squared / (2 * truth.area[:, None, None] * np.square(sigmas))) * both
    oks = similarity.sum(axis=2) / np.maximum(both.sum(axis=2), 1)
    return np.where(1 - oks > LARGEST_DISTANCE, np.nan, 1 - oks)


def milliseconds_per_frame(persons: int = TIMED_PERSONS, frames: int = 200) -> float:
    """Median time of areas and update with that many persons, each of whom is found in every frame."""
    rng = np.random.default_rng(0)
    keypoints = np.concatenate([rng.uniform(0, 1000, (persons, 17, 2)), np.ones((persons, 17, 1))], axis=2)
    keypoints[:, :, :2] = keypoints[:, :1, :2] + rng.normal(0, 20, (persons, 17, 2))
    scores, scales = np.full(persons, 0.8), np.tile(np.array(COCO.sigmas) * 63, (persons, 1))
    tracker, times = Tracker(COCO), []
    for _ in range(frames):
        keypoints[:, :, :2] += rng.normal(0, 1, keypoints[:, :, :2].shape)
        poses = Poses(keypoints, scores, scales, COCO)
        started = time.perf_counter()
        tracker.update(poses.keypoints, poses.areas, poses.scores)
        times.append(time.perf_counter() - started)
    return round(1000 * float(np.median(times)), 3)
