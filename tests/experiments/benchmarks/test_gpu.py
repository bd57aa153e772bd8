"""experiments/benchmark.py gpu, rehearsed on an emulated device and on the CPU."""

import json
import subprocess

import pytest

from experiments.benchmark import build_parser, measure
from experiments.benchmarks import gpu
from graphpose.errors import GraphposeError

SMALL = gpu.Scale("cuda", small=True)


def test_the_limits_of_all_steps_are_known_and_the_worthiest_come_first():
    assert list(gpu.STEPS)[:4] == ["machine", "tests", "demo", "losses"]
    assert all(0 < limit <= 200 for limit, _ in gpu.STEPS.values())


@pytest.mark.slow
def test_losses_on_an_emulated_device_are_those_of_the_cpu(cuda):
    found = gpu.losses(SMALL)
    assert found["largest relative difference"]["IEEE"] < 1e-5
    assert found["largest relative difference"]["bfloat16"] < 0.01


@pytest.mark.slow
def test_a_bad_loss_is_reported_with_its_images(cuda):
    assert "on image ids [" in gpu.bad_loss(SMALL)["message"]


@pytest.mark.slow
def test_training_and_evaluation_are_measured(cuda):
    assert {row["network"] for row in gpu.training(SMALL)["rows"]} == set(gpu.NETWORKS)
    found = gpu.evaluation(SMALL)
    assert found["batch 8"]["images/s"] > 0
    assert set(found) == {"batch 1", "batch 8"}


def test_a_step_that_fails_or_hangs_is_noted_and_the_next_one_begins(monkeypatch, tmp_path):
    class Process:
        pid, returncode = 2**22 + 1, 1

        def __init__(self, command, **_):
            self.name = command[3]

        def communicate(self, timeout=None):
            if self.name == "tests" and timeout is not None:
                raise subprocess.TimeoutExpired(self.name, timeout)
            return ("noise\n" + json.dumps({"torch": "2"}), "") if self.name == "machine" else ("", "RuntimeError: no")

    killed = []
    monkeypatch.setattr(gpu.subprocess, "Popen", Process)
    monkeypatch.setattr(gpu.os, "killpg", lambda pid, number: killed.append(pid))
    out = tmp_path / "gpu.json"
    options = build_parser().parse_args(["gpu", "machine", "tests", "waits", "--device", "cpu", "--out", str(out)])
    report = measure(options)
    assert report["steps"]["machine"]["result"] == {"torch": "2"}
    assert report["steps"]["tests"]["error"] == "not done after 90 s"
    assert report["steps"]["waits"]["error"] == "RuntimeError: no"
    assert killed == [Process.pid]
    assert json.loads(out.read_text()) == report
    page = (tmp_path / "gpu.md").read_text()
    assert "- torch: 2" in page
    assert "RuntimeError: no" in page


def test_a_step_that_is_none_is_named(tmp_path):
    options = build_parser().parse_args(["gpu", "speed", "--device", "cpu", "--out", str(tmp_path / "gpu.json")])
    with pytest.raises(GraphposeError, match="there is no step 'speed'; choose from machine, tests"):
        measure(options)
