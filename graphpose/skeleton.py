"""Skeletons: the one place that knows how many keypoints (K) and limbs (M) there are.

Graphs, targets, heads, decoder, metrics and drawing all read a :class:`Skeleton`; nothing else says 17.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from graphpose.errors import GraphposeError
from graphpose.flip_pairs import pairs_by_name

ScaleRule = Literal["sqrt_area", "bbox_diagonal", "head"]

# Used for keypoints whose sigmas are not stated: the mean of COCO's seventeen. A sigma is how far two people label one
# keypoint of one person apart. A file with one label each cannot tell: what its labels spread over is how bodies move,
# and scoring by that would forgive every pose the mean one.
DEFAULT_SIGMA = 0.061


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Keypoints of a body and the limbs that connect them.

    Attributes:
        name: short lower-case name ("coco", "mpii", "crowdpose" or that of a COCO-format category).
        keypoints: the K keypoint names in annotation order.
        limbs: the M limbs as pairs of 0-based keypoint indices.
        sigmas: K standard deviations of labelling, in units of sqrt(person area) (OKS uses k = 2σ).
        scale_rule: what s_n of Eq. 5 is for this data set.
        flip_pairs: pairs of keypoints that change places in a mirror image, as 0-based indices; None takes them from
            the names, and an empty tuple states that there are none.

    Raises:
        GraphposeError: when names repeat, a limb points outside the keypoints, connects a keypoint to itself or
            stands twice, the number of sigmas is not K, or a keypoint stands in two flip pairs.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    scale_rule: ScaleRule = "sqrt_area"
    flip_pairs: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "keypoints", tuple(self.keypoints))
        object.__setattr__(self, "limbs", tuple((int(a), int(b)) for a, b in self.limbs))
        object.__setattr__(self, "sigmas", tuple(float(s) for s in self.sigmas))
        if self.flip_pairs is not None:
            object.__setattr__(self, "flip_pairs", tuple((int(a), int(b)) for a, b in self.flip_pairs))
        K = len(self.keypoints)
        if K == 0 or len(set(self.keypoints)) != K:
            raise GraphposeError(f"skeleton '{self.name}': keypoint names must be given and differ from each other")
        if len(self.sigmas) != K or not all(math.isfinite(s) and s > 0 for s in self.sigmas):
            raise GraphposeError(f"skeleton '{self.name}': {K} positive sigmas are needed, got {self.sigmas}")
        if self.scale_rule not in ("sqrt_area", "bbox_diagonal", "head"):
            raise GraphposeError(
                f"skeleton '{self.name}': scale_rule '{self.scale_rule}' is not sqrt_area, bbox_diagonal or head"
            )
        seen = set()
        for a, b in self.limbs:
            if not (0 <= a < K and 0 <= b < K) or a == b:
                raise GraphposeError(
                    f"skeleton '{self.name}': limb ({a}, {b}) must join two of the keypoints 0..{K - 1}"
                )
            if frozenset((a, b)) in seen:
                raise GraphposeError(f"skeleton '{self.name}': limb ({a}, {b}) stands twice")
            seen.add(frozenset((a, b)))
        ends = list(itertools.chain.from_iterable(self.flip_pairs or ()))
        if not set(ends) <= set(range(K)):
            raise GraphposeError(f"skeleton '{self.name}': flip pairs {self.flip_pairs} must join keypoints 0..{K - 1}")
        twice = next((self.keypoints[end] for n, end in enumerate(ends) if end in ends[:n]), None)
        if twice is not None:
            raise GraphposeError(
                f"skeleton '{self.name}': keypoint '{twice}' stands in two flip pairs; it has one counterpart at most"
            )

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoints)

    @property
    def num_limbs(self) -> int:
        """M."""
        return len(self.limbs)

    @cached_property
    def flip(self) -> tuple[int, ...]:
        """Permutation of a left–right mirrored person: keypoint k of the mirror image is keypoint flip[k] of the
        original. From ``flip_pairs``, or from the names (see :func:`~graphpose.flip_pairs.pairs_by_name`)."""
        permutation = list(range(self.num_keypoints))
        for a, b in pairs_by_name(self.keypoints) if self.flip_pairs is None else self.flip_pairs:
            permutation[a], permutation[b] = b, a
        return tuple(permutation)

    @property
    def mirrors(self) -> bool:
        """Whether it is known what a mirror image shows: pairs are stated (even that there are none), or some are found
        by name."""
        return self.flip_pairs is not None or any(k != mirrored for k, mirrored in enumerate(self.flip))

    @cached_property
    def flip_limbs(self) -> tuple[tuple[int, bool], ...]:
        """For each limb m its mirror image (limb index, whether its two ends change places). A limb whose mirror image
        is no limb of the skeleton maps to itself."""
        index = {limb: m for m, limb in enumerate(self.limbs)}
        mirrored = []
        for m, (a, b) in enumerate(self.limbs):
            a, b = self.flip[a], self.flip[b]
            if (a, b) in index:
                mirrored.append((index[a, b], False))
            elif (b, a) in index:
                mirrored.append((index[b, a], True))
            else:
                mirrored.append((m, False))
        return tuple(mirrored)

    def index(self, keypoint: str) -> int:
        """Index of a keypoint by name; GraphposeError lists the valid names otherwise."""
        try:
            return self.keypoints.index(keypoint)
        except ValueError:
            raise GraphposeError(
                f"skeleton '{self.name}' has no keypoint '{keypoint}'; it has {', '.join(self.keypoints)}"
            ) from None

    @property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Keypoints that limbs connect with each other, each ascending, in the order of their first keypoints."""
        part = list(range(self.num_keypoints))
        for a, b in self.limbs:
            part = [part[a] if own == part[b] else own for own in part]
        return tuple(tuple(k for k, own in enumerate(part) if own == one) for one in dict.fromkeys(part))

    def lines(self) -> list[str]:
        """For people: what limbs, flip pairs and sigmas are used; of a built-in skeleton its name and sizes alone."""
        head = f"skeleton {self.name}: {self.num_keypoints} keypoints, {self.num_limbs} limbs"
        if SKELETONS.get(self.name) == self:
            return [head]

        def named(pairs: Iterable[tuple[int, int]]) -> str:
            return ", ".join(f"{self.keypoints[a]}–{self.keypoints[b]}" for a, b in pairs)

        if len(self.components) > 1:
            parts = "; ".join(", ".join(self.keypoints[k] for k in part) for part in self.components)
            head += f" in {len(self.components)} parts ({parts})"
        pairs = named((k, mirrored) for k, mirrored in enumerate(self.flip) if k < mirrored)
        origin = "found in the names" if self.flip_pairs is None else "stated"
        if not pairs:
            pairs, origin = "none", "stated" if self.mirrors else "none are stated or found in the names"
        sigmas = ", ".join(f"{name} {sigma:g}" for name, sigma in zip(self.keypoints, self.sigmas, strict=True))
        if set(self.sigmas) == {DEFAULT_SIGMA}:
            sigmas = f"{DEFAULT_SIGMA} each, the mean of COCO's, for none are stated"
        return [head, f"  limbs: {named(self.limbs)}", f"  flip pairs: {pairs} ({origin})", f"  sigmas: {sigmas}"]

    def same_channels(self, other: Skeleton) -> bool:
        """Whether the channels of a network mean the same by another skeleton: its keypoints and limbs are the same."""
        return (self.keypoints, self.limbs) == (other.keypoints, other.limbs)

    def with_flip_pairs(self, pairs: Sequence[Sequence[int | str]], what: str = "flip_pairs") -> Skeleton:
        """The same with other flip pairs.

        Args:
            pairs: of two keypoints, by name or by number from 1; empty for none.
            what: they are called in messages.

        Raises:
            GraphposeError: a keypoint that there is not, or one that stands in two pairs.
        """
        found = _pairs(pairs, self.keypoints, f"skeleton '{self.name}': {what}") or []
        return dataclasses.replace(self, flip_pairs=tuple(found))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and exported models; :meth:`from_dict` is the exact inverse."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "limbs": [list(limb) for limb in self.limbs],
            "sigmas": list(self.sigmas),
            "scale_rule": self.scale_rule,
            "flip_pairs": None if self.flip_pairs is None else [list(pair) for pair in self.flip_pairs],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Skeleton:
        """Inverse of :meth:`to_dict`; takes what earlier versions wrote without ``flip_pairs``."""
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values})

    @classmethod
    def from_category(cls, category: Mapping[str, Any]) -> Skeleton:
        """Skeleton of a COCO-format category.

        Its keys: ``keypoints`` (names), ``skeleton`` (limbs as pairs that count keypoints from 1, or of names), and
        beyond the format ``sigmas`` and ``flip_pairs`` (pairs as in ``skeleton``; ``[]`` for none). What it states is
        used. Where it has the keypoints of COCO, CrowdPose or MPII, what it does not state is that skeleton's; of
        others the sigmas are DEFAULT_SIGMA, and there are no limbs.

        Raises:
            GraphposeError: naming the category, when it has no ``keypoints`` or something else stands where a list of
                names, pairs or sigmas should.
        """
        label = f"category '{category.get('name', '?')}' (id {category.get('id', '?')})"
        names = category.get("keypoints")
        if not names:
            raise GraphposeError(f"{label} has no 'keypoints'; this is not a COCO keypoint file")
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
            raise GraphposeError(f"{label} has keypoints {names!r}; a list of names is needed")
        repeated = [name for n, name in enumerate(names) if name in names[:n]]
        if repeated:
            raise GraphposeError(f"{label} has the keypoint '{repeated[0]}' twice; names must differ from each other")
        known = next((known for known in SKELETONS.values() if known.keypoints == tuple(names)), None)
        limbs: Sequence[tuple[int, int]] | None = None
        if not (known is CROWDPOSE and _repeats_coco(category.get("skeleton"))):
            limbs = _pairs(category.get("skeleton"), names, f"{label}: its skeleton")
        flip_pairs = _pairs(category.get("flip_pairs"), names, f"{label}: its flip_pairs")
        sigmas = category.get("sigmas")
        if sigmas and (
            not isinstance(sigmas, (list, tuple))
            or len(sigmas) != len(names)
            or not all(type(s) in (int, float) and 0 < s < math.inf for s in sigmas)
        ):
            raise GraphposeError(f"{label} has sigmas {sigmas!r}; {len(names)} positive numbers are needed")
        if known is not None:
            same_limbs = not limbs or set(limbs) == {(min(limb), max(limb)) for limb in known.limbs}
            same_sigmas = not sigmas or tuple(sigmas) == known.sigmas
            same_pairs = flip_pairs is None or set(flip_pairs) == set(pairs_by_name(names))
            if same_limbs and same_sigmas and same_pairs:
                return known
            limbs, sigmas = known.limbs if same_limbs else limbs, sigmas or known.sigmas
        return cls(
            str(category.get("name") or "custom"),
            tuple(names),
            tuple(limbs or ()),
            tuple(sigmas or (DEFAULT_SIGMA,) * len(names)),
            known.scale_rule if known else "sqrt_area",
            None if flip_pairs is None else tuple(flip_pairs),
        )


