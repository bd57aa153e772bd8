"""Pictures of the runs of tables."""

import json

import numpy as np

from experiments.paper import pictures as table_pictures
from experiments.paper import rows as paper_tables
from graphpose.visualize import save_image
from tests.experiments.paper.recorded import attempt, runs_of


def test_curves_of_a_resumed_run_have_each_epoch_once(tmp_path):
    pictures = table_pictures
    (run,) = runs_of("baseline", tmp_path)
    folder = attempt(run, "COMPLETED", metrics={"AP": 0.5})
    metrics = {
        "val.AP": {"steps": [1, 2, 2, 3], "values": [0.1, 0.2, 0.2, 0.3]},
        "train.loss.total": {"steps": [1, 2, 2, 3], "values": [9.0, 8.0, 8.0, 7.5]},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    curves = pictures.curves_of(run)
    assert curves["val.AP"] == ([1, 2, 3], [0.1, 0.2, 0.3])
    assert curves[pictures.FIELDS_LOSS] == ([1, 2, 3], [9.0, 8.0, 7.5])
    metrics["train.loss.intermediate"] = {"steps": [1, 2, 2, 3], "values": [2.0, 1.0, 1.0, 0.5]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert pictures.curves_of(run)[pictures.FIELDS_LOSS] == ([1, 2, 3], [7.0, 7.0, 7.0])


def test_a_run_without_a_contact_sheet_is_drawn_as_a_curve_alone(tmp_path):
    pictures = table_pictures
    (with_sheet,), (without,) = (runs_of(name, tmp_path) for name in ("baseline", "GCN-A_I"))
    for run in (with_sheet, without):
        folder = attempt(run, "COMPLETED", metrics={"AP": 0.5})
        metrics = {"train.loss.total": {"steps": [1, 2], "values": [3.0, 2.0]}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    save_image(with_sheet.attempts[0] / "contact_sheet.png", np.zeros((50, 1440, 3), np.uint8))
    rows = dict(zip(paper_tables.TABLE_1.rows, ([with_sheet], [without]), strict=False))
    text = pictures.draw_pictures(rows, tmp_path / "docs", pictures.Path("results/table1"))
    assert "](results/table1/curves.png)" in text
    assert "](results/table1/baseline.jpg)" in text
    assert "GCN-A_I" not in text
    assert {path.name for path in (tmp_path / "docs/results/table1").iterdir()} == {"curves.png", "baseline.jpg"}
