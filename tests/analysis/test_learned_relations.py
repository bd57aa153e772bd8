"""The notebook on learned relations runs on the folder of a run, and is stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.experiments.in_process import import_run, launch

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "analysis" / "learned_relations.ipynb"


def test_notebook_is_stored_without_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.slow
def test_notebook_reads_a_run_and_draws_every_figure(monkeypatch, tmp_path):
    launch(
        import_run(monkeypatch, tmp_path), "with", "backbone=test_resnet", "demo_train_scenes=8", "demo_val_scenes=1",
        "epochs=2", "workers=0", "image_size=64", "batch_size=4", "contact_sheet_images=1",
    )  # fmt: skip
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("GRAPHPOSE_RUN", str(tmp_path / "runs" / "1"))
    notebook = nbformat.read(NOTEBOOK, 4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    printed = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    assert "run runs/1: test_resnet, adjacency dynamic, 4 graph layers" in printed
    assert printed.count(" takes ") == 4 * 8
