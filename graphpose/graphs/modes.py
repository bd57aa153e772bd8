"""Kinds of poses and the graph of each: k-means on scaled poses that may be mirrored, and Eq. 5 over every kind.

Source: the future work that the paper's conclusion names second, graphs of actions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.graphs.statistics import PoseStatistics, StatisticsAccumulator
from graphpose.skeleton import Skeleton

MAX_ITERATIONS = 100


@dataclasses.dataclass(frozen=True)
class PoseModes:
    """C kinds of poses, the most frequent first.

    Attributes:
        names: of the kinds: "1 of 4", or what they were grouped by.
        centres: (C, K, 2) mean pose of each, x right and y down in units of the person's scale, its middle at 0; NaN
            for a keypoint that nobody of this kind has.
        statistics: of the persons of each kind, as they stand in their images, unmirrored. Their provenance has the
            kind's name as ``kind``, and where it was found by its shape its centre (None for NaN) as ``centre``.
        kind: (N,) int64; which kind each person is of.
        mirrored: (N,) bool; whether the person's mirror image is nearer to the kind's centre.
        spread: root of the mean squared distance of a labelled keypoint from its kind's centre, in units of the scale.
    """

    names: tuple[str, ...]
    centres: np.ndarray
    statistics: tuple[PoseStatistics, ...]
    kind: np.ndarray
    mirrored: np.ndarray
    spread: float


def pose_modes(
    keypoints: np.ndarray, scale: np.ndarray, skeleton: Skeleton, count: int, *, seed: int = 0, restarts: int = 3
) -> PoseModes:
    """Kinds of poses of N persons.

    A pose is compared with a centre in the keypoints that are labelled, where it fits best: shifted, and as it is or
    mirrored. Who has a single keypoint fits every kind, and is of the first.

    Args:
        keypoints: (N, K, 3) x, y in pixels and visibility.
        scale: (N,) s_n in pixels, positive.
        skeleton: gives names and mirror image.
        count: C.
        seed: of the first centres.
        restarts: from other first centres; the closest fit is taken.

    Returns:
        Kinds whose statistics add up to those of all persons: with one kind they are Eq. 5 itself.

    Raises:
        GraphposeError: fewer than ``count`` persons have two labelled keypoints, or a kind is left without two
            keypoints that are labelled together.
    """
    views = _views(keypoints, scale, skeleton)
    labelled = views[0].labelled
    usable = int((labelled.sum(1) > 1).sum())
    if not 1 <= count <= usable:
        raise GraphposeError(f"{count} kinds of {usable} poses with two labelled keypoints; 1 to {usable} can be found")
    fits = [_lloyd(views, count, np.random.default_rng([seed, restart])) for restart in range(restarts)]
    centres, kind, view, error = min(fits, key=lambda fit: fit[3])
    order = np.argsort(-np.bincount(kind, minlength=count), kind="stable")
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    kind = place[kind]
    kind[labelled.sum(1) < 2] = 0
    centres = centres[order]
    names = tuple(f"{one + 1} of {count}" for one in range(count))
    statistics = tuple(
        _statistics(
            keypoints[kind == one], scale[kind == one], skeleton,
            {"kind": names[one], "seed": seed, "centre": _plain(centres[one])},
        )
        for one in range(count)
    )  # fmt: skip
    spread = float(np.sqrt(error / labelled.sum()))
    return PoseModes(names, centres, statistics, kind, view.astype(bool), spread)


def named_modes(
    keypoints: np.ndarray,
    scale: np.ndarray,
    skeleton: Skeleton,
    labels: Sequence[str],
    *,
    least: int = 1,
    others: str = "other",
) -> PoseModes:
    """Kinds that persons are known to be of, such as what they do.

    Args:
        keypoints: (N, K, 3) x, y in pixels and visibility.
        scale: (N,) s_n in pixels, positive.
        skeleton: gives names and mirror image.
        labels: N names of kinds; "" for a person of whom it is not known.
        least: a kind of fewer persons joins those of whom it is not known.
        others: what these are called.

    Returns:
        Kinds, the most frequent first and those of the others last; ``centres`` are the means of poses that may be
        mirrored, as those of :func:`pose_modes`, but the kinds do not follow from them.

    Raises:
        GraphposeError: a kind has nobody with two labelled keypoints.
    """
    names, inverse, persons = np.unique(np.array(labels, object).astype(str), return_inverse=True, return_counts=True)
    kept = [n for n in np.argsort(-persons, kind="stable") if names[n] not in ("", others) and persons[n] >= least]
    place = np.full(len(names), len(kept))
    place[kept] = np.arange(len(kept))
    kind = place[inverse]
    known = tuple(str(names[n]) for n in kept) + ((others,) if (kind == len(kept)).any() else ())
    centres, statistics, error = [], [], 0.0
    mirrored = np.zeros(len(kind), bool)
    for number, name in enumerate(known):
        rows = np.flatnonzero(kind == number)
        views = _views(keypoints[rows], scale[rows], skeleton)
        if not (views[0].labelled.sum(1) > 1).any():
            raise GraphposeError(f"nobody of kind '{name}' ({len(rows)} persons) has two labelled keypoints")
        (centre,), _, view, own_error = _lloyd(views, 1, np.random.default_rng(0))
        centres.append(centre)
        mirrored[rows] = view.astype(bool)
        error += own_error
        statistics.append(_statistics(keypoints[rows], scale[rows], skeleton, {"kind": name}))
    spread = float(np.sqrt(error / (keypoints[:, :, 2] > 0).sum()))
    return PoseModes(known, np.stack(centres), tuple(statistics), kind, mirrored, spread)


def nearest_modes(keypoints: np.ndarray, scale: np.ndarray, skeleton: Skeleton, centres: np.ndarray) -> np.ndarray:
    """Of which kind further persons are.

    Args:
        keypoints: (N, K, 3) x, y in pixels and visibility.
        scale: (N,) s_n in pixels, positive.
        skeleton: gives the mirror image.
        centres: (C, K, 2) of :class:`PoseModes`.

    Returns:
        (N,) int64, as :func:`pose_modes` tells it of the persons that it found the kinds with.
    """
    views = _views(keypoints, scale, skeleton)
    kind = np.stack([one.errors(centres) for one in views]).min(0).argmin(1)
    kind[views[0].labelled.sum(1) < 2] = 0
    return kind


def _statistics(
    keypoints: np.ndarray, scale: np.ndarray, skeleton: Skeleton, provenance: dict[str, Any]
) -> PoseStatistics:
    accumulator = StatisticsAccumulator(skeleton)
    accumulator.update(keypoints, scale)
    return accumulator.result(provenance)


def _plain(centre: np.ndarray) -> list[list[float | None]]:
    """(K, 2) numbers for JSON, which has no NaN."""
    return [[None if np.isnan(value) else float(value) for value in point] for point in centre]


def _views(keypoints: np.ndarray, scale: np.ndarray, skeleton: Skeleton) -> list[_View]:
    """Persons as they stand, and where the skeleton has mirror images also mirrored."""
    labelled = (keypoints[:, :, 2] > 0).astype(np.float64)  # (N, K)
    xy = np.where(labelled[:, :, None] > 0, keypoints[:, :, :2], 0) / scale[:, None, None]
    views = [_View.of(xy, labelled)]
    if skeleton.mirrors:
        flip = list(skeleton.flip)
        views.append(_View.of(xy[:, flip] * [-1, 1], labelled[:, flip]))
    return views


@dataclasses.dataclass(frozen=True)
class _View:
    """Poses (N, K, 2) in one orientation, zero where they are not labelled (N, K), each around its own middle."""

    xy: np.ndarray
    labelled: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, xy: np.ndarray, labelled: np.ndarray) -> _View:
        counts = np.maximum(labelled.sum(1), 1)
        middle = (xy * labelled[:, :, None]).sum(1) / counts[:, None]
        return cls((xy - middle[:, None]) * labelled[:, :, None], labelled, counts)

    def shift(self, centre: np.ndarray) -> np.ndarray:
        """(N, 2) that brings each pose, whose middle is 0, best onto a centre (K, 2)."""
        return self.labelled @ np.nan_to_num(centre) / self.counts[:, None]

    def errors(self, centres: np.ndarray) -> np.ndarray:
        """(N, C) Σ of squared distances of the labelled keypoints from each centre, at the best shift."""
        filled = np.nan_to_num(centres)
        own = (self.xy**2).sum((1, 2))[:, None]
        across = np.einsum("nkx,ckx->nc", self.xy, filled, optimize=True)
        theirs = self.labelled @ (filled**2).sum(2).T
        shifts = np.stack([self.shift(centre) for centre in filled], axis=1)  # (N, C, 2)
        return np.maximum(own - 2 * across + theirs - self.counts[:, None] * (shifts**2).sum(2), 0)


def _lloyd(
    views: list[_View], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Centres (C, K, 2), kind (N,) and view (N,) of each pose, and the sum of squared distances."""
    centres = _first_centres(views[0], count, rng)
    kind = np.full(len(views[0].xy), -1)
    for iteration in range(MAX_ITERATIONS):
        errors = np.stack([one.errors(centres) for one in views])  # (V, N, C)
        best = errors.min(0)
        before, kind = kind, best.argmin(1)
        rows = np.arange(len(kind))
        view = errors[:, rows, kind].argmin(0)
        error = float(best.min(1).sum())
        if (kind == before).all() or iteration == MAX_ITERATIONS - 1:
            break
        centres = np.stack([_centre(views, kind == one, view, centres[one]) for one in range(count)])
    return centres, kind, view, error


