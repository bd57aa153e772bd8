"""What the paper says of graphs, judged by the demo's tables and by the studies on photographs.

A claim that one thing is better is confirmed where the interval of the difference lies above 0, refuted where it lies
below, and undecided otherwise. A claim that two things are as good as each other is confirmed where the interval lies
within ± :data:`EQUAL`, refuted where it lies outside, and undecided otherwise. The intervals of one source hold all at
once (Bonferroni over the claims that it is asked about).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.paper.contrasts import Contrast, Noise, Values, complete_seeds
from experiments.paper.intervals import CONFIDENCE, t_quantile
from experiments.paper.report import Line
from experiments.paper.rows import TABLE_1, TABLE_3, Table
from experiments.paper.runs import expand, outcome
from experiments.paper.studies import BASELINE, CONTROL, DGCN, HIDDEN, PRIMARY, PYRAMID, SOFT, STUDIES
from experiments.paper.study_report import read_figures, values_of
from graphpose.errors import GraphposeError

Verdict = Literal["confirmed", "refuted", "undecided", "not measured"]
Source = Literal["demo", "frozen", "frozen_lite0", "endtoend"]

EQUAL = 0.01  # of a share or of AP: what hardly matters
DEMO_SCENES = {"demo_val_scenes": 500}
DEMO_SECTIONS: dict[str, tuple[str, Table]] = {  # name in a claim → name of the page's section, and its rows
    "table1": ("table1 demo demo_val_scenes=500", TABLE_1),
    "table3": ("table3 demo demo_val_scenes=500", TABLE_3),
}
SOURCES: dict[Source, str] = {
    "demo": "demo, AP",
    "frozen": "photographs, frozen trunk",
    "frozen_lite0": "photographs, frozen Lite0",
    "endtoend": "photographs, trunk trained",
}
COLOURS: dict[Source, str] = {
    "demo": "tab:gray",
    "frozen": "tab:blue",
    "frozen_lite0": "tab:cyan",
    "endtoend": "tab:orange",
}

Difference = tuple[str, str, str]  # row, its reference, and the figure of a study or the table of the demo


def by_source(
    *, demo: Difference | None = None, frozen: Difference | None = None, endtoend: Difference | None = None
) -> dict[Source, Difference]:
    """What speaks of a claim by source; both frozen trunks are asked the same."""
    every: dict[Source, Difference | None] = {
        "demo": demo, "frozen": frozen, "frozen_lite0": frozen, "endtoend": endtoend
    }  # fmt: skip
    return {source: difference for source, difference in every.items() if difference is not None}


@dataclasses.dataclass(frozen=True, eq=False)
class Claim:
    """One claim and the differences that speak of it.

    Attributes:
        text: the claim.
        paper: the difference that the paper prints, of AP on COCO val2017; None where it prints none.
        asked: by source the difference that speaks of it.
        equal: the claim is that the difference hardly matters.
    """

    text: str
    paper: float | None
    asked: Mapping[Source, Difference]
    equal: bool = False


CLAIMS = (
    Claim(
        "A GCN (A_I) is better than the baseline",
        0.010,
        by_source(
            demo=("GCN-A_I", BASELINE, "table1"),
            frozen=("GCN-A_I", BASELINE, PRIMARY),
            endtoend=("GCN-A_I", BASELINE, PRIMARY),
        ),
    ),
    Claim(
        "… and the graph (A_d) than the control without one",
        None,
        by_source(frozen=(DGCN, CONTROL, PRIMARY), endtoend=(DGCN, CONTROL, PRIMARY)),
    ),
    Claim(
        "A_h is better than A_I",
        0.003,
        by_source(demo=("GCN-A_h", "GCN-A_I", "table1"), frozen=("GCN-A_h", "GCN-A_I", PRIMARY)),
    ),
    Claim(
        "A_s is better than A_h",
        0.002,
        by_source(demo=(SOFT, "GCN-A_h", "table1"), frozen=(SOFT, "GCN-A_h", PRIMARY)),
    ),
    Claim(
        "A_d is better than A_s",
        0.005,
        by_source(demo=(DGCN, SOFT, "table1"), frozen=(DGCN, SOFT, PRIMARY)),
    ),
    Claim(
        "A pyramid (F16 & F8) is better than one head",
        0.005,
        by_source(demo=(PYRAMID, "F16", "table3"), endtoend=(PYRAMID, DGCN, PRIMARY)),
    ),
    Claim(
        "γ hardly matters: 0.01 against 0.5", -0.003, by_source(frozen=("A_s with γ = 0.01", SOFT, PRIMARY)), equal=True
    ),
    Claim(
        "γ hardly matters: 100 against 0.5", -0.002, by_source(frozen=("A_s with γ = 100", SOFT, PRIMARY)), equal=True
    ),
    Claim(
        "A graph (A_d against the control) finds more hidden joints",
        None,
        by_source(frozen=(DGCN, CONTROL, HIDDEN), endtoend=(DGCN, CONTROL, HIDDEN)),
    ),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Judged:
    """A claim with what each source says of it; None for what was not measured."""

    claim: Claim
    found: Mapping[Source, Contrast | None]

    def verdict(self, source: Source) -> Verdict:
        """By the interval."""
        contrast = self.found.get(source)
        if contrast is None or math.isnan(contrast.mean):
            return "not measured"
        if self.claim.equal:
            if -EQUAL <= contrast.low and contrast.high <= EQUAL:
                return "confirmed"
            return "refuted" if contrast.low > EQUAL or contrast.high < -EQUAL else "undecided"
        if contrast.low > 0:
            return "confirmed"
        return "refuted" if contrast.high < 0 else "undecided"


def judged_claims(page: Path, runs: Path) -> list[Judged]:
    """Every claim by every source that has something to say.

    Args:
        page: of results; figures of the studies lie in the folder of its name.
        runs: folder of all runs of tables; the demo's figures are the page's where its runs are gone.

    Raises:
        GraphposeError: neither the demo nor a study has anything to say.
    """
    found: dict[Source, dict[Claim, Contrast]] = {"demo": _demo(page, runs)}
    for name in STUDIES:
        path = page.parent / page.stem / f"{name}.json"
        found[name] = _study(path) if path.is_file() else {}  # type: ignore[index]
    if not any(found.values()):
        studies = " or ".join(f"{name}.json" for name in STUDIES)
        raise GraphposeError(
            f"{page} has no Table 1 or 3 of the demo, and {page.parent / page.stem} no {studies}; nothing can be judged"
        )
    return [Judged(claim, {source: found[source].get(claim) for source in SOURCES}) for claim in CLAIMS]


def _study(path: Path) -> dict[Claim, Contrast]:
    """Contrasts of a study's kept figures."""
    figures = read_figures(path)
    source: Any = path.stem
    evaluated = STUDIES[path.stem].evaluated
    asked = {}
    for claim in CLAIMS:
        if source in claim.asked:
            row, reference, figure = claim.asked[source]
            values = {name: one for name, one in values_of(figures, figure).items() if name not in evaluated}
            if {row, reference} <= values.keys():
                asked[claim] = (row, reference, values)
    return _corrected(
        {
            claim: (_difference(values, row, reference), Noise.of(values))
            for claim, (row, reference, values) in asked.items()
        }
    )


