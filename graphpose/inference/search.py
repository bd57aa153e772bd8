"""Search for the decoder's thresholds on the fields of a validation set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import Decoder, in_threads
from graphpose.fields.pose import Poses
from graphpose.fields.spec import FieldSpec
from graphpose.graphs.statistics import PoseStatistics

# What is worth trying around the defaults; the rest bounds time or is geometry. Names with a space between them are set
# together: where a network is unsure of everything, no threshold gains alone.
GRID: dict[str, tuple[float, ...]] = {
    "keypoint_threshold limb_threshold": (0.1, 0.2, 0.3, 0.4),
    "keypoint_threshold": (0.1, 0.2, 0.3, 0.4),
    "limb_threshold": (0.1, 0.2, 0.3, 0.4),
    "peak_threshold": (0.05, 0.1, 0.15, 0.2),
    "radius": (1.0, 1.25, 1.5, 2.0, 3.0),
    "radius_min": (0.2, 0.3, 0.5),
    "use_spread": (False, True),
    "limb_radius": (1.5, 2.0, 3.0, 4.0),
    "limb_slack": (0.05, 0.1, 0.2),
    "min_limb_weight": (0.25, 0.5, 1.0),
    "min_split_share": (0.15, 0.3, 1.0),
    "join_alone": (-7.0, -6.0, -4.0),
    "min_join_probability": (0.5, 0.7, 0.9),
}

JOINING = ("join_alone", "min_join_probability")  # without statistics they change nothing


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
        fields: of each validation image: PIF (K, 5, h, w) and PAF (M, 7, h, w), confidences are probabilities, and
            where it does not fill them the image's height and width in pixels.
        score: of the poses of all images, in the order of ``fields``; larger is better (AP, as a rule).
        spec: skeleton and stride.
        statistics: for joining; None leaves fragments apart.
        config: where the search starts.
        grid: names of settings and the values to try; names with a space between them are set together.
        rounds: passes over the grid, at most.

    Returns:
        the best configuration, its score (never below that of ``config``), and every trial as (setting, value, score).

    Raises:
        GraphposeError: when there are no fields or the grid names no setting of DecoderConfig.
    """
    names = {field.name for field in dataclasses.fields(DecoderConfig)}
    if not fields:
        raise GraphposeError("tuning needs the fields of at least one image")
    for name in " ".join(grid).split():
        if name not in names:
            raise GraphposeError(f"'{name}' is no setting of the decoder; choose among {', '.join(sorted(names))}")

    def evaluate(candidate: DecoderConfig) -> float:
        decoder = Decoder(spec, candidate, statistics)
        return score(in_threads(lambda i: decoder(*fields[i]), len(fields)))

    best = config if config is not None else DecoderConfig()
    best_score = evaluate(best)
    trials: list[tuple[str, float, float]] = []
    for _ in range(rounds):
        before = best_score
        for name, values in grid.items():
            if statistics is None and name in JOINING:
                continue
            for value in values:
                changed: dict[str, Any] = dict.fromkeys(name.split(), value)
                candidate = dataclasses.replace(best, **changed)
                if candidate == best:
                    continue
                found = evaluate(candidate)
                trials.append((name, value, found))
                if found > best_score:
                    best, best_score = candidate, found
        if best_score == before:
            break
    return best, best_score, trials
