"""A study's figures: kept for every row and seed, and as Markdown with differences, power and what is excluded."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.configs.named import configured
from experiments.configs.settings import build_settings
from experiments.paper.contrasts import POWER, Contrast, Noise, Values, contrasts
from experiments.paper.intervals import CONFIDENCE
from experiments.paper.rows import Row
from experiments.paper.studies import BASELINE, CONTROL, DGCN, METRICS, PRIMARY, Study
from graphpose.errors import GraphposeError

EVALUATED = "; the difference of two evaluations of the same runs has the noise of the pair and Bonferroni's correction"

Figures = Mapping[str, Mapping[int, Mapping[str, float]]]  # row → seed → figure → value


@dataclasses.dataclass(frozen=True)
class StudyFacts:
    """What a study was made with.

    Attributes:
        command: that makes it again.
        hours: of its runs.
        speeds: training images per second by row.
        machines: where the runs were made.
        commits: of their sources.
        images: of each set that it is scored on.
        states: by row what is not done.
    """

    command: str
    hours: float
    speeds: Mapping[str, float]
    machines: Sequence[str]
    commits: Sequence[str]
    images: Mapping[str, int]
    states: Mapping[str, str]


def write_figures(path: Path, figures: Figures, facts: StudyFacts) -> None:
    """Keep everything that a study has measured, so that what is said of it can be computed without its runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = {
        row: {seed: {name: round(value, 5) for name, value in one.items()} for seed, one in of_row.items()}
        for row, of_row in figures.items()
    }
    path.write_text(json.dumps({"facts": dataclasses.asdict(facts), "figures": rounded}, indent=1, ensure_ascii=False))


