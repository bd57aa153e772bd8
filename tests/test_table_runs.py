"""Tables from runs: which runs they need, in what state those are, and what is made of their figures."""

import datetime
import importlib
import json
import math
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    names = ("paper_tables", "table_runs", "table_report", "tables")
    return tuple(importlib.import_module(name) for name in names)


def now(seconds_ago=0.0):
    utc = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    return (utc - datetime.timedelta(seconds=seconds_ago)).isoformat()


def attempt(run, status, number=1, metrics=None, checkpoint=False, silent=0.0, trace=None):
    """A run folder as Sacred leaves it."""
    folder = run.folder / str(number)
    folder.mkdir(parents=True)
    stop = now(silent) if status in ("COMPLETED", "FAILED", "INTERRUPTED") else None
    record = {
        "status": status, "start_time": now(silent + 60), "stop_time": stop, "heartbeat": now(silent),
        "fail_trace": trace, "host": {"cpu": "Processor 5000"},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "info.json").write_text(json.dumps({"sources": {"commit": "abcdef0123456789"}}))
    if metrics is not None:
        (folder / "evaluation.json").write_text(json.dumps(metrics))
    if checkpoint:
        (folder / "checkpoint.pt").write_bytes(b"")
    return folder


def runs_of(modules, row_name, root, table="table1", data="demo", seeds=1, **extra):
    paper_tables, table_runs, *_ = modules
    row = next(row for row in paper_tables.TABLES[table].rows if row.name == row_name)
    return table_runs.expand(row, data, seeds, extra, root)


def test_two_tables_share_the_runs_they_have_in_common(modules, tmp_path):
    first = runs_of(modules, "DGCN-A_d", tmp_path, "table1", seeds=2)
    assert [run.folder for run in first] == [run.folder for run in runs_of(modules, "F16", tmp_path, "table3", seeds=2)]
    # Table 6 names the backbone that Table 1 has anyway
    assert first[0].folder == runs_of(modules, "DGCN-50", tmp_path, "table6")[0].folder
    assert first[0].folder == runs_of(modules, "Laplace offsets", tmp_path, "ablations")[0].folder
    others = [
        *runs_of(modules, "baseline", tmp_path), *runs_of(modules, "DGCN-A_d", tmp_path, data="coco_local"),
        *runs_of(modules, "DGCN-A_d", tmp_path, epochs="1"),
    ]  # fmt: skip
    assert len({run.folder for run in [*first, *others]}) == 5


def test_a_row_is_typed_as_run_py_takes_it(modules, tmp_path):
    (run,) = runs_of(modules, "F16 & F8", tmp_path, "table3", epochs="2")
    assert run.arguments == ["demo", "epochs=2", "strides=[16, 8]", "seed=1"]  # dynamic is what demo is anyway
    (run,) = runs_of(modules, "without non-local block", tmp_path, "ablations")
    assert "non_local=False" in run.arguments
    (run,) = runs_of(modules, "DGCN-ResNet50 (CrowdPose)", tmp_path, "table5", data="paper")
    assert run.arguments == ["crowdpose", "seed=1"]
    (run,) = runs_of(modules, "DGCN-101", tmp_path, "table6")
    assert "backbone=regnetx_004" in run.arguments  # a stand-in on the demo data


def test_the_state_of_a_run_is_read_from_its_last_attempt(modules, tmp_path):
    table_runs = modules[1]
    cases = [
        ("missing", None, {}),
        ("done", "COMPLETED", {"metrics": {"AP": 0.5}}),
        ("running", "RUNNING", {"silent": 5.0}),
        ("interrupted", "RUNNING", {"silent": 500.0}),  # a killed process leaves RUNNING behind
        ("interrupted", "INTERRUPTED", {}),
        ("failed", "FAILED", {"trace": ["Traceback …\n", "GraphposeError: the loss is not finite\n"]}),
    ]
    for number, (state, status, details) in enumerate(cases, start=1):
        run = runs_of(modules, "baseline", tmp_path, seeds=number)[-1]
        if status:
            attempt(run, status, **details)
        found = table_runs.outcome(run)
        assert found.state == state
        assert found.reason == ("GraphposeError: the loss is not finite" if state == "failed" else "")
    assert found.commit == "abcdef0123456789"
    assert found.machine == "Processor 5000"
    assert found.seconds == pytest.approx(60, abs=1)


def test_an_interrupted_run_goes_on_from_its_newest_checkpoint(modules, tmp_path):
    (run,) = runs_of(modules, "baseline", tmp_path)
    assert not any(word.startswith("resume=") for word in run.command)
    first = attempt(run, "INTERRUPTED", 1, checkpoint=True)
    attempt(run, "FAILED", 2)  # before its first checkpoint
    assert run.command[-1] == f"resume={first / 'checkpoint.pt'}"
    last = attempt(run, "INTERRUPTED", 10, checkpoint=True)
    assert run.command[-1] == f"resume={last / 'checkpoint.pt'}"
    attempt(run, "COMPLETED", 11, metrics={"AP": 0.4})
    assert modules[1].outcome(run).seconds == pytest.approx(240, abs=1)  # of all four attempts


