"""Differences between rows that were run with the same seeds: simultaneous intervals, and what could have been seen.

All rows of a study see the same seeds, which are its blocks. A run deviates from its row and its seed by noise s that
all rows share, so a difference of two rows' means over S seeds has the standard error s · sqrt(2 / S) with
(rows − 1)(S − 1) degrees of freedom.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.paper.intervals import CONFIDENCE, DIGITS, Interval, t_quantile

POWER = 0.8

Values = Mapping[str, Mapping[int, float]]  # row → seed → figure


@dataclasses.dataclass(frozen=True)
class Contrast(Interval):
    """A difference of two rows' means with its simultaneous interval; nan where there is not enough to tell.

    Attributes:
        mean: of the row minus that of its reference.
        low, high: of the interval.
        detectable: smallest difference that would have been told from 0 with a probability of :data:`POWER`.
    """

    detectable: float

    def text(self, sign: bool = True, digits: int = DIGITS) -> str:
        """+0.012 [+0.002, +0.022], or without brackets where there is no interval."""
        return super().text(sign, digits)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Residual error of the randomised block design with seeds as blocks; it takes all rows to be equally noisy.

    Three seeds alone tell little of their own spread; five rows of them tell four times as much.

    Attributes:
        deviation: standard deviation of a run once its row's and its seed's mean are taken off.
        degrees: of freedom, (rows − 1)(seeds − 1).
        seeds: of each row.
    """

    deviation: float
    degrees: int
    seeds: int

    @classmethod
    def of(cls, values: Values) -> Noise | None:
        """From all rows and the seeds that all of them have; None with fewer than two of either."""
        seeds = complete_seeds(values)
        if len(values) < 2 or len(seeds) < 2:
            return None
        y = np.array([[one[seed] for seed in seeds] for one in values.values()])  # (rows, seeds)
        residual = y - y.mean(1, keepdims=True) - y.mean(0, keepdims=True) + y.mean()
        degrees = (y.shape[0] - 1) * (y.shape[1] - 1)
        return cls(math.sqrt(float((residual**2).sum()) / degrees), degrees, len(seeds))

    @property
    def error(self) -> float:
        """Standard error of a difference of two rows' means."""
        return self.deviation * math.sqrt(2 / self.seeds)

    @property
    def half_width(self) -> float:
        """Of the 95 % t interval of a difference of two rows' means."""
        return t_quantile(self.degrees) * self.error

    def contrast(self, difference: float, critical: float) -> Contrast:
        """A difference with an interval of ``critical`` standard errors to either side."""
        half = critical * self.error
        return Contrast(difference, difference - half, difference + half, self.error * shift(critical, self.degrees))


def complete_seeds(values: Values) -> list[int]:
    """Seeds that every row has."""
    return sorted(set.intersection(*(set(one) for one in values.values()))) if values else []


def contrasts(
    values: Values, rows: Sequence[str], reference: str, dependent: Mapping[str, str] | None = None
) -> dict[str, Contrast]:
    """Rows against one reference, with intervals that hold all at once with a probability of :data:`CONFIDENCE`.

    They are Dunnett's.

    Args:
        values: of all rows of the study, which share their noise.
        rows: those to be compared.
        reference: the row that is taken off.
        dependent: row → the row whose runs it is. Such rows do not count for the noise, and the difference of the two
            is measured against the noise of the pair alone, with Bonferroni's correction.
    """
    dependent = dependent or {}
    seeds = complete_seeds(values)
    noise_of_all = Noise.of({row: one for row, one in values.items() if row not in dependent})
    mean = {row: float(np.mean([one[seed] for seed in seeds])) if seeds else math.nan for row, one in values.items()}
    found = {}
    for row in rows:
        difference = mean.get(row, math.nan) - mean.get(reference, math.nan)
        alone = dependent.get(row) == reference
        noise = Noise.of({one: values[one] for one in (row, reference) if one in values}) if alone else noise_of_all
        if noise is None or math.isnan(difference):
            found[row] = Contrast(difference, math.nan, math.nan, math.nan)
            continue
        critical = t_quantile(noise.degrees, len(rows)) if alone else dunnett(len(rows), noise.degrees)
        found[row] = noise.contrast(difference, critical)
    return found


@functools.cache
def dunnett(comparisons: int, degrees: int) -> float:
    """Half the width, in standard errors, of the two-sided intervals of so many rows against one reference.

    They hold all at once where all rows and the reference are of as many runs.

    Source: Dunnett, "A multiple comparison procedure for comparing several treatments with a control", JASA 1955.
    """
    from scipy import optimize, stats

    z = np.linspace(-8, 8, 801)  # of the reference's mean
    nodes, weights = np.polynomial.legendre.leggauss(200)
    s = stats.chi.ppf((nodes + 1) / 2, degrees)[:, None] / math.sqrt(degrees)  # of the estimated deviation

    def all_within(critical: float) -> float:
        reach = math.sqrt(2) * critical * s  # (200, 1)
        inside = (stats.norm.cdf(z + reach) - stats.norm.cdf(z - reach)) ** comparisons  # (200, 801)
        given_s = (inside * stats.norm.pdf(z)).sum(axis=1) * (z[1] - z[0])
        return float(weights @ given_s / 2)

    return float(optimize.brentq(lambda critical: all_within(critical) - CONFIDENCE, 1.0, 60.0, xtol=1e-6))


@functools.cache
def shift(critical: float, degrees: int) -> float:
    """True difference, in standard errors, that lies outside of ``critical`` with a probability of :data:`POWER`."""
    from scipy import optimize, stats

    def power(delta: float) -> float:
        # the other side's share is below 1e-4 here, and scipy's noncentral t loses it to rounding
        return float(stats.nct.sf(critical, degrees, delta))

    return float(optimize.brentq(lambda delta: power(delta) - POWER, 0.0, 10 * critical + 10))
