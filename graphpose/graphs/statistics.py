"""Eq. 5: mean, standard deviation and count of keypoint distances in units of the person's scale.

    M_d[i, j] = 1/N Σ_n ‖V_i − V_j‖₂ / s_n

over the N persons in which both keypoints are labelled. Beside the distances stand the offsets V_j − V_i themselves,
which tell in what direction keypoint j lies as seen from keypoint i. Source: DGCN, Eq. 5.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from graphpose.data.annotations.table import SCALE_OF_HEAD, Annotations
from graphpose.errors import GraphposeError
from graphpose.skeleton import SKELETONS, ScaleRule, Skeleton

_ARRAYS = ("mean", "std", "count", "offset_mean", "offset_std")
# Persons handled at a time: K · 2048 float64 stay in the second-level cache.
_CHUNK = 2048


@dataclasses.dataclass(frozen=True)
class PoseStatistics:
    """Distances and offsets between the K keypoints of a skeleton, in units of the person's scale s_n.

    Attributes:
        skeleton_name: name of the skeleton.
        keypoints: the K names, in the order of the arrays.
        scale_rule: what s_n is.
        mean: (K, K) float64; M_d of Eq. 5, symmetric with zero diagonal; NaN for a pair never labelled together.
        std: (K, K) float64; population standard deviation of the same distances; symmetric, NaN as in ``mean``.
            It comes from sums of squares: one that is truly zero may read as 1e-7 of the distance.
        count: (K, K) int64; persons in which both keypoints are labelled.
        offset_mean: (K, K, 2) float64; mean x, y of keypoint j minus keypoint i; antisymmetric, NaN as in ``mean``.
        offset_std: (K, K, 2) float64; its standard deviation per axis; symmetric, NaN as in ``mean``.
        provenance: where the numbers come from.
    """

    skeleton_name: str
    keypoints: tuple[str, ...]
    scale_rule: ScaleRule
    mean: np.ndarray
    std: np.ndarray
    count: np.ndarray
    offset_mean: np.ndarray
    offset_std: np.ndarray
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keypoints", tuple(self.keypoints))
        K = len(self.keypoints)
        for name in _ARRAYS:
            shape = (K, K, 2) if name.startswith("offset") else (K, K)
            array = np.array(getattr(self, name), dtype=np.int64 if name == "count" else np.float64)
            if array.shape != shape:
                raise GraphposeError(
                    f"statistics of skeleton '{self.skeleton_name}': '{name}' has shape {array.shape}, not {shape}"
                )
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def require(self, skeleton: Skeleton) -> PoseStatistics:
        """These statistics, once their keypoints are those of ``skeleton``; GraphposeError says what differs."""
        if self.keypoints != skeleton.keypoints:
            raise GraphposeError(
                f"statistics of skeleton '{self.skeleton_name}' ({len(self.keypoints)} keypoints) do not fit skeleton "
                f"'{skeleton.name}' ({skeleton.num_keypoints} keypoints): names and order must agree"
            )
        return self

    def require_sqrt_area(self, skeleton: Skeleton, purpose: str) -> PoseStatistics:
        """These statistics, once they are of ``skeleton`` and in units of sqrt(person area), the only scale that fields
        carry; GraphposeError says what differs, and what it is needed for ("joining")."""
        if self.require(skeleton).scale_rule != "sqrt_area":
            raise GraphposeError(
                f"statistics of skeleton '{skeleton.name}' are in units of '{self.scale_rule}'; {purpose} needs "
                "'sqrt_area', the scale that fields carry"
            )
        return self

    def undefined_pairs(self) -> list[tuple[int, int]]:
        """Pairs i < j for which 1 / M_d of Eq. 6 is not defined: never labelled together, or always at one place."""
        return [(i, j) for i, j in np.argwhere(~(self.mean > 0)).tolist() if i < j]

    def line(self) -> str:
        """For people: of how many persons of what."""
        files = ", ".join(self.provenance.get("files", ()))
        return f"{self.provenance.get('persons', '?')} persons{f' of {files}' if files else ''}, in {self.scale_rule}"

    def in_sqrt_area(self) -> PoseStatistics | None:
        """The same in units of sqrt(person area), the scale that fields carry; None where that is not known.

        MPII's areas are (3.6 head sizes)² by definition, see :mod:`graphpose.data.mpii`.
        """
        if self.scale_rule == "sqrt_area":
            return self
        if self.scale_rule != "head":
            return None
        lengths = {name: getattr(self, name) / SCALE_OF_HEAD for name in _ARRAYS if name != "count"}
        return dataclasses.replace(self, scale_rule="sqrt_area", **lengths)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and exported models, NaN as None; :meth:`from_dict` is the exact inverse."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        return {**self._head(), **{name: _plain(array.tolist()) for name, array in arrays.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PoseStatistics:
        """Inverse of :meth:`to_dict`.

        Raises:
            KeyError: an entry is missing.
            ValueError, TypeError: one is something else than numbers.
        """
        return cls(
            skeleton_name=values["skeleton"],
            keypoints=tuple(values["keypoints"]),
            scale_rule=values["scale_rule"],
            provenance=dict(values["provenance"]),
            **{name: np.array(values[name], np.float64) for name in _ARRAYS},
        )

    def _head(self) -> dict[str, Any]:
        """All but the arrays."""
        return {
            "skeleton": self.skeleton_name,
            "keypoints": list(self.keypoints),
            "scale_rule": self.scale_rule,
            "provenance": self.provenance,
        }

    def save(self, path: str | Path, decimals: int | None = None) -> None:
        """Write a file that :func:`load_statistics` reads.

        Args:
            path: ends in .json, text with a matrix row to a line, or in .npz.
            decimals: of the numbers in text; None for all.

        Raises:
            GraphposeError: another ending.
        """
        path, head = Path(path), self._head()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        if path.suffix == ".npz":
            np.savez_compressed(path, header=np.array(json.dumps(head)), **arrays)
        elif path.suffix == ".json":
            path.write_text(_to_text(head, arrays, decimals), encoding="utf-8")
        else:
            raise GraphposeError(f"statistics file {path} must end in .npz or .json")


def _to_text(head: dict[str, Any], arrays: dict[str, np.ndarray], decimals: int | None) -> str:
    """JSON with one matrix row to a line, so that a person can read it and a diff is small; NaN is null."""
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    for name, array in arrays.items():
        if decimals is not None and array.dtype.kind == "f":
            array = np.round(array, decimals) + 0.0  # + 0.0 turns −0 into 0
        rows = [json.dumps(row).replace("NaN", "null").replace(" ", "") for row in array.tolist()]
        lines.append(f" {json.dumps(name)}: [\n  " + ",\n  ".join(rows) + "\n ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _plain(values: Any) -> Any:
    """Nested lists with None in place of NaN, which JSON does not have."""
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return None if values != values else values


class StatisticsAccumulator:
    """Sums over persons that become :class:`PoseStatistics`; any split into updates and merges gives the same result.

    A pair counts in the persons in which both its keypoints are labelled (visibility > 0). Sums are float64.

    Args:
        skeleton: gives K and the names.
        scale_rule: what the scales handed to :meth:`update` are; the skeleton's own by default.
    """

    def __init__(self, skeleton: Skeleton, scale_rule: ScaleRule | None = None) -> None:
        K = skeleton.num_keypoints
        self.skeleton = skeleton
        self.scale_rule: ScaleRule = scale_rule or skeleton.scale_rule
        self.persons = 0
        self._count = np.zeros((K, K))
        self._distance = np.zeros((K, K))  # Σ ‖V_j − V_i‖ / s, upper triangle
        self._offset = np.zeros((2, K, K))  # Σ (V_j − V_i) / s
        self._square = np.zeros((2, K, K))  # Σ ((V_j − V_i) / s)²

    def update(self, keypoints: np.ndarray, scale: np.ndarray) -> None:
        """Add N persons.

        Args:
            keypoints: (N, K, 3) x, y in pixels and visibility; where visibility is 0, x and y are not looked at.
            scale: (N,) s_n in pixels, positive.

        Raises:
            GraphposeError: when shapes do not fit the skeleton, a labelled keypoint is not finite or a scale is not
                positive and finite; the sums are then unchanged.
        """
        keypoints, scale = np.asarray(keypoints), np.asarray(scale, np.float64)
        K = self.skeleton.num_keypoints
        if keypoints.ndim != 3 or keypoints.shape[1:] != (K, 3) or scale.shape != (len(keypoints),):
            raise GraphposeError(
                f"keypoints of shape {keypoints.shape} with scales {scale.shape} given; skeleton "
                f"'{self.skeleton.name}' needs (N, {K}, 3) with (N,)"
            )
        bad = np.flatnonzero(~(np.isfinite(scale) & (scale > 0)))
        if len(bad):
            raise GraphposeError(f"person {bad[0]} has scale {scale[bad[0]]}; a positive number of pixels is needed")
        unusable = ~np.isfinite(keypoints[:, :, :2]).all(axis=2) & (keypoints[:, :, 2] != 0)
        bad = np.flatnonzero((unusable | np.isnan(keypoints[:, :, 2])).any(axis=1))
        if len(bad):
            raise GraphposeError(f"person {bad[0]} has a labelled keypoint that is not finite")
        for start in range(0, len(keypoints), _CHUNK):
            self._add(keypoints[start : start + _CHUNK], scale[start : start + _CHUNK])
        self.persons += len(keypoints)

    def _add(self, keypoints: np.ndarray, scale: np.ndarray) -> None:
        labelled = keypoints[:, :, 2] > 0  # (n, K)
        m = np.ascontiguousarray(labelled.T, np.float64)  # (K, n)
        self._count += m @ m.T
        xy = np.where(labelled[:, :, None], keypoints[:, :, :2], 0).transpose(2, 1, 0).astype(np.float64)  # (2, K, n)
        # Around the person's own middle: offsets do not change, and squares of small numbers lose no digits.
        middle = xy.sum(axis=1) / np.maximum(m.sum(axis=0), 1)
        xy = np.ascontiguousarray((xy - middle[:, None]) * m / scale)
        for axis in (0, 1):
            v = xy[axis]
            first = m @ v.T  # [i, j] = Σ v_j over persons that have i and j
            second = m @ (v * v).T
            self._offset[axis] += first - first.T
            self._square[axis] += second + second.T - 2 * (v @ v.T)
        for i in range(len(m) - 1):  # only the square root needs every pair of every person
            d = xy[0, i + 1 :] - xy[0, i]  # (K − i − 1, n)
            d *= d
            e = xy[1, i + 1 :] - xy[1, i]
            e *= e
            d += e
            np.sqrt(d, out=d)
            d *= m[i + 1 :]
            self._distance[i, i + 1 :] += d @ m[i]

    def merge(self, other: StatisticsAccumulator) -> None:
        """Add the sums of another shard; GraphposeError where it has another skeleton or scale rule."""
        if (self.skeleton.keypoints, self.scale_rule) != (other.skeleton.keypoints, other.scale_rule):
            raise GraphposeError(
                f"statistics of '{self.skeleton.name}' in {self.scale_rule} cannot be merged with those of "
                f"'{other.skeleton.name}' in {other.scale_rule}"
            )
        self.persons += other.persons
        for name in ("_count", "_distance", "_offset", "_square"):
            getattr(self, name).__iadd__(getattr(other, name))

    def result(self, provenance: dict[str, Any] | None = None) -> PoseStatistics:
        """Statistics of all persons so far; ``persons`` is added to the provenance.

        Raises:
            GraphposeError: when no two keypoints were ever labelled in the same person.
        """
        count = self._count
        if not count[~np.eye(len(count), dtype=bool)].any():
            raise GraphposeError(
                f"none of {self.persons} persons has two labelled keypoints of skeleton '{self.skeleton.name}'; there "
                "are no distances to average"
            )
        n = np.where(count > 0, count, np.nan)
        mean = (self._distance + self._distance.T) / n  # Eq. 5
        offset_mean = self._offset / n
        variance = np.maximum(self._square.sum(axis=0) / n - mean**2, 0)
        offset_variance = np.maximum(self._square / n - offset_mean**2, 0)
        for array in (mean, variance, *offset_mean, *offset_variance):
            np.fill_diagonal(array, 0)
        return PoseStatistics(
            skeleton_name=self.skeleton.name,
            keypoints=self.skeleton.keypoints,
            scale_rule=self.scale_rule,
            mean=mean,
            std=np.sqrt(variance),
            count=np.rint(count),
            offset_mean=offset_mean.transpose(1, 2, 0),
            offset_std=np.sqrt(offset_variance).transpose(1, 2, 0),
            provenance={**(provenance or {}), "persons": self.persons},
        )


def pose_statistics(
    annotations: Annotations, scale_rule: ScaleRule | None = None, progress: bool = False
) -> StatisticsAccumulator:
    """Sums over all labelled persons of an annotation file.

    Args:
        annotations: the records; crowd regions and persons without a labelled keypoint do not count, nor do persons of
            MPII whose head size is unknown.
        scale_rule: what s_n is; the skeleton's own rule by default.
        progress: show a bar over persons on a terminal's standard error.

    Returns:
        An accumulator, so that the shards of a data set can be merged before its ``result()``.

    Raises:
        GraphposeError: when the scale rule cannot be applied to a person (see ``Annotations.scales``).
    """
    accumulator = StatisticsAccumulator(annotations.skeleton, scale_rule)
    scale = annotations.scales(accumulator.scale_rule)
    rows = np.flatnonzero(annotations.labelled & ~np.isnan(scale))
    with tqdm(total=len(rows), desc="persons", unit=" persons", disable=None if progress else True) as bar:
        for start in range(0, len(rows), 4 * _CHUNK):
            part = rows[start : start + 4 * _CHUNK]
            accumulator.update(annotations.keypoints[part], scale[part])
            bar.update(len(part))
    return accumulator


def load_statistics(name_or_path: str | Path) -> PoseStatistics:
    """Statistics that are shipped ("coco", "crowdpose", "mpii") or were written by :meth:`PoseStatistics.save`.

    Raises:
        GraphposeError: when the name is unknown, or the file is missing or holds no statistics.
    """
    if str(name_or_path) in SKELETONS:
        return _shipped(str(name_or_path))
    path = Path(name_or_path)
    if not path.is_file():
        raise GraphposeError(f"'{name_or_path}' is neither a statistics file nor one of {', '.join(SKELETONS)}")
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                return PoseStatistics.from_dict(
                    {**json.loads(str(file["header"])), **{name: file[name] for name in _ARRAYS}}
                )
        return PoseStatistics.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise GraphposeError(f"{path} is not a statistics file that graphpose wrote: {error}") from error


def shipped_statistics(skeleton: Skeleton) -> PoseStatistics:
    """Statistics that come with graphpose for the keypoints of a built-in skeleton, whatever its limbs.

    Raises:
        GraphposeError: when there are none; the message says how to compute them.
    """
    known = _known(skeleton)
    if known is None:
        raise GraphposeError(
            f"no statistics are shipped for skeleton '{skeleton.name}' ({skeleton.num_keypoints} keypoints); compute "
            f"them with 'python analysis/distance_statistics.py FILE --out {skeleton.name}.json' and pass that file "
            "(experiments/run.py: statistics=train)"
        )
    return _shipped(known.name)


def has_shipped_statistics(skeleton: Skeleton) -> bool:
    """Whether :func:`shipped_statistics` has some."""
    return _known(skeleton) is not None


def _known(skeleton: Skeleton) -> Skeleton | None:
    """The built-in skeleton with these keypoints."""
    return next((known for known in SKELETONS.values() if known.keypoints == skeleton.keypoints), None)


@lru_cache
def _shipped(name: str) -> PoseStatistics:
    text = resources.files("graphpose.graphs").joinpath("shipped", f"{name}.json").read_text(encoding="utf-8")
    return PoseStatistics.from_dict(json.loads(text))