def _repeats_coco(pairs: Any) -> bool:
    """Whether limbs are COCO's although the keypoints are not, as in CrowdPose's own files."""
    coco = [sorted((a + 1, b + 1)) for a, b in COCO.limbs]
    return isinstance(pairs, list) and all(
        isinstance(pair, list) and all(type(k) is int for k in pair) and sorted(pair) in coco for pair in pairs
    )


def _pairs(pairs: Any, names: Sequence[str], what: str) -> list[tuple[int, int]] | None:
    """Pairs of a category record as 0-based indices, the lower first, each once; None where there is no list."""
    if pairs is None:
        return None
    right = f"it must be a list of pairs of two keypoints, as numbers 1..{len(names)} (they count from 1) or names"
    if not isinstance(pairs, (list, tuple)):
        raise GraphposeError(f"{what} is {pairs!r}; {right}")
    found = []
    for pair in pairs:
        ends = [_end(end, names) for end in pair] if isinstance(pair, (list, tuple)) else []
        if len(ends) != 2 or None in ends or ends[0] == ends[1]:
            raise GraphposeError(f"{what} has {pair!r}; {right}")
        found.append((min(ends), max(ends)))  # type: ignore[type-var]
    return list(dict.fromkeys(found))  # type: ignore[arg-type]


