"""The paper's tables, computed.

    python experiments/tables.py table4                   # parameters: counted, not trained
    python experiments/tables.py table1 --data demo       # train what is missing, write the table
    python experiments/tables.py table1 --data coco --list    # commands, estimates and states, without running
    python experiments/tables.py ablations --data demo --seeds 2 --set epochs=3
    python experiments/tables.py table1 --data coco_local --rows baseline DGCN-A_d --seeds 2 --minutes 25 --pictures
    python experiments/tables.py table6 --published       # the baselines from their authors' weights, not trained
    python experiments/tables.py frozen --set pretrained=WEIGHTS      # graphs on photographs, on a frozen trunk
    python experiments/tables.py frozen_lite0 --set pretrained=WEIGHTS    # the same on a light trunk
    python experiments/tables.py endtoend --set pretrained=WEIGHTS    # some of them with the trunk trained
    python experiments/tables.py claims                   # what is confirmed of what the paper says

Runs are Sacred runs of ``experiments/run.py`` under runs/tables; one that two tables need is made once, one that was
interrupted goes on where its checkpoint is, one that failed is shown as failed until ``--retry-failed``. SIGTERM and
Ctrl-C let the runs write their checkpoints. Tables go into docs/results.md (Markdown) and runs/tables (CSV).
``table4 --json`` prints a list of objects. ``--published`` evaluates the baseline rows of Tables 1 and 3 to 6 on the
COCO at hand (``--data coco`` or ``coco_local``); figures, and the poses of every image that is done, are kept, too.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # a script: packages are found beside its folder, and its folder is none to look in
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.configs.named import typed_settings
from experiments.paper.budget import BUDGET_KEYS, epochs_that_fit
from experiments.paper.report import Line, comma_separated, file_name_of, markdown, replace_section
from experiments.paper.rows import PUBLISHED_TABLES, TABLES, Row, Table
from experiments.paper.runs import (
    MACHINE_KEYS,
    TableRun,
    expand,
    headline,
    outcome,
    print_line,
)
from experiments.paper.schedule import in_order, listing, train_missing
from experiments.paper.studies import STUDIES, TUNE_IMAGES, trained_row
from graphpose.errors import GraphposeError, escape_output

PAGE = Path("docs/results.md")


def print_parameters(options: argparse.Namespace) -> None:
    """The command ``table4``."""
    from experiments.paper.parameters import layer_parameters, parameters, show_layer_parameters, show_parameters

    if options.layers:
        layers = layer_parameters()
        print(json.dumps(layers) if options.json else show_layer_parameters(layers))
        return
    rows = parameters()
    print(json.dumps(rows) if options.json else show_parameters(rows))
    if options.page:
        cells = [f"| {row['name']} | {row['heads']} | {row['ours_mib']:.1f} | {row['paper_mib']} |" for row in rows]
        head = ["### Table 4: parameters", "", "| network | DGCN heads | MiB, float32 | paper |", "|---|---|---|---|"]
        command = shlex.join(["python", "experiments/tables.py", "table4", "--page", str(options.page)])
        replace_section(options.page, "parameters", "\n".join([*head, *cells, "", f"`{command}`"]))


def make_table(options: argparse.Namespace) -> None:
    """The commands ``table1`` … ``table8`` and ``ablations``.

    Raises:
        GraphposeError: a run did not come to its end; the table is written all the same.
    """
    table, extra = chosen_rows(TABLES[options.table], options.rows), typed_settings(options.set)
    if "seed" in extra:
        raise GraphposeError("--set seed: a table's seeds are 1, 2, …; say how many with --seeds")
    if options.minutes is not None:
        for key in BUDGET_KEYS:
            if key in extra:
                raise GraphposeError(f"--minutes and --set {key} contradict each other; leave one of them out")
        ordered = in_order(runs_of(table, options, extra))
        may_run = not (options.list or options.report)
        extra |= epochs_that_fit(ordered, options.minutes, options.jobs, may_run)
    table = without_paper(table, extra)
    runs = runs_of(table, options, extra)
    if options.list:
        print(listing(runs))
        return
    unfinished = [] if options.report else train_missing(runs, options.retry_failed, options.jobs)
    lines = [Line(row, {run.seed: outcome(run) for run in of_row}) for row, of_row in runs.items()]
    name = " ".join([options.table, options.data, *options.rows, *headline(extra)])
    text = markdown(table, lines, options.data, command_of(options, extra), extra.get("backbone"))
    file_name = file_name_of(name)
    if options.pictures:
        from experiments.paper.pictures import draw_pictures

        text += draw_pictures(runs, options.page.parent, Path(options.page.stem) / file_name)
    write_table(options, name, text, comma_separated(table, lines))
    if unfinished:
        raise GraphposeError("; ".join(unfinished))


def make_published(options: argparse.Namespace) -> None:
    """The option ``--published``: the baseline rows from their authors' weights.

    Raises:
        GraphposeError: weights are not here and cannot be downloaded; the table is written all the same.
    """
    from experiments.paper import published

    for name, usual in (("minutes", None), ("pictures", False), ("retry_failed", False)):
        if getattr(options, name, usual) != usual:
            raise GraphposeError(
                f"--published and --{name.replace('_', '-')} contradict each other: nothing is trained"
            )
    table = PUBLISHED_TABLES[options.table]
    of_all = published.published_rows(table)
    table = chosen_rows(dataclasses.replace(table, rows=tuple(of_all)), options.rows)
    names = {row: of_all[row] for row in table.rows}
    extra, data = typed_settings(options.set), "coco" if options.data == "paper" else options.data
    settings = published.evaluation_settings(data, extra)
    overrides = {key.removeprefix("decoder."): value for key, value in extra.items() if key.startswith("decoder.")}
    given = published.named_files(options.published, list(names.values()))
    may_run = not (options.list or options.report)
    files, missing = published.locate(list(names.values()), given, may_run)
    rows = {
        row: published.PublishedEvaluation(row, name, files[name], settings, overrides, options.runs)
        if name in files
        else None
        for row, name in names.items()
    }
    if options.list:
        print("\n".join(f"{row.name:26} {names[row]:18} {published.state_of(rows[row])}" for row in rows))
    if missing and (options.list or may_run):
        print(f"tables.py: {missing}", file=sys.stderr)
    if options.list:
        return
    to_run = [evaluation for evaluation in rows.values() if may_run and evaluation and not evaluation.figures]
    for evaluation in to_run[1:]:
        evaluation.network()  # a wrong file is found before hours are spent on the others
    for evaluation in to_run:
        print_line(f"{evaluation.row.name}: {evaluation.source}, {published.state_of(evaluation)}")
        evaluation.run()
    sources = [f"{name.removeprefix('pifpaf-')}={path.name}" for name, path in given.items()]  # no machine's paths
    words = [options.table, "--published", *sources, "--data", data]
    words += ["--rows", *options.rows] if options.rows else []
    words += ["--set", *headline(extra)] if headline(extra) else []
    command = shlex.join(["python", "experiments/tables.py", *words])
    name = " ".join([options.table, "published", data, *options.rows, *sources, *headline(extra)])
    comparable = data == "coco" and extra.keys() <= {*MACHINE_KEYS, "evaluation_batch_size"}
    text = published.published_markdown(table, rows, data, command, comparable)
    options.page = options.page or PAGE
    write_table(options, name, text, published.published_csv(table, rows))
    if missing and may_run:
        raise GraphposeError(f"{sum(one is None for one in rows.values())} rows have no weights, see the line above")


def make_study(options: argparse.Namespace) -> None:
    """The commands ``frozen`` and ``endtoend``.

    Raises:
        GraphposeError: a run did not come to its end, or the first seed is not complete, so that there are no
            thresholds; what there is is written all the same.
    """
    study, extra = STUDIES[options.table], typed_settings(options.set)
    if "seed" in extra:
        raise GraphposeError("--set seed: a study's seeds are 1, 2, …; say how many with --seeds")
    options.data = study.data
    table = chosen_rows(study.table, options.rows)
    seeds = options.seeds = options.seeds or study.seeds
    runs = {row: expand(trained_row(study, row), study.data, seeds, extra, options.runs) for row in table.rows}
    if options.list:
        print(listing(runs))
        return
    unfinished = [] if options.report else train_missing(runs, options.retry_failed, options.jobs)
    from experiments.paper.study import report_study  # imports the network, and a listing needs none of it

    command = shlex.join(_study_words(options, extra))
    name = " ".join([options.table, *options.rows, *headline(extra)])
    # claims are judged by the whole study, not by a part or a rehearsal of it
    whole = not options.rows and options.limit is None
    kept = options.page.parent / options.page.stem / f"{options.table if whole else file_name_of(name)}.json"
    text, csv_text = report_study(study, runs, extra, options, command, kept)
    write_table(options, name, text, csv_text)
    if unfinished:
        raise GraphposeError("; ".join(unfinished))


def _study_words(options: argparse.Namespace, extra: Mapping[str, Any]) -> list[str]:
    words = ["python", "experiments/tables.py", options.table, "--seeds", str(options.seeds)]
    words += ["--rows", *options.rows] if options.rows else []
    words += ["--limit", str(options.limit)] if options.limit is not None else []
    words += ["--tune-images", str(options.tune_images)] if options.tune_images != TUNE_IMAGES else []
    return [*words, *(["--set", *headline(extra)] if headline(extra) else [])]


def make_claims(options: argparse.Namespace) -> None:
    """The command ``claims``."""
    from experiments.paper.claims import draw_claims, judged_claims, show_claims

    judged = judged_claims(options.page, options.runs)
    picture = options.page.parent / options.page.stem / "claims.png"
    draw_claims(judged, picture)
    text = show_claims(judged, picture.relative_to(options.page.parent).as_posix())
    replace_section(options.page, "claims", text)
    print(f"{text}\nwritten to {options.page} and {picture}")


def write_table(options: argparse.Namespace, name: str, text: str, csv_text: str) -> None:
    """A table into the page and beside the runs."""
    replace_section(options.page, name, text)
    options.runs.mkdir(parents=True, exist_ok=True)
    csv = options.runs / f"{file_name_of(name)}.csv"
    csv.write_text(csv_text)
    print(f"{text}\nwritten to {options.page} and {csv}")


def runs_of(table: Table, options: argparse.Namespace, extra: Mapping[str, Any]) -> dict[Row, list[TableRun]]:
    """The runs of every row with the settings that all rows share."""
    return {row: expand(row, options.data, options.seeds, extra, options.runs) for row in table.rows}


def chosen_rows(table: Table, names: Sequence[str]) -> Table:
    """A table of the named rows alone, of all rows without a name; GraphposeError names a row that it lacks."""
    known = [row.name for row in table.rows]
    for name in names:
        if name not in known:
            raise GraphposeError(f"--rows {name}: the table has no such row; choose among {', '.join(known)}")
    return dataclasses.replace(table, rows=tuple(row for row in table.rows if not names or row.name in names))


def without_paper(table: Table, extra: Mapping[str, Any]) -> Table:
    """A table whose rows keep the paper's figures only where no setting for all rows replaces one of their own."""
    rows = [dataclasses.replace(row, paper={}) if row.settings.keys() & extra.keys() else row for row in table.rows]
    return dataclasses.replace(table, rows=tuple(rows))