def _difference(values: Values, row: str, reference: str) -> float:
    seeds = complete_seeds(values)
    return float(np.mean([values[row][seed] - values[reference][seed] for seed in seeds])) if seeds else math.nan


def _corrected(found: Mapping[Claim, tuple[float, Noise | None]]) -> dict[Claim, Contrast]:
    """Intervals of all claims of a source that hold at once."""
    contrasts = {}
    for claim, (difference, noise) in found.items():
        if noise is not None and not math.isnan(difference):
            contrasts[claim] = noise.contrast(difference, t_quantile(noise.degrees, len(found)))
    return contrasts


def _demo(page: Path, runs: Path) -> dict[Claim, Contrast]:
    """Contrasts of the demo, from its runs or else from what the page says of them."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    sections = {}
    for name, (marker, table) in DEMO_SECTIONS.items():
        values = _recorded(table, runs)
        if values is not None:
            means = {row: float(np.mean(list(one.values()))) for row, one in values.items()}
            sections[name] = (means, Noise.of(values))
        elif f"<!-- {marker} -->" in text:
            sections[name] = published_means(text, marker)
    found = {}
    for claim in CLAIMS:
        if "demo" in claim.asked and claim.asked["demo"][2] in sections:
            row, reference, section = claim.asked["demo"]
            means, noise = sections[section]
            found[claim] = (means[row] - means[reference], noise)
    return _corrected(found)


def _recorded(table: Table, runs: Path) -> Values | None:
    """AP of the demo's runs by row and seed; None where one of them is not there any more."""
    values = {}
    for row in table.rows:
        line = Line(row, {run.seed: outcome(run) for run in expand(row, "demo", 3, DEMO_SCENES, runs)})
        values[row.name] = line.values("AP")
    return values if all(len(one) == 3 for one in values.values()) else None