def _end(end: Any, names: Sequence[str]) -> int | None:
    """0-based index of a keypoint given by number from 1 or by name; None for anything else."""
    if type(end) is int and 1 <= end <= len(names):
        return end - 1
    return names.index(end) if isinstance(end, str) and end in names else None


# fmt: off
COCO = Skeleton(
    name="coco",
    keypoints=(
        "nose",  # 0
        "left_eye",  # 1
        "right_eye",  # 2
        "left_ear",  # 3
        "right_ear",  # 4
        "left_shoulder",  # 5
        "right_shoulder",  # 6
        "left_elbow",  # 7
        "right_elbow",  # 8
        "left_wrist",  # 9
        "right_wrist",  # 10
        "left_hip",  # 11
        "right_hip",  # 12
        "left_knee",  # 13
        "right_knee",  # 14
        "left_ankle",  # 15
        "right_ankle",  # 16
    ),
    # The nineteen limbs of COCO's own category record, there 1-based.
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    # pycocotools, cocoeval.Params.setKpParams
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089,
    ),
)

CROWDPOSE = Skeleton(
    name="crowdpose",
    keypoints=(
        "left_shoulder",  # 0
        "right_shoulder",  # 1
        "left_elbow",  # 2
        "right_elbow",  # 3
        "left_wrist",  # 4
        "right_wrist",  # 5
        "left_hip",  # 6
        "right_hip",  # 7
        "left_knee",  # 8
        "right_knee",  # 9
        "left_ankle",  # 10
        "right_ankle",  # 11
        "head",  # 12
        "neck",  # 13
    ),
    limbs=(
        (12, 13), (13, 0), (13, 1), (0, 1), (0, 2), (2, 4), (1, 3), (3, 5), (0, 6), (1, 7), (6, 7), (6, 8), (8, 10),
        (7, 9), (9, 11),
    ),
    # crowdposetools, cocoeval.Params.setKpParams
    sigmas=(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
)

MPII = Skeleton(
    name="mpii",
    keypoints=(
        "right_ankle",  # 0
        "right_knee",  # 1
        "right_hip",  # 2
        "left_hip",  # 3
        "left_knee",  # 4
        "left_ankle",  # 5
        "pelvis",  # 6
        "thorax",  # 7
        "upper_neck",  # 8
        "head_top",  # 9
        "right_wrist",  # 10
        "right_elbow",  # 11
        "right_shoulder",  # 12
        "left_shoulder",  # 13
        "left_elbow",  # 14
        "left_wrist",  # 15
    ),
    limbs=(
        (0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (7, 12), (12, 11), (11, 10), (7, 13),
        (13, 14), (14, 15),
    ),
    # MPII has no sigmas of its own; these are COCO's for the same joints and 0.079 on the body axis, used for target
    # scales and instance scores, never for PCKh.
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.079, 0.079, 0.079, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062,
    ),
    scale_rule="head",
)
# fmt: on

SKELETONS: dict[str, Skeleton] = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE, MPII)}


def get_skeleton(name: str) -> Skeleton:
    """A built-in skeleton by name; GraphposeError lists the valid names otherwise."""
    try:
        return SKELETONS[name]
    except KeyError:
        raise GraphposeError(f"unknown skeleton '{name}'; choose one of {', '.join(SKELETONS)}") from None
