"""Runs side by side: a table of their results, what differs in their configurations, and their curves.

    python analysis/runs.py                            # all of runs/, the best first, as Markdown
    python analysis/runs.py 3 4 7 --csv runs.csv       # three of them, also as CSV
    python analysis/runs.py --curves curves.png --figure val.AP train.loss.total
    python analysis/runs.py --runs runs/tables         # those behind the paper's tables

A run is a folder of Sacred's FileStorageObserver. The table has a column for every setting that differs between the
runs, and says what became of a run that has no result.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import datetime
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphpose.errors import GraphposeError, escape_output

IGNORED_SETTINGS = ("resume",)  # settings that differ between runs whatever they are

# More settings than this are no variation, but another configuration.
MOST_DIFFERENCES = 12


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What one run left.

    Attributes:
        name: of its folder, for Sacred a number; of a table's run with the folder above.
        status: COMPLETED, FAILED, INTERRUPTED, RUNNING (also after a SIGKILL), …
        config: settings with dotted names.
        metrics: (epoch, value) pairs of every figure, by its name; the last value of an epoch counts.
        hours: from start to end, or to the last heartbeat.
        checkpoint: whether it has one to go on from.
    """

    name: str
    status: str
    config: dict[str, Any]
    metrics: dict[str, list[tuple[int, float]]]
    hours: float
    checkpoint: bool

    def best(self, figure: str) -> tuple[int, float] | None:
        """Epoch and value of the highest value of a figure."""
        return max(self.metrics.get(figure, []), key=lambda pair: pair[1], default=None)

    @property
    def epochs(self) -> int:
        """Epochs that are complete."""
        return max((epoch for pairs in self.metrics.values() for epoch, _ in pairs), default=0)


def run_name(folder: Path) -> str:
    """Name of a run's folder; the runs behind tables are numbered in folders of their own."""
    parent = folder.resolve().parent
    return f"{parent.name}/{folder.name}" if (parent / "request.json").exists() else folder.name