def published_means(text: str, marker: str) -> tuple[dict[str, float], Noise]:
    """Means of the rows of a section of the results page, and their noise as the line below the table states it.

    Raises:
        GraphposeError: the section has no such table or line.
    """
    section = re.search(f"{re.escape(f'<!-- {marker} -->')}(.*?){re.escape(f'<!-- /{marker} -->')}", text, re.DOTALL)
    body = section[1] if section else ""
    means = {row.strip(): float(mean) for row, mean in re.findall(r"^\| ([^|]+) \| (\d\.\d+) \[", body, re.MULTILINE)}
    degrees = re.search(r"degrees of freedom: (\d+)\)", body)
    deviation = re.search(r"deviates from its row and seed by (\d\.\d+)", body)
    seeds = re.search(r"^Seeds ([\d, ]+);", body, re.MULTILINE)
    if not (means and degrees and deviation and seeds):
        raise GraphposeError(
            f"the section '{marker}' of the results page has no table with the noise of all its rows; make it again "
            "with tables.py"
        )
    return means, Noise(float(deviation[1]), int(degrees[1]), len(seeds[1].split(",")))


def show_claims(judged: Sequence[Judged], picture: str) -> str:
    """The claims as Markdown, with a picture of them."""
    head = ["claim", "paper, AP", *SOURCES.values()]
    out = ["### What is confirmed of what the paper says", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in judged:
        paper = "" if one.claim.paper is None else f"{one.claim.paper:+.3f}"
        out.append("| " + " | ".join([one.claim.text, paper, *(_cell(one, source) for source in SOURCES)]) + " |")
    out += [
        "",
        f"![Differences and intervals of every claim]({picture})",
        "",
        f"`python experiments/tables.py claims`: differences with {CONFIDENCE:.0%} intervals that hold at once for all "
        "claims of a column (Bonferroni; the noise is that of all rows of a table or study, with seeds as blocks). "
        "Confirmed: the interval lies above 0; refuted: below; undecided: neither, and a gain above the interval's "
        f"upper end is excluded. γ: confirmed where the interval lies within ± {EQUAL:g}. On photographs the figure is "
        "the share of the joints of Leeds Sports Pose Extended that are found within a tenth of the box (the last "
        "claim: of COCO's hidden joints), and the control is a DGCM whose graph convolutions are plain 1×1 "
        "convolutions. The demo has no control: its gains over the baseline are those of a DGCM, not of its graph.",
    ]
    return "\n".join([*out, ""])


def _cell(one: Judged, source: Source) -> str:
    verdict, contrast = one.verdict(source), one.found.get(source)
    if contrast is None:
        return "not measured" if source in one.claim.asked else "–"
    return f"**{verdict}** {contrast.text()}"


def draw_claims(judged: Sequence[Judged], path: Path) -> None:
    """A forest plot of all differences that were measured, source beside source."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 0.55 * len(judged) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="black", linewidth=0.8)
    labelled = set()
    offsets = np.linspace(-0.22, 0.22, len(SOURCES))
    for place, one in enumerate(judged):
        if place % 2:
            axes.axhspan(place - 0.5, place + 0.5, color="0.95", zorder=0)
        if one.claim.equal:
            axes.fill_betweenx([place - 0.5, place + 0.5], -EQUAL, EQUAL, color="tab:green", alpha=0.12, zorder=0)
        if one.claim.paper is not None:
            axes.plot(one.claim.paper, place, "|", color="tab:red", markersize=13, markeredgewidth=2,
                      label=None if "paper" in labelled else "paper, COCO val2017, AP")  # fmt: skip
            labelled.add("paper")
        for offset, source in zip(offsets, SOURCES, strict=True):
            contrast = one.found.get(source)
            if contrast is None:
                continue
            decided = one.verdict(source) in ("confirmed", "refuted")
            axes.errorbar(
                contrast.mean, place + offset, xerr=[[contrast.mean - contrast.low], [contrast.high - contrast.mean]],
                fmt="o", color=COLOURS[source], markerfacecolor=COLOURS[source] if decided else "white", capsize=3,
                label=None if source in labelled else SOURCES[source],
            )  # fmt: skip
            labelled.add(source)
    axes.set(yticks=range(len(judged)), yticklabels=[one.claim.text for one in judged], ylim=(len(judged) - 0.5, -0.5))
    axes.set_xlabel("difference (filled: decided; band: hardly matters)")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.3, -0.12), ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
