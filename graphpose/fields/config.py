"""Settings of decoding, of test-time fusion, and of how images are given to a network."""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from graphpose.errors import GraphposeError

Merge = Literal["fields", "poses"]


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Every threshold of the decoder.

    Attributes:
        join_fragments: join the fragments of a person by the pose statistics shipped for the skeleton; None joins them
            where there are such statistics in units of sqrt(person area), the only size that fields carry.
        keypoint_threshold: lowest confidence of a PIF cell (probability). PifPaf's 0.3: background of a trained network
            rarely reaches it, most cells of a true patch do.
        limb_threshold: lowest confidence of a PAF cell (probability).
        peak_threshold: lowest confidence of a keypoint: the share of its patch's cells that agree, weighted by their
            confidence. 0.1 asks for two of sixteen cells: one alone is noise, while a keypoint crowded by others is
            still found.
        radius: how far cells of one keypoint may point apart, in units of the keypoint's scale σ_k·sqrt(area).
        radius_min: the same in cells, for persons whose scale is smaller than a network's precision.
        straggler_share: cells of a keypoint with less than this share of another one's summed confidence are that one's
            stray cells, since two keypoints that share a neighbourhood divide its cells about evenly. 0 drops none.
        straggler_reach: how far apart the two may be for that, in reaches (``radius`` times scale, ``radius_min``).
        limb_radius: how far a limb's end may miss a keypoint, in units of the keypoint's scale.
        limb_radius_min: the same in cells.
        limb_slack: the same as a share of the distance from the PAF cell to the end: errors grow with distance.
        min_limb_weight: lowest sum of votes of a limb, in confident cells.
        full_limb_weight: sum of votes from which on a limb is certain; the shortest limb has about so many cells.
        min_split_weight: sum of votes of a limb, in confident cells, that is a reason to split a keypoint.
        min_split_share: share of a keypoint's votes that each of two limbs to different partners needs to split it.
        max_copies: keypoints that one is split into, at most; 1 splits none.
        min_bridge_share: share of a keypoint's votes that a limb needs to put a new keypoint on one that is taken.
        use_spread: weigh places by the spread channel; only where it was trained (laplace loss).
        expected_oks: multiply a keypoint's confidence by the similarity (of OKS) that its spread lets expect, so that
            the exact poses come first; only where the spread was trained, likewise. Scores are lower then, and
            thresholds on them with them. A keypoint of unknown scale or spread keeps its confidence.
        complete_poses: infer from a person's keypoints where the others lie, by the pose statistics
            (:mod:`graphpose.fields.completing`); their confidence says how exact that is likely to be.
        join_scale_spread: standard deviation of the logarithm of the ratio of the scales that two fragments of one
            person read from the fields.
        join_alone: log-likelihood (per scale², see joining) from which on a partner is likelier than none.
        join_spread_floor: spread that is added to that of every pair of keypoints, in units of sqrt(person area): rigid
            pairs (the eyes) would else ask for more precision than fields have.
        join_max_scale_deviation: scales of two fragments that differ by more, in units of ``join_scale_spread``, are
            those of two persons.
        min_join_probability: lowest probability that two fragments are one person, seen from either.
        min_score: lowest instance score of a pose that is returned (0 … 1).
        max_peaks: keypoints of one type in one image, at most; bounds time on fields that are noise.
        max_poses: poses of one image, at most; the best stay.
    """

    join_fragments: bool | None = None
    keypoint_threshold: float = 0.3
    limb_threshold: float = 0.3
    peak_threshold: float = 0.1
    radius: float = 1.25
    radius_min: float = 0.3
    straggler_share: float = 0.2
    straggler_reach: float = 2.0
    limb_radius: float = 2.0
    limb_radius_min: float = 0.5
    limb_slack: float = 0.1
    min_limb_weight: float = 0.5
    full_limb_weight: float = 6.0
    min_split_weight: float = 1.5
    min_split_share: float = 0.15
    max_copies: int = 4
    min_bridge_share: float = 0.5
    use_spread: bool = False
    expected_oks: bool = False
    complete_poses: bool = False
    join_scale_spread: float = 0.25
    join_alone: float = -6.0
    join_spread_floor: float = 0.02
    join_max_scale_deviation: float = 5.0
    min_join_probability: float = 0.5
    min_score: float = 0.05
    max_peaks: int = 256
    max_poses: int = 256

    def __post_init__(self) -> None:
        for name, least in (("max_peaks", 0), ("max_poses", 0), ("max_copies", 1)):
            if getattr(self, name) < least:
                raise GraphposeError(f"decoder setting {name}={getattr(self, name)} must be {least} or more")
        for name in ("radius_min", "limb_radius_min", "full_limb_weight", "join_scale_spread"):
            if not getattr(self, name) > 0:
                raise GraphposeError(f"decoder setting {name}={getattr(self, name)} must be above 0")

    @classmethod
    def types(cls) -> dict[str, type]:
        """The type of each setting; bool for ``join_fragments``, which may be None, too."""
        return {name: bool if hint == bool | None else hint for name, hint in typing.get_type_hints(cls).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> DecoderConfig:
        """Settings by name, as a checkpoint, a run and a JSON file hold them; those that are left out have defaults.

        Raises:
            GraphposeError: an unknown name, with the nearest known one, or a value of the wrong type.
        """
        types = cls.types()
        checked: dict[str, Any] = {}
        for name, value in values.items():
            checked[name] = value
            if name not in types:
                near = difflib.get_close_matches(name, types, n=1, cutoff=0.0)
                raise GraphposeError(f"unknown decoder setting '{name}'; did you mean '{near[0]}'?")
            if value is None and name == "join_fragments":
                continue
            wanted = (int, float) if types[name] is float else types[name]
            if not isinstance(value, wanted) or (isinstance(value, bool) and types[name] is not bool):
                raise GraphposeError(f"decoder setting {name}={value!r} must be of type {types[name].__name__}")
        return cls(**checked)

    def to_dict(self) -> dict[str, bool | int | float]:
        """The inverse of :meth:`from_dict`; without ``join_fragments`` where it is None."""
        values = dataclasses.asdict(self)
        if self.join_fragments is None:
            del values["join_fragments"]
        return values

    @classmethod
    def read(cls, path: Path) -> DecoderConfig:
        """Settings from a JSON file; GraphposeError where it is missing, no JSON object, or refused by
        :meth:`from_dict`."""
        try:
            values = json.loads(path.read_text())
        except OSError as error:
            raise GraphposeError(f"decoder settings '{path}' cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise GraphposeError(f"decoder settings '{path}' are not JSON: {error}") from error
        if not isinstance(values, dict):
            raise GraphposeError(f"decoder settings '{path}' must be a JSON object of names and values")
        try:
            return cls.from_dict(values)
        except GraphposeError as error:
            raise GraphposeError(f"'{path}': {error}") from None

    def write(self, path: Path) -> None:
        """Writes the settings as JSON, for :meth:`read`."""
        try:
            path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")
        except OSError as error:
            raise GraphposeError(f"'{path}' could not be written: {error.strerror or error}") from error


@dataclasses.dataclass(frozen=True)
class FusionConfig:
    """Which views of an image the network sees, and how they come together.

    Attributes:
        flip: the mirror image of every scale, too; its fields are fused with the scale's own.
        scales: sizes relative to the network's input; 1.0 is the input itself.
        merge: how the sizes come together: "fields" takes the mean of their fields, "poses" decodes each alone and
            keeps the best of the poses of one person.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    merge: Merge = "fields"

    def __post_init__(self) -> None:
        if self.merge not in typing.get_args(Merge):
            raise GraphposeError(f"sizes are merged by 'fields' or by 'poses', not by '{self.merge}'")
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise GraphposeError(f"test scales {list(self.scales)} must be one or more factors between 0.1 and 10")
        if len(set(self.scales)) < len(self.scales):
            raise GraphposeError(f"test scales {list(self.scales)} name a factor twice; each may stand once")

    @property
    def is_plain(self) -> bool:
        """Only the image itself: nothing is fused."""
        return not self.flip and self.scales == (1.0,)


