"""experiments/tables.py as a command: Table 4, and a table from its runs to the page."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import tables
from experiments.paper import budget as table_budget
from experiments.paper import rows as paper_tables
from experiments.paper import runs as table_runs
from experiments.paper.parameters import show_parameters
from tests.experiments.paper.recorded import EXPERIMENTS


@pytest.mark.slow
def test_parameters_are_those_of_table_4(capsys):
    """In MiB of float32; the tolerance is 1 for baselines, 2 for one head, 4 for a pyramid."""
    assert tables.main(["parameters", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["heads"], row["paper_mib"]) for row in rows] == [
        ("baseline-50", 0, 96),
        ("DGCN-50", 1, 102),
        ("DGCN-50", 2, 121),
        ("DGCN-50", 3, 127),
        ("baseline-101", 0, 169),
        ("DGCN-101", 1, 174),
        ("baseline-152", 0, 229),
        ("DGCN-152", 1, 234),
    ]
    for row in rows:
        assert abs(row["ours_mib"] - row["paper_mib"]) <= (1, 2, 4, 4)[row["heads"]], row


def test_parameters_are_put_on_the_page(tmp_path, capsys):
    page = tmp_path / "results.md"
    assert tables.main(["table4", "--page", str(page)]) == 0
    assert "| DGCN-50 | 3 | 125.1 | 127 |" in page.read_text()


@pytest.mark.slow
def test_parameters_of_layers_are_counted_beside_the_paper_s(capsys):
    """By hand: W and W_d; one map; two maps; two maps and a bias; a map and two attention vectors."""
    assert tables.main(["table4", "--layers", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    counts = {(row["graph_layer"], row["node_width"]): row["layer_parameters"] for row in rows}
    for d in (1, 2, 4):
        assert counts["dgcn", d] == 17**2 + d**2
        assert counts["convolution", d] == 17**2 * d**2
        assert counts["DenseGCNConv", d] == d**2
        assert counts["DenseSAGEConv", d] == counts["DenseGraphConv", d] == 2 * d**2
        assert counts["DenseGINConv", d] == 2 * d**2 + d
        assert counts["DenseGATConv", d] == d**2 + 2 * d
    assert all(abs(row["ours_mib"] - row["paper_mib"]) < 2 for row in rows if row["node_width"] == 1)
    tables.main(["table4", "--layers"])
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["dgcn", "1", "290"]


@pytest.mark.parametrize("arguments", [["--help"], ["parameters", "--help"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit, match="0"):
        tables.main(arguments)
    assert "parameters" in capsys.readouterr().out


def test_the_text_has_a_line_for_every_row():
    text = show_parameters([{"name": "DGCN-50", "heads": 1, "paper_mib": 102, "ours_mib": 101.3}])
    assert text.splitlines()[1].split() == ["DGCN-50", "1", "102", "101.3"]


def test_list_and_report_train_nothing(tmp_path, capsys):
    page = tmp_path / "p.md"
    common = ["table1", "--data", "demo", "--seeds", "1", "--runs", str(tmp_path / "runs"), "--page", str(page)]
    assert tables.main([*common, "--list"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("missing") == 5
    assert "with demo adjacency=hand_crafted seed=1" in listed
    assert tables.main([*common, "--report"]) == 0
    assert "1 missing" in page.read_text()
    assert "| 0.000" not in page.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "epochs"], "the setting epochs must have the form key=value"),
        (["--set", "epoch=3"], "unknown configuration key 'epoch'; did you mean epochs"),
        (["--set", "epochs=ten"], "epochs=ten must be a whole number"),
        (["--set", "loss=3", "loss.pif_offset=2"], "configuration key 'loss' is a group; set loss.<name>=…"),
        (["--set", "seed=3"], "--set seed: a table's seeds are 1, 2, …; say how many with --seeds"),
        (["--minutes", "5", "--set", "epochs=3"], "--minutes and --set epochs contradict each other"),
        (["--minutes", "0"], "--minutes 0 must be positive"),
        (["--seeds", "0"], "--seeds 0 must be at least 1"),
        (["--data", "cooc"], "'cooc' is no named configuration"),
    ],
)
def test_what_makes_no_table_is_refused_in_one_line(tmp_path, capsys, options, message):
    page = tmp_path / "p.md"
    command = ["table1", "--data", "demo", "--runs", str(tmp_path / "runs"), "--page", str(page), *options]
    assert tables.main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_rows_are_chosen_by_name(tmp_path, capsys):
    common = ["table1", "--data", "demo", "--seeds", "2", "--runs", str(tmp_path), "--list"]
    assert tables.main([*common, "--rows", "DGCN-A_d", "baseline"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("missing") == 4
    assert listed.index("baseline") < listed.index("DGCN-A_d")  # in the table's order
    assert tables.main([*common, "--rows", "DGCN"]) == 2
    assert "--rows DGCN: the table has no such row; choose among baseline, GCN-A_I" in capsys.readouterr().err


def test_the_papers_figures_are_not_beside_rows_that_a_setting_has_changed():
    table = paper_tables.TABLE_3
    kept = tables.without_paper(table, {"strides": "[16]", "epochs": 3})
    assert [row.paper.get("AP") for row in kept.rows] == [0.626, 0.646, None, None]
    assert [row.name for row in kept.rows] == [row.name for row in table.rows]
    assert [row.paper for row in tables.without_paper(table, {"epochs": 3}).rows] == [row.paper for row in table.rows]


def test_a_table_with_many_settings_has_a_file_name_that_a_disk_takes():
    name = tables.file_name_of
    assert name("table1 demo epochs=3 γ = 1") == "table1_demo_epochs=3_γ_=_1"
    long = "table1 demo " + " ".join(f"key{i}=value" for i in range(40))
    assert len(name(long)) < 90
    assert name(long) != name(long + " more")


TINY = [
    "demo_train_scenes=4", "demo_val_scenes=2", "workers=0", "image_size=64", "batch_size=2", "contact_sheet_images=1",
    "backbone=test_resnet", "augment.long_edge=64",
]  # fmt: skip


@pytest.mark.slow
def test_a_tiny_table_is_killed_goes_on_and_is_not_trained_again(tmp_path, capfd):
    """Two rows that share nothing, started as on the command line, told to stop, and started again."""
    root = tmp_path / "runs"
    page = tmp_path / "docs" / "results.md"
    command = [
        "table7", "--data", "demo", "--seeds", "1", "--jobs", "2", "--runs", str(root), "--page", str(page),
        "--pictures", "--set", "epochs=60", "evaluate_every=60", *TINY,
    ]  # fmt: skip
    first = subprocess.Popen([sys.executable, str(EXPERIMENTS / "tables.py"), *command])
    # as soon as one run has an epoch behind it: one that started sooner may be at its end before both have
    while not any("epoch 1/" in path.read_text() for path in root.glob("*/output.txt")):
        assert first.poll() is None
        time.sleep(0.05)
    first.terminate()
    assert first.wait() == 130
    states = [json.loads(path.read_text())["status"] for path in root.glob("*/1/run.json")]
    assert set(states) == {"INTERRUPTED"}
    assert not page.exists()
    capfd.readouterr()
    assert tables.main(command) == 0
    started = capfd.readouterr().out
    assert started.count("interrupted: demo") == len(states)
    assert started.count("missing: demo") == 2 - len(states)  # stopped before there was a record of it
    text = page.read_text()
    assert text.count("1 seed |") == 2, text
    resumed = [json.loads(path.read_text())["resumed_from"] for path in root.glob("*/2/info.json")]
    assert len(resumed) == len(states)
    assert max(place["epoch"] for place in resumed) >= 1
    pictures = re.findall(r"\]\((results/.+?)\)", text)
    assert len(pictures) == 3
    assert all((page.parent / picture).stat().st_size > 1000 for picture in pictures)
    assert tables.main(command) == 0
    assert "[1/2]" not in capfd.readouterr().out


def test_a_table_fills_the_time_it_is_given(tmp_path, monkeypatch, capsys):
    budget = table_budget
    started, measured = [], []

    def train(_, command, **options):
        started.append(command)
        folder = Path(command[command.index("-F") + 1]) / "1"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"status": "COMPLETED"}))
        (folder / "evaluation.json").write_text(json.dumps({"AP": 0.5}))
        return 0

    def measure(runs, root, jobs):
        measured.append(runs)
        return {run.settings: budget.Times(epoch=2.0, evaluation=1.0, once=9.0) for run in runs}, 60.0

    monkeypatch.setattr(table_runs.TrainingProcesses, "run", train)
    monkeypatch.setattr(budget, "measure", measure)
    page = tmp_path / "results.md"
    command = [
        "table1", "--data", "demo", "--rows", "baseline", "DGCN-A_d", "--seeds", "3", "--jobs", "2", "--runs",
        str(tmp_path / "runs"), "--page", str(page), "--minutes",
    ]  # fmt: skip
    assert tables.main([*command, "10", "--list"]) == 2
    assert "not measured yet; start the table first" in capsys.readouterr().err
    assert tables.main([*command, "2"]) == 2
    assert "--minutes 2 is too short for 6 runs, 2 at a time" in capsys.readouterr().err
    assert started == []
    for where in ([], ["--set", "workers=1"]):  # measured once, trained once, wherever it goes on
        assert tables.main([*command, "10", *where]) == 0
        assert (len(measured), len(started)) == (2, 6)
        assert page.read_text().count("### Table 1") == 1
    # three rounds in 0.92 * 600 - 60 seconds: 164 seconds a run, 14 of them not in epochs
    assert all("epochs=75" in words and "evaluate_every=15" in words for words in started)
    assert "epochs=75" in page.read_text()
