"""Epochs that fit into a given time."""

import datetime
import json

import pytest
from table_setup import attempt, import_experiments, runs_of


@pytest.fixture
def modules(monkeypatch):
    return import_experiments(monkeypatch)


def test_epochs_that_fit_are_the_most_whose_runs_end_in_time(modules):
    budget = modules.table_budget
    times = budget.Times(epoch=2.0, evaluation=3.0, once=20.0)
    assert times.epochs(20 + budget.EVALUATIONS * 3 + 2 * 40) == 40
    assert times.epochs(20 + budget.EVALUATIONS * 3 + 2 * 40 - 0.1) == 39
    assert budget.settings_for(40, {"schedule": "cosine"}) == {"epochs": "40", "evaluate_every": "8"}
    paper = {"schedule": "step", "epochs": 100, "milestones": [75, 90]}
    assert budget.settings_for(40, paper)["milestones"] == "[30,36]"


def test_times_of_a_run_come_from_its_record(modules, tmp_path):
    budget = modules.table_budget
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
