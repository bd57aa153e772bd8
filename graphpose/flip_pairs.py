"""Flip pairs by name: which keypoints change places in a mirror image, by how people name sides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence


def pairs_by_name(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of keypoints whose names say that they change places in a mirror image.

    Two keypoints are a pair where exchanging left and right in the name of each gives the name of the other. Sides are
    the words left and right, lt and rt, or the letters l and r: between separators (``l_eye``, ``eye.L``, ``hip-l``,
    ``R Knee``), as a capital before a capital or after a small letter (``RShoulder``, ``kneeL``), or as the first or
    last letter of names that have their counterpart (``lknee`` and ``rknee``).

    Returns:
        0-based pairs, the lower index first, ascending.
    """
    index = {name: k for k, name in enumerate(names)}
    counterpart = {}
    for k, name in enumerate(names):
        mirrored = (index[other] for other in _mirror_names(name) if other in index and other != name)
        counterpart[k] = next(mirrored, k)
    return tuple((k, other) for k, other in counterpart.items() if k < other and counterpart[other] == k)


_OPPOSITE = {"left": "right", "lt": "rt", "lft": "rgt", "l": "r"}
_OPPOSITE |= {right: left for left, right in _OPPOSITE.items()}


def _mirror_names(name: str) -> Iterator[str]:
    """What the counterpart of a keypoint may be called, the surest first; the keypoints at hand decide."""

    def exchanged(match: re.Match[str]) -> str:
        side = match.group()
        other = _OPPOSITE[side.lower()]
        return other.upper() if side.isupper() else other.capitalize() if side[0].isupper() else other

    for pattern in (
        r"(?i)left|right",
        r"(?i)(?<![a-z0-9])(?:lt|rt|lft|rgt|l|r)(?![a-z])",  # between separators: l_eye, eye.L, hand_l1
        r"(?<![A-Za-z])[LR](?=[A-Z])|(?<=[a-z0-9])[LR](?![A-Za-z])|(?<=[a-z0-9])[LR](?=[A-Z])",  # RShoulder, kneeL
        r"^[LRlr]|[LRlr]$",  # Rshoulder, lknee, kneel
    ):
        yield re.sub(pattern, exchanged, name)
        yield re.sub(pattern, exchanged, name, count=1)
    yield re.sub(r"^[LRlr]", exchanged, name)
    yield re.sub(r"[LRlr]$", exchanged, name)
