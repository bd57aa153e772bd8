"""The paper's claims, judged."""

from pathlib import Path

import numpy as np
import pytest

from experiments.paper.claims import (
    CLAIMS,
    Judged,
    draw_claims,
    judged_claims,
    published_means,
    show_claims,
)
from experiments.paper.contrasts import Contrast
from experiments.paper.studies import BASELINE, CONTROL, DGCN, HIDDEN, PRIMARY, STUDIES
from experiments.paper.study_report import StudyFacts, write_figures
from graphpose.errors import GraphposeError

PAGE = Path(__file__).parents[3] / "docs" / "results.md"
GAIN, EQUAL = (next(claim for claim in CLAIMS if claim.equal is equal) for equal in (False, True))


def test_the_demos_figures_are_read_from_the_page_where_its_runs_are_gone(tmp_path: Path):
    means, noise = published_means(PAGE.read_text(), "table1 demo demo_val_scenes=500")
    assert means == {"baseline": 0.497, "GCN-A_I": 0.506, "GCN-A_h": 0.502, "GCN-A_s": 0.503, "DGCN-A_d": 0.507}
    # "a run deviates … by 0.0079, so the 95 % interval of a difference … is the difference ± 0.015"
    assert noise.half_width == pytest.approx(0.015, abs=5e-4)
    judged = {one.claim: one for one in judged_claims(PAGE, tmp_path)}
    first, pyramid = judged[CLAIMS[0]], judged[CLAIMS[5]]
    assert first.found["demo"].mean == pytest.approx(0.009)
    assert (first.verdict("demo"), pyramid.verdict("demo")) == ("undecided", "confirmed")
    with pytest.raises(GraphposeError, match="the section 'table9' of the results page has no table"):
        published_means(PAGE.read_text(), "table9")


def test_where_nothing_was_measured_nothing_is_judged(tmp_path: Path):
    with pytest.raises(
        GraphposeError,
        match=r"no Table 1 or 3 of the demo, and .* no frozen.json or frozen_lite0.json or endtoend.json",
    ):
        judged_claims(tmp_path / "page.md", tmp_path)


@pytest.mark.parametrize(
    ("claim", "low", "high", "verdict"),
    [
        (GAIN, 0.001, 0.02, "confirmed"), (GAIN, -0.001, 0.02, "undecided"), (GAIN, -0.02, -0.001, "refuted"),
        (EQUAL, -0.009, 0.008, "confirmed"), (EQUAL, -0.011, 0.0, "undecided"), (EQUAL, 0.011, 0.02, "refuted"),
        (EQUAL, 0.001, 0.009, "confirmed"),
    ],
)  # fmt: skip
def test_verdicts_follow_the_interval(claim, low, high, verdict):
    contrast = Contrast((low + high) / 2, low, high, 0.01)
    judged = Judged(claim, {"demo": None, "frozen": contrast, "endtoend": None})
    assert (judged.verdict("frozen"), judged.verdict("demo")) == (verdict, "not measured")


def test_claims_on_photographs_come_from_the_studies_files(tmp_path: Path):
    rng = np.random.default_rng(0)
    names = [row.name for row in STUDIES["frozen"].table.rows]
    figures = {
        name: {
            seed: {PRIMARY: 0.5 + 0.1 * (name == DGCN) + rng.normal(0, 0.002), HIDDEN: 0.3 + rng.normal(0, 0.02)}
            for seed in range(1, 9)
        }
        for name in names
    }
    write_figures(tmp_path / "results" / "frozen.json", figures, StudyFacts("", 0.0, {}, [], [], {}, {}))
    judged = judged_claims(tmp_path / "results.md", tmp_path)
    verdicts = {one.claim.text: one.verdict("frozen") for one in judged}
    assert verdicts["… and the graph (A_d) than the control without one"] == "confirmed"
    assert verdicts["γ hardly matters: 100 against 0.5"] == "confirmed"
    assert verdicts["A_h is better than A_I"] == "undecided"
    assert all(one.verdict("demo") == one.verdict("endtoend") == "not measured" for one in judged)
    text = show_claims(judged, "claims.png")
    assert "**confirmed** +0.1" in text
    draw_claims(judged, tmp_path / "claims.png")
    assert (tmp_path / "claims.png").stat().st_size > 5000


def test_every_difference_that_a_claim_asks_for_is_of_rows_that_there_are():
    for claim in CLAIMS:
        for source, (row, reference, _) in claim.asked.items():
            if source != "demo":
                assert {row, reference} <= {one.name for one in STUDIES[source].table.rows}
    assert {BASELINE, CONTROL} <= {claim.asked["frozen"][1] for claim in CLAIMS if "frozen" in claim.asked}
