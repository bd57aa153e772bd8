"""analysis/pose_modes.py: prints, draws and writes what a run can take."""

import importlib.util
import json
from pathlib import Path

import pytest

from graphpose.graphs.statistics import load_statistics
from tests.graphs.test_modes import STAR, persons
from tests.metrics.test_coco import truth_of

SCRIPT = Path(__file__).parents[2] / "analysis" / "pose_modes.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pose_modes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kinds_are_printed_drawn_and_written_for_runs(script, tmp_path, capsys):
    keypoints, _, _ = persons((30, 10))
    (tmp_path / "a.json").write_text(json.dumps(truth_of(keypoints, STAR)))
    assert script.main([str(tmp_path / "a.json"), "--kinds", "2", "--out", str(tmp_path / "kinds")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("40 persons, ")
    assert " ← " in printed[2]
    assert printed[1].startswith("kind 1: ")
    counts = [load_statistics(tmp_path / "kinds" / f"kind-{n}.json").count[0, 1] for n in (1, 2)]
    assert sum(counts) == 40
    assert (tmp_path / "kinds" / "kinds.png").stat().st_size > 10000


def test_what_cannot_be_clustered_is_said(script, tmp_path, capsys):
    keypoints, _, _ = persons((2, 1))
    (tmp_path / "a.json").write_text(json.dumps(truth_of(keypoints, STAR)))
    assert script.main([str(tmp_path / "a.json"), "--kinds", "9", "--out", str(tmp_path / "kinds")]) == 1
    assert "9 kinds of 3 poses" in capsys.readouterr().err
    assert not (tmp_path / "kinds").exists()
