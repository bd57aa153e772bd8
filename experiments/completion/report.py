"""The table of completed poses: means, intervals over seeds, paired differences, and two kinds of noise."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.completion.network import LAYERS
from experiments.completion.rows import BASELINES, Completion, Result, Row
from experiments.paper.intervals import Interval, t_quantile
from graphpose.graphs.adjacency import ADJACENCIES

REFERENCE = "hand_crafted"  # what other graphs of the same layer are compared with
DIGITS = 4  # of a distance in scales
COLOURS = dict(zip(ADJACENCIES, ("0.6", "tab:green", "tab:purple", "tab:orange", "tab:blue"), strict=True))


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows with what their seeds gave; None for a seed that is not done."""

    rows: Sequence[Row]
    results: Mapping[Row, Mapping[int, Result | None]]
    completion: Completion

    def done(self, row: Row) -> dict[int, Result]:
        """Seed → result."""
        return {seed: result for seed, result in self.results.get(row, {}).items() if result is not None}

    def errors(self, row: Row) -> Interval:
        """Mean error with its 95 % t interval over seeds."""
        return Interval.of([result.error for result in self.done(row).values()])

    def reference(self, row: Row) -> Row | None:
        """The row with the same layer on the limbs; None for a baseline and the row itself."""
        return next((other for other in self.rows if (other.layer, other.adjacency) == (row.layer, REFERENCE)
                     and other != row and row.adjacency), None)  # fmt: skip

    def difference(self, row: Row) -> tuple[Interval, float] | None:
        """To the reference: paired over seeds, and the standard error that the choice of test persons gives it."""
        base = self.reference(row)
        if base is None:
            return None
        ours, theirs = self.done(row), self.done(base)
        seeds = sorted(ours.keys() & theirs.keys())
        paired = Interval.of([ours[seed].error - theirs[seed].error for seed in seeds])
        if not seeds:
            return paired, math.nan
        # Of a ratio of sums over persons, (Σ distance differences) / (Σ hidden keypoints), by the delta method.
        by_person = np.mean([ours[seed].by_person - theirs[seed].by_person for seed in seeds], axis=0)  # (N,)
        hidden = self.completion.test.hidden.sum(1).double().numpy()
        residual = by_person - by_person.sum() / hidden.sum() * hidden
        return paired, float(np.sqrt((residual**2).sum()) / hidden.sum())

    def pooled(self) -> tuple[float, int] | None:
        """Standard deviation of a graph network's seed around its row, and its degrees of freedom."""
        values = [[result.error for result in self.done(row).values()] for row in self.rows
                  if row.adjacency and not row.same_as]  # fmt: skip
        degrees = sum(len(own) - 1 for own in values if own)
        if degrees < 1:
            return None
        squares = sum(((np.array(own) - np.mean(own)) ** 2).sum() for own in values if own)
        return math.sqrt(squares / degrees), degrees

    def markdown(self, command: str) -> str:
        """For docs/results.md."""
        settings, test = self.completion.settings, self.completion.test
        head = ["row", "error", "RMS", "Δ error to hand_crafted (paired)", "± of test persons", "parameters", "CPU s",
                "seeds"]  # fmt: skip
        lines = ["### Missing keypoints completed: which graph carries information?", ""]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for row in self.rows:
            done, gap = list(self.done(row).values()), self.difference(row)
            rms = Interval.of([one.rms for one in done])
            cells = [row.name, self.errors(row).text(digits=DIGITS), rms.text(digits=DIGITS)]
            if gap is None:
                cells += ["", ""]
            else:
                cells += [gap[0].text(sign=True, digits=DIGITS), f"{1.96 * gap[1]:.4f}" if done else "–"]
            cells += [f"{done[0].parameters:,}" if done and done[0].parameters else ""]
            cells += [f"as {row.same_as}" if row.same_as else _seconds(done), str(len(done))]
            lines.append("| " + " | ".join(cells) + " |")
        K = self.completion.skeleton.num_keypoints
        lines += ["", f"`{command}`", ""]
        lines.append(
            f"Error: mean distance between told and true position of the hidden keypoints, in units of the person's "
            f"scale ({self.completion.skeleton.scale_rule}). Of every person with {settings.min_keypoints} or more of "
            f"the {K} keypoints labelled, each labelled one is hidden with probability {settings.share:g}, one at "
            f"least, and {settings.keep} at least stay; a network sees the others relative to their own middle."
        )
        lines.append(
            f"Trained on {settings.persons:,} of {len(self.completion.train):,} persons, drawn by seed, for "
            f"{settings.epochs} epochs; scored on {len(test):,} persons of other images, "
            f"{int(test.hidden.sum()):,} hidden keypoints, the same for all rows. Layers: PyG's DenseGCNConv, "
            f"DenseGraphConv and DenseGATConv, {settings.depth} deep, {settings.width} wide, with an encoder and a "
            f"head per keypoint; edges of `dynamic` are drawn per person in training, and its A_s is used in the test."
        )
        lines.append(
            "Brackets: 95 % t interval over seeds, which draw persons, weights, order and what is hidden; "
            "“± of test persons”: 1.96 standard errors of the same difference over persons of the test set. "
            f"CPU s: median of a seed, one thread; machine: {_machine()}."
        )
        if pooled := self.pooled():
            deviation, degrees = pooled
            seeds = max(len(self.done(row)) for row in self.rows if row.adjacency)
            half = t_quantile(degrees) * deviation * math.sqrt(2 / seeds)
            lines.append(
                f"All graph networks together ({degrees} degrees of freedom): a seed deviates from its row by "
                f"{deviation:.4f}, so two rows' means differ beyond noise where they differ by more than {half:.4f}."
            )
        return "\n".join(lines) + "\n"


def draw(table: Table, path: Path) -> Path:
    """Errors of layers and graphs as bars with intervals, baselines as lines; returns ``path``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    layers = [layer for layer in LAYERS if any(row.layer == layer for row in table.rows)]
    for row in table.rows:
        value = table.errors(row)
        if math.isnan(value.mean) or not row.adjacency:
            continue
        place = layers.index(row.layer) + (ADJACENCIES.index(row.adjacency) - 2) * 0.16
        axes.bar(place, value.mean, 0.15, color=COLOURS[row.adjacency])
        if not math.isnan(value.low):
            axes.errorbar(place, value.mean, [[value.mean - value.low], [value.high - value.mean]], color="black",
                          capsize=3)  # fmt: skip
    for row, style in zip(BASELINES, ("-", "--", ":", "-."), strict=True):
        value = table.errors(row)
        if not math.isnan(value.mean):
            axes.axhline(value.mean, color="black", linestyle=style, linewidth=1, label=row.name)
    for adjacency, colour in COLOURS.items():
        if any(row.adjacency == adjacency for row in table.rows):
            axes.bar(0, 0, color=colour, label=adjacency)
    axes.set_xticks(range(len(layers)), layers)
    axes.set(ylabel=f"mean error / {table.completion.skeleton.scale_rule}", ylim=(0, None))
    figure.legend(loc="outside right upper", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    return path


def _seconds(done: Sequence[Result]) -> str:
    return f"{np.median([one.cpu_seconds for one in done]):.1f}" if done else "–"


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
