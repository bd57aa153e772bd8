"""Rows of the studies on photographs, and what is said of their figures."""

import re
from pathlib import Path

import numpy as np
import pytest

from experiments.configs.named import configured
from experiments.configs.settings import build_settings
from experiments.paper.contrasts import Contrast
from experiments.paper.rows import Row
from experiments.paper.studies import BASELINE, CONTROL, DGCN, FROZEN, METRICS, PRIMARY, STUDIES, trained_row
from experiments.paper.study_report import (
    StudyFacts,
    graph_sentence,
    head_parameters,
    read_figures,
    study_markdown,
    values_of,
    write_figures,
)
from graphpose.errors import GraphposeError

FACTS = StudyFacts("python x", 1.5, {BASELINE: 80.0}, ["a CPU"], ["abc"], {"lspet": 1000}, {BASELINE: "3"})


def row_named(name: str) -> Row:
    return next(row for row in FROZEN.table.rows if row.name == name)


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_can_be_trained_and_has_its_reference(name):
    study = STUDIES[name]
    names = [row.name for row in study.table.rows]
    for row in study.table.rows:
        build_settings(configured(study.data, dict(trained_row(study, row).settings)))
        assert row.baseline is None or row.baseline in names
    assert {BASELINE, CONTROL, DGCN} <= set(names)


def test_a_row_that_differs_in_evaluation_alone_has_the_runs_of_another():
    row = row_named("A_d with A_s at evaluation")
    assert trained_row(FROZEN, row).name == DGCN
    assert trained_row(FROZEN, row_named(CONTROL)).name == CONTROL


def test_the_control_has_the_parameters_of_the_graph_but_four():
    # two modules of two layers, one parameter less each; a DGCM's 3×3 convolutions alone have 313,344
    graph, control, baseline = (head_parameters(FROZEN, row_named(name), {}) for name in (DGCN, CONTROL, BASELINE))
    assert graph - control == 4
    assert baseline == 1025 * 4 * (17 * 5 + 19 * 7)
    assert control - baseline > 2 * 313_344


def figures(effect: float, seeds: int = 4) -> dict[str, dict[int, dict[str, float]]]:
    """Of three rows, with noise of 0.003; the dynamic graph is better by ``effect``."""
    rng = np.random.default_rng(1)
    mean = {BASELINE: 0.5, CONTROL: 0.55, DGCN: 0.55 + effect}
    return {
        row: {seed: dict.fromkeys(METRICS, value + rng.normal(0, 0.003)) for seed in range(1, seeds + 1)}
        for row, value in mean.items()
    }


def test_a_gain_of_the_graph_is_said_over_the_control():
    rows = [row_named(name) for name in (BASELINE, CONTROL, DGCN)]
    text = study_markdown(FROZEN, rows, figures(0.05), FACTS, lambda row: 1234)
    assert re.search(r"\| DGCN-A_d \| 1,234 \|.*\+0\.0\d\d \[\+0\.0\d\d, \+0\.0\d\d\] \(control\) \|", text)
    assert "a gain of the graph over the control beyond the noise" in text
    assert "1.50 hours of runs; machine: a CPU; commit abc; training images per second: baseline 80." in text
    assert "6 degrees of freedom" in text


def test_where_nothing_stands_out_the_text_says_what_is_excluded():
    rows = [row_named(name) for name in (BASELINE, CONTROL, DGCN)]
    text = study_markdown(FROZEN, rows, figures(0.0), FACTS, lambda row: 1)
    assert re.search(
        r"within the noise\. A gain of the graph over the control above 0\.0\d\d is excluded \(95%\)", text
    )
    assert "a loss beyond the noise" in graph_sentence(Contrast(-0.1, -0.2, -0.05, 0.1))


def test_one_seed_has_means_and_no_intervals():
    rows = [row_named(name) for name in (BASELINE, CONTROL, DGCN)]
    text = study_markdown(FROZEN, rows, figures(0.05, seeds=1), FACTS, lambda row: 1)
    assert "Fewer than two seeds are complete" in text
    assert "[" not in text.split("`python x`")[0].partition("|---")[2]


def test_figures_come_back_from_their_file(tmp_path: Path):
    path = tmp_path / "results" / "frozen.json"
    kept = figures(0.01)
    write_figures(path, kept, FACTS)
    again = read_figures(path)
    assert again.keys() == kept.keys()
    assert values_of(again, PRIMARY)[DGCN] == pytest.approx(
        {s: one[PRIMARY] for s, one in kept[DGCN].items()}, abs=1e-5
    )
    path.write_text("[]")
    with pytest.raises(GraphposeError, match=r"frozen.json holds no figures of a study"):
        read_figures(path)


def test_a_size_of_which_there_is_nobody_is_no_figure():
    assert values_of({"a": {1: {"AP": -1.0}, 2: {"AP": 0.5}}, "b": {1: {"AP": -1.0}}}, "AP") == {"a": {2: 0.5}}