def read_run(folder: Path) -> RunRecord:
    """The record of a run's folder.

    Raises:
        GraphposeError: the folder is not a run's, or a file of it is damaged; names the file.
    """
    record = _read_json(folder / "run.json")
    metrics = _read_json(folder / "metrics.json") if (folder / "metrics.json").exists() else {}
    end = record.get("stop_time") or record.get("heartbeat") or record.get("start_time")
    hours = math.nan
    if record.get("start_time") and end:
        moments = [datetime.datetime.fromisoformat(text) for text in (record["start_time"], end)]
        hours = (moments[1] - moments[0]).total_seconds() / 3600
    return RunRecord(
        name=run_name(folder),
        status=record.get("status", "?"),
        config=flatten(_read_json(folder / "config.json")),
        metrics={
            name: sorted(dict(zip(values["steps"], values["values"], strict=True)).items())
            for name, values in metrics.items()
        },
        hours=hours,
        checkpoint=(folder / "checkpoint.pt").exists(),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise GraphposeError(f"'{path}' cannot be read ({error.strerror}); a run's folder has it") from None
    except ValueError as error:
        raise GraphposeError(f"'{path}' is damaged: {error}") from None


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings with dotted names: {"loss": {"pif_offset": 2}} becomes {"loss.pif_offset": 2}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def differences(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the settings that are not the same in all runs; a setting that a run does not have differs.

    The seed is named only where runs share one: drawn by Sacred it differs in all and says nothing.
    """
    names = sorted({name for run in runs for name in run.config} - set(IGNORED_SETTINGS))
    values = {name: len({json.dumps(run.config.get(name)) for run in runs}) for name in names}
    return [name for name, count in values.items() if 1 < count and (name != "seed" or count < len(runs))]


def of_another_configuration(runs: Sequence[RunRecord]) -> dict[str, int]:
    """Names of the runs that differ from the most frequent settings in more than MOST_DIFFERENCES, with how many."""
    names = sorted({name for run in runs for name in run.config} - {*IGNORED_SETTINGS, "seed"})
    usual = {name: Counter(json.dumps(run.config.get(name)) for run in runs).most_common(1)[0][0] for name in names}
    counts = {run.name: sum(json.dumps(run.config.get(name)) != usual[name] for name in names) for run in runs}
    return {name: count for name, count in counts.items() if count > MOST_DIFFERENCES}


def table(runs: Sequence[RunRecord], figure: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows: run, status, the highest value of ``figure`` with its epoch, hours, then what differs.

    What differs is found among the runs of one configuration; of others the number of differences is told.
    """
    others = of_another_configuration(runs)
    settings = differences([run for run in runs if run.name not in others])
    header = ["run", "status", f"best {figure}", "at epoch", "epochs", "hours", "checkpoint", *settings]
    header += ["other settings"] if others else []
    rows = []
    for run in runs:
        best = run.best(figure)
        rows.append(
            [
                run.name,
                run.status,
                "–" if best is None else f"{best[1]:.4f}",
                "–" if best is None else str(best[0]),
                str(run.epochs),
                "–" if math.isnan(run.hours) else f"{run.hours:.2f}",
                "yes" if run.checkpoint else "no",
                *("–" if name not in run.config else str(run.config[name]) for name in settings),
                *([f"{others[run.name]} differ" if run.name in others else "–"] if others else []),
            ]
        )
    return header, rows


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def plot_curves(path: Path, runs: Sequence[RunRecord], figures: Sequence[str]) -> None:
    """One panel for each figure, one curve for each run that has it, in the same style in all panels.

    Raises:
        GraphposeError: no run has one of the figures; names those that there are.
    """
    from matplotlib.figure import Figure

    known = sorted({name for run in runs for name in run.metrics})
    for name in figures:
        if name not in known:
            raise GraphposeError(f"no run has a figure '{name}'; there are {', '.join(known) or 'none'}")
    drawing = Figure(figsize=(6.4 * len(figures), 4), layout="constrained")
    for axes, name in zip(drawing.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
        for number, run in enumerate(runs):
            if name in run.metrics:
                label = f"{run.name} ({run.status.lower()})"
                axes.plot(*zip(*run.metrics[name], strict=True), label=label, **curve_style(number))
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    drawing.savefig(path, dpi=110)


def curve_style(number: int) -> dict[str, Any]:
    """Colour, line and marker of a run; no two of 160 runs share all three."""
    lines, markers = ("-", "--", ":", "-."), (".", "s", "^", "x")
    return {
        "color": f"C{number % 10}",
        "linestyle": lines[number // 10 % len(lines)],
        "marker": markers[number // (10 * len(lines)) % len(markers)],
        "markersize": 4,
    }


def find_runs(root: Path, names: Sequence[str]) -> list[Path]:
    """Folders of the named runs, or of all under ``root``; GraphposeError when there is none."""
    if names:
        return [root / name if (root / name).is_dir() else Path(name) for name in names]
    folders = [path.parent for pattern in ("*/run.json", "*/*/run.json") for path in root.glob(pattern)]
    if not folders:
        raise GraphposeError(f"'{root}' holds no run; give another folder with --runs")
    return sorted(
        folders, key=lambda path: (path.parent, int(path.name) if path.name.isdigit() else math.inf, path.name)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    escape_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="runs, by number or folder (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--figure", nargs="+", default=["val.AP"], help="figures; the first sorts (default: val.AP)")
    parser.add_argument("--csv", type=Path, help="write the table here as CSV, too")
    parser.add_argument("--curves", type=Path, help="draw the figures over epochs into this PNG")
    options = parser.parse_args(arguments)
    try:
        runs = [read_run(folder) for folder in find_runs(options.runs, options.names)]
        figure = options.figure[0]
        runs.sort(key=lambda run: -(run.best(figure) or (0, -math.inf))[1])
        header, rows = table(runs, figure)
        print(markdown(header, rows))
        if options.csv:
            with open(options.csv, "w", newline="") as file:
                csv.writer(file).writerows([header, *rows])
        if options.curves:
            plot_curves(options.curves, runs, options.figure)
    except GraphposeError as error:
        print(f"runs.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