def read_figures(path: Path) -> Figures:
    """Inverse of :func:`write_figures`; GraphposeError names a file that is none of its."""
    try:
        content = json.loads(path.read_text())
        return {row: {int(seed): one for seed, one in rows.items()} for row, rows in content["figures"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GraphposeError(f"{path} holds no figures of a study ({error!r}); tables.py writes them") from None


def values_of(figures: Figures, name: str) -> Values:
    """One figure of all rows that have it; −1 (a size of which the set has nobody) is none."""
    values = {
        row: {seed: one[name] for seed, one in of_row.items() if one.get(name, -1.0) >= 0}
        for row, of_row in figures.items()
    }
    return {row: one for row, one in values.items() if one}


def head_parameters(study: Study, row: Row, extra: Mapping[str, Any]) -> int:
    """Parameters of DGCMs and heads of a row, without the trunk's."""
    import torch

    from graphpose.nn.network import PoseNetwork

    settings = build_settings(configured(study.data, {**row.settings, **extra, "pretrained": False}))
    with torch.device("meta"):  # shapes are enough
        network = PoseNetwork(settings.network)
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("backbone."))


def study_markdown(study: Study, rows: Sequence[Row], figures: Figures, facts: StudyFacts, parameters: Any) -> str:
    """The study's section of the results page.

    Args:
        study: the study.
        rows: those that were asked for.
        figures: of the runs that are done.
        facts: what it was made with.
        parameters: gives a row's parameters without the trunk's.
    """
    primary = values_of(figures, PRIMARY)
    named = {row.name for row in rows}
    others = [row.name for row in rows if row.name != BASELINE] if BASELINE in named else []
    to_baseline = contrasts(primary, others, BASELINE, study.dependent)
    to_reference: dict[str, Contrast] = {}
    for reference in dict.fromkeys(row.baseline for row in rows if row.baseline):
        against = [row.name for row in rows if row.baseline == reference]
        to_reference |= contrasts(primary, against, reference, study.dependent)
    head = ["row", "parameters", *METRICS, f"Δ {PRIMARY}, to baseline", "Δ to its reference", "seeds"]
    out = [f"### {study.table.title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.name, f"{parameters(row):,}"]
        cells += [_mean(values_of(figures, name).get(row.name, {})) for name in METRICS]
        cells += [to_baseline[row.name].text() if row.name in to_baseline else ""]
        cells += [f"{to_reference[row.name].text()} ({row.baseline})" if row.baseline not in (None, BASELINE) else ""]
        out.append("| " + " | ".join([*cells, facts.states.get(row.name, "none")]) + " |")
    out += ["", f"`{facts.command}`", "", *_notes(study, primary, to_baseline, to_reference, facts)]
    if {CONTROL, DGCN} <= figures.keys():
        out += ["", *_where(study, figures)]
    return "\n".join([*out, ""])


def _mean(values: Mapping[int, float]) -> str:
    return f"{np.mean(list(values.values())):.3f}" if values else "–"


def _notes(
    study: Study,
    primary: Values,
    to_baseline: Mapping[str, Contrast],
    to_reference: Mapping[str, Contrast],
    facts: StudyFacts,
) -> list[str]:
    """What the figures mean, how sure they are, and what they were made with."""
    sizes = ", ".join(f"{count:,} photographs of {name}" for name, count in facts.images.items())
    lines = [
        f"Means over seeds on {sizes} that were not trained on; thresholds chosen once for all rows on training "
        "photographs, with the runs of the first seed. Parameters are those of DGCMs and heads. A joint is found "
        "within a share of the long side of its person's box, see `graphpose/metrics/joints.py`; hidden joints are "
        "COCO's of visibility 1."
    ]
    noise = Noise.of({row: one for row, one in primary.items() if row not in study.evaluated})
    if noise is None:
        return [*lines, "Fewer than two seeds are complete: differences have no intervals.", _made_with(facts)]
    own = [one.detectable for row, one in to_baseline.items() if row not in study.evaluated]
    widest = max(own, default=math.nan)
    evaluated = EVALUATED if study.evaluated.keys() & primary.keys() else ""
    lines.append(
        "Brackets: differences paired by seed (seeds are the blocks, the noise is that of all rows together, "
        f"{noise.degrees} degrees of freedom), {CONFIDENCE:.0%} intervals that hold for all rows against one reference "
        f"at once (Dunnett){evaluated}. They are corrected for the number of rows within this figure, not for the "
        "number of figures. The smallest difference to the baseline that the study would have seen with a probability "
        f"of {POWER:.0%} is {widest:.3f}."
    )
    if DGCN in to_reference and CONTROL in primary:
        lines.append(graph_sentence(to_reference[DGCN]))
    return [*lines, _made_with(facts)]


def graph_sentence(contrast: Contrast) -> str:
    """What the dynamic graph brings beyond the control, in words."""
    text = f"Over the control, which has everything of {DGCN} but its graph, {DGCN} has {contrast.text()} {PRIMARY}: "
    if contrast.low > 0:
        return text + "a gain of the graph over the control beyond the noise."
    if contrast.high < 0:
        return text + "a loss beyond the noise; the graph brings nothing that the control lacks."
    return (
        text + f"within the noise. A gain of the graph over the control above {max(contrast.high, 0):.3f} is excluded "
        f"({CONFIDENCE:.0%}); one of {contrast.detectable:.3f} would have been seen."
    )


def _made_with(facts: StudyFacts) -> str:
    speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in facts.speeds.items())
    text = f"{facts.hours:.2f} hours of runs; machine: {'; '.join(facts.machines) or 'unknown'}"
    text += f"; commit {', '.join(facts.commits)}" if facts.commits else ""
    return text + (f"; training images per second: {speeds}." if speeds else ".")


def _where(study: Study, figures: Figures) -> list[str]:
    """Every figure of the dynamic graph beside the control's."""
    names = [name for name in _names(figures) if {CONTROL, DGCN} <= values_of(figures, name).keys()]
    out = [
        f"Where {DGCN} differs from the control (each figure's own t interval, not corrected for their number):",
        "",
        f"| figure | control | {DGCN} | Δ |",
        "|---|---|---|---|",
    ]
    for name in names:
        values = values_of(figures, name)
        contrast = contrasts(values, [DGCN], CONTROL, study.dependent)[DGCN]
        out.append(f"| {name} | {_mean(values[CONTROL])} | {_mean(values[DGCN])} | {contrast.text()} |")
    return out


def _names(figures: Figures) -> list[str]:
    """Names of all figures in their order."""
    return list(dict.fromkeys(name for of_row in figures.values() for one in of_row.values() for name in one))
