"""How many epochs of a table's runs fit into a given time, measured on a few epochs of the same runs."""

from __future__ import annotations

import bisect
import dataclasses
import datetime
import hashlib
import heapq
import json
import math
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from experiments.configs.named import configured
from experiments.paper.runs import MACHINE_KEYS, TableRun, execute, outcome, refuse_running, threads_of
from experiments.paper.trainings import TrainingProcesses, gpus_for, locked
from graphpose.errors import GraphposeError

PROBE_EPOCHS = 3  # the first may train no backbone
EVALUATIONS = 5  # over a run, for its curve
MARGIN = 0.92  # machines are noisy, and longer runs are evaluated on more detections
START_FILE = "start_seconds.txt"  # beside a measured run: of its process before its record begins, and after it ends
BUDGET_KEYS = ("epochs", "evaluate_every", "milestones")  # what a budget decides

Settings = tuple[tuple[str, str], ...]  # of runs that differ in their seeds alone


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of a run's parts: one epoch, one evaluation, and all that happens once."""

    epoch: float
    evaluation: float
    once: float

    def seconds(self, epochs: int) -> float:
        """Of a run of so many epochs."""
        return self.once + EVALUATIONS * self.evaluation + epochs * self.epoch


def epochs_that_fit(runs: Sequence[TableRun], minutes: float, jobs: int, may_run: bool) -> dict[str, str]:
    """Settings for all runs of a table that make it end within so many minutes, found once and kept beside the runs.

    Args:
        runs: of the table, all seeds, in the order in which they are trained.
        minutes: for the table with this measurement.
        jobs: runs side by side.
        may_run: whether the measurement may be made now.

    Returns:
        epochs, the drops of a step schedule at the same shares of them, and evaluate_every.

    Raises:
        GraphposeError: the time is too short for the runs, or a measured run failed.
    """
    known = json.dumps([[run.folder.name for run in runs], minutes, jobs])
    root = runs[0].root
    kept = root / f"budget-{hashlib.sha256(known.encode()).hexdigest()[:12]}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    if not may_run:
        raise GraphposeError("how many epochs fit was not measured yet; start the table first")
    measured = probes(runs, jobs)
    print(f"measuring {PROBE_EPOCHS} epochs of {len(measured)} runs, {jobs} at a time", flush=True)
    times, spent = measure(measured, root / f"probes-{machine(runs[0], jobs)}", jobs)
    for settings, one in times.items():
        words = " ".join(f"{key}={value}" for key, value in settings) or runs[0].named
        print(f"{words}: an epoch takes {one.epoch:.2f} s, an "
              f"evaluation {one.evaluation:.1f} s, the rest {one.once:.1f} s", flush=True)  # fmt: skip
    available = MARGIN * 60 * minutes - spent
    epochs = most_epochs([times[run.settings] for run in runs], jobs, available)
    if epochs <= PROBE_EPOCHS:
        raise GraphposeError(
            f"--minutes {minutes:g} is too short for {len(runs)} runs, {jobs} at a time, with {EVALUATIONS} "
            f"evaluations each"
        )
    found = settings_for(epochs, configured(runs[0].named, dict(runs[0].settings)))
    root.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found))
    return found


def probes(runs: Sequence[TableRun], jobs: int) -> list[TableRun]:
    """Runs to measure: one of each settings, and more until ``jobs`` are always side by side, as in the table."""
    first = {run.settings: run for run in reversed(runs)}
    chosen = [run for run in runs if first[run.settings] is run]
    more = [run for run in runs if first[run.settings] is not run]
    return chosen + more[: -len(chosen) % jobs]


def most_epochs(times: Sequence[Times], jobs: int, available: float) -> int:
    """Most epochs with which runs of these times, so many at a time, end within ``available`` seconds; 0 for none."""
    return bisect.bisect_right(
        range(1, 1_000_000), available, key=lambda epochs: makespan((one.seconds(epochs) for one in times), jobs)
    )


def makespan(seconds: Iterable[float], jobs: int) -> float:
    """When the last of some runs ends, each begun in order as soon as one of so many places is free."""
    free = [0.0] * jobs
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def settings_for(epochs: int, usual: Mapping[str, Any]) -> dict[str, str]:
    """Settings of a schedule of so many epochs that is otherwise shaped as usual."""
    settings = {"epochs": str(epochs), "evaluate_every": str(math.ceil(epochs / EVALUATIONS))}
    if usual["schedule"] == "step":
        drops = [round(milestone * epochs / usual["epochs"]) for milestone in usual["milestones"]]
        settings["milestones"] = json.dumps(drops).replace(" ", "")
    return settings


def machine(run: TableRun, jobs: int) -> str:
    """What times depend on beside a run's settings, as a short name."""
    import torch  # takes seconds, and a table that is only listed measures nothing

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    placed = [pair for pair in run.settings if pair[0] in MACHINE_KEYS]
    known = json.dumps([platform.node(), gpus, placed, jobs])
    return hashlib.sha256(known.encode()).hexdigest()[:12]


def measure(runs: Sequence[TableRun], root: Path, jobs: int) -> tuple[dict[Settings, Times], float]:
    """Train a few epochs of some runs; what was measured before under ``root`` is not measured again.

    Returns:
        Times by the runs' settings, the slowest parts where several runs share them, and the seconds that this took.

    Raises:
        GraphposeError: a run failed, or another process measures it.
    """
    short = (("epochs", str(PROBE_EPOCHS)), ("evaluate_every", str(PROBE_EPOCHS)))
    trainings = TrainingProcesses(gpus_for(run.device for run in runs))

    def times_of_probe(run: TableRun) -> Times:
        settings = tuple(sorted((*((key, value) for key, value in run.settings if key not in BUDGET_KEYS), *short)))
        probe = dataclasses.replace(run, settings=settings, root=root)
        with locked(probe.folder):
            refuse_running(probe, trainings)
            state = outcome(probe)
            if state.state != "done":
                begun, before = time.perf_counter(), state.seconds
                state = execute(probe, trainings, threads_of(jobs))
                unrecorded = time.perf_counter() - begun - (state.seconds - before)
                (probe.folder / START_FILE).write_text(str(max(unrecorded, 0.0)))
        if state.state != "done":
            raise GraphposeError(f"measuring the run {' '.join(probe.arguments)} failed: {state.reason}")
        return times_of(probe)

    since = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            each = list(pool.map(times_of_probe, runs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            trainings.stop()
            raise
    worst: dict[Settings, Times] = {}
    for run, times in zip(runs, each, strict=True):
        before = worst.get(run.settings, times)
        parts = zip(dataclasses.astuple(times), dataclasses.astuple(before), strict=True)
        worst[run.settings] = Times(*map(max, parts))
    return worst, time.perf_counter() - since


def times_of(run: TableRun) -> Times:
    """Times of a measured run from its record; its process's start where that was seen, as by a table not killed."""
    metrics = json.loads((run.attempts[-1] / "metrics.json").read_text())
    epochs = metrics["train.seconds"]["values"]
    last_figure = {
        name: max(datetime.datetime.fromisoformat(moment) for moment in values["timestamps"])
        for name, values in metrics.items()
    }
    trained = max(moment for name, moment in last_figure.items() if name.startswith("train."))
    evaluated = max(moment for name, moment in last_figure.items() if name.startswith("val."))
    evaluation = (evaluated - trained).total_seconds()
    start = float((run.folder / START_FILE).read_text()) if (run.folder / START_FILE).is_file() else 0.0
    return Times(max(epochs[1:]), evaluation, start + outcome(run).seconds - sum(epochs) - evaluation)
