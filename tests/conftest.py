"""Fixtures that several test modules share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.emulated_cuda import EmulatedCuda


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real annotations and photographs; tests that need it skip where it is not given."""
    root = os.environ.get("GRAPHPOSE_DATA")
    if not root:
        pytest.skip("GRAPHPOSE_DATA is not set: no real annotations and photographs at hand")
    return Path(root)


@pytest.fixture
def cuda() -> Iterator[EmulatedCuda]:
    """Two CUDA devices, emulated; see :mod:`tests.emulated_cuda`."""
    with EmulatedCuda(devices=2) as emulated:
        yield emulated


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _fast_tests_start_no_process_and_train_nothing(request, monkeypatch) -> None:
    """What ``make test-fast`` leaves out is marked; a test that is not marked is held to it."""
    if request.node.get_closest_marker("slow"):
        return

    def refuse(*_, **__):
        pytest.fail("this test starts a process or trains an epoch: mark it slow", pytrace=False)

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    if "graphpose.training.trainer" in sys.modules:
        monkeypatch.setattr(sys.modules["graphpose.training.trainer"].Trainer, "train_epoch", refuse)
