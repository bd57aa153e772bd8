"""Simultaneous intervals of differences, and the smallest difference that a study sees."""

import math

import numpy as np
import pytest

from experiments.paper.contrasts import Noise, complete_seeds, contrasts, dunnett, shift
from experiments.paper.intervals import t_quantile


@pytest.mark.parametrize(
    ("rows", "degrees", "critical"),
    # Dunnett 1964, table of the two-sided 5 % points
    [(1, 10, 2.23), (2, 10, 2.57), (5, 10, 2.99), (1, 20, 2.09), (3, 20, 2.54), (5, 20, 2.73), (4, 20, 2.65)],
)
def test_dunnetts_critical_values_are_those_of_his_table(rows, degrees, critical):
    assert dunnett(rows, degrees) == pytest.approx(critical, abs=0.011)


def test_bonferroni_is_a_little_wider_than_dunnett_and_equal_for_one_row():
    assert t_quantile(12) == pytest.approx(dunnett(1, 12), abs=1e-3)
    assert dunnett(6, 12) < t_quantile(12, 6) < 1.1 * dunnett(6, 12)


def test_two_rows_worked_by_hand():
    values = {"a": {1: 0.5, 2: 0.6, 3: 0.7}, "b": {1: 0.4, 2: 0.6, 3: 0.6}}
    # differences 0.1, 0, 0.1: mean 1/15, deviation 0.0577, so a paired t interval of 2 degrees
    [contrast] = contrasts(values, ["a"], "b").values()
    half = 4.3027 * np.std([0.1, 0.0, 0.1], ddof=1) / math.sqrt(3)
    assert contrast.mean == pytest.approx(1 / 15)
    assert (contrast.low, contrast.high) == pytest.approx((1 / 15 - half, 1 / 15 + half), rel=1e-3)


def test_only_seeds_that_all_rows_have_count():
    values = {"a": {1: 0.5, 2: 0.6}, "b": {2: 0.4, 3: 0.9, 1: 0.3}}
    assert complete_seeds(values) == [1, 2]
    assert contrasts(values, ["a"], "b")["a"].mean == pytest.approx(0.2)


def test_one_seed_gives_a_difference_without_an_interval():
    [contrast] = contrasts({"a": {1: 0.5}, "b": {1: 0.4}}, ["a"], "b").values()
    assert contrast.text() == "+0.100"


def test_intervals_of_all_rows_hold_at_once_and_the_detectable_difference_is_seen_as_often_as_stated():
    rng = np.random.default_rng(0)
    rows, seeds, trials = 5, 6, 600
    noise = Noise(1.0, (rows - 1) * (seeds - 1), seeds)
    critical = dunnett(rows - 1, noise.degrees)
    effect = noise.contrast(0.0, critical).detectable
    held = seen = 0
    for _ in range(trials):
        y = rng.normal(size=(rows, seeds)) + rng.normal(size=seeds)
        y[1] += effect
        values = {str(row): dict(enumerate(y[row])) for row in range(rows)}
        found = contrasts(values, [str(row) for row in range(1, rows)], "0")
        truth = {"1": effect}
        held += all(c.low <= truth.get(row, 0.0) <= c.high for row, c in found.items())
        seen += found["1"].low > 0
    assert held / trials == pytest.approx(0.95, abs=0.03)
    assert seen / trials == pytest.approx(0.80, abs=0.05)


def test_with_one_comparison_and_many_degrees_power_is_the_normal_formula():
    assert shift(t_quantile(10**4), 10**4) == pytest.approx(1.96 + 0.8416, abs=0.01)


def test_a_row_of_another_rows_runs_has_the_noise_of_the_pair_and_changes_nothing_else():
    rng = np.random.default_rng(1)
    values = {row: dict(enumerate(rng.normal(size=5))) for row in "abc"}
    again = {**values, "a again": {seed: value + 0.01 + 1e-4 * seed for seed, value in values["a"].items()}}
    assert contrasts(again, ["b", "c"], "a", {"a again": "a"}) == contrasts(values, ["b", "c"], "a")
    to_b = contrasts(again, ["a", "a again"], "b", {"a again": "a"})
    assert to_b["a again"].high - to_b["a again"].mean == pytest.approx(to_b["a"].high - to_b["a"].mean)
    contrast = contrasts(again, ["a again"], "a", {"a again": "a"})["a again"]
    half = 2.776 * np.std([0.01 + 1e-4 * seed for seed in range(5)], ddof=1) / math.sqrt(5)
    assert (contrast.mean, contrast.high - contrast.mean) == pytest.approx((0.0102, half), rel=1e-3)
