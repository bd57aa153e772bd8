"""experiments/tables.py: Table 4."""

import importlib
import json
from pathlib import Path

import pytest


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "experiments"))
    return importlib.import_module("tables")


def test_parameters_are_those_of_table_4(tables, capsys):
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


@pytest.mark.parametrize("arguments", [["--help"], ["parameters", "--help"]])
def test_help(tables, arguments, capsys):
    with pytest.raises(SystemExit, match="0"):
        tables.main(arguments)
    assert "parameters" in capsys.readouterr().out


def test_the_text_has_a_line_for_every_row(tables):
    text = tables.show_parameters([{"name": "DGCN-50", "heads": 1, "paper_mib": 102, "ours_mib": 101.3}])
    assert text.splitlines()[1].split() == ["DGCN-50", "1", "102", "101.3"]
