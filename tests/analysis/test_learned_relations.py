"""The notebook on learned relations runs on the folders of runs, and is stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.analysis.relation_runs import made_run

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "analysis" / "learned_relations.ipynb"


def test_notebook_is_stored_without_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.slow
def test_notebook_reads_runs_and_draws_every_figure(monkeypatch, tmp_path):
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    runs = [made_run(tmp_path / f"runs/{seed}", seed, edge=1.5) for seed in (1, 2)]
    other = made_run(tmp_path / "runs/3", 3, edge=0.0)
    monkeypatch.setenv("GRAPHPOSE_RUN", ":".join(map(str, runs)))
    monkeypatch.setenv("GRAPHPOSE_OTHER", str(other))
    notebook = nbformat.read(NOTEBOOK, 4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2 + 1 + 1 + 2
    assert sum("iframe" in output.get("data", {}).get("text/html", "") for output in outputs) == 1
    printed = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    assert "runs/1 runs/2: test_resnet, adjacency dynamic, 4 graph layers" in printed
    assert printed.count("the row alone") == 4
    assert printed.count("rho with -M_d") == 4
