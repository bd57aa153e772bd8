"""What the persons of the demo scenes wear."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Outfit:
    """What somebody wears; lengths are fractions of the whole limb, 0 is bare and 1 reaches wrist or ankle."""

    sleeves: float = 1.0
    trousers: float = 1.0
    hair: str = "short"  # short, long, bun, hat or bald
    front: str = "plain"  # plain, print, buttons, vneck or stripes; all but the stripes are on the front only
    bag: bool = False
    skirt: bool = False
    beard: bool = False
    seat: bool = False

    @classmethod
    def sample(cls, rng: np.random.Generator, seated: bool = False) -> Outfit:
        """Somebody's clothes; three of four who sit have something to sit on."""
        sleeves, trousers, hair, front, bag, skirt, beard, seat = rng.random(8).tolist()
        return cls(
            sleeves=0.0 if sleeves < 0.12 else 0.26 + 0.4 * sleeves if sleeves < 0.58 else 1.0,
            trousers=0.26 + 0.9 * trousers if trousers < 0.35 else 1.0,
            hair=_pick(hair, (("short", 0.46), ("long", 0.24), ("bun", 0.10), ("hat", 0.13), ("bald", 0.07))),
            front=_pick(front, (("plain", 0.2), ("print", 0.3), ("buttons", 0.2), ("vneck", 0.15), ("stripes", 0.15))),
            bag=bag < 0.12,
            skirt=skirt < 0.12 and not seated,
            beard=beard < 0.15,
            seat=seated and seat < 0.75,
        )


def _pick(u: float, choices: Sequence[tuple[str, float]]) -> str:
    """The choice that u in [0, 1) falls on; the probabilities sum to 1."""
    for name, probability in choices:
        u -= probability
        if u < 0:
            return name
    return choices[-1][0]