def _centre(views: list[_View], members: np.ndarray, view: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Mean (K, 2) of the members, each where it fits the centre before; that one where there are none."""
    total, seen = np.zeros_like(before), np.zeros(len(before))
    for number, one in enumerate(views):
        rows = members & (view == number)
        mask = one.labelled[rows]
        total += (one.xy[rows] + mask[:, :, None] * one.shift(before)[rows][:, None]).sum(0)
        seen += mask.sum(0)
    if not seen.any():
        return before
    centre = np.where(seen[:, None] > 0, total / np.maximum(seen, 1)[:, None], np.nan)
    return centre - np.nanmean(centre, axis=0)


def _first_centres(view: _View, count: int, rng: np.random.Generator) -> np.ndarray:
    """Poses far from each other (k-means++), each completed by the mean pose.

    Source: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    seen = view.labelled.sum(0)
    mean = np.where(seen[:, None] > 0, view.xy.sum(0) / np.maximum(seen, 1)[:, None], np.nan)
    weights = (view.labelled.sum(1) > 1) * view.labelled.sum(1)  # a nearly complete pose says most
    centres: list[np.ndarray] = []
    while len(centres) < count:
        chosen = rng.choice(len(weights), p=weights / weights.sum())
        mask = view.labelled[chosen][:, None] > 0
        centre = np.where(mask, view.xy[chosen] + view.shift(mean)[chosen], mean)
        centres.append(centre - np.nanmean(centre, axis=0))
        weights = view.errors(np.stack(centres)).min(1) * (view.labelled.sum(1) > 1)
        if not weights.any():
            weights = (view.labelled.sum(1) > 1).astype(np.float64)
    return np.stack(centres)
