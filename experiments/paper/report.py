"""A table's figures: mean and interval over seeds, paired difference against the baseline, as Markdown and CSV.

Intervals are Student's t at 95 % over seeds. A difference is paired by seed: the runs of one seed share their training
scenes or data order, so the seed's own luck may cancel in part. A complete table also pools the noise of all its rows.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import math
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.paper.contrasts import Noise, complete_seeds
from experiments.paper.intervals import DIGITS, Interval
from experiments.paper.rows import DEMO_BACKBONES, Row, Table
from experiments.paper.runs import Outcome


@dataclasses.dataclass(frozen=True)
class Line:
    """One row with what its runs gave.

    Attributes:
        row: of the table.
        outcomes: by seed.
    """

    row: Row
    outcomes: Mapping[int, Outcome]

    def values(self, metric: str) -> dict[int, float]:
        """Figure of every seed that is done; a size of which the set has nobody (−1) is no figure."""
        done = {seed: one.metrics[metric] for seed, one in self.outcomes.items() if metric in one.metrics}
        return {seed: value for seed, value in done.items() if value >= 0}

    def state(self) -> str:
        """ "3 seeds", and what failed or is missing."""
        counts: dict[str, int] = {}
        for one in self.outcomes.values():
            counts[one.state] = counts.get(one.state, 0) + 1
        done = counts.pop("done", 0)
        parts = [f"{done} seed{'s' if done != 1 else ''}"] + [f"{n} {state}" for state, n in sorted(counts.items())]
        reasons = sorted({one.reason for one in self.outcomes.values() if one.reason})
        return ", ".join(parts) + (f" ({'; '.join(reasons)})" if reasons else "")


def difference(line: Line, lines: Sequence[Line], metric: str) -> Interval | None:
    """Paired difference to the row's baseline over the seeds that both have; None for a baseline or its very runs."""
    base = next((other for other in lines if other.row.name == line.row.baseline), None)
    if base is None or (line.values(metric) and line.outcomes == base.outcomes):
        return None
    ours, theirs = line.values(metric), base.values(metric)
    return Interval.of([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])


def pooled_error(lines: Sequence[Line], metric: str) -> Noise | None:
    """What the rows of a complete table say together about the noise of a run; rows that are the same runs count once.

    None where a row lacks a seed that another has, or there are not two of each.
    """
    distinct = [line for i, line in enumerate(lines) if all(line.outcomes != other.outcomes for other in lines[:i])]
    values = {line.row.name: line.values(metric) for line in distinct}
    complete = complete_seeds(values)
    return Noise.of(values) if all(sorted(one) == complete for one in values.values()) else None


def metrics_of(table: Table, lines: Sequence[Line]) -> tuple[str, ...]:
    """The table's metrics that were measured; AP where the data have another metric than the paper's."""
    measured = {metric for line in lines for one in line.outcomes.values() for metric in one.metrics}
    chosen = tuple(metric for metric in table.metrics if metric in measured or not measured)
    return chosen or ("AP",)


def markdown(table: Table, lines: Sequence[Line], data: str, command: str, backbone: str | None = None) -> str:
    """The table for docs/results.md: figures, and under it what they were made with.

    Args:
        table: the table.
        lines: its rows with their outcomes.
        data: named configuration, or "paper".
        command: that makes the table.
        backbone: of all rows, where the command has chosen one.
    """
    metrics = metrics_of(table, lines)
    head = ["row", *metrics, f"Δ {metrics[0]} (paired)", f"paper {metrics[0]}", "state"]
    out = [f"### {table.title} — data: {data}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for line in lines:
        gap = difference(line, lines, metrics[0])
        cells = [line.row.name]
        cells += [Interval.of(list(line.values(metric).values())).text() for metric in metrics]
        cells += ["" if gap is None else gap.text(sign=True)]
        cells += [f"{line.row.paper[metrics[0]]:.{DIGITS}f}" if metrics[0] in line.row.paper else "", line.state()]
        out.append("| " + " | ".join(cells) + " |")
    every = [one for line in lines for one in line.outcomes.values()]
    done = [one for one in every if one.state == "done"]
    seeds = sorted({seed for line in lines for seed in line.outcomes})
    machines = sorted({one.machine for one in done if one.machine}) or [platform.machine()]
    commits = sorted({one.commit[:10] for one in done if one.commit})
    out += ["", f"`{command}`", ""]
    out.append(
        f"Seeds {', '.join(map(str, seeds))}; brackets: 95 % t interval over seeds; machine: {'; '.join(machines)}; "
        f"{sum(one.seconds for one in every) / 3600:.2f} hours of runs"
        + (f"; commit {', '.join(commits)}" if commits else "")
        + "."
    )
    of_one_kind = data != "paper" or len({line.row.data for line in lines}) == 1  # other data, other noise
    if of_one_kind and (pooled := pooled_error(lines, metrics[0])):
        out.append(
            f"All rows together (seeds as blocks, degrees of freedom: {pooled.degrees}): a run deviates from its row "
            f"and seed by {pooled.deviation:.4f}, so the 95 % interval of a difference between two rows' means is the "
            f"difference ± {pooled.half_width:.3f}."
        )
    if data not in ("paper", "coco", "crowdpose", "mpii"):
        out.append(
            "The paper's figures are on its own data and with its own networks; they stand here for orientation."
        )
    if data == "demo":
        used = dict.fromkeys(line.row.settings.get("backbone", "resnet50") for line in lines)
        stands = ", ".join(f"{backbone or DEMO_BACKBONES[name]} for {name}" for name in used)
        out.append(f"Small networks stand in for the paper's: {stands}.")
    return "\n".join([*out, *([table.note] if table.note else []), ""])


def comma_separated(table: Table, lines: Sequence[Line]) -> str:
    """One CSV line per row and metric, numbers unrounded."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "row",
            "metric",
            "mean",
            "low",
            "high",
            "difference",
            "difference_low",
            "difference_high",
            "paper",
            "seeds",
            "state",
        ]
    )
    for line in lines:
        for metric in metrics_of(table, lines):
            values = line.values(metric)
            interval, gap = Interval.of(list(values.values())), difference(line, lines, metric)
            numbers = [
                interval.mean,
                interval.low,
                interval.high,
                *((gap.mean, gap.low, gap.high) if gap else [math.nan] * 3),
            ]
            writer.writerow(
                [line.row.name, metric, *("" if math.isnan(x) else x for x in numbers), line.row.paper.get(metric, ""),
                 len(values), line.state()]
            )  # fmt: skip
    return stream.getvalue()


def file_name_of(name: str) -> str:
    """A table's name as that of a file; a long one is cut and told apart by its digest."""
    slug = re.sub(r"[^\w.=-]+", "_", name)
    return slug if len(slug) <= 80 else f"{slug[:70]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def replace_section(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the page's markers of ``name``, or behind everything where it has none yet."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    old = page.read_text() if page.exists() else "# Results\n\nWritten by `experiments/tables.py` from run folders.\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    new = pattern.sub(lambda _: section, old) if pattern.search(old) else f"{old.rstrip()}\n\n{section}\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    temporary = page.with_name(f".{page.name}.tmp")
    temporary.write_text(new, encoding="utf-8")
    temporary.replace(page)
