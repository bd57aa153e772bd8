"""Runs side by side."""

import csv
import importlib.util
import json
import math
from pathlib import Path

import pytest

from graphpose.errors import GraphposeError

SCRIPT = Path(__file__).parents[2] / "analysis" / "runs.py"


@pytest.fixture(scope="module")
def runs():
    import sys

    spec = importlib.util.spec_from_file_location("analysis_runs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["analysis_runs"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def write_run(root: Path, name: str, config: dict, ap: dict[int, float], **record) -> None:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    record = {"status": "COMPLETED", "start_time": "2026-01-01T00:00:00", "stop_time": "2026-01-01T01:30:00", **record}
    (folder / "run.json").write_text(json.dumps(record))
    if ap:
        (folder / "metrics.json").write_text(
            json.dumps({"val.AP": {"steps": list(ap), "values": list(ap.values()), "timestamps": []}})
        )


@pytest.fixture
def three(tmp_path):
    base = {"seed": 1, "adjacency": "dynamic", "loss": {"pif_offset": 2.0}, "epochs": 3}
    write_run(tmp_path, "1", base, {1: 0.2, 3: 0.5})
    write_run(tmp_path, "2", base | {"seed": 2, "adjacency": "none"}, {1: 0.6, 3: 0.4})
    third = base | {"seed": 3, "loss": {"pif_offset": 4.0}}
    write_run(tmp_path, "10", third, {}, status="FAILED", stop_time=None, heartbeat=None)
    (tmp_path / "2" / "checkpoint.pt").touch()
    return tmp_path


def test_a_run_is_read_with_its_figures_by_epoch(runs, three):
    run = runs.read_run(three / "2")
    assert run.best("val.AP") == (1, 0.6)
    assert (run.epochs, run.hours, run.checkpoint, run.status) == (3, 1.5, True, "COMPLETED")
    failed = runs.read_run(three / "10")
    assert failed.best("val.AP") is None
    assert failed.hours == 0
    assert not math.isnan(failed.hours)


def test_only_settings_that_differ_are_named_and_seeds_are_not(runs, three):
    records = [runs.read_run(three / name) for name in ("1", "2", "10")]
    assert runs.differences(records) == ["adjacency", "loss.pif_offset"]
    assert runs.differences(records[:2]) == ["adjacency"]
    assert runs.differences(records[:1]) == []


@pytest.mark.slow
def test_runs_of_tables_are_found_and_told_apart(runs, tmp_path, capsys):
    for folder, adjacency, seed in (("demo-a", "none", 1), ("demo-b", "none", 2), ("demo-c", "soft", 1)):
        write_run(tmp_path / folder, "1", {"adjacency": adjacency, "seed": seed}, {1: 0.1 * seed})
        (tmp_path / folder / "request.json").write_text("{}")
    write_run(tmp_path / "demo-c", "2", {"adjacency": "soft", "seed": 1}, {1: 0.4})
    assert [str(path.relative_to(tmp_path)) for path in runs.find_runs(tmp_path, [])] == [
        "demo-a/1", "demo-b/1", "demo-c/1", "demo-c/2",
    ]  # fmt: skip
    assert runs.main(["--runs", str(tmp_path)]) == 0
    head, _, best, *_ = capsys.readouterr().out.splitlines()
    assert head.split("|")[-3:-1] == [" adjacency ", " seed "]  # a seed that runs share is a setting like any other
    assert best.split("|")[1].strip() == "demo-c/2"


def test_the_table_has_the_best_run_first_and_is_the_same_as_csv(runs, three, capsys):
    assert runs.main(["--runs", str(three), "--csv", str(three / "t.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["run", "-" * 5, "2", "1", "10"]
    assert len({len(line) for line in lines}) == 1
    with open(three / "t.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][-2:] == ["adjacency", "loss.pif_offset"]
    assert rows[1][:4] == ["2", "COMPLETED", "0.6000", "1"]
    assert rows[3][1:3] == ["FAILED", "–"]


@pytest.mark.slow
def test_a_figure_measured_twice_in_an_epoch_counts_as_last_measured(runs, tmp_path):
    write_run(tmp_path, "1", {}, {})
    values = {"val.AP": {"steps": [1, 2, 2], "values": [0.1, 0.9, 0.2], "timestamps": []}}
    (tmp_path / "1" / "metrics.json").write_text(json.dumps(values))
    assert runs.read_run(tmp_path / "1").metrics["val.AP"] == [(1, 0.1), (2, 0.2)]


def test_curves_are_drawn_and_an_unknown_figure_is_named(runs, three, capsys):
    assert runs.main(["1", "2", "--runs", str(three), "--curves", str(three / "c.png")]) == 0
    assert (three / "c.png").read_bytes().startswith(b"\x89PNG")
    assert runs.main(["--runs", str(three), "--curves", str(three / "d.png"), "--figure", "val.PA"]) == 2
    assert "no run has a figure 'val.PA'; there are val.AP" in capsys.readouterr().err


@pytest.mark.parametrize("others", [1, 2])
def test_a_run_of_another_configuration_makes_one_column(runs, tmp_path, capsys, others):
    base = {f"key{n}": n for n in range(50)}
    for number in range(3):
        write_run(tmp_path, str(number), base | {"adjacency": f"graph{number}"}, {1: 0.1 * number})
    for number in range(others):
        write_run(tmp_path, f"9{number}", {key: -1 for key in base}, {}, status="FAILED")
    assert runs.main(["--runs", str(tmp_path)]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.split("|")[8:-1]] == ["adjacency", "other settings"]
    told = [row.split("|")[-2].strip() for row in rows]
    assert told[:3] == ["–"] * 3
    assert set(told[3:]) <= {"50 differ", "51 differ"}


def test_no_two_of_many_curves_look_alike(runs):
    styles = [tuple(runs.curve_style(number).items()) for number in range(160)]
    assert len(set(styles)) == 160


def test_what_is_no_run_is_named(runs, three, capsys):
    assert runs.main(["--runs", str(three / "1")]) == 2
    assert "holds no run" in capsys.readouterr().err
    (three / "1" / "run.json").write_text('{"status": ')
    with pytest.raises(GraphposeError, match=r"run\.json' is damaged"):
        runs.read_run(three / "1")
    with pytest.raises(GraphposeError, match=r"run\.json' cannot be read"):
        runs.read_run(three / "nowhere")
