"""Missing keypoints of real people completed by small graph networks: which graph carries information?

    GRAPHPOSE_DATA=FOLDER python experiments/complete.py                 # COCO persons, no image: minutes on a CPU
    python experiments/complete.py --train FILE --test FILE --seeds 3    # other annotations
    python experiments/complete.py --list                                # what is done, without running
    python experiments/complete.py --set epochs=12 --rows "GCN, full" Gaussian

Of every person some labelled keypoints are hidden, and their places are told from the others, in units of the person's
scale. Rows are baselines without a graph (mean pose, ridge regression, the conditional mean of a Gaussian, a dense
network) and the five adjacencies under three of PyG's layers. Results are kept under runs/completion, one file per row
and seed; Ctrl-C loses one at most. The table goes into docs/results.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # a script: packages are found beside its folder, and its folder is none to look in
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from graphpose.errors import GraphposeError, escape_output

if TYPE_CHECKING:
    from experiments.completion.rows import Settings

PAGE = Path("docs/results.md")
ANNOTATIONS = "coco/annotations/person_keypoints_{}2017.json.gz"


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="annotations to learn from (default: COCO's under GRAPHPOSE_DATA)")
    parser.add_argument("--test", type=Path, help="annotations to score on")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="these alone, by their names in the table")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings; a wrong one lists them")
    parser.add_argument("--runs", type=Path, default=Path("runs/completion"), help="where results are kept")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to put the table into")
    parser.add_argument("--list", action="store_true", help="print the table of what is done, run and write nothing")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    escape_output()
    options = command_line().parse_args(arguments)
    try:
        make_table(options, shlex.join(["python", "experiments/complete.py", *command_words(options)]))
    except GraphposeError as error:
        print(f"complete.py: {error}", file=sys.stderr)
        return 2
    return 0


def command_words(options: argparse.Namespace) -> list[str]:
    """The options that a table depends on, without this machine's paths."""
    words = [
        word for name in ("train", "test") if (file := getattr(options, name)) for word in (f"--{name}", file.name)
    ]
    words += ["--rows", *options.rows] if options.rows else []
    words += ["--seeds", str(options.seeds)] if options.seeds != 5 else []
    return words + (["--set", *options.set] if options.set else [])


def make_table(options: argparse.Namespace, command: str) -> None:
    """Compute what is missing and write the table.

    Raises:
        GraphposeError: an option or a file is wrong.
    """
    import torch

    from experiments.completion.report import Table, draw
    from experiments.completion.rows import ROWS, Completion, Settings
    from experiments.paper.report import file_name_of, replace_section
    from graphpose.graphs.dataset import KeypointGraphDataset

    torch.set_num_threads(1)  # matrices are too small for more
    names = {row.name: row for row in ROWS}
    for name in options.rows:
        if name not in names:
            raise GraphposeError(f"unknown row '{name}'; choose of {'; '.join(names)}")
    if options.seeds < 1:
        raise GraphposeError(f"--seeds {options.seeds}: at least one is needed")
    rows = [names[name] for name in options.rows] or list(ROWS)
    settings = settings_of(options.set, Settings())
    train, test = (
        KeypointGraphDataset(file, root=options.runs / "persons", min_keypoints=settings.min_keypoints)
        for file in annotation_files(options)
    )
    completion = Completion(train, test, settings, options.runs)
    seeds = range(1, options.seeds + 1)
    if not options.list:
        for seed in seeds:  # all rows of a seed first: a table that is cut short compares like with like
            for row in rows:
                if completion.known(row, seed) is None:
                    result = completion.result(row, seed)
                    print(f"seed {seed}  {row.name:24} error {result.error:.4f}  {result.cpu_seconds:5.1f} CPU s",
                          flush=True)  # fmt: skip
    table = Table(rows, {row: {seed: completion.known(row, seed) for seed in seeds} for row in rows}, completion)
    text = table.markdown(command)
    print(text)
    if options.list:
        return
    name = " ".join(["completion", *command_words(options)])
    picture = draw(table, options.page.parent / options.page.stem / f"{file_name_of(name)}.png")
    text += f"\n![Error of completed keypoints by layer and graph]({picture.relative_to(options.page.parent)})\n"
    replace_section(options.page, name, text)
    print(f"wrote {options.page} and {picture}")


def annotation_files(options: argparse.Namespace) -> tuple[Path, Path]:
    """Files to learn from and to score on.

    Raises:
        GraphposeError: one is named and the other is not, or none is and GRAPHPOSE_DATA is not set.
    """
    if options.train and options.test:
        return options.train, options.test
    if options.train or options.test:
        raise GraphposeError("--train and --test belong together; give both or none")
    root = os.environ.get("GRAPHPOSE_DATA")
    if not root:
        raise GraphposeError("give --train and --test, or the folder that holds coco/annotations in GRAPHPOSE_DATA")
    return Path(root, ANNOTATIONS.format("train")), Path(root, ANNOTATIONS.format("val"))


def settings_of(words: Sequence[str], default: Settings) -> Settings:
    """A dataclass of settings with some of them changed by KEY=VALUE words; GraphposeError lists the keys."""
    fields = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    changed = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in fields:
            known = ", ".join(f"{name}={value}" for name, value in fields.items())
            raise GraphposeError(f"--set {word}: no such setting; there are {known}")
        try:
            changed[key] = type(fields[key])(value)
        except ValueError:
            raise GraphposeError(f"--set {word}: '{value}' is no {type(fields[key]).__name__}") from None
    return dataclasses.replace(default, **changed)


if __name__ == "__main__":
    sys.exit(main())