def command_of(options: argparse.Namespace, extra: Mapping[str, str]) -> str:
    """The command line that makes the table again, with the epochs that were found to fit."""
    words = ["python", "experiments/tables.py", options.table, "--data", options.data, "--seeds", str(options.seeds)]
    words += ["--rows", *options.rows] if options.rows else []
    words += ["--pictures"] if options.pictures else []
    return shlex.join(words + (["--set", *(f"{key}={value}" for key, value in extra.items())] if extra else []))


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which a scheduler sends, do what Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def build_parser() -> argparse.ArgumentParser:
    """The parser with a subcommand for each table."""
    parser = argparse.ArgumentParser(
        prog="tables.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="table", required=True)
    text = "Table 4: parameters in float32 MiB beside the paper's"
    counted = subparsers.add_parser("table4", aliases=["parameters"], help=text, description=text)
    counted.add_argument("--json", action="store_true", help="print a list of objects")
    counted.add_argument("--layers", action="store_true", help="kinds of graph layer and node widths, not Table 4")
    counted.add_argument("--page", type=Path, help="page to write the table into, too")
    counted.set_defaults(run=print_parameters)
    add_published_option(counted)
    add_row_options(counted)
    add_studies(subparsers)
    for name, table in TABLES.items():
        trained = subparsers.add_parser(name, help=table.title, description=table.title)
        trained.add_argument("--seeds", type=int, default=3, help="runs of each row (default: 3)")
        trained.add_argument("--jobs", type=int, default=1, help="runs side by side on all cores and GPUs (default: 1)")
        trained.add_argument(
            "--minutes",
            type=float,
            help="train all runs alike for as many epochs as fit into so many minutes; measured on a few epochs first",
        )
        trained.add_argument(
            "--pictures", action="store_true", help="curves and contact sheets, into a folder beside the page"
        )
        trained.add_argument("--retry-failed", action="store_true", help="run again what has failed")
        trained.add_argument("--page", type=Path, default=PAGE, help="page to write the table into")
        trained.set_defaults(run=make_table)
        if name in PUBLISHED_TABLES:
            add_published_option(trained)
        add_row_options(trained)
    return parser


def add_studies(subparsers: Any) -> None:
    """The studies on photographs, and what they and the demo say of the paper's claims."""
    for name, study in STUDIES.items():
        parser = subparsers.add_parser(name, help=study.table.title, description=study.table.title)
        parser.add_argument("--seeds", type=int, help=f"runs of each row (default: {study.seeds})")
        parser.add_argument("--jobs", type=int, default=1, help="runs side by side on all cores and GPUs (default: 1)")
        parser.add_argument("--limit", type=int, help="score the first images of each set only, for a rehearsal")
        text = f"training photographs of each set that thresholds are chosen on (default: {TUNE_IMAGES})"
        parser.add_argument("--tune-images", type=int, default=TUNE_IMAGES, help=text)
        parser.add_argument("--retry-failed", action="store_true", help="run again what has failed")
        parser.add_argument("--page", type=Path, default=PAGE, help="page to write the table into")
        parser.set_defaults(run=make_study)
        add_row_options(parser, data=False)
    text = "the paper's claims: confirmed, refuted or undecided, for the demo and for photographs"
    parser = subparsers.add_parser("claims", help=text, description=text)
    parser.add_argument("--page", type=Path, default=PAGE, help="page that has the tables, and gets the claims")
    parser.add_argument("--runs", type=Path, default=Path("runs/tables"), help="where runs are kept")
    parser.set_defaults(run=make_claims)


def add_row_options(parser: argparse.ArgumentParser, data: bool = True) -> None:
    """Which rows, on which ``data`` where that can be chosen, and whether they are made or only shown."""
    if data:
        parser.add_argument(
            "--data",
            default="paper",
            help="named configuration that all rows train on: demo, coco_local, coco, crowdpose, mpii; "
            '"paper" (default) takes each row\'s own',
        )
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="these rows only (default: all)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings for all rows alike")
    parser.add_argument("--list", action="store_true", help="show state, estimate and command of every run")
    parser.add_argument("--report", action="store_true", help="write the table from what there is; train nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/tables"), help="where runs are kept")


def add_published_option(parser: argparse.ArgumentParser) -> None:
    """For tables with rows that are published networks."""
    parser.add_argument(
        "--published",
        nargs="*",
        metavar="NAME=FILE",
        help="evaluate the baseline rows from their authors' weights, which are downloaded, or from files in their "
        "place (resnet50=FILE …); nothing is trained",
    )


def main(arguments: list[str] | None = None) -> int:
    """Make one table; returns the exit status."""
    escape_output()
    options = build_parser().parse_args(arguments)
    try:
        options.table = "table4" if options.table == "parameters" else options.table
        for name in ("seeds", "jobs"):
            if getattr(options, name, None) is not None and getattr(options, name) < 1:
                raise GraphposeError(f"--{name} {getattr(options, name)} must be at least 1")
        if getattr(options, "minutes", None) is not None and not options.minutes > 0:
            raise GraphposeError(f"--minutes {options.minutes:g} must be positive")
        with sigterm_as_interrupt():
            (options.run if getattr(options, "published", None) is None else make_published)(options)
    except GraphposeError as error:
        print(f"tables.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tables.py: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