@dataclasses.dataclass(frozen=True)
class UsageConfig:
    """How a network wants images: what it was evaluated with, and what prediction takes unless it is told otherwise.

    Attributes:
        long_edge: images are resized to this long edge, pixels; None keeps their size.
        flip: fuse the mirror image of every scale, too.
        scales: look at these sizes, relative to ``long_edge``.
        enlarge: images with a shorter long edge are resized to it, too; they keep their size otherwise.
        merge: how the sizes come together, see :class:`FusionConfig`.
    """

    long_edge: int | None = 641
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    enlarge: bool = True
    merge: Merge = "fields"

    def __post_init__(self) -> None:
        if self.long_edge is not None and self.long_edge < 1:
            raise GraphposeError(f"long edge {self.long_edge} must be a positive number of pixels")
        object.__setattr__(self, "scales", self.fusion.scales)

    @property
    def fusion(self) -> FusionConfig:
        """The views that the network sees."""
        return FusionConfig(self.flip, self.scales, self.merge)

    @classmethod
    def from_run(cls, configuration: Mapping[str, Any]) -> UsageConfig:
        """Of the configuration of a training run: its evaluation's size and views; defaults where it says nothing."""
        scales = configuration.get("test_scales", 1.0)
        return cls(
            long_edge=configuration.get("long_edge", cls.long_edge),
            flip=configuration.get("test_flip", cls.flip),
            scales=tuple(scales) if isinstance(scales, (list, tuple)) else (scales,),
            enlarge=configuration.get("enlarge", cls.enlarge),
            merge=configuration.get("test_merge", cls.merge),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> UsageConfig:
        """Inverse of :meth:`to_dict`."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**dataclasses.asdict(self), "scales": list(self.scales)}

    def changed(
        self,
        long_edge: int | None = None,
        flip: bool | None = None,
        scales: Sequence[float] | None = None,
        enlarge: bool | None = None,
        merge: Merge | None = None,
    ) -> UsageConfig:
        """The same with what is given in its place; a ``long_edge`` of 0 keeps images at their own size."""
        return UsageConfig(
            self.long_edge if long_edge is None else long_edge or None,
            self.flip if flip is None else flip,
            self.scales if scales is None else tuple(scales),
            self.enlarge if enlarge is None else enlarge,
            merge or self.merge,
        )

    def line(self) -> str:
        """For people: "long edge 241 px, mirror image fused"."""
        most = "" if self.enlarge else "at most "
        words = ["images at their own size" if self.long_edge is None else f"long edge {most}{self.long_edge} px"]
        words += ["mirror image fused"] if self.flip else []
        together = "fused" if self.merge == "fields" or len(self.scales) == 1 else "decoded apart and merged"
        words += [f"scales {' '.join(f'{s:g}' for s in self.scales)} {together}"] if self.scales != (1.0,) else []
        return ", ".join(words)
