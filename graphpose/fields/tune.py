"""Search for the decoder's thresholds on the fields of a validation set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from graphpose.errors import GraphposeError
from graphpose.fields.decode import Decoder, DecoderConfig
from graphpose.fields.pose import Poses
from graphpose.fields.spec import FieldSpec
from graphpose.statistics import PoseStatistics

# What is worth trying around the defaults; the rest bounds time or is geometry.
GRID: dict[str, tuple[float, ...]] = {
    "keypoint_threshold": (0.1, 0.2, 0.3, 0.4),
    "limb_threshold": (0.1, 0.2, 0.3, 0.4),
    "peak_threshold": (0.05, 0.1, 0.15, 0.2),
    "radius": (1.0, 1.25, 1.5, 2.0),
    "radius_min": (0.2, 0.3, 0.5),
    "limb_radius": (1.5, 2.0, 3.0),
    "limb_slack": (0.05, 0.1, 0.2),
    "min_limb_weight": (0.25, 0.5, 1.0),
    "min_split_share": (0.15, 0.3, 1.0),
    "join_alone": (-7.0, -6.0, -4.0),
    "min_join_probability": (0.5, 0.7, 0.9),
}


def tune(
    fields: Sequence[tuple],
    score: Callable[[list[Poses]], float],
    spec: FieldSpec,
    statistics: PoseStatistics | None = None,
    config: DecoderConfig | None = None,
    grid: Mapping[str, Iterable[float]] = GRID,
    rounds: int = 2,
) -> tuple[DecoderConfig, float, list[tuple[str, float, float]]]:
    """Best thresholds found by coordinate ascent: one setting at a time, its values in order, until nothing gains.

    Args:
        fields: PIF (K, 5, h, w) and PAF (M, 7, h, w) of each validation image, confidences are probabilities.
        score: of the poses of all images, in the order of ``fields``; larger is better (AP, as a rule).
        spec: skeleton and stride.
        statistics: for joining; None leaves fragments apart.
        config: where the search starts.
        grid: names of settings and the values to try.
        rounds: passes over the grid, at most.

    Returns:
        the best configuration, its score (never below that of ``config``), and every trial as (setting, value, score).

    Raises:
        GraphposeError: when there are no fields or the grid names no setting of DecoderConfig.
    """
    names = {field.name for field in dataclasses.fields(DecoderConfig)}
    if not fields:
        raise GraphposeError("tuning needs the fields of at least one image")
    for name in grid:
        if name not in names:
            raise GraphposeError(f"'{name}' is no setting of the decoder; choose among {', '.join(sorted(names))}")

    def evaluate(candidate: DecoderConfig) -> float:
        decoder = Decoder(spec, candidate, statistics)
        return score([decoder(pif, paf) for pif, paf in fields])

    best = config if config is not None else DecoderConfig()
    best_score = evaluate(best)
    trials: list[tuple[str, float, float]] = []
    for _ in range(rounds):
        before = best_score
        for name, values in grid.items():
            for value in values:
                if value == getattr(best, name):
                    continue
                changed: dict[str, Any] = {name: value}
                candidate = dataclasses.replace(best, **changed)
                found = evaluate(candidate)
                trials.append((name, value, found))
                if found > best_score:
                    best, best_score = candidate, found
        if best_score == before:
            break
    return best, best_score, trials