def test_only_what_is_missing_is_trained_and_failures_stay_until_asked(modules, tmp_path, monkeypatch):
    table_runs, tables = modules[1], modules[3]
    done, failed, fresh = (runs_of(modules, name, tmp_path)[0] for name in ("baseline", "GCN-A_I", "GCN-A_h"))
    attempt(done, "COMPLETED", metrics={"AP": 0.5})
    attempt(failed, "FAILED", trace=["no"])
    started = []

    def train(_, command):
        run = next(run for run in (done, failed, fresh) if str(run.folder) in command)
        started.append(run)
        attempt(run, "COMPLETED", len(run.attempts) + 1, metrics={"AP": 0.6})
        return 0

    monkeypatch.setattr(table_runs.Trainings, "run", train)
    rows = {row: runs for row, runs in zip("abc", ([done], [failed], [fresh]), strict=True)}
    tables.train_missing(rows, retry_failed=False)
    assert started == [fresh]
    tables.train_missing(rows, retry_failed=True)
    assert started == [fresh, failed]
    assert json.loads((fresh.folder / "request.json").read_text())["with"] == fresh.arguments


def test_runs_side_by_side_share_the_cores_and_write_apart(modules, tmp_path, monkeypatch):
    table_runs, tables = modules[1], modules[3]
    runs = [runs_of(modules, name, tmp_path)[0] for name in ("baseline", "GCN-A_h", "GCN-A_s")]
    monkeypatch.setattr(table_runs.os, "cpu_count", lambda: 6)
    both_here, threads = threading.Barrier(2), []

    def train(_, command, env, stdout, stderr):
        if len(threads) < 2:
            threads.append(env["OMP_NUM_THREADS"])
            both_here.wait(timeout=10)  # breaks unless two are here at once
        run = next(run for run in runs if str(run.folder) in command)
        stdout.write("trained\n")
        attempt(run, "COMPLETED", metrics={"AP": 0.6})
        return 0

    monkeypatch.setattr(table_runs.Trainings, "run", train)
    tables.train_missing({"row": runs}, retry_failed=False, jobs=2)
    assert threads == ["3", "3"]
    assert all((run.folder / "output.txt").read_text() == "trained\n" for run in runs)
    assert all(table_runs.outcome(run).state == "done" for run in runs)


def test_a_killed_run_is_named_and_the_others_go_on(modules, tmp_path, monkeypatch):
    table_runs, tables = modules[1], modules[3]
    killed, never_began, whole = (runs_of(modules, name, tmp_path)[0] for name in ("GCN-A_I", "GCN-A_h", "GCN-A_s"))

    def train(_, command):
        if str(whole.folder) in command:
            attempt(whole, "COMPLETED", metrics={"AP": 0.6})
            return 0
        if str(killed.folder) in command:
            attempt(killed, "RUNNING", silent=1.0)
        return -9

    monkeypatch.setattr(table_runs.Trainings, "run", train)
    sentences = tables.train_missing({"row": [killed, never_began, whole]}, retry_failed=False)
    assert len(sentences) == 2
    assert all("was interrupted (status -9); start the table again" in sentence for sentence in sentences)
    assert table_runs.outcome(whole).state == "done"


def test_a_run_that_another_process_trains_is_left_to_it(modules, tmp_path, monkeypatch):
    table_runs, tables = modules[1], modules[3]
    (run,) = runs_of(modules, "baseline", tmp_path)
    attempt(run, "RUNNING", silent=5.0)

    def beat(_):
        record = json.loads((run.folder / "1" / "run.json").read_text())
        (run.folder / "1" / "run.json").write_text(json.dumps(record | {"heartbeat": now()}))

    monkeypatch.setattr(table_runs.time, "sleep", beat)
    (sentence,) = tables.train_missing({"row": [run]}, retry_failed=False)
    assert "is being trained by another process" in sentence


def test_a_heart_that_a_killed_process_left_goes_cold(modules, tmp_path, monkeypatch):
    table_runs = modules[1]
    (run,) = runs_of(modules, "baseline", tmp_path)
    attempt(run, "RUNNING", silent=5.0)
    monkeypatch.setattr(table_runs, "DEAD_AFTER_SECONDS", 6)
    table_runs.refuse_running(run)
    assert table_runs.outcome(run).state == "interrupted"


