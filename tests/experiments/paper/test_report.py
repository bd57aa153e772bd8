"""What is made of the figures of runs: intervals, differences, the page."""

import math

import numpy as np
import pytest

from experiments.paper import intervals
from experiments.paper import report as table_report
from experiments.paper import rows as paper_tables
from experiments.paper import runs as table_runs


@pytest.fixture
def stats():
    from scipy import stats  # here, since it takes seconds and every process of the tests imports this file

    return stats


def test_intervals_are_students_over_seeds(stats):
    Interval = intervals.Interval
    values = [0.50, 0.53, 0.49]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found = Interval.of(values)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert Interval.of([0.5]).text() == "0.500"
    assert Interval.of([]).text() == "–"
    assert math.isnan(Interval.of([0.5]).low)


def test_differences_are_paired_by_seed(tmp_path, stats):
    rows = paper_tables.TABLE_1.rows
    figures = {"baseline": {1: 0.40, 2: 0.50, 3: 0.60}, "DGCN-A_d": {1: 0.42, 2: 0.53, 3: None}}
    lines = []
    for row in (rows[0], rows[-1]):
        outcomes = {
            seed: table_runs.Outcome("failed", reason="loss is not finite")
            if value is None
            else table_runs.Outcome("done", {"AP": value}, 60.0)
            for seed, value in figures[row.name].items()
        }
        lines.append(table_report.Line(row, outcomes))
    gap = table_report.difference(lines[1], lines, "AP")
    assert gap.mean == pytest.approx(0.025)  # of seeds 1 and 2
    assert (gap.high - gap.low) / 2 == pytest.approx(stats.t.ppf(0.975, 1) * 0.005)
    assert table_report.difference(lines[0], lines, "AP") is None
    text = table_report.markdown(paper_tables.TABLE_1, lines, "demo", "python experiments/tables.py table1")
    (row,) = [line for line in text.splitlines() if line.startswith("| DGCN-A_d")]
    assert "0.475" in row  # the mean of what is done: a failed run is no zero
    assert "+0.025" in row
    assert "2 seeds, 1 failed (loss is not finite)" in row
    assert "| 0.646 |" in row
    assert "Small networks stand in for the paper's: regnetx_002 for resnet50." in text
    chosen = table_report.markdown(paper_tables.TABLE_1, lines, "demo", "command", backbone="resnet18")
    assert "Small networks stand in for the paper's: resnet18 for resnet50." in chosen
    csv = table_report.comma_separated(paper_tables.TABLE_1, lines).splitlines()
    assert csv[2].startswith("DGCN-A_d,AP,0.475,")


def test_a_section_of_the_page_is_replaced_and_the_others_stay(tmp_path):
    replace, page = table_report.replace_section, tmp_path / "docs" / "results.md"
    replace(page, "table1 demo", "first")
    replace(page, "table2 demo", "second")
    replace(page, "table1 demo", r"newer \1")
    text = page.read_text()
    assert text.index(r"newer \1") < text.index("second")
    assert "first" not in text
    assert text.count("<!-- table1 demo -->") == 1


def test_pooled_error_is_that_of_least_squares_on_rows_and_seeds(stats):
    """The same from a linear model with a column for each row and each seed but one."""
    report, Outcome = table_report, table_runs.Outcome
    rows = paper_tables.TABLE_1.rows
    y = np.random.default_rng(0).normal(0.5, 0.02, (5, 3))
    lines = [
        report.Line(row, {seed: Outcome("done", {"AP": float(y[i, seed - 1])}) for seed in (1, 2, 3)})
        for i, row in enumerate(rows)
    ]
    pooled = report.pooled_error(lines, "AP")
    design = np.array([[*(np.arange(5) == i), *(np.arange(1, 3) == j)] for i in range(5) for j in range(3)], float)
    _, residual, rank, _ = np.linalg.lstsq(design, y.reshape(-1), rcond=None)
    degrees = 15 - rank
    assert pooled.degrees == degrees == 8
    assert pooled.deviation == pytest.approx(math.sqrt(residual[0] / degrees))
    covariance = residual[0] / degrees * np.linalg.inv(design.T @ design)
    contrast = np.array([1.0, -1.0, 0, 0, 0, 0, 0])
    half_width = stats.t.ppf(0.975, degrees) * math.sqrt(contrast @ covariance @ contrast)
    assert pooled.half_width == pytest.approx(half_width)
    text = report.markdown(paper_tables.TABLE_1, lines, "demo", "command")
    assert f"difference ± {half_width:.3f}." in text


def test_an_incomplete_table_pools_no_error():
    report, Outcome = table_report, table_runs.Outcome
    done, failed = Outcome("done", {"AP": 0.5}), Outcome("failed", reason="no")
    rows = paper_tables.TABLE_1.rows
    assert report.pooled_error([report.Line(rows[0], {1: done, 2: done})], "AP") is None  # one row
    lines = [report.Line(rows[0], {1: done, 2: done}), report.Line(rows[1], {1: done, 2: failed})]
    assert report.pooled_error(lines, "AP") is None


def test_rows_that_are_the_same_runs_count_once_and_do_not_differ():
    """In the ablations one row is the baseline's own runs."""
    report, Outcome = table_report, table_runs.Outcome
    first, second = ({seed: Outcome("done", {"AP": 0.5 + x / seed}, 60.0 + x) for seed in (1, 2, 3)} for x in (0, 0.1))
    table = paper_tables.ABLATIONS
    dynamic, masked, *_, laplace = table.rows
    lines = [report.Line(dynamic, first), report.Line(masked, second), report.Line(laplace, dict(first))]
    assert report.pooled_error(lines, "AP") == report.pooled_error(lines[:2], "AP")
    assert report.pooled_error(lines, "AP").degrees == 2
    assert report.difference(lines[2], lines, "AP") is None
    assert report.difference(lines[1], lines, "AP").mean == pytest.approx(np.mean([0.1, 0.05, 0.1 / 3]))
    missing = report.Line(masked, {1: Outcome("missing")})
    assert report.difference(missing, [report.Line(dynamic, {1: Outcome("missing")}), missing], "AP").text() == "–"


def test_rows_on_several_data_sets_share_no_error():
    report, Outcome = table_report, table_runs.Outcome
    table = paper_tables.TABLE_5
    lines = [
        report.Line(row, {seed: Outcome("done", {"AP": 0.5 + 0.01 * i * seed}) for seed in (1, 2)})
        for i, row in enumerate(table.rows)
    ]
    assert "All rows together" not in report.markdown(table, lines, "paper", "command")
    assert "All rows together" in report.markdown(table, lines[:4], "paper", "command")  # COCO's
    assert "All rows together" in report.markdown(table, lines, "demo", "command")
