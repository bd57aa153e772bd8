"""A decoder as its compiled steps read it: skeleton, pose statistics and settings as tables of plain values."""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from graphpose.fields.config import DecoderConfig
from graphpose.graphs.statistics import PoseStatistics
from graphpose.skeleton import Skeleton

if TYPE_CHECKING:
    Settings = DecoderConfig
else:
    # Compiled functions read no dataclasses: the same names, each value of its own type. join_fragments is a bool.
    Settings = namedtuple("Settings", DecoderConfig.types())


class PairTables(NamedTuple):
    """What the pose statistics say about keypoint j seen from keypoint i, in units of sqrt(person area).

    Attributes:
        mean: (K, K, 2) float64 mean offset of j from i.
        std: (K, K, 2) float64 its spread, floored.
        weight: (K, K) float64 of the pair beside others, the inverse of its area of spread; 0 for a pair never seen.
        peak: (K, K) float64 log-density at the mean.
    """

    mean: np.ndarray
    std: np.ndarray
    weight: np.ndarray
    peak: np.ndarray


class DecoderTables(NamedTuple):
    """All that decoding needs beside the fields.

    Attributes:
        limbs: (M, 2) int64 keypoint types that each limb connects.
        sigmas: (K,) float64; a keypoint's scale is sigmas[k] · sqrt(person area).
        pairs: how keypoints of one person lie; empty where fragments are not joined.
        settings: the values of DecoderConfig.
    """

    limbs: np.ndarray
    sigmas: np.ndarray
    pairs: PairTables
    settings: Settings


def decoder_tables(
    skeleton: Skeleton, config: DecoderConfig, statistics: PoseStatistics | None = None
) -> DecoderTables:
    """Tables for the compiled steps.

    Args:
        skeleton: of the fields.
        config: thresholds.
        statistics: for joining fragments; None leaves them apart.

    Raises:
        GraphposeError: statistics that do not fit, see :func:`pair_tables`.
    """
    values = {name: kind(getattr(config, name)) for name, kind in DecoderConfig.types().items()}
    values["join_fragments"] = statistics is not None
    if statistics is None:
        pairs = PairTables(np.zeros((0, 0, 2)), np.zeros((0, 0, 2)), np.zeros((0, 0)), np.zeros((0, 0)))
    else:
        pairs = pair_tables(statistics, skeleton, config.join_spread_floor)
    return DecoderTables(
        np.array(skeleton.limbs, np.int64).reshape(-1, 2),
        np.array(skeleton.sigmas, np.float64),
        pairs,
        Settings(**values),
    )


def pair_tables(statistics: PoseStatistics, skeleton: Skeleton, spread_floor: float) -> PairTables:
    """Tables of one data set, with ``spread_floor`` (units of sqrt(person area)) added to every spread.

    Raises:
        GraphposeError: when the statistics are of another skeleton or not in units of sqrt(person area), the only
            scale that fields carry.
    """
    statistics.require_sqrt_area(skeleton, "joining")
    seen = np.isfinite(statistics.offset_mean).all(-1) & np.isfinite(statistics.offset_std).all(-1)
    mean = np.where(seen[..., None], statistics.offset_mean, 0.0)
    std = np.where(seen[..., None], statistics.offset_std, 1.0) + spread_floor
    area = std.prod(-1)
    return PairTables(mean, std, np.where(seen, 1 / area, 0.0), -np.log(2 * np.pi * area))
