"""From a study's runs to its section: thresholds once for all rows, figures of every run, the page's files."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.paper.evaluation import (
    SCORED,
    StudyPhotographs,
    chosen_thresholds,
    figures_of,
    settings_of,
    training_speed,
)
from experiments.paper.rows import Row
from experiments.paper.runs import TableRun, outcome
from experiments.paper.studies import Study
from experiments.paper.study_report import Figures, StudyFacts, head_parameters, study_markdown, write_figures
from graphpose.errors import GraphposeError


def report_study(
    study: Study,
    runs: Mapping[Row, Sequence[TableRun]],
    extra: Mapping[str, Any],
    options: argparse.Namespace,
    command: str,
    kept: Path,
) -> tuple[str, str]:
    """Markdown and CSV of a study; its figures by row and seed go into a file.

    Args:
        study: the study.
        runs: of each row that was asked for.
        extra: settings of all rows.
        options: ``runs``, ``limit`` and ``tune_images`` are read.
        command: that makes it again.
        kept: the file.

    Raises:
        GraphposeError: a run of the first seed is not done, so that there are no thresholds.
    """
    figures, images = study_figures(study, runs, options)
    every = {run for of_row in runs.values() for run in of_row}
    outcomes = {run: outcome(run) for run in every}
    done = [one for one in outcomes.values() if one.state == "done"]
    facts = StudyFacts(
        command=command,
        hours=sum(one.seconds for one in outcomes.values()) / 3600,
        speeds={
            row.name: training_speed(of_row[0])
            for row, of_row in runs.items()
            if row.name not in study.evaluated and outcomes[of_row[0]].state == "done"
        },
        machines=sorted({one.machine for one in done if one.machine}),
        commits=sorted({one.commit[:10] for one in done if one.commit}),
        images=images,
        states={row.name: _state([outcomes[run].state for run in of_row]) for row, of_row in runs.items()},
    )
    write_figures(kept, figures, facts)
    text = study_markdown(study, list(runs), figures, facts, lambda row: head_parameters(study, row, extra))
    return text, _comma_separated(figures)


def study_figures(
    study: Study, runs: Mapping[Row, Sequence[TableRun]], options: argparse.Namespace
) -> tuple[Figures, dict[str, int]]:
    """Figures of every run that is done, and the number of images of each set."""
    first = list(dict.fromkeys(of_row[0] for of_row in runs.values()))
    missing = [run for run in first if outcome(run).state != "done"]
    if missing:
        raise GraphposeError(
            f"thresholds are chosen on the first seed of all rows together, and {len(missing)} of its {len(first)} "
            f"runs are not done, {' '.join(missing[0].arguments)} for one"
        )
    decoder = chosen_thresholds(first, options.runs, options.tune_images)
    photographs = StudyPhotographs(settings_of(first[0]), SCORED, options.limit)
    figures = {}
    for row, of_row in runs.items():
        _, changes = study.evaluated.get(row.name, (row.name, {}))
        done = [run for run in of_row if outcome(run).state == "done"]
        figures[row.name] = {run.seed: figures_of(run, changes, decoder, photographs) for run in done}
    return figures, {name: len(dataset) for name, dataset in photographs.datasets.items()}


def _state(states: Sequence[str]) -> str:
    """ "8", and what is not done."""
    others = {state: states.count(state) for state in sorted(set(states) - {"done"})}
    return ", ".join([str(states.count("done")), *(f"{count} {state}" for state, count in others.items())])


def _comma_separated(figures: Figures) -> str:
    """One CSV line per row, seed and figure, numbers unrounded."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["row", "seed", "figure", "value"])
    for row, of_row in figures.items():
        for seed, one in of_row.items():
            writer.writerows([row, seed, name, value] for name, value in one.items())
    return stream.getvalue()
