"""How many epochs of a table's runs fit into a given time, measured on a few epochs of the same runs."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from table_runs import NAMED, TableRun, Trainings, execute, outcome, threads_of

from graphpose.errors import GraphposeError

PROBE_EPOCHS = 3  # the first trains no backbone and fills caches
EVALUATIONS = 5  # over a run, for its curve
MARGIN = 0.92  # machines are noisy, and longer runs are evaluated on more detections


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of a run's parts: one epoch, one evaluation, and all that happens once."""

    epoch: float
    evaluation: float
    once: float

    def epochs(self, seconds: float) -> int:
        """Most epochs of a run that ends within ``seconds``; may be negative."""
        return math.floor((seconds - self.once - EVALUATIONS * self.evaluation) / self.epoch)


def epochs_that_fit(runs: Sequence[TableRun], minutes: float, jobs: int, may_run: bool) -> dict[str, str]:
    """Settings for all runs of a table that make it end within so many minutes, found once and kept beside the runs.

    Args:
        runs: of the table, all seeds.
        minutes: for the table with this measurement.
        jobs: runs side by side.
        may_run: whether the measurement may be made now.

    Returns:
        epochs, the drops of a step schedule at the same shares of them, and evaluate_every.

    Raises:
        GraphposeError: the time is too short for the runs, or a measured run failed.
    """
    runs = sorted(set(runs), key=lambda run: (run.seed, run.arguments))
    known = json.dumps([[run.arguments for run in runs], minutes, jobs])
    root = runs[0].root
    kept = root / f"budget-{hashlib.sha256(known.encode()).hexdigest()[:12]}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    if not may_run:
        raise GraphposeError("how many epochs fit was not measured yet; start the table first")
    print(f"measuring {PROBE_EPOCHS} epochs of {jobs} runs side by side", flush=True)
    times, seconds = measure(runs[:jobs], root / "probes")
    rounds = math.ceil(len(runs) / jobs)
    epochs = times.epochs((MARGIN * 60 * minutes - seconds) / rounds)
    print(f"an epoch takes {times.epoch:.2f} s, an evaluation {times.evaluation:.1f} s, the rest {times.once:.1f} s",
          flush=True)  # fmt: skip
    if epochs <= PROBE_EPOCHS:
        raise GraphposeError(
            f"--minutes {minutes:g} is too short for {rounds} rounds of {jobs} runs with {EVALUATIONS} evaluations each"
        )
    settings = settings_for(epochs, NAMED[runs[0].named])
    root.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(settings))
    return settings


def settings_for(epochs: int, usual: Mapping[str, Any]) -> dict[str, str]:
    """Settings of a schedule of so many epochs that is otherwise shaped as usual."""
    settings = {"epochs": str(epochs), "evaluate_every": str(math.ceil(epochs / EVALUATIONS))}
    if usual["schedule"] == "step":
        drops = [round(milestone * epochs / usual["epochs"]) for milestone in usual["milestones"]]
        settings["milestones"] = json.dumps(drops).replace(" ", "")
    return settings


def measure(runs: Sequence[TableRun], root: Path) -> tuple[Times, float]:
    """Train a few epochs of some runs side by side; the slowest parts count.

    Returns:
        Times of a run, and the seconds that this took.

    Raises:
        GraphposeError: a run failed.
    """
    short = (("epochs", str(PROBE_EPOCHS)), ("evaluate_every", str(PROBE_EPOCHS)))
    probes = []
    for run in runs:
        settings = {key: value for key, value in run.settings if key not in ("epochs", "evaluate_every", "milestones")}
        probes.append(dataclasses.replace(run, settings=tuple(sorted((settings | dict(short)).items())), root=root))
    trainings = Trainings()
    since = datetime.datetime.now()
    with ThreadPoolExecutor(len(probes)) as pool:
        try:
            outcomes = list(pool.map(lambda run: execute(run, trainings, threads_of(len(probes))), probes))
        except BaseException:
            trainings.stop()
            raise
    for probe, one in zip(probes, outcomes, strict=True):
        if one.state != "done":
            raise GraphposeError(f"measuring the run {' '.join(probe.arguments)} failed: {one.reason}")
    each = [times_of(probe) for probe in probes]
    worst = Times(*(max(getattr(times, field.name) for times in each) for field in dataclasses.fields(Times)))
    return worst, (datetime.datetime.now() - since).total_seconds()


def times_of(run: TableRun) -> Times:
    """Times of a run that is done, from its record."""
    metrics = json.loads((run.attempts[-1] / "metrics.json").read_text())
    epochs = metrics["train.seconds"]["values"]
    last_figure = {
        name: max(datetime.datetime.fromisoformat(moment) for moment in values["timestamps"])
        for name, values in metrics.items()
    }
    trained = max(moment for name, moment in last_figure.items() if name.startswith("train."))
    evaluated = max(moment for name, moment in last_figure.items() if name.startswith("val."))
    evaluation = (evaluated - trained).total_seconds()
    return Times(max(epochs[1:]), evaluation, outcome(run).seconds - sum(epochs) - evaluation)
