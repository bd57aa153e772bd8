"""What graphpose doctor says of a machine."""

import types

import pytest
import torch

from graphpose.cli import doctor, main
from graphpose.fields import scatter


@pytest.fixture
def properties(monkeypatch):
    gpu = types.SimpleNamespace(name="Tesla T4", major=7, minor=5, total_memory=15 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)


def test_the_command_prints_versions_devices_and_threads(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in ("graphpose", "torch", "timm", "torch-scatter", "CUDA", "cores", "threads", "numba cache"):
        assert f"\n{name} " in f"\n{out}"
    assert torch.__version__ in out


def test_gpus_are_named_and_an_old_one_is_said_to_be(cuda, properties):
    findings = doctor.examine()
    assert findings.facts["cuda:1"] == "Tesla T4, compute capability 7.5, 15 GiB"
    assert any(reason.startswith("cuda:0 has neither bfloat16 nor TF32") for reason in findings.slow)


@pytest.mark.parametrize(("built_with", "kind"), [(-1, "2.1.2, for the CPU only"), (12040, "2.1.2, for CUDA 12040")])
def test_the_kind_of_torch_scatter_is_said(monkeypatch, built_with, kind):
    monkeypatch.setattr(doctor, "_version", lambda _: "2.1.2")
    monkeypatch.setattr(scatter, "torch_scatter", lambda: torch)
    monkeypatch.setattr(scatter, "cuda_version", lambda: built_with)
    assert doctor.examine().facts["torch-scatter"] == kind


def test_a_torch_scatter_that_cannot_be_imported_is_reported_with_its_reason(monkeypatch):
    def fail(name):
        raise RuntimeError("Detected that PyTorch and torch_scatter were compiled with different CUDA versions.")

    monkeypatch.setattr(doctor, "_version", lambda _: "2.1.2")
    monkeypatch.setattr(scatter, "torch_scatter", lambda: None)
    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    findings = doctor.examine()
    assert "not usable: Detected that PyTorch" in findings.facts["torch-scatter"]
    assert any("torch-scatter does not fit this torch" in reason for reason in findings.slow)


def test_a_cache_that_cannot_be_written_is_slow(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert any("not compiled yet" in reason for reason in doctor.examine().slow)
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert any("compiled anew by every process" in reason for reason in doctor.examine().slow)


def test_threads_that_leave_cores_unused_are_named(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert "OMP_NUM_THREADS=1 leaves 7 of 8 cores unused on a CPU" in doctor.examine().slow
