"""The runs of a table brought to their end, one or several side by side, or listed with what each will take."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from experiments.paper.rows import Row
from experiments.paper.runs import Outcome, TableRun, execute, outcome, print_line, refuse_running, threads_of
from experiments.paper.trainings import TrainingProcesses, gpus_for, locked
from graphpose.errors import GraphposeError


def in_order(runs: Mapping[Row, Sequence[TableRun]]) -> list[TableRun]:
    """Each run once, in the order in which they are trained: one seed of all rows after the other."""
    return sorted({run for of_row in runs.values() for run in of_row}, key=lambda run: (run.seed, run.arguments))


def train_missing(runs: Mapping[Row, Sequence[TableRun]], retry_failed: bool, jobs: int = 1) -> list[str]:
    """Bring every run to its end, one seed of all rows after the other, so that a table fills evenly.

    A KeyboardInterrupt ends the runs, too, after they have written their checkpoints.

    Args:
        runs: of each row.
        retry_failed: also those that have failed.
        jobs: so many side by side, each with its share of the cores.

    Returns:
        A sentence for each run that was killed or refused, or that somebody else is training; the others are at their
        end.
    """
    ordered = in_order(runs)
    threads = None if jobs == 1 else threads_of(jobs)
    trainings = TrainingProcesses(gpus_for(run.device for run in ordered))

    def at_its_end(run: TableRun) -> bool:
        state = outcome(run).state
        return state == "done" or (state == "failed" and not retry_failed)

    def bring_to_its_end(number: int, run: TableRun) -> str:
        try:
            if at_its_end(run):
                return ""
            with locked(run.folder):
                refuse_running(run, trainings)
                if at_its_end(run):  # now: another table may have brought it there
                    return ""
                state = outcome(run).state
                print_line(f"[{number}/{len(ordered)}] {state}: {' '.join(run.arguments)}")
                after = execute(run, trainings, threads)
        except GraphposeError as error:
            return str(error)
        print_line(f"[{number}/{len(ordered)}] {after.state} {after.reason}".rstrip())
        return ""

    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = [pool.submit(bring_to_its_end, number, run) for number, run in enumerate(ordered, start=1)]
            return [sentence for future in futures if (sentence := future.result())]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            trainings.stop()
            raise


def listing(runs: Mapping[Row, Sequence[TableRun]]) -> str:
    """State, time (of what is done, or as long as runs like it took) and command of every run."""
    known = {run: outcome(run) for of_row in runs.values() for run in of_row}
    lines = []
    for row, of_row in runs.items():
        for run in of_row:
            lines.append(f"{row.name:26} seed {run.seed}  {known[run].state:11}  {_cost(run, known)}")
            lines.append(f"    {shlex.join(run.command)}")
    return "\n".join(lines)


def _cost(run: TableRun, known: Mapping[TableRun, Outcome]) -> str:
    if known[run].state == "done":
        return f"took {known[run].seconds / 60:.1f} min"
    same = [one.seconds for other, one in known.items() if one.state == "done" and other.settings == run.settings]
    same = same or [one.seconds for one in known.values() if one.state == "done"]
    return f"about {median(same) / 60:.1f} min" if same else "cost unknown: no run of this table is done"
