"""Pictures of the runs of tables."""

import json

import pytest
from table_setup import attempt, import_experiments, runs_of


@pytest.fixture
def modules(monkeypatch):
    return import_experiments(monkeypatch)


def test_curves_of_a_resumed_run_have_each_epoch_once(modules, tmp_path):
    pictures = modules.table_pictures
    (run,) = runs_of(modules, "baseline", tmp_path)
    folder = attempt(run, "COMPLETED", metrics={"AP": 0.5})
    metrics = {"val.AP": {"steps": [1, 2, 2, 3], "values": [0.1, 0.2, 0.2, 0.3]}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert pictures.curves_of(run) == {"val.AP": ([1, 2, 3], [0.1, 0.2, 0.3])}
