"""Colours of the demo scenes' persons: skin, hair and clothes that stand off from what is behind and beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpose.data.demo.hulls import Colour

_Rgb = Sequence[float]
_LIGHT_SKIN, _DARK_SKIN = (244.0, 204.0, 174.0), (98.0, 64.0, 46.0)
_HAIRS = ((28, 22, 20), (60, 38, 24), (104, 66, 36), (196, 158, 92), (150, 74, 40), (168, 166, 164))
_TRIES = 4
_APART = 90.0  # sum of the three channels' differences that tells two surfaces apart


def palette(rng: np.random.Generator, background: _Rgb) -> np.ndarray:
    """(len(Colour), 3) float colours in [8, 250] of one person before a background of the given mean colour (3,)."""
    u = rng.random(16 + 7 * 4 * _TRIES).tolist()
    skin = [a * (1 - u[0]) + b * u[0] + 20 * (v - 0.5) for a, b, v in zip(_LIGHT_SKIN, _DARK_SKIN, u[1:4], strict=True)]
    hair = [h + 24 * (v - 0.5) for h, v in zip(_HAIRS[int(u[4] * len(_HAIRS))], u[5:8], strict=True)]
    clothes = iter([u[16 + 4 * _TRIES * i : 16 + 4 * _TRIES * (i + 1)] for i in range(7)])
    colours: list[_Rgb] = [()] * len(Colour)
    colours[Colour.SKIN] = skin
    colours[Colour.NOSE] = [s * f for s, f in zip(skin, (0.84, 0.77, 0.75), strict=True)]
    colours[Colour.LIPS] = [s * f for s, f in zip(skin, (0.82, 0.55, 0.56), strict=True)]
    colours[Colour.HAIR] = hair
    colours[Colour.EYE_WHITE] = (242.0, 242.0, 240.0)
    colours[Colour.PUPIL] = (24.0, 20.0, 22.0)
    colours[Colour.SHIRT] = _cloth(next(clothes), (background, skin))
    colours[Colour.TROUSERS] = _cloth(next(clothes), (background, colours[Colour.SHIRT]))
    colours[Colour.PRINT] = _cloth(next(clothes), (colours[Colour.SHIRT],))
    colours[Colour.SHOES] = _cloth(next(clothes), (background, colours[Colour.TROUSERS]))
    colours[Colour.HAT] = _cloth(next(clothes), (background, skin))
    colours[Colour.BAG] = _cloth(next(clothes), (colours[Colour.SHIRT],))
    colours[Colour.SEAT] = _cloth(next(clothes), (background, colours[Colour.TROUSERS]))
    colours[Colour.SOLE] = (236.0, 234.0, 228.0) if u[8] < 0.5 else (34.0, 32.0, 32.0)
    return np.array(colours).clip(8, 250)


def _cloth(u: Sequence[float], apart: Sequence[_Rgb]) -> _Rgb:
    """Of a few colours, drawn from 4 random numbers each, the first that stands off from the given ones, or the best.

    The first, and not always the best, so that muted clothes stay as frequent as bright ones.
    """
    best, most = (0.0, 0.0, 0.0), -1.0
    for i in range(0, len(u), 4):
        value, depth = 40 + 195 * u[i], 0.8 * max(u[i + 1], u[i + 2])
        r, g, b = value * (1 - depth * u[i + 1]), value * (1 - depth * u[i + 2]), value * (1 - depth * u[i + 3])
        distance = min([abs(r - other[0]) + abs(g - other[1]) + abs(b - other[2]) for other in apart])
        if distance > most:
            best, most = (r, g, b), distance
        if distance > _APART:
            break
    return best