def test_a_run_that_is_refused_counts_as_failed(modules, tmp_path, monkeypatch):
    table_runs = modules[1]
    (run,) = runs_of(modules, "baseline", tmp_path, adjacncy="x")
    monkeypatch.setattr(table_runs.Trainings, "run", lambda *_: 1)
    after = table_runs.execute(run, table_runs.Trainings())
    assert (after.state, after.metrics) == ("failed", {})
    assert "status 1" in after.reason


def test_intervals_are_students_over_seeds(modules):
    Interval = modules[2].Interval
    values = [0.50, 0.53, 0.49]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found = Interval.of(values)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert Interval.of([0.5]).text() == "0.500"
    assert Interval.of([]).text() == "–"
    assert math.isnan(Interval.of([0.5]).low)


def test_differences_are_paired_by_seed(modules, tmp_path):
    paper_tables, table_runs, table_report, _ = modules
    rows = paper_tables.TABLE_1.rows
    figures = {"baseline": {1: 0.40, 2: 0.50, 3: 0.60}, "DGCN-A_d": {1: 0.42, 2: 0.53, 3: None}}
    lines = []
    for row in (rows[0], rows[-1]):
        outcomes = {
            seed: table_runs.Outcome("failed", reason="loss is not finite")
            if value is None
            else table_runs.Outcome("done", {"AP": value}, 60.0)
            for seed, value in figures[row.name].items()
        }
        lines.append(table_report.Line(row, outcomes))
    gap = table_report.difference(lines[1], lines, "AP")
    assert gap.mean == pytest.approx(0.025)  # of seeds 1 and 2
    assert (gap.high - gap.low) / 2 == pytest.approx(stats.t.ppf(0.975, 1) * 0.005)
    assert table_report.difference(lines[0], lines, "AP") is None
    text = table_report.markdown(paper_tables.TABLE_1, lines, "demo", "python experiments/tables.py table1")
    (row,) = [line for line in text.splitlines() if line.startswith("| DGCN-A_d")]
    assert "0.475" in row  # the mean of what is done: a failed run is no zero
    assert "+0.025" in row
    assert "2 seeds, 1 failed (loss is not finite)" in row
    assert "| 0.646 |" in row
    csv = table_report.comma_separated(paper_tables.TABLE_1, lines).splitlines()
    assert csv[2].startswith("DGCN-A_d,AP,0.475,")


def test_a_section_of_the_page_is_replaced_and_the_others_stay(modules, tmp_path):
    replace, page = modules[2].replace_section, tmp_path / "docs" / "results.md"
    replace(page, "table1 demo", "first")
    replace(page, "table2 demo", "second")
    replace(page, "table1 demo", r"newer \1")
    text = page.read_text()
    assert text.index(r"newer \1") < text.index("second")
    assert "first" not in text
    assert text.count("<!-- table1 demo -->") == 1


