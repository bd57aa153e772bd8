"""timm and torchvision can be imported whether or not torchvision's C++ library loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graphpose.nn import torchvision_ops


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_torchvision_and_timm_import_after_the_module():
    done = python("import graphpose.nn.torchvision_ops, torchvision, timm; print(torchvision.__version__)")
    assert done.returncode == 0, done.stderr


def test_operators_are_declared_only_where_the_library_does_not_load(monkeypatch):
    monkeypatch.setattr(torchvision_ops, "_library_loads", lambda package: True)
    monkeypatch.setattr(torchvision_ops, "_declared", lambda: False)
    assert torchvision_ops.declare_missing_operators() is None


def test_a_library_that_cannot_be_loaded_is_found_out(tmp_path):
    assert not torchvision_ops._library_loads(tmp_path)
    (tmp_path / "_C.so").write_bytes(b"no library")
    assert not torchvision_ops._library_loads(tmp_path)


def test_declaring_twice_does_nothing():
    if torchvision_ops.DECLARED is None:
        pytest.skip("torchvision's own library loads here")
    assert hasattr(torch.ops.torchvision, "nms")
    assert torchvision_ops.declare_missing_operators() is None


def test_without_torchvision_nothing_is_declared(monkeypatch):
    monkeypatch.setattr(torchvision_ops.importlib.util, "find_spec", lambda name: None)
    assert torchvision_ops.declare_missing_operators() is None


def test_every_module_that_imports_timm_imports_the_operators_before():
    """So that each can be imported first, whatever others have done."""
    importers = []
    for path in sorted((Path(__file__).parents[2] / "graphpose").rglob("*.py")):
        imported = []
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                imported += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported += [f"{node.module}.{alias.name}" for alias in node.names]
        first = [i for i, name in enumerate(imported) if name.split(".")[0] in ("timm", "torchvision")]
        if first:
            assert "graphpose.nn.torchvision_ops" in imported[: first[0]], path
            importers.append(path.stem)
    assert importers == ["backbone", "ema"]
