"""Statistics of several kinds of poses as a network takes them: read, put together, and turned into graphs.

A kind is the :class:`~graphpose.graphs.statistics.PoseStatistics` of its persons. Its provenance may say ``kind`` (its
name), ``persons`` (how many) and ``centre`` (its mean pose, see :class:`~graphpose.graphs.modes.PoseModes`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import soft_adjacency
from graphpose.graphs.statistics import PoseStatistics, load_statistics

# A share of persons below which no kind is taken to be; the gate starts at its logarithm.
LEAST_SHARE = 1e-4


def read_modes(folder: str | Path) -> tuple[PoseStatistics, ...]:
    """The kinds of poses of a folder: every file of statistics in it, ``kind-2.json`` before ``kind-10.json``.

    Raises:
        GraphposeError: there is no such folder, nothing in it, a file that is none of statistics, or files of different
            keypoints or units.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise GraphposeError(f"folder of kinds of poses '{folder}' does not exist; analysis/pose_modes.py writes one")
    paths = [path for path in folder.iterdir() if path.suffix in (".json", ".npz")]
    if not paths:
        raise GraphposeError(f"folder '{folder}' has no file of statistics (.json, .npz); analysis/pose_modes.py makes "
                             "one for each kind of poses")  # fmt: skip
    paths.sort(key=lambda path: [(int(part), "") if part.isdigit() else (-1, part)
                                 for part in re.split(r"(\d+)", path.stem)])  # fmt: skip
    kinds = []
    for path in paths:
        statistics = load_statistics(path)
        provenance = {"kind": path.stem} | statistics.provenance
        kinds.append(dataclasses.replace(statistics, provenance=provenance))
        _require_alike(kinds[0], statistics, str(path))
    return tuple(kinds)


def _require_alike(first: PoseStatistics, other: PoseStatistics, what: str) -> None:
    if (first.keypoints, first.scale_rule) != (other.keypoints, other.scale_rule):
        raise GraphposeError(
            f"{what} is of skeleton '{other.skeleton_name}' in {other.scale_rule}, where kind '{mode_name(first)}' is "
            f"of '{first.skeleton_name}' in {first.scale_rule}; kinds are of one skeleton and unit"
        )


def mode_name(statistics: PoseStatistics) -> str:
    """What a kind is called."""
    return str(statistics.provenance.get("kind", "unnamed"))


def mode_persons(statistics: PoseStatistics) -> int:
    """Persons of a kind; where that is not stated, those that have its most frequent keypoint."""
    return int(statistics.provenance.get("persons", statistics.count.diagonal().max()))


def mode_centre(statistics: PoseStatistics) -> np.ndarray | None:
    """(K, 2) mean pose of a kind that was found by its shape, NaN for a keypoint that nobody of it has; else None."""
    centre = statistics.provenance.get("centre")
    return None if centre is None else np.array(centre, np.float64)


def mode_shares(kinds: Sequence[PoseStatistics]) -> Tensor:
    """(C,) float32 shares of the kinds in all persons, none of them 0; they add up to 1."""
    persons = torch.tensor([mode_persons(kind) for kind in kinds], dtype=torch.float64)
    shares = (persons / persons.sum().clamp(min=1)).clamp(min=LEAST_SHARE)
    return (shares / shares.sum()).float()


def mode_lines(kinds: Sequence[PoseStatistics]) -> list[str]:
    """For people: of how many persons each kind is."""
    total = max(sum(map(mode_persons, kinds)), 1)
    return [
        f"kind of poses {mode_name(kind)}: {mode_persons(kind)} persons ({100 * mode_persons(kind) / total:.1f} %)"
        for kind in kinds
    ]


def pooled_statistics(kinds: Sequence[PoseStatistics]) -> PoseStatistics:
    """Statistics of the persons of all kinds together, as if they had been computed at once.

    Of a single kind they are its own. Means and mean squares of kinds without common persons add up, weighted by the
    counts of their pairs.
    """
    if len(kinds) == 1:
        return kinds[0]
    for kind in kinds[1:]:
        _require_alike(kinds[0], kind, f"kind '{mode_name(kind)}'")
    counts = np.stack([kind.count for kind in kinds]).astype(np.float64)  # (C, K, K)
    total = counts.sum(0)
    share = counts / np.where(total > 0, total, np.nan)
    np.einsum("cii->ci", share)[:] = np.nan_to_num(np.einsum("cii->ci", share))  # the diagonal is 0, not unknown

    def together(means: list[np.ndarray], stds: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        weight = share if means[0].ndim == 2 else share[..., None]
        values, squares = np.nan_to_num(np.stack(means)), np.nan_to_num(np.stack(stds)) ** 2
        mean = (weight * values).sum(0)
        return mean, np.sqrt(np.maximum((weight * (squares + values**2)).sum(0) - mean**2, 0))

    mean, std = together([kind.mean for kind in kinds], [kind.std for kind in kinds])
    offset_mean, offset_std = together([kind.offset_mean for kind in kinds], [kind.offset_std for kind in kinds])
    names = [mode_name(kind) for kind in kinds]
    return dataclasses.replace(
        kinds[0], mean=mean, std=std, count=total, offset_mean=offset_mean, offset_std=offset_std,
        provenance={"kinds": names, "persons": sum(map(mode_persons, kinds))},
    )  # fmt: skip


def mode_adjacencies(kinds: Sequence[PoseStatistics], gamma: float = 0.5) -> Tensor:
    """A_s of every kind (Eq. 6).

    Two keypoints that no person of a kind has together, or all of it at one place, take their M_d from the persons of
    all kinds: a rare kind need not show every pair.

    Returns:
        (C, K, K) float64 in [0, 1] on the CPU, ones on the diagonals.

    Raises:
        GraphposeError: Eq. 6 is not defined by all kinds together either; names the keypoints.
    """
    everybody = pooled_statistics(kinds)
    matrices = []
    for kind in kinds:
        mean = np.where(kind.mean > 0, kind.mean, everybody.mean)
        matrices.append(soft_adjacency(dataclasses.replace(kind, mean=mean), gamma))  # Eq. 6
    return torch.stack(matrices)
