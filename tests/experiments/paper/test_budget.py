"""Epochs that fit into a given time."""

import datetime
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.paper import budget as table_budget
from experiments.paper import runs as table_runs
from experiments.paper.schedule import in_order
from graphpose.errors import GraphposeError
from tests.experiments.paper.recorded import attempt, runs_of


def test_epochs_that_fit_are_the_most_whose_runs_end_in_time():
    budget = table_budget
    cheap, dear = budget.Times(epoch=2.0, evaluation=3.0, once=20.0), budget.Times(epoch=5.0, evaluation=4.0, once=30.0)
    assert (cheap.seconds(40), dear.seconds(40)) == (20 + 15 + 80, 30 + 20 + 200)
    assert budget.most_epochs([cheap], 1, 115) == 40
    assert budget.most_epochs([cheap], 1, 114.9) == 39
    assert budget.most_epochs([cheap], 1, 30) == 0
    assert budget.most_epochs([dear, cheap, cheap], 2, 250) == 40  # both cheap ones beside the dear one
    assert budget.most_epochs([cheap, cheap, dear], 2, 115 + 250) == 40  # the dear one begins when a cheap one ends
    assert budget.settings_for(40, {"schedule": "cosine"}) == {"epochs": "40", "evaluate_every": "8"}
    paper = {"schedule": "step", "epochs": 100, "milestones": [75, 90]}
    assert budget.settings_for(40, paper)["milestones"] == "[30,36]"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.lists(st.floats(0, 100), max_size=8), jobs=st.integers(1, 4))
def test_the_last_run_ends_as_in_a_plain_simulation(seconds, jobs):
    places = [[] for _ in range(jobs)]
    for one in seconds:
        min(places, key=sum).append(one)
    assert table_budget.makespan(seconds, jobs) == pytest.approx(max(map(sum, places)))


def test_a_run_of_each_row_is_measured_with_others_beside_it(tmp_path):
    budget = table_budget
    rows = {name: runs_of(name, tmp_path, "table3", seeds=3) for name in ("baseline", "F16", "F16 & F8")}
    runs = in_order(rows)
    for jobs, seeds in ((1, [1, 1, 1]), (2, [1, 1, 1, 2]), (4, [1, 1, 1, 2]), (16, [1, 1, 1, 2, 2, 2, 3, 3, 3])):
        measured = budget.probes(runs, jobs)
        assert [run.seed for run in measured] == seeds
        assert {run.settings for run in measured} == {run.settings for run in runs}


def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch):
    budget = table_budget
    runs = runs_of("F16", tmp_path, seeds=2, table="table3", epochs="7", milestones="[1, 2]")
    started = []

    def execute(probe, trainings, threads):
        started.append((probe.seed, threads))
        folder = attempt(probe, "COMPLETED", metrics={"AP": 0.5})  # 60 seconds
        begin = datetime.datetime(2026, 1, 1)
        metrics = {
            "train.seconds": {"values": [9.0, 5.0, 4.0 + probe.seed], "timestamps": [begin.isoformat()] * 3},
            "val.AP": {"values": [0.5], "timestamps": [(begin + datetime.timedelta(seconds=7)).isoformat()]},
        }
        (folder / "metrics.json").write_text(json.dumps(metrics))
        assert (folder.parent / "lock").exists()  # nobody else measures it
        return table_runs.outcome(probe)

    monkeypatch.setattr(budget, "execute", execute)
    monkeypatch.setattr(budget, "threads_of", lambda jobs: 10 + jobs)
    for _ in range(2):
        times, _ = budget.measure(runs, tmp_path / "probes", jobs=2)
        assert set(times) == {runs[0].settings}
        assert times[runs[0].settings].epoch == 6.0  # of the slower one
        assert times[runs[0].settings].evaluation == 7.0
        assert times[runs[0].settings].once == pytest.approx(60 - (9 + 5 + 5) - 7, abs=0.1)
    assert sorted(started) == [(1, 12), (2, 12)]


def test_times_on_another_machine_are_measured_there(tmp_path, monkeypatch):
    budget = table_budget

    def place(jobs=2, **settings):
        return budget.machine(runs_of("F16", tmp_path, "table3", **settings)[0], jobs)

    assert place() == place(epochs="3")
    places = [place(), place(jobs=1), place(workers="4"), place(device="cpu")]
    monkeypatch.setattr(budget.platform, "node", lambda: "elsewhere")
    places.append(place())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "H100")
    assert len({*places, place()}) == 6


def test_a_run_that_cannot_be_measured_is_named(tmp_path, monkeypatch):
    budget = table_budget
    (run,) = runs_of("baseline", tmp_path)
    failed = table_runs.Outcome("failed", reason="no disk")
    monkeypatch.setattr(budget, "execute", lambda *_: failed)
    with pytest.raises(GraphposeError, match=r"measuring the run demo adjacency=none epochs=3 .* failed: no disk"):
        budget.measure([run], tmp_path / "probes", jobs=1)


def test_times_of_a_run_come_from_its_record(tmp_path):
    budget = table_budget
    (run,) = runs_of("baseline", tmp_path)
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
    (run.folder / budget.START_FILE).write_text("5.5")  # which the record does not have
    assert budget.times_of(run).once == pytest.approx(5.5 + 60 - 20 - 7, abs=0.1)