def test_list_and_report_train_nothing(modules, tmp_path, capsys):
    tables = modules[3]
    page = tmp_path / "p.md"
    common = ["table1", "--data", "demo", "--seeds", "1", "--runs", str(tmp_path / "runs"), "--page", str(page)]
    assert tables.main([*common, "--list"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("missing") == 5
    assert "with demo adjacency=hand_crafted seed=1" in listed
    assert tables.main([*common, "--report"]) == 0
    assert "1 missing" in page.read_text()
    assert "| 0.000" not in page.read_text()
    assert tables.main([*common, "--set", "epochs"]) == 2
    assert "--set epochs must have the form key=value" in capsys.readouterr().err


def test_rows_are_chosen_by_name(modules, tmp_path, capsys):
    tables = modules[3]
    common = ["table1", "--data", "demo", "--seeds", "2", "--runs", str(tmp_path), "--list"]
    assert tables.main([*common, "--rows", "DGCN-A_d", "baseline"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("missing") == 4
    assert listed.index("baseline") < listed.index("DGCN-A_d")  # in the table's order
    assert tables.main([*common, "--rows", "DGCN"]) == 2
    assert "--rows DGCN: the table has no such row; choose among baseline, GCN-A_I" in capsys.readouterr().err


def test_epochs_that_fit_are_the_most_whose_runs_end_in_time(modules):
    budget = importlib.import_module("table_budget")
    times = budget.Times(epoch=2.0, evaluation=3.0, once=20.0)
    assert times.epochs(20 + budget.EVALUATIONS * 3 + 2 * 40) == 40
    assert times.epochs(20 + budget.EVALUATIONS * 3 + 2 * 40 - 0.1) == 39
    assert budget.settings_for(40, {"schedule": "cosine"}) == {"epochs": "40", "evaluate_every": "8"}
    paper = {"schedule": "step", "epochs": 100, "milestones": [75, 90]}
    assert budget.settings_for(40, paper)["milestones"] == "[30,36]"


def test_times_of_a_run_come_from_its_record(modules, tmp_path):
    budget = importlib.import_module("table_budget")
    (run,) = runs_of(modules, "baseline", tmp_path)
    folder = attempt(run, "COMPLETED", metrics={"AP": 0.5})  # 60 seconds
    start = datetime.datetime(2026, 1, 1)
    metrics = {
        "train.seconds": {"steps": [1, 2, 3], "values": [9.0, 5.0, 6.0], "timestamps": [start.isoformat()] * 3},
        "val.AP": {"steps": [3], "values": [0.5], "timestamps": [(start + datetime.timedelta(seconds=7)).isoformat()]},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    times = budget.times_of(run)
    assert (times.epoch, times.evaluation) == (6.0, 7.0)  # the first epoch is no measure of the others
    assert times.once == pytest.approx(60 - 20 - 7, abs=0.1)


TINY = [
    "demo_train_scenes=4", "demo_val_scenes=2", "workers=0", "image_size=64", "batch_size=2", "contact_sheet_images=1",
    "backbone=test_resnet", "augment.long_edge=64",
]  # fmt: skip


def test_a_tiny_table_is_killed_goes_on_and_is_not_trained_again(modules, tmp_path, capfd):
    """Two rows that share nothing, started as on the command line, told to stop, and started again."""
    tables, root = modules[3], tmp_path / "runs"
    page = tmp_path / "docs" / "results.md"
    command = [
        "table7", "--data", "demo", "--seeds", "1", "--jobs", "2", "--runs", str(root), "--page", str(page),
        "--pictures", "--set", "epochs=40", "evaluate_every=20", *TINY,
    ]  # fmt: skip
    first = subprocess.Popen([sys.executable, str(EXPERIMENTS / "tables.py"), *command])
    while len(list(root.glob("*/1/metrics.json"))) < 2:  # both have an epoch behind them
        assert first.poll() is None
        time.sleep(0.05)
    first.terminate()
    assert first.wait() == 130
    states = [json.loads(path.read_text())["status"] for path in root.glob("*/1/run.json")]
    assert states == ["INTERRUPTED"] * 2
    assert not page.exists()
    capfd.readouterr()
    assert tables.main(command) == 0
    assert capfd.readouterr().out.count("interrupted: demo") == 2
    text = page.read_text()
    assert text.count("1 seed |") == 2, text
    for resumed in root.glob("*/2/info.json"):
        assert json.loads(resumed.read_text())["resumed_from"]["epoch"] >= 1
    pictures = re.findall(r"\]\((results/.+?)\)", text)
    assert len(pictures) == 3
    assert all((page.parent / picture).stat().st_size > 1000 for picture in pictures)
    assert tables.main(command) == 0
    assert "[1/2]" not in capfd.readouterr().out


def test_a_table_fills_the_time_it_is_given(modules, tmp_path, monkeypatch, capsys):
    table_runs, tables = modules[1], modules[3]
    budget = importlib.import_module("table_budget")
    started, measured = [], []

    def train(_, command, **options):
        started.append(command)
        folder = Path(command[command.index("-F") + 1]) / "1"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"status": "COMPLETED"}))
        (folder / "evaluation.json").write_text(json.dumps({"AP": 0.5}))
        return 0

    def measure(runs, root):
        measured.append(runs)
        return budget.Times(epoch=2.0, evaluation=1.0, once=9.0), 60.0

    monkeypatch.setattr(table_runs.Trainings, "run", train)
    monkeypatch.setattr(budget, "measure", measure)
    page = tmp_path / "results.md"
    command = [
        "table1", "--data", "demo", "--rows", "baseline", "DGCN-A_d", "--seeds", "3", "--jobs", "2", "--runs",
        str(tmp_path / "runs"), "--page", str(page), "--minutes",
    ]  # fmt: skip
    assert tables.main([*command, "10", "--list"]) == 2
    assert "not measured yet; start the table first" in capsys.readouterr().err
    assert tables.main([*command, "2"]) == 2
    assert "--minutes 2 is too short for 3 rounds of 2 runs" in capsys.readouterr().err
    assert started == []
    for _ in range(2):  # measured once, trained once
        assert tables.main([*command, "10"]) == 0
        assert (len(measured), len(started)) == (2, 6)
    # three rounds in 0.92 * 600 - 60 seconds: 164 seconds a run, 14 of them not in epochs
    assert all("epochs=75" in words and "evaluate_every=15" in words for words in started)
    assert "epochs=75" in page.read_text()


def test_curves_of_a_resumed_run_have_each_epoch_once(modules, tmp_path):
    pictures = importlib.import_module("table_pictures")
    (run,) = runs_of(modules, "baseline", tmp_path)
    folder = attempt(run, "COMPLETED", metrics={"AP": 0.5})
    metrics = {"val.AP": {"steps": [1, 2, 2, 3], "values": [0.1, 0.2, 0.2, 0.3]}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert pictures.curves_of(run) == {"val.AP": ([1, 2, 3], [0.1, 0.2, 0.3])}
