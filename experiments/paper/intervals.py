"""Means over seeds with Student's t intervals, as the pages show them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
DIGITS = 3  # of a metric in [0, 1]


def t_quantile(degrees: int, comparisons: int = 1) -> float:
    """Half the width, in standard errors, of each of so many t intervals that hold at once, whatever they compare.

    Source: Bonferroni's inequality for more than one; they hold with a probability of :data:`CONFIDENCE` at least.
    """
    from scipy import stats  # takes seconds, and most commands report nothing

    return float(stats.t.ppf(1 - (1 - CONFIDENCE) / (2 * comparisons), degrees))


@dataclasses.dataclass(frozen=True)
class Interval:
    """Mean of some numbers and its 95 % interval; nan for what too few numbers cannot tell."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Student's t interval; without width for fewer than two values."""
        if len(values) == 0:
            return Interval(math.nan, math.nan, math.nan)
        mean = float(np.mean(values))
        if len(values) < 2:
            return Interval(mean, math.nan, math.nan)
        half = float(t_quantile(len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
        return Interval(mean, mean - half, mean + half)

    def text(self, sign: bool = False, digits: int = DIGITS) -> str:
        """0.512 [0.498, 0.526], or without brackets where there is no interval."""
        if math.isnan(self.mean):
            return "–"
        form = f"{{:{'+' if sign else ''}.{digits}f}}"
        text = form.format(self.mean)
        return text if math.isnan(self.low) else f"{text} [{form.format(self.low)}, {form.format(self.high)}]"
